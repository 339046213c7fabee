-- What shove writes behind a record's own headers, and how much of it is believed when it comes back.
local ffi = require "ffi"
local C, constants = require("spec.support.c").include("core/hop_headers.h", "base/error.h")

local TEXTS = { "message_id", "death_reason", "original_queue", "group", "error" }
local COUNTS = { "retry_count", "crash_count", "death_count" }
local NUMBERS = { "original_partition", "original_offset", "original_timestamp_ms", "first_seen_ms", "due_ms", "died_ms" }

local function new_block()
    local block = ffi.gc(ffi.new "struct shove_buffer", C.shove_buffer_release)
    C.shove_buffer_init(block)
    return block
end

-- { {name, value or false}, ... } as bytes.
local function encode(headers)
    local block = new_block()
    for _, header in ipairs(headers) do
        C.shove_headers_append(block, header[1], #header[1], header[2] or nil, header[2] and #header[2] or 0)
    end
    return ffi.string(block.data, block.size)
end

local function decode(bytes)
    local data = ffi.new("uint8_t[?]", #bytes + 1)
    ffi.copy(data, bytes, #bytes)
    local at, out, found = ffi.new("const uint8_t *[1]", { data }), ffi.new "struct shove_header", {}
    while C.shove_headers_next(at, data + #bytes, out) == 1 do
        local value = out.value ~= nil and ffi.string(out.value, out.value_size)
        table.insert(found, { ffi.string(out.name, out.name_size), value })
    end
    return found
end

-- `bytes` with shove's block for `fields` behind them.
local function hop(bytes, fields)
    local info, anchors = ffi.new "struct shove_hop_info", {}
    C.shove_hop_info_init(info)
    for name, value in pairs(fields) do
        if type(value) == "string" then
            local data = ffi.new("char[?]", #value + 1, value)
            table.insert(anchors, data)
            info[name] = { data, #value }
        else
            info[name] = value
        end
    end
    local block = new_block()
    C.shove_buffer_append(block, bytes, #bytes)
    C.shove_hop_headers_append(block, info)
    return ffi.string(block.data, block.size), block.is_failed, #anchors
end

-- Originals as bytes, and what shove's part says: absent fields are nil.
local function parse(bytes)
    local data = ffi.new("uint8_t[?]", #bytes + 1)
    ffi.copy(data, bytes, #bytes)
    local info = ffi.new "struct shove_hop_info"
    local size = tonumber(C.shove_hop_headers_parse(data, #bytes, info))
    if size < 0 then return nil, size end
    assert.are.equal(size, tonumber(C.shove_hop_headers_parse(data, #bytes, nil)))
    local fields = {}
    for _, name in ipairs(TEXTS) do
        if info[name].data ~= nil then fields[name] = ffi.string(info[name].data, info[name].size) end
    end
    for _, name in ipairs(COUNTS) do
        if info[name] ~= 0 then fields[name] = info[name] end
    end
    for _, name in ipairs(NUMBERS) do
        if info[name] ~= -1 then fields[name] = tonumber(info[name]) end
    end
    return bytes:sub(1, size), fields
end

local full = {
    message_id = "orders/3/1042", death_reason = "rejected", original_queue = "orders", group = "orders-consumer",
    error = "no id", retry_count = 3, crash_count = 1, death_count = 2, original_partition = 3, original_offset = 1042,
    original_timestamp_ms = 1769860800123, first_seen_ms = 1769860800200, due_ms = 1769860805200, died_ms = 1769860805300,
}
local user = { { "trace", "\0\255" }, { "a", "1" }, { "a", "1" }, { "null", false }, { "empty", "" }, { "a", "2" } }

describe("A hop", function()
    it("keeps the original headers first, byte for byte: binary, duplicate, null, and in order", function()
        local originals = encode(user)
        local bytes = hop(originals, full)
        assert.are.equal(originals, bytes:sub(1, #originals))
        local kept, fields = parse(bytes)
        assert.are.equal(originals, kept)
        assert.are.same(full, fields)
    end)

    it("writes the headers by their public names, the message id first, as text", function()
        assert.are.same({
            { "Shove-Message-Id", "orders/3/1042" }, { "Shove-Retry-Count", "3" }, { "Shove-Crash-Count", "1" },
            { "Shove-Death-Reason", "rejected" }, { "Shove-Death-Count", "2" }, { "Shove-Original-Queue", "orders" },
            { "Shove-Original-Partition", "3" }, { "Shove-Original-Offset", "1042" },
            { "Shove-Original-Timestamp", "1769860800123" }, { "Shove-Group", "orders-consumer" },
            { "Shove-First-Seen", "1769860800200" }, { "Shove-Due", "1769860805200" }, { "Shove-Died", "1769860805300" },
            { "Shove-Error", "no id" },
        }, decode((hop("", full))))
    end)

    it("leaves out what is absent, and counts of 0", function()
        assert.are.same({ { "Shove-Message-Id", "x" } }, decode((hop("", { message_id = "x" }))))
        assert.are.same({ { "Shove-Message-Id", "x" }, { "Shove-Original-Partition", "0" },
                          { "Shove-Original-Offset", "0" } },
            decode((hop("", { message_id = "x", original_partition = 0, original_offset = 0 }))))
    end)

    it("keeps the message id, and does not grow the headers, however many follow each other", function()
        local bytes = encode(user)
        for round = 1, 50 do
            local originals, fields = parse(bytes)
            assert.are.equal(encode(user), originals)
            fields.message_id = fields.message_id or "orders/3/1042"
            fields.retry_count = round
            fields.error = ("e"):rep(2000)
            bytes = hop(originals, fields)
        end
        local _, fields = parse(bytes)
        assert.are.same({ "orders/3/1042", 50, 1024 }, { fields.message_id, fields.retry_count, #fields.error })
    end)

    it("cuts the error text at 1,024 bytes, between characters", function()
        local _, fields = parse((hop("", { message_id = "x", error = ("€"):rep(2000) })))
        assert.are.equal(("€"):rep(341), fields.error)
        _, fields = parse((hop("", { message_id = "x", error = "" })))
        assert.are.equal("", fields.error)
    end)

    it("has a block that is bounded, whatever the texts in it", function()
        local fields = {}
        for name, value in pairs(full) do
            fields[name] = type(value) == "string" and ("y"):rep(100000) or value
        end
        assert.is_true(#hop("", fields) < 4096)
    end)

    it("fails without a message id, for its block could not be found again", function()
        local _, is_failed = hop("", { retry_count = 1 })
        assert.is_true(is_failed)
        _, is_failed = hop("", { message_id = "" })
        assert.is_true(is_failed)
    end)
end)

describe("Reading headers", function()
    it("finds nothing of shove's in a record of somebody else", function()
        for _, headers in ipairs { {}, user, { { "Shove", "x" } }, { { "shove-message-id", "x" } },
                                   { { "Shove-Retry-Count", "9" } } } do
            local originals, fields = parse(encode(headers))
            assert.are.equal(encode(headers), originals)
            assert.are.same({}, fields)
        end
    end)

    it("takes no retry count that does not stand in a block of shove's own", function()
        local _, fields = parse(encode { { "Shove-Message-Id", "x" }, { "Shove-Retry-Count", "9" }, { "later", "1" } })
        assert.are.same({}, fields)
        _, fields = parse(encode { { "Shove-Retry-Count", "9" }, { "Shove-Message-Id", "x" } })
        assert.are.same({ message_id = "x" }, fields)
    end)

    it("begins the block at the last message id, so a forged one stays with the originals", function()
        local forged = encode { { "Shove-Message-Id", "forged" }, { "Shove-Retry-Count", "200" } }
        local originals, fields = parse((hop(forged, { message_id = "true", retry_count = 1 })))
        assert.are.equal(forged, originals)
        assert.are.same({ message_id = "true", retry_count = 1 }, fields)
    end)

    it("knows no header it did not define, but counts it to the block", function()
        local bytes = encode { { "a", "1" }, { "Shove-Message-Id", "x" }, { "Shove-Future", "y" }, { "Shove-Due", "5" } }
        local originals, fields = parse(bytes)
        assert.are.equal(encode { { "a", "1" } }, originals)
        assert.are.same({ message_id = "x", due_ms = 5 }, fields)
    end)

    it("takes a number that is not one, or does not fit, as absent", function()
        for _, text in ipairs { "", "-1", "+1", " 1", "1 ", "1e3", "0x10", "x", "18446744073709551616", "99999999999999999999",
                                "9223372036854775808", "\0001" } do
            local _, fields = parse(encode { { "Shove-Message-Id", "x" }, { "Shove-Retry-Count", text },
                                             { "Shove-Original-Partition", text }, { "Shove-Due", text } })
            assert.are.same({ message_id = "x" }, fields)
        end
        local _, fields = parse(encode { { "Shove-Message-Id", "x" }, { "Shove-Retry-Count", false }, { "Shove-Due", false },
                                         { "Shove-Error", false } })
        assert.are.same({ message_id = "x" }, fields)
    end)

    it("takes numbers up to their limits", function()
        local function with(name, text)
            local info = ffi.new "struct shove_hop_info"
            local bytes = encode { { "Shove-Message-Id", "x" }, { name, text } }
            C.shove_hop_headers_parse(bytes, #bytes, info)
            return info
        end
        assert.are.equal(4294967295, with("Shove-Retry-Count", "4294967295").retry_count)
        assert.are.equal(0, with("Shove-Retry-Count", "4294967296").retry_count)
        assert.are.equal(2147483647, with("Shove-Original-Partition", "2147483647").original_partition)
        assert.are.equal(-1, with("Shove-Original-Partition", "2147483648").original_partition)
        assert.is_true(with("Shove-Due", "9223372036854775807").due_ms == 9223372036854775807LL)
        assert.are.equal(7, with("Shove-Retry-Count", "000000000000000000000000007").retry_count)
    end)

    it("takes a message id that is empty or too long to be copied as absent", function()
        for _, id in ipairs { "", ("i"):rep(constants.SHOVE_MESSAGE_ID_MAX), ("i"):rep(100000) } do
            local originals, fields = parse(encode { { "a", "1" }, { "Shove-Message-Id", id } })
            assert.are.equal(encode { { "a", "1" } }, originals)
            assert.is_nil(fields.message_id)
        end
        local longest = ("i"):rep(constants.SHOVE_MESSAGE_ID_MAX - 1)
        local _, fields = parse((hop("", { message_id = longest })))
        assert.are.equal(longest, fields.message_id)
    end)

    it("refuses a block that is damaged", function()
        local bytes = hop(encode(user), full)
        local originals, code = parse(bytes:sub(1, -2))
        assert.is_nil(originals)
        assert.are.equal(C.SHOVE_ECORRUPT, code)
    end)

    it("survives any bytes", function()
        local bytes = hop(encode(user), full)
        for _ = 1, 20000 do
            local changed = bytes
            for _ = 1, math.random(1, 4) do
                local at = math.random(1, #changed)
                changed = changed:sub(1, at - 1) .. string.char(math.random(0, 255)) .. changed:sub(at + 1)
            end
            changed = changed:sub(1, math.random(0, 3) == 0 and math.random(0, #changed) or #changed)
            local originals, code = parse(changed)
            assert.is_true(originals ~= nil or code == C.SHOVE_ECORRUPT)
            assert.is_true(originals == nil or changed:sub(1, #originals) == originals)
        end
    end)
end)

describe("The message id", function()
    it("of a record that carries none is its place", function()
        local out = ffi.new("char[?]", constants.SHOVE_MESSAGE_ID_MAX)
        local function derive(topic, partition, offset)
            return ffi.string(out, C.shove_message_id_derive(topic, partition, offset, out))
        end
        assert.are.equal("orders/3/1042", derive("orders", 3, 1042))
        local longest = derive(("t"):rep(249), 2147483647, 9223372036854775807LL)
        assert.are.equal(("t"):rep(249) .. "/2147483647/9223372036854775807", longest)
        assert.is_true(#derive(("t"):rep(1000), 1, 1) < constants.SHOVE_MESSAGE_ID_MAX)
    end)
end)
