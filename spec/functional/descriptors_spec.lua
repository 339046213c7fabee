-- What a handler can do through the descriptors and the memory that its process shares with control: lose itself, never
-- control, and never a message.

local cleanup = require "spec.support.cleanup"
local hostile = require "spec.support.hostile"

-- inbound 3, outbound 4, the worker's bell 5 (listens), control's bell 6 (rings): runtime/ipc/channel.h.
local TOP = [[
ffi.cdef "int close(int); int fcntl(int, int, ...); long write(int, const void *, size_t); long read(int, void *, size_t);"
ffi.cdef "void *mmap(void *, size_t, int, int, int, long); int mprotect(void *, size_t, int); int dup2(int, int);"
ffi.cdef "int ftruncate(int, long); int fallocate(int, int, long, long); void *memset(void *, int, size_t);"
ffi.cdef "int open64(const char *, int, ...);"
local C = ffi.C
local OUTBOUND_BYTES = 4096 + 1048576
local function outbound() return ffi.cast("uint8_t *", C.mmap(nil, OUTBOUND_BYTES, 3, 1, 4, 0)) end
]]

-- Done again and again, beside what the worker writes itself, until control looks: the message dies of it.
local FATAL = {
    ["fills the memory that control reads with ones"] = "C.memset(bytes, 255, OUTBOUND_BYTES)",
    ["fills it with zeros"] = "C.memset(bytes, 0, OUTBOUND_BYTES)",
    ["punches holes into it"] = "assert(C.fallocate(4, 3, 0, OUTBOUND_BYTES) == 0)",
    ["fills it with chance"] = "for i = 0, 8191 do bytes[i] = math.random(0, 255) end",
    -- All but the outcomes of its own messages, about which it may lie.
    ["forges notes"] = [[
        local words = ffi.cast("uint32_t *", bytes)
        for at = 0, 4095 do
            local note = words + 1024 + at * 4
            note[0], note[1], note[2], note[3] = at % 3, 2 + at % 7 + at % 5 * 65536, at % 5, at % 3
        end
        ffi.cast("uint64_t *", words)[0] = 16 * 4096]],
    ["says that it ends by itself, for which nobody is blamed,"] = [[
        local words = ffi.cast("uint32_t *", bytes)
        for at = 0, 4095 do
            local note = words + 1024 + at * 4
            note[0], note[1], note[2], note[3] = 0, 7, 0, 0
        end
        ffi.cast("uint64_t *", words)[0] = 16 * math.random(1000, 4096)]],
}

local HARMLESS = {
    ["makes both bells block"] = "C.fcntl(5, 4, ffi.cast('int', 0)) C.fcntl(6, 4, ffi.cast('int', 0))",
    ["rings control's bell without end"] = [[
        local t = uv.new_idle()
        local burst = ffi.new("char[4096]")
        t:start(function() C.write(6, burst, 4096) end)]],
    ["steals what rings control"] = [[
        C.fcntl(6, 4, ffi.cast("int", 0))
        local fd, t, into = C.open64("/proc/self/fd/6", 2048), uv.new_idle(), ffi.new("char[4096]")
        assert(fd > 0)
        t:start(function() C.read(fd, into, 4096) end)]],
    ["rings its own bell until it is full"] = [[
        local fd = C.open64("/proc/self/fd/5", 2049)
        assert(fd > 0)
        while C.write(fd, ffi.new("char[4096]"), 4096) > 0 do end]],
    ["tries to write to the messages that control keeps"] = [[
        local again = C.open64("/proc/self/fd/3", 2)
        for _, fd in ipairs { 3, again } do
            assert(C.mmap(nil, 4096, 3, 1, fd, 0) == ffi.cast("void *", -1), "mapped for writing")
            assert(C.write(fd, "x", 1) < 0, "written to")
            assert(C.ftruncate(fd, 0) < 0, "truncated")
            assert(C.fallocate(fd, 3, 0, 4096) < 0, "punched")
        end
        assert(C.ftruncate(4, 0) < 0, "the other one truncated")
        for line in io.lines "/proc/self/maps" do
            local from, to = match(line, "^(%x+)%-(%x+) r%-%-s .*shove inbound")
            if from then
                local size = tonumber(to, 16) - tonumber(from, 16)
                assert(C.mprotect(ffi.cast("void *", tonumber(from, 16)), size, 3) < 0, "made writable")
                note("found", msg)
            end
        end]],
    ["seals what it can"] = "for _, fd in ipairs { 3, 4 } do C.fcntl(fd, 1033, ffi.cast('int', 1 + 8 + 16)) end",
    ["closes the bells"] = "C.close(5) C.close(6)",
    ["puts something else where the channel was"] = [[
        local zero = C.open64("/dev/zero", 2)
        for fd = 3, 6 do C.dup2(zero, fd) end]],
}

describe("a handler that", function()
    local running = {}

    local function start(what, handler, fate)
        local s = hostile.new { broker = "embedded", top = TOP, handler = "if kind == 'culprit' then " .. handler .. " end\n"
            .. "shove.sleep '30ms'", group = "max_crashes = 1, max_retries = 0, handler_timeout = '1s'" }
        s:publish("bad", { "before" }, "acked")
        s:publish("bad", { "culprit" }, fate)
        s:publish("bad", { "after" }, "acked")
        s:publish_good(40)
        running[what] = { s = s, p = s:run() }
    end

    setup(function()
        cleanup.for_block(function()
            for what, scribble in pairs(FATAL) do
                start(what, "local bytes = outbound() math.randomseed(uv.hrtime() % 2 ^ 31)\n"
                    .. "uv.new_idle():start(function() " .. scribble .. " end) shove.sleep '500ms'", "dead")
            end
            for what, handler in pairs(HARMLESS) do start(what, handler, "acked") end
        end)
    end)

    for what in pairs(FATAL) do
        it(what .. " has its process killed, and its own message dead-lettered", function()
            local s, p = running[what].s, running[what].p
            assert.are.equal(2, s:finish(p), p:transcript())
            assert.are.equal("crashed", s:dead_letters().culprit.reason)
            assert.matches("killing a worker process", p:text "stderr", 1, true)
        end)
    end

    for what, handler in pairs(HARMLESS) do
        it(what .. " holds nobody up", function()
            local s, p = running[what].s, running[what].p
            -- Deaf to control, such a process is replaced (2); the others go on (0).
            local code = s:finish(p)
            assert.is_true(code == 0 or code == 2 and p:text("stderr"):find("it does not answer any more", 1, true) ~= nil,
                p:transcript())
            assert.are.equal(handler:find "found" and 1 or 0, #s:lines_of("culprit", "found"))
        end)
    end
end)
