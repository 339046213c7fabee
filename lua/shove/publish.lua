-- publish.lua: shove.publish and shove.publish_batch: checks, encodes, and waits until the broker has acknowledged.
--
-- Worker processes only: needs the host. Misuse (a body the codec cannot write, a header that is no string) raises at
-- the script's line; what the broker refuses comes back as nil, text, code. A Shove-Message-Id header goes behind those
-- that were given.
--
-- A body of nil is refused, because it is a variable that was not set more often than it is meant: a tombstone (null
-- payload) is asked for with { tombstone = true }, and needs a key. shove.null is JSON's null.

local host = require "shove.host"

local codec = require "shove.codec"
local key = require "shove.key"
local show = require "shove.show"
local suggest = require "shove.suggest"
local validate = require "shove.validate"

local M = {}

local TOPIC_BYTES_MAX = 249
local PARTITION_MAX = 2147483647
local TIMESTAMP_MAX = 2 ^ 53
-- A batch goes in portions of that many messages and bytes: what waits for the broker is bounded.
local PORTION, PORTION_BYTES = 4096, 4 * 1024 * 1024
local OWN_PREFIX = "shove-"

local OPTIONS = { "headers", "key", "partition", "timestamp", "tombstone" }
local ITEM_FIELDS = { "body", "headers", "key", "partition", "timestamp", "tombstone" }
local is_option, is_item_field = {}, {}
for _, name in ipairs(OPTIONS) do
    is_option[name] = true
end
for _, name in ipairs(ITEM_FIELDS) do
    is_item_field[name] = true
end

local codecs = {} -- topic name -> { encode =, key =, broker = }, of the topics that the app declares
local other_topics = { encode = codec.json.encode, broker = 0 }
local derived = {} -- what describe.derived gives

-- Called once, when the script is loaded.
function M.configure(topic_codecs, topics_besides)
    codecs, derived = topic_codecs, topics_besides
end

local OURS = { hold = "holds retries", ["poison topic"] = "keeps the poisoned keys" }

-- What is known of a topic, and which broker it is on: the registry's, when the app does not know the name.
local function look_up(where, name)
    local known, one = codecs[name] or other_topics, derived[name]
    if known ~= other_topics or not one then
        return known, known.broker
    elseif OURS[one.what] then
        validate.fail(where, "%s %s of %s, and only shove writes to it; name the queue %s", show.value(name),
            OURS[one.what], show.value(one.queue), show.value(one.queue))
    elseif not one.broker then
        validate.fail(where, "%s is a topic on several brokers; declare it with app:topic to say which is meant",
            show.value(name))
    end
    return known, one.broker
end

local function topic_name(where, topic)
    if type(topic) == "table" and getmetatable(topic) == "shove.topic" then
        return topic.name
    elseif type(topic) ~= "string" then
        validate.fail(where, "%s is not a topic; give its name, or what app:topic returned", show.value(topic))
    elseif topic == "" or #topic > TOPIC_BYTES_MAX or string.find(topic, "[^%w%._%-]") then
        validate.fail(where, "%s is not a topic's name (1 to %d of letters, digits, \".\", \"_\" and \"-\")",
            show.value(topic), TOPIC_BYTES_MAX)
    end
    return topic
end

-- Keys

local function key_of(where, known, options, body)
    local text, why
    if options.key ~= nil then
        text, why = key.text(options.key)
    elseif not options.tombstone then
        text, why = key.of_body(known, body)
    end
    if why then
        validate.fail(where, "%s", why)
    end
    return text
end

-- Headers

local function add_header(where, list, name, value)
    if type(name) ~= "string" or name == "" then
        validate.fail(where, "headers: %s is not a header's name", show.value(name))
    elseif string.lower(string.sub(name, 1, #OWN_PREFIX)) == OWN_PREFIX then
        validate.fail(where, 'headers: %s: names that begin with "Shove-" are shove\'s own', show.value(name))
    elseif type(value) ~= "string" and value ~= codec.null then
        validate.fail(where, "headers: %s is %s; a value is a string, or shove.null", show.value(name),
            show.value(value))
    end
    list[#list + 1] = name
    list[#list + 1] = value ~= codec.null and value
end

local function add_list(where, list, headers)
    local names = {}
    for i, pair in ipairs(headers) do
        if type(pair) ~= "table" then
            validate.fail(where, "headers[%d] is %s; write { name, value }", i, show.value(pair))
        end
        add_header(where, list, pair[1], pair[2])
        names[pair[1]] = true
    end
    -- msg.headers has each value by its name as well.
    for name in next, headers do
        if type(name) ~= "number" and not names[name] then
            validate.fail(where, "headers: %s is not in the list; write all as { name, value }, or all by name",
                show.value(name))
        end
    end
end

local function header_list(where, headers)
    if headers == nil then
        return nil
    elseif type(headers) ~= "table" then
        validate.fail(where, "headers is %s; write { name = value } or { { name, value }, ... }", show.value(headers))
    end
    local list = {}
    if headers[1] ~= nil then
        add_list(where, list, headers)
        return list
    end
    local names = {}
    for name in next, headers do
        names[#names + 1] = name
    end
    table.sort(names, function(a, b)
        return tostring(a) < tostring(b)
    end)
    for _, name in ipairs(names) do
        add_header(where, list, name, headers[name])
    end
    return list
end

-- The rest

local function check_names(where, options, is_known, known_names)
    for name in next, options do
        if not is_known[name] then
            local hint = suggest.hint(name, known_names)
            validate.fail(where, "unknown option %s%s", show.value(name),
                hint ~= "" and hint or "; allowed: " .. table.concat(known_names, ", "))
        end
    end
end

local function whole(where, name, value, most)
    if value == nil then
        return -1
    elseif not validate.is_integer(value, 0, most) then
        validate.fail(where, "%s is %s; write a whole number from 0", name, show.value(value))
    end
    return value
end

local function payload_of(where, known, options, body)
    if options.tombstone ~= nil then
        if options.tombstone ~= true then
            validate.fail(where, "tombstone is %s; write true", show.value(options.tombstone))
        elseif body ~= nil then
            validate.fail(where, "a tombstone has no body; leave out one of the two")
        elseif options.key == nil or options.key == codec.null then
            validate.fail(where, "a tombstone needs a key: it says what is gone")
        end
        return nil
    elseif body == nil then
        validate.fail(where, "the body is nil; for a null payload give { key = ..., tombstone = true }")
    end
    local is_ok, payload = pcall(known.encode, body)
    if not is_ok then
        validate.fail(where, "%s", tostring(payload))
    end
    return payload
end

local NO_OPTIONS = {}

local function prepare(where, known, body, options)
    return {
        payload = payload_of(where, known, options, body),
        key = key_of(where, known, options, body),
        headers = header_list(where, options.headers),
        partition = whole(where, "partition", options.partition, PARTITION_MAX),
        timestamp = whole(where, "timestamp", options.timestamp, TIMESTAMP_MAX),
    }
end

local function ask(topic, broker, prepared)
    host.publish_ask(topic, prepared.payload, prepared.key, prepared.headers, prepared.partition, prepared.timestamp,
        broker)
end

local function send(name, broker, prepared)
    host.publish_begin()
    ask(name, broker, prepared)
    host.publish_wait()
    local ordinal, text, code = host.publish_failure(1)
    if ordinal then
        return nil, string.format("publishing to %s: %s", show.value(name), text), code
    end
    return true
end

local function check_can_wait(what)
    local why = host.why_no_wait(what)
    if why then
        validate.raise(why)
    end
end

-- publish(topic, body, { key =, headers =, partition =, timestamp =, tombstone = }): true, or nil, text, code.
function M.publish(topic, body, options)
    check_can_wait "shove.publish"
    local where = "shove.publish"
    local name = topic_name(where, topic)
    options = options or NO_OPTIONS
    if type(options) ~= "table" then
        validate.fail(where, "%s is not a table of options", show.value(options))
    end
    check_names(where, options, is_option, OPTIONS)
    local known, broker = look_up(where, name)
    return send(name, broker, prepare(where, known, body, options))
end

-- The same for what is encoded already.
function M.send(name, payload, key_text)
    local _, broker = look_up("publish", name)
    return send(name, broker, { payload = payload, key = key_text, partition = -1, timestamp = -1 })
end

local function failures()
    local failed = {}
    while true do
        local ordinal, text, code = host.publish_failure(#failed + 1)
        if not ordinal then
            break
        end
        failed[#failed + 1] = { index = ordinal, error = text, code = code }
    end
    table.sort(failed, function(a, b)
        return a.index < b.index
    end)
    return failed
end

-- publish_batch(topic, { { body =, key =, ... }, ... }): how many, or nil, text, code, and the list of those that were
-- refused, as { index =, error =, code = }. The others are published. Nothing is sent when one of them is misuse.
function M.publish_batch(topic, items)
    check_can_wait "shove.publish_batch"
    local name = topic_name("shove.publish_batch", topic)
    if type(items) ~= "table" then
        validate.fail("shove.publish_batch", "%s is not a list of { body =, key = }", show.value(items))
    end
    local known, broker = look_up("shove.publish_batch", name)
    local prepared = {}
    for i, item in ipairs(items) do
        local where = string.format("shove.publish_batch: [%d]", i)
        if type(item) ~= "table" then
            validate.fail(where, "%s is not { body =, key = }", show.value(item))
        end
        check_names(where, item, is_item_field, ITEM_FIELDS)
        prepared[i] = prepare(where, known, item.body, item)
    end
    for index in next, items do
        if not validate.is_integer(index, 1, #prepared) then
            validate.fail("shove.publish_batch", "the list has a hole, or is none: it has %s", show.value(index))
        end
    end
    host.publish_begin()
    local count, bytes = 0, 0
    for _, one in ipairs(prepared) do
        count, bytes = count + 1, bytes + #(one.payload or "") + #(one.key or "")
        if count > PORTION or bytes > PORTION_BYTES then
            host.publish_wait()
            count, bytes = 1, #(one.payload or "")
        end
        ask(name, broker, one)
    end
    host.publish_wait()
    local failed = failures()
    if #failed == 0 then
        return #prepared
    end
    return nil, ("publishing to %s: %d of %d were refused, the first (number %d): %s"):format(show.value(name), #failed,
        #prepared, failed[1].index, failed[1].error), failed[1].code, failed
end

return M
