-- The README's configuration tables name what the library takes, and what it does without being told.

local group = require "shove.group"
local script = require "spec.lua.script"

local function read(path)
    local file = assert(io.open(path))
    local text = file:read "*a"
    file:close()
    return text
end

-- Rows of the table below `heading`: list of { names = { ... }, defaults = { ... } }, the last column left out.
local function rows_below(heading)
    local section = read("README.md"):match(heading:gsub("%p", "%%%0") .. "\n\n(|.-)\n\n")
    local rows = {}
    for keys, defaults in assert(section, heading):gmatch "\n| (`[^|]*) | ([^|]*) |[^\n]*" do
        local row = { names = {}, defaults = {} }
        for name in keys:gmatch "`([%w_]+)`" do row.names[#row.names + 1] = name end
        if #row.names > 1 then
            for default in defaults:gmatch "[^,%s][^,]*" do row.defaults[#row.defaults + 1] = default end
        else
            row.defaults[1] = defaults
        end
        rows[#rows + 1] = row
    end
    return rows
end

local function documented(heading, also)
    local names = {}
    for _, row in ipairs(rows_below(heading)) do
        for _, name in ipairs(row.names) do names[#names + 1] = name end
    end
    for _, name in ipairs(also) do names[#names + 1] = name end
    table.sort(names)
    return names
end

local function allowed(body)
    local names = {}
    for name in script.message_of(body):match("allowed: (.*)$"):gmatch "[%w_]+" do names[#names + 1] = name end
    return names
end

describe("The README's tables have", function()
    -- what | heading | a script that makes the library tell | named elsewhere
    for _, row in ipairs {
        { "registry", "`shove.registry { ... }`", "shove.registry { qqqqq = 1 }", {} },
        { "topic", "`app:topic(name, { ... })`", "app:topic('o', { qqqqq = 1 })", { "allow_message_loss" } },
        { "group", "`shove.group { ... }`", "shove.group { qqqqq = 1 }", {} },
    } do
        it("every option of a " .. row[1] .. ", and nothing else", function()
            assert.same(allowed(row[3]), documented(row[2], row[4]))
        end)
    end

    it("every option of the autoscaler, and nothing else", function()
        local section = read("README.md"):match "\n`app:autoscale { ... }`.-\n\n(|.-)\n\n"
        local names = {}
        for keys in section:gmatch "\n| (`[^|]*) |" do
            for name in keys:gmatch "`([%w_]+)`" do names[#names + 1] = name end
        end
        table.sort(names)
        assert.same(allowed "app:autoscale { qqqqq = 1 }", names)
    end)

    it("the defaults of a group", function()
        local known = {
            prefetch = group.defaults.prefetch, concurrent = group.defaults.concurrent,
            max_retries = group.defaults.max_retries, max_crashes = group.defaults.max_crashes,
            on_timeout = ('`"%s"`'):format(group.defaults.on_timeout),
            auto_offset_reset = ('`"%s"`'):format(group.defaults.auto_offset_reset),
            max_pending_per_key = group.defaults.max_pending_per_key,
            max_message_size = ('`"%dMiB"`'):format(group.defaults.max_message_size / 1024 / 1024),
            consumers = "`{ min = 1, max = 1 }`", group_id = "`{queue}-consumer`", handler_timeout = "registry's",
            audit = "the registry's",
        }
        for _, row in ipairs(rows_below "`shove.group { ... }`") do
            for i, name in ipairs(row.names) do assert.equal(tostring(known[name]), row.defaults[i], name) end
        end
        local built = script.document "app:register(app:topic 'o', {}, print)".groups[1]
        assert.same({ 1, 1, 30000 }, { built.consumers_min, built.consumers_max, built.handler_timeout_ms })
        assert.equal('`"30s"`', rows_below("`shove.registry { ... }`")[2].defaults[1])
    end)
end)
