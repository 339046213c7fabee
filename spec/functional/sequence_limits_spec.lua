-- What bounds the order of keys: how much waits, who waits for whom, and what the log says of it.

local assert = require "luassert"
local steered = require "spec.support.steered"

local WAIT_MS = 20000
local EMBEDDED = steered.brokers[1].url

local function new(options)
    options.url = options.url or EMBEDDED
    options.fifo = true
    options.partitions = false
    options.topic = ("sequenced = %q, shards = %d,"):format(options.sequenced or "skip", options.shards or 1)
    options.holds = options.holds or { "50ms" }
    local s = steered.new(options)
    s:declare()
    return s
end

describe("a key in the log of a drain", function()
    for _, row in ipairs {
        { "is named by its checksum", {}, "key 4385ad0d for" },
        { "is named as it is with --log-keys", { "--log-keys" }, "key topsecret for" },
    } do
        local name, options, pattern = unpack(row)
        it(name, function()
            local s = new {}
            s:publish({ "a1 gate" }, { key = "topsecret" })
            local p = s:run(options)
            s:wait("began", { "a1" })
            p:kill "sigterm"
            p:wait_for("still draining.*" .. pattern, WAIT_MS)
            s:open "gate"
            assert.equal(0, (p:wait_exit(WAIT_MS)), p:transcript())
            if #options == 0 then assert.is_nil(p:transcript():find("topsecret", 1, true)) end
        end)
    end
end)
