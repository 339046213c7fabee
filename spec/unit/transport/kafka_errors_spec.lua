-- librdkafka's error codes in shove's words.
local driver = require "spec.transport.driver"
local ffi = require "ffi"
local C = driver.C

ffi.cdef [[
int shove_kafka_code(int err);
int shove_kafka_told_code(int err, const char *words);
bool shove_kafka_is_temporary(int err);
]]

local function code(err) return C.shove_kafka_code(err) end

describe("An error of Kafka's", function()
    local EXPECTED = {
        { "no error", 0, 0 },
        { "a broken connection", -195, C.SHOVE_EUNREACHABLE },
        { "all brokers down", -187, C.SHOVE_EUNREACHABLE },
        { "a message that timed out", -192, C.SHOVE_ETIMEOUT },
        { "a refused password", -169, C.SHOVE_EAUTH },
        { "a TLS handshake that failed", -181, C.SHOVE_EUNREACHABLE },
        { "a topic without permission", 29, C.SHOVE_EDENIED },
        { "a group without permission", 30, C.SHOVE_EDENIED },
        { "a topic that is not there", 3, C.SHOVE_ENOTOPIC },
        { "a topic librdkafka does not find", -188, C.SHOVE_ENOTOPIC },
        { "a message that is too large", 10, C.SHOVE_ETOOLARGE },
        { "a full queue", -184, C.SHOVE_EAGAIN },
        { "a rebalance under way", 27, C.SHOVE_EAGAIN },
        { "an old generation", 22, C.SHOVE_EREVOKED },
        { "a member nobody knows", 25, C.SHOVE_EREVOKED },
        { "an offset out of range", 1, C.SHOVE_EOFFSET },
        { "no offset and no policy", -140, C.SHOVE_EOFFSET },
        { "a fatal error", -150, C.SHOVE_EFATAL },
        { "a message purged from the queue", -152, C.SHOVE_EFATAL },
        { "a message purged in flight", -151, C.SHOVE_EFATAL },
        { "a batch that cannot be unpacked", -198, C.SHOVE_ECORRUPT },
        { "a codec librdkafka was built without", -170, C.SHOVE_EUNSUPPORTED },
        { "a policy violation", 44, C.SHOVE_ECONFIG },
        { "a broken disk of the broker", 56, C.SHOVE_EIO },
        { "a code that is in no table", 9999, C.SHOVE_EBROKER },
    }
    for _, row in ipairs(EXPECTED) do
        local what, from, to = unpack(row)
        it("has one meaning: " .. what, function() assert.equal(to, code(from)) end)
    end

    for _, row in ipairs {
        { "the broker's certificate is not trusted", -181, C.SHOVE_EAUTH,
          "SSL handshake failed: error:0A000086:SSL routines::certificate verify failed: broker certificate could not be" },
        { "the broker refuses the handshake", -181, C.SHOVE_EAUTH,
          "error:0A000410:SSL routines::sslv3 alert handshake failure: SSL alert number 40" },
        { "what stands before the broker has trouble", -181, C.SHOVE_EUNREACHABLE,
          "error:0A000438:SSL routines::tlsv1 alert internal error: SSL alert number 80" },
        { "the broker is called by a name it does not know yet", -181, C.SHOVE_EUNREACHABLE,
          "error:0A000458:SSL routines::tlsv1 unrecognized name: SSL alert number 112" },
        { "the client's certificate is not trusted", -195, C.SHOVE_EAUTH,
          "Receive failed: error:0A000418:SSL routines::tlsv1 alert unknown ca: SSL alert number 48" },
        { "the client shows no certificate", -195, C.SHOVE_EAUTH,
          "Receive failed: error:0A00045C:SSL routines::tlsv13 alert certificate required: SSL alert number 116" },
        { "the other side speaks no TLS", -181, C.SHOVE_EUNREACHABLE, "error:0A00010B:SSL routines::wrong version number" },
        { "the handshake broke off", -181, C.SHOVE_EUNREACHABLE, "SSL transport error: Broken pipe" },
        { "the connection broke off", -195, C.SHOVE_EUNREACHABLE, "Receive failed: Connection reset by peer" },
        { "the password is wrong", -169, C.SHOVE_EAUTH, "Invalid username or password" },
    } do
        local what, err, expected, words = unpack(row)
        it("is told by its words: " .. what, function() assert.equal(expected, C.shove_kafka_told_code(err, words)) end)
    end

    it("is temporary when asking again may help, and only then", function()
        for _, err in ipairs { -195, -187, -185, -181, 5, 6, 14, 15, 16, 27, 88 } do
            assert.is_true(C.shove_kafka_is_temporary(err), tostring(err))
        end
        for _, err in ipairs { 0, 3, 10, 29, 30, -169, -140, 9999 } do
            assert.is_false(C.shove_kafka_is_temporary(err), tostring(err))
        end
    end)
end)
