-- The embedded broker and the space it has: a full device is survived, and retention keeps the file from growing.
local ffi = require "ffi"
local uv = require "luv"
local driver = require "spec.transport.driver"
local cleanup = require "spec.support.cleanup"
local process = require "spec.support.process"
local tmp = require "spec.support.tmp"

local C = driver.C
local SECOND_MS = 1000

ffi.cdef [[
struct spec_rlimit { unsigned long current; unsigned long maximum; };
int getrlimit(int resource, struct spec_rlimit *limit);
int setrlimit(int resource, const struct spec_rlimit *limit);
int shove_local_retain(struct shove_transport *transport, int64_t now_ms, struct shove_error *error);
]]
local RLIMIT_FSIZE = 1

local function size_of(path)
    return uv.fs_stat(path).size
end

local function retain(t, now_ms)
    local err = ffi.new "struct shove_error"
    assert(C.shove_local_retain(t.handle, now_ms, err) == 0, ffi.string(err.text))
end

local function wall_ms()
    return tonumber(C.shove_clock_wall_ms())
end

local function records_of(from, count, size)
    local records = {}
    for i = from, from + count - 1 do records[#records + 1] = { payload = ("%08d"):format(i) .. ("x"):rep(size - 8) } end
    return records
end

-- Publishes until something is refused. Gives the number of records acknowledged and the code of the refusal.
local function fill(t, size)
    local acknowledged = 0
    for _ = 1, 10000 do
        for _, ack in ipairs(t:publish("t", records_of(acknowledged + 1, 50, size))) do
            if ack.code ~= 0 then return acknowledged, ack.code, ack.text end
            acknowledged = acknowledged + 1
        end
    end
    error "it never filled up"
end

-- The records of the topic are 1 to count, no more, no fewer.
local function holds_exactly(t, count)
    local records = t:read_all "t"
    assert.equal(count, #records)
    for i, record in ipairs(records) do assert.equal(i, tonumber(record.payload:sub(1, 8))) end
end

local function notices_of(t, code)
    local count = 0
    for _, event in ipairs(t.events.notice) do
        if event.code == code then count = count + 1 end
    end
    return count
end

-- make_room() is called when it is full.
local function survives_a_full_device(path, make_room)
    local t = assert(driver.open("embedded:" .. path))
    assert(t:declare { { name = "t", partitions = 1 } })
    local sub = assert(t:subscribe { group = "g", topics = { "t" } })
    local claims = t:wait_claims(sub, 1)
    local count, code, text = fill(t, 2000)
    assert.equal(C.SHOVE_ENOSPACE, code)
    assert.matches(path, text, 1, true)
    assert.matches("free some space", text, 1, true)
    assert.is_true(count > 100)

    -- It stays usable: what was acknowledged is there, and being refused again is not told again.
    holds_exactly(t, count)
    assert.equal(count, #t:take(claims, count, 500))
    for _ = 1, 5 do
        assert.equal(C.SHOVE_ENOSPACE, t:publish("t", records_of(1, 500, 20000))[1].code)
    end
    local commit_code = t:commit(sub, { { claim = claims[1].claim, offset = 7, metadata = "m" } })[1]
    assert.is_true(commit_code == 0 or commit_code == C.SHOVE_ENOSPACE)
    assert.equal(1, notices_of(t, C.SHOVE_ENOSPACE))

    make_room()
    assert.equal(0, t:publish("t", records_of(count + 1, 1, 2000))[1].code)
    assert.same({ 0 }, t:commit(sub, { { claim = claims[1].claim, offset = 9, metadata = "n" } }))
    assert.equal(1, notices_of(t, 0))
    t:leave(sub)
    t:close()
    t = assert(driver.open("embedded:" .. path))
    holds_exactly(t, count + 1)
    assert.equal(9, (t:committed_get("g", "t", 0)))
    t:close()
end

describe("A full device", function()
    it("refuses records with words, keeps what it acknowledged, and goes on when there is room", function()
        local dir = tmp.dir()
        local mounted = uv.getuid() == 0
            and process.run({ "mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", dir }, 5000).code == 0
        if not mounted then pending "mounting a small file system needs root" end
        cleanup.defer(function() process.run({ "umount", dir }, 5000) end)
        survives_a_full_device(dir .. "/broker.db", function()
            assert.equal(0, process.run({ "mount", "-o", "remount,size=32m", dir }, 5000).code)
        end)
    end)

    it("may also be a limit on the size of files", function()
        local path = tmp.dir() .. "/broker.db"
        local limit = ffi.new "struct spec_rlimit"
        assert(C.getrlimit(RLIMIT_FSIZE, limit) == 0)
        local function set(current) C.setrlimit(RLIMIT_FSIZE, ffi.new("struct spec_rlimit", { current, limit.maximum })) end
        local before = limit.current
        cleanup.defer(function() set(before) end)
        -- The first transport of the process takes the signal's sting away, so the limit comes after it.
        driver.open("embedded:" .. path):close()
        set(4 * 1024 * 1024)
        survives_a_full_device(path, function() set(before) end)
    end)
end)

describe("Retention of the embedded broker", function()
    local path, t

    before_each(function()
        path = tmp.dir() .. "/broker.db"
        t = assert(driver.open("embedded:" .. path))
    end)

    -- One round: publish, consume, commit, retention a minute later.
    local function round(sub, claims, sizes, number)
        local records = {}
        for i = 1, 400 do
            local size = sizes[i % #sizes + 1]
            records[i] = { payload = ("x"):rep(size), key = "k" .. i, headers = { { "round", tostring(number) } } }
        end
        for _, ack in ipairs(t:publish("t", records)) do assert.equal(0, ack.code) end
        assert.equal(400, #t:take(claims, 400))
        for _, claim in ipairs(claims) do
            local _, high = t:watermarks("t", claim.partition)
            assert.same({ 0 }, t:commit(sub, { { claim = claim.claim, offset = high, metadata = ("m"):rep(number * 7) } }))
        end
        retain(t, wall_ms() + 60 * SECOND_MS)
    end

    for _, case in ipairs {
        { "small records", 60, { 44 } },
        { "records of every size", 25, { 10, 3000, 44, 5000, 70000, 1, 2030, 4100, 500000, 9000 } },
    } do
        it("keeps the file at the size it needs for " .. case[1], function()
            assert(t:declare { { name = "t", partitions = 4, retention_ms = SECOND_MS } })
            local sub = assert(t:subscribe { group = "g", topics = { "t" } })
            local claims = t:wait_claims(sub, 4)
            for number = 1, 6 do round(sub, claims, case[3], number) end
            local settled = size_of(path)
            for number = 7, case[2] do round(sub, claims, case[3], number) end
            assert.is_true(size_of(path) <= settled * 1.1 + 65536,
                ("%d bytes after 6 rounds, %d at the end"):format(settled, size_of(path)))
            for partition = 0, 3 do
                local low, high = t:watermarks("t", partition)
                assert.equal(high, low)
            end
        end)
    end

    it("keeps what one of the groups has not consumed, and lets it go when it has", function()
        assert(t:declare { { name = "t", partitions = 1, retention_ms = SECOND_MS } })
        for i = 1, 4 do t:publish("t", records_of(i, 1, 100)) end
        assert(t:committed_set("fast", "t", 0, 4, ""))
        assert(t:committed_set("slow", "t", 0, 2, ""))
        retain(t, wall_ms() + 60 * SECOND_MS)
        assert.same({ 2, 4 }, { t:watermarks("t", 0) })
        assert(t:committed_set("slow", "t", 0, 4, ""))
        retain(t, wall_ms() + 60 * SECOND_MS)
        assert.same({ 4, 4 }, { t:watermarks("t", 0) })
    end)

    it("waits for a group that has subscribed and committed nothing", function()
        assert(t:declare { { name = "t", partitions = 1, retention_ms = SECOND_MS } })
        t:publish("t", records_of(1, 3, 100))
        local sub = assert(t:subscribe { group = "new", topics = { "t" } })
        t:wait_claims(sub, 1)
        t:leave(sub)
        assert(t:committed_set("other", "t", 0, 3, ""))
        retain(t, wall_ms() + 60 * SECOND_MS)
        assert.same({ 0, 3 }, { t:watermarks("t", 0) })
    end)

    it("keeps consumed records until they are old enough", function()
        assert(t:declare { { name = "t", partitions = 1, retention_ms = 60 * SECOND_MS } })
        t:publish("t", records_of(1, 3, 100))
        assert(t:committed_set("g", "t", 0, 3, ""))
        retain(t, wall_ms() + 50 * SECOND_MS)
        assert.same({ 0, 3 }, { t:watermarks("t", 0) })
        retain(t, wall_ms() + 70 * SECOND_MS)
        assert.same({ 3, 3 }, { t:watermarks("t", 0) })
    end)

    it("never lets an offset come twice, however empty a topic gets", function()
        assert(t:declare { { name = "t", partitions = 1, role = "hold" } })
        for number = 1, 5 do
            assert.equal(number - 1, t:publish("t", records_of(1, 1, 100))[1].offset)
            assert(t:committed_set("g", "t", 0, number, ""))
            retain(t, wall_ms())
            t:close()
            t = assert(driver.open("embedded:" .. path))
            assert.same({ number, number }, { t:watermarks("t", 0) })
        end
    end)

    it("deletes while another process publishes and consumes", function()
        assert(t:declare { { name = "t", partitions = 2, retention_ms = 1 } })
        local runner = uv.exepath():match "^(.*)/" .. "/transport_peer"
        local writer = process.spawn { runner, "embedded:" .. path, "append", "t" }
        local sub = assert(t:subscribe { group = "g", topics = { "t" } })
        local claims = t:wait_claims(sub, 2)
        local nexts = { [0] = 0, 0 }
        for _ = 1, 30 do
            for _, record in ipairs(t:take(claims, 200)) do
                assert.equal(nexts[record.partition], record.offset)
                nexts[record.partition] = record.offset + 1
            end
            for _, claim in ipairs(claims) do
                t:commit(sub, { { claim = claim.claim, offset = nexts[claim.partition] } })
            end
            retain(t, wall_ms() + SECOND_MS)
        end
        writer:kill "sigkill"
        writer:wait_exit(driver.deadline_ms)
        for partition = 0, 1 do assert.equal(nexts[partition], (t:watermarks("t", partition))) end
        t:leave(sub)
    end)
end)
