-- /healthz and /readyz of `shove run --listen`, and clients that do not behave.

local uv = require "luv"
local assert = require "luassert"
local app = require "spec.support.app"
local http = require "spec.support.http"
local kafka_mock = require "spec.unit.transport.kafka_mock"
local steered = require "spec.support.steered"
local tmp = require "spec.support.tmp"
local unique = require "spec.support.unique"
local wait = require "spec.support.wait"

local WAIT_MS = 20000
local embedded, kafka = unpack(steered.brokers)

local function run(s, address)
    local p = s:run { "--listen", address or "0" }
    return p, http.port_of(p)
end

local function ready(port)
    local answer = http.request(port, "/readyz")
    return answer.status .. " " .. answer.body
end

local function until_ready(port, expected)
    local last
    local ok = pcall(wait.until_true, function()
        last = ready(port)
        return last:find(expected) ~= nil
    end, WAIT_MS)
    assert.is_true(ok, ("/readyz says %s, not %s"):format(last, expected))
end

describe("/readyz", function()
    it("says 503 while the app starts and while it drains, and 200 between the two", function()
        -- The script is loaded once to be looked at, and once by the worker, which waits for a gate.
        local s = steered.new {
            url = embedded.url, extra = [[
                local first = uv.fs_open(dir .. "/loaded", "wx", tonumber("644", 8))
                while not first and not uv.fs_stat(dir .. "/gate-load") do uv.sleep(5) end]],
        }
        local p, port = run(s)
        assert.equal("503 starting\n", ready(port))
        assert.equal(200, http.request(port, "/healthz").status)
        s:open "load"
        until_ready(port, "^200 ready\n$")
        s:publish { "a gate" }
        s:wait("began", { "a" })
        p:kill "sigterm"
        p:wait_for("draining", WAIT_MS)
        assert.equal("503 draining\n", ready(port))
        assert.equal(200, http.request(port, "/healthz").status)
        s:open "gate"
        assert.equal(0, (p:wait_exit(WAIT_MS)), p:transcript())
    end)

    it("says 503 and why while a reload has a group join anew, and 200 of one that leaves alone", function()
        local s = steered.new { url = embedded.url, extra = [[
            app:register(app:topic(queue_name .. "-other", { codec = "raw" }), {}, handle)]] }
        local p, port = run(s)
        until_ready(port, "^200 ready\n$")
        s:publish { "a gate" }
        s:wait("began", { "a" })
        tmp.write(s.app.path, (s.source:gsub("codec = ", 'hold = { "50ms" }, codec = ', 1)))
        p:kill "sighup"
        until_ready(port, "^503 a group of the reloaded app has not joined yet\n$")
        s:open "gate"
        until_ready(port, "^200 ready\n$")
        s:publish { "b last" }
        s:wait("began", { "b" })
        p:mark()
        tmp.write(s.app.path, (s.source:gsub("app:register%(queue,", "local function gone() end gone(queue,")))
        p:kill "sighup"
        p:wait_for("reloaded: ", WAIT_MS)
        assert.equal("200 ready\n", ready(port))
        s:open "last"
        assert.equal(0, (app.drain(p)), p:transcript())
    end)

    it("says 200 of a member that stands by, because others have all partitions", function()
        local s = steered.new { url = kafka.url, partitions = 1 }
        local p, port = run(s)
        p:wait_for("partitions assigned", WAIT_MS)
        until_ready(port, "^200 ready\n$")
        local other, other_port = run(s)
        until_ready(other_port, "^200 ready\n$")
        s:publish { "a" }
        s:wait("ended", { "a" })
        local _, stands_by = other:text "stderr":gsub("partitions assigned", "")
        assert.equal(0, stands_by, other:transcript())
        assert.equal(0, (app.drain(other)), other:transcript())
        assert.equal(0, (app.drain(p)), p:transcript())
    end)

    it("says 503 and why of a group that failed, until it is there again", function()
        local mock = kafka_mock.start()
        local queue = mock:create(unique "steered", 1)
        local s = steered.new {
            url = mock.url, queue = queue, broker = {}, partitions = false, topic = "external = true,",
            kafka = { ["group.instance.id"] = "one" },
        }
        local p, port = run(s)
        until_ready(port, "^200 ready\n$")
        mock:fail("Heartbeat", "FENCED_INSTANCE_ID")
        until_ready(port, "^503 group '" .. s.group_id:gsub("%p", "%%%0") .. "' failed and is started again in [12] s\n$")
        assert.matches('\nshove_backend_errors_total{backend="kafka",kind="EFATAL"} 1\n',
            http.request(port, "/metrics").body, 1, true)
        until_ready(port, "^200 ready\n$")
        assert.equal(1, (app.drain(p)), p:transcript())
    end)
end)

describe("The server of --listen", function()
    local s, p, port

    -- The run is not disturbed: what is published now is handled.
    local function assert_handles(name)
        s:publish { name }
        s:wait("ended", { name })
    end

    before_each(function()
        s = steered.new { url = embedded.url }
        p, port = run(s)
        p:wait_for("partitions assigned", WAIT_MS)
    end)

    after_each(function()
        assert.equal(0, (app.drain(p)), p:transcript())
        p:wait_exit(WAIT_MS)
    end)

    it("answers GET and HEAD of three paths, and nothing else", function()
        for _, path in ipairs { "/healthz", "/readyz", "/metrics", "/metrics?name=x" } do
            local got, head = http.request(port, path), http.request(port, path, { method = "HEAD" })
            assert.same({ 200, 200, "" }, { got.status, head.status, head.body })
            assert.is_true(#got.body > 0)
        end
        assert.equal("text/plain; version=0.0.4; charset=utf-8", http.request(port, "/metrics").headers["content-type"])
        for _, method in ipairs { "POST", "PUT", "DELETE", "OPTIONS", "BREW" } do
            local answer = http.request(port, "/metrics", { method = method, body = ("x"):rep(100000) })
            assert.same({ 405, "GET, HEAD" }, { answer.status, answer.headers.allow })
        end
        for _, path in ipairs { "/", "/metrics/", "/Metrics", "/../etc/passwd", "/" .. ("x"):rep(5000) } do
            assert.equal(404, http.request(port, path).status)
        end
        assert_handles "a"
    end)

    it("hangs up on who says nothing for 10 s", function()
        local client = http.connect(port)
        client:send "GET /healthz HTT"
        client:wait_end()
        assert.equal("", client.received)
    end)

    it("survives bytes that are no HTTP", function()
        for _, bytes in ipairs {
            "\1\255\254garbage\r\n\r\n", "GET\r\n\r\n", "GET /metrics\r\n\r\n", "GET /metrics HTTP/9.9\r\n\r\n",
            "\22\3\1\2\0\1\0\1\252\3\3\r\n",
            "GET /" .. ("x"):rep(40000) .. " HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\n" .. ("A: b\r\n"):rep(10000) .. "\r\n",
            "POST /metrics HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzzz\r\n",
        } do
            local client = http.connect(port)
            client:send(bytes)
            client.tcp:shutdown()
            client:wait_end()
            assert.is_nil(client.received:find "^HTTP/1.1 200")
        end
        assert.equal(200, http.request(port, "/healthz").status)
        assert_handles "a"
    end)

    it("lets 40 connections that say nothing wait without harm to the run, and is there again when they are gone", function()
        local clients = {}
        for i = 1, 40 do
            clients[i] = http.connect(port)
            if i % 2 == 0 then clients[i]:send "GET /metrics HTT" end
        end
        assert_handles "a"
        p:kill "sigstop" -- it shall hear of all of them at once
        for _, client in ipairs(clients) do client:close() end
        p:kill "sigcont"
        assert.equal(200, http.request(port, "/healthz").status)
    end)

    it("answers within seconds while 60 connections say nothing", function()
        for i = 1, 60 do
            local client = http.connect(port)
            if i % 2 == 0 then client:send "GET /metrics HTT" end
        end
        local began = uv.hrtime()
        assert.equal(200, http.request(port, "/healthz").status)
        assert.is_true(uv.hrtime() - began < 8e9)
    end)

    it("answers one request after the other on a connection, and ones that come in pieces or at once", function()
        local client = http.connect(port)
        for piece in ("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"):gmatch ".." do client:send(piece) end
        client:send(("GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n"):rep(3))
        wait.until_true(function()
            local _, count = client.received:gsub("HTTP/1%.1 200 OK", "")
            return count == 4
        end, WAIT_MS, "four answers")
        client:close()
    end)

    it("is not inherited by workers", function()
        local line = ":%04X 00000000:0000 0A %%S+ %%S+ %%S+ +%%d+ +%%d+ (%%d+)"
        local listening = tmp.read("/proc/net/tcp"):match(line:format(port))
        assert.is_truthy(listening)
        local function has_it(pid)
            local scan = assert(uv.fs_scandir(("/proc/%d/fd"):format(pid)))
            for fd in function() return uv.fs_scandir_next(scan) end do
                if uv.fs_readlink(("/proc/%d/fd/%s"):format(pid, fd)) == ("socket:[%s]"):format(listening) then return true end
            end
            return false
        end
        assert.is_true(has_it(p.pid))
        local workers = p:children()
        assert.equal(1, #workers)
        assert.is_false(has_it(workers[1]))
    end)
end)

describe("--listen", function()
    it("listens at this machine alone unless told otherwise, and at IPv6 too", function()
        local s = steered.new { url = embedded.url }
        local p = s:run { "--listen", ":0" }
        assert.truthy(p:wait_for("served +at=http://127%.0%.0%.1:%d+/metrics", WAIT_MS))
        assert.equal(0, (app.drain(p)), p:transcript())
        p = s:run { "--listen", "[::1]:0" }
        local _, port = p:wait_for("served +at=http://%[::1%]:(%d+)/metrics", WAIT_MS)
        assert.equal(200, http.request(tonumber(port), "/healthz", { host = "::1" }).status)
        assert.equal(0, (app.drain(p)), p:transcript())
    end)

    it("ends the start with 78 and a sentence when the port is taken", function()
        local s = steered.new { url = embedded.url }
        local p, port = run(s)
        p:wait_for("partitions assigned", WAIT_MS)
        local other = steered.new { url = embedded.url }
        local second = other:run { "--listen", tostring(port) }
        assert.equal(78, (second:wait_exit(WAIT_MS)))
        assert.matches(("--listen: cannot listen at 127.0.0.1 port %d: Address already in use (another program"):format(port),
            second:text "stderr", 1, true)
        assert.equal(0, (app.drain(p)), p:transcript())
    end)

    for arguments, words in pairs {
        [{ "--listen", "localhost" }] = "'localhost' is not an address to listen at",
        [{ "--metrics-prefix", "9a" }] = "--metrics-prefix '9a': letters, digits and underscores, no digit first",
        [{ "--metrics-prefix", "a-b" }] = "--metrics-prefix 'a-b': letters",
    } do
        it("is wrong usage as " .. table.concat(arguments, " "), function()
            local result = app.new({ source = "" }):command("run", arguments)
            assert.equal(64, result.code)
            assert.matches(words, result.stderr, 1, true)
        end)
    end
end)
