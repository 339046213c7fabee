-- The manual and the program's own help name the same commands and options; the README names none that is not there.

local app = require "spec.support.app"
local process = require "spec.support.process"
local tmp = require "spec.support.tmp"

local COMMANDS = { "run", "check", "publish", "dlq list", "dlq show", "dlq replay", "dlq purge", "poison list",
    "poison clear", "status", "reload", "scale", "pause", "resume" }

local function help_of(command)
    local line = { app.bin, "help" }
    for word in command:gmatch "%S+" do line[#line + 1] = word end
    return process.run(line).stdout
end

-- Set of the long options of all commands, as their help lists them; where -k is short for --key, both.
local function options_of_help()
    local found = {}
    for _, command in ipairs(COMMANDS) do
        for short, long in help_of(command):gmatch "\n  ( ?%-?%a?,? ?)%s*%-%-([%l-]+)" do
            found["--" .. long] = true
            if short:find "%a" then found[short:match "%-%a"] = true end
        end
    end
    return found
end

-- Set of the options that the manual describes, in its lists.
local function options_of_manual()
    local found = {}
    for line in tmp.read("man/shove.1"):gmatch "\n%.It ([^\n]*)" do
        for long in line:gmatch "Fl Fl ([%l-]+)" do found["--" .. long] = true end
        for short in line:gmatch "Fl (%a) ," do found["-" .. short] = true end
    end
    return found
end

local function sorted(set)
    local list = {}
    for name in pairs(set) do list[#list + 1] = name end
    table.sort(list)
    return list
end

describe("The manual", function()
    it("describes every option of every command, and no other", function()
        local manual = options_of_manual()
        for line in tmp.read("man/shove.1"):gmatch "\n%.Fl ([^\n]*)" do -- in a sentence: -a , Fl Fl all
            for long in line:gmatch "Fl Fl ([%l-]+)" do manual["--" .. long] = true end
            local short = line:match "^(%a) ,"
            if short then manual["-" .. short] = true end
        end
        manual["--version"] = nil
        assert.same(sorted(options_of_help()), sorted(manual))
    end)

    it("has a line of usage for every command", function()
        local manual = tmp.read "man/shove.1"
        for _, command in ipairs(COMMANDS) do assert.matches("\n.Cm " .. command .. "\n", manual, 1, true) end
    end)
end)

describe("The README", function()
    it("names no option that is not there", function()
        local known = options_of_help()
        local text = tmp.read "README.md"
        local count = 0
        for line in text:gmatch "[^\n]*shove[^\n]*" do
            for option in line:gmatch "[`%s](%-%-[%l-]+)" do
                assert.is_true(known[option], option .. " in: " .. line)
                count = count + 1
            end
        end
        assert.is_true(count > 10)
    end)
end)
