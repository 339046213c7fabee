-- Where a script lies, and from where it is run: its modules are found beside it all the same.

local uv = require "luv"
local app = require "spec.support.app"
local process = require "spec.support.process"
local tmp = require "spec.support.tmp"

local SCRIPT = [[
local shove = require "shove"
local app = shove.registry { broker = "memory:" }
app:register(app:topic "jobs", {}, require "handlers.jobs")
return app
]]
local FOLDER = tonumber("755", 8)

-- A folder with the script and its modules, and another one that has neither.
local function scene(name)
    local dir = tmp.dir()
    for _, folder in ipairs { "/my apps", "/my apps/handlers", "/elsewhere", "/elsewhere/handlers" } do
        assert(uv.fs_mkdir(dir .. folder, FOLDER))
    end
    tmp.write(dir .. "/my apps/" .. name, SCRIPT)
    tmp.write(dir .. "/my apps/handlers/jobs.lua", "return function() end")
    return dir
end

local function check(dir, cwd, path)
    return process.run { app.bin, "check", path, cwd = dir .. cwd }
end

describe("A script with modules of its own", function()
    for what, row in pairs {
        ["is run from its own folder"] = { "/my apps", "the app.lua" },
        ["is run from another folder"] = { "/elsewhere", "../my apps/the app.lua" },
    } do
        it("finds them when it " .. what, function()
            local result = check(scene "the app.lua", row[1], row[2])
            assert.equal(0, result.code, result.stderr)
            assert.matches(row[2] .. ":3", result.stdout, 1, true)
        end)
    end

    it("may have a space in its path for make, too", function()
        local result = process.run { "make", "-n", "run", "APP=my apps/the app.lua", "ARGS=--workers 1" }
        assert.equal(0, result.code, result.stderr)
        assert.matches('shove run "my apps/the app.lua" --workers 1\n', result.stdout, 1, true)
    end)

    it("finds them when it is a link that is run, and names the link", function()
        local dir = scene "the app.lua"
        assert(uv.fs_symlink("../my apps/the app.lua", dir .. "/elsewhere/link.lua"))
        local result = check(dir, "/elsewhere", "link.lua")
        assert.equal(0, result.code, result.stderr)
        assert.matches("link.lua:3", result.stdout, 1, true)
    end)

    it("takes those beside the link first: a folder of links is a folder", function()
        local dir = scene "app.lua"
        assert(uv.fs_symlink("../my apps/app.lua", dir .. "/elsewhere/app.lua"))
        tmp.write(dir .. "/elsewhere/handlers/jobs.lua", "error 'this one'")
        assert.matches("this one", check(dir, "/elsewhere", "app.lua").stderr, 1, true)
    end)
end)
