-- What another process does to an embedded broker is noticed at once: through the kernel's notification, not by the look
-- around every ten seconds, which these specs would take for too late.
local ffi = require "ffi"
local uv = require "luv"
local driver = require "spec.transport.driver"
local process = require "spec.support.process"
local tmp = require "spec.support.tmp"

ffi.cdef [[
int inotify_init1(int flags);
int close(int fd);
]]

local AT_ONCE_MS = 3000
local IN_CLOEXEC = 0x80000

local path

local function peer(...)
    return process.spawn { uv.exepath():match "^(.*)/" .. "/transport_peer", "embedded:" .. path, ... }
end

before_each(function() path = tmp.dir() .. "/broker.db" end)

-- A consumer that has seen all there is, then records from outside, again and again.
local function is_woken(rounds)
    local t = assert(driver.open("embedded:" .. path))
    assert(t:declare { { name = "t", partitions = 2 } })
    local sub = assert(t:subscribe { group = "g", topics = { "t" } })
    local claims = t:wait_claims(sub, 2)
    for _ = 1, rounds do
        for _, claim in ipairs(claims) do assert.same({}, t:take_once(claim.claim, 10)) end
        local told = #t.events.readable
        local other = peer("publish", "t", "1", "x")
        other:wait_for("done", driver.deadline_ms)
        t:wait(function() return #t.events.readable > told end, "the wake-up", AT_ONCE_MS)
        assert.equal(1, #t:take(claims, 1))
        other:wait_exit(driver.deadline_ms)
    end
    t:leave(sub)
    t:close()
end

describe("An embedded broker", function()
    it("wakes its consumer at once when another process publishes", function()
        is_woken(8)
    end)

    it("does so within a moment where the kernel has no notification left", function()
        local taken = {}
        for i = 1, 100000 do
            local fd = ffi.C.inotify_init1(IN_CLOEXEC)
            if fd < 0 then break end
            taken[i] = fd
        end
        local function give_back()
            for _, fd in ipairs(taken) do ffi.C.close(fd) end
            taken = {}
        end
        local t = driver.open("embedded:" .. path)
        give_back()
        assert(t)
        assert(t:declare { { name = "t", partitions = 1 } })
        local sub = assert(t:subscribe { group = "g", topics = { "t" } })
        local claims = t:wait_claims(sub, 1)
        assert.same({}, t:take_once(claims[1].claim, 10))
        local told = #t.events.readable
        peer("publish", "t", "1", "x"):wait_for("done", driver.deadline_ms)
        t:wait(function() return #t.events.readable > told end, "the wake-up", AT_ONCE_MS)
        t:leave(sub)
    end)

    it("assigns partitions that another process adds", function()
        local t = assert(driver.open("embedded:" .. path))
        assert(t:declare { { name = "t", partitions = 1 } })
        local sub = assert(t:subscribe { group = "g", topics = { "t" } })
        t:wait_claims(sub, 1)
        peer("declare", "t", "3"):wait_for("declared", driver.deadline_ms)
        t:wait(function() return #t.events.assigned >= 3 end, "the new partitions", AT_ONCE_MS)
        assert.equal(0, t:publish("t", { { payload = "x", partition = 2 } })[1].code)
        assert.equal("x", t:take(t:wait_claims(sub, 3), 1)[1].payload)
        t:leave(sub)
    end)
end)
