-- env.lua: shove.env(name, default): a variable of the environment, or a clear error. Worker processes.

local validate = require "shove.validate"

local M = {}

-- The variable's text, also when it is empty; else `default`; without a default a missing variable is an
-- error.
function M.env(name, default)
    if type(name) ~= "string" or name == "" or name:find "[=%z]" then
        validate.fail("env", "%s is not the name of an environment variable", validate.show(name))
    end
    local value = os.getenv(name)
    if value ~= nil then
        return value
    elseif default == nil then
        validate.fail("env", "%s is not set in the environment, and no default was given: shove.env(%s, default)",
            name, validate.show(name))
    end
    return default
end

return M
