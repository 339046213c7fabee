--- Declares C for specs from the headers themselves, so that a spec cannot drift from what it calls.
--
--     local C = require("spec.unit.cdef") { "core/ledger.h" }
--
-- Each header is preprocessed once per process with the C compiler ($CC, else cc), and only what stands in files under
-- runtime/ is declared: system headers are dropped, LuaJIT knows their basic types. Specs run in spec_runner, where
-- all of shove is in ffi.C; SHOVE_SPEC_LIB names a shared library to use instead. Run from the root of the source tree.
local ffi = require "ffi"

local prelude = [[
typedef struct shove_spec_file FILE;
typedef struct shove_spec_prelude shove_spec_prelude;
]]

local function is_declared(marker)
  return (pcall(ffi.typeof, marker))
end

local function marker_of(header)
  return "shove_spec_has_" .. header:gsub("%W", "_")
end

--- The preprocessed text of a header, cut into pieces by the file each came from; returns names in order of first piece.
local function preprocess(header)
  local command = ("%s -E -D_GNU_SOURCE -Iruntime runtime/%s 2>&1"):format(os.getenv "CC" or "cc", header)
  local pipe = assert(io.popen(command))
  local order, pieces, current = {}, {}, nil
  local lines = {}
  for line in pipe:lines() do
    lines[#lines + 1] = line
    local file = line:match '^# %d+ "([^"]*)"'
    if file then
      current = file:match "^runtime/(.+%.h)$"
      if current and not pieces[current] then
        order[#order + 1] = current
        pieces[current] = {}
      end
    elseif current and line ~= "" then
      table.insert(pieces[current], line)
    end
  end
  if not pipe:close() or #order == 0 then
    error(("cannot preprocess %s:\n%s"):format(header, table.concat(lines, "\n")), 0)
  end
  return order, pieces
end

--- Included files are declared before what includes them: a file's last piece comes after theirs.
local function declare(header)
  if is_declared(marker_of(header)) then
    return
  end
  local _, pieces = preprocess(header)
  local function visit(name, seen)
    if seen[name] or is_declared(marker_of(name)) then
      return
    end
    seen[name] = true
    local source = assert(io.open("runtime/" .. name))
    for include in source:read("*a"):gmatch '\n#include "([^"]+)"' do
      if pieces[include] then
        visit(include, seen)
      end
    end
    source:close()
    ffi.cdef(table.concat(pieces[name], "\n") .. ("\ntypedef struct %s %s;"):format(marker_of(name), marker_of(name)))
  end
  visit(header, {})
end

local library

return function(headers)
  if not is_declared "shove_spec_prelude" then
    ffi.cdef(prelude)
  end
  for _, header in ipairs(headers) do
    declare(header)
  end
  local path = os.getenv "SHOVE_SPEC_LIB"
  library = library or (path and ffi.load(path)) or ffi.C
  return library
end
