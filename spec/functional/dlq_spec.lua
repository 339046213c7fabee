-- `shove dlq`: looking into dead letters, sending them back, giving them up.
--
-- Letters are laid into a real Kafka by a client that shares no code with shove, so that every byte is known; at the
-- end, letters that shove itself has made, on both brokers.

local cjson = require "cjson"
local app = require "spec.support.app"
local kafka = require "spec.support.kafka"
local process = require "spec.support.process"
local wait = require "spec.support.wait"

local USAGE = 64
local DIED_MS = 1700000000000 -- 2023-11-14T22:13:20Z

local SOURCE = [[
local shove = require "shove"
local app = shove.registry { broker = "BROKER" }
local function handle() end
app:register(app:topic("QUEUE", { hold = { "1s" }, dlq = true }), shove.group {}, handle)
return app
]]

local SHARED_SOURCE = [[
local shove = require "shove"
local app = shove.registry { broker = "BROKER" }
local function handle() end
app:register(app:topic("ONE", { hold = { "1s" }, dlq = "DLQ" }), shove.group {}, handle)
app:register(app:topic("TWO", { hold = { "1s" }, dlq = "DLQ" }), shove.group {}, handle)
app:register(app:topic("NONE", {}), shove.group {}, handle)
return app
]]

local function fill(source, words)
    return (source:gsub("%u%u%u+", function(word) return words[word] end))
end

-- A letter as shove would have written it; changes: key, value, headers (originals), reason, and so on.
local function letter(changes)
    local headers = {}
    for _, header in ipairs(changes.headers or {}) do headers[#headers + 1] = header end
    local function add(name, value)
        if value then headers[#headers + 1] = { "Shove-" .. name, tostring(value) } end
    end
    add("Message-Id", changes.id or "id-" .. tostring(changes.key))
    add("Retry-Count", changes.retries)
    add("Death-Reason", changes.reason or "rejected")
    add("Death-Count", changes.deaths or 1)
    add("Original-Queue", changes.queue)
    add("Original-Partition", changes.queue_partition)
    add("Original-Offset", changes.queue_offset)
    add("Died", changes.died_ms or DIED_MS)
    add("Error", changes.error)
    return {
        key = changes.key, value = changes.value, headers = headers, partition = changes.partition or 0,
        timestamp_ms = changes.timestamp_ms,
    }
end

local function dlq(a, command, ...)
    return a:command("dlq " .. command, { ... })
end

local function listed(a, ...)
    local result = dlq(a, "list", a.queue, "--json", ...)
    assert.are.equal(0, result.code, result.stderr)
    local letters = {}
    for line in result.stdout:gmatch "[^\n]+" do letters[#letters + 1] = cjson.decode(line) end
    return letters
end

local function listed_keys(a, ...)
    local keys = {}
    for _, found in ipairs(listed(a, ...)) do keys[#keys + 1] = found.key end
    return table.concat(keys, " ")
end

local function without_own(headers)
    local others = {}
    for _, header in ipairs(headers) do
        if header[1]:sub(1, 6) ~= "Shove-" then others[#others + 1] = header end
    end
    return others
end

local function own(headers)
    local found = {}
    for _, header in ipairs(headers) do
        if header[1]:sub(1, 6) == "Shove-" then found[header[1]:sub(7)] = header[2] end
    end
    return found
end

local function replay(a, ...)
    local result = dlq(a, "replay", a.queue, ...)
    assert.are.equal(0, result.code, result.stderr)
    return result.stdout
end

describe("shove dlq on Kafka", function()
    local broker, a

    -- The queue and its DLQ exist, with 4 partitions each.
    before_each(function()
        broker = kafka.shared()
        local queue = kafka.unique "orders"
        a = app.new { source = fill(SOURCE, { BROKER = broker.url, QUEUE = queue }) }
        a.queue, a.dlq, a.triage = queue, queue .. "-dlq", queue .. "-dlq-triage"
        broker:create_topic(a.queue, { partitions = 4 })
        broker:create_topic(a.dlq, { partitions = 4 })
    end)

    local function lay(...)
        local letters = {}
        for _, changes in ipairs { ... } do
            changes.queue = changes.queue == nil and a.queue or changes.queue
            letters[#letters + 1] = letter(changes)
        end
        broker:produce(a.dlq, letters)
    end

    local function lay_many(count, change)
        local letters = {}
        for number = 1, count do
            local changes = { queue = a.queue, id = "id-" .. number, value = tostring(number), partition = 0 }
            if change then change(changes, number) end
            letters[number] = letter(changes)
        end
        broker:produce(a.dlq, letters)
    end

    describe("list", function()
        it("shows the letters that wait, in a table", function()
            lay({ key = "k1", value = "{}", error = "order without id\nstack traceback:", retries = 3 },
                { key = "k2", value = "{}", reason = "max_retries_exceeded" })
            local result = dlq(a, "list", a.queue)
            assert.are.equal(0, result.code, result.stderr)
            assert.matches("POSITION +DIED +REASON", result.stdout)
            assert.matches("0:0 +2023%-11%-14T22:13:20.000Z +rejected +3 +k1 .*order without id\n", result.stdout)
            assert.matches("0:1 .*max_retries_exceeded", result.stdout)
            assert.is_nil(result.stdout:find("traceback", 1, true))
            assert.matches("2 in " .. a.dlq, result.stdout, 1, true)
        end)

        it("says so when there is nothing", function()
            assert.matches("no dead letters wait in " .. a.dlq, dlq(a, "list", a.queue).stdout, 1, true)
            assert.are.equal(0, #listed(a))
        end)

        it("says so when the DLQ does not exist yet, and does not make it", function()
            local queue = kafka.unique "fresh"
            local fresh = app.new { source = fill(SOURCE, { BROKER = broker.url, QUEUE = queue }) }
            local result = dlq(fresh, "list", queue)
            assert.are.equal(0, result.code, result.stderr)
            assert.matches(queue .. "-dlq does not exist yet", result.stdout, 1, true)
            assert.is_nil(broker:partitions(queue .. "-dlq"))
        end)

        it("means the same by the queue's name and by the DLQ's", function()
            lay({ key = "k1", value = "1" })
            assert.are.equal(dlq(a, "list", a.queue).stdout, dlq(a, "list", a.dlq).stdout)
        end)

        it("filters by reason, key, moment and number", function()
            lay({ key = "old", value = "1", died_ms = DIED_MS - 1 },
                { key = "k", value = "1", reason = "timeout" },
                { key = "k", value = "2", died_ms = DIED_MS + 5000 },
                { key = "new", value = "1", died_ms = os.time() * 1000 })
            assert.are.equal("old k k new", listed_keys(a))
            assert.are.equal("k", listed_keys(a, "--reason", "timeout"))
            assert.are.equal("k k", listed_keys(a, "--key", "k"))
            assert.are.equal("k k new", listed_keys(a, "--since", "2023-11-14T22:13:20Z"))
            assert.are.equal("k new", listed_keys(a, "--since", "2023-11-15T00:13:25.000+02:00"))
            assert.are.equal("new", listed_keys(a, "--since", "1h"))
            assert.are.equal("old k", listed_keys(a, "--limit", "2"))
            assert.are.equal("k", listed_keys(a, "--key", "k", "-n", "1"))
        end)

        it("does not pass a part for the whole: the last line says what was counted", function()
            lay({ key = "a", value = "1" }, { key = "b", value = "2", reason = "timeout" }, { key = "b", value = "3" })
            for options, last in pairs {
                [{}] = "3 in %s",
                [{ "-n", "3" }] = "3 in %s",
                [{ "-n", "2" }] = "the first 2 in %s; there are more",
                [{ "--key", "b" }] = "2 in %s that the filters mean",
                [{ "--key", "b", "-n", "1" }] = "the first 1 in %s that the filters mean; there are more",
                [{ "--key", "b", "--reason", "timeout", "-n", "1" }] = "1 in %s that the filters mean",
            } do
                local text = dlq(a, "list", a.queue, unpack(options)).stdout
                assert.are.equal(last:format(a.dlq), text:match "([^\n]*)\n$")
            end
        end)

        it("refuses a reason of which nothing dies, and a moment that is none", function()
            local result = dlq(a, "list", a.queue, "--reason", "rejcted")
            assert.are.equal(USAGE, result.code)
            assert.matches("did you mean 'rejected'?", result.stderr, 1, true)
            for _, moment in ipairs { "yesterday", "2026-02-29", "2026-04-31T12:00:00Z" } do
                result = dlq(a, "list", a.queue, "--since", moment)
                assert.are.equal(USAGE, result.code)
                assert.matches(("--since: '%s'"):format(moment), result.stderr, 1, true)
            end
        end)

        it("shows what came from outside without obeying it", function()
            lay({ key = "\27[31mred\r", value = "1", error = "\27]0;title\7" })
            local text = dlq(a, "list", a.queue).stdout
            assert.is_nil(text:gsub("\n", ""):find "%c")
            assert.matches("\\x1b[31mred", text, 1, true)
        end)
    end)

    describe("show", function()
        it("prints everything about the letter at a position", function()
            lay({ key = "k1", value = '{"id":1}', error = "no id\nat line 3", retries = 2, deaths = 2, queue_partition = 1,
                queue_offset = 17, headers = { { "h", "v" }, { "h", nil } } })
            local result = dlq(a, "show", a.queue, "0:0")
            assert.are.equal(0, result.code, result.stderr)
            for _, text in ipairs {
                "0:0 in " .. a.dlq, "waiting", "id-k1", "rejected", "2023-11-14T22:13:20.000Z",
                a.queue .. ", partition 1, offset 17", "no id\n  at line 3", "h: v\n  h: null", "8 bytes", '{"id":1}',
            } do
                assert.matches(text, result.stdout, 1, true)
            end
        end)

        it("finds all letters of a message by its id", function()
            lay({ key = "k", id = "same", value = "first" }, { key = "x", value = "other" },
                { key = "k", id = "same", value = "second", deaths = 2, partition = 3 })
            local text = dlq(a, "show", a.queue, "same").stdout
            assert.matches("first", text, 1, true)
            assert.matches("second", text, 1, true)
            assert.is_nil(text:find("other", 1, true))
        end)

        it("prints a payload that is no text in hexadecimal, and as base64 in JSON", function()
            lay({ key = "k", value = "\0\1\255binary", headers = { { "b", "\255" } } })
            assert.matches("00 01 ff 62 69 6e", dlq(a, "show", a.queue, "0:0").stdout, 1, true)
            local found = cjson.decode(dlq(a, "show", a.queue, "0:0", "--json").stdout)
            assert.are.equal("AAH/YmluYXJ5", found.payload_base64)
            assert.are.same({ { name = "b", value_base64 = "/w==" } }, found.headers)
            assert.are.equal("waiting", found.state)
        end)

        it("says what is there when nothing is at that position", function()
            lay({ key = "k", value = "1" })
            for position, text in pairs {
                ["0:7"] = "offsets 0 to 0", ["2:0"] = "partition 2 is empty", ["9:0"] = "4 partitions", ["id-x"] = "id-x",
            } do
                local result = dlq(a, "show", a.queue, position)
                assert.are.equal(1, result.code)
                assert.matches(text, result.stderr, 1, true)
            end
        end)
    end)

    describe("replay", function()
        it("sends back bytes, headers in order, null values, key and timestamp as they were", function()
            local headers = { { "b", "\0\255" }, { "a", "1" }, { "a", "2" }, { "n", nil }, { "e", "" } }
            lay({ key = "k\0\1", value = "\0\1\2\255", headers = headers, timestamp_ms = 1600000000123,
                queue_partition = 3, id = "the id", deaths = 2, retries = 9, error = "why" })
            assert.matches("replayed 1 dead letter from", replay(a), 1, true)
            local found = broker:read(a.queue)
            assert.are.equal(1, #found)
            assert.are.equal("k\0\1", found[1].key)
            assert.are.equal("\0\1\2\255", found[1].value)
            assert.are.equal(1600000000123, found[1].timestamp_ms)
            assert.are.equal(3, found[1].partition)
            assert.are.same(headers, without_own(found[1].headers))
            assert.are.same({ ["Message-Id"] = "the id", ["Death-Count"] = "2" }, own(found[1].headers))
        end)

        it("keeps a null payload, a null key, and an empty payload, as a stranger sees", function()
            lay({ key = "tombstone", value = nil }, { key = "empty", value = "" }, { key = nil, value = "no key", id = "x" })
            replay(a)
            local seen = {}
            for _, record in ipairs(broker:kcat_read(a.queue)) do
                seen[record.key or "(null)"] = record.value or "(null)"
            end
            assert.are.same({ tombstone = "(null)", empty = "", ["(null)"] = "no key" }, seen)
        end)

        it("replays a letter once", function()
            lay({ key = "k1", value = "1" }, { key = "k2", value = "2", partition = 2 })
            replay(a)
            assert.matches("replayed 0 dead letters", replay(a), 1, true)
            assert.are.equal(2, #broker:read(a.queue))
            assert.are.equal("", listed_keys(a))
            assert.are.equal("k1 k2", listed_keys(a, "--all"))
            assert.are.equal("settled", listed(a, "--all")[1].state)
            lay({ key = "k3", value = "3" })
            assert.are.equal("k3", listed_keys(a))
            replay(a)
            assert.are.equal(3, #broker:read(a.queue))
        end)

        it("replays what the filters mean and leaves the rest waiting, over several runs", function()
            lay({ key = "a", value = "1" }, { key = "b", value = "2", reason = "timeout" }, { key = "c", value = "3" },
                { key = "d", value = "4", reason = "timeout" }, { key = "e", value = "5" })
            replay(a, "--reason", "timeout", "--limit", "1")
            assert.are.equal("a c d e", listed_keys(a))
            replay(a, "--reason", "timeout")
            assert.are.equal("a c e", listed_keys(a))
            replay(a, "--key", "e")
            assert.are.equal("a c", listed_keys(a))
            replay(a)
            assert.are.equal("", listed_keys(a))
            assert.are.equal(5, #broker:read(a.queue))
        end)

        it("with --dry-run says what it would do and does nothing", function()
            lay({ key = "k1", value = "1" }, { key = "k2", value = "2" })
            local text = replay(a, "--dry-run")
            assert.matches("k1", text, 1, true)
            assert.matches("would replay 2 dead letters", text, 1, true)
            assert.are.equal(0, #broker:read(a.queue))
            assert.are.equal("k1 k2", listed_keys(a))
            assert.is_nil(next(broker:committed(a.triage, a.dlq)))
        end)

        it("goes on after it was killed, repeating at most one batch", function()
            local count = 15000
            lay_many(count)
            local p = process.spawn { app.bin, "dlq", "replay", a.path, a.queue, cwd = a.dir }
            wait.until_true(function()
                local high = 0
                for _, mark in pairs(broker:watermarks(a.queue)) do high = high + mark.high end
                return high > 1000
            end, 30000, "the replay to be under way")
            p:kill "sigkill"
            p:wait_exit(10000)
            local first = #broker:read(a.queue)
            assert.is_true(first < count, "it was killed too late to tell anything")
            replay(a)
            local seen, repeated = {}, 0
            for _, record in ipairs(broker:read(a.queue)) do
                repeated = repeated + (seen[record.value] and 1 or 0)
                seen[record.value] = true
            end
            for number = 1, count do assert.is_true(seen[tostring(number)], number .. " is lost") end
            assert.is_true(repeated <= 500, repeated .. " were repeated")
        end)

        it("on Ctrl-C marks what was acknowledged and goes on with the next run, repeating nothing", function()
            local count = 15000
            lay_many(count)
            local p = process.spawn { app.bin, "dlq", "replay", a.path, a.queue, cwd = a.dir }
            wait.until_true(function()
                local committed = broker:committed(a.triage, a.dlq)[0]
                return committed and committed.offset > 0
            end, 30000, "the first marks")
            p:kill "sigint"
            local code = p:wait_exit(20000)
            local text = p:text "stdout"
            assert.are.equal(1, code)
            assert.are.equal(tonumber(text:match "replayed (%d+)"), #broker:read(a.queue))
            replay(a)
            assert.are.equal(count, #broker:read(a.queue))
        end)

        it("stops rather than forget when a filter leaves more gaps than can be remembered", function()
            local count = 8000
            lay_many(count, function(changes, number) changes.reason = number % 2 == 0 and "timeout" or "rejected" end)
            local result = dlq(a, "replay", a.queue, "--reason", "timeout")
            assert.are.equal(1, result.code)
            assert.matches("no more can be remembered", result.stderr, 1, true)
            local first = tonumber(result.stdout:match "replayed (%d+)")
            assert.is_true(first > 1000)
            assert.are.equal(first, #broker:read(a.queue))
            assert.are.equal(count - first, #listed(a))
            replay(a)
            local seen = {}
            for _, record in ipairs(broker:read(a.queue)) do
                assert.is_nil(seen[record.value], record.value)
                seen[record.value] = true
            end
            for number = 1, count do assert.is_true(seen[tostring(number)]) end
        end)

        it("notices another one that settles letters of the same DLQ", function()
            lay_many(15000)
            local p = process.spawn { app.bin, "dlq", "replay", a.path, a.queue, cwd = a.dir }
            wait.until_true(function()
                local committed = broker:committed(a.triage, a.dlq)[0]
                return committed and committed.offset > 0
            end, 30000, "the first marks")
            p:kill "sigstop"
            replay(a, "--limit", "1000")
            p:kill "sigcont"
            assert.are.equal(1, p:wait_exit(30000))
            assert.matches("another command is settling letters", p:text "stderr", 1, true)
            local marked, sent = p:text("stdout"):match "^replayed (%d+) dead letters from %S+ to %S+ %((%d+)%)\n"
            assert.matches(("%d of those sent could not be marked"):format(sent - marked), p:text "stdout", 1, true)
        end)

        it("sends a letter that shove did not write to the queue it was asked for", function()
            broker:kcat_produce(a.dlq, { { key = "foreign", value = "x", headers = { { "h", "v" } } } })
            assert.matches("not recorded", dlq(a, "show", a.dlq, listed(a)[1].partition .. ":0").stdout, 1, true)
            replay(a)
            local found = broker:read(a.queue)
            assert.are.equal("foreign", found[1].key)
            assert.are.same({ { "h", "v" } }, without_own(found[1].headers))
            assert.matches("^" .. a.dlq:gsub("%-", "%%-") .. "/%d/0$", own(found[1].headers)["Message-Id"])
        end)

        it("leaves a letter whose queue the app does not have, and says so", function()
            lay({ key = "lost", value = "1", queue = "somewhere-else" }, { key = "k", value = "2" })
            local text = replay(a)
            assert.matches("replayed 1 dead letter from", text, 1, true)
            assert.matches("1 left", text, 1, true)
            assert.are.equal("lost", listed_keys(a))
        end)

        it("refuses marks that are not shove's, and leaves them alone", function()
            lay({ key = "k", value = "1" })
            broker:commit(a.triage, a.dlq, 0, 0, "somebody else's notes")
            for _, command in ipairs { "list", "replay" } do
                local result = dlq(a, command, a.queue)
                assert.are.equal(1, result.code)
                assert.matches("marks of group " .. a.triage, result.stderr, 1, true)
                assert.matches("not shove's", result.stderr, 1, true)
            end
            assert.are.equal("somebody else's notes", broker:committed(a.triage, a.dlq)[0].metadata)
            assert.are.equal(0, #broker:read(a.queue))
        end)

        it("says of marks that another version of shove wrote that it did, and what to do", function()
            lay({ key = "k", value = "1" })
            broker:commit(a.triage, a.dlq, 0, 0, "U0wBAAAAAAAAAAAA")
            local result = dlq(a, "list", a.queue)
            assert.are.equal(1, result.code)
            assert.matches("marks of group " .. a.triage .. " on " .. a.dlq .. "/0 cannot be read (delete that group",
                result.stderr, 1, true)
            assert.matches("was written by another version of shove", result.stderr, 1, true)
        end)

        it("looks at no marks of an earlier DLQ of the same name", function()
            lay({ key = "k", value = "1" })
            broker:commit(a.triage, a.dlq, 0, 400, "")
            assert.are.equal("k", listed_keys(a))
            replay(a)
            assert.are.equal("", listed_keys(a))
            assert.are.equal(1, broker:committed(a.triage, a.dlq)[0].offset)
        end)
    end)

    describe("purge", function()
        it("deletes what no letter that waits stands before", function()
            lay({ key = "a", value = "1" }, { key = "b", value = "2" }, { key = "c", value = "3" },
                { key = "d", value = "4", partition = 1 })
            local result = dlq(a, "purge", a.queue, "--yes", "--key", "a")
            assert.are.equal(0, result.code, result.stderr)
            assert.matches("purged 1 dead letter", result.stdout, 1, true)
            assert.are.equal("b c d", listed_keys(a))
            assert.are.equal(1, broker:watermarks(a.dlq)[0].low)
            assert.are.equal(0, dlq(a, "purge", a.queue, "--yes", "--key", "c").code)
            assert.are.equal("b d", listed_keys(a))
            assert.are.equal("b c d", listed_keys(a, "--all"))
            assert.are.equal(1, broker:watermarks(a.dlq)[0].low)
            assert.are.equal(0, dlq(a, "purge", a.queue, "--yes").code)
            assert.are.equal("", listed_keys(a, "--all"))
            assert.are.same({ low = 3, high = 3 }, broker:watermarks(a.dlq)[0])
            assert.are.same({ low = 1, high = 1 }, broker:watermarks(a.dlq)[1])
            assert.are.equal(0, #broker:read(a.queue))
        end)

        it("without --yes refuses where it cannot ask", function()
            lay({ key = "a", value = "1" })
            local result = dlq(a, "purge", a.queue)
            assert.are.equal(USAGE, result.code)
            assert.matches("give --yes", result.stderr, 1, true)
            assert.are.equal("a", listed_keys(a))
        end)

        it("with --dry-run says what it would do and does nothing", function()
            lay({ key = "a", value = "1" })
            local result = dlq(a, "purge", a.queue, "--dry-run")
            assert.are.equal(0, result.code, result.stderr)
            assert.matches("would purge 1 dead letter", result.stdout, 1, true)
            assert.are.equal("a", listed_keys(a))
        end)
    end)
end)

describe("a DLQ that several queues share", function()
    local broker, a, names

    before_each(function()
        broker = kafka.shared()
        names = {
            BROKER = broker.url, ONE = kafka.unique "one", TWO = kafka.unique "two", DLQ = kafka.unique "shared-dlq",
            NONE = kafka.unique "none",
        }
        a = app.new { source = fill(SHARED_SOURCE, names) }
        broker:create_topic(names.DLQ)
        broker:produce(names.DLQ, {
            letter { key = "1", value = "a", queue = names.ONE }, letter { key = "2", value = "b", queue = names.TWO },
            letter { key = "3", value = "c" },
        })
    end)

    it("shows all letters by its own name, and by a queue's name those of that queue and of nobody", function()
        a.queue = names.DLQ
        assert.are.equal("1 2 3", listed_keys(a))
        a.queue = names.ONE
        assert.are.equal("1 3", listed_keys(a))
        a.queue = names.TWO
        assert.are.equal("2 3", listed_keys(a))
    end)

    it("sends each letter to its own queue, and one of nobody only where it was told to", function()
        a.queue = names.DLQ
        local text = replay(a)
        assert.matches("replayed 2 dead letters", text, 1, true)
        assert.matches("name the queue", text, 1, true)
        assert.are.equal("3", listed_keys(a))
        assert.are.equal("1", broker:read(names.ONE)[1].key)
        assert.are.equal("2", broker:read(names.TWO)[1].key)
        a.queue = names.TWO
        replay(a)
        assert.are.equal(2, #broker:read(names.TWO))
    end)

    it("is not there for a queue without one", function()
        local result = dlq(a, "list", names.NONE)
        assert.are.equal(USAGE, result.code)
        assert.matches("'" .. names.NONE .. "' has no DLQ", result.stderr, 1, true)
        assert.matches("dlq = true", result.stderr, 1, true)
    end)
end)

describe("letters that shove has made", function()
    -- Rejects everything until the file "fixed" is there.
    local RUNNING = [[
local shove = require "shove"
local app = shove.registry { broker = "BROKER" }
app:register(app:topic("QUEUE", { hold = { "1s" }, dlq = true }), shove.group {}, function(msg)
    local file = io.open "fixed"
    if file then
        file:close()
        print("handled " .. msg.payload .. " as " .. msg.id)
        return shove.ack
    end
    return shove.reject "not fixed yet"
end)
return app
]]

    local BROKERS = {
        embedded = function() return "embedded:./shove.db" end,
        Kafka = function() return kafka.shared().url end,
    }

    for name, url in pairs(BROKERS) do
        it("can be looked at and replayed on " .. name .. " while the app runs", function()
            local queue = kafka.unique "orders"
            local a = app.new { source = fill(RUNNING, { BROKER = url(), QUEUE = queue }) }
            a.queue = queue
            assert.are.equal(0, a:command("publish", { queue, "1", "2", "3", "-k", "k" }).code)
            local p = a:run { "--workers", "1" }
            wait.until_true(function() return #listed(a) == 3 end, 60000, "three dead letters")
            local found = listed(a)
            for _, each in ipairs(found) do
                assert.are.equal("rejected", each.reason)
                assert.are.equal("not fixed yet", each.error)
                assert.are.equal(queue, each.original_queue)
                assert.are.equal(queue .. "-consumer", each.group)
                assert.are.equal("k", each.key)
                assert.are.equal(1, each.death_count)
            end
            io.open(a:file "fixed", "w"):close()
            replay(a, "--limit", "2")
            p:wait_for("handled 1 as " .. found[1].id:gsub("%-", "%%-"), 30000)
            p:wait_for("handled 2 as " .. found[2].id:gsub("%-", "%%-"), 30000)
            assert.are.equal(1, #listed(a))
            local purged = dlq(a, "purge", queue, "--yes")
            assert.are.equal(0, purged.code, purged.stderr)
            assert.are.equal(0, #listed(a, "--all"))
            assert.are.equal(0, app.drain(p))
        end)
    end
end)
