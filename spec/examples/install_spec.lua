-- What is installed works without the tree it was built in.

local uv = require "luv"
local app = require "spec.support.app"
local process = require "spec.support.process"
local tmp = require "spec.support.tmp"

local BUILD_MS = 300000
local SOURCES = { "CMakeLists.txt", "LICENSE", "lua", "man", "rockspec", "runtime" }

local function run(line)
    local result = process.run(line, BUILD_MS)
    assert.equal(0, result.code, result.stdout .. result.stderr)
    return result.stdout
end

-- Paths below `dir` of all files but folders, sorted.
local function files_below(dir)
    local list = {}
    for path in run({ "find", dir, "!", "-type", "d", "-printf", "%P\n" }):gmatch "[^\n]+" do table.insert(list, path) end
    table.sort(list)
    return list
end

-- way | prefix -> where bin is, where the rest is
local WAYS = {
    { "cmake --install", function(prefix)
        run { "cmake", "--install", "build/release", "--prefix", prefix }
        return prefix, prefix
    end },
    -- Builds beside the sources, so it gets some of its own.
    { "luarocks make", function(prefix)
        local source = tmp.dir()
        for _, name in ipairs(SOURCES) do run { "cp", "-r", name, source } end
        run { "luarocks", "--lua-version", "5.1", "--tree", prefix, "make", "rockspec/shove-scm-1.rockspec", cwd = source,
            env = { CMAKE_BUILD_PARALLEL_LEVEL = tostring(#uv.cpu_info()) } }
        tmp.remove(source)
        return prefix, prefix .. "/lib/luarocks/rocks-5.1/shove/scm-1"
    end },
}

for _, way in ipairs(WAYS) do
    it(("%s gives a program that runs an example, the Lua modules and the man page"):format(way[1]), function()
        local top, rest = way[2](tmp.dir())
        local bin, lua_dir = top .. "/bin/shove", rest .. "/share/shove/lua"
        assert.same(files_below "lua", files_below(lua_dir))
        assert.equal(tmp.read "man/shove.1", tmp.read(rest .. "/share/man/man1/shove.1"))

        local a = app.new { source = tmp.read "examples/hello/app.lua" }
        local checked = process.run { bin, "check", a.path, cwd = a.dir }
        assert.equal(0, checked.code, checked.stderr)
        assert.matches("greetings", checked.stdout, 1, true)

        local p = process.spawn { bin, "run", a.path, "--workers", "1", cwd = a.dir }
        p:wait_for("hello, world", 15000)
        local worker = tmp.read(("/proc/%d/cmdline"):format(p:children()[1]))
        assert.matches("\0" .. lua_dir .. "\0", worker, 1, true)
        assert.equal(0, (app.drain(p)))
    end)
end
