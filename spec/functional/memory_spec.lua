-- A worker's memory is limited, and a handler that needs more loses its own message's attempt, cleanly.

local hostile = require "spec.support.hostile"
local rig = require "spec.unit.worker.rig"
local tmp = require "spec.support.tmp"

local LIMIT = { "--worker-memory", "128MiB" }

-- Each needs more than there is, in its own way.
local GREEDY = {
    ["one-string"] = "local s = 'x' while true do s = s .. s end",
    ["four-gigabytes"] = "local s = ('x'):rep(2 ^ 31 - 100) return s .. s",
    ["many-strings"] = "local t = {} for i = 1, 1e9 do t[i] = ('x'):rep(1000) .. i end",
    ["one-table"] = "local t = {} for i = 1, 1e9 do t[i] = i end",
    ["many-tables"] = "local t = {} while true do t = { t, {}, {}, {} } end",
    ["many-coroutines"] = "local t = {} while true do t[#t + 1] = coroutine.create(print) end",
    ["many-closures"] = "local t = {} while true do local n = #t t[n + 1] = function() return n end end",
    ["cdata"] = "local t = {} while true do t[#t + 1] = ffi.new('char[?]', 1000000) end",
    ["concat"] = "local t = {} for i = 1, 1000 do t[i] = ('y'):rep(1000000) end return #table.concat(t)",
    ["gsub"] = "return #(('x'):rep(1e6):gsub('.', ('y'):rep(1000)))",
    ["format"] = "local s = ('x'):rep(1e7) while true do s = string.format('%s%s', s, s) end",
    ["reason"] = "return shove.reject(('x'):rep(1e8) .. ('y'):rep(1e8))",
    ["caught"] = "local ok, text = pcall(function() local s = 'x' while true do s = s .. s end end) error(text)",
}

local function handler_of(kinds)
    local body = {}
    for kind, source in pairs(kinds) do table.insert(body, ("if kind == %q then %s end"):format(kind, source)) end
    return table.concat(body, "\n")
end

local function names_of(kinds)
    local names = {}
    for name in pairs(kinds) do table.insert(names, name) end
    table.sort(names)
    return names
end

-- What a process may have as data, in bytes.
local function data_limit(pid)
    return tmp.read(("/proc/%d/limits"):format(pid)):match "Max data size%s+(%S+)"
end

describe("a worker's memory", function()
    rig.it_limited("is limited to 2 GiB when nothing is said, and to --worker-memory", function()
        for limit, arguments in pairs { ["2147483648"] = {}, ["134217728"] = LIMIT } do
            local s = hostile.new { broker = "embedded", handler = "" }
            local p = s:run(unpack(arguments))
            p:wait_for("running", 10000)
            assert.are.equal(limit, data_limit(p:children()[1]))
            -- Control is not a worker.
            assert.are.equal("unlimited", data_limit(p.pid))
        end
    end)

    rig.it_limited("is what a handler finds used up in the middle: not enough memory costs its message, and the process goes on",
        function()
            local s = hostile.new { broker = "embedded", handler = handler_of(GREEDY), group = "max_retries = 0" }
            local names = names_of(GREEDY)
            s:publish("bad", names, "dead")
            s:publish_good(60)
            local p = s:run(unpack(LIMIT))
            assert.are.equal(0, s:finish(p, 60000), p:transcript())
            local pids = {}
            for _, name in ipairs(names) do
                local dead = s:lines_of(name, "dead")[1]
                assert.are.equal("max_retries_exceeded", dead.reason, name)
                assert.matches("not enough memory", dead.error, 1, true)
                pids[dead.pid] = true
            end
            assert.is_nil(next(pids, (next(pids))), "one process handled them all")
        end)

    rig.it_limited("that is used up inside lua-cjson ends the process: that is a crash of the message", function()
        local s = hostile.new { broker = "embedded", group = "max_crashes = 2",
            handler = "if kind == 'culprit' then return encode { ('x'):rep(3e7), ('y'):rep(3e7) } end" }
        s:publish("bad", { "culprit" }, "dead")
        s:publish_good(20)
        local p = s:run(unpack(LIMIT))
        assert.are.equal(2, s:finish(p), p:transcript())
        local letter = s:dead_letters().culprit
        assert.are.equal("crashed", letter.reason)
        assert.matches("exit code 255", letter.error, 1, true)
    end)
end)

-- Each message keeps a little for ever.
local LEAKS = {
    ["large strings"] = "for i = 1, 5 do kept[#kept + 1] = ('x'):rep(1000000) .. #kept end",
    ["small tables"] = "for i = 1, 50000 do kept[#kept + 1] = {} end",
    ["messages, with their bodies"] = "local b = msg.payload .. ('x'):rep(5e6) kept[#kept + 1] = { msg, b }",
}

describe("a script that leaks", function()
    for what, handler in pairs(LEAKS) do
        rig.it_limited(what .. " has its process replaced when too little is left; others lose nothing", function()
            -- Handlers of a process share its memory: where one has used it up, another may fail for want of a little.
            local s = hostile.new { broker = "embedded", top = "local kept = {}", handler = handler,
                group = "max_retries = 3", good_retries = 3 }
            local payloads = {}
            for i = 1, 70 do payloads[i] = "leak " .. i end
            s:publish("bad", payloads, "acked")
            s:publish_good(60)
            local p = s:run(unpack(LIMIT))
            assert.are.equal(2, s:finish(p, 60000), p:transcript())
            assert.matches("what the script keeps leaves less than a quarter of a worker's memory", p:text "stderr", 1, true)
            assert.is_nil(p:text("stderr"):find("outcome=crashed", 1, true), "nobody is to blame")
        end)
    end
end)

