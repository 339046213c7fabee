-- A shop's orders, and every way an order can go: billed, billed at the third try, waiting for stock, given up.
-- README.md says what to watch for. Run it with `make run`, or: shove run examples/orders/app.lua
local cjson = require "cjson"
local shove = require "shove"

local app = shove.registry {
    broker = shove.env("SHOVE_BROKER", "embedded:./orders.db"),
    handler_timeout = "5s",
}

-- The codec: JSON, and only an object can be an order. What decode raises on goes to the dead letters by itself.
local order_codec = {
    encode = cjson.encode,
    decode = function(payload)
        local order = cjson.decode(payload)
        if type(order) ~= "table" then
            error("an order is a JSON object", 0)
        end
        return order
    end,
}

-- The first retry waits 1 s, later ones 3 s, in topics of their own. What cannot succeed goes to orders-dlq.
local orders = app:topic("orders", { hold = { "1s", "3s" }, dlq = true, codec = order_codec, retention = "1h" })

-- Only published to: another program of the shop would read the receipts.
app:topic("receipts", { retention = "1h" })

-- The billing service of this story: it does not answer the first `order.outages` calls about an order.
local function bill(order, calls_before)
    shove.sleep "30ms"
    if calls_before < order.outages then
        return nil, ("billing did not answer call %d"):format(calls_before + 1)
    end
    return true
end

local RESTOCKED_AFTER_S = 2

local group = shove.group {
    consumers = { min = 2, max = 2 },
    prefetch = 8, -- with 2 consumers: up to 16 orders at once
    concurrent = true,
    max_retries = 3,
}

app:register(orders, group, function(msg)
    local order = msg.body
    if not order.id then
        return shove.reject "order without id"
    end
    if order.preorder and os.time() - msg.timestamp / 1000 < RESTOCKED_AFTER_S then
        shove.log.info("order waits for stock", { order = order.id })
        return shove.defer "not in stock yet"
    end
    local ok, err = bill(order, msg.retry_count)
    if not ok then
        shove.log.warn("order not billed", { order = order.id, why = err })
        return shove.retry(err)
    end
    ok, err = shove.publish("receipts", { order = order.id, eur = order.eur }, { key = order.id })
    if not ok then
        return shove.retry(err)
    end
    shove.log.info("order billed", { order = order.id, eur = order.eur, retries = msg.retry_count })
    return shove.ack
end)

app:dead_letters(orders, function(dead)
    shove.log.error("dead letter", { reason = dead.reason, why = dead.error, payload = dead.payload })
end)

-- The customers: 40 orders, ten a second. Which number meets which trouble is the same on every run.
local OUTAGES = { [4] = 1, [9] = 2, [15] = 1, [22] = 3, [28] = 1, [33] = 99 } -- 99: never billed, given up in the end
local PREORDERS = { [6] = true, [19] = true }
local WITHOUT_ID = { [12] = true, [30] = true }
local NO_ORDER = { [25] = true }

local function sample(number, day)
    if NO_ORDER[number] then
        return "oops"
    end
    return {
        id = not WITHOUT_ID[number] and ("%s-%02d"):format(day, number) or nil,
        eur = 5 + number * 7 % 50,
        outages = OUTAGES[number] or 0,
        preorder = PREORDERS[number],
    }
end

app:on_start(function()
    local day = os.date "%H%M%S" -- each run has orders of its own, beside what an earlier one left in orders.db
    for number = 1, 40 do
        local ok, err = shove.publish("orders", sample(number, day))
        if not ok then
            shove.log.error("order not placed", { number = number, why = err })
        end
        shove.sleep "100ms"
    end
    shove.log.info("all 40 orders are placed; late ones are still to come; Ctrl-C when you have seen enough")
end)

return app
