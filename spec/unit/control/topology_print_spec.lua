-- What `shove check` shows of an app.
local ffi = require "ffi"
local C = require("spec.support.c").include("control/topology_json.h", "control/topology_print.h")

ffi.cdef [[
FILE *open_memstream(char **data, size_t *size);
int fclose(FILE *file);
void free(void *data);
]]

local function print_topology(topology)
    local data, size = ffi.new "char *[1]", ffi.new "size_t[1]"
    local file = C.open_memstream(data, size)
    C.shove_topology_print(topology, file)
    C.fclose(file)
    local text = ffi.string(data[0], size[0])
    C.free(data[0])
    return text
end

-- The app that `build(app, shove)` declares, printed.
local function shown(build)
    local shove = require "shove"
    local app = shove.registry { broker = "embedded:./orders.db" }
    build(app, shove)
    local json = require("shove.describe").encode(app)
    local topology, err = ffi.gc(ffi.new "struct shove_topology", C.shove_topology_release), ffi.new "struct shove_error"
    assert(C.shove_topology_parse(json, #json, topology, err) == 0, ffi.string(err.text))
    return print_topology(topology)
end

local function example(app, shove)
    local orders = app:topic("orders", { hold = { "500ms", "5s", "5m" }, dlq = true })
    app:register(orders, shove.group { consumers = { min = 2, max = 2 }, prefetch = 20, concurrent = true }, function() end)
    app:dead_letters(orders, function() end)
    local plain = app:topic("receipts", { codec = "raw", partitions = 12 })
    app:register(plain, shove.group { handler_timeout = "90s", max_retries = 3 }, function() end)
end

-- The line that begins with a name.
local function line_of(text, name)
    return assert(("\n" .. text):match("\n  " .. name:gsub("%p", "%%%0") .. "%s+([^\n]*)"), "no line for " .. name)
end

describe("An app is shown", function()
    it("with its broker", function()
        assert.are.equal("Broker\n  embedded:./orders.db\n", shown(example):match "^[^\n]*\n[^\n]*\n")
    end)

    it("with every topic that will exist, and what it is for", function()
        local text = shown(example)
        assert.truthy(line_of(text, "orders"):match "^queue +8 +json +%S*topology_print_spec%.lua:%d+$")
        assert.are.equal("hold: waits 500ms before retry 1", line_of(text, "orders-hold-500ms"))
        assert.are.equal("hold: waits 5s before retry 2", line_of(text, "orders-hold-5s"))
        assert.are.equal("hold: waits 5m before retry 3 and later ones", line_of(text, "orders-hold-300s"))
        assert.are.equal("dlq: dead letters", line_of(text, "orders-dlq"))
        assert.truthy(line_of(text, "receipts"):match "^queue +12 +raw ")
    end)

    it("with what a queue is beside another: whose it is, for which group, in which order", function()
        local text = shown(function(app)
            app:topic("mine", { for_group = "audit" })
            app:topic("theirs", { external = true })
            app:topic("kept", { sequenced = "skip", hold = { "1s" }, dlq = true, shards = 3 })
            app:topic("stopped", { sequenced = "fail_all", hold = { "1s" }, dlq = true, external = true })
        end)
        assert.truthy(line_of(text, "mine"):match "^queue, for group audit +8 ")
        assert.truthy(line_of(text, "kept"):match "^queue, in order per key, skips what fails +3 ")
        assert.truthy(text:find("keeps the key waiting 1s before retry 1 and later ones", 1, true))
        assert.is_nil(text:find("kept-hold", 1, true))
        -- How many partitions it has is not known here.
        assert.truthy(line_of(text, "theirs"):match "^queue, made elsewhere +%- ")
        assert.truthy(line_of(text, "stopped"):match "^queue, made elsewhere, in order per key, stops a key that fails +%- ")
    end)

    it("with durations as a script may write them", function()
        local text = shown(function(app)
            app:register(app:topic("o", { hold = { "24h", "90m" }, dlq = true }), { handler_timeout = "24h" }, function() end)
        end)
        assert.are.equal("hold: waits 90m before retry 1", line_of(text, "o-hold-5400s"))
        assert.are.equal("hold: waits 24h before retry 2 and later ones", line_of(text, "o-hold-86400s"))
        assert.truthy(line_of(text, "o-consumer"):find(" 24h ", 1, true))
    end)

    it("with every group: consumers, prefetch in effect, retries, timeout", function()
        local text = shown(example)
        assert.truthy(line_of(text, "orders-consumer"):match "^orders +2 +20 +10 +30s +%S+:%d+$")
        assert.truthy(line_of(text, "orders-dlq-consumer"):match "^orders%-dlq %(dead letters%) +1 +1 +10 +30s ")
        assert.truthy(line_of(text, "receipts-consumer"):match "^receipts +1 +1 +3 +90s ")
    end)

    it("with prefetch 1 where it is not concurrent, and the warning that says so", function()
        local text = shown(function(app, shove)
            app:register(app:topic "orders", shove.group { prefetch = 5 }, function() end)
        end)
        assert.truthy(line_of(text, "orders-consumer"):match "^orders +1 +1 +10 ")
        assert.truthy(text:match "\nWarnings\n[^\n]*prefetch")
    end)

    it("in columns that line up, without spaces at the end of a line", function()
        local text = shown(example)
        assert.is_nil(text:find " \n")
        local columns = {}
        for line in text:gmatch "[^\n]+" do
            local at = line:find "%S*topology_print_spec%.lua" or line:find "DECLARED AT" or line:find "REGISTERED AT"
            if at then
                local table_name = (line:find "json" or line:find "raw" or line:find "DECLARED") and "topics" or "groups"
                columns[table_name] = columns[table_name] or at
                assert.are.equal(columns[table_name], at, line)
            end
        end
        assert.is_truthy(columns.topics and columns.groups)
    end)

    it("with all brokers when there are several, and which one each queue is on", function()
        local text = shown(function(app)
            app:topic("here", { dlq = true, hold = { "1s" } })
            app:topic("there", { dlq = true, hold = { "1s" }, broker = "kafka://far:9092" })
        end)
        assert.truthy(text:find("Brokers\n  embedded:./orders.db\n  kafka://far:9092\n\n", 1, true))
        assert.truthy(line_of(text, "TOPIC"):match " CODEC +BROKER +DECLARED AT$")
        assert.truthy(line_of(text, "here"):match "^queue +8 +json +embedded:%./orders%.db +%S+$")
        assert.truthy(line_of(text, "there"):match "^queue +8 +json +kafka://far:9092 +%S+$")
        assert.are.equal("dlq: dead letters", line_of(text, "there-dlq"))
    end)

    it("without a control byte of the user's reaching the terminal", function()
        local line = "evil\27[2J.lua:1"
        local topics = ffi.new "struct shove_topic[1]"
        topics[0].name, topics[0].at, topics[0].partitions = ffi.cast("char *", "orders"), ffi.cast("char *", line), 1
        local warnings = ffi.new("char *[1]", { ffi.cast("char *", "one\27]0;x\7\127") })
        local text = print_topology(ffi.new("struct shove_topology", {
            topics = topics, topic_count = 1, warnings = warnings, warning_count = 1,
        }))
        assert.is_nil(text:gsub("\n", ""):find "[%c\127]")
        assert.truthy(text:find("evil?[2J.lua:1", 1, true))
        assert.truthy(text:find("one?]0;x??", 1, true))
    end)

    it("even when there is nothing in it", function()
        assert.are.equal("Broker\n  none\n\nTopics\n  none\n\nGroups\n  none: no handler is registered\n",
            print_topology(ffi.new "struct shove_topology"))
    end)
end)
