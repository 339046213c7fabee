-- shove run --watch.

local uv = require "luv"
local assert = require "luassert"
local app = require "spec.support.app"
local reloads = require "spec.support.reloads"
local steered = require "spec.support.steered"
local tmp = require "spec.support.tmp"

local WAIT_MS = 20000

local rewrite, status = reloads.rewrite, reloads.status

describe("--watch", function()
    -- The script is s.dir .. "/app.lua", laid out by `lay(s)`, which may move it elsewhere.
    local function linked(lay)
        local s = steered.new { url = steered.brokers[1].url, partitions = 4,
            extra = [[local word = require "mod"; verbs.say = function(msg) write(msg, word) end]] }
        lay(s)
        reloads.run(s, "--watch")
        return s
    end

    local function watched()
        return linked(function(s) tmp.write(s.dir .. "/mod.lua", "return 'one'") end)
    end

    -- Until it is that generation, whose word a message is marked with.
    local function says(s, generation, name, word)
        s.p:wait_for("reloaded: .*generation=" .. generation, WAIT_MS)
        s:publish { name .. " say" }
        s:wait(word, { name })
    end

    -- As long as a change waits for others, by another app.
    local function let_settle()
        local clock = watched()
        rewrite(clock, "-later")
        clock.p:wait_for("reloaded: ", WAIT_MS)
        return clock
    end

    it("reloads when the script changes, however often it is written", function()
        local s = watched()
        for i = 1, 5 do rewrite(s, "-" .. i) end
        s.p:wait_for("reloaded: .*generation=2 +why=\"a file has changed\"", WAIT_MS)
        s:publish { "a" }
        s:wait("ended", { "a-5" })
        assert.equal(2, status(s).generation)
        assert.equal(0, (app.drain(s.p)), s.p:transcript())
    end)

    it("reloads when a module is written beside and renamed over the old one, and not for another file", function()
        local s = watched()
        tmp.write(s.dir .. "/notes.txt", "nothing to do with it")
        tmp.write(s.dir .. "/mod.lua.new", "return 'two'")
        assert(uv.fs_rename(s.dir .. "/mod.lua.new", s.dir .. "/mod.lua"))
        says(s, 2, "a", "two")
        tmp.write(s.dir .. "/mod.lua", "return 'three'")
        says(s, 3, "b", "three")
        assert.equal(3, status(s).generation)
        assert.equal(0, (app.drain(s.p)), s.p:transcript())
    end)

    it("goes on after a mistake, also one in a module that was never loaded; once mended, other files do not matter", function()
        local s = watched()
        tmp.write(s.dir .. "/fresh.lua", "return =")
        rewrite(s, "-new", "local app =", 'require "fresh" local app =')
        s.p:wait_for("the reload failed, .*fresh.lua:1", WAIT_MS)
        tmp.write(s.dir .. "/fresh.lua", "return {}")
        s.p:wait_for("reloaded: .*generation=2", WAIT_MS)
        s:publish { "a" }
        s:wait("ended", { "a-new" })
        tmp.write(s.dir .. "/other.lua", "return =")
        local clock = let_settle()
        s.p:mark()
        rewrite(s, "-newer")
        s.p:wait_for("reloaded: ", WAIT_MS)
        s:publish { "b" }
        s:wait("ended", { "b-newer" })
        assert.equal(3, status(s).generation)
        assert.equal(0, (app.drain(clock.p)), clock.p:transcript())
        assert.equal(0, (app.drain(s.p)), s.p:transcript())
    end)

    local function link(target, path)
        assert(uv.fs_symlink(target, path .. ".new"))
        assert(uv.fs_rename(path .. ".new", path))
    end

    it("reloads when what a chain of links leads to is written, and when one of them leads elsewhere", function()
        local s = linked(function(s)
            local elsewhere = tmp.dir()
            for _, name in ipairs { "one", "two" } do
                assert(uv.fs_mkdir(s.dir .. "/" .. name, tonumber("755", 8)))
                tmp.write(s.dir .. "/" .. name .. "/app.lua", s.source)
                tmp.write(s.dir .. "/" .. name .. "/mod.lua", ("return %q"):format(name))
            end
            link("one", s.dir .. "/current") -- a folder, by a path from where the link is
            link(s.dir .. "/current/app.lua", elsewhere .. "/middle.lua")
            assert(uv.fs_unlink(s.app.path))
            link(elsewhere .. "/middle.lua", s.app.path)
        end)
        s:publish { "a say" }
        s:wait("one", { "a" })
        tmp.write(s.dir .. "/one/mod.lua", "return 'uno'")
        says(s, 2, "b", "uno")
        link("two", s.dir .. "/current")
        says(s, 3, "c", "two")
        rewrite(s, "-new") -- through the links
        s.p:wait_for("reloaded: .*generation=4", WAIT_MS)
        s:publish { "d" }
        s:wait("ended", { "d-new" })
        assert.equal(4, status(s).generation)
        assert.equal(0, (app.drain(s.p)), s.p:transcript())
    end)

    it("reloads when a folder is moved away and another put in its place, and when a file of that one is written", function()
        local function folder(s, name, word)
            assert(uv.fs_mkdir(s.dir .. "/" .. name, tonumber("755", 8)))
            tmp.write(s.dir .. "/" .. name .. "/word.lua", ("return %q"):format(word))
        end
        local s = linked(function(s)
            folder(s, "lib", "one")
            tmp.write(s.dir .. "/mod.lua", "return require 'lib.word'")
        end)
        folder(s, "next", "two")
        assert(uv.fs_rename(s.dir .. "/lib", s.dir .. "/former"))
        assert(uv.fs_rename(s.dir .. "/next", s.dir .. "/lib"))
        says(s, 2, "a", "two")
        tmp.write(s.dir .. "/lib/word.lua", "return 'three'")
        says(s, 3, "b", "three")
        s.p:mark()
        assert(uv.fs_rename(s.dir .. "/lib", s.dir .. "/gone"))
        s.p:wait_for("the reload failed, .*lib.word", WAIT_MS)
        assert(uv.fs_rename(s.dir .. "/former", s.dir .. "/lib"))
        says(s, 4, "c", "one")
        assert.equal(0, (app.drain(s.p)), s.p:transcript())
    end)

    it("does not take what is called like its folder for the folder", function()
        local s = linked(function(s)
            assert(uv.fs_mkdir(s.dir .. "/lib", tonumber("755", 8)))
            tmp.write(s.dir .. "/lib/word.lua", "return 'one'")
            tmp.write(s.dir .. "/mod.lua", "return require 'lib.word'")
        end)
        tmp.write(s.dir .. "/lib/new", "")
        assert(uv.fs_rename(s.dir .. "/lib/new", s.dir .. "/lib/lib"))
        local clock = let_settle()
        assert.equal(1, status(s).generation)
        for _, each in ipairs { s, clock } do assert.equal(0, (app.drain(each.p)), each.p:transcript()) end
    end)

    it("reloads when Kubernetes swaps a ConfigMap, and what was wrong in it is mended in place or by the next one", function()
        local function version(s, name, word)
            local folder = s.dir .. "/" .. name
            assert(uv.fs_mkdir(folder, tonumber("755", 8)))
            tmp.write(folder .. "/app.lua", s.source)
            tmp.write(folder .. "/mod.lua", word)
        end
        local s = linked(function(s)
            version(s, "..1", "return 'one'")
            link("..1", s.dir .. "/..data")
            for _, name in ipairs { "app.lua", "mod.lua" } do link("..data/" .. name, s.dir .. "/" .. name) end
        end)
        version(s, "..2", "return =")
        link("..2", s.dir .. "/..data")
        s.p:wait_for("the reload failed, .*mod.lua:1", WAIT_MS)
        tmp.write(s.dir .. "/..2/mod.lua", "return 'two'")
        s.p:wait_for("reloaded: .*generation=2", WAIT_MS)
        version(s, "..3", "return =")
        s.p:mark()
        link("..3", s.dir .. "/..data")
        s.p:wait_for("the reload failed, .*mod.lua:1", WAIT_MS)
        version(s, "..4", "return 'four'")
        link("..4", s.dir .. "/..data")
        says(s, 3, "a", "four")
        assert.equal(0, (app.drain(s.p)), s.p:transcript())
    end)
end)
