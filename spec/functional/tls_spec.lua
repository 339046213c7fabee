-- Kafka over TLS: what is said over it, whom a client trusts, and what it does where that ends or is no TLS at all.

local uv = require "luv"
local assert = require "luassert"
local app = require "spec.support.app"
local cleanup = require "spec.support.cleanup"
local kafka = require "spec.support.kafka"
local process = require "spec.support.process"
local steered = require "spec.support.steered"
local tmp = require "spec.support.tmp"
local wait = require "spec.support.wait"

local CONFIG = 78
local WAIT_MS = 20000
local REFUSED_WITHIN_MS = 15000

-- An app on that address, which believes whom the file names; nil: whom this machine does. own: its own certificate.
local function new(broker, address, certificate, own)
    return steered.new {
        url = "kafka://" .. address, broker = broker, holds = { "100ms" },
        kafka = {
            ["security.protocol"] = "ssl", ["ssl.ca.location"] = certificate,
            ["ssl.certificate.location"] = own and own.certificate, ["ssl.key.location"] = own and own.key,
        },
    }
end

-- A certificate that is signed by itself and made out to `name`, and its key: two files.
local function certify(name)
    local dir = tmp.dir()
    local made = process.run {
        "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=spec", "-addext",
        "subjectAltName=" .. name, "-keyout", dir .. "/key", "-out", dir .. "/cert",
    }
    assert.equal(0, made.code, made.stderr)
    return { certificate = dir .. "/cert", key = dir .. "/key" }
end

-- One that was good until two days ago.
local function certify_once(name)
    local dir = tmp.dir()
    local made = process.run {
        "keytool", "-genkeypair", "-alias", "spec", "-keyalg", "EC", "-groupname", "secp256r1", "-startdate", "-3d",
        "-validity", "1", "-dname", "CN=spec", "-ext", "SAN=" .. name, "-storetype", "PKCS12", "-keystore", dir .. "/store",
        "-storepass", "spec-secret",
    }
    assert.equal(0, made.code, made.stdout .. made.stderr)
    made = process.run {
        "openssl", "pkcs12", "-in", dir .. "/store", "-nodes", "-passin", "pass:spec-secret", "-out", dir .. "/both",
    }
    assert.equal(0, made.code, made.stderr)
    return { certificate = dir .. "/both", key = dir .. "/both" }
end

-- Each command that speaks to the broker ends with 78 and says all of that, and does not wait as for a broker that is away.
local function is_refused(s, ...)
    for _, command in ipairs { { "run" }, { "publish", s.queue, "{}" }, { "dlq list", s.queue } } do
        local began = uv.hrtime()
        local result = s.app:command(command[1], { "--connect-timeout", "25s", unpack(command, 2) })
        assert.equal(CONFIG, result.code, command[1] .. "\n" .. result.stderr)
        for _, words in ipairs { ... } do assert.matches(words, result.stderr, 1, true) end
        local took_ms = (uv.hrtime() - began) / 1e6
        assert.is_true(took_ms < REFUSED_WITHIN_MS, ("%s took %d ms"):format(command[1], took_ms))
    end
end

-- Answers whoever speaks on that address with words that are no TLS, once each; nil when somebody else listens there.
local function answer(address, told)
    local server = uv.new_tcp()
    cleanup.defer(function()
        if not server:is_closing() then server:close() end
    end)
    local host, port = address:match "(.*):(%d+)"
    assert(server:bind(host, tonumber(port)))
    local is_ours = server:listen(16, function()
        local connection = uv.new_tcp()
        server:accept(connection)
        connection:read_start(function(_, hello)
            connection:read_stop()
            if not hello then return connection:close() end
            told()
            connection:write("HTTP/1.0 503 Service Unavailable\r\n\r\n", function() connection:close() end)
        end)
    end)
    if is_ours then return server end
    server:close()
end

describe("Kafka over TLS", function()
    local broker

    setup(function()
        cleanup.for_block(function() broker = kafka.private { tls = true } end)
    end)

    for what, host in pairs { ["an address"] = "127.0.0.1", ["a name"] = "localhost" } do
        it("is published to, consumed, retried and dead-lettered on, where the certificate is made out to " .. what, function()
            local address = broker.tls:gsub("^[^:]+", host)
            local s = new(broker, address, broker.certificate)
            local published = s.app:command("publish", { s.queue, "--raw", "a", "b retry", "c reject" })
            assert.equal(0, published.code, published.stderr)
            local p = s:run()
            s:wait("ended", { "a", "c" })
            s:wait("ended", { "b" }, 2)
            s:wait_letters(1)
            local listed = s.app:command("dlq list", { s.queue })
            assert.equal(0, listed.code, listed.stderr)
            assert.matches("rejected.*as told", listed.stdout)
            assert.equal(0, (app.drain(p)), p:transcript())
            assert.same({ "a", "b", "b", "c" }, s:names "ended")
        end)
    end

    it("is refused where its certificate is trusted by nobody, with the setting to look at", function()
        is_refused(new(broker, broker.tls), broker.tls, "certificate verify failed", "ssl.ca.location")
    end)

    it("is not tried where the file of trusted certificates is not there, which is named", function()
        is_refused(new(broker, broker.tls, "/nowhere/ca.pem"), 'kafka["ssl.ca.location"]: /nowhere/ca.pem: No such file')
    end)

    it("is waited for when it is killed, whatever answers in its place without TLS meanwhile", function()
        local s = new(broker, broker.tls, broker.certificate)
        s:declare()
        s:publish { "a" }
        local p = s:run()
        s:wait("ended", { "a" })
        broker:kill()
        p:wait_for("can be reached, trying on", WAIT_MS)
        local server, answered = nil, 0
        wait.until_true(function() -- what is left of the broker may keep its port for a moment
            server = answer(broker.tls, function() answered = answered + 1 end)
            return server
        end, WAIT_MS, "the broker's port")
        wait.until_true(function() return answered >= 6 or p:has_ended() end, WAIT_MS, "clients to ask what answers there")
        server:close()
        broker:restart()
        s:publish { "b" }
        s:wait("ended", { "b" })
        assert.equal(0, (app.drain(p)), p:transcript())
    end)
end)

describe("A broker that speaks TLS", function()
    -- It speaks nothing else. Its address, and what it has of certificate and key.
    local function serve(own, ...)
        local server = process.spawn {
            "openssl", "s_server", "-accept", "127.0.0.1:0", "-key", own.key, "-cert", own.certificate, stdin = "pipe", ...
        }
        local _, port = server:wait_for("ACCEPT [%d.]+:(%d+)", WAIT_MS)
        return "127.0.0.1:" .. port, own.certificate
    end

    it("is refused where its certificate is made out to another name, though trusted, with what may be wrong", function()
        local address, certificate = serve(certify "DNS:elsewhere")
        is_refused(new({}, address, certificate), address, "certificate verify failed", "not made out to that host")
    end)

    it("and wants a certificate of its clients refuses one that has none, which says how it is given", function()
        local address, certificate = serve(certify "IP:127.0.0.1", "-Verify", "1")
        is_refused(new({}, address, certificate), address, "refuses this client", "certificate required",
            "ssl.certificate.location")
    end)

    it("is refused where its certificate is out of date, though trusted, with what may be wrong", function()
        local address, certificate = serve(certify_once "IP:127.0.0.1")
        is_refused(new({}, address, certificate), address, "certificate verify failed", "is out of date")
    end)
end)

describe("Kafka that wants a certificate of its clients", function()
    local broker, own

    setup(function()
        own = certify "DNS:client"
        cleanup.for_block(function()
            broker = kafka.private { tls = true, properties = [[
super.users=User:ANONYMOUS;User:CN=spec
listener.name.ssl.ssl.client.auth=required
listener.name.ssl.ssl.truststore.type=PEM
listener.name.ssl.ssl.truststore.location=]] .. own.certificate }
        end)
    end)

    it("is published to and consumed by one that has it, and refuses one that shows another", function()
        local s = new(broker, broker.tls, broker.certificate, own)
        local published = s.app:command("publish", { s.queue, "--raw", "a" })
        assert.equal(0, published.code, published.stderr)
        local p = s:run()
        s:wait("ended", { "a" })
        assert.equal(0, (app.drain(p)), p:transcript())
        is_refused(new(broker, broker.tls, broker.certificate, certify "DNS:client"), broker.tls, "refuses this client",
            "ssl.certificate.location")
    end)
end)
