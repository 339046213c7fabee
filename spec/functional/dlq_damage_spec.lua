-- `shove dlq` on an embedded file that is damaged in the middle: what can be read is read, and what cannot is named.

local app = require "spec.support.app"
local tmp = require "spec.support.tmp"

local SOURCE = [[
local shove = require "shove"
local app = shove.registry { broker = "embedded:./shove.db" }
app:register(app:topic("orders", { hold = { "1s" }, dlq = true, partitions = 4, codec = "raw" }), {}, function() end)
return app
]]

local function dlq(a, command, ...)
    return a:command("dlq " .. command, { "orders", ... })
end

-- A letter in each of four partitions, the one in partition 1 spoilt.
local function scene()
    local a = app.new { source = SOURCE }
    for partition = 0, 3 do
        local letter = ("letter-%d-"):format(partition) .. ("x"):rep(200)
        local result = a:command("publish", { "orders-dlq", letter, "--partition", tostring(partition) })
        assert.equal(0, result.code, result.stderr)
    end
    local path = a:file "shove.db"
    local spoilt, count = tmp.read(path):gsub("letter%-1%-x", "letter-1-y")
    assert.is_true(count > 0)
    tmp.write(path, spoilt)
    return a
end

local function assert_names_it(result)
    assert.equal(1, result.code)
    assert.matches("topic 'orders%-dlq' partition 1 offset 0: .*damaged.*restore it from a backup", result.stderr)
end

describe("A DLQ that is damaged in one partition", function()
    local a

    before_each(function() a = scene() end)

    it("is listed as far as it can be read", function()
        local result = dlq(a, "list")
        assert_names_it(result)
        for _, position in ipairs { "0:0", "2:0", "3:0" } do assert.matches("\n" .. position, result.stdout, 1, true) end
        assert.matches("3 in orders-dlq\n", result.stdout, 1, true)
    end)

    it("has what can be read replayed, and nothing twice", function()
        local first = dlq(a, "replay")
        assert_names_it(first)
        assert.matches("replayed 3 dead letters", first.stdout, 1, true)
        local second = dlq(a, "replay")
        assert_names_it(second)
        assert.matches("replayed 0 dead letters", second.stdout, 1, true)
    end)

    it("has what can be read purged", function()
        local result = dlq(a, "purge", "--yes")
        assert_names_it(result)
        assert.matches("purged 3 dead letters", result.stdout, 1, true)
        assert.is_nil(dlq(a, "list").stdout:find ":0")
    end)
end)
