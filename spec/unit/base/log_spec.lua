-- What shove logs, read back from a file or a terminal that stands in for standard error.
local ffi = require "ffi"
local cjson = require "cjson"
local C = require("spec.support.c").include("base/log.h", "base/error.h")

ffi.cdef [[
int dup(int fd);
int dup2(int fd, int to);
int close(int fd);
int open(const char *path, int flags, ...);
ssize_t read(int fd, void *out, size_t size);
int pipe2(int fds[2], int flags);
int posix_openpt(int flags);
int grantpt(int fd);
int unlockpt(int fd);
char *ptsname(int fd);
int setenv(const char *name, const char *value, int overwrite);
int unsetenv(const char *name);
]]

local O_RDWR, O_NOCTTY, O_NONBLOCK = 2, 0x100, 0x800
local LINE_MAX = 8192
local CONTROL, WORKER = "control", "worker 2" -- setup borrows them

-- Runs `act` with standard error on `fd`, then reads what came through `from`.
local function capture(fd, from, act)
    local saved = C.dup(2)
    assert(C.dup2(fd, 2) == 2)
    C.close(fd)
    local ok, err = pcall(act)
    C.dup2(saved, 2)
    C.close(saved)
    C.shove_log_setup(C.SHOVE_LOG_AUTO, C.SHOVE_LOG_INFO, nil)
    local chunk, parts = ffi.new "char[65536]", {}
    while true do
        local size = tonumber(C.read(from, chunk, 65536))
        if size <= 0 then break end
        table.insert(parts, ffi.string(chunk, size))
    end
    C.close(from)
    assert(ok, err)
    return table.concat(parts)
end

local function logged(format, act, source)
    local fds = ffi.new "int[2]"
    assert(C.pipe2(fds, O_NONBLOCK) == 0)
    return capture(fds[1], fds[0], function()
        C.shove_log_setup(format, C.SHOVE_LOG_INFO, source)
        act()
    end)
end

local function plain(act, source)
    return logged(C.SHOVE_LOG_PLAIN, act, source)
end

-- One line, decoded.
local function json(act, source)
    local text = logged(C.SHOVE_LOG_JSON, act, source)
    assert.are.equal(#text, text:find("\n", 1, true), text)
    return cjson.decode(text), text
end

local function on_terminal(act)
    local master = C.posix_openpt(O_RDWR + O_NOCTTY + O_NONBLOCK)
    assert(master >= 0 and C.grantpt(master) == 0 and C.unlockpt(master) == 0)
    local slave = C.open(ffi.string(C.ptsname(master)), O_RDWR + O_NOCTTY)
    assert(slave >= 0)
    return capture(slave, master, function()
        C.shove_log_setup(C.SHOVE_LOG_AUTO, C.SHOVE_LOG_INFO, CONTROL)
        act()
    end)
end

local function with_environment(name, value, act)
    local saved = os.getenv(name)
    local function put(text)
        if text then C.setenv(name, text, 1) else C.unsetenv(name) end
    end
    put(value)
    local result = act()
    put(saved)
    return result
end

local function fields(level, message, pairs_list)
    local count = #pairs_list / 2
    local names, values = ffi.new("const char *[?]", count + 1), ffi.new("const char *[?]", count + 1)
    for i = 0, count - 1 do
        names[i], values[i] = pairs_list[2 * i + 1], pairs_list[2 * i + 2]
    end
    C.shove_log_pairs(level, message, names, values, count)
end

describe("A plain log line", function()
    it("has a time, a level, where it comes from, the message, and fields", function()
        local text = plain(function()
            C.shove_log_fields(C.SHOVE_LOG_WARN, "dead letter", "topic", "orders", "offset", "12", nil)
        end, CONTROL)
        local when, rest = text:match "^(%S+) (.*)$"
        assert.truthy(when:match "^%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%d%.%d%d%dZ$")
        assert.are.equal("warn  control: dead letter  topic=orders  offset=12\n", rest)
    end)

    it("does without a source", function()
        assert.truthy(plain(function() C.shove_log(C.SHOVE_LOG_INFO, "up") end):match "Z info  up\n$")
    end)

    it("is formatted like printf", function()
        local text = plain(function() C.shove_log(C.SHOVE_LOG_ERROR, "%d of %s", ffi.new("int", 3), "five") end, WORKER)
        assert.truthy(text:find("error worker 2: 3 of five\n", 1, true))
    end)

    it("puts a value in quotes where its end could not be seen", function()
        local text = plain(function()
            fields(C.SHOVE_LOG_INFO, "m", { "a", "two words", "b", "", "c", 'say "x"', "d", "k=v", "e", "a\\b", "f", "-1.5" })
        end)
        assert.truthy(text:find([[  a="two words"  b=""  c="say \"x\""  d="k=v"  e="a\\b"  f=-1.5]] .. "\n", 1, true), text)
    end)

    it("is one line that no message can break or colour", function()
        local text = plain(function()
            fields(C.SHOVE_LOG_INFO, "one\ntwo\r\27[31mred\127", { "tab\tname", "bell\7 esc\27]0;x\7", "c1", "\194\155A" })
        end)
        assert.are.equal(#text, text:find("\n", 1, true))
        assert.is_nil(text:sub(1, -2):find "%c")
        assert.truthy(text:find([[one\ntwo\r\x1b[31mred\x7f]], 1, true), text)
        assert.truthy(text:find([[tab\tname="bell\x07 esc\x1b]0;x\x07"]], 1, true), text)
        assert.truthy(text:find([[c1="\x9bA"]], 1, true), text)
    end)

    it("shows text of any language as it is, and bytes that are not UTF-8 as escapes", function()
        local text = plain(function() fields(C.SHOVE_LOG_INFO, "größer € 😀", { "raw", "a\255b\226\130" }) end)
        assert.truthy(text:find([[größer € 😀  raw="a\xffb\xe2\x82"]], 1, true), text)
    end)

    it("shows a value that is missing as an empty one", function()
        local names, values = ffi.new("const char *[1]", { "name" }), ffi.new "const char *[1]"
        local text = plain(function() C.shove_log_pairs(C.SHOVE_LOG_INFO, "m", names, values, 1) end)
        assert.truthy(text:find('m  name=""\n', 1, true), text)
    end)

    it("has at most 8 KiB, says where it was cut, and keeps the fields before", function()
        for _, size in ipairs { 2000, 4000, 4100, 8000, 100000 } do
            local text = plain(function()
                fields(C.SHOVE_LOG_INFO, "m", { "first", "1", "long", ("x y"):rep(size), "again", ("z"):rep(size), "more", "2" })
            end)
            assert.is_true(#text <= LINE_MAX, #text)
            assert.are.equal("\n", text:sub(-1))
            assert.truthy(text:find("first=1", 1, true))
            if size >= 4100 then assert.truthy(text:find('..."', 1, true)) end
        end
    end)

    it("says nothing below its threshold", function()
        assert.are.equal("", plain(function() C.shove_log(C.SHOVE_LOG_DEBUG, "details") end))
        local text = plain(function()
            C.shove_log_setup(C.SHOVE_LOG_PLAIN, C.SHOVE_LOG_ERROR, nil)
            assert.is_false(C.shove_log_is_on(C.SHOVE_LOG_WARN))
            C.shove_log(C.SHOVE_LOG_WARN, "quiet")
            C.shove_log(C.SHOVE_LOG_ERROR, "loud")
        end)
        assert.truthy(text:match "^%S+ error loud\n$", text)
    end)
end)

describe("A JSON log line", function()
    it("is one object with time, level, source, message, and the fields", function()
        local line = json(function()
            C.shove_log_fields(C.SHOVE_LOG_ERROR, "worker died", "pid", "77", "signal", "9", nil)
        end, WORKER)
        assert.truthy(line.time:match "^%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%d%.%d%d%dZ$")
        line.time = nil
        assert.are.same({ level = "error", source = "worker 2", message = "worker died", pid = "77", signal = "9" }, line)
    end)

    it("leaves out a source that there is not", function()
        assert.is_nil(json(function() C.shove_log(C.SHOVE_LOG_INFO, "up") end).source)
    end)

    it("brings back any text", function()
        local value = 'quote " backslash \\ slash / tab \t line \n return \r bell \7 del \127 größer € 😀'
        local line = json(function() fields(C.SHOVE_LOG_INFO, value, { "name \"x\"", value }) end)
        assert.are.equal(value, line.message)
        assert.are.equal(value, line['name "x"'])
    end)

    it("has no raw control byte in it", function()
        local all = {}
        for byte = 1, 31 do table.insert(all, string.char(byte)) end
        local _, text = json(function() fields(C.SHOVE_LOG_INFO, "m", { "v", table.concat(all) .. "\127\194\133" }) end)
        assert.is_nil(text:sub(1, -2):find "[%c\127]")
        assert.is_nil(text:find("\194\133", 1, true))
    end)

    it("replaces bytes that are not UTF-8", function()
        local line = json(function() fields(C.SHOVE_LOG_INFO, "m", { "v", "a\255b\237\160\128c" }) end)
        assert.are.equal("a\239\191\189b\239\191\189\239\191\189\239\191\189c", line.v)
    end)

    it("does not let a field stand in for one of its own", function()
        local line = json(function()
            fields(C.SHOVE_LOG_INFO, "true message", { "level", "fake", "message", "fake", "time", "fake", "source", "fake" })
        end, CONTROL)
        assert.are.same({ "info", "true message", "control" }, { line.level, line.message, line.source })
        assert.are.same({ "fake", "fake", "fake", "fake" }, { line.level_, line.message_, line.time_, line.source_ })
    end)

    it("stays valid and within 8 KiB, whatever is cut", function()
        local pieces = { "x", '"', "\\", "\1", "€", "😀", "\255", "\n" }
        for round = 1, 400 do
            local function text(max)
                return (pieces[math.random(#pieces)] .. pieces[math.random(#pieces)]):rep(math.random(0, max))
            end
            local list = {}
            for _ = 1, math.random(0, 6) do
                table.insert(list, "n" .. text(80))
                table.insert(list, text(6000))
            end
            local message = text(3000)
            local _, line = json(function() fields(C.SHOVE_LOG_INFO, message, list) end, CONTROL)
            assert.is_true(#line <= LINE_MAX, ("round %d: %d bytes"):format(round, #line))
        end
    end)

    it("marks a value that was cut", function()
        local line = json(function() fields(C.SHOVE_LOG_INFO, "m", { "v", ("€"):rep(5000) }) end)
        assert.truthy(line.v:match "^[€]+%.%.%.$")
    end)
end)

describe("On a terminal", function()
    local function line()
        return on_terminal(function() C.shove_log_fields(C.SHOVE_LOG_WARN, "slow", "topic", "orders", nil) end)
    end

    it("lines are coloured and carry a short time", function()
        local text = with_environment("NO_COLOR", nil, function()
            return with_environment("TERM", "xterm", line)
        end)
        assert.truthy(text:find("\27[33mwarn", 1, true), text)
        local bare = text:gsub("\27%[[%d;]*m", "")
        assert.truthy(bare:match "^%d%d:%d%d:%d%d warn  control: slow  topic=orders\r\n$", bare)
    end)

    it("there are no colours when NO_COLOR is set, or the terminal is dumb", function()
        for name, value in pairs { NO_COLOR = "1", TERM = "dumb" } do
            local text = with_environment("NO_COLOR", nil, function() return with_environment(name, value, line) end)
            assert.is_nil(text:find "\27")
            assert.truthy(text:match "^%d%d:%d%d:%d%d warn  control: slow  topic=orders\r\n$", text)
        end
    end)

    it("an empty NO_COLOR is as good as none", function()
        local text = with_environment("TERM", "xterm", function() return with_environment("NO_COLOR", "", line) end)
        assert.truthy(text:find "\27")
    end)
end)

describe("The log", function()
    it("gives a child the format it was given itself", function()
        local out = ffi.new "enum shove_log_format[1]"
        for name, format in pairs { auto = C.SHOVE_LOG_AUTO, plain = C.SHOVE_LOG_PLAIN, json = C.SHOVE_LOG_JSON } do
            C.shove_log_setup(format, C.SHOVE_LOG_INFO, nil)
            assert.are.equal(name, ffi.string(C.shove_log_format_name()))
            assert.are.equal(0, C.shove_log_format_parse(name, out))
            assert.are.equal(tonumber(ffi.cast("int", format)), tonumber(out[0]))
        end
        C.shove_log_setup(C.SHOVE_LOG_AUTO, C.SHOVE_LOG_INFO, nil)
    end)

    it("refuses a format it does not know", function()
        for _, name in ipairs { "", "JSON", "text", "jsonx" } do
            assert.are.equal(C.SHOVE_EINVAL, C.shove_log_format_parse(name, ffi.new "enum shove_log_format[1]"))
        end
    end)

    it("drops a line that nobody reads rather than hang or spin", function()
        local fds = ffi.new "int[2]"
        assert(C.pipe2(fds, O_NONBLOCK) == 0)
        capture(fds[1], fds[0], function()
            C.shove_log_setup(C.SHOVE_LOG_PLAIN, C.SHOVE_LOG_INFO, nil)
            for _ = 1, 10 do fields(C.SHOVE_LOG_INFO, "m", { "v", ("x"):rep(4000), "w", ("y"):rep(4000) }) end
        end)
    end)
end)
