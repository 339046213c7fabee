-- The text that travels with a commit: what it costs, what it refuses, what it leaves out when it is full.
local ffi = require "ffi"
local C, constants = require("spec.support.c").include("core/ledger.h", "base/encoding.h", "base/buffer.h")

local METADATA_MAX = constants.SHOVE_LEDGER_METADATA_MAX

-- A ledger with [first, last] delivered and all closed for which `is_open(offset)` is false. Keeps its entries alive.
local function new_ledger(first, last, is_open)
    local ledger = ffi.gc(ffi.new "struct shove_ledger", C.shove_ledger_release)
    local entries = ffi.new("struct shove_ledger_entry[?]", math.max(last - first + 1, 1))
    C.shove_ledger_init(ledger, first)
    for offset = first, last do
        local entry = entries + (offset - first)
        assert(C.shove_ledger_deliver(ledger, entry, offset, 0) == C.SHOVE_LEDGER_OPENED)
        if not is_open(offset) then C.shove_ledger_close(ledger, entry) end
    end
    return { c = ledger, entries = entries, first = first }
end

local function metadata(ledger, max_chars)
    max_chars = max_chars or METADATA_MAX
    local out, coverage = ffi.new("char[?]", max_chars + 2, 0x7F), ffi.new "struct shove_ledger_coverage"
    C.shove_ledger_metadata(ledger.c, out, max_chars, coverage)
    local text = ffi.string(out)
    assert.is_true(#text <= max_chars and out[max_chars + 1] == 0x7F)
    return text, coverage
end

local function frontier(ledger)
    return tonumber(C.shove_ledger_frontier(ledger.c))
end

-- A restored ledger, or nil, the code and the words. A ledger that refuses must be as it was.
local function restore(text, start_offset)
    local ledger, err = ffi.gc(ffi.new "struct shove_ledger", C.shove_ledger_release), ffi.new "struct shove_error"
    C.shove_ledger_init(ledger, start_offset)
    local before = ffi.string(ledger, ffi.sizeof(ledger))
    local code = C.shove_ledger_restore(ledger, text, #text, err)
    if code == 0 then return ledger end
    assert.are.equal(before, ffi.string(ledger, ffi.sizeof(ledger)))
    return nil, code, ffi.string(err.text)
end

local function refused(words, text, start_offset)
    local ledger, code, said = restore(text, start_offset or 0)
    assert.is_nil(ledger)
    assert.are.equal(C.SHOVE_ECORRUPT, code)
    assert.truthy(said:find(words, 1, true), said)
end

local function encode(bytes)
    local out = ffi.new("char[?]", #bytes * 2 + 8)
    C.shove_base64_encode(bytes, #bytes, out)
    return ffi.string(out)
end

local function decode(text)
    local out = ffi.new("uint8_t[?]", #text)
    return ffi.string(out, C.shove_base64_decode(text, #text, out))
end

-- Metadata with a right checksum around any body (frontier and tokens).
local function sealed(body, version)
    local crc = C.shove_crc32(0, body, #body)
    local bytes = { "SL", string.char(version or 2) }
    for i = 0, 3 do bytes[#bytes + 1] = string.char(bit.band(bit.rshift(crc, 8 * i), 255)) end
    return encode(table.concat(bytes) .. body)
end

local SINGLE, RUN, NOTED, END = 0, 1, 2, 3

local function varint(value)
    local out = ffi.new "uint8_t[10]"
    return ffi.string(out, C.shove_varint_write(out, value))
end

local function token(kind, gap, rest)
    return varint(bit.bor(bit.lshift(ffi.cast("uint64_t", gap), 2), kind)) .. (rest or kind == END and "\0" or "")
end

local function every(n)
    return function(offset) return offset % n == 0 end
end

describe("Commit metadata", function()
    it("is empty when nothing is open", function()
        local text, coverage = metadata(new_ledger(0, 99, function() return false end))
        assert.are.equal("", text)
        assert.is_true(coverage.speaks_to == 100 and coverage.listed == 0 and coverage.may_repeat == 0)
        assert.are.equal("", (metadata(new_ledger(7, 6, every(1)))))
    end)

    it("is text that Kafka takes: base64, and it says whose it is", function()
        local text = metadata(new_ledger(0, 99, every(7)))
        assert.truthy(text:match "^U0wC[%w+/]+=*$")
    end)

    it("costs about a byte for an open message among finished ones", function()
        local ledger = new_ledger(1000000000, 1000030000, every(15))
        local text, coverage = metadata(ledger)
        assert.are.equal(2000, tonumber(coverage.listed))
        assert.is_true(#text < 2000 * 4 / 3 + 40)
    end)

    it("names a thousand and more scattered open messages, with attempts each", function()
        local ledger = new_ledger(0, 5000, every(10))
        for i = 0, 5000, 10 do ledger.entries[i].attempts, ledger.entries[i].crashes = 3, 1 end
        local _, coverage = metadata(ledger)
        assert.are.equal(501, tonumber(coverage.listed))
        assert.are.equal(0, tonumber(coverage.unlisted))
        _, coverage = metadata(new_ledger(0, 60000, every(30)))
        assert.are.equal(2001, tonumber(coverage.listed))
    end)

    it("costs next to nothing for a burst in flight, however large", function()
        local text, coverage = metadata(new_ledger(0, 99999, every(1)))
        assert.are.equal(100000, tonumber(coverage.listed))
        assert.is_true(#text < 40)
        local ledger = restore(text, 0)
        assert.are.equal(100000, tonumber(ledger.mark_count))
    end)

    it("fits in what it is given, and is cut from the far end", function()
        local ledger = new_ledger(0, 50000, every(13))
        for _, max_chars in ipairs { METADATA_MAX, 3000, 2048, 1000, 100, 60, 44, 43, 40 } do
            local text, coverage = metadata(ledger, max_chars)
            local listed, speaks_to = tonumber(coverage.listed), tonumber(coverage.speaks_to)
            assert.is_true(listed > 0 and listed < 3847)
            assert.are.equal(3847, listed + tonumber(coverage.unlisted))
            -- Up to the first offset that is not named everything is known.
            assert.are.equal(listed * 13, speaks_to)
            assert.are.equal(50001 - speaks_to - tonumber(coverage.unlisted), tonumber(coverage.may_repeat))
            local restored = restore(text, 0)
            assert.are.equal(speaks_to, tonumber(restored.speaks_to))
            assert.are.equal(listed, tonumber(restored.mark_count))
            for i = 0, listed - 1 do assert.is_true(restored.marks[i].offset == i * 13) end
        end
    end)

    it("is empty, and says so, when there is no room for even one message", function()
        local ledger = new_ledger(5, 99, every(5))
        for max_chars = 0, 20 do
            local text, coverage = metadata(ledger, max_chars)
            if text == "" then
                assert.is_true(coverage.speaks_to == 5 and coverage.listed == 0 and coverage.unlisted == 19)
                assert.is_true(coverage.may_repeat == 76)
            end
        end
        assert.are.equal("", (metadata(ledger, 15)))
        assert.are_not.equal("", (metadata(ledger, 28)))
    end)

    it("never needs more room than it asks for, and asks for no more than it may have", function()
        local ledger = new_ledger(0, 200000, every(40))
        for _, max_chars in ipairs { 3072, 100000, 1000000 } do
            local room = tonumber(C.shove_ledger_metadata_room(ledger.c, max_chars))
            assert.is_true(room <= max_chars)
            local coverage = select(2, metadata(ledger, room))
            assert.are.equal(max_chars == 3072 and 1 or 0, tonumber(coverage.unlisted) > 0 and 1 or 0)
        end
    end)

    it("names offsets as large as Kafka has", function()
        local first = 9007199254740000LL
        local ledger = ffi.gc(ffi.new "struct shove_ledger", C.shove_ledger_release)
        local entries = ffi.new "struct shove_ledger_entry[3]"
        for _, base in ipairs { first, 4611686018427387904LL, 9223372036854775000LL } do
            C.shove_ledger_init(ledger, base)
            C.shove_ledger_deliver(ledger, entries, base, 0)
            C.shove_ledger_deliver(ledger, entries + 1, base + 7, 0)
            local out = ffi.new("char[?]", METADATA_MAX + 1)
            C.shove_ledger_metadata(ledger, out, METADATA_MAX, nil)
            local restored = restore(ffi.string(out), base)
            assert.is_true(restored.mark_count == 2 and restored.marks[1].offset == base + 7)
            assert.is_true(restored.speaks_to == base + 8)
        end
    end)

    it("says less rather than something wrong where a gap is larger than it can write", function()
        local ledger = ffi.gc(ffi.new "struct shove_ledger", C.shove_ledger_release)
        local entries = ffi.new "struct shove_ledger_entry[2]"
        local out, coverage = ffi.new("char[?]", METADATA_MAX + 1), ffi.new "struct shove_ledger_coverage"
        C.shove_ledger_init(ledger, 0)
        C.shove_ledger_deliver(ledger, entries, 0, 0)
        C.shove_ledger_deliver(ledger, entries + 1, 9223372036854775000LL, 0)
        C.shove_ledger_metadata(ledger, out, METADATA_MAX, coverage)
        assert.is_true(coverage.listed == 1 and coverage.unlisted == 1)
        local restored = restore(ffi.string(out), 0)
        assert.is_true(restored.mark_count == 1 and restored.speaks_to == coverage.speaks_to)
        assert.is_true(restored.speaks_to > 0 and restored.speaks_to <= 9223372036854775000LL)
    end)
end)

-- All marks one after the other, the last below what the text speaks to.
local function is_ascending(ledger)
    local last = -1LL
    for i = 0, tonumber(ledger.mark_count) - 1 do
        if ledger.marks[i].offset <= last then return false end
        last = ledger.marks[i].offset
    end
    return last >= 0 and last < ledger.speaks_to
end

describe("Restoring", function()
    it("takes nothing from nothing", function()
        assert.is_true(restore("", 5).mark_count == 0)
        local ledger = ffi.new "struct shove_ledger"
        C.shove_ledger_init(ledger, 5)
        assert.are.equal(0, C.shove_ledger_restore(ledger, nil, 0, nil))
    end)

    it("refuses what another program wrote, in words that say so", function()
        for _, text in ipairs { "x", "consumer-1", "{\"host\":\"a\"}", "U0wB", "U0wC", "AAAA", "AAAAAAAAAAAAAAAA", "2024",
                                ("A"):rep(3072), "offset metadata", "\255\254\253\252" } do
            refused("not shove's", text)
        end
        refused("not shove's", ("A"):rep(4096))
    end)

    it("refuses what another version of shove wrote, and says that it did", function()
        for _, version in ipairs { 1, 3 } do
            local words = ("another version of shove (it has format %d, this one reads 2)"):format(version)
            refused(words, sealed(varint(0) .. token(SINGLE, 0) .. token(END, 0), version))
        end
    end)

    it("refuses metadata that was committed with another offset", function()
        local ledger = new_ledger(99, 199, every(9))
        local text = metadata(ledger)
        assert.is_truthy(restore(text, frontier(ledger)))
        refused("belongs to offset 99", text, 100)
        refused("belongs to offset 99", text, 0)
    end)

    it("refuses every single changed character, and every text cut short", function()
        local text = metadata(new_ledger(0, 400, every(7)))
        assert.is_truthy(restore(text, 0))
        for at = 1, #text do
            assert.is_nil((restore(text:sub(1, at - 1), 0)) and at > 1 or nil)
            for _, byte in ipairs { 0, 10, 32, 43, 47, 48, 57, 61, 65, 90, 97, 122, 255 } do
                local changed = text:sub(1, at - 1) .. string.char(byte) .. text:sub(at + 1)
                if changed ~= text then assert.is_nil((restore(changed, 0))) end
            end
        end
        refused("not shove's", text .. "A")
    end)

    it("refuses a sealed text whose inside makes no sense", function()
        local zero, ending = varint(0), token(END, 0)
        local huge = 2305843009213693951LL
        for name, body in pairs {
            ["nothing"] = "",
            ["no token"] = zero,
            ["an end and nothing open"] = zero .. ending,
            ["no end"] = zero .. token(SINGLE, 0),
            ["bytes after the end"] = zero .. token(SINGLE, 0) .. ending .. "\0",
            ["a finished frontier"] = zero .. token(SINGLE, 1) .. ending,
            ["a note cut short"] = zero .. token(NOTED, 0),
            ["counts cut short"] = zero .. token(NOTED, 0, "\32\1"),
            ["a due time cut short"] = zero .. token(NOTED, 0, "\64"),
            ["a due time before all times"] = zero .. token(NOTED, 0, "\64" .. varint(5)) ..
                token(NOTED, 0, "\64" .. varint(9)) .. ending,
            ["a due time past all times"] = zero .. token(NOTED, 0, "\64" .. varint(huge)) .. ending,
            ["an end that is neither keyed nor not"] = zero .. token(SINGLE, 0) .. token(END, 0, "\2"),
            ["a run without a length"] = zero .. token(RUN, 0),
            ["a run of billions"] = zero .. token(RUN, 0, varint(4000000000)) .. ending,
            ["a run past all numbers"] = zero .. token(RUN, 0, varint(0xFFFFFFFFFFFFFFFFULL)) .. ending,
            ["gaps past all numbers"] = zero .. token(SINGLE, 0) .. token(SINGLE, huge):rep(6) .. ending,
            ["an end past all numbers"] = zero .. token(SINGLE, 0) .. token(SINGLE, huge):rep(3) .. token(END, huge):rep(1),
            ["a varint without an end"] = zero .. ("\255"):rep(12),
            ["a negative frontier"] = varint(0x8000000000000000ULL) .. token(SINGLE, 0) .. ending,
        } do
            local ledger, code = restore(sealed(body), 0)
            assert.is_nil(ledger, name)
            assert.are.equal(C.SHOVE_ECORRUPT, code, name)
        end
        assert.is_truthy(restore(sealed(zero .. token(SINGLE, 0) .. ending), 0))
    end)

    it("never asks for more memory than a million open messages need", function()
        local run = token(RUN, 0, varint(1048574))
        assert.is_true(restore(sealed(varint(0) .. run .. token(END, 0)), 0).mark_count == 1048576)
        refused("malformed", sealed(varint(0) .. run .. token(SINGLE, 5) .. token(END, 0)))
        refused("malformed", sealed(varint(0) .. run:rep(500) .. token(END, 0)))
    end)

    it("survives any sealed bytes, and what it takes is ascending and below what it speaks to", function()
        local text = metadata(new_ledger(0, 3000, every(11)))
        local body, taken = decode(text):sub(8), 0
        for _ = 1, 10000 do
            local changed = body:sub(1, math.random(1, math.random(1, #body)))
            for _ = 1, math.random(0, 3) do
                local at = math.random(1, #changed)
                changed = changed:sub(1, at - 1) .. string.char(math.random(0, 255)) .. changed:sub(at + 1)
            end
            if math.random(2) == 1 then changed = changed .. token(END, math.random(0, 99)) end
            local ledger, code = restore(sealed(changed), 0)
            if ledger then
                taken = taken + 1
                assert.is_true(ledger.marks[0].offset == 0 and is_ascending(ledger))
            else
                assert.are.equal(C.SHOVE_ECORRUPT, code)
            end
        end
        assert.is_true(taken > 100, ("only %d were taken: the mutations are too wild to mean much"):format(taken))
    end)

    it("happens once, and before anything is delivered", function()
        local text = metadata(new_ledger(0, 20, every(5)))
        local ledger = restore(text, 0)
        assert.are.equal(C.SHOVE_EINVAL, C.shove_ledger_restore(ledger, text, #text, nil))
        local started = new_ledger(0, 0, every(1))
        assert.are.equal(C.SHOVE_EINVAL, C.shove_ledger_restore(started.c, text, #text, nil))
    end)
end)
