-- One app on several brokers: everything of a topic is where the topic is, and a broker in trouble is alone in it.

local cjson = require "cjson"
local uv = require "luv"
local app = require "spec.support.app"
local driver = require "spec.transport.driver"
local http = require "spec.support.http"
local kafka = require "spec.support.kafka"
local kafka_mock = require "spec.unit.transport.kafka_mock"
local stage = require "spec.support.stage"
local tmp = require "spec.support.tmp"
local wait = require "spec.support.wait"

local WAIT_MS = 20000
local records_of = driver.records_of

local HEAD = [[
local shove, stage = require "shove", require "stage"
local app = shove.registry { broker = stage.broker }
local name = stage.name
]]

-- The stage's broker is an embedded one; %OTHER% in the source is the other broker's address.
local function new(source, other)
    local s = stage.new("embedded", "")
    s.other = other or "embedded:" .. s.dir .. "/other.db"
    tmp.write(s.app.path, (HEAD .. source .. "\nreturn app\n"):gsub("%%OTHER%%", function() return s.other end))
    return s
end

local function rewrite(s, source)
    tmp.write(s.app.path, (HEAD .. source .. "\nreturn app\n"):gsub("%%OTHER%%", function() return s.other end))
end

-- The numbers that stand in payloads, each once, ascending, as text.
local function numbers(records)
    local seen, list = {}, {}
    for _, record in ipairs(records) do
        local n = tonumber(record.payload:match "%d+")
        if not seen[n] then table.insert(list, n) end
        seen[n] = true
    end
    table.sort(list)
    return table.concat(list, " ")
end

local function range(first, last, is_wanted)
    local list = {}
    for n = first, last do
        if is_wanted(n) then table.insert(list, { payload = tostring(n) }) end
    end
    return numbers(list)
end

local RELAY = [[
-- A static member: one that is killed and comes back has its partitions at once.
local kafka = ("%OTHER%"):find "^kafka" and { ["group.instance.id"] = "one" } or nil
local there = app:topic(name "there", {
  broker = { url = "%OTHER%", kafka = kafka }, hold = { "20ms" }, dlq = true, partitions = 2,
})
local here = app:topic(name "here", { hold = { "20ms" }, dlq = true, partitions = 2 })
local back = app:topic(name "back", { partitions = 2 })
app:register(here, { prefetch = 5, concurrent = true }, function(msg)
  stage.note(msg)
  if msg.body % 3 == 0 and msg.retry_count == 0 then return shove.retry "not yet" end
  assert(shove.publish(there, msg.body))
end)
app:register(there, { prefetch = 5, concurrent = true }, function(msg)
  stage.note(msg)
  if msg.body % 5 == 0 then return shove.reject "five" end
  if msg.body % 4 == 0 and msg.retry_count == 0 then return shove.retry "not yet" end
  assert(shove.publish(name "back", msg.body))
end)
app:register(back, {}, function(msg) stage.note(msg) end)
]]

local COUNT = 60

for kind, other in pairs { ["an embedded file"] = function() end, Kafka = function() return kafka.shared().url end } do
    describe("An app on an embedded file and on " .. kind, function()
        it("keeps messages, retries and dead letters where their topic is, and loses nothing when it is killed", function()
            local s = new(RELAY, other())
            local lines = {}
            for n = 1, COUNT do lines[n] = tostring(n) end
            s:publish("here", { lines = lines })
            local p = s:run { "--workers", "1" }
            s:wait_calls(10, { queue = "there" })
            p:kill "sigkill"
            p:wait_exit(WAIT_MS)
            s:run { "--workers", "1" }
            local function is_good(n) return n % 5 ~= 0 end
            wait.until_true(function()
                return numbers(s:calls { queue = "back" }) == range(1, COUNT, is_good)
            end, WAIT_MS, "all messages to come back")
            wait.until_true(function()
                return numbers(records_of(s.other, s:name "there" .. "-dlq")) == range(1, COUNT, function(n)
                    return n % 5 == 0
                end)
            end, WAIT_MS, "all dead letters")
            stage.drain(s.process)
            for url, queues in pairs { [s.url] = { "here", "back" }, [s.other] = { "there" } } do
                for _, queue in ipairs { "here", "there", "back" } do
                    local is_here = queue == queues[1] or queue == queues[2]
                    assert.equal(is_here, records_of(url, s:name(queue)) ~= nil, queue .. " on " .. url)
                    assert.equal(is_here and queue ~= "back", records_of(url, s:name(queue, "-hold-20ms")) ~= nil)
                end
            end
            assert.equal(range(1, COUNT, function(n) return n % 4 == 0 and n % 5 ~= 0 end),
                numbers(records_of(s.other, s:name("there", "-hold-20ms"))))
            assert.equal(range(1, COUNT, function(n) return n % 3 == 0 end),
                numbers(records_of(s.url, s:name("here", "-hold-20ms"))))
        end)
    end)
end

describe("A broker of several", function()
    it("that cannot be reached at the start is named, and the exit code is 69", function()
        local s = new([[app:topic(name "there", { broker = "%OTHER%" }); app:topic(name "here")]], "kafka://127.0.0.1:1")
        local p = s:run { "--connect-timeout", "500ms" }
        assert.equal(69, (p:wait_exit(WAIT_MS)), p:transcript())
        assert.matches("broker 'kafka://127%.0%.0%.1:1': ", p:text "stderr")
    end)

    it("that goes away is told of by name, stops nothing on the others, and is waited for", function()
        local mock = kafka_mock.start()
        local s = new([[
            local there = app:topic(name "there", { external = true, broker = { url = "%OTHER%", kafka = {
                ["queue.buffering.max.messages"] = 1, ["reconnect.backoff.max.ms"] = 100 } } })
            local here = app:topic(name "here", { partitions = 1 })
            app:register(there, { group_id = "same" }, function(msg) stage.note(msg) end)
            app:register(here, { prefetch = 20, concurrent = true, group_id = "same" }, function(msg)
              if msg.body == "there" then
                stage.note(msg)
                assert(shove.publish(there, msg.body))
              else
                assert(shove.publish(name "end", msg.body))
              end
            end)
            app:register(app:topic(name "end", { partitions = 1 }), {}, function(msg) stage.note(msg) end)
            app:autoscale { strategy = function() end }
        ]], mock.url)
        mock:create(s:name "there", 1)
        mock:join_at_once()
        local p = s:run { "--workers", "1", "--listen", "0" }
        local port = http.port_of(p)
        local function ready() return http.request(port, "/readyz").body end
        wait.until_true(function() return ready() == "ready\n" end, WAIT_MS, "readiness")
        mock:set_down()
        p:wait_for("no broker of .* can be reached, trying on", WAIT_MS)
        assert.equal(("broker '%s' cannot be reached\n"):format(mock.url), ready())
        local status = s:command("status").stdout
        assert.truthy(status:find(mock.url .. " (cannot be reached)", 1, true), status)
        assert.truthy(status:find("same +joined [^\n]*" .. mock.url:gsub("%p", "%%%0")), status)
        -- More than its client has room for, so that some wait in control.
        s:publish("here", { lines = { '"there"', '"there"', '"there"' } })
        s:wait_calls(3, { queue = "here" })
        s:publish("here", { lines = { '"end"', '"end"' } })
        s:wait_calls(2, { queue = "end" })
        local metrics = http.request(port, "/metrics").body
        for _, url in ipairs { s.url, mock.url } do
            assert.truthy(metrics:find(('shove_consumers{consumer_group="same",broker="%s"} 1\n'):format(url), 1, true))
        end
        local series = {}
        for one in metrics:gmatch "\n(shove_%S+) " do
            assert.is_nil(series[one], one)
            series[one] = true
        end
        assert.truthy(metrics:find(('backend="kafka",kind="EUNREACHABLE",broker="%s"} '):format(mock.url), 1, true))
        assert.equal(0, #s:calls { queue = "there" })
        mock:set_up()
        s:wait_calls(3, { queue = "there" })
        wait.until_true(function() return ready() == "ready\n" end, WAIT_MS, "readiness again")
        stage.drain(p)
    end)

    it("that goes away leaves the memory of the workers to the others, however much waits to be stored in it", function()
        local mock = kafka_mock.start()
        local s = new([[
            local there = app:topic(name "there", { external = true, dlq = true, codec = "raw", broker = "%OTHER%" })
            app:register(there, { prefetch = 2000, concurrent = true }, function(msg)
              stage.write '{"queue":"there"}\n'
              while not require "luv".fs_stat("gate") do shove.sleep "20ms" end
              return shove.reject
            end)
            app:register(app:topic(name "here", { partitions = 1, codec = "raw" }), {}, function()
              stage.write '{"queue":"here"}\n'
            end)
        ]], mock.url)
        mock:create(s:name "there", 30) -- it keeps 5 MB of each partition
        mock:create(s:name("there", "-dlq"), 1)
        mock:join_at_once()
        local p = s:run { "--workers", "1" }
        p:wait_for("partitions assigned.*topic=" .. s:pattern "there", WAIT_MS)
        local big, records = ("x"):rep(512 * 1024), {}
        for n = 1, 150 do records[n] = { payload = big, partition = n % 30 } end
        local t = assert(driver.open(mock.url))
        t:publish(s:name "there", records)
        t:close()
        s:wait_calls(60, { queue = "there" }) -- 64 MiB hold hardly more
        mock:set_down()
        p:wait_for("no broker of .* can be reached, trying on", WAIT_MS)
        tmp.write(s.dir .. "/gate", "")
        s:publish("here", { lines = { big } })
        s:wait_calls(1, { queue = "here" })
        p:kill "sigkill"
        p:wait_exit(WAIT_MS)
    end)

    it("whose file is taken away ends its groups alone; the others go on, and the exit code is 1", function()
        local s = new([[
            for _, queue in ipairs { "there", "here" } do
              local topic = app:topic(name(queue), { broker = queue == "there" and "%OTHER%" or nil, partitions = 1 })
              app:register(topic, {}, function(msg) stage.note(msg) end)
            end]])
        local p = s:run { "--workers", "1" }
        p:wait_for("partitions assigned.*topic=" .. s:pattern "there", WAIT_MS)
        stage.drain(p) -- with its positions committed: a commit that fails would be tried again for seconds
        p = s:run { "--workers", "1" }
        p:wait_for("partitions assigned.*topic=" .. s:pattern "there", WAIT_MS)
        assert(uv.fs_unlink(s.dir .. "/other.db"))
        assert(uv.fs_unlink(s.dir .. "/other.db-groups")) -- which is watched
        p:wait_for("a consumer group stopped.*topic=" .. s:pattern "there", WAIT_MS)
        s:publish("here", { "1" })
        s:wait_calls(1, { queue = "here" })
        stage.drain(p, 1)
    end)

    it("has its holds of earlier runs read, whatever the same name is on another", function()
        local s = new([[
            app:register(app:topic(name "there", { broker = "%OTHER%", hold = { "1s" }, partitions = 1 }), {}, function(msg)
              stage.note(msg)
              return shove.retry
            end)]])
        s:publish("there", { "1" })
        local p = s:run { "--workers", "1" }
        s:wait_calls(1)
        wait.until_true(function() return #records_of(s.other, s:name("there", "-hold-1s")) == 1 end, WAIT_MS, "the retry")
        stage.drain(p)
        rewrite(s, [[
            app:register(app:topic(name "there", { broker = "%OTHER%", partitions = 1 }), {}, function(msg)
              stage.note(msg)
            end)
            app:topic(name "there" .. "-hold-1s")]])
        p = s:run { "--workers", "1" }
        assert.equal(1, s:wait_calls(2)[2].retry_count)
        stage.drain(p)
    end)
end)

describe("The commands, of an app on several brokers,", function()
    local TWINS = [[
        for _, queue in ipairs { "there", "here" } do
          local topic = app:topic(name(queue), { broker = queue == "there" and "%OTHER%" or nil, dlq = "dead", partitions = 1 })
          app:register(topic, { group_id = "twins" }, function(msg) stage.note(msg); return shove.reject(queue) end)
        end]]

    it("go where the topic is, and say when a name could be on either", function()
        local s = new(TWINS)
        local p = s:run { "--workers", "1" }
        s:publish("there", { "1", "2" })
        s:publish("here", { "3" })
        s:wait_calls(3)
        local paused = s:command("pause", { "twins" })
        assert.equal(1, paused.code, paused.stderr)
        assert.truthy(paused.stderr:find(("a group 'twins' on '%s' and another on '%s'"):format(s.url, s.other), 1, true)
            or paused.stderr:find(("a group 'twins' on '%s' and another on '%s'"):format(s.other, s.url), 1, true))
        local groups = cjson.decode(s:command("status", { "--json" }).stdout)[1].groups
        assert.same({ s.other, s.url }, { groups[1].broker, groups[2].broker })
        stage.drain(p)
        for queue, expected in pairs { there = "1 2", here = "3" } do
            local list = s:command("dlq list", { s:name(queue), "--json" })
            local letters = {}
            for line in list.stdout:gmatch "[^\n]+" do
                assert.equal(s:name(queue), cjson.decode(line).original_queue)
                table.insert(letters, line)
            end
            assert.equal(select(2, expected:gsub("%d", "")), #letters, list.stdout)
        end
        local either = s:command("dlq list", { "dead" })
        assert.equal(64, either.code)
        assert.matches("'dead' is a DLQ on several brokers: name its queue", either.stderr, 1, true)
        assert.equal(0, s:command("dlq replay", { s:name "there" }).code)
        p = s:run { "--workers", "1" }
        s:wait_calls(4, { queue = "there" })
        stage.drain(p)
        assert.equal(1, #s:calls { queue = "here" })
    end)
end)

describe("Groups of the same id on two brokers", function()
    it("are scaled each by its own strategy's word, and told apart in the log and by shove check", function()
        local s = new([[
            for _, queue in ipairs { "here", "there" } do
              local topic = app:topic(name(queue), { broker = queue == "there" and "%OTHER%" or nil, partitions = 3 })
              app:register(topic, { group_id = "twins", consumers = { min = 1, max = 3 } }, function(msg) stage.note(msg) end)
            end
            app:autoscale { poll = "100ms", cooldown = "1ms", hysteresis = "1h", strategy = function(group)
              return group.broker == "%OTHER%" and 3 or "stay"
            end }]])
        local check = s:command("check", {})
        assert.equal(0, check.code, check.stderr)
        local _, groups = check.stdout:match "^(.*)\nGroups\n(.*)$"
        assert.matches("BROKER", groups, 1, true)
        assert.matches("twins +" .. s:name "here" :gsub("%p", "%%%0") .. " .* " .. s.url:gsub("%p", "%%%0") .. " ", groups)
        assert.matches("twins +" .. s:name "there" :gsub("%p", "%%%0") .. " .* " .. s.other:gsub("%p", "%%%0") .. " ", groups)
        local p = s:run { "--workers", "1" }
        p:wait_for("consumers were added", WAIT_MS)
        stage.drain(p)
        local text = p:text "stderr"
        for line in text:gmatch "[^\n]*consumers were added[^\n]*" do assert.matches("broker=" .. s.other, line, 1, true) end
        for _, url in ipairs { s.url, s.other } do
            assert.matches("partitions assigned[^\n]* broker=" .. url:gsub("%p", "%%%0"), text)
            assert.matches("partitions being given up[^\n]* broker=" .. url:gsub("%p", "%%%0"), text)
        end
    end)
end)

describe("A reload of an app on several brokers", function()
    local FIRST = [[
        app:register(app:topic(name "here", { partitions = 1 }), {}, function(msg) stage.note(msg) end)
        app:register(app:topic(name "there", { broker = "%OTHER%", partitions = 1 }), {}, function(msg) stage.note(msg) end)
    ]]

    it("takes a new topic on one of them, and refuses a broker that is new, gone, or another one for a topic", function()
        local s = new(FIRST)
        local p = s:run { "--workers", "1" }
        p:wait_for("running", WAIT_MS)
        for words, source in pairs {
            ["is new, and connections are made at the start: restart shove"] =
                FIRST .. [[app:topic(name "far", { broker = "memory:" })]],
            ["no topic is on the broker"] = [[app:topic(name "here", { partitions = 1 })]],
            ["broker has changed: restart shove"] =
                FIRST:gsub('"here", { ', '"here", { broker = "%%OTHER%%", ') .. [[app:topic(name "more")]],
        } do
            rewrite(s, source)
            local reload = s:command "reload"
            assert.equal(1, reload.code, reload.stderr)
            assert.matches(words, reload.stderr, 1, true)
        end
        rewrite(s, FIRST .. [[
            app:register(app:topic(name "new", { broker = "%OTHER%", partitions = 1 }), {}, function(msg) stage.note(msg) end)]])
        local reload = s:command "reload"
        assert.equal(0, reload.code, reload.stderr)
        s:publish("new", { "1" })
        s:publish("there", { "1" })
        s:wait_calls(1, { queue = "new" })
        s:wait_calls(1, { queue = "there" })
        assert.is_nil(records_of(s.url, s:name "new"))
        assert.equal(0, (app.drain(p)), p:transcript())
    end)

    it("refuses new topics on one that is away, at once", function()
        local mock = kafka_mock.start()
        local source = [[
            local broker = { url = "%OTHER%", kafka = { ["reconnect.backoff.max.ms"] = 100 } }
            app:register(app:topic(name "here", { partitions = 1 }), {}, function(msg) stage.note(msg) end)
            app:topic(name "there", { external = true, broker = broker })
        ]]
        local s = new(source, mock.url)
        mock:create(s:name "there", 1)
        local p = s:run { "--workers", "1" }
        p:wait_for("running", WAIT_MS)
        mock:set_down()
        p:wait_for("no broker of .* can be reached, trying on", WAIT_MS)
        rewrite(s, source .. [[app:topic(name "new", { external = true, broker = broker })]])
        local began = uv.hrtime()
        local reload = s:command "reload"
        assert.is_true(uv.hrtime() - began < 10e9)
        assert.equal(1, reload.code, reload.stderr)
        assert.matches(("broker '%s': the broker cannot be reached, and the app has new topics there"):format(mock.url),
            reload.stderr, 1, true)
        s:publish("here", { "1" })
        s:wait_calls(1, { queue = "here" })
        stage.drain(p)
    end)
end)
