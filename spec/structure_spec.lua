-- The shape of the source tree: which folder may know which, and where each foreign library is named.

local uv = require "luv"
local tmp = require "spec.support.tmp"

local MAY_INCLUDE = {
    base = { "base" },
    core = { "base", "core" },
    ipc = { "base", "core", "ipc" },
    transport = { "base", "core", "transport" },
    control = { "base", "core", "ipc", "transport", "control" },
    worker = { "base", "core", "ipc", "worker" },
    cli = { "base", "core", "ipc", "transport", "control", "worker", "cli" },
}

-- header pattern -> pattern of the files (from runtime/) that may include it
local LIBRARY_SEAMS = {
    { "librdkafka", "^librdkafka/", "^transport/kafka[_.]" },
    { "LMDB", "^lmdb%.h$", "^transport/embedded[_.]" },
    { "Lua", "^lua%.h", "^worker/" },
    { "Lua's auxiliary library", "^lauxlib%.h$", "^worker/" },
    { "Lua's standard libraries", "^lualib%.h$", "^worker/" },
    { "LuaJIT", "^luajit%.h$", "^worker/" },
    { "luv", "^luv/", "^worker/" },
    { "libmicrohttpd", "^microhttpd%.h$", "^control/admin%.c$" },
    { "uthash", "^uthash%.h$", "^core/%l+%.c$" },
}

local LINES_MAX = 600

local function find_files(folder, pattern, into)
    local scan = uv.fs_scandir(folder)
    while scan do
        local name, kind = uv.fs_scandir_next(scan)
        if not name then break end
        local path = folder .. "/" .. name
        if kind == "directory" then
            find_files(path, pattern, into)
        elseif name:find(pattern) then
            table.insert(into, path)
        end
    end
    return into
end

local function without_comments(text)
    return (text:gsub("/%*.-%*/", function(comment) return (comment:gsub("[^\n]", "")) end):gsub("//[^\n]*", ""))
end

-- name from runtime/, text, code (the text without comments), and the headers it includes, in both forms.
local function load(path)
    local text = tmp.read(path)
    local source = { name = path:match "^runtime/(.*)$", text = text, code = without_comments(text) }
    source.own, source.foreign = {}, {}
    source.folder = source.name:match "^([^/]+)/" or "cli"
    for header in source.code:gmatch '#%s*include%s*"([^"]+)"' do table.insert(source.own, header) end
    for header in source.code:gmatch "#%s*include%s*<([^>]+)>" do table.insert(source.foreign, header) end
    return source
end

local function contains(list, value)
    for _, item in ipairs(list) do
        if item == value then return true end
    end
    return false
end

describe("The source tree", function()
    local sources = {}
    local offenders

    setup(function()
        for _, path in ipairs(find_files("runtime", "%.[ch]c?$", {})) do table.insert(sources, load(path)) end
        assert.is_true(#sources > 0, "no C files found: run this from the root of the source tree")
    end)

    before_each(function() offenders = {} end)

    local function offend(source, ...)
        table.insert(offenders, source.name .. ": " .. string.format(...))
    end

    for folder, allowed in pairs(MAY_INCLUDE) do
        it(("lets %s include only %s"):format(folder, table.concat(allowed, ", ")), function()
            for _, source in ipairs(sources) do
                if source.folder == folder then
                    for _, header in ipairs(source.own) do
                        if not contains(allowed, header:match "^([^/]+)/") then
                            offend(source, 'includes "%s"', header)
                        end
                    end
                end
            end
            assert.same({}, offenders)
        end)
    end

    it("has no folder in runtime/ without a rule", function()
        for _, source in ipairs(sources) do
            if not MAY_INCLUDE[source.folder] then offend(source, "no rule for %s", source.folder) end
        end
        assert.same({}, offenders)
    end)

    it("includes its own headers by a path that exists from runtime/", function()
        for _, source in ipairs(sources) do
            for _, header in ipairs(source.own) do
                if not uv.fs_stat("runtime/" .. header) then offend(source, 'includes "%s"', header) end
            end
        end
        assert.same({}, offenders)
    end)

    for _, seam in ipairs(LIBRARY_SEAMS) do
        local library, header_pattern, file_pattern = unpack(seam)
        it(("names %s only in %s"):format(library, file_pattern), function()
            for _, source in ipairs(sources) do
                for _, header in ipairs(source.foreign) do
                    if header:find(header_pattern) and not source.name:find(file_pattern) then
                        offend(source, "includes <%s>", header)
                    end
                end
            end
            assert.same({}, offenders)
        end)
    end

    it("has no plain assert, which a build flag would remove", function()
        for _, source in ipairs(sources) do
            if source.code:find "%f[%w_]assert%s*%(" then offend(source, "assert(") end
        end
        assert.same({}, offenders)
    end)

    it("opens every C file with a comment", function()
        for _, source in ipairs(sources) do
            if not source.text:find "^%s*/[/*]" then offend(source, "no comment on top") end
        end
        assert.same({}, offenders)
    end)

    it(("has no C file longer than %d lines"):format(LINES_MAX), function()
        for _, source in ipairs(sources) do
            local _, lines = source.text:gsub("\n", "")
            if lines > LINES_MAX then offend(source, "%d lines", lines) end
        end
        assert.same({}, offenders)
    end)

    it("runs every spec in a suite of scripts/test", function()
        local roots = {}
        for row in tmp.read("scripts/test"):gmatch '\n    "(%w+ *|[^"\n]*)"' do
            for root in row:gmatch "spec/%S+" do table.insert(roots, root) end
        end
        for _, path in ipairs(find_files("spec", "_spec%.lua$", {})) do
            local is_run = false
            for _, root in ipairs(roots) do
                is_run = is_run or path == root or path:sub(1, #root + 1) == root .. "/"
            end
            if not is_run then table.insert(offenders, path .. " is in no suite") end
        end
        assert.same({}, offenders)
    end)

    it("has a C file behind every unit spec", function()
        for _, path in ipairs(find_files("spec/unit", "_spec%.lua$", {})) do
            local mirrored = path:gsub("^spec/unit/", "runtime/"):gsub("_spec%.lua$", "")
            if not uv.fs_stat(mirrored .. ".h") and not uv.fs_stat(mirrored .. ".c") then
                table.insert(offenders, path .. ": no " .. mirrored .. ".c or .h")
            end
        end
        assert.same({}, offenders)
    end)
end)
