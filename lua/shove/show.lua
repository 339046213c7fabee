-- show.lua: a value as a message of error shows it: short, on one line, without control characters. Pure.
--
-- tostring is not asked: a script may have given numbers and booleans a metatable.

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
        return value ~= value and "NaN" or string.format("%.14g", value)
    elseif kind == "nil" or kind == "boolean" then
        return kind == "nil" and "nil" or value and "true" or "false"
    end
    return "a " .. kind
end

local SEQUENCES = { -- well-formed UTF-8 beyond ASCII, by first byte
    "^[\194-\223][\128-\191]",
    "^\224[\160-\191][\128-\191]",
    "^[\225-\236\238\239][\128-\191][\128-\191]",
    "^\237[\128-\159][\128-\191]",
    "^\240[\144-\191][\128-\191][\128-\191]",
    "^[\241-\243][\128-\191][\128-\191][\128-\191]",
    "^\244[\128-\143][\128-\191][\128-\191]",
}

local function sequence_end(text, at)
    for _, pattern in ipairs(SEQUENCES) do
        local _, last = text:find(pattern, at)
        if last then
            return last
        end
    end
    return nil
end

-- The text with "?" for every byte that is not UTF-8, which JSON cannot carry.
function M.utf8(text)
    local parts, at = {}, 1
    while true do
        local bad = text:find("[\128-\255]", at)
        if not bad then
            parts[#parts + 1] = text:sub(at)
            return table.concat(parts)
        end
        local last = sequence_end(text, bad)
        parts[#parts + 1] = text:sub(at, last or bad - 1)
        if not last then
            parts[#parts + 1] = "?"
        end
        at = (last or bad) + 1
    end
end

return M
