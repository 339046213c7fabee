-- New code for an app of spec/support/steered.lua that runs, with s.env as the environment its socket is found in.
--
--     reloads.run(s, "--workers", "2")   runs it, until it has partitions: s.p
--     reloads.rewrite(s, "-new")         the names in the journal end in that from the next load on
--     reloads.reload(s)                  `shove reload`: its result
--     reloads.status(s)                  what `shove status` says of the run

local cjson = require "cjson"
local assert = require "luassert"
local tmp = require "spec.support.tmp"

local WAIT_MS = 20000

local M = {}

-- Writes the script anew, with `what` in place of `with` if they are given, and what is appended to each name in the journal.
function M.rewrite(s, mark, what, with)
    local source = s.source
    if what then
        local from, to = source:find(what, 1, true)
        assert(from, what)
        source = source:sub(1, from - 1) .. with .. source:sub(to + 1)
    end
    source = source:gsub('verb, msg.payload:match "%^%%S%+"', 'verb, msg.payload:match "^%%S+" .. "' .. mark .. '"', 1)
    assert(mark == "" or source ~= s.source)
    tmp.write(s.app.path, source)
end

function M.run(s, ...)
    s.env = { XDG_RUNTIME_DIR = tmp.dir() }
    s.p = s:run { env = s.env, ... }
    s.p:wait_for("partitions assigned", WAIT_MS)
end

function M.reload(s)
    return s.app:command("reload", { env = s.env })
end

function M.status(s)
    return cjson.decode(s.app:command("status", { env = s.env, "--json" }).stdout)[1]
end

return M
