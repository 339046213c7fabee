-- A broker comes back with less than it had acknowledged (an unclean leader election, a disk that lied), and writes on
-- from there: the same offsets again, with other records.

local ffi = require "ffi"
local app = require "spec.support.app"
local kafka = require "spec.support.kafka"
local tmp = require "spec.support.tmp"
local unique = require "spec.support.unique"
local wait = require "spec.support.wait"

ffi.cdef "int truncate(const char *path, long length);"

local WAIT_MS = 30000

-- "slow" is open until the file `go` is there, is retried then, and acked.
local SOURCE = [[
local shove = require "shove"
local uv = require "luv"
local app = shove.registry { broker = %q }
local queue = app:topic(%q, { hold = { "100ms" }, dlq = true, partitions = 1, codec = "raw" })
local file = assert(uv.fs_open(%q, "a", tonumber("644", 8)))
app:register(queue, shove.group { prefetch = 10, concurrent = true }, function(msg)
  local function say(verb) assert(uv.fs_write(file, verb .. " " .. msg.payload .. "\n", -1)) end
  if msg.payload == "slow" and msg.retry_count == 0 then
    say "began"
    while not uv.fs_stat(%q) do shove.sleep(0.01) end
    return shove.retry "as planned"
  end
  say "acked"
  return shove.ack
end)
return app
]]

-- Cuts the partition's log where the batch of records that begins at `offset` stands.
local function cut(broker, topic, offset)
    local path = ("%s/data/%s-0/%020d.log"):format(broker.dir, topic, 0)
    local bytes = tmp.read(path)
    local at = 0
    local function number(from, size)
        local n = 0
        for i = from, from + size - 1 do n = n * 256 + bytes:byte(i) end
        return n
    end
    while at < #bytes and number(at + 1, 8) < offset do at = at + 12 + number(at + 9, 4) end
    assert(at < #bytes and number(at + 1, 8) == offset, "no batch begins at " .. offset)
    assert(ffi.C.truncate(path, at) == 0)
end

-- Stopped in order, so that another leader epoch begins afterwards, and still made to look at its logs.
local function come_back_without(broker, topic, offset)
    broker:stop()
    cut(broker, topic, offset)
    assert(os.remove(broker.dir .. "/data/.kafka_cleanshutdown"))
    broker:restart()
end

-- How the records came to shove at first: each list is published when those before it are handled.
local CASES = {
    { "all in one take", { { "slow", "a", "b", "c" } } },
    { "in several takes, the last of which begins past the cut", { { "slow", "a" }, { "b" }, { "c" } } },
}

describe("a partition whose log lost its end", function()
    for _, case in ipairs(CASES) do
        it("is read again from there, and what is open below stays open; read " .. case[1], function()
            local broker, queue = kafka.private(), unique "cut"
            local a = app.new { source = "" }
            local journal, go = tmp.write(a:file "journal", ""), a:file "go"
            tmp.write(a.path, SOURCE:format(broker.url, queue, journal, go))
            local function publish(list)
                for _, payload in ipairs(list) do
                    local result = a:command("publish", { queue, payload, "--raw" })
                    assert.equal(0, result.code, result.stderr)
                end
            end
            publish(case[2][1])
            local p = a:run { "--workers", "1" }
            local function wait_for(line)
                wait.until_true(function()
                    assert.is_nil(p.code, p.code and p:transcript())
                    return tmp.read(journal):find(line .. "\n", 1, true)
                end, WAIT_MS, ("'%s'"):format(line))
            end
            for i, list in ipairs(case[2]) do
                if i > 1 then publish(list) end
                wait_for("acked " .. list[#list])
            end
            wait_for "began slow"

            come_back_without(broker, queue, 2)
            publish { "new b", "new c", "d" }
            for _, payload in ipairs { "new b", "new c", "d" } do wait_for("acked " .. payload) end
            tmp.write(go, "")
            wait_for "acked slow"
            assert.equal(0, (app.drain(p)), p:transcript())
        end)
    end
end)
