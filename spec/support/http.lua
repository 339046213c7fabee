-- An HTTP client for the admin server of `shove run --listen`, and one that does not behave.
--
--     local port = http.port_of(p)                     of a run with --listen, from what it says
--     local answer = http.request(port, "/readyz")     { status, headers, body }; options: method, body
--     local client = http.connect(port)                client:send(bytes), client:wait_end(), client.received

local uv = require "luv"
local cleanup = require "spec.support.cleanup"
local wait = require "spec.support.wait"

local M = {}
local Client = {}
Client.__index = Client

local WAIT_MS = 20000

function M.port_of(p)
    local _, port = p:wait_for("metrics and health are served +at=http://%S-:(%d+)/metrics", WAIT_MS)
    return tonumber(port)
end

function M.connect(port, host)
    local client = setmetatable({ tcp = uv.new_tcp(), received = "", is_over = false }, Client)
    local failure
    client.tcp:connect(host or "127.0.0.1", port, function(err)
        failure, client.is_connected = err, not err
    end)
    cleanup.defer(function() client:close() end)
    wait.until_true(function() return failure or client.is_connected end, WAIT_MS, "a connection")
    assert(not failure, failure)
    client.tcp:read_start(function(_, chunk)
        if chunk then client.received = client.received .. chunk else client.is_over = true end
    end)
    return client
end

function Client:send(bytes)
    self.tcp:write(bytes)
end

-- Until the server hangs up.
function Client:wait_end()
    wait.until_true(function() return self.is_over end, WAIT_MS, "the server to hang up; so far: " .. self.received)
end

function Client:close()
    if not self.tcp:is_closing() then self.tcp:close() end
end

function M.request(port, path, options)
    options = options or {}
    local client = M.connect(port, options.host)
    local body = options.body or ""
    local length = #body > 0 and ("Content-Length: %d\r\n"):format(#body) or ""
    client:send(("%s %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n%s\r\n%s"):format(options.method or "GET", path,
        length, body))
    client:wait_end()
    client:close()
    local status, head, rest = client.received:match "^HTTP/1%.1 (%d+) [^\r\n]*\r\n(.-)\r\n\r\n(.*)$"
    assert(status, "no answer but: " .. client.received)
    local headers = {}
    for name, value in (head .. "\r\n"):gmatch "([^:\r\n]+): ([^\r\n]*)\r\n" do headers[name:lower()] = value end
    return { status = tonumber(status), headers = headers, body = rest }
end

return M
