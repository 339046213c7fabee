-- show.lua: a value as a message of error shows it: short, on one line, without control characters. Pure.

local M = {}

local SHOWN_BYTES_MAX = 60

local function escape(char)
    return ("\\%d"):format(char:byte())
end

function M.value(value)
    local kind = type(value)
    if kind == "string" then
        local shown = value
        if #value > SHOWN_BYTES_MAX then
            -- Not through the middle of a UTF-8 sequence.
            shown = value:sub(1, SHOWN_BYTES_MAX):gsub("[\192-\255][\128-\191]*$", "") .. "..."
        end
        return '"' .. shown:gsub('[%c"\\]', escape) .. '"'
    elseif kind == "number" then
        return value ~= value and "NaN" or tostring(value)
    elseif kind == "nil" or kind == "boolean" then
        return tostring(value)
    end
    return "a " .. kind
end

return M
