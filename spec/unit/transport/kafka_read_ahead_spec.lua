-- How far ahead of the handlers a consumer fetches.

local C = require("spec.support.c").include "transport/kafka_read_ahead.h"

describe("What is fetched ahead of the handlers", function()
    local function ahead(partitions)
        local value = C.shove_kafka_read_ahead(partitions)
        return { tonumber(value.messages), tonumber(value.kib), tonumber(value.fetch_bytes) }
    end

    it("is 16,000 messages or 8 MiB for each of 8 partitions, and no more in all when there are many", function()
        assert.are.same({ 16000, 8192, 262144 }, ahead(0))
        assert.are.same({ 16000, 8192, 262144 }, ahead(8))
        assert.are.same({ 8000, 4096, 131072 }, ahead(16))
        assert.are.same({ 1280, 655, 65536 }, ahead(100))
    end)

    it("never falls below what keeps a partition flowing", function()
        assert.are.same({ 1000, 256, 65536 }, ahead(1000000))
    end)
end)
