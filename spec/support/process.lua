-- Programs under test: started through libuv, their output kept line by line with the time it came, waited for with
-- deadlines, and killed with all their descendants when the spec ends.
--
--     local p = process.spawn { "build/shove", "run", path, env = { A = "b", HOME = false }, cwd = dir }
--     local line, capture = p:wait_for("consuming (%d+)", 5000)
--     p:kill "sigterm"
--     local code, signal = p:wait_exit(10000)
--
-- spec_runner adopts what a dead program leaves behind (it is a child subreaper), so a worker that outlives its
-- control process can be seen, with process.orphans(), and does not escape.

local ffi = require "ffi"
local uv = require "luv"
local cleanup = require "spec.support.cleanup"
local wait = require "spec.support.wait"

ffi.cdef [[
int prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d);
int waitpid(int pid, int *status, int options);
]]

local PR_SET_CHILD_SUBREAPER = 36
local WNOHANG = 1
local KILLED_WITHIN_MS = 10000

assert(ffi.C.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)

local M = {}
local Process = {}
Process.__index = Process

local running = {}   -- pid -> process started here and not yet ended
local disowned = {}  -- pid -> true: ours, but not to be taken for an orphan (a broker)

-- Words about processes

local function read_file(path)
    local file = io.open(path, "rb")
    if not file then return nil end
    local text = file:read "*a"
    file:close()
    return text
end

local function is_alive(pid)
    local stat = read_file("/proc/" .. pid .. "/stat")
    local state = stat and stat:match "^%d+ %(.*%) (%a)"
    return state ~= nil and state ~= "Z" and state ~= "X"
end

-- A child belongs to the thread that made it, so all threads are asked.
local function children_of(pid)
    local pids = {}
    local scan = uv.fs_scandir("/proc/" .. pid .. "/task")
    for thread in function() return scan and uv.fs_scandir_next(scan) end do
        local list = read_file("/proc/" .. pid .. "/task/" .. thread .. "/children") or ""
        for child in list:gmatch "%d+" do table.insert(pids, tonumber(child)) end
    end
    return pids
end

local function descendants_of(pid, into)
    into = into or {}
    for _, child in ipairs(children_of(pid)) do
        table.insert(into, child)
        descendants_of(child, into)
    end
    return into
end

-- Output

local function take_line(p, stream, text)
    table.insert(p.lines, { text = text, stream = stream, at_ms = (uv.hrtime() - p.started) / 1e6 })
end

local function read_lines(p, stream, pipe)
    local rest = ""
    p.open_streams = p.open_streams + 1
    p.bytes[stream] = {}
    pipe:read_start(function(err, data)
        assert(not err, err)
        if data then
            table.insert(p.bytes[stream], data)
            rest = rest .. data
            local at = 1
            for stop in function() return rest:find("\n", at, true) end do -- a pattern would take the square of a line's length
                take_line(p, stream, rest:sub(at, stop - 1))
                at = stop + 1
            end
            rest = rest:sub(at)
        else
            if rest ~= "" then take_line(p, stream, rest) end
            pipe:close()
            p.open_streams = p.open_streams - 1
        end
    end)
end

-- Starting

local function environment(changes)
    local merged, list = uv.os_environ(), {}
    for name, value in pairs(changes or {}) do merged[name] = value or nil end
    for name, value in pairs(merged) do table.insert(list, name .. "=" .. value) end
    return list
end

-- options: the program and its arguments as a list; env (name -> text, or false to unset), cwd, stdin: nothing
-- (/dev/null), "pipe" (p:write, p:close_stdin), or { text = "..." } (written, then closed).
function M.spawn(options)
    local p = setmetatable({ lines = {}, bytes = {}, open_streams = 0, mark_at = 0, started = uv.hrtime() }, Process)
    p.name = table.concat(options, " ")
    local stdin = options.stdin and uv.new_pipe(false) or nil
    local stdout, stderr = uv.new_pipe(false), uv.new_pipe(false)
    local handle, pid
    handle, pid = uv.spawn(options[1], {
        args = { unpack(options, 2) },
        env = environment(options.env),
        cwd = options.cwd,
        stdio = { stdin, stdout, stderr },
    }, function(code, signal)
        p.code, p.signal = code, signal
        running[p.pid] = nil
        handle:close()
    end)
    if not handle then
        for _, pipe in ipairs { stdout, stderr, stdin } do pipe:close() end
        error(("cannot start %s: %s"):format(p.name, pid), 2)
    end
    p.handle, p.pid, p.stdin = handle, pid, stdin
    running[pid] = p
    read_lines(p, "stdout", stdout)
    read_lines(p, "stderr", stderr)
    cleanup.defer(function() p:destroy() end)
    if type(options.stdin) == "table" then
        p:write(options.stdin.text)
        p:close_stdin()
    end
    return p
end

-- Runs to the end; returns { code, signal, stdout, stderr, process }. Deadline: 30 s unless given.
function M.run(options, deadline_ms)
    local p = M.spawn(options)
    local code, signal = p:wait_exit(deadline_ms or 30000)
    return { code = code, signal = signal, stdout = p:text "stdout", stderr = p:text "stderr", process = p }
end

-- Waiting

function Process:has_ended()
    return self.code ~= nil and self.open_streams == 0
end

-- All that was written to one stream so far, byte for byte.
function Process:text(stream)
    return table.concat(self.bytes[stream])
end

-- Everything so far, for error messages: when, which stream, what.
function Process:transcript()
    local out = {}
    for _, line in ipairs(self.lines) do
        table.insert(out, ("%8.0f ms %s %s"):format(line.at_ms, line.stream == "stderr" and "!" or "|", line.text))
    end
    return #out > 0 and table.concat(out, "\n") or "(no output)"
end

local function describe_end(p)
    if not p.code then return "it still runs" end
    return p.signal ~= 0 and ("it was ended by signal %d"):format(p.signal) or ("it exited with code %d"):format(p.code)
end

-- From here on wait_for looks only at what comes later.
function Process:mark()
    self.mark_at = #self.lines
end

-- The first line since the mark (or the start) that matches the Lua pattern: its text, then the pattern's captures.
-- Fails at the deadline, or at once when the program has ended without saying it.
function Process:wait_for(pattern, deadline_ms)
    local looked_at = self.mark_at
    local found
    local function look()
        while looked_at < #self.lines do
            looked_at = looked_at + 1
            local text = self.lines[looked_at].text
            if text:find(pattern) then
                found = text
                return true
            end
        end
        return self:has_ended()
    end
    wait.loop(look, deadline_ms)
    if not found then
        error(("no line matched '%s' within %d ms, and %s\n%s\n%s"):format(pattern, deadline_ms, describe_end(self),
            self.name, self:transcript()), 2)
    end
    return found, found:match(pattern)
end

-- The exit code and the signal (0 when none ended it). All output has been read by then.
function Process:wait_exit(deadline_ms)
    if not wait.loop(function() return self:has_ended() end, deadline_ms) then
        local reason = self.code and "ended, but something it started holds its output open" or "still runs"
        error(("%s %s after %d ms\n%s"):format(self.name, reason, deadline_ms, self:transcript()), 2)
    end
    return self.code, self.signal
end

-- Acting

function Process:write(text)
    self.stdin:write(text)
end

function Process:close_stdin()
    self.stdin:shutdown(function() self.stdin:close() end)
end

-- signal: "sigterm", "sigkill", "sigstop", ... Sent to this process alone.
function Process:kill(signal)
    if not self.code then self.handle:kill(signal) end
end

-- pids of its children now: for shove, the workers.
function Process:children()
    return children_of(self.pid)
end

-- Kills it and all it has started; cleanup does this for every process.
function Process:destroy()
    if not self.code then
        local below = descendants_of(self.pid)
        self.handle:kill "sigkill"
        for _, pid in ipairs(below) do uv.kill(pid, "sigkill") end
        wait.loop(function() return self.code ~= nil end, KILLED_WITHIN_MS)
    end
    for _, pid in ipairs(M.orphans()) do uv.kill(pid, "sigkill") end
    wait.until_true(function() return #M.orphans() == 0 end, KILLED_WITHIN_MS, "killed processes to end")
    if self.stdin and not self.stdin:is_closing() then self.stdin:close() end
    wait.loop(function() return self:has_ended() end, KILLED_WITHIN_MS)
end

M.is_alive = is_alive

-- pids of living processes that lost their parent here. Those that have ended are buried on the way.
function M.orphans()
    local found = {}
    for _, pid in ipairs(children_of(uv.os_getpid())) do
        if not running[pid] and not disowned[pid] then
            if is_alive(pid) then
                table.insert(found, pid)
            else
                ffi.C.waitpid(pid, nil, WNOHANG)
            end
        end
    end
    return found
end

-- pid is looked after by somebody else: it is no orphan.
function M.disown(pid)
    disowned[pid] = true
end

return M
