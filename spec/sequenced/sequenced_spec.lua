-- Topics that are sequenced: what handlers see of the order of keys. Under kills: spec/crash/sequence_spec.lua.

local uv = require "luv"
local assert = require "luassert"
local app = require "spec.support.app"
local driver = require "spec.transport.driver"
local http = require "spec.support.http"
local kafka = require "spec.support.kafka"
local sequenced = require "spec.support.sequenced"
local steered = require "spec.support.steered"
local wait = require "spec.support.wait"

local new, at = sequenced.new, sequenced.at

-- The names that began for the first time, in that order, as one text.
local function first_begun(s)
    local seen, names = {}, {}
    for _, line in ipairs(s:lines()) do
        if line.verb == "began" and not seen[line.name] then table.insert(names, line.name) end
        seen[line.name] = true
    end
    return table.concat(names, " ")
end

for _, broker in ipairs(steered.brokers) do
    describe("a sequenced topic, on " .. broker.name .. ",", function()
        it("has messages 1 2 4 5 handled when 3 of 1 to 5 is rejected, in that order, and other keys are untouched", function()
            local s = new(broker, {})
            s:publish({ "a1", "a2", "a3 reject", "a4", "a5" }, { key = "a" })
            s:publish({ "b1", "b2" }, { key = "b" })
            local p = s:run()
            s:wait("ended", { "a1", "a2", "a4", "a5", "b1", "b2" })
            assert.equal("a1 a2 a3 a4 a5", (first_begun(s):gsub("b%d ?", ""):gsub(" $", "")))
            assert.equal(1, s:count("began", "a3"))
            assert.equal(0, (app.drain(p)), p:transcript())
            p:wait_for("dead letters=1", 0)
        end)

        it("keeps a key closed while one of its messages waits to be retried, and other keys flow", function()
            local s = new(broker, { holds = { "300ms" } })
            s:publish({ "a1 retry" }, { key = "a" })
            s:publish({ "a2", "a3" }, { key = "a" })
            local names = {}
            for i = 1, 30 do names[i] = "b" .. i end
            s:publish(names, { key = "b" })
            local p = s:run()
            s:wait("ended", { "a3" })
            assert.is_true(at(s, "ended", "b30") < at(s, "began", "a1", 2), s:account())
            assert.is_true(at(s, "ended", "a1", 2) < at(s, "began", "a2"), s:account())
            assert.is_true(at(s, "ended", "a2") < at(s, "began", "a3"), s:account())
            assert.equal(0, (app.drain(p)), p:transcript())
        end)

        it("handles keys in parallel, in all workers, one message of each at a time", function()
            local s = new(broker, { group = "prefetch = 10" })
            for i = 1, 10 do s:publish({ ("k%d.1 gate"):format(i), ("k%d.2"):format(i) }, { key = "key " .. i }) end
            local p = s:run { "--workers", "2" }
            s:wait("began", 10)
            local pids, count = {}, 0
            for _, line in ipairs(s:lines()) do
                assert.matches("%.1$", line.name)
                if not pids[line.pid] then count = count + 1 end
                pids[line.pid] = true
            end
            assert.equal(2, count)
            s:open "gate"
            s:wait("ended", 20)
            assert.equal(0, (app.drain(p)), p:transcript())
        end)

        it("takes keys for different that differ in one byte, and keeps the order of each", function()
            local s = new(broker, {})
            local MIB = 1024 * 1024
            local keys = { "\xff\xfe", "\xff\xfd", "x", ("x"):rep(MIB), ("x"):rep(MIB - 1) .. "\xff" }
            local t, records = assert(driver.open(s.url, { must_exist = true })), {}
            for i, key in ipairs(keys) do
                table.insert(records, { partition = 0, key = key, payload = ("k%d.1 gate"):format(i) })
                table.insert(records, { partition = 0, key = key, payload = ("k%d.2"):format(i) })
            end
            t:publish(s.queue, records)
            t:close()
            local p = s:run()
            s:wait("began", { "k1.1", "k2.1", "k3.1", "k4.1", "k5.1" })
            assert.equal(5, s:count "began")
            s:open "gate"
            s:wait("ended", 10)
            assert.equal(0, (app.drain(p)), p:transcript())
        end)

        it("remembers over a kill how often a message was retried, and until when it waits", function()
            local s = new(broker, { group = "max_retries = 2", holds = { "20ms", "3s" },
                kafka = { ["group.instance.id"] = "member" } })
            s:publish({ "a1 again", "a2" }, { key = "a" })
            local p = s:run()
            s:wait("began", { "a1" }, 2)
            local began_ms = uv.hrtime() / 1e6
            wait.until_true(function()
                local position = s:position(0)
                return position and position.attempts[0] == 2
            end, 10000, "a commit that counts two attempts")
            p:kill "sigkill"
            p:wait_exit(10000)
            p = s:run()
            s:wait("began", { "a1" }, 3)
            local waited_ms = uv.hrtime() / 1e6 - began_ms
            assert.is_true(waited_ms > 2500, ("it was handled again after %d ms"):format(waited_ms))
            s:wait("ended", { "a2" })
            local counts = {}
            for _, line in ipairs(s:lines()) do
                if line.name == "a1" and line.verb == "began" then table.insert(counts, line.retry_count) end
            end
            assert.same({ 0, 1, 2 }, counts)
            assert.equal(0, (app.drain(p)), p:transcript())
        end)

        it("does not read a partition on while max_pending_per_key messages wait behind one, and says so", function()
            local s = new(broker, { group = "prefetch = 20, max_pending_per_key = 3" })
            -- c1 is settled meanwhile, so a5 is asked more than once.
            s:publish({ "c1 200ms", "c2" }, { key = "c" })
            s:publish({ "a1 gate", "a2", "a3", "a4", "a5" }, { key = "secret key" })
            s:publish({ "b1" }, { key = "b" })
            local p = s:run { "--listen", "127.0.0.1:0" }
            p:wait_for("max_pending_per_key messages wait behind one of their key", 20000)
            s:wait("began", { "a1" })
            s:wait("ended", { "c2" })
            local answer = http.request(http.port_of(p), "/metrics")
            assert.matches("shove_pending_full_total{[^}]*} 1\n", answer.body)
            assert.equal(0, s:count("began", "a2") + s:count("began", "b1"))
            assert.is_nil(p:transcript():find("secret key", 1, true))
            s:open "gate"
            s:wait("ended", 8)
            assert.equal("a1 a2 a3 a4 a5", (first_begun(s):gsub("[bc]%d ?", ""):gsub(" $", "")))
            assert.equal(0, (app.drain(p)), p:transcript())
        end)

        it("names a key in the log only with --log-keys", function()
            local s = new(broker, { group = "prefetch = 20, max_pending_per_key = 1" })
            s:publish({ "a1 gate", "a2", "a3" }, { key = "plain" })
            local p = s:run { "--log-keys" }
            p:wait_for("max_pending_per_key messages wait .* key=plain", 20000)
            s:open "gate"
            s:wait("ended", 3)
            assert.equal(0, (app.drain(p)), p:transcript())
        end)

        it("keeps the order of a key when its worker dies", function()
            local s = new(broker, {})
            s:publish({ "a1 crash", "a2", "a3" }, { key = "a" })
            local p = s:run()
            s:wait("ended", { "a3" })
            assert.equal("a1 a2 a3", first_begun(s))
            assert.equal(2, s:count("began", "a1"))
            assert.is_true(at(s, "ended", "a1") < at(s, "began", "a2"), s:account())
            assert.equal(2, (app.drain(p)), p:transcript())
        end)

        it("leaves messages that wait for their turn to the next run", function()
            local s = new(broker, {})
            s:publish({ "a1 gate", "a2", "a3" }, { key = "a" })
            local p = s:run()
            s:wait("began", { "a1" })
            p:kill "sigterm"
            p:wait_for("draining", 10000)
            s:open "gate"
            assert.equal(0, (p:wait_exit(20000)), p:transcript())
            assert.equal(0, s:count("began", "a2"))
            p = s:run()
            s:wait("ended", { "a2", "a3" })
            assert.equal(1, s:count("began", "a1"))
            assert.equal(0, (app.drain(p)), p:transcript())
        end)
    end)
end

it("messages without a key, of another producer, are handled as those of any topic", function()
    local s = new(steered.brokers[2], {})
    kafka.shared():produce(s.queue, {
        { value = "a1 gate", key = "a", partition = 0 }, { value = "n1 gate", partition = 0 }, { value = "n2", partition = 0 },
        { value = "a2", key = "a", partition = 0 }, { value = "e1", key = "", partition = 0 },
        { value = "e2 gate", key = "", partition = 0 }, { value = "e3", key = "", partition = 0 },
    })
    local p = s:run()
    s:wait("ended", { "n2", "e1" })
    s:wait("began", { "a1", "n1", "e2" })
    assert.equal(0, s:count("began", "a2") + s:count("began", "e3"))
    s:open "gate"
    s:wait("ended", 7)
    assert.equal(0, (app.drain(p)), p:transcript())
end)
