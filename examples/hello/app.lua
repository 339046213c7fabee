-- shove run examples/hello/app.lua
local shove = require "shove"

local app = shove.registry { broker = "memory:" }
local greetings = app:topic "greetings"

app:register(greetings, {}, function(msg)
    shove.log.info("hello, " .. msg.body.name)
end)

app:on_start(function()
    shove.publish("greetings", { name = "world" })
end)

return app
