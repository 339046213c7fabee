-- What reloads and consumers cost in memory and descriptors. Bounds are wide: a leak of a worker's tables with each reload,
-- or memory laid out per consumer, is far beyond them.

local uv = require "luv"
local assert = require "luassert"
local app = require "spec.support.app"
local machine = require "spec.bench.machine"
local reloads = require "spec.support.reloads"
local rig = require "spec.unit.worker.rig"
local steered = require "spec.support.steered"
local tmp = require "spec.support.tmp"
local wait = require "spec.support.wait"

local WAIT_MS = 20000
local RELOADS, WARM = 60, 10
local GROWTH_KIB = 4096 -- of 50 reloads: 80 KiB each
local CONSUMERS_KIB = 30 * 1024

local function start(options)
    options.url = steered.brokers[1].url
    local s = steered.new(options)
    s.env = { XDG_RUNTIME_DIR = tmp.dir() }
    s.p = s:run { env = s.env }
    s.p:wait_for("partitions assigned", WAIT_MS)
    return s
end

local function resident_kib(pid)
    return tonumber(tmp.read(("/proc/%d/status"):format(pid)):match "VmRSS:%s+(%d+)")
end

local function descriptors(pid)
    local scan, count = assert(uv.fs_scandir(("/proc/%d/fd"):format(pid))), 0
    for _ in function() return uv.fs_scandir_next(scan) end do count = count + 1 end
    return count
end

rig.it_limited(RELOADS .. " reloads leave control as large as ten did", function()
    local s = start { partitions = 1 }
    local resident, open
    for i = 1, RELOADS do
        assert.equal(0, reloads.reload(s).code)
        wait.until_true(function() return #s.p:children() == 1 end, WAIT_MS, "the old worker to be gone")
        if i == WARM then resident, open = resident_kib(s.p.pid), descriptors(s.p.pid) end
    end
    wait.until_true(function() return descriptors(s.p.pid) <= open end, WAIT_MS,
        ("%d descriptors or fewer; there are %d"):format(open, descriptors(s.p.pid)))
    local growth = resident_kib(s.p.pid) - resident
    assert.is_true(growth < GROWTH_KIB, ("control has grown by %d KiB, from %d"):format(growth, resident))
    s:publish { "a" }
    s:wait("ended", { "a" })
    assert.equal(0, (app.drain(s.p)), s.p:transcript())
end)

rig.it_limited("256 consumers of a group cost less than 30 MiB together", function()
    local kib = {}
    for _, consumers in ipairs { 1, 256 } do
        local s = start { partitions = 256, group = ("consumers = { min = %d, max = %d }"):format(consumers, consumers) }
        local texts = {}
        for i = 1, 1000 do texts[i] = ("m%d gate"):format(i) end
        for i = 0, 3 do s:publish({ unpack(texts, i * 250 + 1, i * 250 + 250) }, { partition = i }) end
        s:wait("began", consumers) -- each has a message
        kib[consumers] = 0
        for _, pid in ipairs(machine.children_of(s.p.pid)) do kib[consumers] = kib[consumers] + machine.memory_kib(pid) end
        s:open "gate"
        s:wait("ended", #texts)
        assert.equal(0, (app.drain(s.p)), s.p:transcript())
    end
    assert.is_true(kib[1] > 1024)
    assert.is_true(kib[256] - kib[1] < CONSUMERS_KIB, ("%d KiB with 256, %d with 1"):format(kib[256], kib[1]))
end)
