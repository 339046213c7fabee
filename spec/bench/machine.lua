-- What benchmarks share: what /proc says of processes and of the machine, waiting, medians.
local uv = require "luv"

local M = {}

function M.read_file(path)
  local file = io.open(path)
  if not file then return nil end
  local text = file:read "*a"
  file:close()
  return text
end

-- Itself and its children.
function M.children_of(pid)
  local pids = { pid }
  for child in (M.read_file(string.format("/proc/%d/task/%d/children", pid, pid)) or ""):gmatch "%d+" do
    pids[#pids + 1] = tonumber(child)
  end
  return pids
end

-- CPU time of a process's main thread and of all its others.
function M.cpu_ns(pid)
  local main, others = 0, 0
  local scan = uv.fs_scandir(string.format("/proc/%d/task", pid))
  for thread in function() return scan and uv.fs_scandir_next(scan) end do
    local stat = M.read_file(string.format("/proc/%d/task/%s/schedstat", pid, thread)) or "0"
    local ns = tonumber(stat:match "^%d+")
    if tonumber(thread) == pid then main = ns else others = others + ns end
  end
  return main, others
end

-- Proportional: pages that several processes share are counted once.
function M.memory_kib(pid)
  local rollup = M.read_file(string.format("/proc/%d/smaps_rollup", pid)) or ""
  return tonumber(rollup:match "Pss:%s+(%d+)" or "0")
end

-- Ticks that other machines on the same host had of our processors, and all ticks, since the boot.
function M.stolen_ticks()
  local all, at = 0, 0
  local stolen
  for ticks in M.read_file("/proc/stat"):match "^cpu ([^\n]*)":gmatch "%d+" do
    at = at + 1
    if at <= 8 then all = all + tonumber(ticks) end -- guests are within user and nice
    if at == 8 then stolen = tonumber(ticks) end
  end
  return stolen, all
end

-- The loop's clock stands still between turns; a timer set by an old clock fires before the loop blocks, which then blocks
-- for good.
function M.wait_ms(ms)
  uv.update_time()
  local timer = uv.new_timer()
  local is_over = false
  timer:start(ms, 0, function() is_over = true end)
  while not is_over do uv.run "once" end
  timer:close()
end

function M.median(list)
  table.sort(list)
  return list[math.ceil(#list / 2)]
end

return M
