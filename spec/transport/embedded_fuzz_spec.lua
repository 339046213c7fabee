-- A broker's file with random damage: whatever was hit, the process that opens, reads, writes and cleans it up ends in order,
-- with an error or without. $SHOVE_TEST_SEED repeats a run, $SHOVE_TEST_ROUNDS makes it longer.
local uv = require "luv"
local driver = require "spec.transport.driver"
local process = require "spec.support.process"
local tmp = require "spec.support.tmp"

local PAGE = 4096

-- A file that has seen some life: several topics, commits, deleted records, small and large blocks.
local function lived_in(path)
    local t = assert(driver.open("embedded:" .. path))
    assert(t:declare { { name = "t", partitions = 3 }, { name = "other", partitions = 8 } })
    for round = 1, 12 do
        local records = {}
        for i = 1, 300 do records[i] = { payload = ("%d-%d"):format(round, i) .. ("x"):rep(i % 70), key = "k" .. i } end
        records[301] = { payload = ("large"):rep(round * 4000) }
        for _, ack in ipairs(t:publish(round % 3 == 0 and "other" or "t", records)) do assert.equal(0, ack.code) end
        for i = 1, 5 do t:publish("t", { { payload = "alone " .. i } }) end
        assert(t:committed_set("group-" .. round, "t", 0, round, ("m"):rep(round * 50)))
        if round % 4 == 0 then assert(t:delete_before("t", round % 3, round * 20)) end
    end
    t:close()
    return tmp.read(path)
end

local function random_bytes(size)
    local bytes = {}
    for i = 1, size do bytes[i] = string.char(math.random(0, 255)) end
    return table.concat(bytes)
end

local function replace(whole, at, bytes)
    return whole:sub(1, at) .. bytes .. whole:sub(at + #bytes + 1)
end

-- Pages of trees are few; half of all damage goes there.
local function tree_pages(whole)
    local found = {}
    for page = 0, #whole / PAGE - 1 do
        local flags = whole:byte(page * PAGE + 11)
        if flags ~= 4 and whole:byte(page * PAGE + 12) == 0 then table.insert(found, page) end
    end
    return found
end

local DAMAGE = {
    { "a page zeroed", function(whole, page) return replace(whole, page * PAGE, ("\0"):rep(PAGE)) end },
    { "a page of noise", function(whole, page) return replace(whole, page * PAGE, random_bytes(PAGE)) end },
    { "a page over another", function(whole, page, pages)
        local from = math.random(0, pages - 1)
        return replace(whole, page * PAGE, whole:sub(from * PAGE + 1, (from + 1) * PAGE))
    end },
    { "noise in the head of a page", function(whole, page)
        return replace(whole, page * PAGE + math.random(0, 15), random_bytes(math.random(1, 8)))
    end },
    { "noise inside a page", function(whole, page)
        local size = math.random(1, 64)
        return replace(whole, page * PAGE + math.random(16, PAGE - size), random_bytes(size))
    end },
    { "cut short", function(whole, page) return whole:sub(1, page * PAGE + math.random(0, PAGE - 1)) end },
}

describe("A damaged file of the embedded broker", function()
    it("never brings down the process that opens it", function()
        local seed = tonumber(os.getenv "SHOVE_TEST_SEED") or os.time()
        local rounds = tonumber(os.getenv "SHOVE_TEST_ROUNDS") or 60
        math.randomseed(seed)
        local path = tmp.dir() .. "/broker.db"
        local runner = uv.exepath():match "^(.*)/" .. "/transport_peer"
        local whole = lived_in(path)
        local pages, trees = #whole / PAGE, tree_pages(whole)
        local refused, survived = 0, 0
        for round = 1, rounds do
            local damage = DAMAGE[math.random(#DAMAGE)]
            local page = round % 2 == 0 and math.random(0, pages - 1) or trees[math.random(#trees)]
            tmp.write(path, damage[2](whole, page, pages))
            local result = process.run({ runner, "embedded:" .. path, "exercise", "t" }, driver.deadline_ms)
            local told = ("seed %d, round %d: %s, page %d of %d: code %s, signal %s\n%s%s"):format(seed, round, damage[1],
                page, pages, result.code, result.signal, result.stdout, result.stderr)
            assert(result.signal == 0 and (result.code == 0 or result.code == 1), told)
            if result.code == 0 then survived = survived + 1 else refused = refused + 1 end
        end
        assert(refused > 0 and survived > 0, ("refused %d, survived %d"):format(refused, survived))
    end)
end)
