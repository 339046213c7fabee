-- Reaching a Kafka cluster, losing it, and letting go of it.
local driver = require "spec.transport.driver"
local kafka = require "spec.support.kafka"
local process = require "spec.support.process"
local tmp = require "spec.support.tmp"
local uv = require "luv"
local C = driver.C

local function now_ms() return tonumber(C.shove_clock_mono_ms()) end

local function sasl(user, password)
    return {
        ["security.protocol"] = "sasl_plaintext", ["sasl.mechanism"] = "PLAIN", ["sasl.username"] = user,
        ["sasl.password"] = password,
    }
end

local function notice(t, code)
    for _, event in ipairs(t.events.notice) do
        if event.code == code then return event end
    end
end

describe("Opening Kafka", function()
    it("gives up on time where nobody answers, and names the addresses", function()
        local began = now_ms()
        local t, code, text = driver.open("kafka://127.0.0.1:1,127.0.0.1:2", { timeout_ms = 700 })
        assert.is_nil(t)
        assert.equal(C.SHOVE_EUNREACHABLE, code)
        assert.matches("127.0.0.1:1,127.0.0.1:2", text, 1, true)
        assert.matches("0.7 s", text, 1, true)
        assert.is_true(now_ms() - began < 5000)
    end)

    it("says what hinders it, in librdkafka's words", function()
        local _, _, text = driver.open("kafka://127.0.0.1:1", { timeout_ms = 500 })
        assert.matches("Connection refused", text)
    end)

    it("does not wait out its time when the password is wrong", function()
        local broker = kafka.shared()
        local began = now_ms()
        local t, code, text =
            driver.open("kafka://" .. broker.sasl, { properties = sasl("admin", "guess"), timeout_ms = 20000 })
        assert.is_nil(t)
        assert.equal(C.SHOVE_EAUTH, code)
        assert.matches("Invalid username or password", text)
        assert.is_nil(text:find("guess", 1, true))
        assert.is_true(now_ms() - began < 10000)
    end)

    it("tells who speaks TLS or SASL to a listener that does not, or the reverse", function()
        local broker = kafka.shared()
        local t, code, text = driver.open(broker.url, { properties = { ["security.protocol"] = "ssl" }, timeout_ms = 900 })
        assert.is_nil(t)
        assert.equal(C.SHOVE_EUNREACHABLE, code)
        assert.matches("SSL", text)
        t, code, text = driver.open("kafka://" .. broker.sasl, { timeout_ms = 900 })
        assert.is_nil(t)
        assert.equal(C.SHOVE_EUNREACHABLE, code)
        assert.matches("security.protocol", text, 1, true)
    end)

    it("does not wait out its time when the broker's certificate is not trusted", function()
        local dir = tmp.dir()
        local made = process.run {
            "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "1", "-keyout",
            dir .. "/key", "-out", dir .. "/cert",
        }
        assert.equal(0, made.code, made.stderr)
        local server = process.spawn {
            "openssl", "s_server", "-accept", "127.0.0.1:0", "-key", dir .. "/key", "-cert", dir .. "/cert",
            stdin = "pipe",
        }
        local _, port = server:wait_for("ACCEPT [%d.]+:(%d+)", 10000)
        local began = now_ms()
        local t, code, text = driver.open("kafka://127.0.0.1:" .. port,
            { properties = { ["security.protocol"] = "ssl" }, timeout_ms = 20000 })
        assert.is_nil(t)
        assert.equal(C.SHOVE_EAUTH, code)
        assert.matches("certificate", text)
        assert.is_true(now_ms() - began < 10000)
    end)

    it("works with the right password", function()
        local broker = kafka.shared()
        local t = assert(driver.open("kafka://" .. broker.sasl, { properties = sasl("admin", "admin-secret") }))
        local topic = kafka.unique "topic"
        assert(t:declare { { name = topic, partitions = 1 } })
        assert.equal(0, t:publish(topic, { { payload = "x" } })[1].code)
    end)
end)

describe("Somebody without rights on Kafka", function()
    local broker, t, topic

    before_each(function()
        broker = kafka.shared()
        topic = broker:create_topic(broker:topic "guarded")
        t = assert(driver.open("kafka://" .. broker.sasl, { properties = sasl("limited", "limited-secret") }))
    end)

    it("can open, for a broker does not refuse that", function()
        assert.is_true(t.is_open)
    end)

    it("is refused a declaration", function()
        local ok, code, text = t:declare { { name = topic, partitions = 1, at = "app.lua:7" } }
        assert.is_nil(ok)
        assert.equal(C.SHOVE_EDENIED, code)
        assert.matches("app.lua:7", text, 1, true)
        assert.matches(topic, text, 1, true)
    end)

    it("is refused a record", function()
        local result = t:publish(topic, { { payload = "x" } })[1]
        assert.equal(C.SHOVE_EDENIED, result.code)
    end)

    it("is refused a subscription, which ends", function()
        local sub = assert(t:subscribe { group = kafka.unique "group", topics = { topic } })
        local ended = t:wait_ended(sub)
        assert.equal(C.SHOVE_EDENIED, ended.code)
        assert.is_true(#ended.text > 0)
    end)
end)

describe("A broker that is killed", function()
    it("is told of once, and so is its return; what was acknowledged is there, and all of it arrives", function()
        local broker = kafka.private()
        local t = assert(driver.open(broker.url))
        local topic = kafka.unique "topic"
        assert(t:declare { { name = topic, partitions = 2 } })
        local sub = assert(t:subscribe { group = kafka.unique "group", topics = { topic } })
        local claims = t:wait_claims(sub, 2)
        local before = t:publish(topic, { { payload = "before-1" }, { payload = "before-2" } })
        assert.same({ 0, 0 }, { before[1].code, before[2].code })
        local records = t:take(claims, 2)
        broker:kill()
        t:wait(function() return notice(t, C.SHOVE_EUNREACHABLE) end, "a notice that the broker is gone")
        local late = assert(t:produce(topic, { payload = "while away" }))
        broker:restart()
        t:wait(function() return notice(t, 0) end, "a notice that it is back")
        assert.matches("answers again", notice(t, 0).text)
        t:wait(function()
            for _, event in ipairs(t.events.produced) do
                if event.opaque == late then return true end
            end
        end, "the record produced meanwhile")
        for _, record in ipairs(t:take(claims, 1)) do table.insert(records, record) end
        assert.equal(3, #records)
        assert.equal("while away", records[3].payload)
        local downs = 0
        for _, event in ipairs(t.events.notice) do downs = downs + (event.text:find "no broker of" and 1 or 0) end
        assert.equal(1, downs)
        local codes = t:commit(sub, { { claim = claims[1].claim, offset = 1 } })
        assert.same({ 0 }, codes)
        assert.equal(0, t:leave(sub).code)
    end)
end)

describe("A frozen broker", function()
    local broker, pid, t, sub, claims

    before_each(function()
        broker = kafka.private()
        pid = tonumber((io.open(broker.dir .. "/pid"):read "*a"))
        t = assert(driver.open(broker.url))
        local topic = kafka.unique "topic"
        assert(t:declare { { name = topic, partitions = 2 } })
        sub = assert(t:subscribe { group = kafka.unique "group", topics = { topic } })
        claims = t:wait_claims(sub, 2)
        assert.equal(0, t:publish(topic, { { payload = "x" } })[1].code)
        t:produce(topic, { payload = "on its way when it freezes" })
        uv.kill(pid, "sigstop")
    end)

    after_each(function() uv.kill(pid, "sigcont") end)

    it("does not hold up closing", function()
        t:start_commit(sub, { { claim = claims[1].claim, offset = 0 } })
        local began = now_ms()
        t:close(500)
        assert.is_true(now_ms() - began < 2500, "it took " .. now_ms() - began .. " ms")
    end)

    it("does not hold up leaving for long, and a commit it did not answer fails", function()
        local opaque = t:start_commit(sub, { { claim = claims[1].claim, offset = 0 } })
        local began = now_ms()
        t:leave(sub)
        assert.is_true(now_ms() - began < 15000, "it took " .. now_ms() - began .. " ms")
        local answers = 0
        for _, event in ipairs(t.events.committed) do answers = answers + (event.opaque == opaque and 1 or 0) end
        assert.is_true(answers <= 1)
    end)
end)

describe("A broker that is killed twice under load", function()
    it("costs no acknowledged record, and none comes out of order", function()
        local broker = kafka.private()
        local t = assert(driver.open(broker.url))
        local topic, group = kafka.unique "topic", kafka.unique "group"
        assert(t:declare { { name = topic, partitions = 3 } })
        local sub = assert(t:subscribe { group = group, topics = { topic } })
        t:wait_claims(sub, 3)
        local sent, written, seen, last, next_read = {}, 0, {}, {}, {}

        local function write(count)
            for _ = 1, count do
                local opaque = t:produce(topic, { payload = tostring(written + 1), key = "k" .. written % 10 })
                if not opaque then return end
                written = written + 1
                sent[opaque] = written
            end
        end
        local function read()
            for _, kind in ipairs { "revoking", "lost" } do
                for _, event in ipairs(t.events[kind]) do
                    if not event.is_done then
                        event.is_done = true
                        t:release { event.claim }
                        for _, claim in ipairs(t.events.assigned) do
                            if not claim.is_gone and driver.address_key(claim.claim) == driver.address_key(event.claim)
                                and claim.call < event.call then claim.is_gone = true end
                        end
                    end
                end
            end
            for _, event in ipairs(t.events.assigned) do
                for _, record in ipairs(not event.is_gone and t:take_once(event.claim, 200) or {}) do
                    local place = driver.address_key(event.claim) .. "/" .. event.call
                    assert.is_true(record.offset >= (next_read[place] or 0))
                    next_read[place] = record.offset + 1
                    local number = tonumber(record.payload)
                    if not seen[number] then
                        assert.is_true(number > (last[record.key] or 0), "record " .. number .. " overtook another")
                        last[record.key] = number
                    end
                    seen[number] = true
                end
            end
        end
        local function go_on(count)
            local goal = written + count
            t:wait(function()
                write(50)
                read()
                return written >= goal
            end, "records to be written")
        end

        for _ = 1, 2 do
            go_on(2000)
            broker:kill()
            go_on(1000)
            broker:restart()
            -- A record has a minute, and two starts of a broker may take longer than that on a busy machine.
            t:wait(function()
                read()
                return #t.events.produced >= written
            end, "answers to what the broker was away for", 60000)
        end
        go_on(1000)
        local function acknowledged()
            local count = 0
            for _, event in ipairs(t.events.produced) do
                assert.equal(0, event.code, event.text)
                if sent[event.opaque] then count = count + 1 end
            end
            return count
        end
        t:wait(function() return #t.events.produced >= written end, "all answers")
        assert.equal(written, acknowledged())
        t:wait(function()
            read()
            for number = 1, written do
                if not seen[number] then return false end
            end
            return true
        end, "all records")
        sub.revoking_before, t.events.lost = #t.events.revoking, {}
        t:leave(sub)
    end)
end)
