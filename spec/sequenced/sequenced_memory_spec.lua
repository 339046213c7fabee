-- Sequenced topics on the memory broker, where only the app itself publishes.

local assert = require "luassert"
local app = require "spec.support.app"
local sequenced = require "spec.support.sequenced"

local LETTERS = [[
app:dead_letters(queue, function(dead) write(dead, dead.reason) end)
]]

-- texts of key a, and 1 to 3 of key b, mixed.
local function start(policy, texts)
    local brings = {}
    for i = 1, math.max(#texts, 3) do
        if texts[i] then table.insert(brings, { "a", texts[i] }) end
        if i <= 3 then table.insert(brings, { "b", "b" .. i }) end
    end
    local s = sequenced.new(sequenced.memory, { policy = policy, brings = brings, extra = LETTERS })
    return s, s:run()
end

describe("a sequenced topic, on memory,", function()
    it("has messages 1 2 4 5 handled when 3 of 1 to 5 is rejected, with skip", function()
        local s, p = start("skip", { "a1", "a2", "a3 reject", "a4", "a5" })
        s:wait("ended", { "a5", "b3" })
        s:wait("rejected", { "a3" })
        assert.equal(sequenced.straight("a", 5), s:course "a")
        assert.equal(sequenced.straight("b", 3), s:course "b")
        assert.equal(0, (app.drain(p)), p:transcript())
        p:wait_for("acked=7 .*dead letters=1 ", 0)
    end)

    it("has messages 1 2 handled and 3 4 5 dead-lettered when 3 of 1 to 5 is rejected, with fail_all", function()
        local s, p = start("fail_all", { "a1", "a2", "a3 reject", "a4", "a5" })
        s:wait("ended", { "b3" })
        s:wait("sequence_poisoned", { "a4", "a5" })
        assert.equal(sequenced.straight("a", 3), s:course "a")
        assert.equal(sequenced.straight("b", 3), s:course "b")
        local letters = {}
        for _, line in ipairs(s:lines()) do
            if line.verb ~= "began" and line.verb ~= "ended" then table.insert(letters, line.verb .. " " .. line.name) end
        end
        assert.same({ "rejected a3", "sequence_poisoned a4", "sequence_poisoned a5" }, letters)
        assert.equal(0, (app.drain(p)), p:transcript())
    end)

    for _, policy in ipairs { "skip", "fail_all" } do
        it(("has a key wait for its retry, and no other, with %q"):format(policy), function()
            local s, p = start(policy, { "a1", "a2 twice", "a3", "a4 retry", "a5" })
            s:wait("ended", { "a5", "b3" })
            assert.equal("a1 a1. a2 a2. a2:1 a2:1. a2:2 a2:2. a3 a3. a4 a4. a4:1 a4:1. a5 a5.", s:course "a")
            assert.equal(sequenced.straight("b", 3), s:course "b")
            assert.is_true(sequenced.at(s, "ended", "b3") < sequenced.at(s, "began", "a2", 2), s:account())
            assert.equal(0, (app.drain(p)), p:transcript())
        end)
    end
end)
