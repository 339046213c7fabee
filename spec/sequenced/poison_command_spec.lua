-- `shove poison`: which keys of a fail_all topic are poisoned, and having them handled again. Records are laid into the
-- poison topic by the spec, so that every byte is known.

local cjson = require "cjson"
local app = require "spec.support.app"
local driver = require "spec.transport.driver"
local kafka = require "spec.support.kafka"
local tmp = require "spec.support.tmp"
local unique = require "spec.support.unique"

local USAGE, UNAVAILABLE, CONFIG = 64, 69, 78
local AT_MS = 1700000000000 -- 2023-11-14T22:13:20Z
local PARTITIONS = 4
local LONG = ("k"):rep(70000)

local SOURCE = [[
local shove = require "shove"
local app = shove.registry { broker = "BROKER" }
local function key(body) return body.id end
local fail_all = { sequenced = "fail_all", key = key, hold = { "1s" }, dlq = true, shards = 4 }
app:topic("QUEUE", fail_all)
app:topic("SKIPS", { sequenced = "skip", key = key, hold = { "1s" }, dlq = true })
app:topic("PLAIN", { hold = { "1s" }, dlq = true })
app:topic("SHARED", fail_all)
fail_all.for_group = "audit"
app:topic("SHARED", fail_all)
return app
]]

local BROKERS = {
    embedded = function(dir) return "embedded:" .. dir .. "/shove.db" end,
    Kafka = function() return kafka.shared().url end,
}

local function new(url)
    local s = { url = url, shared = unique "shared", queue = unique "payments" }
    local words = { BROKER = url, QUEUE = s.queue, SHARED = s.shared, SKIPS = "skips", PLAIN = "plain" }
    s.app = app.new { source = SOURCE:gsub("%u%u%u+", words) }
    s.poison = s.queue .. "-poison"
    return s
end

local function shove(s, command, topic, ...)
    return s.app:command("poison " .. command, { topic, ... })
end

local function answer(s, command, ...)
    local result = shove(s, command, s.queue, ...)
    assert.equal(0, result.code, result.stderr)
    return result.stdout, result.stderr
end

-- Opens the broker and makes the poison topic.
local function prepare(s, name)
    s.client = assert(driver.open(s.url))
    assert(s.client:declare { { name = name or s.poison, role = "dlq", partitions = PARTITIONS, is_keyed = true } })
end

local function payload(offset, reason, poisoned_ms)
    return ('{"offset":%d,"reason":"%s","poisoned_at":%.0f}'):format(offset, reason or "rejected", poisoned_ms or AT_MS)
end

-- Records { key, payload (nil: a tombstone), partition }.
local function lay(s, records, name)
    for _, result in ipairs(s.client:publish(name or s.poison, records)) do assert.equal(0, result.code) end
end

local function listed(s, ...)
    local found = {}
    for line in answer(s, "list", "--json", ...):gmatch "[^\n]+" do table.insert(found, cjson.decode(line)) end
    return found
end

local function listed_keys(s, ...)
    local keys = {}
    for i, key in ipairs(listed(s, ...)) do keys[i] = key.key or key.key_base64 end
    return keys
end

local function tombstones(s)
    local found = {}
    for _, record in ipairs(s.client:read_all(s.poison)) do
        if not record.payload then table.insert(found, { record.key, record.partition }) end
    end
    return found
end

for broker, url in pairs(BROKERS) do
    describe("shove poison on " .. broker, function()
        local s

        before_each(function()
            s = new(url(tmp.dir()))
            prepare(s)
        end)

        describe("list", function()
            it("shows the keys that are poisoned, in a table", function()
                lay(s, {
                    { key = "customer-7", payload = payload(17), partition = 2 },
                    { key = "customer-8", payload = payload(4, "max_retries_exceeded"), partition = 0 },
                })
                local text = answer(s, "list")
                assert.matches("^KEY +PARTITION +OFFSET +REASON +POISONED AT\n", text)
                assert.matches("\ncustomer%-8 +0 +4 +max_retries_exceeded +2023%-11%-14T22:13:20.000Z\n", text)
                assert.matches("\ncustomer%-7 +2 +17 +rejected +2023%-11%-14T22:13:20.000Z\n", text)
                assert.matches("\n2 keys are poisoned\n$", text)
                assert.equal(text, shove(s, "list", s.poison).stdout)
                assert.matches("\n1 key is poisoned\n$", (answer(s, "list", "--key", "customer-7")))
            end)

            it("says so when there is none", function()
                assert.equal("no key is poisoned\n", (answer(s, "list")))
                assert.same({}, listed(s))
            end)

            it("prints one JSON object a line, of every kind of key", function()
                lay(s, {
                    { key = "plain", payload = payload(1, "timeout"), partition = 1 },
                    { key = "", payload = payload(2), partition = 1 },
                    { key = "\0\255", payload = payload(3), partition = 1 },
                    { key = LONG, payload = payload(4), partition = 1 },
                    { key = "\27[31m\n", payload = payload(5), partition = 1 },
                    { key = "new", payload = '{"offset":6,"reason":"of a later version"}', partition = 3 },
                })
                local at = "2023-11-14T22:13:20.000Z"
                assert.same({
                    { key = "plain", partition = 1, offset = 1, reason = "timeout", poisoned_at = at },
                    { key = "", partition = 1, offset = 2, reason = "rejected", poisoned_at = at },
                    { key_base64 = "AP8=", partition = 1, offset = 3, reason = "rejected", poisoned_at = at },
                    { key = LONG, partition = 1, offset = 4, reason = "rejected", poisoned_at = at },
                    { key = "\27[31m\n", partition = 1, offset = 5, reason = "rejected", poisoned_at = at },
                    { key = "new", partition = 3, offset = 6, reason = cjson.null, poisoned_at = cjson.null },
                }, listed(s))
                local text = answer(s, "list")
                assert.is_nil(text:gsub("\n", ""):find "%c")
                assert.matches("\n\\x00\\xff +1 +3 ", text)
                assert.matches("\nk+%.%.%. +1 +4 ", text)
                assert.matches("\nnew +3 +6 +%- +%- *\n", text)
            end)

            it("goes by the latest record of a key in its partition", function()
                lay(s, {
                    { key = "a", payload = payload(1), partition = 0 }, { key = "b", payload = payload(2), partition = 0 },
                    { key = "c", payload = payload(3), partition = 0 }, { key = "a", payload = payload(9), partition = 0 },
                    { key = "b", partition = 0 }, { key = "c", partition = 0 },
                    { key = "c", payload = payload(11), partition = 0 }, { key = "never", partition = 0 },
                    { key = "a", payload = payload(7), partition = 3 }, { key = "a", partition = 2 },
                })
                local found = {}
                for i, key in ipairs(listed(s)) do found[i] = { key.key, key.partition, key.offset } end
                assert.same({ { "a", 0, 9 }, { "c", 0, 11 }, { "a", 3, 7 } }, found)
                assert.same({ "a", "a" }, listed_keys(s, "--key", "a"))
                assert.same({}, listed_keys(s, "--key", "b"))
                assert.same({}, listed_keys(s, "--key", ""))
            end)

            it("reads topics of many records", function()
                local records = {}
                for i = 1, 3000 do
                    local is_cleared = i > 1500
                    records[i] = { key = "key-" .. (i - 1) % 1500, payload = not is_cleared and payload(i) or nil, partition = 1 }
                end
                records[2000] = { key = "key-499", payload = payload(77), partition = 1 }
                lay(s, records)
                assert.same({ "key-499" }, listed_keys(s))
                assert.equal(77, listed(s)[1].offset)
            end)

            it("names records that shove did not write once, and goes by the others", function()
                lay(s, {
                    { key = "good", payload = payload(1), partition = 2 },
                    { key = "good", payload = "not shove's", partition = 2 },
                    { key = "odd", payload = "", partition = 2 }, { key = "odd", payload = "[1]", partition = 2 },
                    { payload = payload(3), partition = 3 },
                })
                local text, complaint = answer(s, "list")
                assert.matches("\ngood +2 +1 .*\n1 key is poisoned\n$", text)
                local _, lines = complaint:gsub("\n", "")
                assert.equal(1, lines, complaint)
                assert.matches("4 records of " .. s.poison .. ", the first at 2:1, were not written by shove: left alone",
                    complaint, 1, true)
            end)
        end)

        describe("clear", function()
            before_each(function()
                lay(s, {
                    { key = "a", payload = payload(1), partition = 0 }, { key = "b", payload = payload(2), partition = 1 },
                    { key = "", payload = payload(3), partition = 1 }, { key = "\0\255", payload = payload(4), partition = 3 },
                    { key = LONG, payload = payload(5), partition = 3 },
                })
            end)

            it("clears a key, in the partition where it is poisoned", function()
                assert.equal("cleared 1 key; a running app goes on with it within 6 s\n", (answer(s, "clear", "b")))
                assert.same({ { "b", 1 } }, tombstones(s))
                assert.same({ "a", "", "AP8=", LONG }, listed_keys(s))
                lay(s, { { key = "b", payload = payload(8), partition = 1 } })
                assert.equal(8, listed(s, "--key", "b")[1].offset)
            end)

            it("clears keys of any bytes", function()
                answer(s, "clear", "")
                answer(s, "clear", "AP8=", "--base64")
                answer(s, "clear", LONG)
                assert.same({ { "", 1 }, { "\0\255", 3 }, { LONG, 3 } }, tombstones(s))
                assert.same({ "a", "b" }, listed_keys(s))
            end)

            it("clears all when no key is given, and then there are none", function()
                assert.equal("cleared 5 keys; a running app goes on with them within 6 s\n", (answer(s, "clear")))
                assert.equal(5, #tombstones(s))
                assert.same({}, listed(s))
                assert.equal("no key is poisoned\n", (answer(s, "clear")))
                assert.equal(5, #tombstones(s))
            end)

            it("clears a key in every partition where it is poisoned", function()
                lay(s, { { key = "a", payload = payload(6), partition = 2 } })
                assert.matches("cleared 2 keys", answer(s, "clear", "a"), 1, true)
                assert.same({ { "a", 0 }, { "a", 2 } }, tombstones(s))
            end)

            it("fails for a key that is not poisoned, and writes nothing", function()
                for _, line in ipairs { { "c" }, { "c", "--dry-run" }, { "B" }, { "bb" } } do
                    local result = shove(s, "clear", s.queue, unpack(line))
                    assert.equal(1, result.code)
                    assert.matches("the key '" .. line[1] .. "' is not poisoned", result.stderr, 1, true)
                end
                assert.same({}, tombstones(s))
            end)

            it("with --dry-run says what it would do and does nothing", function()
                local text = answer(s, "clear", "--dry-run")
                assert.matches("^KEY .*\nb +1 +2 .*\nwould clear 5 keys\n$", text)
                assert.matches("\nwould clear 1 key\n$", (answer(s, "clear", "a", "--dry-run")))
                assert.same({}, tombstones(s))
            end)

            it("leaves records alone that shove did not write", function()
                lay(s, { { key = "odd", payload = "x", partition = 2 } })
                local text, complaint = answer(s, "clear")
                assert.matches("cleared 5 keys", text, 1, true)
                assert.matches("1 record of " .. s.poison .. ", the first at 2:0, was not written by shove", complaint, 1, true)
                assert.equal(1, shove(s, "clear", s.queue, "odd").code)
            end)

            it("takes a key that begins with a dash behind --", function()
                lay(s, { { key = "-5", payload = payload(6), partition = 2 } })
                answer(s, "clear", "--", "-5")
                assert.same({ { "-5", 2 } }, tombstones(s))
            end)
        end)

        it("creates no topic by looking", function()
            s.poison = s.shared .. "-poison"
            assert.equal("no key is poisoned\n", shove(s, "list", s.poison).stdout)
            assert.equal("no key is poisoned\n", shove(s, "clear", s.poison).stdout)
            assert.equal(1, shove(s, "clear", s.poison, "k").code)
            assert.is_nil((s.client:partition_count(s.poison)))
        end)
    end)
end

describe("shove poison", function()
    local s

    before_each(function() s = new("embedded:" .. tmp.dir() .. "/shove.db") end)

    local function assert_usage(result, ...)
        assert.equal(USAGE, result.code)
        assert.equal("", result.stdout)
        for _, text in ipairs { ... } do assert.matches(text, result.stderr, 1, true) end
    end

    it("says which topics have poisoned keys, for those that have none", function()
        local only = 'only topics with sequenced = "fail_all" have poisoned keys'
        for _, command in ipairs { "list", "clear" } do
            for _, topic in ipairs { "skips", "plain" } do
                assert_usage(shove(s, command, topic), "'" .. topic .. "' has none", "app.lua:", only)
            end
            assert_usage(shove(s, command, s.queue .. "-dlq"), "is a DLQ", only)
        end
    end)

    it("refuses a topic that is not in the app, and a hold", function()
        assert_usage(shove(s, "list", "plian"), "declares no topic 'plian'", "did you mean 'plain'?")
        assert_usage(shove(s, "list", "plain-hold-1s"), "name the queue 'plain'")
        assert_usage(shove(s, "list", "plain-poison"), "declares no topic 'plain-poison'")
    end)

    it("wants the name of the poison topic where a queue has several", function()
        local one, two = s.shared .. "-poison", s.shared .. "-audit-poison"
        assert_usage(shove(s, "list", s.shared), "for each of its groups", "'" .. one .. "' or '" .. two .. "'")
        prepare(s, two)
        lay(s, { { key = "k", payload = payload(1), partition = 1 } }, two)
        assert.matches("1 key is poisoned", shove(s, "list", two).stdout, 1, true)
        assert.equal("no key is poisoned\n", shove(s, "list", one).stdout)
    end)

    it("is the only command that looks at a poison topic by its name", function()
        for _, line in ipairs { { "publish", s.poison, "{}", "-k", "k" }, { "dlq list", s.poison } } do
            assert_usage(s.app:command(table.remove(line, 1), line),
                ("'%s' keeps the poisoned keys of '%s', and only shove writes to it"):format(s.poison, s.queue))
        end
    end)

    it("refuses options and operands that make no sense", function()
        assert_usage(shove(s, "list", s.queue, "k"), "'k' is one operand too many")
        assert_usage(shove(s, "clear", s.queue, "k", "l"), "'l' is one operand too many")
        assert_usage(shove(s, "list", s.queue, "--dry-run"), "--dry-run")
        assert_usage(shove(s, "clear", s.queue, "--kee", "k"), "--kee")
        assert_usage(shove(s, "clear", s.queue, "--base64"), "no key was given")
        assert_usage(shove(s, "clear", s.queue, "AP8", "--base64"), "'AP8' is not base64")
        assert_usage(shove(s, "list", s.queue, "--timeout", "soon"), "--timeout: 'soon'")
        assert_usage(s.app:command "poison list", "needs APP TOPIC")
    end)

    it("exits 69 when the broker is not there, and makes no file", function()
        for _, command in ipairs { "list", "clear" } do
            local result = shove(s, command, s.queue)
            assert.equal(UNAVAILABLE, result.code)
            assert.matches("shove.db", result.stderr, 1, true)
            assert.is_nil(io.open(s.url:match "embedded:(.*)"))
            result = shove(s, command, s.queue, "--broker", "kafka://127.0.0.1:1", "--connect-timeout", "1s")
            assert.equal(UNAVAILABLE, result.code)
        end
    end)

    it("refuses a memory broker", function()
        for _, command in ipairs { "list", "clear" } do
            assert.equal(CONFIG, shove(s, command, s.queue, "--broker", "memory:").code)
        end
    end)

    it("names a partition that is damaged, and goes by the others", function()
        prepare(s)
        lay(s, {
            { key = "a", payload = payload(1), partition = 0 }, { key = "spoilt-key", payload = payload(2), partition = 1 },
            { key = "c", payload = payload(3), partition = 2 },
        })
        s.client:close()
        local path = s.url:match "embedded:(.*)"
        local spoilt, count = tmp.read(path):gsub("spoilt%-key", "spoilt-kex")
        assert.is_true(count > 0)
        tmp.write(path, spoilt)
        local result = shove(s, "list", s.queue)
        assert.equal(1, result.code)
        assert.matches("partition 1 offset 0: .*damaged", result.stderr)
        assert.matches("\na .*\nc .*\n2 keys are poisoned\n", result.stdout)
        result = shove(s, "clear", s.queue)
        assert.equal(1, result.code)
        assert.matches("cleared 2 keys", result.stdout, 1, true)
        assert.matches("not all is cleared.*partition 1 offset 0: .*damaged", result.stderr)
        assert.equal(1, shove(s, "list", s.queue).code)
    end)
end)
