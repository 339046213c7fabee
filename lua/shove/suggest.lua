-- suggest.lua: the word somebody probably meant. Pure.

local M = {}

local CONTAINED_CHARS_MIN = 4
local WORD_CHARS_MAX = 64

local function folded(word)
    return (word:lower():gsub("[%s_%-%.]", ""))
end

-- Edits (insert, delete, replace, swap of neighbours) that turn one word into the other.
local function distance(a, b)
    local before_previous, previous = {}, {}
    for j = 0, #b do
        previous[j] = j
    end
    for i = 1, #a do
        local current = { [0] = i }
        for j = 1, #b do
            local cost = a:byte(i) == b:byte(j) and 0 or 1
            local best = math.min(previous[j] + 1, current[j - 1] + 1, previous[j - 1] + cost)
            if i > 1 and j > 1 and a:byte(i) == b:byte(j - 1) and a:byte(i - 1) == b:byte(j) then
                best = math.min(best, before_previous[j - 2] + 1)
            end
            current[j] = best
        end
        before_previous, previous = previous, current
    end
    return previous[#b]
end

local function contains(a, b)
    return #a >= CONTAINED_CHARS_MIN and #b >= CONTAINED_CHARS_MIN
        and (a:find(b, 1, true) or b:find(a, 1, true)) ~= nil
end

-- The one of `words` nearest to `word`, or nil when none is near. Case, underscores and dashes do not count.
-- Of words equally near the first is taken.
function M.nearest(word, words)
    if type(word) ~= "string" or #word == 0 or #word > WORD_CHARS_MAX then
        return nil
    end
    local wanted = folded(word)
    local nearest, nearest_edits
    for _, candidate in ipairs(words) do
        local known = folded(candidate)
        local edits = distance(wanted, known)
        local is_near = edits <= math.max(1, math.floor(math.max(#wanted, #known) / 3))
        if (is_near or contains(wanted, known)) and (not nearest or edits < nearest_edits) then
            nearest, nearest_edits = candidate, edits
        end
    end
    return nearest
end

-- ' (did you mean "x"?)', or "" when none of `words` is near.
function M.hint(word, words)
    local near = M.nearest(word, words)
    return near and (' (did you mean "%s"?)'):format(near) or ""
end

return M
