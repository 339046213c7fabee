-- Counts what a worker handled, and every 10 ms appends "count first_ns now_ns" to a file of its own when the count
-- changed: the driver adds up the workers' files. A handler pays one addition.
local uv = require "luv"

local M = { count = 0, first_ns = 0 }

function M.start(folder)
  local path = string.format("%s/%d.count", folder, uv.os_getpid())
  local file = assert(uv.fs_open(path, "a", tonumber("644", 8)))
  local written = 0
  local timer = uv.new_timer()
  timer:start(10, 10, function()
    if M.count == written then return end
    written = M.count
    uv.fs_write(file, string.format("%d %.0f %.0f\n", written, M.first_ns, uv.hrtime()), -1)
  end)
end

return M
