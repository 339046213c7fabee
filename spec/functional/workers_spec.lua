-- How many workers a run has.

local uv = require "luv"
local assert = require "luassert"
local app = require "spec.support.app"
local process = require "spec.support.process"
local tmp = require "spec.support.tmp"

local WAIT_MS = 20000

local SOURCE = [[
local shove = require "shove"
local app = shove.registry { broker = "memory:" }
app:register(app:topic("orders", {}), shove.group {}, function() end)
return app
]]

-- Behind the words of `before`: what the line says that tells of the start, and how many processes there are.
local function workers(before, ...)
    local a = app.new { source = SOURCE }
    local line = { unpack(before) }
    for _, word in ipairs { app.bin, "run", a.path, ... } do table.insert(line, word) end
    line.cwd = a.dir
    local p = process.spawn(line)
    local _, said = p:wait_for("control: running .*workers=(%d+)", WAIT_MS)
    local processes = #p:children()
    assert.equal(0, (app.drain(p)), p:transcript())
    return { tonumber(said), processes }
end

describe("A run without --workers", function()
    it("has one for each processor that it may use", function()
        local count = uv.available_parallelism()
        assert.same({ count, count }, workers { "env" })
    end)

    it("has one where it is kept to one processor, however many there are", function()
        local first = tmp.read("/proc/self/status"):match "Cpus_allowed_list:%s*(%d+)"
        assert.same({ 1, 1 }, workers { "taskset", "-c", first })
    end)
end)

describe("A run with --workers", function()
    it("has that many, however many processors it may use", function()
        local count = uv.available_parallelism() + 1
        assert.same({ count, count }, workers({ "env" }, "--workers", tostring(count)))
    end)
end)
