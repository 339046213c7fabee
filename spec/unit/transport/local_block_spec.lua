-- Records in blocks: what goes in comes out, and damage is seen.
local ffi = require "ffi"
local C = require("spec.support.c").include("transport/local_block.h", "base/error.h")

local HEADER_BYTES = ffi.sizeof "struct shove_block_header"

local function new_chunk(capacity)
    return ffi.new("struct shove_chunk *[1]", { C.shove_chunk_new(capacity or 0) })
end

local function append(chunk, record, now_ms)
    local r = ffi.new "struct shove_record"
    r.key, r.key_size = record.key, record.key and #record.key or 0
    r.payload, r.payload_size = record.payload, record.payload and #record.payload or 0
    r.headers, r.headers_size = record.headers, record.headers and #record.headers or 0
    r.timestamp_ms = record.timestamp_ms or -1
    assert.equal(0, C.shove_block_append(chunk, r, now_ms or 1000))
end

local function sealed(records, base_offset)
    local chunk = new_chunk()
    for _, record in ipairs(records) do append(chunk, record) end
    C.shove_block_seal(chunk[0], base_offset or 0, true)
    local bytes = ffi.string(chunk[0].data, chunk[0].size)
    C.shove_chunk_drop(chunk[0])
    return bytes
end

-- The records in the bytes, and the code reading ended with.
local function read(bytes)
    -- A copy of exactly this size on the heap, so that a sanitizer sees a read beyond it.
    local chunk = C.shove_chunk_new(#bytes)
    ffi.copy(chunk.data, bytes, #bytes)
    local reader, record = ffi.new "struct shove_block_reader", ffi.new "struct shove_record"
    C.shove_block_reader_init(reader, chunk.data, #bytes, true)
    local records = {}
    local rc = C.shove_block_next(reader, record)
    while rc == 1 do
        table.insert(records, {
            key = record.key ~= nil and ffi.string(record.key, record.key_size) or nil,
            payload = record.payload ~= nil and ffi.string(record.payload, record.payload_size) or nil,
            headers = record.headers ~= nil and ffi.string(record.headers, record.headers_size) or nil,
            timestamp_ms = tonumber(record.timestamp_ms),
            offset = tonumber(record.offset),
        })
        rc = C.shove_block_next(reader, record)
    end
    C.shove_chunk_drop(chunk)
    return records, rc
end

describe("A block", function()
    it("gives back keys, payloads, headers and timestamps, null and empty kept apart", function()
        local records = {
            { key = "k", payload = "v", headers = "any bytes", timestamp_ms = 5 },
            { key = "", payload = "", timestamp_ms = 6 },
            { timestamp_ms = 7 },
            { payload = ("\0\255"):rep(40000), timestamp_ms = 8 },
        }
        local found, rc = read(sealed(records, 100))
        assert.equal(0, rc)
        for i, record in ipairs(found) do
            records[i].offset = 99 + i
            assert.same(records[i], record)
        end
        assert.equal(#records, #found)
    end)

    it("stamps records without a timestamp, and remembers the newest", function()
        local chunk = new_chunk()
        append(chunk, { payload = "a", timestamp_ms = 900 }, 1000)
        append(chunk, { payload = "b" }, 1234)
        append(chunk, { payload = "c", timestamp_ms = 5 }, 2000)
        C.shove_block_seal(chunk[0], 0, true)
        local header = ffi.new "struct shove_block_header"
        assert.equal(0, C.shove_block_header_read(chunk[0].data, chunk[0].size, header))
        assert.equal(1234, tonumber(header.newest_ms))
        assert.equal(3, header.count)
        C.shove_chunk_drop(chunk[0])
    end)

    it("follows another in a chunk, with the offset it was sealed with", function()
        local found, rc = read(sealed({ { payload = "a" }, { payload = "b" } }, 7) .. sealed({ { payload = "c" } }, 20))
        assert.equal(0, rc)
        assert.same({ 7, 8, 20 }, { found[1].offset, found[2].offset, found[3].offset })
    end)

    it("with any byte changed is refused", function()
        local bytes = sealed({ { key = "key", payload = "payload", headers = "headers" }, { payload = "second" } }, 3)
        for at = 1, #bytes do
            local changed = bytes:sub(1, at - 1) .. string.char((bytes:byte(at) + 1) % 256) .. bytes:sub(at + 1)
            local found, rc = read(changed)
            assert.equal(C.SHOVE_ECORRUPT, rc)
            assert.equal(0, #found)
        end
    end)

    it("cut short anywhere is refused", function()
        local bytes = sealed({ { key = "key", payload = "payload" }, { payload = "second" } })
        for size = 1, #bytes - 1 do
            local _, rc = read(bytes:sub(1, size))
            assert.equal(C.SHOVE_ECORRUPT, rc)
        end
    end)

    it("whose sizes lie under a good checksum is still not read beyond", function()
        -- A writer with a bug, not a disk with one.
        for at = HEADER_BYTES + 1, HEADER_BYTES + 12 do
            local chunk = new_chunk()
            append(chunk, { key = "k", payload = "v", headers = "h" })
            for value = 1, 255, 9 do
                local kept = chunk[0].data[at - 1]
                if value ~= kept then
                    chunk[0].data[at - 1] = value
                    C.shove_block_seal(chunk[0], 0, true)
                    local _, rc = read(ffi.string(chunk[0].data, chunk[0].size))
                    assert.equal(C.SHOVE_ECORRUPT, rc)
                    chunk[0].data[at - 1] = kept
                end
            end
            C.shove_chunk_drop(chunk[0])
        end
    end)
end)

describe("A chunk", function()
    it("lives as long as somebody shares it", function()
        local chunk = C.shove_chunk_new(16)
        assert.is_true(C.shove_chunk_share(chunk) == chunk)
        C.shove_chunk_drop(chunk)
        assert.equal(1, chunk.references)
        C.shove_chunk_drop(chunk)
        C.shove_chunk_drop(nil)
    end)
end)
