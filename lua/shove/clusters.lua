-- clusters.lua: the brokers of one app, each of them once: which spellings mean the same, and what is said of one in
-- several places must not differ. Pure but for looking up paths.
--
-- The first is the registry's. `kafka` and `replication_factor` belong to the broker they stand beside, and to no
-- other: what logs in at one cluster is not shown to another.

local uv = require "luv"

local broker = require "shove.broker"
local validate = require "shove.validate"

local M = {}

local BROKERS_MAX = 64

-- The path without links, of a file that need not be there yet.
local function real_path(path)
    local real = uv.fs_realpath(path)
    if real then
        return real
    end
    local folder, name = path:match "^(.*/)([^/]+)$"
    folder = uv.fs_realpath(folder or ".")
    return folder and ("%s/%s"):format(folder == "/" and "" or folder, name or path) or path
end

-- "kafka://B,a:9092" and "kafka://a,b" are { "a:9092", "b:9092" }.
local function hosts_of(url)
    local hosts, seen = {}, {}
    for host in url:sub(#"kafka://" + 1):lower():gmatch "[^,]+" do
        local full = host:find ":%d+$" and not host:find "^%[.*%]$" and host or host .. ":9092"
        if not seen[full] then
            seen[full] = true
            hosts[#hosts + 1] = full
        end
    end
    table.sort(hosts)
    return hosts
end

local function identify(cluster)
    if broker.is_kafka(cluster.url) then
        cluster.hosts = hosts_of(cluster.url)
        cluster.identity = "kafka://" .. table.concat(cluster.hosts, ",")
    elseif cluster.url:find "^embedded:" then
        cluster.identity = "embedded:" .. real_path(cluster.url:sub(#"embedded:" + 1))
    else
        cluster.identity = cluster.url
    end
end

local function shared_host(a, b)
    for _, host in ipairs(a.hosts or {}) do
        for _, other in ipairs(b.hosts or {}) do
            if host == other then
                return host
            end
        end
    end
    return nil
end

local function is_same_properties(a, b)
    for name, value in pairs(a) do
        if b[name] ~= value then
            return false
        end
    end
    for name in pairs(b) do
        if a[name] == nil then
            return false
        end
    end
    return true
end

-- What is said of a broker that is known. Only one that says something can differ; the first that does is named.
local function merge(where, known, added)
    if added.kafka and known.kafka and not is_same_properties(added.kafka, known.kafka) then
        validate.fail(where, "broker.kafka: these are not the properties given for the same broker at %s",
            known.kafka_at)
    elseif added.replication_factor and known.replication_factor
        and added.replication_factor ~= known.replication_factor then
        validate.fail(where, "broker.replication_factor: %d is not the %d given for the same broker at %s",
            added.replication_factor, known.replication_factor, known.replication_at)
    end
    if added.kafka and not known.kafka then
        known.kafka, known.kafka_at = added.kafka, added.at
    end
    if added.replication_factor and not known.replication_factor then
        known.replication_factor, known.replication_at = added.replication_factor, added.at
    end
    return known
end

-- given: { url =, kafka = nil or checked properties, replication_factor = nil or a number }. The cluster in `clusters`
-- that it means, which is added when there is none.
function M.add(clusters, where, given)
    local at = validate.position() or "?"
    local added = {
        url = given.url, kafka = given.kafka, replication_factor = given.replication_factor,
        at = at, kafka_at = at, replication_at = at,
    }
    identify(added)
    for _, known in ipairs(clusters) do
        local host = shared_host(known, added)
        if known.identity == added.identity then
            return merge(where, known, added)
        elseif host then
            validate.fail(where, "broker: %s is also a host of the broker at %s, whose list is another; "
                .. "write the same list in both places", validate.show(host), known.at)
        end
    end
    if #clusters == BROKERS_MAX then
        validate.fail(where, "broker: an app has at most %d brokers", BROKERS_MAX)
    end
    clusters[#clusters + 1] = added
    return added
end

-- The registry's, then those that a topic is on by their addresses: an order that does not depend on that of the
-- topics. Sets `index`, from 0.
function M.ordered(clusters, topics)
    local is_used, ordered = {}, {}
    for _, topic in ipairs(topics) do
        is_used[topic.cluster] = true
    end
    for i = 2, #clusters do
        ordered[#ordered + 1] = is_used[clusters[i]] and clusters[i] or nil
    end
    table.sort(ordered, function(a, b)
        return a.identity < b.identity
    end)
    table.insert(ordered, 1, clusters[1])
    for i, cluster in ipairs(ordered) do
        cluster.index = i - 1
    end
    return ordered
end

return M
