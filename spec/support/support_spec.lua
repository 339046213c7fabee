-- The helpers the other specs stand on: they see what happens, and they fail when it does not.

local app = require "spec.support.app"
local c = require "spec.support.c"
local cleanup = require "spec.support.cleanup"
local kafka = require "spec.support.kafka"
local process = require "spec.support.process"
local tmp = require "spec.support.tmp"
local uv = require "luv"
local wait = require "spec.support.wait"

local function sh(script, options)
    options = options or {}
    options[1], options[2], options[3] = "/bin/sh", "-c", script
    return process.spawn(options)
end

describe("spec.support.wait", function()
    it("gives the predicate's value as soon as it is true", function()
        local calls = 0
        local value = wait.until_true(function()
            calls = calls + 1
            return calls == 3 and "third"
        end, 5000)
        assert.equal("third", value)
    end)

    it("fails at the deadline, saying what was waited for", function()
        assert.error_matches(function()
            wait.until_true(function() return false end, 30, "the moon")
        end, "waited %d+%.%d s for the moon")
    end)

    it("passes on an error of the predicate", function()
        assert.error_matches(function()
            wait.until_true(function() error "broken" end, 1000)
        end, "broken")
    end)
end)

describe("spec.support.process", function()
    it("collects lines of both streams and the exit code", function()
        local p = sh "echo one; echo two >&2; printf three; exit 7"
        local code, signal = p:wait_exit(5000)
        assert.same({ 7, 0 }, { code, signal })
        assert.equal("one\nthree", p:text "stdout")
        assert.equal("two\n", p:text "stderr")
        local texts = {}
        for _, line in ipairs(p.lines) do texts[line.text] = line.stream end
        assert.same({ one = "stdout", two = "stderr", three = "stdout" }, texts)
    end)

    it("waits for a line and gives its captures", function()
        local p = sh "echo starting; echo pid 42; exec cat"
        local line, number = p:wait_for("pid (%d+)", 5000)
        assert.same({ "pid 42", "42" }, { line, number })
    end)

    it("looks only behind the mark", function()
        local p = sh("echo tick; read line; echo tick $line; exec cat", { stdin = "pipe" })
        p:wait_for("tick", 5000)
        p:mark()
        p:write "again\n"
        assert.equal("tick again", p:wait_for("tick", 5000))
    end)

    it("fails at the deadline and shows the output so far", function()
        local p = sh("echo here I am; exec cat", { stdin = "pipe" })
        p:wait_for("here", 5000)
        local ok, err = pcall(p.wait_for, p, "never", 50)
        assert.is_false(ok)
        assert.matches("no line matched 'never' within 50 ms, and it still runs", err)
        assert.matches("| here I am", err, 1, true)
    end)

    it("fails before the deadline when the program has ended", function()
        local p = sh "echo bye; exit 3"
        local started = uv.hrtime()
        assert.error_matches(function() p:wait_for("never", 60000) end, "it exited with code 3")
        assert.is_true((uv.hrtime() - started) / 1e9 < 30)
    end)

    it("fails when the program does not end by the deadline", function()
        local p = sh("exec cat", { stdin = "pipe" })
        assert.error_matches(function() p:wait_exit(50) end, "still runs after 50 ms")
    end)

    it("tells a signal from an exit code", function()
        local p = sh("echo up; exec cat", { stdin = "pipe" })
        p:wait_for("up", 5000)
        p:kill "sigkill"
        local _, signal = p:wait_exit(5000)
        assert.equal(9, signal)
    end)

    it("sets and unsets environment variables, and the directory", function()
        local dir = tmp.dir()
        local result = process.run { "/bin/sh", "-c", "echo $SPEC_A ${HOME-unset}; pwd",
                                     env = { SPEC_A = "a b", HOME = false }, cwd = dir }
        assert.equal("a b unset\n" .. uv.fs_realpath(dir) .. "\n", result.stdout)
    end)

    it("feeds standard input", function()
        assert.equal("fed\0 bytes", process.run({ "cat", stdin = { text = "fed\0 bytes" } }).stdout)
    end)

    it("says what cannot be started", function()
        assert.error_matches(function() process.spawn { "/no/such/program" } end,
            "cannot start /no/such/program: ENOENT")
    end)

    describe("when a spec ends", function()
        local left_running, its_child

        it("(leaves a program with a child running)", function()
            left_running = sh("sleep 1000 & echo child $!; wait", { stdin = "pipe" })
            its_child = tonumber(select(2, left_running:wait_for("child (%d+)", 5000)))
            assert.is_true(process.is_alive(left_running.pid))
            assert.same({ its_child }, left_running:children())
        end)

        it("has killed it and its child", function()
            assert.is_false(process.is_alive(left_running.pid))
            assert.is_false(process.is_alive(its_child))
        end)
    end)

    it("finds what a killed program left behind", function()
        local p = sh("sleep 1000 <&- >&- 2>&- & echo child $!; exec cat", { stdin = "pipe" })
        local child = tonumber(select(2, p:wait_for("child (%d+)", 5000)))
        p:kill "sigkill"
        p:wait_exit(5000)
        assert.same({ child }, process.orphans())
        p:destroy()
        assert.same({}, process.orphans())
    end)
end)

describe("spec.support.tmp", function()
    local path

    it("(makes a directory with files)", function()
        path = tmp.dir()
        assert(uv.fs_mkdir(path .. "/deep", tonumber("700", 8)))
        tmp.write(path .. "/deep/file", "x")
        assert(uv.fs_chmod(path .. "/deep", 0))
    end)

    it("has removed it when the spec ended", function()
        assert.is_nil(uv.fs_stat(path))
    end)
end)

describe("spec.support.cleanup", function()
    local order = {}

    setup(function()
        cleanup.for_block(function()
            cleanup.defer(function() table.insert(order, "block") end)
        end)
    end)

    it("(defers)", function()
        cleanup.defer(function() table.insert(order, "first") end)
        cleanup.defer(function() table.insert(order, "second") end)
    end)

    it("has undone the test's in reverse, and keeps the block's", function()
        assert.same({ "second", "first" }, order)
    end)
end)

describe("spec.support.c", function()
    it("declares functions and constants from the headers", function()
        local C, constants = c.include "base/error.h"
        assert.is_number(constants.SHOVE_ERROR_TEXT_SIZE)
        assert.is_not_nil(C.shove_error_set)
    end)

    it("names the header that does not exist", function()
        assert.error_matches(function() c.include "base/nothing.h" end, "cannot preprocess base/nothing.h")
    end)
end)

describe("spec.support.app", function()
    it("writes the script and its files into a directory of their own", function()
        local a = app.new { source = "return 1", files = { ["handlers.lua"] = "return 2" } }
        assert.equal("return 1", tmp.read(a.path))
        assert.equal("return 2", tmp.read(a:file "handlers.lua"))
    end)
end)

describe("spec.support.kafka", function()
    local broker, topic

    setup(function()
        broker = kafka.shared()
        topic = broker:create_topic(broker:topic "support", { partitions = 3 })
    end)

    it("tells how many partitions a topic has, and that asking does not create one", function()
        assert.equal(3, broker:partitions(topic))
        local absent = broker:topic "absent"
        assert.is_nil(broker:partitions(absent))
        assert.is_nil(broker:partitions(absent))
    end)

    it("writes and reads records exactly", function()
        local name = broker:create_topic(broker:topic "exact")
        local records = {
            { key = "a\0b", value = "\0\255", headers = { { "h", "1" }, { "h", "\0\254" }, { "n", nil } },
              timestamp_ms = 1234567890123 },
            { key = nil, value = nil, timestamp_ms = 1234567890124 },
            { key = "", value = "", timestamp_ms = 1234567890125 },
        }
        broker:produce(name, records)
        local read = broker:read(name, { count = 3 })
        for i, record in ipairs(records) do
            assert.equal(record.key, read[i].key)
            assert.equal(record.value, read[i].value)
            assert.equal(record.timestamp_ms, read[i].timestamp_ms)
            assert.same(record.headers or {}, read[i].headers)
            assert.equal(i - 1, read[i].offset)
        end
        assert.same(read, broker:read(name))
    end)

    it("fails when fewer records come than were expected", function()
        assert.error_matches(function()
            broker:read(topic, { count = 1, deadline_ms = 200 })
        end, "0 records by the deadline, expected 1")
    end)

    it("writes and reads through kcat", function()
        local name = broker:create_topic(broker:topic "kcat")
        broker:kcat_produce(name, {
            { key = "k", value = "line\nbreak\0nul", headers = { { "a", "1" }, { "b", "2" } } },
            { key = "t" },
        })
        local exact = broker:read(name, { count = 2 })
        assert.equal("line\nbreak\0nul", exact[1].value)
        assert.same({ { "a", "1" }, { "b", "2" } }, exact[1].headers)
        assert.is_nil(exact[2].value)
        local seen = broker:kcat_read(name)
        assert.same({ "k", "line\nbreak\0nul", "a=1,b=2" }, { seen[1].key, seen[1].value, seen[1].headers })
        assert.equal("t", seen[2].key)
        assert.is_nil(seen[2].value)
    end)

    it("sees a group's commits, lag and members", function()
        local name = broker:create_topic(broker:topic "group")
        local group = kafka.unique "group"
        broker:produce(name, { { value = "1" }, { value = "2" }, { value = "3" } })
        assert.same({}, broker:committed(group, name))
        assert.equal(3, broker:lag(group, name))
        assert.same({}, broker:group(group).members)

        local member = process.spawn { "kcat", "-q", "-u", "-b", broker.bootstrap, "-X", "auto.offset.reset=earliest",
                                       "-X", "auto.commit.interval.ms=100", "-G", group, name }
        member:wait_for("3", 20000)
        wait.until_true(function() return broker:lag(group, name) == 0 end, 20000, "kcat's commit")
        assert.equal(3, broker:committed(group, name)[0].offset)
        assert.equal("Stable", broker:group(group).state)
        assert.equal(1, #broker:group(group).members)
    end)

    it("refuses a client without rights on the SASL listener, and lets admin in", function()
        local function metadata(user, password)
            return process.run { "kcat", "-L", "-b", broker.sasl, "-t", topic, "-m", "5",
                                 "-X", "security.protocol=SASL_PLAINTEXT", "-X", "sasl.mechanism=PLAIN",
                                 "-X", "sasl.username=" .. user, "-X", "sasl.password=" .. password }
        end
        assert.matches("partitions:", metadata("admin", "admin-secret").stdout)
        local limited = metadata("limited", "limited-secret")
        assert.matches("authorization failed", limited.stdout .. limited.stderr)
        assert.not_equal(0, metadata("admin", "wrong").code)
    end)

    it("kills and restarts a private broker with its data", function()
        local own = kafka.private()
        local name = own:create_topic "kept"
        own:produce(name, { { key = "k", value = "v" } })
        own:kill()
        assert.not_equal(0, process.run({ "kcat", "-L", "-b", own.bootstrap, "-m", "1" }).code)
        own:restart()
        assert.equal("v", own:read(name, { count = 1, deadline_ms = 30000 })[1].value)
    end)
end)
