-- shove status, scale, pause and resume, and the socket they speak over.

local cjson = require "cjson"
local uv = require "luv"
local assert = require "luassert"
local app = require "spec.support.app"
local process = require "spec.support.process"
local reloads = require "spec.support.reloads"
local steered = require "spec.support.steered"
local tmp = require "spec.support.tmp"
local wait = require "spec.support.wait"

local WAIT_MS = 20000

-- A run of four gated consumers at most, whose socket is in a folder of its own.
local function start(options)
    options = options or {}
    local runtime = tmp.dir()
    local s = steered.new {
        url = options.url or steered.brokers[1].url, partitions = 4,
        group = "consumers = { min = 1, max = 4 }", extra = [[app:autoscale { poll = "1h" }]] .. (options.extra or ""),
    }
    s.env = { XDG_RUNTIME_DIR = runtime }
    s.runtime = runtime
    s.folder = runtime .. "/shove"
    if options.prepare then options.prepare(s) end
    s.p = s:run { env = s.env }
    s.p:wait_for("partitions assigned", WAIT_MS)
    return s
end

local function ask(s, command, ...)
    return s.app:command(command, { env = s.env, ... })
end

local function status(s)
    local result = ask(s, "status", "--json")
    assert.equal(0, result.code, result.stderr)
    return cjson.decode(result.stdout)
end

local function group(s) return status(s)[1].groups[1] end

-- What the socket answers to these bytes; nil when it hangs up without a word.
local function say(s, bytes)
    local pipe, answer, is_over = uv.new_pipe(false), "", false
    pipe:connect(s.folder .. "/" .. s.p.pid .. ".sock", function(err)
        assert(not err, err)
        pipe:write(bytes)
        pipe:read_start(function(_, chunk)
            if chunk then answer = answer .. chunk else is_over = true end
        end)
    end)
    wait.until_true(function() return is_over end, WAIT_MS, "the answer")
    pipe:close()
    return answer ~= "" and cjson.decode(answer) or nil
end

describe("shove status", function()
    it("shows groups, their consumers and what they have in flight", function()
        local s = start()
        s:publish { "a gate", "b gate", "c gate" }
        s:wait("began", { "a" })
        local run = status(s)[1]
        assert.equal(s.p.pid, run.pid)
        assert.equal("running", run.phase)
        assert.equal(uv.fs_realpath(s.app.path), run.app)
        assert.equal(1, #run.workers)
        local g = run.groups[1]
        assert.same({ s.group_id, s.queue, "joined", false, 1, 1, 4, 1, 1, 4 }, { g.group, g.topic, g.state, g.paused,
            g.consumers, g.min, g.max, g.capacity, g.in_flight, g.partitions })
        assert.same({ 3, 3 }, { g.ready, g.lag })
        local text = ask(s, "status").stdout
        assert.matches("running for %d+ s, pid " .. s.p.pid .. ", generation 1, on embedded:", text)
        assert.matches("\n  " .. s.group_id:gsub("%p", "%%%0") .. " +joined +1 of 1 to 4 +1 +3 +3 +0 +0 +0 +0\n", text)
        s:open "gate"
        s:wait("ended", 3)
        wait.until_true(function() return group(s).acked == 3 end, WAIT_MS, "three to be acked")
        g = group(s)
        assert.same({ 0, 0, 0 }, { g.in_flight, g.ready, g.lag })
        assert.equal(0, (app.drain(s.p)), s.p:transcript())
    end)

    it("finds an app by its path, whatever bytes that has, and scales and reloads it", function()
        local s = start { prepare = function(s)
            local folder = s.dir .. "/caf\233 \195\169"
            assert(uv.fs_mkdir(folder, tonumber("755", 8)))
            s.app.path = tmp.write(folder .. "/app.lua", s.source)
        end }
        assert.equal(uv.fs_realpath(s.dir) .. "/caf\\xe9 \195\169/app.lua", status(s)[1].app)
        assert.equal(0, ask(s, "scale", s.group_id, "2").code)
        assert.equal(0, ask(s, "reload").code)
        assert.same({ 2, 2 }, { status(s)[1].generation, group(s).consumers })
        reloads.rewrite(s, "", "return app", "error '\\255'")
        assert.matches("/caf\\xe9 \195\169/app.lua:%d+: \\xff", ask(s, "reload").stderr)
        assert.equal(0, (app.drain(s.p)), s.p:transcript())
    end)

    it("says of a run that drains that it does", function()
        local s = start()
        s:publish { "a gate" }
        s:wait("began", { "a" })
        s.p:kill "sigterm"
        s.p:wait_for("draining", WAIT_MS)
        assert.equal("draining", status(s)[1].phase)
        local refused = ask(s, "pause", s.group_id)
        assert.same({ 1, "shove: it is draining\n" }, { refused.code, refused.stderr })
        s:open "gate"
        assert.equal(0, (s.p:wait_exit(WAIT_MS)))
    end)

    local function watch(s, ...)
        return process.spawn { app.bin, "status", s.app.path, "--watch", env = s.env, ... }
    end

    it("--watch shows all of it again every second, until Ctrl-C", function()
        local s = start()
        local w = watch(s)
        local line = "\n  " .. s.group_id:gsub("%p", "%%%0") .. " +joined"
        local function shown() return select(2, w:text("stdout"):gsub(line, "")) end
        wait.until_true(function() return shown() >= 1 end, WAIT_MS, "the first")
        s:publish { "a gate" }
        w:wait_for("^  %S+ +joined +1 of 1 to 4 +1 +1 +1 +0 ", WAIT_MS) -- as it is by now
        local before = shown()
        wait.until_true(function() return shown() >= before + 2 end, WAIT_MS, "two more")
        w:kill "sigint"
        assert.same({ 0, 2 }, { w:wait_exit(WAIT_MS) }) -- as a shell wants to know of Ctrl-C
        assert.equal(shown(), select(2, w:text("stdout"):gsub("running for %d+ s", "")))
        assert.equal("", w:text "stderr")
        s:open "gate"
        assert.equal(0, (app.drain(s.p)), s.p:transcript())
    end)

    it("--watch ends with 0 and says so when the app has ended, and with 1 where it never ran", function()
        local s = start()
        local w, all = watch(s), process.spawn { app.bin, "status", "--watch", "--json", env = s.env }
        w:wait_for("running for", WAIT_MS)
        all:wait_for('"phase":"running"', WAIT_MS)
        assert.equal(0, (app.drain(s.p)), s.p:transcript())
        assert.same({ 0, 0 }, { w:wait_exit(WAIT_MS) })
        assert.equal("shove: " .. s.app.path .. " is not running here any more\n", w:text "stderr")
        assert.same({ 0, 0 }, { all:wait_exit(WAIT_MS) })
        assert.equal("shove: nothing is running here any more\n", all:text "stderr")
        local never = watch(s)
        assert.same({ 1, 0 }, { never:wait_exit(WAIT_MS) })
    end)

    it("exits 1 when nothing runs, and takes what a killed run left away", function()
        local s = start()
        local socket = s.folder .. "/" .. s.p.pid .. ".sock"
        assert.is_truthy(uv.fs_stat(socket))
        s.p:kill "sigkill"
        s.p:wait_exit(WAIT_MS)
        local result = ask(s, "status")
        assert.equal(1, result.code)
        assert.equal("shove: " .. s.app.path .. " is not running here: nobody listens for it\n", result.stderr)
        assert.is_nil(uv.fs_stat(socket))
        assert.equal("[]\n", ask(s, "status", "--json").stdout)
        result = process.run { app.bin, "status", env = s.env }
        assert.same({ 1, "shove: nothing is running here\n" }, { result.code, result.stderr })
    end)

    it("leaves nothing behind after a drain", function()
        local s = start()
        assert.equal(0, (app.drain(s.p)), s.p:transcript())
        assert.is_nil(uv.fs_stat(s.folder .. "/" .. s.p.pid .. ".sock"))
    end)
end)

describe("shove scale", function()
    it("gives a group so many consumers at once, and takes them away again", function()
        local s = start()
        s:publish { "a gate", "b gate", "c gate", "d gate", "e gate" }
        s:wait("began", 1)
        assert.equal(s.group_id .. ": consuming, 3 consumers\n", ask(s, "scale", s.group_id, "3").stdout)
        s:wait("began", 3)
        assert.equal(3, group(s).in_flight)
        assert.equal(0, ask(s, "scale", s.group_id, "1").code) -- those that are busy finish
        assert.same({ 1, 3 }, { group(s).consumers, group(s).in_flight })
        s:open "gate"
        s:wait("ended", 5)
        assert.equal(0, (app.drain(s.p)), s.p:transcript())
        assert.equal(5, s:count "began")
    end)

    for words, arguments in pairs {
        ["5 consumers for group '%s': its script allows 1 to 4"] = { "5" },
        ["0 consumers for group '%s': its script allows 1 to 4"] = { "0" },
    } do
        it("is refused outside of what the script allows: " .. arguments[1], function()
            local s = start()
            local result = ask(s, "scale", s.group_id, arguments[1])
            assert.same({ 1, "shove: " .. words:format(s.group_id) .. "\n" }, { result.code, result.stderr })
            assert.equal(1, group(s).consumers)
        end)
    end

    it("says which group was meant, and what is no number", function()
        local s = start()
        local result = ask(s, "scale", s.group_id .. "s", "2")
        assert.equal(1, result.code)
        assert.equal(("shove: there is no group '%ss': did you mean '%s'? 'shove status' lists them\n"):format(s.group_id,
            s.group_id), result.stderr)
        assert.equal(64, ask(s, "scale", s.group_id, "many").code)
        assert.equal(64, ask(s, "scale", s.group_id).code)
    end)
end)

describe("shove pause", function()
    for _, broker in ipairs(steered.brokers) do
        it("gives a group nothing new until it is resumed, and lets it finish what it has, on " .. broker.name, function()
            local s = start { url = broker.url }
            s:publish { "a gate", "b", "c" }
            s:wait("began", { "a" })
            assert.equal(s.group_id .. ": paused, 1 consumers\n", ask(s, "pause", s.group_id).stdout)
            s:open "gate"
            wait.until_true(function() return group(s).acked == 1 end, WAIT_MS, "the first to be acked")
            assert.same({ true, 0, 2 }, { group(s).paused, group(s).in_flight, group(s).lag })
            assert.equal(1, s:count "began")
            assert.equal(0, ask(s, "resume", s.group_id).code)
            s:wait("ended", 3)
            assert.is_false(group(s).paused)
            assert.equal(0, (app.drain(s.p)), s.p:transcript())
        end)
    end

    it("keeps no worker for a message that is to be handled alone: the other groups go on", function()
        local s = start { extra = [[
          local other = app:topic(queue_name .. "-b", { partitions = 1, codec = "raw" })
          app:register(other, shove.group { concurrent = true }, handle)
          verbs.doom = function() if not uv.fs_stat(dir .. "/gate-spared") then uv.kill(uv.os_getpid(), "sigkill") end end
        ]] }
        s:publish { "a crash gate doom" }
        s:wait("began", { "a" }, 2)
        assert.equal(0, ask(s, "pause", s.group_id).code)
        s:open "gate"
        wait.until_true(function()
            local _, deaths = s.p:text "stderr":gsub("a worker process died", "")
            return deaths == 2
        end, WAIT_MS, "the second death")
        assert.equal(0, s.app:command("publish", { s.queue .. "-b", "--raw", stdin = { text = "b\n" } }).code)
        s:wait("ended", { "b" })
        assert.equal(2, s:count("began", "a"))
        s:open "spared"
        assert.equal(0, ask(s, "resume", s.group_id).code)
        s:wait("ended", { "a" })
        assert.equal(2, (app.drain(s.p)), s.p:transcript()) -- a worker process died
    end)

    it("and scale are for a group, too, that finishes what it has to join again, and not for one that is gone", function()
        local s = start()
        s:publish { "a gate" }
        s:wait("began", { "a" })
        s.source = s.source:gsub("max = 4", "max = 3", 1)
        reloads.rewrite(s, "-new", 'codec = "raw" }', 'codec = "raw", hold = { "50ms" } }')
        assert.equal(0, reloads.reload(s).code)
        assert.equal("leaving", group(s).state)
        assert.equal(s.group_id .. ": paused, 1 consumers\n", ask(s, "pause", s.group_id).stdout)
        assert.matches("allows 1 to 3", ask(s, "scale", s.group_id, "4").stderr)
        assert.equal(s.group_id .. ": paused, 3 consumers\n", ask(s, "scale", s.group_id, "3").stdout)
        s:open "gate"
        wait.until_true(function() return (group(s) or {}).state == "joined" end, WAIT_MS, "the group to be back")
        assert.same({ true, 3 }, { group(s).paused, group(s).consumers })
        assert.equal(0, ask(s, "resume", s.group_id).code)
        s:publish { "b last" }
        s:wait("began", { "b-new" })
        reloads.rewrite(s, "", "app:register(queue,", "local function gone() end gone(queue,")
        assert.equal(0, reloads.reload(s).code)
        assert.equal("leaving", group(s).state)
        assert.matches("there is no group", ask(s, "pause", s.group_id).stderr)
        s:open "last"
        assert.equal(0, (app.drain(s.p)), s.p:transcript())
    end)

    it("does not keep the app from draining", function()
        local s = start()
        s:publish { "a", "b" }
        s:wait("ended", 2)
        assert.equal(0, ask(s, "pause", s.group_id).code)
        s:publish { "c" }
        assert.equal(0, (app.drain(s.p)), s.p:transcript())
        assert.equal(2, s:count "began")
    end)
end)

describe("An app that runs twice here", function()
    it("is told apart by pid, and no command goes to either without one", function()
        local s = start { url = steered.brokers[2].url }
        local other = s:run { env = s.env }
        other:wait_for("partitions assigned", WAIT_MS)
        assert.equal(2, #status(s))
        local result = ask(s, "pause", s.group_id)
        assert.equal(64, result.code)
        assert.matches("runs more than once here: choose with %-%-pid, one of %d+, %d+\n$", result.stderr)
        assert.equal(0, ask(s, "pause", s.group_id, "--pid", tostring(other.pid)).code)
        for _, run in ipairs(status(s)) do assert.equal(run.pid == other.pid, run.groups[1].paused) end
        assert.equal(0, (app.drain(other)), other:transcript())
        assert.equal(0, (app.drain(s.p)), s.p:transcript())
    end)
end)

describe("The socket of a run", function()
    it("can be opened by its owner alone", function()
        local s = start()
        local S_MODE = 511
        assert.equal(448, require("bit").band(uv.fs_stat(s.folder).mode, S_MODE)) -- 0700
        assert.equal(0, require("bit").band(uv.fs_stat(s.folder .. "/" .. s.p.pid .. ".sock").mode, 63))
    end)

    it("is not made in a folder that others can enter: the run goes on without, and says so", function()
        local s = start { prepare = function(s)
            assert(uv.fs_mkdir(s.folder, 511))
            assert(uv.fs_chmod(s.folder, 493))
        end }
        assert.matches("cannot reach this run: .-/shove is not a folder that belongs to this user alone: chmod 700 it",
            s.p:text "stderr")
        local result = ask(s, "status")
        assert.equal(78, result.code)
        assert.matches("is not a folder that belongs to this user alone", result.stderr)
        s:publish { "a" }
        s:wait("ended", { "a" })
        assert.equal(0, (app.drain(s.p)), s.p:transcript())
    end)

    it("answers what is no request with what is wrong, whatever it is sent, and the run goes on", function()
        local s = start()
        for bytes, words in pairs {
            ["\n"] = "not an object", ["hello\n"] = "not an object", ["[1]\n"] = "not an object",
            ['{"command":1}\n'] = "not an object", ['{"command":"stop"}\n'] = "there is no command 'stop'",
            ['{"command":"scale"}\n'] = '"group" is missing',
            ['{"command":"pause","group":["x"]}\n'] = '"group" is missing',
            [('{"command":"scale","group":%q,"consumers":"2"}\n'):format(s.group_id)] = "not a whole number",
            [('{"command":"scale","group":%q,"consumers":1e300}\n'):format(s.group_id)] = "not a whole number",
            [("x"):rep(70000)] = "not an object", ["\0\255\n"] = "not an object",
        } do
            local answer = say(s, bytes)
            assert.is_false(answer.ok)
            assert.matches(words, answer.error, 1, true)
        end
        assert.is_true(say(s, '{"command":"status"}\n').ok)
        assert.equal(0, (app.drain(s.p)), s.p:transcript())
    end)

    it("does not mind who asks and goes away before the answer", function()
        local s = start()
        for _ = 1, 10 do
            local pipe, has_asked = uv.new_pipe(false), false
            pipe:connect(s.folder .. "/" .. s.p.pid .. ".sock", function(err)
                has_asked = not err and pipe:try_write '{"command":"status"}\n' > 0
                pipe:close()
            end)
            wait.until_true(function() return has_asked or s.p:has_ended() end, WAIT_MS, "the question")
            assert.is_true(has_asked, s.p:transcript())
        end
        assert.equal(1, #status(s))
        assert.equal(0, (app.drain(s.p)), s.p:transcript())
    end)

    it("gives who has waited for a reload for longer than that the time to read a large answer, too", function()
        local s = start { extra = [[
          while uv.fs_stat(dir .. "/gate-slow") and not uv.fs_stat(dir .. "/gate-loaded") do uv.sleep(5) end
          for i = 1, 400 do
            local name = queue_name .. "-" .. i .. ("x"):rep(150)
            app:register(app:topic(name, { partitions = 1, codec = "raw" }), { group_id = name .. ("y"):rep(60) }, handle)
          end
        ]] }
        s:publish { "a gate" }
        s:wait("began", { "a" })
        s:open "slow"
        local function connect(request)
            local pipe, is_there = uv.new_pipe(false), false
            pipe:connect(s.folder .. "/" .. s.p.pid .. ".sock", function(err)
                assert(not err, err)
                is_there = true
                if request then pipe:write(request) end
            end)
            wait.until_true(function() return is_there end, WAIT_MS, "the connection")
            return pipe
        end
        local function read(pipe) -- to its end
            local text, is_over = "", false
            pipe:read_start(function(_, chunk)
                text, is_over = text .. (chunk or ""), not chunk
            end)
            wait.until_true(function() return is_over end, WAIT_MS, "the end of what is read")
            pipe:close()
            return text
        end
        local patient = connect '{"command":"reload"}\n'
        s.p:wait_for("reloading the app", WAIT_MS)
        assert.equal("", read(connect())) -- five seconds
        s:open "loaded"
        s.p:wait_for("reloaded: ", WAIT_MS)
        s.p:kill "sigterm"
        s.p:wait_for("still draining", WAIT_MS) -- it has looked at its connections meanwhile
        local answer = read(patient)
        assert.is_true(#answer > 212992, "it fits into the socket at once: " .. #answer)
        assert.equal(401, #cjson.decode(answer).status.groups)
        s:open "gate"
        assert.equal(0, (s.p:wait_exit(WAIT_MS)), s.p:transcript())
    end)

    it("hangs up on who says nothing for five seconds, and on more than 16 at once", function()
        local s = start()
        local over, pipes = 0, {}
        local function open() -- false: its backlog is full
            local pipe, answer = uv.new_pipe(false), nil
            pipe:connect(s.folder .. "/" .. s.p.pid .. ".sock", function(err) answer = err or "connected" end)
            wait.until_true(function() return answer end, WAIT_MS, "the connection")
            if answer ~= "connected" then
                assert.equal("EAGAIN", answer)
                pipe:close()
                return false
            end
            pipe:read_start(function(_, chunk) if not chunk then over = over + 1 end end)
            table.insert(pipes, pipe)
            return true
        end
        for _ = 1, 20 do wait.until_true(open, WAIT_MS, "room in the backlog") end
        wait.until_true(function() return over == 4 end, WAIT_MS, "four to be hung up on")
        assert.matches("run " .. s.p.pid .. " is left out: ", ask(s, "status").stderr)
        wait.until_true(function() return over == 20 end, WAIT_MS, "all to be hung up on")
        for _, pipe in ipairs(pipes) do pipe:close() end
        assert.equal(1, #status(s))
        assert.equal(0, (app.drain(s.p)), s.p:transcript())
    end)
end)
