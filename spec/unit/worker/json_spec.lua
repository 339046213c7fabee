-- The quick reading of JSON: what it takes is what lua-cjson would have made of it; the rest it leaves alone.

local ffi = require "ffi"
local C = require("spec.support.c").include "worker/json.h"

ffi.cdef [[
lua_State *luaL_newstate(void);
void lua_close(lua_State *L);
void luaL_openlibs(lua_State *L);
int luaL_loadbuffer(lua_State *L, const char *text, size_t size, const char *name);
int lua_pcall(lua_State *L, int arguments, int results, int handler);
const char *lua_tolstring(lua_State *L, int index, size_t *size);
int lua_gettop(lua_State *L);
void lua_settop(lua_State *L, int index);
void lua_setfield(lua_State *L, int index, const char *name);
void *malloc(size_t size);
void free(void *memory);
]]

local GLOBALS = -10002
local SEED = os.time()

-- Runs in a state of its own: compares the global `value` with what cjson, configured as lua/shove/codec.lua does, makes
-- of the global `text`.
local JUDGE = [[
local cjson = require("cjson").new()
cjson.decode_invalid_numbers(false)
cjson.decode_max_depth(1000)
local function same(a, b)
    if type(a) ~= type(b) then return false end
    if type(a) == "number" then return a == b and 1 / a == 1 / b end
    if type(a) ~= "table" then return a == b end
    for key, inner in next, a do if not same(inner, b[key]) then return false end end
    for key in next, b do if a[key] == nil then return false end end
    return true
end
function judge()
    local is_json, wanted = pcall(cjson.decode, text)
    if not is_json then return "cjson refuses it: " .. wanted end
    return same(value, wanted) and "same" or "another value"
end
]]

describe("JSON read quickly", function()
    local L, json

    local function run(chunk)
        assert(C.luaL_loadbuffer(L, chunk, #chunk, "=spec") == 0)
        if C.lua_pcall(L, 0, 1, 0) ~= 0 then error(ffi.string(C.lua_tolstring(L, -1, nil))) end
        local text = C.lua_tolstring(L, -1, nil)
        local result = text ~= nil and ffi.string(text) or nil
        C.lua_settop(L, 0)
        return result
    end

    -- "left", or the judge's word. The text lies in memory that is no larger, so that a sanitizer sees a byte too many read.
    local function read(text)
        local copy = ffi.cast("char *", C.malloc(#text))
        ffi.copy(copy, text, #text)
        local is_taken = C.shove_json_push(json, L, copy, #text)
        C.free(copy)
        if not is_taken then
            assert(C.lua_gettop(L) == 0, "it left something on the stack")
            return "left"
        end
        C.lua_setfield(L, GLOBALS, "value")
        run(("text = %q"):format(text))
        return run "return judge()"
    end

    before_each(function()
        L = C.luaL_newstate()
        C.luaL_openlibs(L)
        run(JUDGE)
        json = C.shove_json_new()
        assert(json ~= nil)
    end)

    after_each(function()
        C.shove_json_free(json)
        C.lua_close(L)
    end)

    it("is the same as cjson's", function()
        for _, text in ipairs {
            '{"id":7,"user":"u000007","amount":7.25}', "{}", "[]", "null", "true", "false", "0", '""', "[[],{},[[]]]",
            '{"a":null,"b":[1,null,2],"":""}', "[9007199254740993,18446744073709551615,-9223372036854775808]",
            "[1e3,1E-3,0.1,1.7976931348623157e308,5e-324,-0.0]", '"\\u0000\\n\\ud83d\\ude00\\/"', '{"a":1,"a":2}',
            ' \t\r\n[ 1 , 2 ] ', ' { "a" : 1 , "b" : { } , "c" : [ ] } ', '"' .. ("\195\164"):rep(1000) .. '"',
            "[" .. ("0,"):rep(50000) .. "0]", "-0", "[0,-0,-0.0,-0e5]", '"\255"', '"\127"', '"\\""', '"a\\\\"',
            '"12345678\\t12345678\\b\\f\\r\\"12345678"', '"\\u00E4\\u20ac\\uD83D\\uDE00\\u0001"',
        } do
            assert.are.equal("same", read(text), text:sub(1, 60))
        end
    end)

    it("leaves what is not JSON, and whatever else it cannot represent, to cjson", function()
        for _, text in ipairs {
            "", " ", "{", "[1,]", '{"a":1,}', '{"a"}', '{"a" 1}', "{a:1}", "{,}", "[,]", "[1 2]", "[1}", '{"a":1]', "nul", "nulL",
            "tru", "01", "-01", "00", "+1", ".5", "1.", "-", "-a", "1e", "1e+", "1.e5", "NaN", "Infinity", "0x10", "1e999",
            "-1e400", "1e0000", '"', '"a', '"a\\', '"12345678', '"\1"', '"1234567\n"', '"\\x"', '"\\u12"', '"\\u12g4"', '"\\u"',
            '"\\ud800"', '"\\udc00"', '"\\ud800\\n"', '"\\ud800\\ud800"', '"\\ud83d', '"\\ud83d\\', '"\\ud83d\\ude0', "\0", "1\0",
            "[1] 2", "[1]]", "'a'", ("1"):rep(100), ("["):rep(600) .. ("]"):rep(600), ("["):rep(100000),
            '"' .. ("a"):rep(300 * 1024) .. '"',
        } do
            assert.are.equal("left", read(text), text:sub(1, 60))
        end
    end)

    it("is deep enough for what people write", function()
        assert.are.equal("same", read(("["):rep(450) .. ("]"):rep(450)))
    end)

    it("takes every number that has at most 64 characters and a double near it, and the same double", function()
        math.randomseed(SEED)
        local random = math.random
        local function digits(most)
            local list = {}
            for i = 1, random(1, most) do list[i] = random(0, 9) end
            return table.concat(list)
        end
        for _ = 1, 20000 do
            local text = (random(2) == 1 and "-" or "") .. (random(4) == 1 and "0" or random(1, 9) .. digits(20))
            if random(2) == 1 then text = text .. "." .. digits(20) end
            if random(2) == 1 then text = text .. ("e%s%d"):format(({ "", "+", "-" })[random(3)], random(0, 250)) end
            assert.are.equal("same", read(text), ("seed %d: %s"):format(SEED, text))
        end
        for _, text in ipairs { "9007199254740992", "9007199254740993", "9007199254740993.0", "0.1", "1e22", "1e23", "1e-22",
            "1e-23", "9007199254740991e22", "9007199254740993e22", "18446744073709551616", "9999999999999999999",
            "10000000000000000000", "0.000000000000000000000000000001", "2.2250738585072011e-308", "4.9e-324", "1e-400",
            "1.7976931348623157e308" } do
            assert.are.equal("same", read(text), text)
        end
    end)

    it("makes no other table when the text before it had larger or smaller ones", function()
        local texts = { "{}", "[]" }
        for _, count in ipairs { 1, 3, 100, 1000 } do
            local pairs_of, elements = {}, {}
            for i = 1, count do pairs_of[i], elements[i] = ('"k%d":{"n":[%d]}'):format(i, i), "[" .. i .. "]" end
            table.insert(texts, "{" .. table.concat(pairs_of, ",") .. "}")
            table.insert(texts, "[" .. table.concat(elements, ",") .. "]")
        end
        for _, first in ipairs(texts) do
            for _, second in ipairs(texts) do
                read(first)
                assert.are.equal("same", read(second))
            end
        end
    end)

    it("says nothing else than cjson about 20,000 texts made by chance and damaged", function()
        math.randomseed(SEED)
        local random = math.random
        local scalars = { "0", "-1", "12.5", "1e5", "true", "null", '"x"', '"\\u00e4"', '"\195\164"', "-0", "123456789012",
            '"12345678\\n"', '"\\ud83d\\ude00"', "1.7976931348623157e308", " false ", '"\\\\\\\""', "0.30000000000000004" }
        local function make(depth)
            local kind = depth > 3 and 1 or random(3)
            if kind == 1 then return scalars[random(#scalars)] end
            local parts = {}
            for i = 1, random(0, 4) do
                local inner = make(depth + 1)
                parts[i] = kind == 2 and inner or ('"k%d":%s'):format(random(3), inner)
            end
            local text = table.concat(parts, ",")
            return kind == 2 and "[" .. text .. "]" or "{" .. text .. "}"
        end
        local taken = 0
        for _ = 1, 20000 do
            local text = make(0)
            if random(2) == 1 and #text > 0 then
                local at = random(#text)
                text = text:sub(1, at - 1) .. string.char(random(0, 255)) .. text:sub(at + random(0, 1))
            end
            local verdict = read(text)
            assert.is_true(verdict == "same" or verdict == "left", ("seed %d: %q: %s"):format(SEED, text, verdict))
            taken = taken + (verdict == "same" and 1 or 0)
        end
        assert.is_true(taken > 5000, "it took only " .. taken)
    end)

    it("refuses texts again and again without growing", function()
        for _ = 1, 1000 do read '{"a":[1,2,{"b":' end
        assert.are.equal("same", read "[1]")
    end)
end)
