-- The command line: commands, options, help, and what wrong usage costs.

local app = require "spec.support.app"
local process = require "spec.support.process"
local tmp = require "spec.support.tmp"

local USAGE, CONFIG = 64, 78

local MINIMAL = [[
local shove = require "shove"
local app = shove.registry { broker = "embedded:./shove.db" }
app:register(app:topic("orders", { hold = { "1s" }, dlq = true }), shove.group {}, function() end)
return app
]]

local COMMANDS = { "run", "check", "publish", "dlq list", "dlq show", "dlq replay", "dlq purge", "poison list", "poison clear" }

local function words(text)
    local list = {}
    for word in text:gmatch "%S+" do list[#list + 1] = word end
    return list
end

local function shove(...)
    return process.run { app.bin, ... }
end

local function assert_usage(result, ...)
    assert.are.equal(USAGE, result.code)
    assert.are.equal("", result.stdout)
    assert.matches("^shove: ", result.stderr)
    for _, text in ipairs { ... } do assert.matches(text, result.stderr, 1, true) end
end

describe("shove", function()
    it("without a command prints its commands on standard error and is wrong usage", function()
        local result = shove()
        assert.are.equal(USAGE, result.code)
        assert.are.equal("", result.stdout)
        assert.matches("publish APP TOPIC", result.stderr, 1, true)
    end)

    it("prints its commands on standard output when asked for help, the hidden one left out", function()
        for _, word in ipairs { "help", "--help", "-h" } do
            local result = shove(word)
            assert.are.equal(0, result.code)
            assert.are.equal("", result.stderr)
            for _, command in ipairs(COMMANDS) do assert.matches("  " .. command .. " APP", result.stdout, 1, true) end
            assert.is_nil(result.stdout:find("worker PATH", 1, true))
            assert.is_nil(result.stdout:find("\n  worker", 1, true))
        end
    end)

    it("prints its version", function()
        for _, word in ipairs { "--version", "-V" } do
            local result = shove(word)
            assert.are.equal(0, result.code)
            assert.matches("^shove %d+%.%d+%.%d+\n$", result.stdout)
        end
    end)

    for _, command in ipairs(COMMANDS) do
        it("explains " .. command .. " alike through 'help " .. command .. "' and --help, wherever that stands", function()
            local line = words(command)
            local by_help = process.run { app.bin, "help", unpack(line) }
            assert.are.equal(0, by_help.code)
            assert.matches("^usage: shove " .. command, by_help.stdout)
            assert.matches("--broker URL", by_help.stdout, 1, true)
            line[#line + 1] = "--help"
            local by_option = process.run { app.bin, unpack(line) }
            assert.are.equal(0, by_option.code)
            assert.are.equal(by_help.stdout, by_option.stdout)
            line[#line] = "no-such-app.lua"
            line[#line + 1] = "-h"
            assert.are.equal(by_help.stdout, process.run({ app.bin, unpack(line) }).stdout)
        end)
    end

    it("lists the commands of dlq when it stands alone with --help", function()
        for _, line in ipairs { { "dlq", "--help" }, { "help", "dlq" } } do
            local result = process.run { app.bin, unpack(line) }
            assert.are.equal(0, result.code)
            assert.matches("dlq replay APP TOPIC", result.stdout, 1, true)
            assert.is_nil(result.stdout:find("publish", 1, true))
        end
    end)

    it("names the commands there are when it does not know one", function()
        assert_usage(shove("tail"), "'tail'",
            "run, check, publish, dlq, poison, status, reload, scale, pause, resume and help")
        assert_usage(shove("relod", "app.lua"), "'relod'", "did you mean 'reload'?")
    end)

    it("suggests the command that was meant", function()
        assert_usage(shove("publsh"), "'publsh'", "did you mean 'publish'?")
        assert_usage(shove("dlq", "relpay"), "'dlq relpay'", "did you mean 'replay'?")
        assert_usage(shove("dlq"), "list, show, replay and purge")
        assert_usage(shove("poison"), "list and clear")
    end)

    it("says that a command comes before options", function()
        assert_usage(shove("--workers", "2", "run"), "'--workers'", "a command comes first")
    end)

    it("fails when what it prints does not arrive", function()
        local result = process.run { "/bin/sh", "-c", app.bin .. " help > /dev/full" }
        assert.are.equal(1, result.code)
        assert.matches("standard output", result.stderr, 1, true)
    end)

    it("keeps its worker command to itself", function()
        assert_usage(shove("worker"), "not by hand")
    end)
end)

describe("options", function()
    it("that do not exist are refused with the one that was meant", function()
        assert_usage(shove("run", "app.lua", "--wokers", "2"), "'--wokers'", "did you mean --workers?")
        assert_usage(shove("publish", "app.lua", "orders", "--haeder=a=b"), "did you mean --header?")
        assert_usage(shove("run", "app.lua", "-x"), "'-x'", "'shove help run'")
    end)

    it("that need a value say so", function()
        assert_usage(shove("run", "app.lua", "--workers"), "--workers", "needs a value: N")
        assert_usage(shove("publish", "app.lua", "orders", "-k"), "-k", "needs a value: KEY")
    end)

    it("that would pass for an addition are taken once", function()
        assert_usage(shove("publish", "app.lua", "orders", "-k", "a", "1", "--key", "b", "2"), "--key is given twice",
            "it takes one KEY")
        for _, name in ipairs { "--reason", "--since", "--key" } do
            assert_usage(shove("dlq", "purge", "app.lua", "orders", name, "1", name, "2"), name .. " is given twice")
        end
        assert_usage(shove("poison", "list", "app.lua", "orders", "--key", "a", "--key", "b"), "--key is given twice")
    end)

    it("that take none say so", function()
        assert_usage(shove("publish", "app.lua", "orders", "--raw=yes"), "--raw", "takes no value")
    end)

    it("with a wrong value are refused with what is allowed", function()
        assert_usage(shove("run", "app.lua", "--workers", "0"), "--workers: '0'", "from 1 to 256")
        assert_usage(shove("run", "app.lua", "--workers", "257"), "--workers: '257'")
        assert_usage(shove("run", "app.lua", "--workers", "2x"), "--workers: '2x'")
        assert_usage(shove("run", "app.lua", "--drain", "soon"), "--drain: 'soon'", '"5s"')
        assert_usage(shove("run", "app.lua", "--drain", "-1"), "--drain: '-1'")
        assert_usage(shove("run", "app.lua", "--connect-timeout", "0"), "--connect-timeout: '0'", "more than 0")
        assert_usage(shove("run", "app.lua", "--worker-memory", "127MiB"), "--worker-memory: '127MiB'", "at least")
        assert_usage(shove("check", "app.lua", "--log", "yaml"), "--log: 'yaml'", "auto, plain or json")
        assert_usage(shove("check", "app.lua", "--log-level", "loud"), "--log-level: 'loud'")
    end)

    it("stand before or after operands", function()
        local a = app.new { source = MINIMAL }
        local after = a:command("check", { "--broker", "embedded:./other.db" })
        local before = process.run { app.bin, "check", "--broker=embedded:./other.db", a.path, cwd = a.dir }
        assert.are.equal(0, after.code)
        assert.matches("embedded:./other.db", after.stdout, 1, true)
        assert.are.equal(after.stdout, before.stdout)
    end)

    it("end at --", function()
        local a = app.new { source = MINIMAL }
        local result = a:command("publish", { "orders", "--", "-5" })
        assert.are.equal(0, result.code, result.stderr)
        assert.matches("acknowledged 1 message to orders", result.stdout, 1, true)
    end)
end)

describe("operands", function()
    it("that are missing are named", function()
        assert_usage(shove("run"), "needs APP")
        assert_usage(shove("publish", "app.lua"), "needs APP TOPIC")
        assert_usage(shove("dlq", "show", "app.lua", "orders"), "PARTITION:OFFSET")
    end)

    it("that are too many are quoted", function()
        assert_usage(shove("run", "app.lua", "other.lua"), "'other.lua'")
    end)
end)

describe("the script", function()
    local AFTER_APP = {
        run = {}, check = {}, publish = { "orders", "{}" }, ["dlq list"] = { "orders" },
        ["dlq show"] = { "orders", "0:0" }, ["dlq replay"] = { "orders" }, ["dlq purge"] = { "orders", "--yes" },
        ["poison list"] = { "orders" }, ["poison clear"] = { "orders" },
    }

    local function with_options(command, ...)
        local options = { ... }
        for _, word in ipairs(AFTER_APP[command]) do table.insert(options, word) end
        return options
    end

    for _, command in ipairs(COMMANDS) do
        it("that does not exist ends " .. command .. " with 78 and its path", function()
            local a = app.new { path = "nowhere/app.lua" }
            local result = a:command(command, with_options(command))
            assert.are.equal(CONFIG, result.code)
            assert.matches("nowhere/app.lua", result.stderr, 1, true)
        end)

        it("that loads for ever ends " .. command .. " with 78 after the load timeout", function()
            local a = app.new { source = "while true do end" }
            local result = a:command(command, with_options(command, "--load-timeout", "300ms"), 20000)
            assert.are.equal(CONFIG, result.code)
            assert.matches("did not finish loading within 0.3 s", result.stderr, 1, true)
            assert.matches("app.lua", result.stderr, 1, true)
        end)
    end

    it("that calls os.exit while it loads is told so", function()
        local result = app.new({ source = "os.exit(0)" }):command "check"
        assert.are.equal(CONFIG, result.code)
        assert.matches("os.exit", result.stderr, 1, true)
    end)

    it("that kills its process while it loads is told so", function()
        local source = [[
            local ffi = require "ffi"
            ffi.cdef "int raise(int);"
            ffi.C.raise(9)
        ]]
        local result = app.new({ source = source }):command "check"
        assert.are.equal(CONFIG, result.code)
        assert.matches("signal 9", result.stderr, 1, true)
    end)
end)

describe("shove's Lua modules", function()
    it("are looked for in SHOVE_LUA_DIR alone when it is set", function()
        local a = app.new { source = MINIMAL }
        local result = a:command("check", { env = { SHOVE_LUA_DIR = a.dir } })
        assert.are.equal(CONFIG, result.code)
        assert.matches("SHOVE_LUA_DIR is '" .. a.dir .. "'", result.stderr, 1, true)
    end)

    it("are found beside an installed program", function()
        local root = tmp.dir()
        local made = process.run {
            "/bin/sh", "-c", ([[
                set -e
                mkdir -p %s/bin %s/share/shove
                cp "$1" %s/bin/shove
                cp -r lua %s/share/shove/lua
            ]]):gsub("%%s", root), "sh", app.bin,
        }
        assert.are.equal(0, made.code, made.stderr)
        local a = app.new { source = MINIMAL }
        local result = process.run {
            root .. "/bin/shove", "check", a.path, cwd = a.dir, env = { SHOVE_LUA_DIR = false },
        }
        assert.are.equal(0, result.code, result.stderr)
    end)

    it("that are nowhere are an error that says where they were looked for", function()
        local root = tmp.dir()
        local program = root .. "/shove"
        assert.are.equal(0, process.run({ "/bin/cp", app.bin, program }).code)
        local result = process.run { program, "check", "app.lua", env = { SHOVE_LUA_DIR = false } }
        assert.are.equal(CONFIG, result.code)
        assert.matches("../share/shove/lua", result.stderr, 1, true)
        assert.matches("SHOVE_LUA_DIR", result.stderr, 1, true)
    end)
end)

describe("a standard descriptor that is closed", function()
    local function publish(redirection)
        local a = app.new { source = MINIMAL }
        return process.run {
            "/bin/sh", "-c", 'exec "$0" publish "$1" orders $2 ' .. redirection, app.bin, a.path,
            redirection == "<&-" and "" or "1", cwd = a.dir,
        }
    end

    it("is not given to the next file: standard input is an error", function()
        local result = publish "<&-"
        assert.are.equal(1, result.code)
        assert.matches("cannot read standard input", result.stderr, 1, true)
    end)

    it("is not given to the next file: standard output is an error", function()
        local result = publish ">&-"
        assert.are.equal(1, result.code)
        assert.matches("cannot write to standard output", result.stderr, 1, true)
    end)

    it("is not given to the next file: standard error is done without", function()
        local result = publish "2>&-"
        assert.are.equal(0, result.code)
        assert.matches("acknowledged 1 message", result.stdout, 1, true)
    end)
end)
