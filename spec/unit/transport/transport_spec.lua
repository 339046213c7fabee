-- Which transport a broker's address means.
local driver = require "spec.transport.driver"
local ffi = require "ffi"
local C = driver.C

local function scheme_and_address(broker)
    local ops, address, text = driver.find(broker)
    if not ops then return nil, address, text end
    return ffi.string(ops.scheme), ffi.string(address)
end

describe("A broker's address", function()
    it("begins with its transport; what follows is the transport's own", function()
        assert.same({ "kafka", "a:9092,b:9092" }, { scheme_and_address "kafka://a:9092,b:9092" })
        assert.same({ "embedded", "./orders.db" }, { scheme_and_address "embedded:./orders.db" })
        assert.same({ "embedded", "/var/lib/x.db" }, { scheme_and_address "embedded:/var/lib/x.db" })
        assert.same({ "memory", "" }, { scheme_and_address "memory:" })
    end)

    for _, wrong in ipairs { "", "orders.db", "kafka:", "kafka://", "embedded:", "memory:x", "amqp://host", "memory" } do
        it(("'%s' is refused, with what is allowed"):format(wrong), function()
            local scheme, code, text = scheme_and_address(wrong)
            assert.is_nil(scheme)
            assert.equal(C.SHOVE_ECONFIG, code)
            assert.matches("'" .. wrong .. "'", text, 1, true)
            assert.matches("embedded:", text, 1, true)
            assert.matches("kafka://", text, 1, true)
        end)
    end
end)

describe("A transport", function()
    it("says what it can do", function()
        assert.is_false(driver.can("memory:", "SHOVE_CAN_PERSIST"))
        assert.is_false(driver.can("memory:", "SHOVE_CAN_PUBLISH_OUTSIDE"))
        assert.is_true(driver.can("embedded:x", "SHOVE_CAN_PERSIST"))
        assert.is_true(driver.can("embedded:x", "SHOVE_CAN_PUBLISH_OUTSIDE"))
        assert.is_false(driver.can("embedded:x", "SHOVE_CAN_SHARE"))
        assert.is_true(driver.can("kafka://x", "SHOVE_CAN_SHARE"))
        assert.is_true(driver.can("kafka://x", "SHOVE_HAS_PROPERTIES"))
    end)
end)
