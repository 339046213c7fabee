-- New code for a running app: shove reload, and SIGHUP.

local cjson = require "cjson"
local uv = require "luv"
local assert = require "luassert"
local app = require "spec.support.app"
local driver = require "spec.transport.driver"
local process = require "spec.support.process"
local reloads = require "spec.support.reloads"
local steered = require "spec.support.steered"
local tmp = require "spec.support.tmp"
local wait = require "spec.support.wait"

local WAIT_MS = 20000

local rewrite, reload, status = reloads.rewrite, reloads.reload, reloads.status

local function start(options)
    options = options or {}
    local s = steered.new {
        url = options.url or steered.brokers[1].url, topic = options.topic,
        partitions = options.partitions == nil and 4 or options.partitions, kafka = options.kafka,
        group = options.group or "prefetch = 8, concurrent = true", extra = options.extra, holds = options.holds,
    }
    reloads.run(s, "--workers", options.workers or "2")
    return s
end

local function wait_settled(s, workers)
    wait.until_true(function() return #status(s).workers == (workers or 2) end, WAIT_MS, "the old workers to be gone")
end

-- The script without the registration of its queue, and with `tail` in place of its end.
local function take_away(s, tail)
    s.source = s.source:gsub("return app", (tail:gsub("%%", "%%%%")))
        :gsub("app:register%(queue,", "local function gone() end gone(queue,")
    rewrite(s, "")
end

for _, broker in ipairs(steered.brokers) do
    it("a reload sends new messages to the new code, while the old code finishes what it has, on " .. broker.name, function()
        local s = start { url = broker.url }
        s:publish { "a gate", "b" }
        s:wait("ended", { "b" })
        rewrite(s, "-new")
        local result = reload(s)
        assert.equal(s.app.path .. ": reloaded, generation 2\n", result.stdout, result.stderr)
        assert.equal(2, status(s).generation)
        s:publish { "c", "d" }
        s:wait("ended", { "c-new", "d-new" })
        assert.equal(0, s:count("ended", "a"))
        s:open "gate"
        s:wait("ended", { "a" })
        wait_settled(s)
        assert.equal(0, (app.drain(s.p)), s.p:transcript())
        local _, assignments = s.p:text "stderr":gsub("partitions assigned", "")
        assert.equal(1, assignments, "a rebalance: " .. s.p:transcript())
        assert.same({ "a", "b", "c-new", "d-new" }, s:names "began")
    end)
end

it("SIGHUP reloads, too, one after the other when it comes twice", function()
    local s = start()
    rewrite(s, "-new")
    s.p:kill "sighup"
    s.p:wait_for("reloaded: .*generation=2 +why=SIGHUP", WAIT_MS)
    s.p:kill "sighup"
    s.p:wait_for("reloaded: .*generation=3", WAIT_MS)
    s:publish { "a" }
    s:wait("ended", { "a-new" })
    assert.equal(0, (app.drain(s.p)), s.p:transcript())
end)

it("a reload takes over what a group says of consumers, retries and timeouts", function()
    local s = start { group = "consumers = { min = 1, max = 4 }", holds = { "50ms" } }
    rewrite(s, "", "consumers = { min = 1, max = 4 }",
        [[consumers = { min = 3, max = 3 }, max_retries = 0, handler_timeout = "100ms", on_timeout = "reject"]])
    assert.equal(0, reload(s).code)
    local group = status(s).groups[1]
    assert.same({ 3, 3, 3 }, { group.consumers, group.min, group.max })
    s:publish { "a retry", "b shut" }
    s.p:wait_for("attempt=\"1 of 1\".*dead letter: timeout", WAIT_MS)
    wait.until_true(function() return status(s).groups[1].dead_letters == 2 end, WAIT_MS, "two dead letters")
    assert.equal(0, (app.drain(s.p)), s.p:transcript())
end)

describe("A reload that fails leaves the app as it was and says why:", function()
    local s
    for _, row in ipairs {
        { "a syntax error", "local app =", "local app = =", "app.lua:4: unexpected symbol near '='" },
        { "an error at load", "local app =", "error 'on purpose' local app =", "app.lua:4: on purpose" },
        { "nothing is returned", "return app", "return nil", 'must end with "return app"' },
        { "a mistake in a group", "concurrent = true", "concurent = true", 'did you mean "concurrent"' },
        { "an exit at load", "local app =", "os.exit(0) local app =", "os.exit" },
        { "an objection of the app's own", "return app", "app:on_check(function() return false, 'not yet' end) return app",
          "on_check: not yet" },
        { "another broker", 'broker = "', 'broker = "memory:" or "', "registry: broker has changed from" },
        { "more than there is memory for", "prefetch = 8", "max_message_size = '100MiB', prefetch = 8",
          "max_message_size is 104857600 bytes, and memory was laid out for messages of 10485760: restart shove" },
        { "another retention", "partitions = 4", "partitions = 4, retention = '24h'", "retention has changed: restart shove" },
        { "more in flight", "prefetch = 8", "prefetch = 9000", "restart shove" },
    } do
        it(row[1], function()
            s = start()
            rewrite(s, "-new", row[2], row[3])
            local result = reload(s)
            assert.equal(1, result.code, result.stdout)
            assert.matches(row[4], result.stderr, 1, true)
            assert.matches("the reload failed, and the app goes on as it was", s.p:text "stderr", 1, true)
            assert.equal(1, status(s).generation)
            rewrite(s, "-new") -- mended, and not loaded
            s:publish { "a" }
            s:wait("ended", { "a" })
            assert.equal(0, reload(s).code)
            s:publish { "b" }
            s:wait("ended", { "b-new" })
            assert.equal(0, (app.drain(s.p)), s.p:transcript())
        end)
    end

    it("a script that does not come to its end", function()
        local holder = steered.new { url = steered.brokers[1].url, partitions = 4 }
        holder.env = { XDG_RUNTIME_DIR = tmp.dir() }
        holder.p = holder:run { "--load-timeout", "1s", env = holder.env }
        holder.p:wait_for("partitions assigned", WAIT_MS)
        rewrite(holder, "-new", "local app =", "while true do end local app =")
        local result = reload(holder)
        assert.equal(1, result.code)
        assert.matches("did not finish loading the script in time", result.stderr)
        rewrite(holder, "-new")
        holder:publish { "a" }
        holder:wait("ended", { "a" })
        assert.equal(0, (app.drain(holder.p)), holder.p:transcript())
    end)
end)

it("a module the script requires is loaded anew, too", function()
    local s = start { extra = [[verbs.say = function(msg) write(msg, require "mod") end]] }
    tmp.write(s.dir .. "/mod.lua", "return 'old'")
    s:publish { "a say" }
    s:wait("old", { "a" })
    tmp.write(s.dir .. "/mod.lua", "return 'new'")
    assert.equal(0, reload(s).code)
    s:publish { "b say" }
    s:wait("new", { "b" })
    assert.equal(0, (app.drain(s.p)), s.p:transcript())
end)

it("app:on_start goes on in the new code where it still runs, and does not happen twice where it has ended", function()
    local s = start { extra = [[
      app:on_start(function()
        local file = io.open(dir .. "/starts", "a")
        file:write "started\n"
        file:close()
        while not uv.fs_stat(dir .. "/gate-starts") do shove.sleep "5ms" end
      end)
    ]] }
    local function starts()
        local ok, text = pcall(tmp.read, s.dir .. "/starts")
        return ok and select(2, text:gsub("started", "")) or 0
    end
    wait.until_true(function() return starts() == 1 end, WAIT_MS, "the start")
    assert.equal(0, reload(s).code)
    wait.until_true(function() return starts() == 2 end, WAIT_MS, "the start in the new code")
    wait_settled(s)
    s:open "starts"
    s:publish { "a" }
    s:wait("ended", { "a" })
    assert.equal(0, reload(s).code)
    wait_settled(s)
    assert.equal(2, starts())
    assert.equal(0, (app.drain(s.p)), s.p:transcript())
end)

it("app:on_start that comes to its end while its process makes way does not happen twice", function()
    local s = start { workers = "1", extra = [[
      app:on_start(function()
        local file = io.open(dir .. "/starts", "a")
        file:write "started\n"
        file:close()
        while not uv.fs_stat(dir .. "/gate-starts") do uv.sleep(1) end
        file = io.open(dir .. "/starts", "a")
        file:write "ended\n"
        file:close()
      end)
    ]] }
    local starts = s.dir .. "/starts"
    wait.until_true(function() return uv.fs_stat(starts) end, WAIT_MS, "the start")
    assert.equal(0, reload(s).code)
    s:open "starts"
    wait.until_true(function() return #status(s).workers == 1 end, WAIT_MS, "the old worker to be gone")
    s:publish { "a" }
    s:wait("ended", { "a" })
    assert.equal(0, (app.drain(s.p)), s.p:transcript())
    assert.equal("started\nended\n", tmp.read(starts))
end)

for _, broker in ipairs(steered.brokers) do
    it("a reload adds groups with their topics, and has those that are gone finish and leave, on " .. broker.name, function()
        local s = start { url = broker.url }
        s:publish { "a gate", "b" }
        s:wait("ended", { "b" })
        local added = [[
          local more = app:topic(queue_name .. "-more", { partitions = 2, codec = "raw", hold = { "50ms" }, dlq = true })
          app:register(more, { prefetch = 8, concurrent = true }, handle)
          return app
        ]]
        rewrite(s, "", "return app", added)
        assert.equal(0, reload(s).code, s.p:transcript())
        local queue = s.queue
        s.queue = queue .. "-more"
        s:publish { "c retry", "d" }
        s:wait("ended", { "c" }, 2)
        s:wait("ended", { "d" })
        assert.same({ queue .. "-consumer", queue .. "-more-consumer" }, (function()
            local names = {}
            for i, group in ipairs(status(s).groups) do names[i] = group.group end
            return names
        end)())
        -- The first group goes while it has a message.
        take_away(s, added)
        assert.equal(0, reload(s).code, s.p:transcript())
        assert.equal("leaving", status(s).groups[1].state)
        s:publish { "e" }
        s:wait("ended", { "e" })
        s:open "gate"
        s:wait("ended", { "a" })
        wait.until_true(function() return #status(s).groups == 1 end, WAIT_MS, "the group to be gone")
        assert.equal(0, (app.drain(s.p)), s.p:transcript())
        assert.equal(6, s:count "began") -- c twice
        s.queue = queue
        assert.equal(2, s:position(0).offset)
    end)
end

for _, broker in ipairs(steered.brokers) do
    it("a reload changes holds: the group leaves and joins again, and what waits in the old hold is handled, on " .. broker.name,
        function()
            local s = start { url = broker.url, holds = { "600ms" } }
            s:publish { "a retry", "b" }
            s:wait("ended", { "a", "b" })
            rewrite(s, "-new", '"600ms"', '"50ms", "1h"')
            assert.equal(0, reload(s).code, s.p:transcript())
            s:publish { "c retry" }
            s:wait("ended", { "c-new" }, 2)
            s:wait("ended", { "a-new" })
            local lines = s:lines()
            for _, line in ipairs(lines) do
                if line.name == "a-new" then assert.equal(1, line.retry_count) end
            end
            assert.equal(1, #status(s).groups)
            assert.equal(0, (app.drain(s.p)), s.p:transcript())
            assert.equal(5, s:count "began")
        end)
end

it("a reload takes away a DLQ while a dead letter waits to be stored in it: there it goes, and then the group changes", function()
    local s = start { url = steered.brokers[2].url, topic = "dlq = true,", workers = "1" }
    local kafka = s.broker
    local dlq = s.queue .. "-dlq"
    local function make(policy)
        kafka:delete_topic(dlq)
        kafka:create_topic(dlq, { partitions = 4, config = { ["cleanup.policy"] = policy } })
    end
    make "compact" -- refuses records without a key
    s:publish { "a reject", "b" }
    s:wait("ended", { "a", "b" })
    rewrite(s, "-new", "dlq = true,", "")
    assert.equal(0, reload(s).code, s.p:transcript())
    assert.equal("leaving", status(s).groups[1].state)
    make "delete"
    wait.until_true(function() return #(driver.records_of(s.url, dlq) or {}) == 1 end, WAIT_MS, "the dead letter")
    s:publish { "c" }
    s:wait("ended", { "c-new" })
    assert.equal(0, (app.drain(s.p)), s.p:transcript())
    assert.equal(3, s:count "began")
end)

it("the handler of dead letters reads another DLQ when a reload says so, also under the same group id", function()
    local letters = [[app:dead_letters(queue, { group_id = "letters" }, handle)]]
    local s = start { topic = "dlq = 'one',", extra = letters }
    s:publish { "a reject" }
    s:wait("ended", { "a" }, 2)
    rewrite(s, "-new", "dlq = 'one',", "dlq = 'two',")
    assert.equal(0, reload(s).code, s.p:transcript())
    s:publish { "b reject" }
    s:wait("ended", { "b-new" }, 2)
    assert.equal(1, #driver.records_of(s.url, "two"))
    assert.equal(0, (app.drain(s.p)), s.p:transcript())
end)

for _, broker in ipairs(steered.brokers) do
    it("a reload may ask for more consumers than the topic has partitions, and gets them, on " .. broker.name, function()
        local s = start { url = broker.url, partitions = false, group = "consumers = { min = 1, max = 2 }",
            kafka = { ["topic.metadata.refresh.interval.ms"] = "500" } }
        rewrite(s, "-new", "max = 2", "max = 12")
        assert.equal(0, reload(s).code, s.p:transcript())
        s:publish({ "a" }, { partition = 11 })
        s:wait("ended", { "a-new" })
        rewrite(s, "", "max = 2", "max = 3") -- the partitions stay
        assert.equal(0, reload(s).code, s.p:transcript())
        s:publish({ "b" }, { partition = 11 })
        s:wait("ended", { "b" })
        assert.equal(0, (app.drain(s.p)), s.p:transcript())
    end)
end

it("a reload makes room for messages as large as at the start, after one that made less", function()
    local s = start { group = 'max_message_size = "2MiB"' }
    for generation, size in ipairs { "1MiB", "2MiB", "3MiB" } do
        rewrite(s, "", "2MiB", size)
        local result = reload(s)
        assert.equal(generation < 3 and 0 or 1, result.code, result.stderr)
    end
    assert.equal(0, (app.drain(s.p)), s.p:transcript())
end)

it("300 groups leave and join again, time after time", function()
    local extra = [[
      for i = 1, 300 do
        app:register(app:topic(queue_name .. "-" .. i, { partitions = 1, codec = "raw", hold = { "50ms" } }), {}, handle)
      end
    ]]
    local s = start { extra = extra, workers = "1" }
    local function joined()
        local count = 0
        for _, group in ipairs(status(s).groups) do count = count + (group.state == "joined" and 1 or 0) end
        return count
    end
    for round = 1, 4 do
        tmp.write(s.app.path, (s.source:gsub('"50ms"', round % 2 == 1 and '"60ms"' or '"50ms"')))
        assert.equal(0, reload(s).code, s.p:transcript())
        wait.until_true(function() return #status(s).groups == 301 and joined() == 301 end, WAIT_MS, "all groups")
        wait_settled(s, 1)
    end
    s:publish { "a" }
    s:wait("ended", { "a" })
    assert.equal(0, (app.drain(s.p)), s.p:transcript())
end)

it("an app whose groups are all taken away goes on with what app:on_start does, and takes groups again", function()
    local s = start()
    local source = s.source
    take_away(s, "app:on_start(function() shove.sleep '1h' end) return app")
    assert.equal(0, reload(s).code, s.p:transcript())
    wait.until_true(function() return #status(s).groups == 0 end, WAIT_MS, "the group to be gone")
    s.source = source
    rewrite(s, "-new")
    wait_settled(s)
    assert.equal(0, reload(s).code, s.p:transcript())
    s:publish { "a" }
    s:wait("ended", { "a-new" })
    assert.equal(0, (app.drain(s.p)), s.p:transcript())
end)

it("a group that is paused, or was scaled, is so still when a reload has it leave and join again", function()
    local s = start { holds = { "50ms" }, group = "consumers = { min = 1, max = 4 }" }
    local function ask(name, ...) return s.app:command(name, { env = s.env, ... }).code end
    assert.equal(0, ask("pause", s.group_id))
    assert.equal(0, ask("scale", s.group_id, "3"))
    rewrite(s, "-new", '"50ms"', '"60ms"')
    assert.equal(0, reload(s).code)
    wait.until_true(function()
        local group = status(s).groups[1]
        return group and group.state == "joined" and group.partitions == 4
    end, WAIT_MS, "the group to be back")
    local group = status(s).groups[1]
    assert.same({ true, 3 }, { group.paused, group.consumers })
    assert.equal(0, ask("resume", s.group_id))
    s:publish { "a" }
    s:wait("ended", { "a-new" })
    assert.equal(0, (app.drain(s.p)), s.p:transcript())
end)

it("a group that returns goes on where it was", function()
    local s = start()
    s:publish { "a" }
    s:wait("ended", { "a" })
    local source = s.source
    take_away(s, "app:register(app:topic(queue_name .. '-other', {}), {}, handle) return app")
    assert.equal(0, reload(s).code, s.p:transcript())
    wait.until_true(function() return #status(s).groups == 1 end, WAIT_MS, "the group to be gone")
    s:publish { "b" }
    s.source = source
    rewrite(s, "-new")
    wait_settled(s)
    assert.equal(0, reload(s).code, s.p:transcript())
    s:wait("ended", { "b-new" })
    assert.equal(0, (app.drain(s.p)), s.p:transcript())
    assert.equal(2, s:count "began")
end)

it("a handler that hangs in the old code is killed as ever, and its message goes to the new code", function()
    local s = start { group = 'prefetch = 8, concurrent = true, handler_timeout = "300ms"', holds = { "10ms" } }
    s:publish { "a spin" }
    s:wait("began", { "a" })
    rewrite(s, "-new", "spin = function() while true do end end", "spin = function() end")
    assert.equal(0, reload(s).code)
    s:wait("ended", { "a-new" })
    assert.equal(2, (app.drain(s.p)), s.p:transcript()) -- a worker process died
end)

it("reloads under load lose nothing and repeat nothing, and at each of them the old code still has messages", function()
    local s = start { group = "prefetch = 50, concurrent = true" }
    local expected = {}
    local function publish(list, partition)
        for _, text in ipairs(list) do table.insert(expected, (text:match "^%S+")) end
        s:publish(list, { partition = partition })
    end
    local function mark(generation) return generation > 1 and "-g" .. generation or "" end
    local function wave(generation)
        local texts = {}
        for i = 1, 400 do texts[i] = ("m%d-%03d 20ms"):format(generation, i) end
        return texts
    end
    for generation = 1, 8 do
        local held = "held" .. generation
        if generation > 1 then
            rewrite(s, mark(generation))
            assert.equal(("%s: reloaded, generation %d\n"):format(s.app.path, generation), reload(s).stdout)
        end
        publish({ ("%s go%d"):format(held, generation) }, 0)
        s:wait("began", { held .. mark(generation) })
        if generation > 1 then -- the code before has one that began before the switch, and has not ended
            assert.equal(0, s:count("ended", "held" .. generation - 1 .. mark(generation - 1)))
            s:open("go" .. generation - 1)
            wait_settled(s)
        end
        publish(wave(generation), 1 + generation % 3)
        s:wait("began", { ("m%d-001%s"):format(generation, mark(generation)) })
    end
    s:open "go8"
    s:wait("ended", #expected)
    local ended, generation_of = {}, {}
    for _, line in ipairs(s:lines()) do
        local name, generation = line.name:match "^(.-)%-g(%d)$"
        name, generation = name or line.name, tonumber(generation or 1)
        if line.verb == "began" then
            assert.is_nil(generation_of[name], name .. " began twice")
            generation_of[name] = generation
        else
            assert.equal(generation_of[name], generation, name)
            table.insert(ended, name)
        end
    end
    table.sort(expected)
    table.sort(ended)
    assert.same(expected, ended)
    assert.equal(0, (app.drain(s.p)), s.p:transcript())
end)

it("the old code keeps the timeouts it was loaded with", function()
    local s = start { holds = { "10ms" } }
    s:publish { "a 5s" }
    s:wait("began", { "a" })
    rewrite(s, "-new", "concurrent = true", 'concurrent = true, handler_timeout = "50ms"')
    for _ = 1, 2 do assert.equal(0, reload(s).code) end
    s:wait("ended", { "a" })
    assert.equal(1, s:count "began")
    assert.equal(0, (app.drain(s.p)), s.p:transcript())
end)

it("a drain ends a reload that waits for older code to end, and no code that has messages", function()
    local s = start()
    for i, name in ipairs { "a", "b", "c", "d" } do
        if i > 1 then assert.equal(0, reload(s).code) end
        s:publish { name .. " gate" }
        s:wait("began", { name })
    end
    local again = process.spawn { app.bin, "reload", s.app.path, env = s.env }
    s.p:wait_for("the reload waits for .* why=\"by command\"", WAIT_MS)
    s.p:kill "sighup"
    s.p:wait_for("the reload waits for .* why=SIGHUP", WAIT_MS)
    s.p:kill "sigterm"
    s.p:wait_for("the reload failed, .*the app ends", WAIT_MS)
    s:open "gate"
    assert.equal(0, (s.p:wait_exit(WAIT_MS)), s.p:transcript())
    assert.equal(1, (again:wait_exit(WAIT_MS)))
    assert.same({ "a", "b", "c", "d" }, s:names "ended")
    assert.equal(4, s:count "began")
end)

it("old workers that do not end are ended", function()
    local s = start { extra = [[verbs.haunt = function()
      uv.new_timer():start(20, 0, function() write({ payload = "ghost", partition = 0, offset = 0, retry_count = 0 }, "ended")
        while true do end
      end)
    end]] }
    s:publish { "a haunt" }
    s:wait("ended", { "a", "ghost" })
    wait.until_true(function() return status(s).groups[1].acked == 1 end, WAIT_MS, "the message to be settled")
    assert.equal(0, reload(s).code)
    wait_settled(s)
    assert.equal(0, (app.drain(s.p)), s.p:transcript())
end)

it("who asks for a reload while another loads is told of one that begins after that", function()
    local s = start { workers = "1" }
    local function wait_in_load(name)
        return ([[local luv = require "luv"
          luv.fs_close(luv.fs_open(%q .. "/loading-%s", "w", 420))
          while not luv.fs_stat(%q .. "/gate-%s") do luv.sleep(5) end local app =]]):format(s.dir, name, s.dir, name)
    end
    rewrite(s, "-new", "local app =", wait_in_load "first")
    local first = process.spawn { app.bin, "reload", s.app.path, env = s.env }
    wait.until_true(function() return uv.fs_stat(s.dir .. "/loading-first") end, WAIT_MS, "the first to load")
    rewrite(s, "-new", "local app =", "local app = =")
    local pipe, answer = uv.new_pipe(false), ""
    pipe:connect(("%s/shove/%d.sock"):format(s.env.XDG_RUNTIME_DIR, s.p.pid), function(err)
        assert(not err, err)
        pipe:write '{"command":"reload"}\n'
        pipe:read_start(function(_, chunk) answer = chunk and answer .. chunk or answer end)
    end)
    status(s) -- when that is answered, the other was read
    s:open "first"
    assert.equal(0, (first:wait_exit(WAIT_MS)), first:transcript())
    wait.until_true(function() return answer:find "\n" end, WAIT_MS, "the second answer")
    pipe:close()
    assert.matches("unexpected symbol", cjson.decode(answer).error)
    assert.equal(0, (app.drain(s.p)), s.p:transcript())
end)

it("groups may change their order in the script: what waits goes to the handler of its own", function()
    local s = start { extra = [[
      local other = app:topic(queue_name .. "-b", { codec = "raw" })
      app:register(other, shove.group { concurrent = true }, function(msg) write(msg, "mixed") end)
    ]] }
    s:publish { "a retry", "b gate" }
    s:wait("ended", { "a" })
    s:wait("began", { "b" })
    local register = s.source:match "(app:register%(queue,.-handle%)\n)"
    s.source = s.source:gsub(register:gsub("%p", "%%%0"), "", 1):gsub("return app\n$", register .. "return app\n")
    rewrite(s, "-new")
    assert.equal(0, reload(s).code)
    s:publish { "c" }
    s:wait("ended", { "a-new", "c-new" })
    s:open "gate"
    s:wait("ended", { "b" })
    assert.equal(0, s:count "mixed")
    assert.equal(0, (app.drain(s.p)), s.p:transcript())
end)

it("groups of one queue that change their names with each other have the holds of their own topics", function()
    local s = start { group = 'group_id = "one"', holds = { "50ms" }, extra = [[
      local other = app:topic(queue_name, { for_group = "g", partitions = 4, hold = { "50ms" }, dlq = true, codec = "raw" })
      app:register(other, shove.group { group_id = "two" }, handle)
    ]] }
    s.source = s.source:gsub('group_id = "(%a+)"', { one = 'group_id = "two"', two = 'group_id = "one"' })
    rewrite(s, "-new")
    assert.equal(0, reload(s).code)
    s:publish { "a retry" }
    s:wait("ended", { "a-new" }, 4) -- each group twice
    assert.equal(0, (app.drain(s.p)), s.p:transcript())
end)

it("what asks for a reload while the app drains is told so, and the drain goes on", function()
    local s = start()
    s:publish { "a gate" }
    s:wait("began", { "a" })
    s.p:kill "sigterm"
    s.p:wait_for("draining", WAIT_MS)
    assert.matches("it is draining", reload(s).stderr)
    s:open "gate"
    assert.equal(0, (s.p:wait_exit(WAIT_MS)), s.p:transcript())
    assert.is_truthy(uv.fs_stat(s.app.path))
end)

it("a handler of the old code has the time that the old code gave it", function()
    local s = start { group = 'prefetch = 8, concurrent = true, handler_timeout = "60s"', holds = { "10ms" },
        extra = [[verbs.busy = function() local until_ns = uv.hrtime() + 4e9 while uv.hrtime() < until_ns do end end]] }
    s:publish { "a busy" }
    s:wait("began", { "a" })
    rewrite(s, "", '"60s"', '"100ms"')
    assert.equal(0, reload(s).code)
    s:wait("ended", { "a" })
    assert.equal(0, (app.drain(s.p)), s.p:transcript())
    assert.equal(1, s:count "began")
end)
