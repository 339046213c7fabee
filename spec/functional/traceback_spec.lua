-- Tracebacks show the script's own frames: where shove's modules lie, and what they do there, is nobody's business.

local uv = require "luv"
local app = require "spec.support.app"
local tmp = require "spec.support.tmp"

local RUN_MS = 15000

-- What refuses each mistake is some of shove's own functions away from the script's line.
local SOURCE = [[
local shove = require "shove"
local uv = require "luv"
local app = shove.registry { broker = "memory:" }
local jobs = app:topic("jobs", { hold = { "20ms" }, dlq = true })
local function send(body, options) shove.publish("jobs", body, options) end
local MISTAKES = {
    outcome = function() return shove.akc end,
    option = function() send({}, { keey = "k" }) end,
    body = function() send { f = print } end,
    field = function(msg) return msg.boby end,
    sleep = function() shove.sleep "soon" end,
    raised = function() error "boom" end,
}
app:register(jobs, { max_retries = 0 }, function(msg)
    local mistake = MISTAKES[msg.body]
    local done = mistake(msg)
    return done
end)
app:dead_letters(jobs, function(dead) print("dead " .. dead.body .. ": " .. dead.error:gsub("\n", "|")) end)
app:on_start(function()
    local timer = uv.new_timer()
    timer:start(1, 0, function() timer:close() send({}, { keey = "k" }) end)
    for name in pairs(MISTAKES) do shove.publish("jobs", name) end
    local oops = shove.sleep "never"
    return oops
end)
return app
]]

-- shove's modules, far enough away that LuaJIT shortens their paths, or as they are.
local function lua_dir(is_far)
    local lua = uv.cwd() .. "/lua"
    if not is_far then return lua end
    local far = tmp.dir() .. "/" .. ("folder-"):rep(12)
    assert(uv.fs_mkdir(far, tonumber("755", 8)))
    assert(uv.fs_symlink(lua .. "/shove", far .. "/shove"))
    return far
end

for where, is_far in pairs { ["where they are"] = false, ["in a folder with a long name"] = true } do
    describe("A traceback, with shove's modules " .. where .. ",", function()
        local errors, log

        setup(function()
            local a = app.new { source = SOURCE }
            local p = a:run { "--workers", "1", env = { SHOVE_LUA_DIR = lua_dir(is_far) } }
            errors = {}
            for _, name in ipairs { "outcome", "option", "body", "field", "sleep", "raised" } do
                errors[name] = select(2, p:wait_for(("^dead %s: (.*)"):format(name), RUN_MS))
            end
            assert.equal(0, app.drain(p))
            log = p:text "stderr"
        end)

        for _, row in ipairs {
            { "outcome", 'app.lua:7: shove has no field "akc" (did you mean "ack"?)', "app.lua:7:", "app.lua:16:" },
            { "option", 'app.lua:5: shove.publish: unknown option "keey" (did you mean "key"?)', "app.lua:5:",
                "app.lua:8:", "app.lua:16:" },
            { "body", "app.lua:5: shove.publish: the body cannot be written as JSON: functions, threads and C data are "
                .. "not JSON", "app.lua:5:", "app.lua:9:", "app.lua:16:" },
            { "field", 'app.lua:10: a message has no field "boby" (did you mean "body"?)', "app.lua:10:", "app.lua:16:" },
            { "sleep", 'app.lua:11: shove.sleep: "soon" is not a duration; write "500ms", "5s", "5m", "1h" or a number of '
                .. "seconds", "app.lua:11:", "app.lua:16:" },
            { "raised", "app.lua:12: boom", "app.lua:12:", "app.lua:16:" },
        } do
            it("has the script's frames alone: " .. row[1], function()
                local frames = {}
                local text, rest = errors[row[1]]:match "^(.-)|stack traceback:|(.*)$"
                for frame in (rest .. "|"):gmatch "\t(.-)|" do
                    frames[#frames + 1] = frame:match "(app%.lua:%d+:)" or frame
                end
                assert.equal(row[2], (text:gsub("^%S-(app%.lua)", "%1")))
                assert.same({ unpack(row, 3) }, frames)
            end)
        end

        it("of a luv callback, and of app:on_start, has no others either", function()
            assert.matches('a luv callback failed  error="[^\n]*shove.publish waits, so it can only', log)
            assert.matches('app:on_start failed: [^\n]*"never" is not a duration', log)
            assert.is_nil(log:find("validate.lua", 1, true), log)
            assert.is_nil(log:find("publish.lua", 1, true), log)
        end)
    end)
end

describe("An error while the script loads, with shove's modules in a folder with a long name,", function()
    it("shows the script's own frames alone", function()
        local a = app.new { source = [[
local shove = require "shove"
local function group()
    local built = shove.group { prefech = 1 }
    return built
end
local wanted = group()
return wanted
]] }
        local result = a:command("check", { env = { SHOVE_LUA_DIR = lua_dir(true) } })
        assert.equal(78, result.code)
        assert.matches('app.lua:3: group: unknown key "prefech"', result.stderr, 1, true)
        assert.matches("app.lua:6: in main chunk", result.stderr, 1, true)
        assert.is_nil(result.stderr:find("validate.lua", 1, true), result.stderr)
    end)
end)
