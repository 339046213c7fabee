-- Bodies and payloads.

require "spec.lua.script"
local codec = require "shove.codec"
local shove = require "shove"

local json = codec.json

local function refusal(encode_or_decode, value)
    local is_ok, message = pcall(encode_or_decode, value)
    assert.is_false(is_ok)
    return message
end

describe("JSON", function()
    it("writes and reads what both sides know", function()
        local body = { id = "o-1", amount = 12.5, lines = { { sku = "a", n = 1 }, { sku = "b", n = 2 } }, paid = false }
        assert.same(body, json.decode(json.encode(body)))
    end)

    it("has null as shove.null, inside and at the top", function()
        assert.equal('{"a":null}', json.encode { a = shove.null })
        assert.equal("[1,null]", json.encode { 1, shove.null })
        assert.equal(shove.null, json.decode('{"a":null}').a)
        assert.equal(shove.null, json.decode "null")
    end)

    it("writes an empty table as an object and shove.empty_array as an array", function()
        assert.equal("{}", json.encode {})
        assert.equal("[]", json.encode(shove.empty_array))
        assert.equal('{"a":[]}', json.encode { a = shove.empty_array })
        assert.equal("[[],[1]]", json.encode { shove.empty_array, { 1 } })
    end)

    it("refuses to fill shove.empty_array", function()
        assert.truthy(refusal(function() shove.empty_array[1] = 2 end):find "shove.empty_array is a constant")
    end)

    -- number | text
    for _, row in ipairs {
        { 1, "1" }, { -0.5, "-0.5" }, { 99999999999999, "99999999999999" }, { 1700000000123456, "1700000000123456" },
        { 2 ^ 53, "9007199254740992" }, { -(2 ^ 53), "-9007199254740992" }, { 0.1, "0.1" },
        { 0.1 + 0.2, "0.30000000000000004" }, { 1 / 3, "0.3333333333333333" }, { 1e300, "1e+300" }, { 1e15, "1e+15" },
    } do
        it("writes all digits of " .. row[2], function()
            assert.equal(("[%s]"):format(row[2]), json.encode { row[1] })
            assert.equal(row[1], json.decode(json.encode { row[1] })[1])
        end)
    end

    it("writes all digits of numbers that are keys", function()
        assert.equal("x", json.decode(json.encode { [1700000000123456] = "x", a = 1 })["1700000000123456"])
    end)

    it("writes any double so that it reads as the same", function()
        local seed = os.time()
        math.randomseed(seed)
        for _ = 1, 20000 do
            local number = (math.random() - 0.5) * 10 ^ math.random(-300, 300)
            assert.equal(number, json.decode(json.encode { number })[1], "seed " .. seed)
        end
    end)

    it("leaves text alone that looks like what it uses inside", function()
        local body = { 2 ^ 53, "shove-place-1-1:", "shove-place-2-1:", '"shove-place-3-', shove.empty_array }
        local read = json.decode(json.encode(body))
        assert.same({ 2 ^ 53, "shove-place-1-1:", "shove-place-2-1:", '"shove-place-3-', {} }, read)
    end)

    -- sentence | body | part of the message
    local recursive = {}
    recursive.self = { recursive, recursive }
    for _, row in ipairs {
        { "a table with holes", { 1, nil, 3 }, "a table has holes; fill them with shove.null or use string keys" },
        { "a sparse table", { [1000] = 1 }, "a table has holes" },
        { "NaN", { 0 / 0 }, "NaN and infinity are not JSON" },
        { "infinity", { math.huge }, "NaN and infinity are not JSON" },
        { "a function", { print }, "functions, threads and C data are not JSON" },
        { "C data", { 1LL }, "functions, threads and C data are not JSON" },
        { "a table in itself", recursive, "nested more than 1000 deep, or contain themselves" },
        { "a boolean key", { [true] = 1 }, "table key must be a number or string" },
    } do
        it("refuses to write " .. row[1], function()
            local message = refusal(json.encode, row[2])
            assert.truthy(message:find("^the body cannot be written as JSON: "), message)
            assert.truthy(message:find(row[3], 1, true), message)
        end)
    end

    for _, payload in ipairs {
        "", "{", "[1,]", "nan", "[NaN]", "[Infinity]", "[0x10]", "[01]", "{} x", "{'a':1}", '"\\ud800"', "[+1]",
        ("["):rep(1001) .. ("]"):rep(1001), "\239\187\191{}", "\255\254", "[1", '{"a"}',
    } do
        it(("refuses to read %q"):format(payload:sub(1, 20)), function()
            refusal(json.decode, payload)
        end)
    end

    it("leaves the settings of a script's own cjson alone", function()
        local cjson = require "cjson"
        assert.equal("[0.33333333333333]", cjson.encode { 1 / 3 })
        assert.is_true(pcall(cjson.decode, "[NaN]"))
    end)
end)

describe("The codec raw", function()
    it("is the payload itself", function()
        local payload = "\0\255{"
        assert.equal(payload, codec.raw.encode(payload))
        assert.equal(payload, codec.raw.decode(payload))
    end)

    it("refuses a body that is no string", function()
        assert.equal('the codec is "raw": the body is a table, not a string', refusal(codec.raw.encode, {}))
        assert.equal('the codec is "raw": the body is 5, not a string', refusal(codec.raw.encode, 5))
    end)
end)

describe("A codec of the script's own", function()
    it("is called for both ways", function()
        local custom = codec.check { encode = string.upper, decode = string.lower }
        assert.equal("custom", custom.name)
        assert.equal("ABC", custom.encode "abc")
        assert.equal("abc", custom.decode "ABC")
    end)

    it("must make a string of a body", function()
        local custom = codec.check { encode = function() return nil end, decode = string.lower }
        assert.equal("the codec's encode returned nil, not a string", refusal(custom.encode, {}))
    end)

    it("may return nil and a reason instead of raising", function()
        local custom = codec.check {
            encode = function() return nil, "too deep" end,
            decode = function(payload)
                if payload == "" then return nil end
                return nil, "bad checksum"
            end,
        }
        assert.equal("the codec's encode returned nil, not a string: too deep", refusal(custom.encode, {}))
        assert.equal("bad checksum", refusal(custom.decode, "x"))
        assert.is_nil(custom.decode "")
    end)

    it("raises what it raises", function()
        local custom = codec.check { encode = string.upper, decode = function() error("bad checksum", 0) end }
        assert.equal("bad checksum", refusal(custom.decode, "x"))
    end)
end)
