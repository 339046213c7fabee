-- A bell wakes, and nothing that the other side does to its end makes this side block.
local ffi = require "ffi"
local C = require("spec.support.c").include("ipc/bell.h")
local cleanup = require "spec.support.cleanup"

ffi.cdef [[
struct bell_spec_pollfd { int fd; short events; short revents; };
int poll(struct bell_spec_pollfd *fds, unsigned long count, int timeout_ms);
int fcntl(int fd, int command, ...);
int close(int fd);
]]

local POLLIN = 1
local F_GETFD, F_SETFL, F_GETFL = 1, 4, 3
local FD_CLOEXEC, O_NONBLOCK = 1, 0x800

local function new_bell()
    local bell, err = ffi.new "struct shove_bell", ffi.new "struct shove_error"
    assert(C.shove_bell_init(bell, err) == 0, ffi.string(err.text))
    cleanup.defer(function() C.shove_bell_release(bell) end)
    return bell
end

local function is_rung(bell)
    local wait = ffi.new("struct bell_spec_pollfd[1]", { { fd = bell.listen_fd, events = POLLIN } })
    return C.poll(wait, 1, 0) == 1
end

local function flags_of(fd)
    return C.fcntl(fd, F_GETFL)
end

describe("a bell", function()
    it("is rung once or often, silenced, and rung again", function()
        local bell = new_bell()
        assert.is_false(is_rung(bell))
        for _ = 1, 3 do
            C.shove_bell_ring(bell.ring_fd)
            C.shove_bell_ring(bell.ring_fd)
            assert.is_true(is_rung(bell))
            C.shove_bell_silence(bell.listen_fd)
            assert.is_false(is_rung(bell))
        end
    end)

    it("that nobody rang is silenced without blocking", function()
        C.shove_bell_silence(new_bell().listen_fd)
    end)

    it("has two ends whose flags are their own: what one side clears blocks only itself", function()
        local bell = new_bell()
        C.fcntl(bell.ring_fd, F_SETFL, ffi.cast("int", 0))
        assert.are.equal(0, bit.band(flags_of(bell.ring_fd), O_NONBLOCK))
        assert.are.equal(O_NONBLOCK, bit.band(flags_of(bell.listen_fd), O_NONBLOCK))
        C.shove_bell_silence(bell.listen_fd)
        bell = new_bell()
        C.fcntl(bell.listen_fd, F_SETFL, ffi.cast("int", 0))
        for _ = 1, 100000 do C.shove_bell_ring(bell.ring_fd) end
        assert.is_true(is_rung(bell))
    end)

    it("that is rung without end is silenced a portion at a time, and stays rung", function()
        local bell = new_bell()
        for _ = 1, 10000 do C.shove_bell_ring(bell.ring_fd) end
        C.shove_bell_silence(bell.listen_fd)
        assert.is_true(is_rung(bell))
    end)

    it("is not inherited by programs that are executed", function()
        local bell = new_bell()
        assert.are.equal(FD_CLOEXEC, C.fcntl(bell.listen_fd, F_GETFD))
        assert.are.equal(FD_CLOEXEC, C.fcntl(bell.ring_fd, F_GETFD))
    end)

    it("may be released twice", function()
        local bell, err = ffi.new "struct shove_bell", ffi.new "struct shove_error"
        assert(C.shove_bell_init(bell, err) == 0)
        C.shove_bell_release(bell)
        C.shove_bell_release(bell)
        assert.are.equal(-1, bell.listen_fd)
    end)
end)
