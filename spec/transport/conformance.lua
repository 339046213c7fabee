-- What every transport must do, as sentences; run by memory_spec, embedded_spec and kafka_spec, each with its own
-- broker.
--
--     conformance { name = "memory", broker = function() return "memory:" end, reopens = false }
--
-- broker() gives the address of a broker that lives at least as long as the running test; specs use names of their own,
-- so it may be shared. What a transport cannot do it says in its capabilities, and the specs about it are skipped with
-- words.

local bit = require "bit"
local ffi = require "ffi"
local uv = require "luv"
local driver = require "spec.transport.driver"
local named = require "spec.support.unique"
local process = require "spec.support.process"

ffi.cdef "void __asan_init(void);"

local C = driver.C
local SCAN_MAX = select(2, require("spec.support.c").include "transport/transport.h").SHOVE_SCAN_MAX
local TEN_MIB = 10 * 1024 * 1024

-- Hashes Kafka's own tests expect of Java's murmur2, and where its default partitioner puts them.
local MURMUR2 = {
    { "21", -973932308 },
    { "foobar", -790332482 },
    { "a-little-bit-long-string", -985981536 },
    { "a-little-bit-longer-string", -1486304829 },
    { "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971 },
    { "abc", 479470107 },
}

local function unique(prefix)
    return named("conformance-" .. prefix)
end

local function peer(...)
    local folder = uv.exepath():match "^(.*)/"
    local command = { folder .. "/transport_peer", ... }
    command.stdin = "pipe"
    return process.spawn(command)
end

-- The other's line, while our own transport goes on: a rebalance needs both.
local function wait_for_line(t, other, pattern)
    local found
    t:wait(function()
        for _, line in ipairs(other.lines) do found = found or line.text:match(pattern) end
        return found
    end, "the other process to say " .. pattern)
    return found
end

local function texts(from, to)
    local records = {}
    for i = from, to do table.insert(records, { payload = tostring(i) }) end
    return records
end

local function by_partition(records)
    local found = {}
    for _, record in ipairs(records) do
        found[record.partition] = found[record.partition] or {}
        table.insert(found[record.partition], record)
    end
    return found
end

local function payloads(records)
    local list = {}
    for _, record in ipairs(records) do table.insert(list, record.payload) end
    table.sort(list)
    return list
end

return function(target)
    setfenv(1, getfenv(2)) -- busted gives its words to spec files alone

    local function can(name)
        return driver.can(target.broker(), name)
    end

    local function new_topic(t, options)
        options = options or {}
        options.name = unique "topic"
        options.partitions = options.partitions or 1
        assert(t:declare { options })
        return options.name
    end

    -- A transport, with a topic of so many partitions.
    local function opened(partitions, options)
        local t = assert(driver.open(target.broker(), options))
        return t, new_topic(t, { partitions = partitions })
    end

    local function subscribed(t, topic, partitions, options)
        options = options or {}
        options.group = options.group or unique "group"
        options.topics = { topic }
        local sub = assert(t:subscribe(options))
        return sub, t:wait_claims(sub, partitions), options.group
    end

    local function all_acknowledged(acks)
        for i, ack in ipairs(acks) do
            assert(ack.code == 0, ("record %d: %s %s"):format(i, ack.code, ack.text or ""))
        end
        return acks
    end

    describe("a transport, " .. target.name .. ":", function()
        describe("topics", function()
            it("are created by declaring them, and declaring them again changes nothing", function()
                local t, topic = opened(3)
                assert.equal(3, t:partition_count(topic))
                assert(t:declare { { name = topic, partitions = 3 } })
                assert.equal(3, t:partition_count(topic))
            end)

            it("are refused under a name that Kafka would refuse", function()
                local t = opened(1)
                local ok, code, text = t:declare { { name = "no spaces", partitions = 1, at = "app.lua:3" } }
                assert.is_nil(ok)
                assert.is_true(code < 0)
                assert.matches("no spaces", text, 1, true)
            end)

            it("grow when they are not keyed", function()
                local t, topic = opened(2)
                if not can "SHOVE_CAN_EXPAND" then pending(target.name .. " cannot add partitions") end
                assert(t:declare { { name = topic, partitions = 5 } })
                assert.equal(5, t:partition_count(topic))
                assert(t:declare { { name = topic, partitions = 2 } })
                assert.equal(5, t:partition_count(topic))
            end)

            it("that are keyed are never re-partitioned: the error says both numbers", function()
                local t = opened(1)
                local topic = new_topic(t, { partitions = 4, is_keyed = true })
                local ok, code, text = t:declare {
                    { name = topic, partitions = 7, is_keyed = true, at = "app.lua:9" },
                }
                assert.is_nil(ok)
                assert.equal(C.SHOVE_ECONFIG, code)
                assert.matches(topic, text, 1, true)
                assert.matches("4", text, 1, true)
                assert.matches("7", text, 1, true)
                assert.matches("app.lua:9", text, 1, true)
                assert.equal(4, t:partition_count(topic))
            end)

            it("that are external are only verified", function()
                local t, topic = opened(2)
                assert(t:declare { { name = topic, partitions = 2, is_external = true } })
                local missing = unique "missing"
                local ok, code, text = t:declare { { name = missing, partitions = 2, is_external = true } }
                assert.is_nil(ok)
                assert.equal(C.SHOVE_ECONFIG, code)
                assert.matches(missing, text, 1, true)
                local _, count_code = t:partition_count(missing)
                assert.equal(C.SHOVE_ENOTOPIC, count_code)
            end)

            it("that are external may have to be as wide as another", function()
                local t, queue = opened(3)
                local narrow, wide = new_topic(t, { partitions = 2 }), new_topic(t, { partitions = 3 })
                local function beside(name)
                    return t:declare {
                        { name = queue, is_external = true },
                        { name = name, is_external = true, as_wide_as = queue, at = "app.lua:4" },
                    }
                end
                assert(beside(wide))
                local ok, code, text = beside(narrow)
                assert.is_nil(ok)
                assert.equal(C.SHOVE_ECONFIG, code)
                assert.matches("app.lua:4: topic '" .. narrow .. "' is external and has fewer partitions (2) than its queue '"
                    .. queue .. "' (3)", text, 1, true)
            end)

            it("are declared without waiting, each call answered once", function()
                local t, topic = opened(2)
                if not t:can_start_declaring() then pending(target.name .. " declares without waiting anyway") end
                local added, missing = unique "topic", unique "missing"
                local calls = {
                    [t:declare_start { { name = added, partitions = 3 }, { name = topic, partitions = 2 } }] = 0,
                    [t:declare_start { { name = missing, is_external = true, at = "app.lua:5" } }] = C.SHOVE_ECONFIG,
                    [t:declare_start {}] = 0,
                }
                assert.equal(0, #t.events.declared)
                for _, told in ipairs(t:wait_events("declared", 3)) do
                    assert.equal(calls[told.opaque], told.code, told.text)
                    calls[told.opaque] = nil
                    if told.code == 0 then
                        assert.equal("", told.text)
                    else
                        assert.matches("app.lua:5: topic '" .. missing .. "' is external", told.text, 1, true)
                    end
                end
                assert.same({}, calls)
                assert.equal(3, t:partition_count(added))
                assert.equal(0, t:publish(added, { { payload = "v" } })[1].code)
            end)

            it("are found by what their names begin with, and looking creates none", function()
                local t, topic = opened(1)
                assert(t:declare { { name = topic .. "-b" }, { name = topic .. "-a", partitions = 2 }, { name = "x-" .. topic } })
                t:wait(function() return #t:topic_names(topic) == 3 end, "the broker to know of all")
                assert.same({ topic, topic .. "-a", topic .. "-b" }, t:topic_names(topic))
                assert.same({ topic .. "-a" }, t:topic_names(topic .. "-a"))
                assert.same({}, t:topic_names(topic .. "-c"))
                local _, code = t:partition_count(topic .. "-c")
                assert.equal(C.SHOVE_ENOTOPIC, code)
                local all = table.concat(t:topic_names "", " ")
                assert.truthy(all:find("x-" .. topic, 1, true) and all:find(topic .. "-b", 1, true), all)
            end)

            it("are never created by publishing", function()
                local t = opened(1)
                local missing = unique "missing"
                local acks = t:publish(missing, { { payload = "x" } })
                assert.equal(C.SHOVE_ENOTOPIC, acks[1].code)
                local count, code = t:partition_count(missing)
                assert.is_nil(count)
                assert.equal(C.SHOVE_ENOTOPIC, code)
            end)

            it("that do not exist cannot be consumed", function()
                local t = opened(1)
                local sub, code = t:subscribe { group = unique "group", topics = { unique "missing" } }
                if sub then
                    local ended = t:finish(sub)
                    code = ended.code
                end
                assert.equal(C.SHOVE_ENOTOPIC, code)
            end)
        end)

        describe("publishing", function()
            it("acknowledges every record once, with its partition and offset", function()
                local t, topic = opened(1)
                local acks = all_acknowledged(t:publish(topic, texts(1, 200)))
                for i, ack in ipairs(acks) do
                    assert.equal(0, ack.partition)
                    assert.equal(i - 1, ack.offset)
                end
                assert.equal(200, #t.events.produced)
            end)

            it("puts a record where it is told to", function()
                local t, topic = opened(4)
                local acks = all_acknowledged(t:publish(topic, {
                    { payload = "a", partition = 3 }, { payload = "b", partition = 1, key = "k" },
                }))
                assert.equal(3, acks[1].partition)
                assert.equal(1, acks[2].partition)
            end)

            it("says that a partition is not there, not that the topic is not, and goes on", function()
                local t, topic = opened(4)
                local acks = t:publish(topic, {
                    { payload = "a", partition = 4 }, { payload = "b", partition = 3 }, { payload = "c", partition = 99 },
                })
                assert.same({ C.SHOVE_ENOPARTITION, 0, C.SHOVE_ENOPARTITION }, { acks[1].code, acks[2].code, acks[3].code })
                all_acknowledged(t:publish(topic, texts(1, 10)))
            end)

            it("puts a key where Java's partitioner puts it", function()
                local t, topic = opened(8)
                local records = {}
                for _, vector in ipairs(MURMUR2) do table.insert(records, { key = vector[1], payload = "x" }) end
                for i, ack in ipairs(all_acknowledged(t:publish(topic, records))) do
                    assert.equal(bit.band(MURMUR2[i][2], 0x7fffffff) % 8, ack.partition)
                end
            end)

            it("spreads records without a key over the partitions", function()
                local t, topic = opened(4)
                local used = {}
                local acks = all_acknowledged(t:publish(topic, texts(1, 2000)))
                for _, ack in ipairs(acks) do used[ack.partition] = true end
                assert.same({ [0] = true, true, true, true }, used)
            end)

            it("passes large messages of 10 MiB, and their headers on top", function()
                local t, topic = opened(1)
                local sub, claims = subscribed(t, topic, 1)
                local payload = ("0123456789abcdef"):rep(TEN_MIB / 16)
                all_acknowledged(t:publish(topic, {
                    { payload = payload, headers = { { "h", ("v"):rep(1000) } } }, { payload = "after" },
                }))
                local records = t:take(claims, 2)
                assert.is_true(records[1].payload == payload)
                assert.equal(1000, #records[1].headers[1][2])
                assert.equal("after", records[2].payload)
                t:leave(sub)
            end)

            it("refuses a record that is too large, alone", function()
                local t, topic = opened(1, { max_message_size_bytes = 1024 * 1024 })
                local too_large = ("x"):rep(32 * 1024 * 1024)
                local acks = t:publish(topic, { { payload = "a" }, { payload = too_large }, { payload = "b" } })
                assert.same({ 0, C.SHOVE_ETOOLARGE, 0 }, { acks[1].code, acks[2].code, acks[3].code })
                assert.equal(2, #t:read_all(topic))
            end)

            it("says when its queue is full, and when there is room again", function()
                local t, topic = opened(1)
                local payload = ("x"):rep(256 * 1024)
                local queued, code = 0, nil
                for _ = 1, 2000 do
                    local opaque
                    opaque, code = t:produce(topic, { payload = payload })
                    if not opaque then break end
                    queued = queued + 1
                end
                assert.equal(C.SHOVE_EAGAIN, code)
                local before = #t.events.readable
                t:wait(function() return #t.events.readable > before end, "room")
                t:wait_events("produced", queued)
                for _, event in ipairs(t.events.produced) do assert.equal(0, event.code) end
                all_acknowledged(t:publish(topic, { { payload = "more" } }))
            end)

            it("acknowledges only what a new process can read", function()
                if not can "SHOVE_CAN_PERSIST" then pending(target.name .. " keeps nothing") end
                local t, topic = opened(4)
                local acks = all_acknowledged(t:publish(topic, texts(1, 500)))
                t:close()
                local reader = peer(target.broker(), "consume", unique "group", topic)
                local last = 0
                local seen = {}
                reader:wait_for("assigned", driver.deadline_ms)
                while last < 500 do
                    local line = reader:wait_for("^took", driver.deadline_ms)
                    reader:mark()
                    last = 0
                    for _, entry in ipairs(reader.lines) do
                        local partition, offset, payload = entry.text:match "^took (%d+) (%d+) (%d+)"
                        if partition then
                            last = last + 1
                            seen[partition .. ":" .. offset] = tonumber(payload)
                        end
                    end
                    assert(line)
                end
                for i, ack in ipairs(acks) do assert.equal(i, seen[ack.partition .. ":" .. ack.offset]) end
                reader:close_stdin()
                assert.equal(0, (reader:wait_exit(driver.deadline_ms)))
            end)
        end)

        describe("consuming", function()
            it("hands out every partition with its start offset", function()
                local t, topic = opened(6)
                all_acknowledged(t:publish(topic, texts(1, 60)))
                local sub, claims = subscribed(t, topic, 6)
                local partitions = {}
                for _, claim in ipairs(claims) do
                    partitions[claim.partition] = claim.offset
                    assert.is_false(claim.has_committed)
                    assert.equal("", claim.text)
                end
                assert.same({ [0] = 0, 0, 0, 0, 0, 0 }, partitions)
                t:leave(sub)
            end)

            it("gives every record once, in the order of its partition", function()
                local t, topic = opened(3)
                local acks = all_acknowledged(t:publish(topic, texts(1, 3000)))
                local sub, claims = subscribed(t, topic, 3)
                local records = t:take(claims, 3000, 37)
                assert.equal(3000, #records)
                local expected = {}
                for i, ack in ipairs(acks) do expected[ack.partition .. ":" .. ack.offset] = tostring(i) end
                for partition, list in pairs(by_partition(records)) do
                    for i, record in ipairs(list) do
                        assert.equal(i - 1, record.offset)
                        assert.equal(expected[partition .. ":" .. record.offset], record.payload)
                    end
                end
                for _, claim in ipairs(claims) do assert.same({}, t:take_once(claim.claim, 10)) end
                t:leave(sub)
            end)

            it("keeps bytes, null payloads, empty values, binary and duplicate headers, their order and timestamps",
                function()
                -- Time-based retention would take records as old as these.
                local t = assert(driver.open(target.broker()))
                local topic = new_topic(t, { partitions = 1, retention_ms = -1 })
                local binary = {}
                for byte = 0, 255 do table.insert(binary, string.char(byte)) end
                binary = table.concat(binary)
                local sent = {
                    { key = binary, payload = binary, timestamp_ms = 1600000000123,
                        headers = {
                            { "b", binary }, { "a", "1" }, { "b", "2" }, { "", "no name" }, { "null" }, { "e", "" },
                        } },
                    { key = "k", timestamp_ms = 1600000000124, headers = {} }, -- a tombstone
                    { payload = "", timestamp_ms = 1600000000125, headers = { { "only" } } }, -- no key, empty payload
                    { key = "", payload = "x", timestamp_ms = 1, headers = {} }, -- an empty key
                    { timestamp_ms = 1600000000126, headers = {} }, -- nothing at all
                }
                for _, record in ipairs(sent) do record.partition = 0 end
                all_acknowledged(t:publish(topic, sent))
                local sub, claims = subscribed(t, topic, 1)
                local records = t:take(claims, #sent)
                for i, record in ipairs(records) do
                    assert.equal(sent[i].key, record.key)
                    assert.equal(sent[i].payload, record.payload)
                    assert.equal(sent[i].timestamp_ms, record.timestamp_ms)
                    assert.same(sent[i].headers, record.headers)
                end
                t:leave(sub)
            end)

            it("stamps a record without a timestamp with the time it was published", function()
                local t, topic = opened(1)
                local before = tonumber(C.shove_clock_wall_ms())
                all_acknowledged(t:publish(topic, { { payload = "x" } }))
                local record = t:read_all(topic)[1]
                assert.is_true(record.timestamp_ms >= before - 1000)
                assert.is_true(record.timestamp_ms <= tonumber(C.shove_clock_wall_ms()) + 1000)
            end)

            it("tells when records arrive later", function()
                local t, topic = opened(2)
                local sub, claims = subscribed(t, topic, 2)
                for _, claim in ipairs(claims) do assert.same({}, t:take_once(claim.claim, 10)) end
                for round = 1, 5 do
                    all_acknowledged(t:publish(topic, texts(round, round)))
                    assert.same({ tostring(round) }, payloads(t:take(claims, 1)))
                end
                t:leave(sub)
            end)

            it("knows how much is left beyond what was taken", function()
                local t, topic = opened(1)
                all_acknowledged(t:publish(topic, texts(1, 50)))
                local sub, claims = subscribed(t, topic, 1)
                local taken = 0
                while taken < 20 do
                    taken = taken + #t:take_once(claims[1].claim, 20 - taken)
                    if taken < 20 then
                        local before = #t.events.readable
                        t:wait(function() return #t.events.readable > before end, "records")
                    end
                end
                t:wait(function() return t:backlog(claims[1].claim) == 30 end, "a backlog of 30")
                t:take(claims, 30)
                assert.equal(0, t:backlog(claims[1].claim))
                t:leave(sub)
            end)

            it("ends with what it has no memory for, and says so", function()
                if pcall(function() return ffi.C.__asan_init end) then pending "AddressSanitizer ends the program instead" end
                local t, topic = opened(1)
                all_acknowledged(t:publish(topic, texts(1, 3)))
                local sub, claims = subscribed(t, topic, 1)
                local records, code
                t:wait(function() -- more than an address space holds
                    records, code = t:take_once(claims[1].claim, 2 ^ 45)
                    return not records or #records > 0
                end, "an answer")
                assert.equal(C.SHOVE_ENOMEM, code)
                assert.equal(C.SHOVE_ENOMEM, t:finish(sub).code)
            end)

            it("keeps a batch valid after its claim is gone", function()
                local t, topic = opened(1)
                all_acknowledged(t:publish(topic, texts(1, 5)))
                local sub, claims = subscribed(t, topic, 1)
                local records, batch = {}, nil
                t:wait(function()
                    if #records == 0 then records, batch = t:take_once(claims[1].claim, 5, true) end
                    if #records == 0 then t:call("batch_release", batch) end
                    return #records > 0
                end, "records")
                t:leave(sub)
                local again = t:decode_batch(batch, 0)
                for i, record in ipairs(again) do assert.equal(tostring(i), record.payload) end
                assert.equal(#records, #again)
                t:call("batch_release", batch)
            end)

            it("lets several groups read one topic, each at its own place", function()
                local t, topic = opened(2)
                all_acknowledged(t:publish(topic, texts(1, 20)))
                local first, first_claims = subscribed(t, topic, 2)
                local second, second_claims = subscribed(t, topic, 2)
                assert.equal(20, #t:take(first_claims, 20))
                assert.equal(20, #t:take(second_claims, 20))
                t:leave(first)
                all_acknowledged(t:publish(topic, { { payload = "21" } }))
                assert.same({ "21" }, payloads(t:take(second_claims, 1)))
                t:leave(second)
            end)

            it("takes several topics into one subscription", function()
                local t, topic = opened(2)
                local other = new_topic(t, { partitions = 3 })
                all_acknowledged(t:publish(topic, texts(1, 10)))
                all_acknowledged(t:publish(other, texts(11, 20)))
                local sub = assert(t:subscribe { group = unique "group", topics = { topic, other } })
                local claims = t:wait_claims(sub, 5)
                local seen = {}
                for _, claim in ipairs(claims) do seen[claim.topic .. claim.partition] = true end
                for _, name in ipairs { topic .. 0, topic .. 1, other .. 0, other .. 1, other .. 2 } do
                    assert.is_true(seen[name])
                end
                for _, record in ipairs(t:take(claims, 20)) do
                    assert.equal(tonumber(record.payload) <= 10 and topic or other, record.topic)
                end
                t:leave(sub)
            end)

            it("assigns partitions that are added later", function()
                if not can "SHOVE_CAN_EXPAND" then pending(target.name .. " cannot add partitions") end
                local t, topic = opened(1, target.fast_metadata)
                local sub = subscribed(t, topic, 1)
                assert(t:declare { { name = topic, partitions = 3 } })
                local seen = {}
                for _, claim in ipairs(t:wait_claims(sub, 3)) do seen[claim.partition] = true end
                assert.same({ [0] = true, true, true }, seen)
                t:leave(sub)
            end)
        end)

        describe("reset policies", function()
            it("earliest begins with what there is", function()
                local t, topic = opened(1)
                all_acknowledged(t:publish(topic, texts(1, 3)))
                local sub, claims = subscribed(t, topic, 1, { reset = "earliest" })
                assert.equal(0, claims[1].offset)
                assert.same({ "1", "2", "3" }, payloads(t:take(claims, 3)))
                t:leave(sub)
            end)

            it("latest begins with what comes", function()
                local t, topic = opened(1)
                all_acknowledged(t:publish(topic, texts(1, 3)))
                local sub, claims = subscribed(t, topic, 1, { reset = "latest" })
                assert.equal(3, claims[1].offset)
                assert.is_false(claims[1].has_committed)
                all_acknowledged(t:publish(topic, texts(4, 4)))
                assert.same({ "4" }, payloads(t:take(claims, 1)))
                t:leave(sub)
            end)

            it("latest skips nothing of a partition that was added while nobody consumed", function()
                local t, topic = opened(2)
                for partition = 0, 1 do
                    all_acknowledged(t:publish(topic, { { payload = "before", partition = partition } }))
                end
                local group = unique "group"
                assert(t:committed_set(group, topic, 0, 1, ""))
                local sub, claims = subscribed(t, topic, 2, { reset = "latest", group = group })
                for _, claim in ipairs(claims) do assert.equal(1 - claim.partition, claim.offset) end
                t:leave(sub)
            end)

            it("none ends a subscription that has committed nothing, and says so", function()
                local t, topic = opened(1)
                local group = unique "group"
                local sub = assert(t:subscribe { group = group, topics = { topic }, reset = "none" })
                local ended = t:finish(sub)
                assert.equal(C.SHOVE_EOFFSET, ended.code)
                assert.matches(topic, ended.text, 1, true)
                assert.matches(group, ended.text, 1, true)
                assert(t:committed_set(group, topic, 0, 0, ""))
                local again = subscribed(t, topic, 1, { group = group, reset = "none" })
                t:leave(again)
            end)
        end)

        describe("the topics of a subscription that are holds", function()
            for _, reset in ipairs { "latest", "none" } do
                for what, committed in pairs { ["nothing"] = false, ["an offset that is not there"] = 7 } do
                    it(("begin with what there is, though the policy is %s and committed is %s"):format(reset, what),
                        function()
                            local t, topic = opened(1)
                            local hold, group = unique "hold", unique "group"
                            assert(t:declare { { name = hold, partitions = 1, role = "hold" } })
                            all_acknowledged(t:publish(hold, texts(1, 2)))
                            assert(t:committed_set(group, topic, 0, 0, ""))
                            if committed then assert(t:committed_set(group, hold, 0, committed, "")) end
                            local sub = assert(t:subscribe {
                                group = group, topics = { topic, hold }, reset = reset, holds = 1,
                            })
                            assert.same({ "1", "2" }, payloads(t:take(t:wait_claims(sub, 2), 2)))
                            t:leave(sub)
                        end)
                end
            end
        end)

        describe("offsets", function()
            it("resume at the committed offset with its metadata", function()
                local t, topic = opened(2)
                all_acknowledged(t:publish(topic, {
                    { payload = "1", partition = 0 }, { payload = "2", partition = 0 },
                    { payload = "3", partition = 0 },
                    { payload = "4", partition = 1 },
                }))
                local sub, claims, group = subscribed(t, topic, 2)
                t:take(claims, 4)
                local metadata = ("A"):rep(tonumber(t.ops.metadata_max))
                for _, claim in ipairs(claims) do
                    if claim.partition == 0 then
                        local entry = { claim = claim.claim, offset = 2, metadata = metadata }
                        assert.same({ 0 }, t:commit(sub, { entry }))
                    end
                end
                t:leave(sub)
                local again, new_claims = subscribed(t, topic, 2, { group = group })
                for _, claim in ipairs(new_claims) do
                    assert.equal(claim.partition == 0 and 2 or 0, claim.offset)
                    assert.equal(claim.partition == 0, claim.has_committed)
                    assert.equal(claim.partition == 0 and metadata or "", claim.text)
                end
                assert.same({ "3", "4" }, payloads(t:take(new_claims, 2)))
                t:leave(again)
            end)

            it("survive the process that committed them", function()
                if not can "SHOVE_CAN_PERSIST" then pending(target.name .. " keeps nothing") end
                local t, topic = opened(1)
                all_acknowledged(t:publish(topic, texts(1, 3)))
                local sub, claims, group = subscribed(t, topic, 1)
                assert.same({ 0 }, t:commit(sub, { { claim = claims[1].claim, offset = 2, metadata = "m" } }))
                t:leave(sub)
                t:close()
                local other = assert(driver.open(target.broker()))
                local offset, metadata = other:committed_get(group, topic, 0)
                assert.equal(2, offset)
                assert.equal("m", metadata)
            end)

            it("are applied in the order of the calls", function()
                local t, topic = opened(1)
                all_acknowledged(t:publish(topic, texts(1, 40)))
                local sub, claims, group = subscribed(t, topic, 1)
                local opaques = {}
                for i = 1, 30 do
                    local entry = { claim = claims[1].claim, offset = i, metadata = "m" .. i }
                    opaques[i] = assert(t:start_commit(sub, { entry }))
                end
                for _, opaque in ipairs(opaques) do assert.same({ 0 }, t:wait_commit(opaque, 1)) end
                local order = {}
                for _, event in ipairs(t.events.committed) do table.insert(order, event.opaque) end
                assert.same(opaques, order)
                t:leave(sub)
                local offset, metadata = t:committed_get(group, topic, 0)
                assert.equal(30, offset)
                assert.equal("m30", metadata)
            end)

            it("that cannot be committed fail by themselves", function()
                local t, topic = opened(2)
                local sub, claims, group = subscribed(t, topic, 2)
                local codes = t:commit(sub, {
                    { claim = claims[1].claim, offset = 1, metadata = ("x"):rep(2 * tonumber(t.ops.metadata_max)) },
                    { claim = claims[2].claim, offset = 1, metadata = "good" },
                })
                assert.is_true(codes[1] < 0)
                assert.equal(0, codes[2])
                t:leave(sub)
                local offset = t:committed_get(group, topic, claims[1].partition)
                assert.equal(-1, offset)
                assert.equal(1, (t:committed_get(group, topic, claims[2].partition)))
            end)

            it("can be committed while a partition is being revoked", function()
                local t, topic = opened(1)
                all_acknowledged(t:publish(topic, texts(1, 3)))
                local sub, claims, group = subscribed(t, topic, 1)
                t:take(claims, 3)
                t:call("unsubscribe", sub.handle)
                t:wait_events("revoking", 1)
                assert.same({ 0 }, t:commit(sub, { { claim = claims[1].claim, offset = 3, metadata = "last" } }))
                local ended = t:finish(sub)
                assert.equal(0, ended.code)
                assert.equal(3, (t:committed_get(group, topic, 0)))
            end)

            for _, reset in ipairs { "earliest", "latest" } do
                it(("below what is still kept begin with the oldest that is, under '%s', too"):format(reset), function()
                    local t, topic = opened(1)
                    all_acknowledged(t:publish(topic, texts(1, 10)))
                    local group = unique "group"
                    assert(t:committed_set(group, topic, 0, 2, "old"))
                    assert(t:delete_before(topic, 0, 5))
                    local sub, claims = subscribed(t, topic, 1, { group = group, reset = reset })
                    assert.equal("6", t:take(claims, 5)[1].payload)
                    t:leave(sub)
                end)
            end
        end)

        describe("leaving", function()
            it("gives a partition up only when released", function()
                local t, topic = opened(3)
                local sub, claims = subscribed(t, topic, 3)
                t:call("unsubscribe", sub.handle)
                t:wait_events("revoking", 3)
                t:release { claims[1].claim }
                -- Something else must happen before we believe that nothing does.
                all_acknowledged(t:publish(topic, { { payload = "x" } }))
                assert.is_nil(t:has_ended(sub))
                t:release { claims[2].claim, claims[3].claim }
                local ended = t:wait_ended(sub)
                assert.equal(0, ended.code)
            end)

            it("survives take after revoke", function()
                local t, topic = opened(1)
                all_acknowledged(t:publish(topic, texts(1, 3)))
                local sub, claims = subscribed(t, topic, 1)
                t:call("unsubscribe", sub.handle)
                t:wait_events("revoking", 1)
                local records = t:take_once(claims[1].claim, 10)
                assert.is_true(records == nil or #records == 0)
                t:finish(sub)
            end)

            it("lets the group be joined again at once", function()
                local t, topic = opened(2)
                all_acknowledged(t:publish(topic, texts(1, 4)))
                local group
                for _ = 1, 3 do
                    local sub, claims
                    sub, claims, group = subscribed(t, topic, 2, { group = group })
                    assert.equal(4, #t:take(claims, 4))
                    assert.equal(0, t:leave(sub).code)
                end
            end)

            it("and closing with everything still open leaves nothing behind", function()
                local t, topic = opened(2)
                all_acknowledged(t:publish(topic, texts(1, 100)))
                local sub, claims = subscribed(t, topic, 2)
                t:take(claims, 100)
                assert(sub)
                t:produce(topic, { payload = "not acknowledged" })
                assert(t:start_commit(sub, { { claim = claims[1].claim, offset = 1 } }))
                t:close()
            end)
        end)

        describe("other processes", function()
            it("wake a consumer when they publish", function()
                if not can "SHOVE_CAN_PUBLISH_OUTSIDE" then
                    pending(target.name .. " is seen by its own process alone")
                end
                local t, topic = opened(2)
                local sub, claims = subscribed(t, topic, 2)
                for _, claim in ipairs(claims) do t:take_once(claim.claim, 10) end
                local other = peer(target.broker(), "publish", topic, "3", "from-outside-")
                local records = t:take(claims, 3)
                assert.same({ "from-outside-1", "from-outside-2", "from-outside-3" }, payloads(records))
                assert.equal(0, (other:wait_exit(driver.deadline_ms)))
                t:leave(sub)
            end)

            it("are refused a group that is being consumed, and told by whom", function()
                if not can "SHOVE_CAN_PUBLISH_OUTSIDE" then
                    pending(target.name .. " is seen by its own process alone")
                end
                if can "SHOVE_CAN_SHARE" then pending(target.name .. " shares a group between processes") end
                local t, topic = opened(1)
                local sub, _, group = subscribed(t, topic, 1)
                local other = peer(target.broker(), "consume", group, topic)
                local line = other:wait_for("error EBUSY", driver.deadline_ms)
                assert.matches("pid " .. uv.os_getpid(), line, 1, true)
                other:wait_exit(driver.deadline_ms)
                t:leave(sub)
                local third = peer(target.broker(), "consume", group, topic)
                third:wait_for("assigned 1", driver.deadline_ms)
                local _, code, text = t:subscribe { group = group, topics = { topic } }
                assert.equal(C.SHOVE_EBUSY, code)
                assert.matches("pid " .. third.pid, text, 1, true)
                third:kill "sigkill"
                third:wait_exit(driver.deadline_ms)
                t:leave((subscribed(t, topic, 1, { group = group })))
            end)

            it("share a group, every partition with one of them", function()
                if not can "SHOVE_CAN_SHARE" then
                    pending(target.name .. " has one consumer per group")
                end
                local t, topic = opened(2)
                local sub, claims, group = subscribed(t, topic, 2)
                local other = peer(target.broker(), "consume", group, topic)
                t:wait_events("revoking", 1)
                t:release { t.events.revoking[1].claim }
                wait_for_line(t, other, "assigned 1")
                local kept
                for _, claim in ipairs(claims) do
                    if claim.partition ~= t.events.revoking[1].partition then kept = claim end
                end
                all_acknowledged(t:publish(topic, {
                    { payload = "kept", partition = kept.partition },
                    { payload = "gone", partition = t.events.revoking[1].partition },
                }))
                assert.same({ "kept" }, payloads(t:take({ kept }, 1)))
                wait_for_line(t, other, "^took %d+ 0 gone")
                sub.revoking_before = #t.events.revoking
                t:leave(sub)
            end)
        end)

        describe("scanning", function()
            local function summary(found)
                assert(found.code == 0, ("%d %s"):format(found.code, found.text))
                return { count = #found.records, next = found.next_offset, is_end = found.is_end }
            end

            it("finds nothing in an empty partition, which is its end", function()
                local t, topic = opened(2)
                assert.same({ count = 0, next = 0, is_end = true }, summary(t:scan(topic, 1, -1)))
                assert.same({ count = 0, next = 0, is_end = true }, summary(t:scan(topic, 1, 0)))
                all_acknowledged(t:publish(topic, { { payload = "x", partition = 1 } }))
                assert.same({ count = 0, next = 1, is_end = true }, summary(t:scan(topic, 1, 1)))
                assert.same({ count = 0, next = 1, is_end = true }, summary(t:scan(topic, 1, 1000)))
                assert.same({ count = 0, next = 0, is_end = true }, summary(t:scan(topic, 0, -1)))
            end)

            it("gives records as they are: keys, null payloads, headers, timestamps", function()
                local t = assert(driver.open(target.broker()))
                local topic = new_topic(t, { partitions = 2, retention_ms = -1 })
                local sent = {
                    { key = "a\0b", payload = "one", timestamp_ms = 1600000000123, headers = { { "h", "\0" }, { "h" } } },
                    { key = "a\0b", timestamp_ms = 1600000000124, headers = {} }, -- a tombstone
                    { key = "", payload = "", timestamp_ms = 1600000000125, headers = {} },
                    { payload = "no key", timestamp_ms = 1600000000126, headers = { { "", "" } } },
                    { key = "c", timestamp_ms = 1600000000127, headers = { { "why", "poison" } } },
                }
                for _, record in ipairs(sent) do record.partition = 1 end
                all_acknowledged(t:publish(topic, sent))
                local found = t:scan(topic, 1, -1)
                assert.same({ count = #sent, next = #sent, is_end = true }, summary(found))
                for i, record in ipairs(found.records) do
                    assert.equal(i - 1, record.offset)
                    assert.equal(sent[i].key, record.key)
                    assert.equal(sent[i].payload, record.payload)
                    assert.equal(sent[i].timestamp_ms, record.timestamp_ms)
                    assert.same(sent[i].headers, record.headers)
                end
            end)

            it("begins in the middle when it is told to", function()
                local t, topic = opened(1)
                all_acknowledged(t:publish(topic, texts(1, 50)))
                local found = t:scan(topic, 0, 47)
                assert.same({ count = 3, next = 50, is_end = true }, summary(found))
                assert.same({ "48", "49", "50" }, payloads(found.records))
            end)

            it("begins with the oldest that is kept", function()
                local t, topic = opened(1)
                for i = 1, 20 do all_acknowledged(t:publish(topic, texts(i, i))) end
                assert(t:delete_before(topic, 0, 8))
                for _, offset in ipairs { -1, 0, 7 } do
                    local found = t:scan(topic, 0, offset)
                    assert.same({ count = 12, next = 20, is_end = true }, summary(found))
                    assert.equal(8, found.records[1].offset)
                end
                assert(t:delete_before(topic, 0, 20))
                assert.same({ count = 0, next = 20, is_end = true }, summary(t:scan(topic, 0, -1)))
            end)

            it("goes on where the last scan ended, when there is more than one gives", function()
                local t, topic = opened(1)
                local total = 2 * SCAN_MAX + 10
                all_acknowledged(t:publish(topic, texts(1, total)))
                local offset, seen, scans = -1, 0, 0
                repeat
                    local found = t:scan(topic, 0, offset)
                    summary(found)
                    assert.is_true(#found.records > 0 and #found.records <= SCAN_MAX)
                    for _, record in ipairs(found.records) do
                        assert.equal(seen, record.offset)
                        seen = seen + 1
                        assert.equal(tostring(seen), record.payload)
                    end
                    offset, scans = found.next_offset, scans + 1
                    assert.equal(seen, offset)
                until found.is_end
                assert.equal(total, seen)
                assert.is_true(scans >= 3)
            end)

            it("gives fewer at a time where they are large, and all in the end", function()
                local t, topic = opened(1)
                local payload = ("x"):rep(1024 * 1024)
                local records = {}
                for i = 1, 30 do records[i] = { payload = payload } end
                all_acknowledged(t:publish(topic, records))
                local offset, seen = -1, 0
                repeat
                    local found = t:scan(topic, 0, offset)
                    summary(found)
                    offset, seen = found.next_offset, seen + #found.records
                    assert.equal(seen, offset)
                until found.is_end
                assert.equal(30, seen)
            end)

            it("of many partitions at once is answered in order, each once", function()
                local t, topic = opened(16)
                for partition = 0, 15 do
                    local records = {}
                    for i = 1, partition do records[i] = { payload = partition .. "/" .. i, partition = partition } end
                    all_acknowledged(t:publish(topic, records))
                end
                local opaques = {}
                for partition = 0, 15 do opaques[partition + 1] = assert(t:start_scan(topic, partition, -1)) end
                t:wait_scan(opaques[16])
                assert.equal(16, #t.events.scanned)
                for i, found in ipairs(t.events.scanned) do
                    assert.equal(opaques[i], found.opaque)
                    assert.same({ count = i - 1, next = i - 1, is_end = true }, summary(found))
                    if i > 1 then assert.equal((i - 1) .. "/1", found.records[1].payload) end
                end
            end)

            it("of a topic or a partition that is not there says so, by the event, and goes on with others", function()
                local t, topic = opened(1)
                local missing = unique "missing"
                local opaques = {
                    assert(t:start_scan(missing, 0, -1)), assert(t:start_scan(topic, 1, -1)),
                    assert(t:start_scan(topic, 0, -1)),
                }
                local first, second = t:wait_scan(opaques[1]), t:wait_scan(opaques[2])
                assert.equal(C.SHOVE_ENOTOPIC, first.code)
                assert.matches(missing, first.text, 1, true)
                assert.equal(0, #first.records)
                assert.is_false(first.is_end)
                assert.equal(C.SHOVE_ENOPARTITION, second.code)
                assert.matches(topic, second.text, 1, true)
                assert.same({ count = 0, next = 0, is_end = true }, summary(t:wait_scan(opaques[3])))
                local _, code = t:partition_count(missing)
                assert.equal(C.SHOVE_ENOTOPIC, code)
            end)

            it("can be under way when the transport is closed", function()
                local t, topic = opened(8)
                all_acknowledged(t:publish(topic, texts(1, 1000)))
                for partition = 0, 7 do assert(t:start_scan(topic, partition, -1)) end
                t:close()
                t = assert(driver.open(target.broker()))
                assert(t:declare { { name = topic, partitions = 8 } })
                for partition = 0, 7 do assert(t:start_scan(topic, partition, -1)) end
                t:wait_events("scanned", 1)
                t:close()
            end)
        end)

        describe("operators", function()
            it("read records without a group", function()
                local t, topic = opened(2)
                all_acknowledged(t:publish(topic, {
                    { payload = "a", partition = 1 }, { payload = "b", partition = 1 },
                    { payload = "c", partition = 1 },
                }))
                local records = assert(t:read(topic, 1, 1, 10))
                assert.same({ "b", "c" }, payloads(records))
                assert.equal(1, records[1].offset)
                assert.equal(1, #t:read(topic, 1, 0, 1))
                assert.same({}, t:read(topic, 0, 0, 10, 500))
                local none, code = t:read(unique "missing", 0, 0, 10)
                assert.is_nil(none)
                assert.equal(C.SHOVE_ENOTOPIC, code)
                none, code = t:read(topic, 2, 0, 10)
                assert.is_nil(none)
                assert.equal(C.SHOVE_ENOPARTITION, code)
            end)

            it("see the watermarks", function()
                local t, topic = opened(1)
                assert.same({ 0, 0 }, { t:watermarks(topic, 0) })
                all_acknowledged(t:publish(topic, texts(1, 7)))
                assert.same({ 0, 7 }, { t:watermarks(topic, 0) })
                local low, code = t:watermarks(unique "missing", 0)
                assert.is_nil(low)
                assert.equal(C.SHOVE_ENOTOPIC, code)
                low, code = t:watermarks(topic, 1)
                assert.is_nil(low)
                assert.equal(C.SHOVE_ENOPARTITION, code)
            end)

            it("commit for a group that nobody consumes with", function()
                local t, topic = opened(1)
                local group = unique "triage"
                all_acknowledged(t:publish(topic, texts(1, 5)))
                local offset, metadata = t:committed_get(group, topic, 0)
                assert.equal(-1, offset)
                assert.is_nil(metadata)
                assert(t:committed_set(group, topic, 0, 3, "three"))
                offset, metadata = t:committed_get(group, topic, 0)
                assert.equal(3, offset)
                assert.equal("three", metadata)
                local sub, claims = subscribed(t, topic, 1, { group = group })
                assert.equal(3, claims[1].offset)
                local ok, code = t:committed_set(group, topic, 0, 0, "")
                assert.is_nil(ok)
                assert.is_true(code < 0)
                t:leave(sub)
            end)

            it("delete records before an offset, which moves the low watermark", function()
                local t, topic = opened(1)
                for i = 1, 20 do all_acknowledged(t:publish(topic, texts(i, i))) end
                assert(t:delete_before(topic, 0, 8))
                assert.same({ 8, 20 }, { t:watermarks(topic, 0) })
                assert.equal("9", t:read_all(topic)[1].payload)
                local sub, claims = subscribed(t, topic, 1)
                assert.equal(8, claims[1].offset)
                assert.equal(12, #t:take(claims, 12))
                t:leave(sub)
                assert(t:delete_before(topic, 0, 20))
                assert.same({ 20, 20 }, { t:watermarks(topic, 0) })
                local acks = all_acknowledged(t:publish(topic, texts(21, 21)))
                assert.equal(20, acks[1].offset)
            end)
        end)
    end)
end
