-- A start that cannot succeed: what is said, the exit code, and that nothing is left behind or spoilt.

local cjson = require "cjson"
local uv = require "luv"
local acl = require "spec.support.acl"
local app = require "spec.support.app"
local kafka = require "spec.support.kafka"
local process = require "spec.support.process"
local steered = require "spec.support.steered"
local tmp = require "spec.support.tmp"
local wait = require "spec.support.wait"

local USAGE, UNAVAILABLE, CONFIG = 64, 69, 78

-- Runs it to its end: the exit code, all that was said, and how long it took. Every line is JSON.
local function refused(s, options)
    local line = { "--log", "json" }
    for _, argument in ipairs(options or {}) do table.insert(line, argument) end
    local began = uv.hrtime()
    local p = s:run(line)
    local code = p:wait_exit(20000)
    local said = {}
    for _, given in ipairs(p.lines) do
        local record = cjson.decode(given.text)
        if record.level == "error" then table.insert(said, record.message .. " " .. (record.error or "")) end
    end
    return code, table.concat(said, "\n"), (uv.hrtime() - began) / 1e6, p
end

local function says(text, ...)
    for _, part in ipairs { ... } do assert.matches(part, text, 1, true) end
end

describe("a broker that is not there", function()
    it("is waited for as long as --connect-timeout says, then the exit code is 69", function()
        local s = steered.new { url = "kafka://127.0.0.1:1" }
        local code, said, took_ms = refused(s, { "--connect-timeout", "700ms" })
        assert.equal(UNAVAILABLE, code)
        says(said, "127.0.0.1:1", "0.7 s", "refused")
        assert.is_true(took_ms >= 700 and took_ms < 10000, took_ms)
    end)

    it("because its folder is missing is 69 at once, and the folder is not made", function()
        local s = steered.new { url = function(dir) return "embedded:" .. dir .. "/nowhere/queue.db" end }
        local code, said = refused(s)
        assert.equal(UNAVAILABLE, code)
        says(said, s.dir .. "/nowhere/queue.db", "create it first")
        assert.is_nil(uv.fs_stat(s.dir .. "/nowhere"))
    end)
end)

describe("a client that Kafka does not let in", function()
    local broker = kafka.shared()

    local function as(user, password, options)
        options = options or {}
        options.url = "kafka://" .. broker.sasl
        options.kafka = acl.properties(user, password)
        return steered.new(options)
    end

    it("is told so when its password is wrong, and does not try for long", function()
        local s = as("limited", "no-secret-of-mine")
        local code, said, took_ms, p = refused(s, { "--connect-timeout", "15s" })
        assert.equal(CONFIG, code)
        says(said, broker.sasl, "refuses this client", "Invalid username or password")
        assert.is_true(took_ms < 10000, took_ms)
        assert.is_nil(p:transcript():find("no-secret-of-mine", 1, true))
    end)

    it("is told so when it has no right to its topic", function()
        local s = as("limited", "limited-secret")
        local code, said = refused(s)
        assert.equal(CONFIG, code)
        says(said, s.queue, "app.lua:", "authorization failed", "Read to consume")
    end)

    it("is told so when it has no right to its group, and the run ends by itself with 1", function()
        local s = as("limited", "limited-secret", { partitions = false, topic = "external = true," })
        broker:create_topic(s.queue)
        acl.allow(broker, "limited", { topic = s.queue, operations = { "read", "describe" } })
        local code, said = refused(s)
        assert.equal(1, code)
        says(said, "a consumer group stopped", "Group authorization failed")
    end)

    it("is told so when a right is taken away while it runs, and the run ends by itself with 1", function()
        local s = as("limited", "limited-secret", { partitions = false, topic = "external = true," })
        broker:create_topic(s.queue)
        acl.allow(broker, "limited", { topic = s.queue, operations = { "read", "describe" } })
        acl.allow(broker, "limited", { group = s.group_id, operations = { "read", "describe" } })
        broker:produce(s.queue, { { value = "a" } })
        local p = s:run()
        s:wait("ended", { "a" })
        s:wait_position(0, 1)
        assert.is_nil(p:transcript():find("producer", 1, true), "reading asks for no right to write")
        acl.forbid(broker, "limited", { topic = s.queue, operations = { "read" } })
        assert.equal(1, (p:wait_exit(20000)), p:transcript())
        says(p:wait_for("a consumer group stopped", 1000), s.group_id, "EDENIED", s.queue, "authorization failed")
    end)
end)

describe("a damaged embedded file", function()
    local function made()
        local s = steered.new { url = steered.brokers[1].url }
        s:declare()
        s:publish { "a", "b", "c" }
        return s, s.dir .. "/queue.db"
    end

    local damages = {
        ["cut short"] = function(bytes) return bytes:sub(1, #bytes - 8192) end,
        ["zeroed in the middle"] = function(bytes)
            return bytes:sub(1, 8192) .. ("\0"):rep(#bytes - 16384) .. bytes:sub(-8192)
        end,
        ["overwritten at its beginning"] = function(bytes) return ("not a queue\n"):rep(1000) .. bytes:sub(12001) end,
        ["emptied"] = function() return "" end,
        ["replaced by another file"] = function() return "SQLite format 3\0" .. ("\0"):rep(20000) end,
    }
    for name, damage in pairs(damages) do
        it("is refused with 69 and stays as it is, byte for byte, " .. name, function()
            local s, path = made()
            local damaged = damage(tmp.read(path))
            tmp.write(path, damaged)
            local code, said = refused(s)
            assert.equal(UNAVAILABLE, code)
            says(said, path)
            assert.is_true(tmp.read(path) == damaged, "the file was changed")
            local result = s.app:command("publish", { s.queue, "--raw", "d" })
            assert.equal(UNAVAILABLE, result.code)
            says(result.stderr, path)
            assert.is_true(tmp.read(path) == damaged, "the file was changed")
            assert.equal(0, s:count "began")
        end)
    end
end)

describe("a folder that cannot be written to", function()
    -- Root may write wherever it likes as long as it has these two capabilities.
    local AS_OTHERS = { "setpriv", "--bounding-set", "-dac_override,-dac_read_search", "--inh-caps",
                        "-dac_override,-dac_read_search", "--" }

    local function run(s)
        local line = uv.getuid() == 0 and { unpack(AS_OTHERS) } or {}
        for _, word in ipairs { app.bin, "run", s.app.path, "--workers", "1" } do table.insert(line, word) end
        line.cwd = s.dir
        return process.spawn(line)
    end

    local function list(dir)
        local names = {}
        local scan = assert(uv.fs_scandir(dir))
        for name in function() return uv.fs_scandir_next(scan) end do table.insert(names, name) end
        table.sort(names)
        return names
    end

    it("is refused with 69 and what to do, and so is a file that cannot be; with the right to it, it runs", function()
        local s = steered.new { url = function(dir) return "embedded:" .. dir .. "/data/queue.db" end }
        local data = s.dir .. "/data"
        assert(uv.fs_mkdir(data, tonumber("555", 8)))
        local p = run(s)
        assert.same({ UNAVAILABLE, 0 }, { p:wait_exit(10000) }, p:transcript())
        says(p:text "stderr", data .. "/queue.db", "Permission denied", "give this user the right to")
        assert.same({}, list(data))

        assert(uv.fs_chmod(data, tonumber("755", 8)))
        p = run(s)
        p:wait_for("partitions assigned", 10000)
        s:publish { "a" }
        s:wait("ended", { "a" })
        assert.equal(0, (app.drain(p)))

        assert(uv.fs_chmod(data .. "/queue.db", tonumber("444", 8)))
        local before = tmp.read(data .. "/queue.db")
        p = run(s)
        assert.same({ UNAVAILABLE, 0 }, { p:wait_exit(10000) }, p:transcript())
        says(p:text "stderr", data .. "/queue.db", "Permission denied")
        assert.is_true(tmp.read(data .. "/queue.db") == before, "the file was changed")
    end)
end)

describe("a command line or a script that is wrong", function()
    local cases = {
        { "an unknown option", USAGE, { "--wrokers", "2" }, nil, { "--wrokers", "--workers" } },
        { "a value that is not allowed", USAGE, { "--workers", "0" }, nil, { "--workers", "0" } },
        { "one argument too many", USAGE, { "twice" }, nil, { "twice" } },
        { "a script with a syntax error", CONFIG, {}, "local = 1", { "app.lua:1" } },
        { "a script that raises", CONFIG, {}, "\nerror 'as told'", { "app.lua:2", "as told" } },
        { "a script that returns nothing", CONFIG, {}, "local x = 1", { "app.lua", "return" } },
    }
    for _, case in ipairs(cases) do
        local name, code, arguments, source, parts = unpack(case)
        it(("ends with %d and names it: %s"):format(code, name), function()
            local a = app.new { source = source or 'return require("shove").registry { broker = "memory:" }' }
            local p = a:run(arguments)
            assert.same({ code, 0 }, { p:wait_exit(10000) }, p:transcript())
            says(p:text "stderr", unpack(parts))
            assert.equal("", p:text "stdout")
        end)
    end
end)

describe("a signal before anything was consumed", function()
    -- The script is loaded to be described, then once in each worker: it stays in the load whose number it is given.
    local SOURCE = [[
    local shove, uv = require "shove", require "luv"
    local nth = uv.fs_stat "first" and 2 or 1
    assert(io.open(nth == 1 and "first" or "second", "w")):close()
    while nth == %d do end
    local app = shove.registry { broker = "%s" }
    app:register(app:topic "orders", {}, function() end)
    return app
    ]]
    for what, row in pairs {
        ["while the script is loaded"] = { 1, "memory:", "first" },
        ["while the broker is waited for"] = { 0, "kafka://127.0.0.1:1", "first" },
        ["while workers load the script"] = { 2, "memory:", "second" },
    } do
        it("ends it with 0, and no process is left: " .. what, function()
            for _, signal in ipairs { "sigterm", "sigint" } do
                local a = app.new { source = SOURCE:format(row[1], row[2]) }
                local p = a:run { "--workers", "1" }
                wait.until_true(function() return uv.fs_stat(a:file(row[3])) end, 10000, "the script to be loaded")
                p:kill(signal)
                assert.are.same({ 0, 0 }, { p:wait_exit(10000) }, p:transcript())
                wait.until_true(function() return #process.orphans() == 0 end, 10000, "workers to end")
            end
        end)
    end
end)
