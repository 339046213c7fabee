-- `shove publish` and the topic's key function: the key that each message gets, and what is said when there is none.

local app = require "spec.support.app"
local process = require "spec.support.process"
local stage = require "spec.support.stage"
local tmp = require "spec.support.tmp"
local wait = require "spec.support.wait"

local USAGE, STOPPED, CONFIG = 64, 1, 78
local GROUPS = 5 -- of the script

local SOURCE = [[
local shove, stage = require "shove", require "stage"
local app = shove.registry { broker = stage.broker }

local misdeeds = {
    raise = function() error "no account here" end,
    index = function(body) return body.account.number end,
    table = function() return {} end,
    boolean = function() return true end,
    nan = function() return 0 / 0 end,
    loop = function() stage.say "endless" while true do end end,
    kill = function() require("luv").kill(require("luv").getpid(), "sigkill") end,
    wait = function() shove.sleep "1ms" end,
    large = function() return ("k"):rep(3 * 1048576) end,
    huge = function() return ("k"):rep(72 * 1048576) end,
    print = function() print "a key is made" io.write "half a line" return "printed" end,
}
local function key_of(body)
    if body.misdeed then return misdeeds[body.misdeed](body) end
    return body.account
end

-- Of what is large, only how large: the journal is read again and again.
local function note(msg)
    local size = #msg.payload + #(msg.key or "")
    if size > 1048576 then return stage.say(("%s %d"):format((msg.key or ""):sub(1, 10), size)) end
    stage.note(msg)
end
local large = shove.group { max_message_size = "6MiB" }
local fifo = app:topic(stage.name "fifo", { sequenced = "skip", hold = { "1s" }, dlq = true, key = key_of })
app:register_fifo(fifo, { max_message_size = "6MiB" }, note)
app:register(app:topic(stage.name "keyed", { key = key_of }), large, note)
app:register(app:topic(stage.name "raw", { codec = "raw", key = function(body) return body:match "^%d+" end }),
    shove.group {}, note)
app:register(app:topic(stage.name "own", {
    codec = {
        encode = string.upper,
        decode = function(payload)
            if payload == "NONSENSE" then return nil, "that is nonsense" end
            return payload:lower()
        end,
    },
    key = function(body) return body end,
}), shove.group {}, note)
app:topic(stage.name "bare", { sequenced = "skip", hold = { "1s" }, dlq = true })

local seen, count, wrong = {}, 0, 0
app:register(app:topic(stage.name "many", { key = function(body) return body.id end }), shove.group { prefetch = 1000 },
    function(msg)
        if msg.key ~= ("%.0f"):format(msg.body.id) then wrong = wrong + 1 end
        if not seen[msg.key] then count, seen[msg.key] = count + 1, true end
        if count == 20000 then stage.say(("%d wrong"):format(wrong)) end
    end)

app:on_start(function()
    for _, account in ipairs { 77, 1.5, -3, 0, 1e15, 123456789012345678, 0.1, 1e300 } do
        assert(shove.publish(fifo, { account = account, from = "lua" }))
    end
end)
return app
]]

local NUMBERS = { "77", "1.5", "-3", "0", "1e15", "123456789012345678", "0.1", "1e300" }

local function publish(s, queue, ...)
    return s:command("publish", { s:name(queue), ... })
end

local function publish_lines(s, queue, lines, ...)
    return s:command("publish", { s:name(queue), stdin = { text = table.concat(lines, "\n") }, ... })
end

-- What a run of the app is given of a queue: the keys by payload.
local function keys_of(s, queue, count)
    local p = s:run { "--workers", "1" }
    local keys = {}
    -- Who leaves while it joins keeps the next run of its group waiting.
    wait.until_true(function() return #stage.lines(p, "partitions assigned") >= GROUPS end, 30000, "all groups to have joined")
    for _, call in ipairs(s:wait_calls(count, { queue = queue })) do keys[call.payload] = call.key or "(none)" end
    stage.drain(p)
    return keys
end

local function assert_ends(result, code, acknowledged, ...)
    assert.are.equal(code, result.code, result.stderr)
    assert.matches(("acknowledged %d message"):format(acknowledged), result.stdout, 1, true)
    for _, text in ipairs { ... } do assert.matches(text, result.stderr, 1, true) end
end

for _, broker in ipairs(stage.brokers) do
    describe("shove publish to a topic with a key function, on " .. broker .. ",", function()
        local s

        before_each(function() s = stage.new(broker, SOURCE) end)

        it("gives each message of the command line the key of its body", function()
            local result = publish(s, "keyed", '{"account":"a"}', '{"account":"b\\u0000c"}', '{"account":""}', "{}",
                '{"account":-0}')
            assert_ends(result, 0, 5)
            assert.are.equal("", result.stderr)
            assert.are.same({ ['{"account":"a"}'] = "a", ['{"account":"b\\u0000c"}'] = "b\0c", ['{"account":""}'] = "",
                ["{}"] = "(none)", ['{"account":-0}'] = "0" }, keys_of(s, "keyed", 5))
        end)

        it("gives each line of standard input the key of its body, and skips empty lines", function()
            local lines = { '{"account":"a"}', "", '{"account":"b"}\r', "  ", '{"account":"c"}' }
            local result = publish_lines(s, "fifo", lines)
            assert_ends(result, 0, 3)
            assert.matches("2 empty lines skipped", result.stdout, 1, true)
            local keys = keys_of(s, "fifo", 3 + #NUMBERS)
            assert.are.same({ "a", "b", "c" }, { keys[lines[1]], keys[lines[3]], keys[lines[5]] })
        end)

        it("writes numbers as shove.publish does", function()
            local lines = {}
            for i, number in ipairs(NUMBERS) do lines[i] = ('{"account":%s,"from":"cli"}'):format(number) end
            assert_ends(publish_lines(s, "fifo", lines), 0, #NUMBERS)
            local p = s:run { "--workers", "1" }
            local keys = { cli = {}, lua = {} }
            for _, call in ipairs(s:wait_calls(2 * #NUMBERS, { queue = "fifo" })) do
                table.insert(keys[call.payload:match '"from":"(%a+)"'], call.key)
            end
            stage.drain(p)
            table.sort(keys.cli)
            table.sort(keys.lua)
            assert.are.same(keys.lua, keys.cli)
        end)

        it("takes --key before the key function, which is not called then", function()
            assert_ends(publish(s, "fifo", '{"misdeed":"raise"}', '{"account":"a"}', "--key", "given"), 0, 2)
            local keys = keys_of(s, "fifo", 2 + #NUMBERS)
            assert.are.same({ "given", "given" }, { keys['{"misdeed":"raise"}'], keys['{"account":"a"}'] })
        end)

        it("stops at a message of a sequenced topic that gets no key, and sends one whose key is null", function()
            local null = '{"account":null}'
            assert_ends(publish(s, "fifo", '{"account":"a"}', null, '{"a":1}'), 78, 2, "message 3: ", "returned nil",
                "order is kept per key", "all 2 sent before are acknowledged")
            local keys = keys_of(s, "fifo", 2 + #NUMBERS)
            assert.are.same({ "a", "(none)" }, { keys['{"account":"a"}'], keys[null] })
        end)

        it("decodes raw bytes by the topic's codec", function()
            assert_ends(publish_lines(s, "raw", { "12 a", "x", "", "7\0\255" }), 0, 4)
            assert.are.same({ ["12 a"] = "12", ["x"] = "(none)", [""] = "(none)", ["7\0\255"] = "7" },
                keys_of(s, "raw", 4))
            assert_ends(publish(s, "own", "ORDER", "--raw"), 0, 1)
            assert.are.same({ ORDER = "order" }, keys_of(s, "own", 1))
            assert_ends(publish(s, "keyed", ' {"account" : "a"}', "--raw"), 0, 1)
            assert.are.same({ [' {"account" : "a"}'] = "a" }, keys_of(s, "keyed", 1))
        end)

        it("stops at a body that the codec cannot decode, and says which", function()
            assert_ends(publish_lines(s, "own", { "A", "B", "NONSENSE", "C" }, "--raw"), STOPPED, 2, "line 3: ",
                s:name "own", "that is nonsense", "--key", "all 2 sent before are acknowledged")
            assert_ends(publish(s, "keyed", '{"account":1}', "{", "--raw"), STOPPED, 1, "message 2: ", "cannot be decoded")
            assert_ends(publish_lines(s, "keyed", { '{"account":1}', "{", "{}" }), STOPPED, 1,
                "line 2 is not valid JSON, column")
        end)

        it("keeps what was sent before a message that is too large", function()
            assert_ends(publish_lines(s, "keyed", { '{"account":1}', '"' .. ("x"):rep(6 * 1048576) .. '"', "{}" }), STOPPED, 1,
                "line 2 is larger than 6291456 bytes", "all 1 sent before are acknowledged")
        end)

        it("stops where the key function fails or returns what is no key, and says which", function()
            for misdeed, words in pairs {
                raise = "no account here", index = "attempt to index", table = "the key is a table",
                boolean = "the key is true", nan = "the key is NaN", wait = "shove.sleep waits",
                huge = "the key has 75497472 bytes; 67108864 are the most",
            } do
                local line = ('{"misdeed":"%s"}'):format(misdeed)
                local result = publish_lines(s, "fifo", { '{"account":1}', "", '{"account":2}', line, '{"account":3}' })
                assert_ends(result, CONFIG, 2, "line 4: ", s:name "fifo", words, "correct it in the script, or give --key",
                    "all 2 sent before are acknowledged")
            end
            assert_ends(publish(s, "fifo", '{"misdeed":"index"}'), CONFIG, 0, "message 1: ", "app.lua:6:",
                "nothing was published")
        end)

        it("ends a key function that does not return", function()
            local result = publish(s, "fifo", '{"account":1}', '{"account":2}', '{"misdeed":"loop"}', "--timeout", "1s")
            assert_ends(result, CONFIG, 2, "message 3: ", s:name "fifo", "did not return within 1 s",
                "all 2 sent before are acknowledged")
        end)

        it("outlives a key function that kills its process, and sends what has a key", function()
            local lines = {}
            for i = 1, 1000 do lines[i] = ('{"account":%d}'):format(i) end
            table.insert(lines, 701, '{"misdeed":"kill"}')
            assert_ends(publish_lines(s, "fifo", lines), CONFIG, 700, "line 701: ", s:name "fifo", "signal 9 (Killed)",
                "all 700 sent before are acknowledged")
        end)

        it("sends 20,000 lines with keys of their own", function()
            local lines = {}
            for i = 1, 20000 do lines[i] = ('{"id":%d}'):format(i) end
            assert_ends(publish_lines(s, "many", lines), 0, 20000)
            local p = s:run { "--workers", "1" }
            assert.are.equal("0 wrong", s:wait_calls(1, { queue = "said" })[1].said)
            stage.drain(p)
        end)

        it("takes bodies of several MiB, between small ones", function()
            local lines, wanted = {}, {}
            for i = 1, 5 do
                lines[2 * i - 1] = ('{"account":"small-%d"}'):format(i)
                lines[2 * i] = ('{"account":"large-%d","text":"%s"}'):format(i, ("x"):rep(5 * 1048576 + i))
                wanted[i] = ("large-%d %d"):format(i, #lines[2 * i] + #"large-1")
            end
            assert_ends(publish_lines(s, "keyed", lines), 0, 10)
            local p, said = s:run { "--workers", "1" }, {}
            for _, call in ipairs(s:wait_calls(5, { queue = "said" })) do table.insert(said, call.said) end
            table.sort(said)
            assert.are.same(wanted, said)
            for _, call in ipairs(s:wait_calls(5, { queue = "keyed" })) do
                assert.are.equal(call.payload:match '"account":"([^"]+)"', call.key)
            end
            stage.drain(p)
        end)
    end)
end

describe("shove publish to a topic with a key function, seen by a stranger,", function()
    it("sends the computed keys, to the partitions of those keys", function()
        local s = stage.new("kafka", SOURCE)
        local lines = { '{"account":"customer-7"}', '{"account":12}', '{"account":null}' }
        assert_ends(publish_lines(s, "bare", lines, "--key", "customer-7"), 0, 3)
        assert_ends(publish_lines(s, "fifo", lines), 0, 3)
        local keys, partition = {}, s.kafka:read(s:name "bare")[1].partition
        for _, record in ipairs(s.kafka:kcat_read(s:name "fifo")) do keys[record.value] = record.key end
        assert.are.equal("customer-7", keys[lines[1]])
        assert.are.equal("12", keys[lines[2]])
        for _, record in ipairs(s.kafka:read(s:name "fifo")) do
            if record.value == lines[1] then assert.are.equal(partition, record.partition) end
            assert.are.equal(record.value == lines[3], record.key == nil)
        end
    end)
end)

describe("shove publish to a topic with a key function", function()
    local s

    before_each(function() s = stage.new("embedded", SOURCE) end)

    it("sends each line as soon as it is there", function()
        local p = process.spawn {
            app.bin, "publish", s.app.path, s:name "keyed", cwd = s.dir, stdin = "pipe",
        }
        local run = s:run { "--workers", "1" }
        for i = 1, 3 do
            p:write(('{"account":"line-%d"}\n'):format(i))
            assert.are.equal("line-" .. i, s:wait_calls(i, { queue = "keyed" })[i].key)
        end
        p:close_stdin()
        assert.are.equal(0, p:wait_exit(20000), p:transcript())
        stage.drain(run)
    end)

    it("ends on Ctrl-C while the key function runs", function()
        local p = process.spawn {
            app.bin, "publish", s.app.path, s:name "keyed", '{"account":1}', '{"misdeed":"loop"}',
            cwd = s.dir,
        }
        s:wait_calls(1, { queue = "said" })
        p:kill "sigint"
        assert.are.equal(STOPPED, p:wait_exit(20000))
        assert.matches("acknowledged [01] messages?", p:text "stdout")
        assert.matches("interrupted", p:text "stderr", 1, true)
    end)

    it("leaves standard output to itself: what the function prints goes to standard error", function()
        local result = publish(s, "keyed", '{"misdeed":"print"}')
        assert_ends(result, 0, 1, "a key is made", "half a line")
        assert.is_nil(result.stdout:find("a key is made", 1, true))
    end)

    it("takes keys of several MiB, too", function()
        assert_ends(publish(s, "keyed", '{"misdeed":"large"}', '{"account":1}'), 0, 2)
        local p = s:run { "--workers", "1" }
        local size = 3 * 1048576 + #'{"misdeed":"large"}'
        assert.are.equal("kkkkkkkkkk " .. size, s:wait_calls(1, { queue = "said" })[1].said)
        stage.drain(p)
    end)

    it("computes no key for a message to the topic's DLQ", function()
        local result = publish(s, "fifo", "1")
        assert.are.equal(CONFIG, result.code)
        result = s:command("publish", { s:name("fifo", "-dlq"), '{"misdeed":"raise"}' })
        assert_ends(result, 0, 1)
    end)

    it("asks for --key where a sequenced topic has no key function", function()
        local result = publish(s, "bare", "{}")
        assert.are.equal(USAGE, result.code)
        assert.matches("give --key", result.stderr, 1, true)
        assert.are.equal(0, publish(s, "bare", "{}", "--key", "k").code)
    end)

    it("says so when the script no longer loads in the process that computes keys", function()
        local path = s.app:file "loaded"
        local guard = ("if io.open(%q) then error 'not twice' end io.open(%q, 'w'):close()\n"):format(path, path)
        tmp.write(s.app.path, guard .. SOURCE)
        local result = publish(s, "keyed", "{}")
        assert_ends(result, CONFIG, 0, "not twice", "nothing was published")
    end)

    it("leaves no process behind", function()
        local p = process.spawn {
            app.bin, "publish", s.app.path, s:name "keyed", '{"misdeed":"loop"}', cwd = s.dir,
        }
        s:wait_calls(1, { queue = "said" })
        local children = p:children()
        assert.is_true(#children > 0)
        p:kill "sigkill"
        p:wait_exit(20000)
        for _, pid in ipairs(children) do
            wait.until_true(function() return not process.is_alive(pid) end, 20000,
                "the end of the process that computed keys")
        end
    end)
end)
