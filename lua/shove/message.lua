-- message.lua: what a handler is given. The fields are made in C on first touch (runtime/worker/message_binding.c).
--
-- Worker processes only: needs the host.
--
--   * A field keeps its value once it was touched. One that is touched for the first time after its message was settled
--     (in a luv callback that outlives the handler) raises. A JSON body may be there by then: where handlers
--     touch it, those of the next messages are read before they do.
--   * `body` goes through the topic's codec. When the codec refuses the payload, touching `body` unwinds the handler,
--     and the message is dead-lettered as `deserialize` whatever the handler makes of that error; a handler that never
--     touches `body` never notices. In a handler of dead letters an undecodable body is nil instead.
--   * `headers` is a list of { name, value } in their order, duplicates included; by name it gives the last value:
--     msg.headers["x-trace-id"]. Values are strings, binary ones included; a null value is shove.null.
--   * A name that is no field raises: nil would be taken for an answer.

local host = require "shove.host"

local object = require "shove.object"
local show = require "shove.show"
local validate = require "shove.validate"

local M = {}

local OF_DEAD_LETTERS = {
    reason = true,
    original_queue = true,
    death_count = true,
    original_partition = true,
    original_offset = true,
    group = true,
    error = true,
    died_at = true,
}

local function refuse(key, names, is_dead_letter)
    if not is_dead_letter and OF_DEAD_LETTERS[key] then
        validate.raise(("a message has no field %s: only a dead letter has, in the handler of app:dead_letters"):format(
            show.value(key)))
    end
    table.sort(names)
    object.refuse_key(is_dead_letter and "a dead letter" or "a message", "field", key, names)
end

M.metatable = {
    __index = host.message_index(refuse),
    __metatable = "shove.message",
}

return M
