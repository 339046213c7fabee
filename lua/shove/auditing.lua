-- auditing.lua: the record of a handled message, and where it goes.
--
-- Worker processes only: needs the host. M.run is called in a message's coroutine when its handler has come to an
-- outcome that control does not know of yet (runtime/worker/audit.h); it may wait. What it returns or raises is why
-- the audit failed.
--
-- In the topic a record is JSON, under its trace id as key, so that all attempts of a message are in one partition.
-- JSON has no bytes: a string that is not UTF-8 is written as { "base64": "..." }, wherever it stands.

local host = require "shove.host"

local audit = require "shove.audit"
local codec = require "shove.codec"
local message = require "shove.message"
local outcome = require "shove.outcome"
local publish = require "shove.publish"

local M = {}

local TRACE_HEADER = "x-trace-id"

local setmetatable, type = setmetatable, type
local verdict, base64_of = host.verdict, host.base64_unless_utf8
local message_metatable = message.metatable
local null = codec.null

local to -- function(record)
local group_ids = {} -- by their index, from 1

-- A message has its own trace id, or else its id: that too is the same on every attempt.
local function trace_id_of(msg, headers)
    local given = headers[TRACE_HEADER]
    return type(given) == "string" and given ~= "" and given or msg.id
end

-- Read anew: the handler may have changed what it was given.
local function record_of(id)
    local msg = setmetatable({ id }, message_metatable)
    local name, reason, seconds, timestamp, group = verdict(id)
    local headers = msg.headers
    return {
        trace_id = trace_id_of(msg, headers),
        topic = msg.topic,
        group = group_ids[group],
        payload = msg.payload,
        metadata = {
            id = msg.id,
            key = msg.key,
            headers = headers,
            partition = msg.partition,
            offset = msg.offset,
            timestamp = msg.timestamp,
            retry_count = msg.retry_count,
            redelivered = msg.redelivered,
        },
        outcome = name,
        reason = reason,
        duration = seconds,
        timestamp = timestamp,
    }
end

local function text_of(bytes)
    if bytes == nil or bytes == null then
        return null
    end
    local encoded = base64_of(bytes)
    return encoded and { base64 = encoded } or bytes
end

local function headers_of(headers)
    local list = {}
    for i = 1, #headers do
        list[i] = { text_of(headers[i][1]), text_of(headers[i][2]) }
    end
    return #list > 0 and list or codec.empty_array
end

local function write(record)
    local metadata = record.metadata
    local key = record.trace_id
    metadata.id, metadata.key = text_of(metadata.id), text_of(metadata.key)
    metadata.headers = headers_of(metadata.headers)
    record.trace_id, record.payload, record.reason = text_of(key), text_of(record.payload), text_of(record.reason)
    return publish.send(audit.TOPIC, codec.json.encode(record), key)
end

-- Called once, when the script is loaded. given: what audit.check made; ids: of all groups, in their order.
function M.configure(given, ids)
    to = given.to == true and write or given.to
    group_ids = ids
end

-- A function says that it failed as anything does: an error, false, or nil and a reason.
local function objection_to(result, reason)
    if outcome.is_outcome(result) then
        return ("the audit function returned %s: it returns nothing, or false and a reason"):format(tostring(result))
    elseif result == false or (result == nil and reason ~= nil) then
        return reason == nil and "the audit function returned false" or reason
    end
end

function M.run(id)
    return objection_to(to(record_of(id)))
end

return M
