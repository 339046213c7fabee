---@meta shove
-- What a script may use, for editors that know LuaLS (lua-language-server): completion, types and these texts. Never
-- loaded by shove itself. To use it, add the folder that holds `shove/` to "workspace.library" in .luarc.json:
--
--     { "runtime.version": "LuaJIT", "workspace.library": ["/usr/local/share/shove/lua"] }

---shove runs the message consumers that a script declares:
---
---```lua
---local shove = require "shove"
---local app = shove.registry { broker = "embedded:./orders.db" }
---local orders = app:topic("orders", { hold = { "5s", "5m" }, dlq = true })
---app:register(orders, shove.group { prefetch = 20, concurrent = true }, function(msg)
---    if not msg.body.id then return shove.reject "order without id" end
---    return shove.ack
---end)
---return app
---```
---@class shove
local shove = {}

-- ---- units

---A duration: `"500ms"`, `"5s"`, `"5m"`, `"1h"`, or a number of seconds (`0.25` is 250 ms). At least a millisecond.
---@alias shove.Duration string|number

---A size: `"10MiB"`, `"64KiB"`, `"1GiB"` (powers of 1024), `"500kB"`, `"10MB"`, `"1GB"` (powers of 1000), `"17B"`, or a
---number of bytes.
---@alias shove.Size string|integer

-- ---- the app

---@class shove.RegistryOptions
---Where topics live that do not say otherwise. Required, unless the command is given `--broker`, which wins.
---  * `"kafka://host1:9092,host2:9092"`: Apache Kafka; without a port, 9092. Credentials go into `kafka`.
---  * `"embedded:./orders.db"`: a durable broker in that file, for one machine; nothing to install.
---  * `"memory:"`: gone when the process ends; for trying things out.
---@field broker string
---How long a handler may take, for groups that do not say. Default `"30s"`, at most `"24h"`.
---@field handler_timeout? shove.Duration
---How many copies Kafka keeps of each topic that shove creates on this broker. Default 1; only with a kafka:// broker.
---@field replication_factor? integer
---librdkafka properties, passed through: TLS, SASL, timeouts. Those that shove decides itself are refused by name. Only
---with a kafka:// broker, and for this one only: a topic's own `broker` has properties of its own.
---```lua
---kafka = { ["security.protocol"] = "SASL_SSL", ["ssl.ca.location"] = "ca.pem", ["sasl.mechanism"] = "PLAIN",
---          ["sasl.username"] = shove.env "KAFKA_USER", ["sasl.password"] = shove.env "KAFKA_PASSWORD" }
---```
---@field kafka? table<string, string|number|boolean>
---A record of every handled message, each attempt: `true` writes it to the topic `shove-audit-log`, a function is given it.
---When that fails, the message is retried; when it takes longer than `timeout`, the outcome stands. Default false.
---```lua
---audit = function(record)
---    local ok, err = shove.publish("trail", { id = record.trace_id, outcome = record.outcome })
---    if not ok then return false, err end
---end
---```
---@field audit? boolean|shove.Audit|shove.AuditOptions

---@class shove.AuditOptions
---Default true: the topic.
---@field to? true|shove.Audit
---How long it may take once it waits, beyond the handler's own timeout. Default `"5s"`.
---@field timeout? shove.Duration

---May wait as a handler may. An error, `false`, or nil and a reason says that it failed.
---@alias shove.Audit fun(record: shove.AuditRecord): any, any

---In the topic it is JSON, under `trace_id` as key: headers are a list of `[name, value]`, and a string that is not UTF-8 is
---`{"base64": "..."}`.
---@class shove.AuditRecord
---The header `x-trace-id`, or else the message's id: the same on every attempt.
---@field trace_id string
---@field topic string what the group consumes: the queue, or the DLQ in `app:dead_letters`
---@field group string
---@field payload? string The bytes. nil for a tombstone.
---@field metadata shove.AuditMetadata
---`error` is raised, or a return value that is no outcome; `undecodable`: the codec has refused the payload.
---@field outcome "ack"|"retry"|"reject"|"defer"|"error"|"timeout"|"undecodable"
---@field reason? string
---@field duration number seconds that the handler took
---@field timestamp integer milliseconds since 1970, when the handler was done

---As of the message.
---@class shove.AuditMetadata
---@field id string
---@field key? string
---@field headers shove.Headers
---@field partition integer
---@field offset integer
---@field timestamp integer
---@field retry_count integer
---@field redelivered boolean

---Begins an app. The script declares topics and registers handlers on it, and returns it.
---
---Mistakes here and in everything declared on the app raise at the script's own line, before anything runs.
---```lua
---local app = shove.registry { broker = shove.env("SHOVE_BROKER", "embedded:./orders.db"), handler_timeout = "10s" }
---```
---@param options shove.RegistryOptions
---@return shove.App
---@nodiscard
function shove.registry(options) end

---What `shove.registry` returns. It cannot be altered, and reading what it does not have raises.
---@class shove.App
local App = {}

---A broker with what belongs to it.
---@class shove.Broker
---@field url string Like the registry's `broker`.
---@field kafka? table<string, string|number|boolean> librdkafka properties of this cluster.
---@field replication_factor? integer How many copies this cluster keeps of each topic that shove creates. Default 1.

---@class shove.TopicOptions
---Where the topic, its holds and its DLQ live, if not on the registry's broker. An address, or a table where properties or
---copies belong to it. Several places may name the same broker; what they say of it must not differ.
---```lua
---broker = { url = "kafka://audit1:9092", kafka = { ["security.protocol"] = "SSL" }, replication_factor = 3 }
---```
---@field broker? string|shove.Broker
---Delays of retries, each a durable topic of its own (`orders-hold-5s`). Sorted ascending, no two alike, at most 16, each
---at most `"168h"`. Retry number n waits in the n-th; later ones in the last. Without any, a retry waits 1 s where it is.
---@field hold? shove.Duration[]
---Where messages go that cannot succeed: `true` for `{queue}-dlq`, or a topic name (several topics may share one). Without
---it they are dropped, with a warning.
---@field dlq? boolean|string
---Order per key: `"skip"` goes on after a rejected message, `"fail_all"` dead-letters what follows it under the same key,
---until `shove poison clear`; which keys those are is kept in the topic `{queue}-poison`.
---Needs `dlq` and a `hold` unless `allow_message_loss`.
---@field sequenced? "skip"|"fail_all"
---The key of a body, for `shove.publish` without a `key` and for the command `shove publish` without `--key`. Messages of
---one key go to one partition; nil is none, which a sequenced topic refuses, and `shove.null` is none on purpose.
---```lua
---key = function(body) return body.account end
---```
---@field key? fun(body: any): string|number|nil
---The partitions of a sequenced topic. Default 8; fixed once the topic exists.
---@field shards? integer
---The partitions of a topic that is not sequenced. Default 8, or a group's `consumers.max` if that is more.
---@field partitions? integer
---Between body and payload. Default `"json"`; `"raw"` leaves strings as they are.
---@field codec? "json"|"raw"|shove.Codec
---A second, independent group on the same queue: declare the queue once more with this name. Its holds, DLQ and group id
---carry the name: `{queue}-{name}-hold-5s`, `{queue}-{name}-dlq`, `{queue}-{name}-consumer`.
---@field for_group? string
---The topic, its holds and its DLQ are only checked to be there, never created or changed. Default false.
---@field external? boolean
---How long records are kept. Default: the broker's. On Kafka it is set on a topic that shove creates; one that exists keeps
---its own, and where that is another there is a warning.
---
---A message that has been open for more than half of what its topic keeps has a warning in the log. Kafka is asked what
---that is when the program starts; where the client lacks the right to ask, this option is taken, or 7 days.
---@field retention? shove.Duration
---Lets a sequenced topic do without holds or DLQ, and a topic with one of the two without a warning. Default false.
---@field allow_message_loss? boolean

---A codec of the script's own. A payload that `decode` raises on, or returns nil and a reason for, is undecodable: it is
---dead-lettered as `deserialize` when the handler touches `msg.body`.
---@class shove.Codec
---@field encode fun(body: any): string?, string?
---@field decode fun(payload: string): any, string?

---Declares a topic, which is created with its holds and its DLQ when the app runs, unless they exist.
---```lua
---local orders = app:topic("orders", { hold = { "5s", "30s", "5m" }, dlq = true })
---local audit  = app:topic("orders", { for_group = "audit", codec = "json" })   -- the same queue, a second group
---app:topic "receipts"                                                         -- only published to
---```
---@param name string Letters, digits, `.`, `_` and `-`; at most 249 characters with everything derived from it.
---@param options? shove.TopicOptions
---@return shove.Topic
function App:topic(name, options) end

---What `app:topic` returns. It cannot be altered.
---@class shove.Topic
---@field name string
---@field for_group? string
---@field sequenced? "skip"|"fail_all"

---Registers the handler of a topic's messages. Once per topic; for a second group declare the topic with `for_group`.
---```lua
---app:register(orders, shove.group { prefetch = 20, concurrent = true }, function(msg)
---    local ok, why = bill(msg.body)
---    return ok and shove.ack or shove.retry(why)
---end)
---```
---@param topic shove.Topic
---@param group shove.Group|shove.GroupOptions A plain table is checked as by `shove.group`.
---@param handler shove.Handler
function App:register(topic, group, handler) end

---Registers the handler of a sequenced topic's messages: of each key one at a time, in order, and keys in parallel. A retry
---keeps its key waiting for the topic's `hold`, and lets others go on. The group is `{queue}-fifo` unless `group_id` says
---otherwise; `prefetch` says how many keys are handled at once.
---```lua
---local payments = app:topic("payments", { sequenced = "skip", key = function(body) return body.account end,
---    hold = { "1s" }, dlq = true, shards = 8 })
---app:register_fifo(payments, { prefetch = 100, max_pending_per_key = 1000 }, function(msg)
---    return book(msg.body) or shove.retry "the ledger is busy"
---end)
---```
---@param topic shove.Topic With `sequenced`.
---@param group shove.Group|shove.GroupOptions Without `consumers` and `concurrent`: there is one consumer for all keys.
---@param handler shove.Handler
function App:register_fifo(topic, group, handler) end

---Registers the handler of a topic's dead letters: its DLQ is consumed as a group of its own, `{dlq}-consumer` unless
---`group_id` says otherwise. A dead letter that fails again and again is dropped after `max_retries`; there is no second DLQ.
---```lua
---app:dead_letters(orders, function(dead)
---    shove.log.warn("dead order", { reason = dead.reason, from = dead.original_queue, id = dead.id })
---end)
---```
---@param topic shove.Topic
---@param group shove.Group|shove.GroupOptions
---@param handler shove.DeadLetterHandler
---@overload fun(self: shove.App, topic: shove.Topic, handler: shove.DeadLetterHandler)
function App:dead_letters(topic, group, handler) end

---Is asked whether the app may run: by `shove check`, when `shove run` starts, and before a reload sends messages to the
---new code. An error, or `false` or nil and a reason, refuses it. It cannot wait, and the load timeout bounds it.
---```lua
---app:on_check(function()
---    if not shove.env "BILLING_URL" then return false, "BILLING_URL is not set" end
---end)
---```
---@param check fun(): boolean?, string?
function App:on_check(check) end

---@class shove.AutoscaleOptions
---How often each group is looked at, 100ms to 1h. Default `"5s"`.
---@field poll? shove.Duration
---A consumer is added while more is ready than this many times what the consumers take at once. Default 2.0.
---@field up? number
---One that is idle is taken away while less is ready than this part of what they take at once. Default 0.5.
---@field down? number
---For how long that must have been so. Default `"10s"`.
---@field hysteresis? shove.Duration
---How long after a change the group is left alone. Default `"30s"`.
---@field cooldown? shove.Duration
---Is asked first, at each poll, in a worker, for each group whose `min` is below its `max`. It returns `"up"`, `"down"` (if a
---consumer is idle), `"stay"`, a number of consumers, which is cut to `min` and `max`, or nothing: then `up`, `down` and
---`hysteresis` decide. `cooldown` holds for all. It may wait, and has a second for all groups together. Where it raises, returns
---anything else or takes longer, the rule decides at that poll, with a warning. One that never yields costs its worker process,
---and is not asked for a minute.
---```lua
---strategy = function(group)
---    local hour = tonumber(os.date "%H")
---    if hour < 6 then return group.min end
---    return group.ready and math.ceil(group.ready / 100) or "stay"
---end
---```
---@field strategy? fun(group: shove.GroupState): "up"|"down"|"stay"|integer|nil

---Says when groups get a consumer more or less, between their `consumers.min` and `consumers.max`. Without it the
---defaults hold. Ready is what lies behind the committed offset and is not finished, on the partitions of this
---process; retries that are not due are not ready.
---```lua
---app:autoscale { poll = "1s", up = 1.5, cooldown = "10s" }
---```
---@param options shove.AutoscaleOptions
function App:autoscale(options) end

---A group of this `shove run`, as `shove status --json` shows it. While the script is loaded there are only `group`, `topic`,
---`state`, `min` and `max`.
---@class shove.GroupState
---@field group string its id
---@field topic string what it consumes: the queue, or its DLQ
---@field broker string where that is
---`joined`; `resting`: it failed and is started again; `failed`; `leaving`: a reload has removed it; `left`; `declared`: the
---script is being loaded.
---@field state "joined"|"resting"|"failed"|"leaving"|"left"|"declared"
---@field error? string what it failed with
---@field paused boolean
---@field consumers integer
---@field min integer
---@field max integer
---@field capacity integer messages its consumers take at once
---@field in_flight integer messages that handlers have
---@field partitions integer of its topic, that this process has; 0: it stands by
---@field ready? integer messages a consumer could take now, or has; nil: not known now
---@field lag? integer messages behind the committed offset that are not finished; nil: not known now
---@field waiting integer retries that wait where they are
---@field storing integer retries and dead letters on their way to the broker
---@field poisoned_keys? integer of a `fail_all` topic: keys whose messages are dead letters, on partitions of this process
---@field acked integer
---@field delayed integer
---@field dead_letters integer
---@field discarded integer

---The app's groups as they are now, at most 10 ms old. It waits for the answer: in handlers, in `app:on_start` and in the
---autoscaler's `strategy`. While the script is loaded it does not wait, and lists what is declared so far.
---```lua
---for _, group in ipairs(app:groups()) do
---    if group.paused then shove.log.info("paused", { group = group.group }) end
---end
---```
---@return shove.GroupState[] groups in the order of registration; those that a reload has removed until they are gone
function App:groups() end

---Runs once per `shove run`, in one worker, as a coroutine, when everything is being consumed: for seeding and for
---publishing on a schedule. An error in it is logged; the run goes on. A drain stops it where it waits.
---```lua
---app:on_start(function()
---    shove.publish("orders", { id = "o-1" })
---end)
---```
---@param start fun()
function App:on_start(start) end

-- ---- groups

---@class shove.GroupOptions
---How many consumers: lanes of `prefetch` messages in flight, whatever the number of partitions. `min` may be 0; the
---default is 1 of each. The autoscaler (`app:autoscale`) moves between the two. A topic is created with at least
---`max` partitions.
---@field consumers? { min?: integer, max?: integer }
---Messages in flight per consumer, 1 to 100000. Default 10. It is 1 in effect without `concurrent`.
---@field prefetch? integer
---Whether one consumer handles several messages at once, each in its coroutine. Default false.
---@field concurrent? boolean
---Retries before the DLQ, 0 to 255: N retries are 1 + N calls. Default 10.
---@field max_retries? integer
---How many times a message may be what was running when a worker process died. Default 3; then it is dead-lettered as
---`crashed`.
---@field max_crashes? integer
---How long a handler may take. Default: the registry's, else `"30s"`. One that waits is cancelled; one that never yields is
---killed with its process.
---@field handler_timeout? shove.Duration
---What becomes of a message whose handler took too long. Default `"retry"`.
---@field on_timeout? "retry"|"reject"|"defer"|"ack"
---Where a group begins that has committed nothing: `"earliest"` (default), `"latest"`, or `"none"`, which fails
---the group, on Kafka also when retention took the committed offset.
---@field auto_offset_reset? "earliest"|"latest"|"none"
---The consumer group's name. Default `{queue}-consumer`, or `{queue}-{for_group}-consumer`; `{queue}-fifo` of a sequenced topic.
---@field group_id? string
---Larger messages are dead-lettered as `oversize` without reaching the handler. Default `"10MiB"`, at most `"512MiB"`.
---@field max_message_size? shove.Size
---How many messages of one key may wait behind the first, on a sequenced topic. Default 1000.
---@field max_pending_per_key? integer
---`false` leaves the group out of the registry's audit.
---@field audit? false

---Builds a group's configuration: checked on this line, immutable, usable for several topics.
---```lua
---local careful = shove.group { max_retries = 3, handler_timeout = "5s", on_timeout = "reject" }
---app:register(orders, careful, handle_order)
---app:register(refunds, careful, handle_refund)
---```
---@param options shove.GroupOptions
---@return shove.Group
---@nodiscard
function shove.group(options) end

---What `shove.group` returns, readable back.
---@class shove.Group
---@field min_consumers integer
---@field max_consumers integer
---@field prefetch_count integer as configured
---@field effective_prefetch integer 1 without `concurrent`
---@field concurrent_processing boolean
---@field max_retries integer
---@field max_crashes integer
---@field handler_timeout? number seconds; nil: the registry's
---@field on_timeout "retry"|"reject"|"defer"|"ack"
---@field auto_offset_reset "earliest"|"latest"|"none"
---@field group_id? string nil: derived from the queue
---@field max_message_size integer bytes
---@field max_pending_per_key integer
---@field audit boolean false: left out of the registry's audit

-- ---- outcomes

---What a handler returns. Use it bare or call it with a reason: `return shove.retry`, `return shove.retry("billing is down")`.
---A reason that is not a string is turned into one.
---@class shove.Outcome
---@field code integer
---@field reason? string
---@overload fun(reason?: any): shove.Outcome

---Done. Returning nothing means the same.
---@type shove.Outcome
shove.ack = nil

---Again after a delay, which counts: after `max_retries` of them it is dead-lettered as `max_retries_exceeded`. An error
---raised by the handler is a retry with its traceback as the reason.
---@type shove.Outcome
shove.retry = nil

---It cannot succeed: dead-lettered at once, as `rejected`.
---@type shove.Outcome
shove.reject = nil

---Not now: again after the first hold, without counting.
---@type shove.Outcome
shove.defer = nil

-- ---- environment and JSON

---A variable of the environment. Without a default, one that is not set is an error at the script's line. One that is
---set to nothing is an empty string.
---@generic T
---@param name string
---@param default? T returned as it is
---@return string|T
function shove.env(name, default) end

---JSON's null, in bodies read and written.
---@type lightuserdata
shove.null = nil

---JSON's `[]` in a body to be written: an empty Lua table is written as `{}`.
---```lua
---shove.publish("carts", { id = "c-1", lines = shove.empty_array })
---```
---@type table
shove.empty_array = nil

-- ---- messages

---What a handler is given. Fields are made when they are first touched, which must be before the handler returns; a name
---that is no field raises.
---@class shove.Message
---The payload, decoded by the topic's codec on first touch. Touching one that the codec refuses ends the handler, and the
---message is dead-lettered as `deserialize`. nil for a tombstone.
---@field body any
---The bytes. nil for a tombstone.
---@field payload? string
---@field key? string
---@field headers shove.Headers
---The same on every retry, dead letter and replay.
---@field id string
---@field topic string
---@field partition integer
---@field offset integer in the topic it was published to, also on retries
---Milliseconds since 1970, as published.
---@field timestamp integer
---0 on the first call.
---@field retry_count integer
---Whether a handler may have been given it before: true on a retry, after a defer, a timeout, a crash of its worker or a
---replay, and when it was taken and not finished by an earlier run or another process, as of its last commit (one every
---half second). So false says that it is new, except for what was first handed out in the half second before its process
---was killed.
---@field redelivered boolean

---A list of `{ name, value }` in their order, duplicates included. By name it gives the last value:
---`msg.headers["x-trace-id"]`. A null value is `shove.null`.
---@alias shove.Headers { [integer]: { [1]: string, [2]: string|lightuserdata }, [string]: string|lightuserdata }

---What the handler of `app:dead_letters` is given. `topic`, `partition` and `offset` are where it lies in the DLQ; `body` is
---nil when the codec refuses the payload, which may be what the letter died of.
---@class shove.DeadLetter : shove.Message
---`rejected`, `max_retries_exceeded`, `oversize`, `deserialize`, `timeout`, `crashed` or `sequence_poisoned`.
---@field reason string
---@field original_queue string
---@field original_partition integer
---@field original_offset integer
---@field group string whose handler gave it up
---How many times it has died: more than once after a replay.
---@field death_count integer
---What the last handler said: its reason, or its error with the traceback.
---@field error? string
---Milliseconds since 1970.
---@field died_at integer

---A handler runs as a coroutine and may wait in `shove.sleep` and `shove.publish`; others run meanwhile. Returning nothing is
---`shove.ack`; an error is `shove.retry`; so is anything else that is no outcome (nil and a text, too), with a line in
---the log.
---@alias shove.Handler fun(msg: shove.Message): shove.Outcome?

---@alias shove.DeadLetterHandler fun(dead: shove.DeadLetter): shove.Outcome?

-- ---- in handlers

---@class shove.PublishOptions
---Default: what the topic's `key` function makes of the body. Messages of one key go to one partition.
---@field key? string|number
---By name, or a list of `{ name, value }` where order or duplicates matter. Names that begin with `Shove-` are refused.
---@field headers? table<string, string>|shove.Headers
---Default: by the key, or spread where there is none.
---@field partition? integer
---Milliseconds since 1970. Default: now.
---@field timestamp? integer
---A null payload, which on a compacted topic says that the key is gone. Needs a key, and a body of nil.
---@field tombstone? true

---Publishes a message and waits until the broker has stored it: the one that the topic is on, the registry's for a name
---the app does not declare. In handlers and in `app:on_start`.
---```lua
---local ok, err = shove.publish("receipts", { id = order.id }, { key = order.id })
---if not ok then return shove.retry(err) end
---```
---@param topic string|shove.Topic It must exist: publishing never creates a topic. A hold or a poison topic is refused.
---@param body any Written by the codec of the topic, if the app declares it, else as JSON.
---@param options? shove.PublishOptions
---@return true? ok nil when the broker has refused it
---@return string? error
---@return string? code such as `ENOTOPIC`, `ENOPARTITION`, `ETOOLARGE`, `EBACKLOG`
function shove.publish(topic, body, options) end

---@class shove.BatchItem : shove.PublishOptions
---@field body any

---Publishes many messages and waits until the broker has stored them all. Nothing is sent when one of them is misuse.
---```lua
---shove.publish_batch("receipts", { { body = { id = 1 }, key = "1" }, { body = { id = 2 }, key = "2" } })
---```
---@param topic string|shove.Topic
---@param items shove.BatchItem[]
---@return integer? count nil when the broker has refused some
---@return string? error
---@return string? code
---@return { index: integer, error: string, code: string }[]? refused the others are published
function shove.publish_batch(topic, items) end

---Waits without holding up other messages. In handlers and in `app:on_start`.
---@param length shove.Duration 0 lets others run once.
function shove.sleep(length) end

---Lines beside shove's own. Inside a handler each names the message's topic, partition and offset by itself. Tables are
---written as JSON, as far as they fit.
---```lua
---shove.log.warn("dead order", { reason = dead.reason, order = dead.key })
---```
---@class shove.Log
---@field debug fun(message: any, fields?: table<string, any>)
---@field info fun(message: any, fields?: table<string, any>)
---@field warn fun(message: any, fields?: table<string, any>)
---@field error fun(message: any, fields?: table<string, any>)
shove.log = {}

return shove
