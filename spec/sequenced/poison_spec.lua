-- Topics that are sequenced = "fail_all": a dead letter poisons its key. Under kills: spec/crash/poison_spec.lua.

local cjson = require "cjson"
local assert = require "luassert"
local app = require "spec.support.app"
local driver = require "spec.transport.driver"
local http = require "spec.support.http"
local sequenced = require "spec.support.sequenced"
local steered = require "spec.support.steered"
local wait = require "spec.support.wait"

local WAIT_MS = 20000
-- Promised, from the end of the clear on: a look every five seconds, and one for the reading. That is what a busy machine
-- has, too; more is a matter of $SHOVE_TEST_PATIENCE.
local CLEARED_MS = 6000

local letters, write = sequenced.letters, sequenced.write

local function new(broker, options)
    options = options or {}
    options.policy = "fail_all"
    return sequenced.new(broker, options)
end

for _, broker in ipairs(steered.brokers) do
    describe('a topic with sequenced = "fail_all", on ' .. broker.name .. ",", function()
        it("has 1 2 handled and 3 4 5 dead-lettered, in that order, when 3 is rejected; other keys are untouched", function()
            local s = new(broker)
            s:publish({ "a1", "a2", "a3 reject", "a4", "a5" }, { key = "a" })
            s:publish({ "b1", "b2" }, { key = "b" })
            local p = s:run { "--listen", "0" }
            s:wait("ended", { "a1", "a2", "a3", "b1", "b2" })
            s:wait_letters(3)
            assert.equal("a3 rejected, a4 sequence_poisoned, a5 sequence_poisoned", letters(s))
            assert.same({ "a1", "a2", "a3", "b1", "b2" }, s:names "began")
            local metrics = http.request(http.port_of(p), "/metrics").body
            assert.matches("shove_poisoned_keys{[^}]*} 1\n", metrics)
            assert.matches('shove_messages_failed_total{[^}]*reason="sequence_poisoned"} 2\n', metrics)
            assert.equal(0, (app.drain(p)), p:transcript())
            p:wait_for("the key is poisoned: .*key=%x%x%x%x%x%x%x%x ", 0)
        end)

        it("keeps in a topic of its own which keys are poisoned, by which message", function()
            local s = new(broker)
            s:publish({ "a1", "a2 reject" }, { key = "a" })
            local p = s:run()
            s:wait_letters(1)
            assert.equal(0, (app.drain(p)), p:transcript())
            local records = driver.records_of(s.url, s.queue .. "-poison")
            assert.equal(1, #records)
            assert.equal("a", records[1].key)
            local said = cjson.decode(records[1].payload)
            assert.same({ 1, "rejected" }, { said.offset, said.reason })
        end)

        it("remembers poisoned keys over a restart, and handles nothing of them", function()
            local s = new(broker)
            s:publish({ "a1 reject" }, { key = "a" })
            local p = s:run()
            s:wait_letters(1)
            assert.equal(0, (app.drain(p)), p:transcript())
            s:publish({ "a2" }, { key = "a" })
            s:publish({ "b1" }, { key = "b" })
            p = s:run()
            s:wait("ended", { "b1" })
            s:wait_letters(2)
            assert.equal("a1 rejected, a2 sequence_poisoned", letters(s))
            assert.equal(0, s:count("began", "a2"))
            assert.equal(0, (app.drain(p)), p:transcript())
        end)

        it("dead-letters what waited behind the message that poisoned its key, whatever it died of", function()
            local s = new(broker, { group = 'prefetch = 20, max_retries = 1, handler_timeout = "300ms", on_timeout = "reject", '
                .. 'max_message_size = "1KiB", max_crashes = 1' })
            s:publish({ "a1 again", "a2" }, { key = "a" })
            s:publish({ "b1 shut", "b2" }, { key = "b" })
            write(s, { "c1 ." .. ("."):rep(2000), "c2" }, "c")
            local p = s:run()
            s:wait_letters(6)
            s:publish({ "d1 crash", "d2" }, { key = "d" })
            s:wait_letters(8)
            local found = {}
            for letter in letters(s):gmatch "%w+ [%w_]+" do table.insert(found, letter) end
            table.sort(found)
            assert.same({ "a1 max_retries_exceeded", "a2 sequence_poisoned", "b1 timeout", "b2 sequence_poisoned", "c1 oversize",
                "c2 sequence_poisoned", "d1 crashed", "d2 sequence_poisoned" }, found)
            for _, name in ipairs { "a2", "b2", "c1", "c2", "d2" } do assert.equal(0, s:count("began", name), name) end
            assert.equal(2, (app.drain(p)), p:transcript()) -- a worker died
        end)

        it("poisons nothing by a message without a key", function()
            local s = new(broker)
            write(s, { "a1 reject", "a2" })
            local p = s:run()
            s:wait("ended", { "a2" })
            s:wait_letters(1)
            assert.equal("a1 rejected", letters(s))
            assert.equal(0, (app.drain(p)), p:transcript())
            assert.equal(0, #driver.records_of(s.url, s.queue .. "-poison"))
        end)

        it("discards instead where there is no DLQ, and remembers it as well", function()
            local s = new(broker, { holds = false, topic = "allow_message_loss = true," })
            s:publish({ "a1 reject", "a2" }, { key = "a" })
            s:publish({ "b1" }, { key = "b" })
            local p = s:run()
            s:wait("ended", { "b1" })
            wait.until_true(function()
                return cjson.decode(s.app:command("status", { "--json" }).stdout)[1].groups[1].discarded == 2
            end, WAIT_MS, "two to be discarded")
            assert.equal(0, (app.drain(p)), p:transcript())
            s:publish({ "a3" }, { key = "a" })
            s:publish({ "b2" }, { key = "b" })
            p = s:run()
            s:wait("ended", { "b2" })
            assert.equal(0, (app.drain(p)), p:transcript())
            assert.equal(0, s:count("began", "a2") + s:count("began", "a3"))
        end)

        it("goes on with a key that was cleared, while it runs", function()
            local s = new(broker)
            s:publish({ "a1 reject", "a2" }, { key = "a" })
            s:publish({ "c1 reject" }, { key = "c" })
            local p = s:run { "--listen", "0" }
            local port = http.port_of(p)
            s:wait_letters(3)
            local cleared = s.app:command("poison clear", { s.queue, "a" }, WAIT_MS)
            assert.equal(0, cleared.code, cleared.stderr)
            wait.until_true(function()
                return http.request(port, "/metrics").body:find "shove_poisoned_keys{[^}]*} 1\n"
            end, CLEARED_MS, "the key to be cleared in the run")
            s:publish({ "c2" }, { key = "c" })
            s:publish({ "a3", "a4 reject", "a5" }, { key = "a" })
            s:wait("ended", { "a3", "a4" })
            s:wait_letters(6)
            assert.equal(0, s:count("began", "a5") + s:count("began", "c2"))
            assert.equal(0, (app.drain(p)), p:transcript())
            s:publish({ "a6" }, { key = "a" })
            s:publish({ "b1" }, { key = "b" })
            p = s:run()
            s:wait("ended", { "b1" })
            s:wait_letters(7)
            assert.equal(0, s:count("began", "a6"))
            assert.equal(0, (app.drain(p)), p:transcript())
        end)

        it("reads more poisoned keys than one reading gives", function()
            local s = new(broker)
            local t = assert(driver.open(s.url, { must_exist = true }))
            local records = {}
            for i = 1, 5000 do
                records[i] = { partition = 0, key = "key " .. i, payload = '{"offset":0,"reason":"rejected","poisoned_at":0}' }
            end
            t:publish(s.queue .. "-poison", records)
            t:close()
            s:publish({ "a0" }, { key = "other" })
            s:publish({ "a1" }, { key = "key 5000" })
            s:publish({ "a2" }, { key = "key 1" })
            s:publish({ "b1" }, { key = "b" })
            local p = s:run()
            s:wait("ended", { "a0", "b1" })
            s:wait_letters(2)
            assert.equal(0, s:count("began", "a1") + s:count("began", "a2"))
            assert.equal(0, (app.drain(p)), p:transcript())
        end)
    end)
end
