-- `shove publish`: what is sent, what is refused, and what is said to be acknowledged.

local app = require "spec.support.app"
local kafka = require "spec.support.kafka"
local process = require "spec.support.process"
local tmp = require "spec.support.tmp"
local wait = require "spec.support.wait"

local USAGE, UNAVAILABLE, CONFIG = 64, 69, 78

local SOURCE = [[
local shove = require "shove"
local app = shove.registry { broker = "BROKER" }
local function handle() end
app:register(app:topic("ORDERS", { hold = { "1s" }, dlq = true }),
    shove.group { max_message_size = "1KiB" }, handle)
app:topic("RAW", { codec = "raw" })
app:topic("OWN", { codec = { encode = tostring, decode = tostring } })
app:topic("FIFO", { sequenced = "skip", hold = { "1s" }, dlq = true })
return app
]]

-- An app with topics nobody else uses: a.names.ORDERS and so on.
local function new_app(broker)
    local names = {}
    local source = SOURCE:gsub("BROKER", (broker:gsub("%%", "%%%%")))
    for _, word in ipairs { "ORDERS", "RAW", "OWN", "FIFO" } do
        names[word] = kafka.unique(word:lower())
        source = source:gsub('"' .. word .. '"', ('"%s"'):format(names[word]))
    end
    local a = app.new { source = source }
    a.names = names
    return a
end

local function publish(a, topic, options, ...)
    local line = { a.names[topic] or topic, ... }
    for key, value in pairs(options or {}) do line[key] = value end
    return a:command("publish", line)
end

local function lines(...)
    return { stdin = { text = table.concat({ ... }, "\n") } }
end

local function assert_stopped(result, acknowledged, ...)
    assert.are.equal(1, result.code, result.stderr)
    assert.matches(("acknowledged %d message"):format(acknowledged), result.stdout, 1, true)
    for _, text in ipairs { ... } do assert.matches(text, result.stderr, 1, true) end
end

-- From then on it is past the start, and handles Ctrl-C itself.
local function catches_sigint(pid)
    local mask = tmp.read(("/proc/%d/status"):format(pid)):match "SigCgt:%s*(%x+)"
    return bit.band(tonumber(mask:sub(-8), 16), 2) ~= 0
end

local BROKERS = {
    embedded = function() return "embedded:./shove.db" end,
    Kafka = function() return kafka.shared().url end,
}

for name, url in pairs(BROKERS) do
    describe("shove publish on " .. name, function()
        local a

        before_each(function() a = new_app(url()) end)

        it("sends one message per argument and says where each is", function()
            local result = publish(a, "ORDERS", nil, '{"id":1}', '"text"', "3", "null", "--key", "k")
            assert.are.equal(0, result.code, result.stderr)
            assert.are.equal("", result.stderr)
            assert.matches("acknowledged 4 messages to " .. a.names.ORDERS .. ": ", result.stdout, 1, true)
            local partition
            for number = 0, 3 do
                partition = partition or result.stdout:match "partition (%d+)"
                assert.matches(("partition %s offset %d"):format(partition, number), result.stdout, 1, true)
            end
        end)

        it("sends one message per line, the last one without a line end too, and skips empty lines", function()
            local result = publish(a, "ORDERS", lines("{}", "", '{"a":[1,2]}', "", "7"))
            assert.are.equal(0, result.code, result.stderr)
            assert.matches("acknowledged 3 messages", result.stdout, 1, true)
            assert.matches("2 empty lines skipped", result.stdout, 1, true)
        end)

        it("takes a file with the line ends of Windows: its empty lines are empty, too", function()
            local result = publish(a, "ORDERS", lines('{"a":1}\r', "\r", " \t", '{"a":2}\r', ""))
            assert.are.equal(0, result.code, result.stderr)
            assert.matches("acknowledged 2 messages", result.stdout, 1, true)
            assert.matches("2 empty lines skipped", result.stdout, 1, true)
        end)

        it("says that a file begins with a byte order mark, which nobody sees", function()
            local result = publish(a, "ORDERS", lines("\239\187\191{}", "{}"))
            assert_stopped(result, 0, "line 1 begins with a byte order mark", "nothing was published")
        end)

        it("sends nothing of nothing", function()
            local result = publish(a, "ORDERS", { stdin = { text = "" } })
            assert.are.equal(0, result.code, result.stderr)
            assert.matches("acknowledged 0 messages", result.stdout, 1, true)
        end)

        it("sends many lines and says how many", function()
            local list = {}
            for number = 1, 50000 do list[number] = ('{"id":%d}'):format(number) end
            local result = publish(a, "ORDERS", lines(unpack(list, 1, 7000)))
            assert.are.equal(0, result.code, result.stderr)
            assert.matches("acknowledged 7000 messages to %S+ in %d+%.%d+ s", result.stdout)
            local file = table.concat(list, "\n")
            result = publish(a, "ORDERS", { stdin = { text = file } })
            assert.are.equal(0, result.code, result.stderr)
            assert.matches("acknowledged 50000 messages", result.stdout, 1, true)
        end)

        it("stops at a line that is no JSON, names it, and keeps what was sent before", function()
            local result = publish(a, "ORDERS", lines("1", "2", '{"id":', "4"))
            assert_stopped(result, 2, "line 3 is not valid JSON", "column", "all 2 sent before are acknowledged")
        end)

        it("stops at an argument that is no JSON", function()
            local result = publish(a, "ORDERS", nil, "{}", "{id:1}", "{}")
            assert_stopped(result, 1, "message 2 is not valid JSON")
        end)

        it("stops at bytes that are not UTF-8, unless they are raw", function()
            assert_stopped(publish(a, "ORDERS", nil, '"\255"'), 0, "message 1 is not valid JSON", "nothing was published")
            assert.are.equal(0, publish(a, "ORDERS", nil, '"\255"', "--raw").code)
        end)

        it("stops at a message larger than a consumer of the topic takes", function()
            local large = '"' .. ("x"):rep(1023) .. '"'
            assert_stopped(publish(a, "ORDERS", lines("1", large, "3")), 1, "line 2 is larger than 1024 bytes",
                "max_message_size")
            assert.are.equal(0, publish(a, "ORDERS", lines((large:gsub("x", "", 1)))).code)
        end)

        it("sends empty messages for empty lines where bytes are raw", function()
            assert.matches("acknowledged 3 messages", publish(a, "RAW", lines("a", "", "b")).stdout, 1, true)
            assert.matches("acknowledged 3 messages", publish(a, "ORDERS", lines("a", "", "b", ""), "--raw").stdout, 1,
                true)
        end)

        it("needs --raw for a codec that only the script can run", function()
            local result = publish(a, "OWN", nil, "x")
            assert.are.equal(USAGE, result.code)
            assert.matches("--raw", result.stderr, 1, true)
            assert.are.equal(0, publish(a, "OWN", nil, "x", "--raw").code)
        end)

        it("needs a key for a sequenced topic without a key function", function()
            local result = publish(a, "FIFO", nil, "{}")
            assert.are.equal(USAGE, result.code)
            assert.matches("give --key", result.stderr, 1, true)
            assert.are.equal(0, publish(a, "FIFO", nil, "{}", "-k", "account-1").code)
        end)

        it("sends to the partition it is given, and refuses one that is not there", function()
            local result = publish(a, "ORDERS", nil, "1", "--partition", "5")
            assert.matches("partition 5 offset 0", result.stdout, 1, true)
            result = publish(a, "ORDERS", nil, "1", "--partition", "8")
            assert.are.equal(USAGE, result.code)
            assert.matches("partitions 0 to 7, not 8", result.stderr, 1, true)
        end)

        it("sends to a DLQ by name, but to no hold topic", function()
            assert.are.equal(0, publish(a, a.names.ORDERS .. "-dlq", nil, "1").code)
            local result = publish(a, a.names.ORDERS .. "-hold-1s", nil, "1")
            assert.are.equal(USAGE, result.code)
            assert.matches("name the queue '" .. a.names.ORDERS .. "'", result.stderr, 1, true)
        end)

        it("refuses a topic that the app does not declare, with the one that was meant", function()
            local result = publish(a, a.names.ORDERS .. "x", nil, "1")
            assert.are.equal(USAGE, result.code)
            assert.matches("did you mean '" .. a.names.ORDERS .. "'?", result.stderr, 1, true)
        end)

        it("refuses headers that are shove's own, in any case, and headers without a name", function()
            for _, header in ipairs { "Shove-Message-Id=1", "shove-x=1", "SHOVE-=1" } do
                local result = publish(a, "ORDERS", nil, "1", "--header", header)
                assert.are.equal(USAGE, result.code)
                assert.matches(header:match "[^=]+", result.stderr, 1, true)
            end
            for _, header in ipairs { "=1", "name" } do
                assert.are.equal(USAGE, publish(a, "ORDERS", nil, "1", "--header", header).code)
            end
        end)

        it("prints nothing when it is quiet and all went well", function()
            local result = publish(a, "ORDERS", nil, "1", "-q")
            assert.are.same({ 0, "", "" }, { result.code, result.stdout, result.stderr })
        end)

        it("on Ctrl-C stops reading, says what was acknowledged, and exits 1", function()
            local p = process.spawn { app.bin, "publish", a.path, a.names.ORDERS, cwd = a.dir, stdin = "pipe" }
            p:write "1\n2\n"
            wait.until_true(function() return catches_sigint(p.pid) end, 20000, "the command to be under way")
            p:kill "sigint"
            assert.are.equal(1, p:wait_exit(20000))
            assert.matches("acknowledged [012] messages?", p:text "stdout")
            assert.matches("interrupted", p:text "stderr", 1, true)
        end)
    end)
end

describe("shove publish, seen by a stranger", function()
    local broker, a

    before_each(function()
        broker = kafka.shared()
        a = new_app(broker.url)
    end)

    it("sends key and headers as given: in order, duplicate, empty, with an equals sign", function()
        local result = publish(a, "ORDERS", nil, '{"id": 1}', "-k", "key 1", "-H", "a=1", "-H", "b=", "-H", "a=x=y")
        assert.are.equal(0, result.code, result.stderr)
        local records = broker:kcat_read(a.names.ORDERS)
        assert.are.equal(1, #records)
        assert.are.equal("key 1", records[1].key)
        assert.are.equal('{"id": 1}', records[1].value)
        assert.matches("^a=1,b=,a=x=y,Shove%-Message%-Id=%x+%-%x+%-7%x+%-%x+%-%x+$", records[1].headers)
    end)

    it("gives every message an id of its own, and no key where none was given", function()
        publish(a, "ORDERS", lines("1", "2", "3", "4", "5"))
        local seen = {}
        for _, record in ipairs(broker:read(a.names.ORDERS)) do
            assert.is_nil(record.key)
            assert.are.equal(1, #record.headers)
            seen[record.headers[1][2]] = true
        end
        local count = 0
        for _ in pairs(seen) do count = count + 1 end
        assert.are.equal(5, count)
    end)

    it("sends a key to the partition where Java's clients and kcat's murmur2 send it", function()
        for _, key in ipairs { "a", "customer-7", "zażółć", "x\ty" } do
            publish(a, "ORDERS", nil, "1", "-k", key)
            broker:kcat_produce(a.names.ORDERS, { { key = key, value = "2" } })
        end
        local partition_of = {}
        for _, record in ipairs(broker:read(a.names.ORDERS)) do
            partition_of[record.key] = partition_of[record.key] or record.partition
            assert.are.equal(partition_of[record.key], record.partition, record.key)
        end
    end)

    it("keeps raw bytes as they are, empty messages included", function()
        publish(a, "RAW", { stdin = { text = "a\0b\r\n\n\255\254" } })
        local values = {}
        for _, record in ipairs(broker:read(a.names.RAW)) do table.insert(values, record.value) end
        table.sort(values)
        assert.are.same({ "", "a\0b\r", "\255\254" }, values)
    end)

    it("on Ctrl-C counts all it has sent", function()
        local p = process.spawn { app.bin, "publish", a.path, a.names.ORDERS, cwd = a.dir, stdin = "pipe" }
        p:write "1\n2\n"
        wait.until_true(function()
            return broker:partitions(a.names.ORDERS) and #broker:read(a.names.ORDERS) == 2
        end, 30000, "the first lines to arrive")
        p:kill "sigint"
        assert.are.equal(1, p:wait_exit(20000))
        assert.matches("acknowledged 2 messages", p:text "stdout", 1, true)
        assert.matches("all 2 sent before are acknowledged", p:text "stderr", 1, true)
    end)

    it("creates the topic it was given, and no other", function()
        publish(a, "ORDERS", nil, "1")
        assert.are.equal(8, broker:partitions(a.names.ORDERS))
        assert.is_nil(broker:partitions(a.names.ORDERS .. "-dlq"))
        assert.is_nil(broker:partitions(a.names.RAW))
    end)
end)

describe("shove publish without a broker", function()
    it("exits 69 after the connect timeout when Kafka is not there", function()
        local a = new_app "kafka://127.0.0.1:1"
        local result = publish(a, "ORDERS", nil, "1", "--connect-timeout", "1s")
        assert.are.equal(UNAVAILABLE, result.code)
        assert.matches("127.0.0.1:1", result.stderr, 1, true)
    end)

    it("exits 69 when the broker goes away under way, and says what was acknowledged", function()
        local broker = kafka.private()
        local a = new_app(broker.url)
        local p = process.spawn {
            app.bin, "publish", a.path, a.names.ORDERS, "--timeout", "2s", cwd = a.dir, stdin = "pipe",
        }
        p:write "1\n2\n3\n"
        wait.until_true(function()
            if not broker:partitions(a.names.ORDERS) then return false end
            return #broker:read(a.names.ORDERS) == 3
        end, 30000, "the first lines to arrive")
        broker:kill()
        p:write "4\n"
        p:close_stdin()
        local code = p:wait_exit(30000)
        assert.are.equal(UNAVAILABLE, code)
        assert.matches("acknowledged 3 messages", p:text "stdout", 1, true)
        assert.matches("4 sent, 3 acknowledged", p:text "stderr", 1, true)
    end)

    it("refuses a memory broker, whose messages nobody else would see", function()
        local a = new_app "memory:"
        local result = publish(a, "ORDERS", nil, "1")
        assert.are.equal(CONFIG, result.code)
        assert.matches("visible only inside the one process", result.stderr, 1, true)
    end)
end)
