-- Durations and sizes, the word that was meant, and text that is not UTF-8.

require "spec.lua.script"
local duration = require "shove.duration"
local show = require "shove.show"
local size = require "shove.size"
local suggest = require "shove.suggest"

describe("A duration", function()
    for _, row in ipairs {
        { "500ms", 500 }, { "5s", 5000 }, { "5m", 300000 }, { "1h", 3600000 }, { "1.5s", 1500 }, { "0.1s", 100 },
        { 5, 5000 }, { 0.25, 250 }, { 0.1, 100 }, { 1.1, 1100 }, { 0, 0 }, { -1, -1000 }, { "-1s", -1000 },
        { "90m", 5400000 }, { "007s", 7000 },
    } do
        it(("reads %s as %d ms"):format(show.value(row[1]), row[2]), function()
            assert.equal(row[2], duration.parse(row[1]))
        end)
    end

    for _, value in ipairs {
        "", "5", "s", "5 s", "5S", "5M", "5d", "5sec", "1h30m", "5s ", " 5s", "1e3s", "0x5s", ".5s", "5..5s", "5,5s", "5s\n",
        0 / 0, math.huge, -math.huge, 1e300, ("9"):rep(400) .. "h", true, {}, print, 5LL,
    } do
        it("is not " .. show.value(value), function()
            local ms, text = duration.parse(value)
            assert.is_nil(ms)
            assert.equal(show.value(value)
                .. ' is not a duration; write "500ms", "5s", "5m", "1h" or a number of seconds', text)
        end)
    end

    it("is not nil", function()
        assert.is_nil((duration.parse(nil)))
    end)

    for _, row in ipairs { { 1, "1ms" }, { 999, "999ms" }, { 1000, "1s" }, { 1500, "1500ms" }, { 60000, "1m" },
                           { 90000, "90s" }, { 3600000, "1h" }, { 0, "0ms" } } do
        it(("of %d ms is written %s, which reads as the same"):format(row[1], row[2]), function()
            assert.equal(row[2], duration.format(row[1]))
            assert.equal(row[1], duration.parse(row[2]))
        end)
    end
end)

describe("A size", function()
    for _, row in ipairs {
        { "10MiB", 10 * 1024 * 1024 }, { "64KiB", 65536 }, { "1GiB", 1024 ^ 3 }, { "500kB", 500000 }, { "10MB", 10000000 },
        { "2GB", 2000000000 }, { "17B", 17 }, { "1.5KiB", 1536 }, { 10, 10 }, { 0, 0 }, { -1, -1 },
    } do
        it(("reads %s as %d bytes"):format(show.value(row[1]), row[2]), function()
            assert.equal(row[2], size.parse(row[1]))
        end)
    end

    for _, value in ipairs {
        "", "10", "10M", "10K", "10KB", "10mb", "10 MiB", "MiB", "1e3B", 0 / 0, math.huge, -math.huge, 1e300, true, {}, print,
    } do
        it("is not " .. show.value(value), function()
            local bytes, text = size.parse(value)
            assert.is_nil(bytes)
            assert.equal(show.value(value) .. ' is not a size; write "10MiB", "64KiB", "500kB" or a number of bytes', text)
        end)
    end

    it("is whole", function()
        assert.same({ nil, "0.5 is not a whole number of bytes" }, { size.parse(0.5) })
        assert.same({ nil, '"0.3KiB" is not a whole number of bytes' }, { size.parse "0.3KiB" })
    end)

    for _, row in ipairs { { 1, "1B" }, { 1024, "1KiB" }, { 1025, "1025B" }, { 1024 ^ 2, "1MiB" }, { 1024 ^ 3, "1GiB" } } do
        it(("of %d bytes is written %s, which reads as the same"):format(row[1], row[2]), function()
            assert.equal(row[2], size.format(row[1]))
            assert.equal(row[1], size.parse(row[2]))
        end)
    end
end)

describe("The word that was meant", function()
    local WORDS = { "consumers", "prefetch", "concurrent", "max_retries", "handler_timeout", "group_id", "dlq", "hold" }

    for _, row in ipairs {
        { "consumer", "consumers" }, { "prefecth", "prefetch" }, { "retries", "max_retries" }, { "maxRetries", "max_retries" },
        { "timeout", "handler_timeout" }, { "groupid", "group_id" }, { "group-id", "group_id" }, { "DLQ", "dlq" },
        { "dql", "dlq" }, { "holds", "hold" },
    } do
        it(("for %s is %s"):format(row[1], row[2]), function()
            assert.equal(row[2], suggest.nearest(row[1], WORDS))
        end)
    end

    for _, word in ipairs { "zzz", "", "x", "completely_different", ("consumers"):rep(20) } do
        it(("is not guessed for %s"):format(show.value(word):sub(1, 30)), function()
            assert.is_nil(suggest.nearest(word, WORDS))
        end)
    end

    it("is not guessed for what is no word", function()
        assert.is_nil(suggest.nearest(1, WORDS))
        assert.is_nil(suggest.nearest({}, WORDS))
    end)

    it("is told as a hint, which is empty where none is guessed", function()
        assert.equal(' (did you mean "prefetch"?)', suggest.hint("prefecth", WORDS))
        assert.equal("", suggest.hint("zzz", WORDS))
        assert.equal("", suggest.hint(1, WORDS))
    end)
end)

describe("Text for JSON", function()
    for _, row in ipairs {
        { "", "" }, { "abc", "abc" }, { "é𝄞", "é𝄞" }, { "\255", "?" }, { "a\195", "a?" }, { "\195\40", "?(" },
        { "\237\160\128", "???" }, { "\240\144\128x", "???x" }, { "\244\144\128\128", "????" }, { "\192\128", "??" },
        { "é\255é", "é?é" },
    } do
        it(("has %s for %s"):format(row[2], show.value(row[1]):gsub("[\128-\255]", ".")), function()
            assert.equal(row[2], show.utf8(row[1]))
        end)
    end
end)
