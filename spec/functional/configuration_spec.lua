-- Every mistake in a configuration, through the program: 78, the script's own line, and nothing is run or made.

local uv = require "luv"
local app = require "spec.support.app"
local process = require "spec.support.process"
local refusals = require "spec.support.refusals"

local CONFIG = 78

-- Rows of spec/support/refusals.lua that are run as well as checked.
local LISTED = {
    "more consumers at least than at most", "no consumers at most", "a prefetch of zero", "a handler timeout of zero",
    "a negative handler timeout", "a hold of zero", "a negative hold", "a replication factor of zero",
    "the same topic registered twice", "register on a sequenced topic", "an option of the registry as a method",
    "an unknown option of a registry", "an unknown option of a topic", "an unknown option of a group",
    "a dlq that is its own queue", "a sequenced topic without a dlq", "a sequenced topic without a hold",
}

local PRELUDE = 'local shove = require "shove"; local app = shove.registry { broker = "embedded:./queue.db" }\n'

local function names_in(dir)
    local names = {}
    local scan = assert(uv.fs_scandir(dir))
    for name in function() return uv.fs_scandir_next(scan) end do table.insert(names, name) end
    return names
end

local function assert_refused(command, row)
    local a = app.new { source = PRELUDE .. row[2] .. "\nreturn app\n" }
    a.path = "app.lua" -- it runs beside it
    local result = a:command(command)
    assert.are.equal(CONFIG, result.code, result.stderr)
    assert.are.equal("", result.stdout)
    assert.are.equal(1, select(2, result.stderr:gsub("\n", "")), "one line: " .. result.stderr)
    assert.are.equal(row[3], result.stderr:match "^shove: (.*)\n$" or result.stderr:match " error control: (.*)\n$")
    assert.are.same({ "app.lua" }, names_in(a.dir))
    assert.are.same({}, process.orphans())
end

describe("shove check refuses", function()
    for _, row in ipairs(refusals) do
        it(row[1] .. ", at the script's own line", function() assert_refused("check", row) end)
    end
end)

describe("shove run refuses", function()
    local by_name = {}
    for _, row in ipairs(refusals) do by_name[row[1]] = row end
    for _, name in ipairs(LISTED) do
        it(name .. ", at the script's own line, before anything runs", function()
            assert_refused("run", assert(by_name[name], "there is no mistake named " .. name))
        end)
    end
end)
