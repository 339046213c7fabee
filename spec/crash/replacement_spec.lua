-- Workers that die or are spent while the script on disk cannot be loaded: nobody is left to take messages.

local cjson = require "cjson"
local uv = require "luv"
local assert = require "luassert"
local app = require "spec.support.app"
local http = require "spec.support.http"
local rig = require "spec.unit.worker.rig"
local steered = require "spec.support.steered"
local tmp = require "spec.support.tmp"
local wait = require "spec.support.wait"

local WAIT_MS = 20000
local BROKEN = "local app = = 'broken'"
local CANNOT_LOAD = "a replacement worker cannot load the script: .*app.lua:1: unexpected symbol near '='"

-- A run with one worker; hurry_ms: what it takes for the time without any worker.
local function start(hurry_ms, extra)
    local s = steered.new { url = steered.brokers[1].url, extra = extra, group = "concurrent = false" }
    s.env = { XDG_RUNTIME_DIR = tmp.dir(), SHOVE_HURRY = hurry_ms and tostring(hurry_ms) }
    s.p = s:run { "--listen", "0", "--worker-memory", "128MiB", env = s.env }
    s.publisher = app.new { source = s.source }
    s.port = http.port_of(s.p)
    s.p:wait_for("partitions assigned", WAIT_MS)
    return s
end

local function ready(s)
    local answer = http.request(s.port, "/readyz")
    return answer.status .. " " .. answer.body
end

local function wait_ready(s, expected)
    wait.until_true(function() return ready(s) == expected end, WAIT_MS, expected)
end

local function break_script(s)
    tmp.write(s.app.path, BROKEN)
    assert.equal(1, s.app:command("reload", { env = s.env }).code)
end

-- It loads, and describes another app.
local function rewrite_script(s)
    tmp.write(s.app.path, (s.source:gsub('codec = "raw"', 'codec = "json"')))
end

-- By a script that is whole, while the app's own is not.
local function publish(s, texts)
    local own = s.app
    s.app = s.publisher
    s:publish(texts)
    s.app = own
end

local function kill_worker(s)
    for _, pid in ipairs(s.p:children()) do uv.kill(pid, "sigkill") end
end

local function count(text, words)
    return select(2, text:gsub(words, ""))
end

it("an app without a worker that can load its script is not ready, says why, and goes on when it is mended", function()
    local s = start()
    wait_ready(s, "200 ready\n")
    break_script(s)
    wait_ready(s, "200 ready\n") -- the worker that is there takes messages
    kill_worker(s)
    wait_ready(s, "503 no worker is ready to take messages\n")
    s.p:wait_for("no worker is left: nothing is handled .*at most=\"90 s\"", WAIT_MS)
    local run = cjson.decode(s.app:command("status", { env = s.env, "--json" }).stdout)[1]
    assert.matches("no worker is ready: .*app.lua:1: unexpected symbol near '='", run.error)
    assert.matches("\n  workers: [%w ]+\n  no worker is ready: .*app.lua:1", s.app:command("status", { env = s.env }).stdout)
    publish(s, { "a" })
    wait.until_true(function() return count(s.p:text "stderr", CANNOT_LOAD:match "^[%a ]+") > 4 end, WAIT_MS,
        "as many tries as give up when they go on for long")
    assert.is_nil(s.p:text("stderr"):find("draining", 1, true))
    tmp.write(s.app.path, s.source)
    s:wait("ended", { "a" })
    s.p:wait_for("a worker is there again", WAIT_MS)
    wait_ready(s, "200 ready\n")
    assert.equal(cjson.null, cjson.decode(s.app:command("status", { env = s.env, "--json" }).stdout)[1].error)
    assert.equal(2, (app.drain(s.p)), s.p:transcript()) -- for the worker that was killed
    assert.equal(1, count(s.p:text "stderr", "a worker process died"), s.p:transcript())
end)

local LEAK = [[
    local kept = {}
    verbs.leak = function() while #kept < 560 do kept[#kept + 1] = ('x'):rep(1e5) .. #kept end end
]]

-- A run whose worker has used up its memory and goes, when spoil(s) has been done to the script.
local function spent_with(spoil, hurry_ms)
    local s = start(hurry_ms, LEAK)
    s:publish { "a go leak", "b", "c" }
    s:wait("began", { "a" })
    spoil(s)
    s:open "go"
    return s
end

rig.it_limited("an app whose spent worker cannot be replaced drains and exits 1, and what it had not handled is there", function()
    local s = spent_with(break_script, 1000)
    s.p:wait_for(CANNOT_LOAD, WAIT_MS)
    assert.equal(1, (s.p:wait_exit(WAIT_MS)), s.p:transcript())
    assert.matches('draining.*why="no worker is left, and none can be started: .*app.lua:1: unexpected', s.p:text "stderr")
    assert.is_true(count(s.p:text "stderr", CANNOT_LOAD:match "^[%a ]+") >= 5, s.p:transcript())
    tmp.write(s.app.path, s.source)
    local p = s:run()
    s:wait("ended", { "a", "b", "c" })
    assert.equal(0, (app.drain(p)), p:transcript())
    assert.equal(3, s:count "ended")
end)

rig.it_limited("an app whose spent worker could be replaced in the end exits 0: nobody died", function()
    local s = spent_with(break_script)
    s.p:wait_for(CANNOT_LOAD, WAIT_MS)
    tmp.write(s.app.path, s.source)
    s:wait("ended", { "a", "b", "c" })
    assert.equal(0, (app.drain(s.p)), s.p:transcript())
end)

rig.it_limited("an app that is told to end while its spent worker cannot be replaced exits 1", function()
    local s = spent_with(break_script)
    s.p:wait_for("no worker is left", WAIT_MS)
    assert.equal(1, (app.drain(s.p)), s.p:transcript())
end)

rig.it_limited("an app whose spent worker was replaced when its script was its own again exits 0: nobody died", function()
    local s = spent_with(rewrite_script)
    s.p:wait_for("the script changed on disk since it was loaded", WAIT_MS)
    tmp.write(s.app.path, s.source)
    s:wait("ended", { "a", "b", "c" })
    assert.equal(0, (app.drain(s.p)), s.p:transcript())
end)

it("an app whose script on disk is another one by now gives up as well, and exits 2, because workers died", function()
    local s = start(1000)
    rewrite_script(s)
    kill_worker(s)
    s.p:wait_for("the script changed on disk since it was loaded", WAIT_MS)
    assert.equal(2, (s.p:wait_exit(WAIT_MS)), s.p:transcript())
    assert.matches("draining.*no worker is left, and none can be started: the script changed on disk", s.p:text "stderr")
end)

it("an app whose worker can be replaced does not give up, however often it dies", function()
    local s = start(100)
    for i = 1, 6 do
        s:publish { i .. " crash" }
        s:wait("ended", { tostring(i) })
    end
    assert.is_nil(s.p:text("stderr"):find("no worker is left", 1, true))
    assert.equal(2, (app.drain(s.p)), s.p:transcript())
end)
