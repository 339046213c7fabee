-- When things happened in a worker, kept in a file that is mapped: what was written is there however the process ends, and
-- costs a handler a reading of the clock and a store.
--
--     local mark = moments.open(FOLDER)     mark() writes down now, in ns of the monotonic clock
--     moments.read(FOLDER)                  all workers' moments, sorted
local ffi = require "ffi"
local uv = require "luv"

ffi.cdef [[
void *mmap(void *addr, size_t length, int prot, int flags, int fd, long offset);
int munmap(void *addr, size_t length);
]]

local M = {}

local BYTES = 128 * 1024 * 1024 -- of a file, sparse
local READ_WRITE, SHARED = 3, 1

local function map(path)
  local fd = assert(uv.fs_open(path, "a+", tonumber("644", 8)))
  assert(uv.fs_ftruncate(fd, BYTES))
  local at = ffi.C.mmap(nil, BYTES, READ_WRITE, SHARED, fd, 0)
  uv.fs_close(fd)
  return ffi.cast("double *", at), at
end

-- The first number says how many follow.
function M.open(folder)
  local cells = map(string.format("%s/%d.moments", folder, uv.os_getpid()))
  local hrtime, last = uv.hrtime, BYTES / 8 - 1
  return function()
    local count = cells[0] + 1
    if count > last then error "too many moments" end
    cells[count] = hrtime()
    cells[0] = count
  end
end

function M.read(folder)
  local all = {}
  local scan = assert(uv.fs_scandir(folder))
  for name in function() return uv.fs_scandir_next(scan) end do
    if name:find "%.moments$" then
      local cells, at = map(folder .. "/" .. name)
      for i = 1, cells[0] do all[#all + 1] = cells[i] end
      ffi.C.munmap(at, BYTES)
    end
  end
  table.sort(all)
  return all
end

return M
