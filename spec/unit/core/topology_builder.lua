-- Topologies as C sees them, from tables of fields over what is allowed; names that are derived are given as they would be.
--
--     local topology = build({ { partitions = 4 } }, { { prefetch = 0 } })     topics, groups
--
-- Fields that a table leaves out have the values below. `topics.second_url` is the second broker's address,
-- `topics.brokers` a list of urls in place of both, `topics.property` a name and a value of the first one's.

local ffi = require "ffi"
local C = require("spec.support.c").include "core/topology.h"

local App = {}
App.__index = App

local kept = {} -- what a topology points to lives as long as the specs

function App:text(value)
    if not value then return nil end
    local data = ffi.new("char[?]", #value + 1, value)
    table.insert(self.anchors, data)
    return data
end

function App:fill_topic(topic, fields)
    local holds = fields.holds or { 5000, 30000 }
    local name = fields.name or "orders"
    topic.broker = fields.broker or 0
    topic.name, topic.for_group = self:text(name), self:text(fields.for_group)
    if fields.dlq ~= false then topic.dlq = self:text(fields.dlq or name .. "-dlq") end
    topic.hold_count = #holds
    topic.holds_ms = ffi.new("int64_t[?]", #holds + 1, holds)
    topic.holds = ffi.new("char *[?]", #holds + 1)
    table.insert(self.anchors, topic.holds_ms)
    table.insert(self.anchors, topic.holds)
    for i, ms in ipairs(holds) do
        topic.holds[i - 1] = self:text(fields.hold_name or ("%s%s-hold-%dms"):format(
            name, fields.for_group and "-" .. fields.for_group or "", ms))
    end
    topic.partitions, topic.replication_factor = fields.partitions or 8, fields.replication_factor or 1
    topic.retention_ms, topic.codec = fields.retention_ms or 0, fields.codec or C.SHOVE_CODEC_JSON
    topic.sequencing = fields.sequencing or C.SHOVE_UNSEQUENCED
    topic.allows_message_loss = fields.allows_message_loss or false
    topic.is_external = fields.external or false
    topic.at = self:text(fields.at or "app.lua:12")
end

function App:fill_group(group, fields)
    local defaults = {
        topic = 0, kind = C.SHOVE_GROUP_CONSUMER, consumers_min = 1, consumers_max = 1, prefetch = 10, max_retries = 10,
        max_crashes = 3, handler_timeout_ms = 30000, timeout_outcome = C.SHOVE_OUTCOME_RETRY,
        reset = C.SHOVE_RESET_EARLIEST, max_message_size_bytes = 10485760, max_pending_per_key = 1000,
        audit_timeout_ms = 0,
    }
    for name, value in pairs(defaults) do group[name] = fields[name] == nil and value or fields[name] end
    if fields.group_id ~= false then group.group_id = self:text(fields.group_id or "orders-consumer") end
    group.at = self:text(fields.at or "app.lua:20")
end

local function build(topics, groups)
    topics, groups = topics or { {} }, groups or {}
    local app = setmetatable({ anchors = {} }, App)
    local list = ffi.new("struct shove_topic[?]", #topics + 1)
    local group_list = ffi.new("struct shove_group[?]", #groups + 1)
    for i, fields in ipairs(topics) do app:fill_topic(list[i - 1], fields) end
    for i, fields in ipairs(groups) do app:fill_group(group_list[i - 1], fields) end
    local urls = topics.brokers or { "embedded:a.db", topics.second_url or "embedded:b.db" }
    local brokers = ffi.new("struct shove_broker[?]", #urls)
    for i, url in ipairs(urls) do brokers[i - 1].url = app:text(url) end
    local properties = ffi.new "struct shove_property[1]"
    if topics.property then
        properties[0].name, properties[0].value = app:text(topics.property[1]), app:text(topics.property[2])
        brokers[0].properties, brokers[0].property_count = properties, 1
    end
    table.insert(kept, { app.anchors, list, group_list, brokers, properties })
    return ffi.new("struct shove_topology", {
        brokers = brokers, broker_count = #urls,
        topics = list, topic_count = #topics, groups = group_list, group_count = #groups,
    })
end

return build
