-- Directories and files that are gone when the spec ends.

local uv = require "luv"
local cleanup = require "spec.support.cleanup"

local M = {}

function M.remove(path)
    local stat = uv.fs_lstat(path)
    if not stat then return end
    if stat.type == "directory" then
        uv.fs_chmod(path, tonumber("700", 8))
        local names = {}
        local scan = assert(uv.fs_scandir(path))
        for name in function() return uv.fs_scandir_next(scan) end do table.insert(names, name) end
        for _, name in ipairs(names) do M.remove(path .. "/" .. name) end
        assert(uv.fs_rmdir(path))
    else
        assert(uv.fs_unlink(path))
    end
end

-- A fresh directory; $SHOVE_TEST_KEEP=1 keeps it, and says where, for looking into a failure.
function M.dir()
    local path = assert(uv.fs_mkdtemp((os.getenv "TMPDIR" or "/tmp") .. "/shove-spec-XXXXXX"))
    cleanup.defer(function()
        if os.getenv "SHOVE_TEST_KEEP" then
            print("kept " .. path)
        else
            M.remove(path)
        end
    end)
    return path
end

function M.write(path, text)
    local file = assert(io.open(path, "wb"))
    assert(file:write(text))
    assert(file:close())
    return path
end

function M.read(path)
    local file = assert(io.open(path, "rb"))
    local text = file:read "*a"
    file:close()
    return text
end

return M
