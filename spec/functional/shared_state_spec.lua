-- What a handler does to the Lua state that it shares with the others of its process, and what it leaves behind in it.

local hostile = require "spec.support.hostile"
local stage = require "spec.support.stage"

-- kind -> what one handler does once; all of shove still works in that process, and so does the good group.
local VANDALS = {
    ["clears _G"] = "for name in pairs(_G) do if name ~= '_G' then _G[name] = nil end end",
    ["gives _G a metatable that raises"] =
        "setmetatable(_G, { __index = function() error 'no globals' end, __newindex = function() error 'none' end })",
    ["empties every library"] =
        "for _, lib in pairs { string, table, math, coroutine, os, io, debug } do for k in pairs(lib) do lib[k] = nil end end",
    ["takes the strings' methods away"] = "getmetatable('').__index = nil",
    ["makes the strings' methods raise"] = "getmetatable('').__index = function() error 'gone' end",
    ["forgets all modules"] =
        "for name in pairs(package.loaded) do package.loaded[name] = nil end package.loaders = nil package.path = nil",
    ["replaces require, error, pcall and setmetatable"] =
        "require, error, pcall, setmetatable = nil, nil, nil, function() return {} end",
    ["replaces coroutine.yield, coroutine.running and os.time"] =
        "coroutine.yield, coroutine.running, os.time = error, error, error",
    ["gives nil, numbers and functions metatables"] = [[
        for _, value in ipairs { 1, true, print } do
            debug.setmetatable(value, { __index = error, __tostring = error, __concat = error, __eq = error, __lt = error })
        end
        debug.setmetatable(nil, { __index = function() return 1 end, __call = function() return 5 end })]],
    ["turns the compiler off and the collector's pause up"] = "require('jit').off() collectgarbage('setpause', 10000)",
    ["stops the collector"] = "collectgarbage 'stop'",
    ["sets a hook that would raise much later"] = "debug.sethook(function() error 'hooked' end, '', 1000000000)",
    ["changes the working directory and the environment"] = "uv.chdir '/' uv.os_unsetenv 'PATH' uv.os_setenv('HOME', '')",
}

-- What every handler does afterwards: whatever is shove's.
local USE = [[
    if kind == "vandal" then %s end
    shove.sleep "1ms"
    shove.log.warn("noted", { a = 1, b = msg.payload })
    local count, text = shove.publish(good, "good from " .. msg.payload, { key = 12, headers = { a = "b" } })
    if not count then return shove.reject(text) end
    count, text = shove.publish_batch(good, { { body = "good batch " .. msg.payload, key = "k" } })
    if not count then return shove.reject(text) end
]]

describe("a handler that", function()
    for what, vandalism in pairs(VANDALS) do
        it(what .. " breaks neither shove nor the handlers beside it", function()
            local s = hostile.new { broker = "embedded", group = "max_retries = 0", handler = USE:format(vandalism) }
            s:publish("bad", { "before", "vandal", "after" }, "acked")
            for _, payload in ipairs { "before", "vandal", "after" } do
                s.fates.good["good from " .. payload] = "acked"
                s.fates.good["good batch " .. payload] = "acked"
            end
            s:publish_good(20)
            local p = s:run()
            assert.are.equal(0, s:finish(p), p:transcript())
            assert.are.equal(3, select(2, p:text("stderr"):gsub("warn  worker 0: noted", "")))
        end)
    end
end)

describe("a hook that raises at every step", function()
    it("costs the handler that set it its message, and no other in that process", function()
        local s = hostile.new { broker = "embedded", group = "max_retries = 0", handler = USE:format [[
            debug.sethook(function() error "hooked" end, "", 1)]] }
        s:publish("bad", { "vandal" }, "dead")
        s:publish("bad", { "after", "long after" }, "acked")
        for _, payload in ipairs { "after", "long after" } do
            s.fates.good["good from " .. payload] = "acked"
            s.fates.good["good batch " .. payload] = "acked"
        end
        s:publish_good(20)
        local p = s:run()
        assert.are.equal(0, s:finish(p), p:transcript())
    end)
end)

describe("a hook that is set while the script is loaded", function()
    it("stays, for all handlers", function()
        local s = stage.new("embedded", [[
            local shove, stage = require "shove", require "stage"
            local app = shove.registry { broker = stage.broker }
            local queue = app:topic(stage.name "queue", { codec = "raw" })
            local steps = 0
            app:register(queue, {}, function(msg)
                local before = steps
                stage.say(msg.payload .. " " .. tostring(steps > before))
            end)
            debug.sethook(function() steps = steps + 1 end, "", 1)
            return app]])
        s:publish("queue", { "one", "two" })
        local p = s:run { "--workers", "1" }
        local said = {}
        for _, call in ipairs(s:wait_calls(2, { queue = "said" })) do said[#said + 1] = call.said end
        table.sort(said)
        assert.are.same({ "one true", "two true" }, said)
        stage.drain(p)
    end)
end)

describe("what a handler leaves behind", function()
    local LEFT = {
        ["coroutines that nobody resumes"] = { "acked", [[
            for _ = 1, 1000 do coroutine.wrap(function() coroutine.yield() end)() end]] },
        ["a coroutine that is resumed when its message is settled"] = { "acked", [[
            kept = kept or {}
            for _, co in ipairs(kept) do assert(coroutine.resume(co)) end
            kept = { coroutine.create(function() coroutine.yield() return msg.payload end) }
            coroutine.resume(kept[1])]] },
        ["handles that it never closes"] = { "acked", [[
            for _ = 1, 100 do uv.new_timer():start(1, 1, function() end) uv.new_pipe(false) uv.new_idle() end]] },
        ["a callback that raises"] = { "acked", "uv.new_timer():start(1, 0, function() error 'later' end)" },
        ["a message that is read later"] = { "acked", [[
            local t = uv.new_timer()
            t:start(5, 0, function()
                t:close()
                local ok, text = pcall(function() return msg.headers end)
                assert(not ok and match(text, "msg.headers is read for the first time after its message was settled"), text)
                print("still " .. msg.payload)
            end)]], "still" },
        ["a callback that publishes"] = { "acked", [[
            local t = uv.new_timer()
            t:start(1, 0, function()
                t:close()
                local ok, text = pcall(shove.publish, "x", "y")
                assert(not ok and match(text, "can only be called from a handler"), text)
                print("refused " .. msg.payload)
            end)]], "refused" },
        ["a coroutine of a handler that is over, which publishes"] = { "acked", [[
            local co = coroutine.create(function() coroutine.yield() return shove.publish("x", "y") end)
            coroutine.resume(co)
            local t = uv.new_timer()
            t:start(1, 0, function()
                t:close()
                local ok, text = coroutine.resume(co)
                assert(not ok and match(text, "can only be called from a handler"), text)
                print("refused " .. msg.payload)
            end)]], "refused" },
        ["itself, to be resumed after its timeout"] = { "dead", [[
            local co, t = coroutine.running(), uv.new_timer()
            t:start(400, 0, function()
                t:close()
                local ok, text = coroutine.resume(co)
                assert(not ok and match(text, "cannot resume a handler that timed out"), text)
                print("refused " .. msg.payload)
            end)
            coroutine.yield()
            note("returned", { payload = "nobody", retry_count = 0 })]], "refused" },
        ["itself, resumed twice"] = { "acked", [[
            local co, t = coroutine.running(), uv.new_timer()
            t:start(1, 0, function()
                t:close()
                assert(coroutine.resume(co))
                local ok, text = coroutine.resume(co)
                assert(not ok and match(text, "cannot resume"), text)
                print("refused " .. msg.payload)
            end)
            coroutine.yield()]], "refused" },
        ["a resume of a handler that sleeps"] = { "acked", [[
            local co, t = coroutine.running(), uv.new_timer()
            t:start(1, 0, function()
                t:close()
                local ok, text = coroutine.resume(co)
                assert(not ok and match(text, "waits in shove.sleep or another call of shove"), text)
                print("refused " .. msg.payload)
            end)
            shove.sleep "50ms"]], "refused" },
    }

    for what, row in pairs(LEFT) do
        it(what .. ", harms nobody", function()
            local s = hostile.new { broker = "embedded", handler = row[2],
                group = "max_retries = 0, handler_timeout = '200ms', concurrent = true, prefetch = 4" }
            s:publish("bad", { "one", "two", "three" }, row[1])
            s:publish_good(20)
            local p = s:run()
            for _, payload in ipairs { "one", "two", "three" } do
                if row[3] then p:wait_for("^" .. row[3] .. " " .. payload .. "$", 10000) end
            end
            assert.are.equal(0, s:finish(p), p:transcript())
            assert.are.equal(row[2]:find "later'" and 3 or 0, select(2, p:text("stderr"):gsub("a luv callback failed", "")))
        end)
    end
end)
