-- Scripts that cannot be loaded: `shove check` and `shove run` end with 78, say where it is, and leave nothing behind.

local uv = require "luv"
local app = require "spec.support.app"
local process = require "spec.support.process"
local wait = require "spec.support.wait"

local CONFIG = 78
local LIMITED = { "--load-timeout", "400ms" }

local APP = [[
local shove = require "shove"
local app = shove.registry { broker = "embedded:./shove.db" }
app:register(app:topic("orders", { hold = { "1s" }, dlq = true }), shove.group {}, function() end)
]]

local FFI = [[
local ffi = require "ffi"
ffi.cdef "int raise(int); void exit(int); int fork(void); int close(int); int fcntl(int, int, ...); int usleep(int);"
ffi.cdef "long write(int, const char *, size_t); long read(int, char *, size_t);"
ffi.cdef "void *mmap(void *, size_t, int, int, int, long); void *memset(void *, int, size_t);"
]]

local function ended(a, command, options)
    local result = a:command(command, options or {}, 20000)
    wait.loop(function() return #process.orphans() == 0 end, 2000) -- what is killed takes a moment to be gone
    assert.are.same({}, process.orphans(), command .. " left a process behind")
    return result
end

local function assert_says(result, text)
    assert.is_truthy(result.stderr:find(text, 1, true), ("'%s' is not in:\n%s"):format(text, result.stderr))
end

-- A row: the sentence; the script, or what makes it (function(a)); what is said; and files (name -> text), options.
local function refuses(row)
    for _, command in ipairs { "check", "run" } do
        it(("ends %s with 78 when it %s"):format(command, row[1]), function()
            local a = app.new { source = type(row[2]) == "string" and row[2] or "", files = row.files }
            if type(row[2]) == "function" then row[2](a) end
            local result = ended(a, command, row.options)
            assert.are.equal(CONFIG, result.code, result.stderr)
            assert.are.equal("", result.stdout)
            for i = 3, #row do assert_says(result, row[i]) end
        end)
    end
end

describe("a script that cannot be read", function()
    refuses { "does not exist", function(a) a.path = a:file "nowhere.lua" end, "nowhere.lua: there is no such file" }
    refuses { "is a folder", function(a)
        a.path = a:file "folder.lua"
        assert(uv.fs_mkdir(a.path, 448))
    end, "folder.lua is a folder; give the script in it" }
    refuses { "is a link to itself", function(a)
        a.path = a:file "loop.lua"
        assert(uv.fs_symlink(a.path, a.path))
    end, "loop.lua: ", "symbolic links" }
    refuses { "is a pipe that nobody writes to", function(a)
        a.path = a:file "pipe.lua"
        assert(os.execute("mkfifo " .. a.path) == 0)
    end, "pipe.lua did not finish loading within 0.4 s", options = LIMITED }

    for _, command in ipairs { "check", "run" } do
        it(("ends %s with 78 when it may not be read"):format(command), function()
            local a = app.new { source = APP .. "return app" }
            assert(uv.fs_chmod(a.path, 0))
            -- Root may read everything, unless it is told not to.
            local result = process.run { "setpriv", "--bounding-set", "-dac_override,-dac_read_search", app.bin, command,
                a.path, cwd = a.dir }
            assert.are.equal(CONFIG, result.code, result.stderr)
            assert_says(result, "app.lua cannot be read: Permission denied")
        end)
    end
end)

describe("a script with an error", function()
    refuses { "is empty", "", 'app.lua must end with "return app"', "it returned nothing" }
    refuses { "has a syntax error", "local a = 1\nlocal b = = 2\n", "app.lua:2: unexpected symbol near '='" }
    refuses { "is no text", "\127ELF\2\1\1\0\0\0", "app.lua:1: " }
    refuses { "is the bytecode of another Lua", "\27LuaR\0\1\4\8\4\8\0", "app.lua: ", "bytecode" }
    refuses { "ends in the middle", APP .. "app:topic('more', {", "app.lua:4: ", "near '<eof>'" }
    refuses { "raises", "local a = 1\nerror 'the moon is full'\n", "app.lua:2: the moon is full" }
    refuses { "calls what is nil", "\nlocal shove = require 'shove'\nshove.registry.nothing()\n", "app.lua:3: attempt to" }
    refuses { "raises a table", "error {}", "app.lua: table: 0x" }
    refuses { "raises nil", "error(nil)", "app.lua: nil" }
    refuses { "raises an object whose __tostring raises",
        "error(setmetatable({}, { __tostring = function() error 'again' end }))", "app.lua: a table" }
    refuses { "overflows the stack", "local function f() return 1 + f() end\nf()", "app.lua:", "stack overflow" }
    refuses { "overflows the C stack", "local function f(s) return (s:gsub('.', f)) end\nf 'x'", "stack overflow" }
    refuses { "yields", "coroutine.yield()", "app.lua:1: attempt to yield" }
    refuses { "waits", "local shove = require 'shove'\nshove.sleep '1s'", "app.lua:2: shove.sleep waits" }
    refuses { "publishes", "local shove = require 'shove'\nshove.publish('x', {})", "app.lua:2: shove.publish waits" }
    refuses { "calls os.exit", "local a\nos.exit(0)", "app.lua:2: os.exit is not for scripts" }
    refuses { "runs the loop", "local a\nrequire('luv').run()", "app.lua:2: uv.run is not for scripts" }
    refuses { "requires a module that is not there", "local a\nlocal b = require 'handlers.payments'\n",
        "app.lua:2: module 'handlers.payments' not found", "/handlers/payments.lua" }
    refuses { "requires a module with a syntax error", "local a\nlocal b = require 'inner'\n", "inner.lua:2: ",
        files = { ["inner.lua"] = "local x\nlocal y = = 1" } }
    refuses { "requires a module that raises", "local a\nlocal b = require 'inner'\n", "inner.lua:2: no configuration",
        "app.lua:2: in main chunk", files = { ["inner.lua"] = "local x\nerror 'no configuration'" } }
    refuses { "requires itself in a circle", "require 'other'", "loop or previous error loading module",
        files = { ["other.lua"] = "require 'another'", ["another.lua"] = "require 'other'" } }
end)

describe("a script that returns no app", function()
    for what, value in pairs { ["nothing"] = "", ["42"] = "return 42", ["true"] = "return true",
        ["a table"] = "return {}", ["a function"] = "return function() end" } do
        refuses { "returns " .. what, APP .. value, 'app.lua must end with "return app", the app that shove.registry made',
            "it returned " .. what }
    end
    refuses { "returns a topic", APP .. "return app:topic 'more'", 'must end with "return app"' }
    refuses { "declares no topic", "return require('shove').registry { broker = 'memory:' }",
        "app.lua: registry: no topic is declared" }
end)

describe("a script that does not end", function()
    for what, source in pairs {
        ["loops"] = "while true do end",
        ["loops in a module"] = "require 'inner'",
        ["matches a pattern for ever"] = "(('a'):rep(100)):find(('.-'):rep(50) .. 'b')",
        ["blocks in a C function"] = FFI .. "while true do ffi.C.usleep(1000000) end",
        ["waits for a program"] = "os.execute 'sleep 100'",
        ["stops its process"] = FFI .. "ffi.C.raise(19)",
        ["catches every error"] = "while true do pcall(error) end",
    } do
        refuses { what, source, "app.lua did not finish loading within 0.4 s", options = LIMITED,
            files = { ["inner.lua"] = "while true do end" } }
    end
end)

describe("a script that ends its process", function()
    refuses { "segfaults", FFI .. "ffi.cast('int *', 8)[0] = 1", "app.lua: the process that loaded it was killed by signal 11" }
    refuses { "kills it", FFI .. "ffi.C.raise(9)", "app.lua: the process that loaded it was killed by signal 9" }
    refuses { "exits with 0", FFI .. "ffi.C.exit(0)", "app.lua: the process that loaded it exited with status 0" }
    refuses { "breaks what it shares with control", FFI
        .. "ffi.C.memset(ffi.C.mmap(nil, 8192, 3, 1, 4, 0), 255, 8192) ffi.C.raise(9)", "broke its channel" }
end)

-- The first load is for the description, the second and later ones are for the workers.
describe("a script that loads differently each time", function()
    local LOADS = [[
local file = io.open("loads", "a") file:write "x" file:close()
file = io.open("loads", "r") local loads = #file:read "*a" file:close()
]]

    local function second_load(what, source, said, options)
        it("ends run with 78 when only the second load " .. what, function()
            local a = app.new { source = LOADS .. FFI .. ("if loads > 1 then %s end\n"):format(source) .. APP .. "return app" }
            local result = ended(a, "run", { "--workers", "1", unpack(options or {}) })
            assert.are.equal(CONFIG, result.code, result.stderr)
            assert_says(result, said)
        end)
    end

    second_load("raises", "error 'no more'", "no more")
    second_load("kills its process", "ffi.C.raise(9)", "a worker process ended while it loaded")
    second_load("exits", "ffi.C.exit(0)", "a worker process ended while it loaded")
    second_load("never ends", "while true do end", "a worker process ended while it loaded", LIMITED)
    second_load("breaks what it shares with control",
        "ffi.C.memset(ffi.C.mmap(nil, 8192, 3, 1, 4, 0), 255, 8192) ffi.C.usleep(10000000)",
        "a worker process ended while it loaded")

    it("ends run with 78 when it describes another app", function()
        local source = LOADS .. APP:gsub('"orders"', '"orders-" .. loads') .. "return app"
        local result = ended(app.new { source = source }, "run")
        assert.are.equal(CONFIG, result.code, result.stderr)
        assert_says(result, "app.lua describes another app each time it is loaded")
    end)
end)

describe("a script that prints megabytes while it loads", function()
    local FLOOD = "for i = 1, 10000 do print(('y'):rep(99)) io.stderr:write(('z'):rep(99), '\\n') end\n"

    it("is checked, and what it printed is kept apart", function()
        local result = ended(app.new { source = FLOOD .. APP .. "return app" }, "check")
        assert.are.equal(0, result.code)
        assert.is_nil(result.stdout:find("yyy", 1, true))
        assert_says(result, ("y"):rep(99) .. "\n")
        assert.are.equal(2000000, #result.stderr)
    end)

    it("ends run with 78 and says so last when it then raises", function()
        local result = ended(app.new { source = FLOOD .. "error 'at last'" }, "run")
        assert.are.equal(CONFIG, result.code)
        assert.matches("app.lua:2: at last", result.stderr:sub(-500), 1, true)
    end)
end)

describe("a script that leaves something behind while it loads", function()
    local HOSTILE = {
        ["closes all descriptors"] = "for fd = 0, 255 do ffi.C.close(fd) end",
        ["empties control's bell, having made it block"] =
            "ffi.C.fcntl(6, 4, ffi.cast('int', 0)) ffi.C.fcntl(5, 4, ffi.cast('int', 0))",
        ["rings control's bell a million times"] = "for i = 1, 1e6 do ffi.C.write(6, 'xxxxxxxx', 8) end",
        ["forks"] = "ffi.C.fork()",
    }
    for what, source in pairs(HOSTILE) do
        it("is checked all the same when it " .. what, function()
            local result = ended(app.new { source = FFI .. source .. "\n" .. APP .. "return app" }, "check")
            assert.are.equal(0, result.code, result.stderr)
            assert.matches("orders-consumer", result.stdout, 1, true)
        end)
    end

    it("ends with 78 when it rings control's bell for ever", function()
        local source = FFI .. "while true do ffi.C.write(6, 'xxxxxxxx', 8) end"
        local result = ended(app.new { source = source }, "check", LIMITED)
        assert.are.equal(CONFIG, result.code, result.stderr)
        assert_says(result, "did not finish loading within 0.4 s")
    end)

    it("ends with 78 when it needs more memory than there is", function()
        local source = "local s = 'x'\nwhile true do s = s .. s end"
        for command, options in pairs { check = {}, run = { "--worker-memory", "128MiB" } } do
            local result = ended(app.new { source = source }, command, options)
            assert.are.equal(CONFIG, result.code, result.stderr)
            assert_says(result, "app.lua: not enough memory")
        end
    end)
end)
