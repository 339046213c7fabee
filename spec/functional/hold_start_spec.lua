-- Where a group begins in its holds: with the oldest record, whatever its policy for the queue itself.

local app = require "spec.support.app"
local steered = require "spec.support.steered"

-- The same queue as another stage, with other options.
local function beside(s, options)
    options.url, options.queue = s.url, s.queue
    return steered.new(options)
end

for _, broker in ipairs(steered.brokers) do
    it("a group whose policy is none runs on when it is given a hold, on " .. broker.name, function()
        local before = steered.new { url = broker.url }
        before:declare()
        local s = beside(before, { holds = { "100ms" }, group = 'auto_offset_reset = "none"' })
        local p = s:run()
        s:publish { "a retry" }
        s:wait("ended", { "a" }, 2)
        assert.equal(0, (app.drain(p)), p:transcript())
    end)
end

it("a hold's records are handled although nothing is committed there and the policy is latest, on Kafka", function()
    local url = steered.brokers[2].url()
    local before = steered.new { url = url, holds = { "100ms" }, group = "max_retries = 1" }
    before:declare()
    local p = before:run()
    before:publish { "a retry" }
    before:wait("ended", { "a" }, 2)
    assert.equal(0, (app.drain(p)), p:transcript())

    -- As another member would have stored it, in a hold that this one has not been assigned yet.
    local held = before.broker:read(before.queue .. "-hold-100ms", { count = 1 })[1]
    before.broker:create_topic(before.queue .. "-hold-200ms")
    held.partition, held.offset = 0, nil
    before.broker:produce(before.queue .. "-hold-200ms", { held })
    local s = steered.new {
        url = url, queue = before.queue, holds = { "200ms" }, group = 'auto_offset_reset = "latest"',
    }
    p = s:run()
    s:wait("ended", { "a" })
    assert.equal(0, (app.drain(p)), p:transcript())
end)

for _, broker in ipairs(steered.brokers) do
    it("a hold's record that is not shove's is passed over, and said so with its place, on " .. broker.name, function()
        local s = steered.new { url = broker.url, holds = { "100ms" } }
        s:declare()
        local hold = s.queue .. "-hold-100ms"
        if s.broker then
            s.broker:produce(hold, { { value = "stranger", partition = 0 } })
        else
            local driver = require "spec.transport.driver"
            local t = assert(driver.open(s.url, { must_exist = true }))
            t:publish(hold, { { payload = "stranger", partition = 0 } })
            t:close()
        end
        local p = s:run()
        local line = p:wait_for("a record in a hold was not written by shove", 20000)
        assert.matches(("record=%s/0@0 +queue=%s$"):format(hold:gsub("%-", "%%-"), (s.queue:gsub("%-", "%%-"))), line)
        s:publish { "a retry" }
        s:wait("ended", { "a" }, 2)
        assert.equal(0, (app.drain(p)), p:transcript())
        assert.equal(2, s:count "began")
        p = s:run()
        s:publish { "b" }
        s:wait("ended", { "b" })
        assert.equal(0, (app.drain(p)), p:transcript())
        assert.is_nil(p:text "stderr":find("was not written by shove", 1, true))
    end)
end
