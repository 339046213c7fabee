-- run.lua: loads the script in a worker process, and is the body of every message's coroutine.
--
-- Worker processes only: needs the host. A message's coroutine calls its handler in protected mode and hands the
-- result to host.finish itself, so it arrives whoever resumed the coroutine last: the runtime, or a luv callback of
-- the script. coroutine.resume is replaced, so that a handler resumed by a script runs under its message's name all
-- the same (for the watchdog, and for the blame when the process dies), and so that one which timed out, or waits in
-- shove.sleep or shove.publish, cannot be resumed at all.

local host = require "shove.host"

local auditing = require "shove.auditing"
local codec = require "shove.codec"
local describe = require "shove.describe"
local groups = require "shove.groups"
local key = require "shove.key"
local message = require "shove.message"
local outcome = require "shove.outcome"
local publish = require "shove.publish"
local registry = require "shove.registry"
local shove = require "shove"
local show = require "shove.show"
local strategy = require "shove.strategy"
local validate = require "shove.validate"

local M = {}

local TRACEBACK_LINES_MAX = 10

local finish, describe_error, body_ahead = host.finish, host.describe_error, host.body_ahead
local setmetatable, xpcall = setmetatable, xpcall
local message_metatable = message.metatable

-- In Lua, not in C: compiled, it takes half the instructions. `body = nil` makes room for the field that is touched
-- first, which would cost more than the call otherwise.
local function run(handler, id)
    return finish(id, xpcall(handler, describe_error, setmetatable({ id, body = nil }, message_metatable)))
end

-- The handlers of its group read the body (runtime/worker/message_binding.c).
local function run_ahead(handler, id)
    return finish(id, xpcall(handler, describe_error, setmetatable({ id, body = body_ahead(id) }, message_metatable)))
end

-- The first finish keeps the outcome instead of telling it, and says so; the second tells it. For a handler that
-- something in C has resumed it does not: the audit runs in another coroutine then.
local function run_audited(handler, id)
    local is_kept = finish(id, xpcall(handler, describe_error, setmetatable({ id, body = nil }, message_metatable)))
    if is_kept then
        finish(id, xpcall(auditing.run, describe_error, id))
    end
end

-- The audit alone, where the handler's coroutine cannot go on.
local function conclude(audit, id)
    return finish(id, xpcall(audit, describe_error, id))
end

-- Of what runs beside messages: app:on_start, and the autoscaler's strategy.
local function beside(body, id)
    return finish(id, xpcall(body, describe_error))
end

-- coroutine.resume

local lanes, enter, leave = host.lanes(), host.enter, host.leave
local resume, status = coroutine.resume, coroutine.status

local function left(id, previous, co, is_ok, ...)
    leave(id, previous, status(co) == "dead", not is_ok and tostring((...)) or nil)
    return is_ok, ...
end

local function resume_any(co, ...)
    local lane = lanes[co]
    if lane == nil then
        return resume(co, ...)
    end
    local id, previous = enter(lane)
    if not id then
        return false, previous
    end
    return left(id, previous, co, resume(co, ...))
end

-- Loading

local function text_of(err)
    local is_ok, text = pcall(tostring, err)
    return is_ok and type(text) == "string" and text or show.value(err)
end

-- The message, and below it the script's own frames when there is more than the line that the message names.
local function describe_load_error(err)
    local text = text_of(err)
    local frames = {}
    for line in describe_error(text):sub(#text + 1):gmatch "\n(\t[^\n]+)" do
        if not line:find("[C]:", 1, true) then
            frames[#frames + 1] = line
        end
    end
    if #frames <= 1 then
        return text
    end
    return text .. "\n" .. table.concat(frames, "\n", 1, math.min(#frames, TRACEBACK_LINES_MAX))
end

local function load_app(path)
    local chunk, text = loadfile(path)
    if not chunk then
        return nil, text
    end
    local is_ok, app = xpcall(chunk, describe_load_error)
    if not is_ok then
        -- Some errors say no place: no memory, an error that is no string.
        return nil, app:find "^[^\n]-:%d+: " and app or path .. ": " .. app
    elseif not describe.is_app(app) then
        return nil, ('%s must end with "return app", the app that shove.registry made; it returned %s'):format(path,
            app == nil and "nothing" or show.value(app))
    end
    return app
end

-- What app:on_check has against the app, or nil.
local function objection_of(app)
    local check, at = describe.on_check(app)
    if not host.runs_check or not check then
        return nil
    end
    local is_ok, verdict, text = xpcall(check, describe_load_error)
    if not is_ok then
        return ("%s: on_check: %s"):format(at, verdict)
    elseif verdict == false or (verdict == nil and text ~= nil) then
        return ("%s: on_check: %s"):format(at, text == nil and "it returned false" or text_of(text))
    end
end

local function configure(app)
    local document = describe.document(app)
    local handlers, group_ids = {}, {}
    for index, registered in ipairs(describe.handlers(app)) do
        local group = document.groups[index]
        group_ids[index] = registered.group_id
        handlers[index] = {
            handler = registered.handler,
            decode = registered.codec.decode,
            is_json = registered.codec == codec.json,
            topic = registered.source,
            timeout_ms = group.handler_timeout_ms,
            is_audited = group.audit_timeout_ms > 0,
            dead_letters = registered.dead_letters,
        }
    end
    -- Loaded now: by the time a handler touches them, another one may have changed strings, or `package`.
    for _, name in ipairs { "log", "sleep", "publish", "publish_batch" } do
        assert(shove[name])
    end
    local codecs = describe.topic_codecs(app)
    publish.configure(codecs, describe.derived(app))
    local audit = describe.audit(app)
    if audit then
        auditing.configure(audit, group_ids)
    end
    host.configure {
        run = run,
        run_ahead = run_ahead,
        run_audited = run_audited,
        conclude = conclude,
        audit = auditing.run,
        audit_timeout_ms = audit and audit.timeout_ms or 0,
        beside = beside,
        on_start = describe.on_start(app),
        strategy = strategy.runner(describe.strategy(app)),
        json_decode = codec.json.decode,
        key_reader = key.reader(codecs[host.keys_topic]),
        outcomes = { outcome.ack, outcome.retry, outcome.reject, outcome.defer },
        groups = handlers,
    }
end

-- Runs the script. Returns the description of its app as JSON, or nil and what is wrong with it.
function M.load(path)
    _G.coroutine.resume = resume_any -- luacheck: ignore 122
    validate.script = path
    local app, text = load_app(path)
    if not app then
        return nil, text
    end
    local is_ok, result = pcall(describe.encode, app)
    if not is_ok then
        return nil, text_of(result)
    end
    configure(app)
    registry.close(app)
    text = objection_of(app)
    if text then
        return nil, text
    end
    groups.start(host)
    return result
end

return M
