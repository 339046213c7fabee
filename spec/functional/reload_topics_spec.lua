-- New topics at a reload: they are declared before the switch, and nothing of the app waits for the broker meanwhile.

local cjson = require "cjson"
local uv = require "luv"
local app = require "spec.support.app"
local cleanup = require "spec.support.cleanup"
local driver = require "spec.transport.driver"
local kafka = require "spec.support.kafka"
local process = require "spec.support.process"
local stage = require "spec.support.stage"
local tmp = require "spec.support.tmp"
local wait = require "spec.support.wait"

local WAIT_MS = 20000
local CONFIG = 78

-- On the registry's broker, which the stage is on, and on another: %OTHER%.
local HEAD = [[
local shove, stage = require "shove", require "stage"
local app = shove.registry { broker = stage.broker }
local name = stage.name
local function note(msg) stage.note(msg) end
]]

local function write(s, source)
    tmp.write(s.app.path, (HEAD .. source .. "\nreturn app\n"):gsub("%%OTHER%%", function() return s.other end))
end

local function new(broker, source, other)
    local s = stage.new(broker, "")
    s.other = other
    write(s, source)
    return s
end

local function status(s)
    local result = s:command("status", { "--json" })
    assert.equal(0, result.code, result.stderr)
    return cjson.decode(result.stdout)[1]
end

local function running(s, options)
    local p = s:run { "--workers", "1", unpack(options or {}) }
    p:wait_for("running", WAIT_MS)
    p:wait_for("partitions assigned", WAIT_MS)
    return p
end

describe("A reload with a new topic on a Kafka that hangs", function()
    local FIRST = [[
        app:register(app:topic(name "here", { partitions = 3 }), { consumers = { min = 1, max = 3 } }, note)
        app:topic(name "there", { broker = "%OTHER%", partitions = 1 })]]
    local SECOND = FIRST .. [[

        app:register(app:topic(name "new", { broker = "%OTHER%", partitions = 2, dlq = true }), {}, note)]]

    local broker

    setup(function()
        cleanup.for_block(function() broker = kafka.private() end)
    end)

    after_each(function() broker:signal "sigcont" end)

    -- The pid of the worker that has loaded the new code; from then on nothing but the broker is waited for.
    local function loaded_pid(s)
        local pid
        wait.until_true(function()
            for _, worker in ipairs(status(s).workers) do
                if worker.state == "loaded" then pid = worker.pid end
            end
            return pid
        end, WAIT_MS, "the new code to be loaded")
        return pid
    end

    local function hanging(options)
        local s = new("embedded", FIRST, broker.url)
        local p = running(s, options)
        write(s, SECOND)
        broker:signal "sigstop"
        return s, p
    end

    it("holds up no other group and no command, and goes on when it answers", function()
        local s, p = hanging()
        p:kill "sighup"
        loaded_pid(s)
        s:publish("here", { lines = { "1", "2", "3" } })
        s:wait_calls(3, { queue = "here" })
        local id = status(s).groups[1].group
        assert.equal(0, s:command("scale", { id, "3" }).code)
        assert.equal(0, s:command("pause", { id }).code)
        p:kill "sighup"
        p:wait_for("the reload waits for one before it", WAIT_MS)
        assert.equal(1, status(s).generation)
        broker:signal "sigcont"
        p:wait_for("reloaded: .*generation=2", WAIT_MS)
        p:wait_for("reloaded: .*generation=3", WAIT_MS)
        local group = status(s).groups[1]
        assert.same({ id, 3, true }, { group.group, group.consumers, group.paused })
        assert.equal(0, s:command("resume", { id }).code)
        assert.equal(2, broker:partitions(s:name "new"))
        s:publish("new", { "4" })
        s:publish("here", { "5" })
        s:wait_calls(1, { queue = "new" })
        s:wait_calls(4, { queue = "here" })
        stage.drain(p)
        assert.equal(5, #s:calls())
    end)

    it("does not hold up a drain, and whoever asked is told", function()
        local s, p = hanging()
        local asked = process.spawn { app.bin, "reload", s.app.path }
        loaded_pid(s)
        local began = uv.hrtime()
        stage.drain(p)
        assert.is_true(uv.hrtime() - began < 10e9)
        assert.equal(1, (asked:wait_exit(WAIT_MS)), asked:transcript())
        assert.matches("the app ends", asked:text "stderr", 1, true)
        assert.is_false(stage.said(p, "could not be left"))
    end)

    it("fails when it does not answer in time, with the broker's name, and what it says later changes nothing", function()
        local s, p = hanging { "--connect-timeout", "1500ms" }
        local reload = s:command "reload"
        assert.equal(1, reload.code, reload.stderr)
        assert.matches(("broker '%s': [^:]+/app.lua:%%d+: asking for topic '[^']+': .*[Tt]imed out")
            :format(broker.url:gsub("%p", "%%%0")), reload.stderr)
        p:wait_for("the reload failed, and the app goes on as it was", WAIT_MS)
        assert.equal(1, status(s).generation)
        s:publish("here", { "1" })
        s:wait_calls(1, { queue = "here" })
        broker:signal "sigcont"
        wait.until_true(function() return s:command("reload").code == 0 end, WAIT_MS, "a reload")
        assert.equal(2, status(s).generation)
        s:publish("new", { "2" })
        s:wait_calls(1, { queue = "new" })
        stage.drain(p)
    end)

    it("fails when a worker of the new code dies, and what it answers then changes nothing", function()
        local s, p = hanging()
        local asked = process.spawn { app.bin, "reload", s.app.path }
        uv.kill(loaded_pid(s), "sigkill")
        assert.equal(1, (asked:wait_exit(WAIT_MS)), asked:transcript())
        assert.matches("a worker process ended", asked:text "stderr", 1, true)
        -- It begins while the first is still unanswered, and both are answered together.
        p:kill "sighup"
        loaded_pid(s)
        broker:signal "sigcont"
        p:wait_for("reloaded: .*generation=2", WAIT_MS)
        s:publish("here", { "1" })
        s:publish("new", { "2" })
        s:wait_calls(1, { queue = "here" })
        s:wait_calls(1, { queue = "new" })
        assert.equal(2, status(s).generation)
        stage.drain(p)
    end)
end)

for _, name in ipairs(stage.brokers) do
    describe("A reload on " .. name, function()
        local FIRST = [[
            app:register(app:topic(name "here", { partitions = 1 }), {}, note)
        ]]
        local POISON = FIRST .. [[
            local orders = { external = true, sequenced = "fail_all", hold = { "50ms" }, dlq = true }
            app:register_fifo(app:topic(name "orders", orders), {}, note)
        ]]

        local function make(s, topics)
            local t = assert(driver.open(s.url))
            for topic, options in pairs(topics) do
                options.name = topic
                assert(t:declare { options })
            end
            t:close()
        end

        it("declares topics that are new, holds and DLQ among them", function()
            local s = new(name, FIRST)
            local p = running(s)
            write(s, FIRST .. [[
                app:register(app:topic(name "new", { partitions = 2, hold = { "10ms" }, dlq = true }), {}, function(msg)
                  stage.note(msg)
                  if msg.retry_count == 0 then return shove.retry "not yet" end
                  return shove.reject "enough"
                end)]])
            local reload = s:command "reload"
            assert.equal(0, reload.code, reload.stderr)
            s:publish("new", { "1" })
            s:wait_calls(2, { queue = "new" })
            wait.until_true(function() return #driver.records_of(s.url, s:name("new", "-dlq")) == 1 end, WAIT_MS, "a letter")
            stage.drain(p)
        end)

        it("refuses an external topic of poisoned keys that has fewer partitions than its queue, and so does a start", function()
            local s = new(name, FIRST)
            make(s, {
                [s:name "orders"] = { partitions = 3, is_keyed = true }, [s:name("orders", "-dlq")] = { role = "dlq" },
                [s:name("orders", "-poison")] = { role = "poison", is_keyed = true },
            })
            local words = ("app.lua:%%d+: topic '%s%%-poison' is external and has fewer partitions %%(1%%) than its queue "
                .. "'%s' %%(3%%): .*so give it 3"):format(s:pattern "orders", s:pattern "orders")
            local p = running(s)
            write(s, POISON)
            local reload = s:command "reload"
            assert.equal(1, reload.code, reload.stdout)
            assert.matches(words, reload.stderr)
            assert.equal(1, status(s).generation)
            stage.drain(p)
            p = s:run { "--workers", "1" }
            assert.equal(CONFIG, (p:wait_exit(WAIT_MS)), p:transcript())
            assert.matches(words, p:text "stderr")
        end)

        it("takes one that has as many", function()
            local s = new(name, FIRST)
            make(s, {
                [s:name "orders"] = { partitions = 2, is_keyed = true }, [s:name("orders", "-dlq")] = { role = "dlq" },
                [s:name("orders", "-poison")] = { role = "poison", is_keyed = true, partitions = 3 },
            })
            local p = running(s)
            write(s, POISON)
            local reload = s:command "reload"
            assert.equal(0, reload.code, reload.stderr)
            s:publish("orders", { "1", "-k", "k" })
            s:wait_calls(1, { queue = "orders" })
            stage.drain(p)
        end)
    end)
end
