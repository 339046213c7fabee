-- What a handler sees of its message.
local cjson = require "cjson"
local rig = require "spec.unit.worker.rig"

local DEAD = [[
app:register(orders, {}, function() end)
app:dead_letters(orders, function(msg) ]]

-- A worker whose handler says what `expression` is, as JSON (`seen` may be set before).
local function watcher(expression, options)
    options = options or {}
    local body = "local cjson = require 'cjson' " .. (options.before or "") .. " return shove.retry(cjson.encode("
        .. expression .. "))"
    if options.dead_letters then return rig.start(DEAD .. body .. " end)", options) end
    local orders = options.codec and ("local orders = app:topic('coded', { codec = %s })"):format(options.codec) or ""
    return rig.start(orders .. " app:register(orders, { prefetch = 10, concurrent = true }, function(msg) "
        .. body .. " end)", options)
end

local function seen(result)
    assert.are.equal("retry", result[1], result[2])
    return cjson.decode(result[2])
end

local function error_of(result)
    assert.are.equal("error", result[1], result[2])
    return result[2]
end

describe("a message", function()
    it("has all its fields", function()
        local worker = watcher [[{ msg.body.id, msg.payload, msg.key, msg.id, msg.topic, msg.partition, msg.offset,
            msg.timestamp, msg.retry_count, msg.redelivered }]]
        assert.are.same({ 9, '{"id":9}', "k", "an id", "orders", 2, 12345678901234, 1700000000123, 3, true },
            seen(worker:handle { payload = '{"id":9}', key = "k", id = "an id", partition = 2,
                offset = 12345678901234, timestamp = 1700000000123, retry_count = 3, redelivered = true }))
    end)

    it("has an id that follows from its place when it carries none", function()
        assert.are.equal("orders/3/17", seen(watcher("msg.id"):handle()))
    end)

    it("keeps bytes as they are", function()
        local bytes = {}
        for i = 0, 255 do bytes[i + 1] = string.char(i) end
        local all = table.concat(bytes)
        local worker = rig.start [[
            local orders = app:topic("raw", { codec = "raw" })
            app:register(orders, {}, function(msg) return shove.retry(msg.key .. msg.payload .. msg.body) end)
        ]]
        assert.are.same({ "retry", all .. all .. all }, worker:handle { key = all, payload = all })
    end)

    it("may be as large as the arena", function()
        local worker = rig.start [[
            local orders = app:topic("raw", { codec = "raw" })
            app:register(orders, {}, function(msg) return shove.retry(#msg.body .. msg.body:sub(-3)) end)
        ]]
        assert.are.same({ "retry", "10485763end" }, worker:handle { payload = ("x"):rep(10 * 1024 * 1024) .. "end" })
    end)

    it("tells a tombstone from an empty payload, and no key from an empty one", function()
        local worker = watcher "{ msg.payload == nil, msg.body == nil, msg.key == nil }"
        assert.are.same({ true, true, true }, seen(worker:handle { payload = false, key = false }))
        worker = watcher "{ msg.payload, msg.key }"
        assert.are.same({ "", "" }, seen(worker:handle { payload = "", key = "" }))
    end)

    it("has headers in order, with duplicates, null and binary values, and by name the last", function()
        local worker = watcher("{ list, h.a, h['\\0b'], h.n == shove.null, h.missing == nil }", { before = [[
            local h, list = msg.headers, {}
            for i, pair in ipairs(h) do list[i] = { pair[1], pair[2] ~= shove.null and pair[2] } end
        ]] })
        local headers = { { "a", "1" }, { "\0b", "\0\1" }, { "a", "2" }, { "n", false }, { "1", "" } }
        assert.are.same({ headers, "2", "\0\1", true, true }, seen(worker:handle { headers = headers }))
        assert.are.same({ { }, cjson.null, cjson.null, false, true }, seen(watcher(
            "{ list, cjson.null, cjson.null, false, h.missing == nil }",
            { before = "local h, list = msg.headers, {}" }):handle()))
    end)

    it("is decoded on first touch only, and once", function()
        local worker = watcher("{ count, rawequal(msg.body, msg.body), count, rawget(msg, 'payload') == nil }",
            { before = "count = 0", codec = [[{ encode = tostring, decode = function(p) count = count + 1 return { p } end }]] })
        assert.are.same({ 0, true, 1, true }, seen(worker:handle { payload = "x" }))
    end)

    it("refuses a field that does not exist, and says which was meant", function()
        assert.truthy(error_of(watcher("msg.paylod"):handle()):find(
            'app%.lua:4: a message has no field "paylod" %(did you mean "payload"%?%)'))
        assert.truthy(error_of(watcher("msg[7]"):handle()):find "a message has no field 7")
        assert.truthy(error_of(watcher("msg.reason"):handle()):find "only a dead letter has")
    end)

    it("keeps what was put into it", function()
        assert.are.equal("mine", seen(watcher("msg.tag", { before = "msg.tag = 'mine'" }):handle()))
    end)

    it("can be read after a sleep", function()
        assert.are.equal("late", seen(watcher("msg.payload", { before = "shove.sleep '20ms'" })
            :handle { payload = "late" }))
    end)

    it("cannot be read for the first time after it was settled; what was touched stays", function()
        local worker = rig.start [[
            local uv = require "luv"
            app:register(orders, {}, function(msg)
                local key = msg.key
                local timer = uv.new_timer()
                timer:start(50, 0, function()
                    timer:close()
                    print(msg.key, pcall(function() return msg.payload end))
                end)
            end)
        ]]
        worker:handle { key = "k", payload = "secret" }
        worker:wait_until(function() return worker:stdout():find "\n" end, "the callback")
        assert.truthy(worker:stdout():find(
            "^k\tfalse\t.*app%.lua:10: msg%.payload is read for the first time after its message was settled"),
            worker:stdout())
    end)

    -- Far more of them than are read ahead after one touch.
    it("has the same body however many were handled before it", function()
        local worker = rig.start [[
            app:register(orders, {}, function(msg)
                if msg.key == "untouched" then return shove.retry(type(rawget(msg, "body"))) end
                local body = msg.body
                return shove.retry(body == nil and "nil" or body == shove.null and "null" or body.n .. body.text)
            end)
        ]]
        local was_ahead = {}
        for i = 1, 400 do
            local payload = ('{"n":%d,"text":"%s"}'):format(i, ("x"):rep(i % 7))
            assert.are.same({ "retry", i .. ("x"):rep(i % 7) }, worker:handle { payload = payload })
            if i % 50 == 0 then
                assert.are.same({ "retry", "nil" }, worker:handle { payload = false })
                assert.are.same({ "retry", "null" }, worker:handle { payload = "null" })
                assert.are.equal("undecodable", worker:handle({ payload = "{broken" })[1])
                was_ahead[worker:handle({ key = "untouched", payload = "{}" })[2]] = true
                assert.are.same({ "retry", "nil" }, worker:handle { key = "untouched", payload = "{broken" })
            end
        end
        assert.is_true(was_ahead.table)
    end)

    it("is not decoded for handlers that have stopped to touch bodies", function()
        local worker = rig.start [[
            app:register(orders, {}, function(msg)
                if msg.key == "touch" then return shove.retry(msg.body.n) end
                return shove.retry(type(rawget(msg, "body")))
            end)
        ]]
        worker:handle { key = "touch", payload = '{"n":1}' }
        assert.are.same({ "retry", "table" }, worker:handle { payload = "{}" })
        for _ = 1, 200 do worker:handle { payload = "{}" } end
        assert.are.same({ "retry", "nil" }, worker:handle { payload = "{}" })
        assert.are.same({ "retry", "2" }, worker:handle { key = "touch", payload = '{"n":2}' })
        assert.are.same({ "retry", "table" }, worker:handle { payload = "{}" })
    end)

    it("of an earlier time is not mistaken for the one that came after it", function()
        local worker = rig.start [[
            app:register(orders, {}, function(msg)
                if not kept then kept = msg return end
                local ok, text = pcall(function() return kept.payload end)
                return shove.retry(tostring(ok) .. msg.payload)
            end)
        ]]
        worker:handle { payload = "first" }
        assert.are.same({ "retry", "falsesecond" }, worker:handle { payload = "second" })
    end)
end)

describe("a payload that the codec refuses", function()
    it("is undecodable, whatever the handler does about it", function()
        for _, body in ipairs { "local b = msg.body return shove.ack", "pcall(function() return msg.body end) return shove.ack",
            "pcall(function() return msg.body end) error 'other'", "pcall(function() return msg.body end) shove.sleep '1ms'" } do
            local worker = rig.start("app:register(orders, {}, function(msg) " .. body .. " end)")
            local result = worker:handle { payload = "{broken" }
            assert.are.equal("undecodable", result[1])
            assert.truthy(result[2]:find "invalid token", result[2])
        end
    end)

    it("is never noticed by a handler that does not touch the body", function()
        assert.are.equal("{broken", seen(watcher("msg.payload"):handle { payload = "{broken" }))
    end)

    it("of a script's own codec is undecodable for any error, a yield included", function()
        for _, decode in ipairs { "error 'bad magic'", "error({})", "shove.sleep '1ms'", "coroutine.yield()" } do
            local worker = watcher("msg.body", { codec = ("{ encode = tostring, decode = function() %s end }"):format(decode) })
            assert.are.equal("undecodable", worker:handle()[1], decode)
        end
    end)

    it("is a nil body for a handler of dead letters", function()
        local worker = watcher("{ msg.body == nil, msg.payload }", { dead_letters = true })
        assert.are.same({ true, "{broken" }, seen(worker:handle { group = 1, payload = "{broken" }))
    end)
end)

describe("a dead letter", function()
    it("says what it died of, and where it came from", function()
        local worker = watcher([[{ msg.topic, msg.reason, msg.original_queue, msg.death_count, msg.original_partition,
            msg.original_offset, msg.group, msg.error, msg.died_at, msg.body.id }]], { dead_letters = true })
        assert.are.same({ "orders-dlq", "rejected", "orders", 2, 7, 42, "orders-consumer", "no id", 1700000001000, 5 },
            seen(worker:handle { group = 1, payload = '{"id":5}', death = cjson.encode { reason = "rejected",
                original_queue = "orders", death_count = 2, original_partition = 7, original_offset = 42,
                group = "orders-consumer", error = "no id", died_at = 1700000001000 } }))
    end)

    it("that a stranger wrote has none of it", function()
        local worker = watcher("{ msg.reason == nil, msg.error == nil, msg.id }", { dead_letters = true })
        assert.are.same({ true, true, "orders-dlq/3/17" }, seen(worker:handle { group = 1 }))
    end)
end)
