-- How a run ends: the drain, what is said meanwhile, and the exit code.

local uv = require "luv"
local app = require "spec.support.app"
local cjson = require "cjson"
local steered = require "spec.support.steered"
local unique = require "spec.support.unique"
local wait = require "spec.support.wait"

-- A second group that cannot go on, because nothing is committed and there is no policy for that.
local FAILING = [[
app:register(app:topic("%s", { partitions = 1 }), shove.group { auto_offset_reset = "none" }, function() end)
]]

local function started(p)
    p:wait_for("partitions assigned.*partitions=[1-9]", 20000)
    return p
end

-- What the summary says of the stage's group.
local function summary_of(s, p)
    return p:wait_for("handled +group=" .. s.group_id:gsub("%-", "%%-"), 1000)
end

for _, broker in ipairs(steered.brokers) do
    describe("a drain on " .. broker.name, function()
        it("takes nothing new, says every second what it waits for, and exits 0", function()
            local s = steered.new { url = broker.url, holds = { "1h" } }
            s:declare()
            s:publish({ "done", "slow shut" }, { key = "customer-7" })
            local p = started(s:run())
            s:wait("ended", { "done" })
            s:wait("began", { "slow" })
            local _, taken = p:wait_for("partitions assigned (.*)", 5000)
            p:kill "sigterm"
            p:wait_for("draining.*why=SIGTERM", 5000)
            s:publish { "new" }
            for second = 1, 2 do
                p:wait_for("still draining.*handlers=1", 5000)
                local line = p.lines[#p.lines]
                p:mark()
                local age = line.text:match(('oldest="%s/0@1 key 028c7948 for ([%%d.]+) s"'):format(
                    s.queue:gsub("%-", "%%-")))
                assert.is_true(age and tonumber(age) >= second - 1, line.text)
            end
            s:open "shut"
            assert.equal(0, (p:wait_exit(5000)))
            local _, given_up = p:wait_for("partitions being given up (.*)", 1000)
            assert.equal(taken, given_up)
            assert.same({ "done", "slow" }, s:names "began")
        end)

        it("that takes longer than --drain exits 3, keeps its tallies, and leaves the rest to the next run", function()
            local s = steered.new { url = broker.url, partitions = 2, holds = { "1h" } }
            s:declare()
            s:publish { "a", "slow shut", "b", "c retry" }
            s:publish({ "d reject" }, { partition = 1 })
            local p = started(s:run { "--drain", "2s" })
            s:wait("ended", { "a", "b", "c", "d" })
            assert.equal(3, (app.drain(p, 10000)), p:transcript())
            local summary = summary_of(s, p)
            assert.matches("acked=2", summary, 1, true)
            assert.matches("retried or deferred=1", summary, 1, true)
            assert.matches("dead letters=1", summary, 1, true)
            assert.matches("the drain timed out", p:text "stderr", 1, true)

            local lines = #s:lines()
            s:open "shut"
            p = started(s:run())
            s:wait("ended", { "slow" })
            s:publish { "e" }
            s:wait("ended", { "e" })
            assert.equal(0, (app.drain(p)))
            assert.same({ "e", "slow" }, s:names("began", lines + 1))
        end)

        it("is cut short by a second signal; what was in flight is handled again, nothing else is", function()
            local s = steered.new { url = broker.url }
            s:declare()
            s:publish { "a", "slow shut" }
            local p = started(s:run { "--drain", "1h" })
            s:wait("ended", { "a" })
            s:wait("began", { "slow" })
            p:kill "sigint"
            p:wait_for("draining.*why=SIGINT", 5000)
            p:kill "sigint"
            local code = p:wait_exit(3000)
            assert.equal(3, code, p:transcript())
            summary_of(s, p)
            s:open "shut"
            p = started(s:run())
            s:wait("ended", { "slow" })
            assert.equal(0, (app.drain(p)))
            assert.same({ "a", "slow", "slow" }, s:names "began")
        end)

        it("after a Ctrl-C in a terminal, which every process of the run is sent, loses no worker", function()
            local s = steered.new { url = broker.url, partitions = 2 }
            s:declare()
            s:publish { "slow shut" }
            local p = started(s:run())
            s:wait("began", { "slow" })
            for _, worker in ipairs(p:children()) do uv.kill(worker, "sigint") end
            p:kill "sigint"
            p:wait_for("draining.*why=SIGINT", 5000)
            s:open "shut"
            assert.equal(0, (p:wait_exit(5000)), p:transcript())
            assert.equal(1, s:count("began", "slow"))
        end)

        it("is as clean as any when the second signal finds nothing in flight", function()
            local s = steered.new { url = broker.url }
            s:declare()
            s:publish { "a" }
            local p = started(s:run { "--drain", "1h" })
            s:wait_position(0, 1)
            p:kill "sigstop" -- it shall see both at once
            p:kill "sigterm"
            p:kill "sigint"
            p:kill "sigcont"
            assert.equal(0, (p:wait_exit(5000)), p:transcript())
        end)

        it("that is cut short while a handler does not yield blames no message for the kill", function()
            local s = steered.new {
                url = broker.url, holds = { "1h" }, group = "prefetch = 20, concurrent = true, max_crashes = 1",
            }
            s:declare()
            s:publish { "busy spin" }
            for run = 1, 2 do
                local p = started(s:run())
                s:wait("began", { "busy" }, run)
                p:kill "sigterm"
                p:wait_for("draining", 5000)
                p:kill "sigterm"
                assert.equal(3, (p:wait_exit(3000)), p:transcript())
                assert.matches("dead letters=0", summary_of(s, p), 1, true)
            end
            local dead = s.app:command("dlq list", { s.queue })
            assert.matches("no dead letters", dead.stdout, 1, true)
        end)
    end)
end

describe("app:on_start that does not return", function()
    local cases = {
        waiting = "while true do shove.sleep '1h' end",
        publishing = "while true do shove.publish('%s', 'x sleep') end",
        spinning = "while true do end",
    }
    for name, body in pairs(cases) do
        it(("does not hold up a drain, %s"):format(name), function()
            local elsewhere = unique "elsewhere"
            local s = steered.new { url = steered.brokers[1].url, extra = [[
                app:topic("]] .. elsewhere .. [[", {})
                app:on_start(function()
                    uv.fs_close(uv.fs_open(dir .. "/gate-started", "w", 420))
                    ]] .. body:format(elsewhere) .. [[

                end)
            ]] }
            local p = started(s:run())
            wait.until_true(function() return s:is_open "started" end, 5000, "app:on_start to begin")
            assert.equal(0, (app.drain(p, 5000)), p:transcript())
            p:wait_for("app:on_start has not returned", 1000)
        end)
    end

    it("and yields now and then is left alone, however long it takes", function()
        local s = steered.new { url = steered.brokers[1].url, group = "handler_timeout = '200ms'", extra = [[
            app:on_start(function()
                local till = uv.hrtime() + 4e9
                while uv.hrtime() < till do
                    local pause = uv.hrtime() + 2e8
                    while uv.hrtime() < pause do end
                    shove.sleep "1ms"
                end
                shove.log.info "on_start is through"
            end)
        ]] }
        local p = started(s:run { "--workers", "1" })
        p:wait_for("on_start is through", 10000)
        assert.equal(0, (app.drain(p, 5000)), p:transcript())
    end)

    it("and is lost with its worker lets the drain end, and the exit code says that a worker died", function()
        local s = steered.new { url = steered.brokers[1].url, extra = [[
            app:on_start(function() shove.sleep "50ms"; uv.kill(uv.os_getpid(), "sigkill") end)
        ]] }
        local p = started(s:run())
        p:wait_for("app:on_start did not come to its end", 5000)
        s:publish { "a" }
        s:wait("ended", { "a" })
        assert.equal(2, (app.drain(p, 5000)), p:transcript())
    end)
end)

describe("the exit code", function()
    -- What happened, in words of the stage, and what follows.
    local cases = {
        { 1, "a group that cannot go on, while others run on", { failing = true } },
        { 2, "a worker that died", { crash = true } },
        { 2, "a worker that died, before a group that failed", { crash = true, failing = true } },
        { 3, "a drain that timed out, before all others", { crash = true, failing = true, stuck = true } },
    }
    for _, broker in ipairs(steered.brokers) do
        for _, case in ipairs(cases) do
            local code, name, what = unpack(case)
            it(("is %d for %s, on %s"):format(code, name, broker.name), function()
                local s = steered.new {
                    url = broker.url, extra = what.failing and FAILING:format(unique "failing") or "",
                }
                local p = started(s:run { "--drain", "500ms" })
                if what.failing then p:wait_for("a consumer group stopped.*code=EOFFSET", 20000) end
                s:publish { "a" .. (what.crash and " crash" or ""), "b", what.stuck and "c shut" or nil }
                s:wait("ended", { "a", "b" })
                if what.stuck then s:wait("began", { "c" }) end
                assert.equal(code, (app.drain(p, 10000)), p:transcript())
                summary_of(s, p)
            end)
        end

        it("is 1 when no group is left, which ends the run by itself and is said, on " .. broker.name, function()
            local s = steered.new { url = broker.url, group = 'auto_offset_reset = "none"' }
            local p = s:run()
            assert.equal(1, (p:wait_exit(20000)))
            assert.matches(s.group_id, p:wait_for("a consumer group stopped", 1000), 1, true)
            p:wait_for("no consumer group is left to run", 1000)
        end)
    end
end)

it("a drain that waits for a retry to be stored says which, where it goes, and for how long, on Kafka", function()
    local s = steered.new { url = steered.brokers[2].url, holds = { "3600s" } }
    local hold = s.queue .. "-hold-3600s"
    s.broker:create_topic(s.queue)
    s.broker:create_topic(hold, { config = { ["cleanup.policy"] = "compact" } }) -- which refuses records without a key
    s:publish { "a retry" }
    local p = started(s:run { "--drain", "2s" })
    p:wait_for("a retry could not be stored", 10000)
    p:kill "sigterm"
    local oldest = "%s/0@0 key - on its way to %s for"
    local line, age = p:wait_for('still draining.*on their way=1 .*oldest=.* for ([%d.]+) s"', 10000)
    assert.matches(oldest:format(s.queue, hold), line, 1, true)
    assert.is_true(tonumber(age) > 0, age)
    assert.equal(3, (p:wait_exit(10000)))
end)

describe("--log json", function()
    for _, broker in ipairs(steered.brokers) do
        it("makes every line of a whole run one JSON object, whatever messages and handlers say, on " .. broker.name, function()
            local s = steered.new { url = broker.url, holds = { "10ms" }, extra = [==[
                local nasty = "line\nline\r\27[31m \"quoted\" back\\slash \255\254 \226\128\168 " .. ("x"):rep(5000) .. "\0y"
                local said = app:topic(queue_name .. "-said", { partitions = 1, codec = "raw" })
                app:register(said, shove.group { max_retries = 0 }, function(msg)
                    shove.log.warn(nasty, { [nasty] = nasty, number = 0 / 0, list = { 1, { nasty } } })
                    shove.log.info(msg.payload, { key = msg.key, payload = msg.payload })
                    if msg.payload:find "raise" then error(nasty) end
                    if msg.payload:find "table" then error({ nasty }) end
                    if msg.payload:find "reason" then return shove.reject(nasty) end
                    return nasty
                end)
                app:on_start(function()
                    for _, text in ipairs { "raise", "table", "reason", "nonsense", nasty } do
                        shove.publish(queue_name .. "-said", text, { key = nasty })
                    end
                    error(nasty)
                end)
            ]==] }
            local p = s:run { "--log", "json" }
            p:wait_for("on_start failed", 20000)
            s:publish { "a crash", "b retry", "c reject", "slow shut" }
            s:wait("ended", { "a", "c" })
            s:wait("ended", { "b" }, 2)
            p:kill "sigterm"
            p:wait_for("still draining", 5000)
            s:open "shut"
            assert.equal(2, (p:wait_exit(10000)), p:transcript())
            assert.is_true(#p.lines > 10)
            for _, line in ipairs(p.lines) do
                local ok, record = pcall(cjson.decode, line.text)
                assert(ok, line.text .. "\n" .. tostring(record))
                for _, field in ipairs { "time", "level", "message" } do assert.is_string(record[field], line.text) end
            end
            assert.equal("\n", p:text "stderr":sub(-1))
        end)
    end
end)
