-- The C code as a spec sees it: declarations come from the headers themselves, so they cannot drift apart.
--
--     local C, constants = require("spec.support.c").include "core/ledger.h"
--     local ledger = C.shove_ledger_new(...)
--     print(constants.SHOVE_LEDGER_MAX)         numeric #defines of the headers given
--
-- A header is run through the C preprocessor; what comes from runtime/ (it and what it includes) is given to
-- ffi.cdef, each header once in the life of the process. Types of libuv, LuaJIT and other libraries are opaque here,
-- so a struct that embeds one cannot be laid out by a spec; inline functions cannot be called.

local ffi = require "ffi"

local M = {}

-- What LuaJIT does not know by itself, and names of other libraries that may stand behind a pointer.
ffi.cdef [[
typedef long ssize_t;
typedef int pid_t;
typedef long time_t;
typedef struct _IO_FILE FILE;
typedef struct lua_State lua_State;
typedef struct uv_loop_s uv_loop_t;
typedef struct json_t json_t;
]]

local declared = {}
local constants_of = {}

local function preprocess(header, flags)
    local command = ("%s -E -std=c11 -D_GNU_SOURCE -DSHOVE_VERSION='\"spec\"' -I runtime %s runtime/%s 2>&1")
        :format(os.getenv "CC" or "cc", flags, header)
    local pipe = assert(io.popen(command))
    local text = pipe:read "*a"
    pipe:close()
    -- LuaJIT's pclose gives no status; an error is a line that says so.
    local problem = text:match "[^\n]*%f[%a]error: [^\n]*"
    if problem then error(("cannot preprocess %s: %s"):format(header, problem), 3) end
    return text
end

-- What C11 has and LuaJIT's parser has not.
local function simplify(text)
    text = text:gsub("static%s+inline%s+[^{;]*%b{}", "")
    text = text:gsub("_Static_assert%s*%b();", "")
    text = text:gsub("_Atomic%s*(%b())", function(inner) return inner:sub(2, -2) end)
    text = text:gsub("%f[%w_]_Atomic%f[^%w_]", "")
    text = text:gsub("%f[%w_]_Noreturn%f[^%w_]", "")
    text = text:gsub("_Alignas%s*(%b())", "__attribute__((aligned%1))")
    return text
end

-- The preprocessor's line markers say where each line comes from: lines of headers in runtime/ that are not yet
-- declared are given to ffi.cdef together, in the order in which they came.
local function declare(header)
    if declared["runtime/" .. header] then return end
    local lines, seen, current = {}, {}, nil
    for line in preprocess(header, ""):gmatch "[^\n]*" do
        local file = line:match '^# %d+ "([^"]*)"'
        if file then
            current = file:match "^runtime/.*%.h$"
            if current then seen[current] = true end
        elseif current and not declared[current] then
            table.insert(lines, line)
        end
    end
    local ok, err = pcall(ffi.cdef, simplify(table.concat(lines, "\n")))
    if not ok then error(("ffi cannot declare %s: %s"):format(header, err), 3) end
    for file in pairs(seen) do declared[file] = true end
end

local function constants(header)
    if not constants_of[header] then
        local found = {}
        for name, value in preprocess(header, "-dM"):gmatch "#define (SHOVE_[%w_]+) ([^\n]+)" do
            found[name] = tonumber((value:gsub("[()]", ""):gsub("[uUlL]+$", "")))
        end
        constants_of[header] = found
    end
    return constants_of[header]
end

-- Declares the headers (paths from runtime/); gives ffi.C and a table of their numeric #defines.
function M.include(...)
    local all = {}
    for _, header in ipairs { ... } do
        declare(header)
        for name, value in pairs(constants(header)) do all[name] = value end
    end
    return ffi.C, all
end

return M
