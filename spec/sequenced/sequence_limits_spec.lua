-- What bounds the order of keys: how much waits, who waits for whom, and what the log says of it.

local uv = require "luv"
local assert = require "luassert"
local cjson = require "cjson"
local acl = require "spec.support.acl"
local app = require "spec.support.app"
local driver = require "spec.transport.driver"
local http = require "spec.support.http"
local kafka = require "spec.support.kafka"
local reloads = require "spec.support.reloads"
local steered = require "spec.support.steered"
local tmp = require "spec.support.tmp"
local wait = require "spec.support.wait"

local WAIT_MS = 20000
local EMBEDDED = steered.brokers[1].url

local function new(options)
    options.url = options.url or EMBEDDED
    options.fifo = true
    options.partitions = false
    options.topic = ("sequenced = %q, shards = %d,"):format(options.sequenced or "skip", options.shards or 1)
    options.holds = options.holds or { "50ms" }
    local s = steered.new(options)
    s:declare()
    return s
end

-- By a stranger, many at once. items: { key, text }.
local function write(s, items, partition)
    local t, records = assert(driver.open(s.url, { must_exist = true })), {}
    for i, item in ipairs(items) do records[i] = { partition = partition or 0, key = item[1], payload = item[2] } end
    t:publish(s.queue, records)
    t:close()
end

local function count_lines(p, text)
    local count = 0
    for _, line in ipairs(p.lines) do
        if line.text:find(text, 1, true) then count = count + 1 end
    end
    return count
end

describe("a key in the log of a drain", function()
    for _, row in ipairs {
        { "is named by its checksum", {}, "key 4385ad0d for" },
        { "is named as it is with --log-keys", { "--log-keys" }, "key topsecret for" },
    } do
        local name, options, pattern = unpack(row)
        it(name, function()
            local s = new {}
            s:publish({ "a1 gate" }, { key = "topsecret" })
            local p = s:run(options)
            s:wait("began", { "a1" })
            p:kill "sigterm"
            p:wait_for("still draining.*" .. pattern, WAIT_MS)
            s:open "gate"
            assert.equal(0, (p:wait_exit(WAIT_MS)), p:transcript())
            if #options == 0 then assert.is_nil(p:transcript():find("topsecret", 1, true)) end
        end)
    end
end)

describe("the line about a partition that is not read on", function()
    local FULL = "max_pending_per_key messages wait behind one of their key"

    it("is written once for all of a key's backlog, and takes nothing from what else is said", function()
        local s = new { group = "prefetch = 20, max_pending_per_key = 2" }
        local items = { { "hot", "a1 gate" } }
        for i = 2, 40 do items[i] = { "hot", ("a%d"):format(i) } end
        write(s, items)
        local p = s:run { "--listen", "0" }
        p:wait_for(FULL, WAIT_MS)
        s:open "gate"
        s:wait("ended", 40)
        assert.equal(1, count_lines(p, FULL), p:transcript())
        assert.equal(0, count_lines(p, "more lines about messages"), p:transcript())
        assert.matches("shove_pending_full_total{[^}]*} 37\n", http.request(http.port_of(p), "/metrics").body)
        -- Of another key, soon after: it is told of when ten seconds are over.
        write(s, { { "cold", "b1 shut" }, { "cold", "b2" }, { "cold", "b3" }, { "cold", "b4" } })
        p:wait_for("not read on .*left out=1", WAIT_MS)
        assert.equal(2, count_lines(p, FULL), p:transcript())
        s:open "shut"
        s:wait("ended", 44)
        assert.equal(0, (app.drain(p)), p:transcript())
    end)

    it("is written once for what waits in it, too, when that takes 8 MiB", function()
        local s = new {}
        local items = { { "large", "a1 gate" } }
        for i = 2, 20 do items[i] = { "large", ("a%d ."):format(i) .. ("."):rep(900 * 1024) } end
        write(s, items)
        local p = s:run()
        p:wait_for("8 MiB of messages wait for their turn", WAIT_MS)
        s:wait("began", { "a1" })
        s:open "gate"
        s:wait("ended", 20)
        assert.equal(1, count_lines(p, "8 MiB of messages wait for their turn"), p:transcript())
        assert.equal(0, (app.drain(p)), p:transcript())
    end)
end)

describe("keys that wait for a retry", function()
    local FULL = "nothing new of a group is handled: too much is set aside"

    local function items_of(count, format, filler)
        local items = {}
        for i = 1, count do items[i] = { format:format(i), format:format(i) .. (filler or "") } end
        return items
    end

    it("may be more than 10,000: others are handled", function()
        local s = new { holds = { "1h" }, group = "prefetch = 200" }
        write(s, items_of(10500, "a%d retry"))
        write(s, { { "other", "b1" } })
        local p = s:run()
        s:wait("ended", { "b1" })
        assert.equal(10500, s:count "ended" - 1)
        assert.equal(0, count_lines(p, FULL), p:transcript())
        assert.equal(0, (app.drain(p)), p:transcript())
    end)

    -- From byte `at` of the journal on, which is too long here to be taken apart at every look.
    local function count_ended(s, at)
        local file = io.open(s.dir .. "/journal")
        if not file then return 0 end
        file:seek("set", at)
        local _, count = file:read "*a":gsub("ended ", "")
        file:close()
        return count
    end

    -- What is read of one partition begins again where the others did: due before most of what waits already.
    it("may be tens of thousands, of many partitions, when a process starts: others are handled soon", function()
        local PARTITIONS, EACH, SOON_MS = 8, 7500, 5000
        local s = new { shards = PARTITIONS, holds = { "1h" }, group = "prefetch = 500" }
        for partition = 0, PARTITIONS - 1 do write(s, items_of(EACH, partition .. "a%d", " retry"), partition) end
        local first = s:run()
        wait.until_true(function() return count_ended(s, 0) == PARTITIONS * EACH end, WAIT_MS, "all to wait for a retry")
        assert.equal(0, (app.drain(first)), first:transcript())
        for partition = 0, PARTITIONS - 1 do write(s, { { "other", "b" .. partition } }, partition) end
        local journal_size = uv.fs_stat(s.dir .. "/journal").size
        local p = s:run()
        p:wait_for("partitions assigned", WAIT_MS)
        wait.until_true(function() return count_ended(s, journal_size) == PARTITIONS end, SOON_MS, "the others")
        local status = cjson.decode(s.app:command("status", { "--json" }).stdout)[1]
        assert.equal(PARTITIONS * EACH, status.groups[1].waiting)
        assert.equal(0, (app.drain(p)), p:transcript())
    end)

    it("are each handled again when its own delay is over, whatever others wait for", function()
        local s = new { holds = { "20ms", "1h" }, group = "prefetch = 200" }
        write(s, items_of(200, "a%d again"))
        write(s, items_of(200, "b%d retry"))
        local p = s:run()
        wait.until_true(function() return s:count "began" == 800 end, WAIT_MS, "all to be begun twice")
        assert.equal(0, (app.drain(p)), p:transcript())
    end)

    it("hold up all others when they take 64 MiB, which is told of once a minute, with what to do", function()
        local s = new { holds = { "1h" }, group = "prefetch = 20" }
        write(s, items_of(120, "a%d retry .", ("."):rep(900 * 1024)))
        local p = s:run()
        p:wait_for(FULL .. '  group=%S+  topic=%S+  waiting in place=%d+  for the broker to store=0  suspects=0  '
            .. 'bytes="%d+ of 67108864"  what to do="mend what', WAIT_MS)
        assert.is_true(s:count "ended" < 120)
        assert.equal(0, (app.drain(p)), p:transcript())
        assert.equal(1, count_lines(p, FULL), p:transcript())
    end)
end)

describe("a poisoned key with a long backlog", function()
    -- "a1", ... without the reasons.
    local function letters(s)
        local names = {}
        for i, record in ipairs(s:letters()) do names[i] = record.payload:match "^%S+" end
        return names
    end

    -- Says no more than where they begin to differ.
    local function check_letters(s, expected)
        local found, at = letters(s), 1
        while at <= #expected and found[at] == expected[at] do at = at + 1 end
        local function part(names) return ("%d: %s"):format(at, table.concat(names, " ", at, math.min(at + 9, #names))) end
        assert.equal(part(expected), part(found))
        assert.equal(#expected, #found)
    end

    for _, broker in ipairs(steered.brokers) do
        it("holds up no other key, and its dead letters are in order, on " .. broker.name, function()
            local s = new { url = broker.url, sequenced = "fail_all", group = "prefetch = 20" }
            local items, expected = { { "hot", "a0 reject" } }, { "a0" }
            for i = 1, 20000 do
                table.insert(items, { "hot", "a" .. i })
                table.insert(expected, "a" .. i)
                if i % 100 == 0 then table.insert(items, { "key " .. i, "b" .. i }) end
            end
            write(s, items)
            local p = s:run()
            s:wait("ended", 201)
            assert.equal(0, s:count("began", "a1"))
            s:wait_letters(#expected)
            check_letters(s, expected)
            assert.equal(0, (app.drain(p)), p:transcript())
        end)
    end

    -- A run whose user may not write dead letters yet, and to which the key "hot" is poisoned in partition 0.
    local function without_dlq(options)
        local broker = kafka.shared()
        local s = steered.new {
            url = "kafka://" .. broker.sasl, kafka = acl.properties("limited", "limited-secret"), broker = broker, fifo = true,
            partitions = false, holds = { "50ms" }, topic = 'external = true, sequenced = "fail_all",', group = options.group,
        }
        for _, suffix in ipairs { "", "-dlq", "-poison" } do
            broker:create_topic(s.queue .. suffix, { partitions = options.partitions or 1 })
        end
        acl.allow(broker, "limited", { topic = s.queue, operations = { "read", "describe" } })
        acl.allow(broker, "limited", { topic = s.queue .. "-dlq", operations = { "describe" } })
        acl.allow(broker, "limited", { topic = s.queue .. "-poison", operations = { "read", "write", "describe" } })
        acl.allow(broker, "limited", { group = s.group_id, operations = { "read", "describe" } })
        broker:produce(s.queue .. "-poison", {
            { key = "hot", value = '{"offset":0,"reason":"rejected","poisoned_at":0}', partition = 0 },
        })
        s:publish({ "a0" }, { key = "hot" })
        return s
    end

    local function allow_dlq(s)
        acl.allow(s.broker, "limited", { topic = s.queue .. "-dlq", operations = { "write" } })
    end

    local function numbered(first, last)
        local names = {}
        for i = first, last do table.insert(names, "a" .. i) end
        return names
    end

    -- Two more come behind `count` of the key that cannot be stored, and one of another key, which goes on; then all can.
    local function check_order(s, count, other)
        s:publish({ "a" .. count + 1, "a" .. count + 2 }, { key = "hot" })
        s:publish({ other }, { key = "other" })
        s:wait("ended", { other })
        assert.equal(0, #s:letters())
        allow_dlq(s)
        s:wait_letters(count + 2)
        check_letters(s, numbered(1, count + 2))
    end

    it("keeps their order when the broker does not take them for a while", function()
        local s = without_dlq { group = "prefetch = 20, max_pending_per_key = 4000" }
        s:publish(numbered(1, 3000), { key = "hot" })
        s:publish({ "b1" }, { key = "other" })
        local p = s:run()
        s:wait("ended", { "b1" })
        p:wait_for("a dead letter could not be stored.*EDENIED", WAIT_MS)
        check_order(s, 3000, "b2")
        assert.equal(0, (app.drain(p)), p:transcript())
    end)

    for _, event in ipairs { "a reload", "the end of the process" } do
        it("keeps their order over " .. event .. " while the broker does not take them", function()
            local s = without_dlq { group = "prefetch = 20, max_pending_per_key = 400" }
            s:publish(numbered(1, 300), { key = "hot" })
            s.env = { XDG_RUNTIME_DIR = tmp.dir() }
            local p = s:run { env = s.env }
            p:wait_for("a dead letter could not be stored.*EDENIED", WAIT_MS)
            if event == "a reload" then
                assert.equal(0, reloads.reload(s).code)
            else
                p:kill "sigkill"
                p:wait_exit(WAIT_MS)
                p = s:run { env = s.env }
            end
            check_order(s, 300, "b1")
            for _, line in ipairs(s:lines()) do assert.is_true(line.name == "a0" or line.name == "b1", line.name) end
            assert.equal(0, (app.drain(p)), p:transcript())
        end)
    end

    it("is handled again, once it is cleared, when what was written off is stored, and not before", function()
        local s = without_dlq {}
        s:publish(numbered(1, 20), { key = "hot" })
        local env = { XDG_RUNTIME_DIR = tmp.dir() }
        local p = s:run { env = env }
        p:wait_for("a dead letter could not be stored.*EDENIED", WAIT_MS)
        local cleared = s.app:command("poison clear", { s.queue, "hot" })
        assert.equal(0, cleared.code, cleared.stderr)
        wait.until_true(function()
            local status = cjson.decode(s.app:command("status", { env = env, "--json" }).stdout)
            return status[1].groups[1].poisoned_keys == 0
        end, WAIT_MS, "the clearance to be noticed")
        s:publish({ "a21" }, { key = "hot" })
        s:publish({ "b1" }, { key = "other" })
        s:wait("ended", { "b1" })
        assert.equal(0, s:count("began", "a21"))
        allow_dlq(s)
        s:wait("ended", { "a21" })
        assert.equal(20, #s:letters())
        assert.equal(0, (app.drain(p)), p:transcript())
    end)

    it("holds up its own partition alone when its dead letters cannot be stored, however many they are", function()
        local s = without_dlq { partitions = 2, group = "prefetch = 20, max_pending_per_key = 100" }
        s:publish(numbered(1, 12000), { key = "hot" })
        local p = s:run()
        p:wait_for("max_pending_per_key messages wait behind one of their key", WAIT_MS)
        local others = {}
        for i = 1, 300 do others[i] = "b" .. i end
        s:publish(others, { partition = 1, key = "other" })
        s:wait("ended", 300)
        allow_dlq(s)
        s:wait_letters(12000)
        check_letters(s, numbered(1, 12000))
        assert.equal(0, (app.drain(p)), p:transcript())
    end)
end)
