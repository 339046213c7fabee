-- What a message is does not change on its way: on a retry, a dead letter and a replay. Each message is retried once and
-- rejected, replayed and rejected again, replayed and handled. On Kafka others write and read at both ends: kcat, and a
-- client that shares no code with shove; on the embedded broker shove.publish and the handlers are all there is.

local cleanup = require "spec.support.cleanup"
local stage = require "spec.support.stage"

local SOURCE = [[
local shove, stage = require "shove", require "stage"
local app = shove.registry { broker = stage.broker }
local queue = app:topic(stage.name "queue", { hold = { "50ms" }, dlq = true, partitions = 3, codec = "raw" })

local lives = {}
app:register(queue, shove.group { prefetch = 50, concurrent = true }, function(msg)
  if msg.retry_count == 0 then lives[msg.id] = (lives[msg.id] or 0) + 1 end
  stage.note(msg, { life = lives[msg.id] })
  if lives[msg.id] == 1 and msg.retry_count == 0 then return shove.retry end
  return lives[msg.id] < 3 and shove.reject "not yet" or shove.ack
end)

app:dead_letters(queue, { prefetch = 50, concurrent = true }, function(dead) stage.note(dead) end)

PUBLISH
return app
]]

local PUBLISH = [[
app:on_start(function()
  local name, null = stage.name "queue", shove.null
  shove.publish(name, "all \0 bytes \255\r\n", { key = "\0key\254", timestamp = 1500000000001, headers = {
    { "a", "1" }, { "b", "\0\255\n" }, { "a", "2" }, { "empty", "" }, { "null", null }, { "A", "3" }, { "a", "1" },
  } })
  shove.publish(name, nil, { key = "gone", tombstone = true, timestamp = 1500000000002, headers = { h = "v" } })
  shove.publish(name, "no key", { timestamp = 1500000000003 })
  shove.publish(name, "", { key = "", timestamp = 1500000000004 })
end)
]]

local MESSAGES = {
    binary = {
        key = "\0key\254", value = "all \0 bytes \255\r\n", timestamp_ms = 1500000000001,
        headers = {
            { "a", "1" }, { "b", "\0\255\n" }, { "a", "2" }, { "empty", "" }, { "null", nil }, { "A", "3" }, { "a", "1" },
        },
    },
    tombstone = { key = "gone", timestamp_ms = 1500000000002, headers = { { "h", "v" } } },
    keyless = { value = "no key", timestamp_ms = 1500000000003 },
    empty = { key = "", value = "", timestamp_ms = 1500000000004 },
}

-- What only a stranger can send: headers that look like shove's own.
local FORGED = {
    block = {
        key = "block", value = "forged", timestamp_ms = 1500000000005,
        headers = {
            { "h", "v" }, { "Shove-Message-Id", "stranger-1" }, { "Shove-Retry-Count", "9" }, { "Shove-Crash-Count", "9" },
        },
    },
    loose = {
        key = "loose", value = "forged", timestamp_ms = 1500000000006,
        headers = { { "Shove-Retry-Count", "9" }, { "h", "v" } },
    },
}

-- Through kcat, whose arguments cannot hold NUL.
local FROM_KCAT = {
    text = { key = "kcat", value = "v", headers = { { "a", "1" }, { "b", "\255" }, { "a", "2" }, { "null" }, { "e", "" } } },
    tombstone = { key = "kcat-gone", headers = { { "h", "v" } } },
}
local KCAT_HEADERS = { text = "a=1,b=\255,a=2,null=NULL,e=", tombstone = "h=v" }

local function names_of(set)
    local names = {}
    for name in pairs(set) do table.insert(names, name) end
    table.sort(names)
    return names
end

-- Those of others, and shove's own by name; its own stand behind all others, each once.
local function split_headers(headers)
    local others, own = {}, {}
    for _, header in ipairs(headers) do
        if header[1]:find "^Shove%-" then
            assert.is_nil(own[header[1]], header[1] .. " is there twice")
            own[header[1]] = header[2]
        else
            assert.is_nil(next(own), "a header stands behind shove's own")
            table.insert(others, header)
        end
    end
    return others, own
end

local function is_of(message)
    return function(record)
        return record.key == message.key and (record.payload or record.value) == message.value
    end
end

local function filter(list, predicate)
    local found = {}
    for _, each in ipairs(list) do
        if predicate(each) then table.insert(found, each) end
    end
    return found
end

local function assert_is_message(message, call)
    assert.are.equal(message.value, call.payload)
    assert.are.equal(message.key, call.key)
    assert.are.same(message.headers or {}, call.headers)
    if message.timestamp_ms then assert.are.equal(message.timestamp_ms, call.timestamp) end
end

local CALLS_EACH, LETTERS_EACH = 4, 2

-- Lets all messages live three times. `send` publishes what the script does not.
local function live(broker, publish, count, send)
    local s = stage.new(broker, (SOURCE:gsub("PUBLISH", function() return publish end)))
    local p = s:run { "--workers", "1" }
    p:wait_for("running", 20000)
    if send then send(s) end
    for life = 1, 2 do
        s:wait_calls(count * life, { queue = "queue-dlq" })
        local result = s:command("dlq replay", { s:name "queue" })
        assert.are.equal(0, result.code, result.stderr)
        assert.matches("replayed " .. count .. " dead letters", result.stdout, 1, true)
    end
    s:wait_calls(count, { queue = "queue", life = 3 })
    stage.drain(p)
    return s
end

for _, broker in ipairs(stage.brokers) do
    describe("on " .. broker .. ", through handlers,", function()
        local s

        setup(function()
            s = cleanup.for_block(function() return live(broker, PUBLISH, 4) end)
        end)

        for name, message in pairs(MESSAGES) do
            it("bytes, key, headers and timestamp stay on every hop: " .. name, function()
                local calls = filter(s:calls { queue = "queue" }, is_of(message))
                local letters = filter(s:calls { queue = "queue-dlq" }, is_of(message))
                assert.are.equal(CALLS_EACH, #calls)
                assert.are.equal(LETTERS_EACH, #letters)
                for _, call in ipairs(calls) do assert_is_message(message, call) end
                for _, letter in ipairs(letters) do assert_is_message(message, letter) end
            end)

            it("the id stays on every hop, and nobody else has it: " .. name, function()
                local id = filter(s:calls(), is_of(message))[1].id
                assert.matches("^%x+%-%x+%-7%x+%-%x+%-%x+$", id)
                local same = s:calls { id = id }
                assert.are.equal(CALLS_EACH + LETTERS_EACH, #same)
                for _, call in ipairs(same) do assert.is_true(is_of(message)(call)) end
            end)

            it("the place it was published to stays on a retry, and a letter knows it: " .. name, function()
                local calls = filter(s:calls { queue = "queue" }, is_of(message))
                local letters = filter(s:calls { queue = "queue-dlq" }, is_of(message))
                assert.are.same({ calls[1].partition, calls[1].offset }, { calls[2].partition, calls[2].offset })
                assert.are.same({ calls[1].partition, calls[1].offset },
                    { letters[1].original_partition, letters[1].original_offset })
                assert.are.same({ calls[3].partition, calls[3].offset },
                    { letters[2].original_partition, letters[2].original_offset })
            end)
        end

        it("retries count from 0 in every life, deaths go on counting", function()
            for life = 1, 3 do
                assert.are.equal(4, #s:calls { queue = "queue", life = life, retry_count = 0 })
            end
            assert.are.equal(4, #s:calls { queue = "queue", life = 1, retry_count = 1 })
            assert.are.equal(4, #s:calls { queue = "queue-dlq", death_count = 1 })
            assert.are.equal(4, #s:calls { queue = "queue-dlq", death_count = 2 })
        end)
    end)
end

describe("on kafka, between strangers,", function()
    local s, dlq, main, hold
    local count = 0
    for _, list in ipairs { MESSAGES, FORGED, FROM_KCAT } do
        for _ in pairs(list) do count = count + 1 end
    end

    setup(function()
        s = cleanup.for_block(function()
            return live("kafka", "", count, function(at)
                for _, list in ipairs { MESSAGES, FORGED } do
                    for _, message in pairs(list) do at.kafka:produce(at:name "queue", { message }) end
                end
                for _, message in pairs(FROM_KCAT) do at.kafka:kcat_produce(at:name "queue", { message }) end
            end)
        end)
        dlq = s.kafka:read(s:name("queue", "-dlq"))
        main = s.kafka:read(s:name "queue")
        hold = s.kafka:read(s:name("queue", "-hold-50ms"))
    end)

    for name, message in pairs(MESSAGES) do
        it("a handler is given what a stranger wrote: " .. name, function()
            for _, call in ipairs(filter(s:calls(), is_of(message))) do assert_is_message(message, call) end
        end)

        it("a stranger reads from DLQ, hold and replayed queue what a stranger wrote: " .. name, function()
            local letters = filter(dlq, is_of(message))
            local replayed = filter(main, is_of(message))
            local held = filter(hold, is_of(message))
            assert.are.same({ 2, 3, 1 }, { #letters, #replayed, #held })
            for _, list in ipairs { letters, replayed, held } do
                for _, record in ipairs(list) do
                    local others = split_headers(record.headers)
                    assert.are.same(message.headers or {}, others)
                    if list ~= held then assert.are.equal(message.timestamp_ms, record.timestamp_ms) end
                end
            end
        end)
    end

    it("kcat reads from the DLQ what kcat wrote", function()
        local records = s.kafka:kcat_read(s:name("queue", "-dlq"))
        for name, message in pairs(FROM_KCAT) do
            local found = filter(records, is_of(message))
            assert.are.equal(2, #found)
            for _, record in ipairs(found) do
                assert.are.equal(KCAT_HEADERS[name], record.headers:match "^(.-),Shove%-Message%-Id=")
                assert.are.equal(filter(s:calls(), is_of(message))[1].timestamp, record.timestamp_ms)
            end
        end
    end)

    it("a message that came without an id is called by its place, for good", function()
        local calls = filter(s:calls(), is_of(MESSAGES.binary))
        local first = calls[1]
        local id = ("%s/%d/%d"):format(s:name "queue", first.partition, first.offset)
        for _, call in ipairs(calls) do assert.are.equal(id, call.id) end
    end)

    it("a dead letter has these headers behind the original ones, and no others", function()
        local letter = filter(dlq, is_of(MESSAGES.binary))[1]
        local _, own = split_headers(letter.headers)
        local call = filter(s:calls(), is_of(MESSAGES.binary))[1]
        assert.are.same({
            "Shove-Death-Count", "Shove-Death-Reason", "Shove-Died", "Shove-Error", "Shove-First-Seen", "Shove-Group",
            "Shove-Message-Id", "Shove-Original-Offset", "Shove-Original-Partition", "Shove-Original-Queue",
            "Shove-Original-Timestamp", "Shove-Retry-Count",
        }, names_of(own))
        assert.are.equal(call.id, own["Shove-Message-Id"])
        assert.are.equal("1", own["Shove-Retry-Count"])
        assert.are.equal("rejected", own["Shove-Death-Reason"])
        assert.are.equal("1", own["Shove-Death-Count"])
        assert.are.equal(s:name "queue", own["Shove-Original-Queue"])
        assert.are.equal(tostring(call.partition), own["Shove-Original-Partition"])
        assert.are.equal(tostring(call.offset), own["Shove-Original-Offset"])
        assert.are.equal(s:name("queue", "-consumer"), own["Shove-Group"])
        assert.are.equal("not yet", own["Shove-Error"])
    end)

    it("a hold has the attempt, the group and the moment it is due, and is of now for the broker", function()
        for _, message in pairs(MESSAGES) do
            local record = filter(hold, is_of(message))[1]
            local _, own = split_headers(record.headers)
            assert.are.equal("1", own["Shove-Retry-Count"])
            assert.are.equal(s:name("queue", "-consumer"), own["Shove-Group"])
            -- The handler's clock, not the record's, which is read a moment later.
            assert.is_true(tonumber(own["Shove-Due"]) >= filter(s:calls(), is_of(message))[1].at_ms + 50)
            assert.is_true(math.abs(record.timestamp_ms - os.time() * 1000) < 600000)
        end
    end)

    it("an attempt that a stranger wrote on the queue is not believed", function()
        for _, message in pairs(FORGED) do
            local calls = filter(s:calls { queue = "queue" }, is_of(message))
            assert.are.same({ 0, 1, 0, 0 },
                { calls[1].retry_count, calls[2].retry_count, calls[3].retry_count, calls[4].retry_count })
            assert.are.equal(CALLS_EACH, #calls)
        end
    end)

    it("the id of a whole block of shove's headers is kept, the rest of it is not the message's", function()
        for _, call in ipairs(filter(s:calls(), is_of(FORGED.block))) do
            assert.are.equal("stranger-1", call.id)
            assert.are.same({ { "h", "v" } }, call.headers)
        end
    end)

    it("a header called like one of shove's, but not in a block of them, is the stranger's and stays", function()
        for _, call in ipairs(filter(s:calls(), is_of(FORGED.loose))) do
            assert.are.same(FORGED.loose.headers, call.headers)
        end
    end)
end)
