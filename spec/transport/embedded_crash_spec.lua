-- SIGKILL at any time: what the embedded broker acknowledged is there. $SHOVE_TEST_SEED repeats a run, $SHOVE_TEST_ROUNDS
-- makes it longer.
local uv = require "luv"
local driver = require "spec.transport.driver"
local process = require "spec.support.process"
local tmp = require "spec.support.tmp"

local seed = tonumber(os.getenv "SHOVE_TEST_SEED") or os.time()
local rounds = tonumber(os.getenv "SHOVE_TEST_ROUNDS") or 15

local function append_and_die(path, acks_before_death)
    local runner = uv.exepath():match "^(.*)/" .. "/transport_peer"
    local writer = process.spawn { runner, "embedded:" .. path, "append", "t" }
    require("spec.support.wait").until_true(function() return #writer.lines >= acks_before_death end,
        driver.deadline_ms, "acknowledgements")
    writer:kill "sigkill"
    local _, signal = writer:wait_exit(driver.deadline_ms)
    assert.equal(9, signal)
    return writer
end

-- The last line may have been cut by the death: only whole ones count, and the reader of the pipe adds no newline.
local function acknowledged_by(writer)
    local acks = {}
    for whole in writer:text "stdout":gmatch "([^\n]*)\n" do
        local partition, offset, number = whole:match "^ack (%d+) (%d+) (%d+)$"
        assert(partition, whole)
        acks[partition .. ":" .. offset] = number
    end
    return acks
end

local function add(all, acks)
    local count = 0
    for place, number in pairs(acks) do
        assert.is_nil(all[place], "offset given out twice: " .. place)
        all[place] = number
        count = count + 1
    end
    return count
end

local function all_are_there(all, records)
    local found = {}
    for _, record in ipairs(records) do found[record.partition .. ":" .. record.offset] = record.payload end
    for place, number in pairs(all) do
        if found[place] ~= number then
            error(("seed %d: %s was acknowledged as %s and is %s"):format(seed, place, number, tostring(found[place])))
        end
    end
end

describe("The embedded broker", function()
    it("has every record it acknowledged before its writer was killed", function()
        math.randomseed(seed)
        local path = tmp.dir() .. "/broker.db"
        local t = assert(driver.open("embedded:" .. path))
        assert(t:declare { { name = "t", partitions = 3 } })
        t:close()
        local all, total = {}, 0
        for _ = 1, rounds do
            local writer = append_and_die(path, math.random(1, 4000))
            total = total + add(all, acknowledged_by(writer))
            t = assert(driver.open("embedded:" .. path))
            all_are_there(all, t:read_all "t")
            t:close()
        end
        assert.is_true(total > rounds)
    end)

    it("goes on in the other processes when one is killed in the middle of a write", function()
        math.randomseed(seed)
        local path = tmp.dir() .. "/broker.db"
        local t = assert(driver.open("embedded:" .. path))
        assert(t:declare { { name = "t", partitions = 3 } })
        local sub = assert(t:subscribe { group = "g", topics = { "t" } })
        local claims = t:wait_claims(sub, 3)
        local all, taken = {}, {}
        for round = 1, rounds do
            local expected = add(all, acknowledged_by(append_and_die(path, math.random(1, 1500))))
            local ack = t:publish("t", { { payload = "own " .. round } })[1]
            assert.equal(0, ack.code)
            all[ack.partition .. ":" .. ack.offset] = "own " .. round
            for _, record in ipairs(t:take(claims, expected + 1)) do table.insert(taken, record) end
            all_are_there(all, taken)
        end
        -- Nothing twice, nothing left out.
        local nexts = { [0] = 0, 0, 0 }
        for _, record in ipairs(taken) do
            assert.equal(nexts[record.partition], record.offset)
            nexts[record.partition] = record.offset + 1
        end
        t:leave(sub)
    end)
end)
