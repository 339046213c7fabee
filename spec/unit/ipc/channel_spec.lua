-- Control and worker attached to the same channel in one process; what needs two threads is channel_stress.c.
local ffi = require "ffi"
local bit = require "bit"
local C, constants = require("spec.support.c").include("ipc/bell.h", "ipc/channel.h", "ipc/channel_layout.h")
local cleanup = require "spec.support.cleanup"
local process = require "spec.support.process"

ffi.cdef [[
ssize_t read(int fd, void *out, size_t size);
int close(int fd);
int fcntl(int fd, int command, ...);
int ftruncate(int fd, long size);
void *mmap(void *address, size_t size, int protection, int flags, int fd, long offset);
int munmap(void *address, size_t size);
]]

local PROT_READ, PROT_WRITE, MAP_SHARED = 1, 2, 1
local HEADER_BYTES = 4096
local NO_MORE = bit.bnot(constants.SHOVE_NOTE_MORE)

local Pair = {}
Pair.__index = Pair

local function new_pair(options)
    options = options or {}
    local self = setmetatable({ outbound_bytes = options.outbound_bytes or 4096 }, Pair)
    local err = ffi.new "struct shove_error"
    self.bell = ffi.new "struct shove_bell"
    assert(C.shove_bell_init(self.bell, err) == 0, ffi.string(err.text))
    local out = ffi.new "struct shove_channel *[1]"
    local settings = ffi.new("struct shove_channel_options", {
        arena_bytes = options.arena_bytes or 65536,
        submit_entries = options.submit_entries or 8,
        outbound_bytes = self.outbound_bytes,
        control_wake_fd = self.bell.ring_fd,
        note_max_bytes = options.note_max_bytes or 0,
    })
    assert(C.shove_channel_new(settings, out, err) == 0, ffi.string(err.text))
    self.control = out[0]
    self.fds = ffi.new "int[4]"
    C.shove_channel_fds(self.control, self.fds)
    assert(C.shove_channel_attach(self.fds, out, err) == 0, ffi.string(err.text))
    self.worker = out[0]
    cleanup.defer(function() self:close() end)
    return self
end

function Pair:close()
    if self.is_closed then return end
    self.is_closed = true
    C.shove_channel_free(self.worker)
    C.shove_channel_free(self.control)
    C.shove_bell_release(self.bell)
end

function Pair:submit(slot, generation, arena_offset)
    local entry = ffi.new("struct shove_submit", { type = C.SHOVE_SUBMIT_MESSAGE, slot = slot,
        generation = generation or 0, arena_offset = arena_offset or 0 })
    return C.shove_channel_submit(self.control, entry)
end

function Pair:next_submit()
    local entry = ffi.new "struct shove_submit"
    if C.shove_channel_next_submit(self.worker, entry) then return entry end
end

function Pair:note(fields, ...)
    local head = ffi.new("struct shove_note", fields)
    local parts = ffi.new("struct shove_part[?]", math.max(select("#", ...), 1))
    for i = 1, select("#", ...) do
        local text = select(i, ...)
        parts[i - 1].data = ffi.cast("const char *", text)
        parts[i - 1].size = #text
    end
    C.shove_channel_note(self.worker, head, parts, select("#", ...))
end

function Pair:settle(slot, text)
    self:note({ type = C.SHOVE_NOTE_SETTLED, slot = slot, generation = slot + 1, outcome = 2 }, text or "")
end

-- status, note, payload
function Pair:next_note()
    local note, payload = ffi.new "struct shove_note", ffi.new "const uint8_t *[1]"
    local status = C.shove_channel_next_note(self.control, note, payload)
    if status ~= 1 then return status end
    return 1, note, ffi.string(payload[0], note.size)
end

function Pair:expect_note(slot, text)
    local status, note, payload = self:next_note()
    assert.are.equal(1, status)
    assert.are.same({ C.SHOVE_NOTE_SETTLED, slot, slot + 1, 2, #text },
        { note.type, note.slot, note.generation, note.outcome, note.size })
    assert.is_true(payload == text, "the payload differs")
end

-- How often the bell was rung, and silences it.
local function bells(fd)
    local rung = ffi.new "char[64]"
    return math.max(0, tonumber(C.read(fd, rung, 64)))
end

local function text_of(size, salt)
    return (("0123456789abcdef" .. salt):rep(math.ceil(size / 17) + 1):sub(1, size))
end

describe("ipc channel", function()
    describe("submit ring", function()
        it("keeps the order and shows nothing before a flush", function()
            local pair = new_pair()
            for slot = 1, 5 do assert.is_true(pair:submit(slot, slot * 10, slot * 64)) end
            assert.is_nil(pair:next_submit())
            C.shove_channel_flush(pair.control)
            for slot = 1, 5 do
                local entry = pair:next_submit()
                assert.are.same({ slot, slot * 10, slot * 64 },
                    { entry.slot, entry.generation, tonumber(entry.arena_offset) })
            end
            assert.is_nil(pair:next_submit())
        end)

        it("is full after as many entries as it has, until the worker lets go of them", function()
            local pair = new_pair { submit_entries = 4 }
            for slot = 1, 4 do assert.is_true(pair:submit(slot)) end
            assert.is_false(pair:submit(5))
            assert.are.equal(0, C.shove_channel_submit_room(pair.control))
            C.shove_channel_flush(pair.control)
            pair:next_submit()
            pair:next_submit()
            assert.is_false(pair:submit(5))
            C.shove_channel_release_submits(pair.worker)
            assert.are.equal(2, C.shove_channel_submit_room(pair.control))
            assert.is_true(pair:submit(5))
        end)

        it("wraps round for ever", function()
            local pair = new_pair { submit_entries = 4 }
            for slot = 1, 1000 do
                assert.is_true(pair:submit(slot))
                if slot % 3 == 0 then
                    C.shove_channel_flush(pair.control)
                    for back = 2, 0, -1 do assert.are.equal(slot - back, pair:next_submit().slot) end
                    C.shove_channel_release_submits(pair.worker)
                end
            end
        end)
    end)

    describe("outbound ring", function()
        it("keeps the order and shows nothing before it is published", function()
            local pair = new_pair()
            pair:settle(1)
            pair:settle(2, "because")
            assert.are.equal(0, (pair:next_note()))
            C.shove_channel_publish_notes(pair.worker)
            pair:expect_note(1, "")
            pair:expect_note(2, "because")
            assert.are.equal(0, (pair:next_note()))
        end)

        it("joins the parts of a note", function()
            local pair = new_pair()
            pair:note({ type = C.SHOVE_NOTE_SETTLED, slot = 7, generation = 8, outcome = 2 }, "a", "", "bc\0", "d")
            C.shove_channel_publish_notes(pair.worker)
            pair:expect_note(7, "abc\0d")
        end)

        it("wraps payloads of every size round its end", function()
            local pair = new_pair()
            for slot = 1, 3000 do
                local text = text_of(slot * 7 % 1025, slot % 10)
                pair:settle(slot, text)
                C.shove_channel_publish_notes(pair.worker)
                pair:expect_note(slot, text)
                C.shove_channel_release_notes(pair.control)
            end
        end)

        it("fills to the last byte, and goes on where it was released", function()
            local pair = new_pair()
            for slot = 1, 256 do pair:settle(slot) end
            C.shove_channel_publish_notes(pair.worker)
            for slot = 1, 256 do pair:expect_note(slot, "") end
            C.shove_channel_release_notes(pair.control)
            for slot = 1, 256 do pair:settle(slot) end
            C.shove_channel_publish_notes(pair.worker)
            for slot = 1, 256 do pair:expect_note(slot, "") end
        end)

        it("carries a note of more than a quarter of the ring in fragments", function()
            local pair = new_pair()
            for slot, size in ipairs { 1024, 1025, 2048, 3000, 4096 - 4 * 16 } do
                local text = text_of(size, slot)
                pair:settle(slot, text)
                C.shove_channel_publish_notes(pair.worker)
                pair:expect_note(slot, text)
                C.shove_channel_release_notes(pair.control)
            end
        end)

        it("waits for the rest of a fragmented note", function()
            local pair = new_pair()
            local function fragment(more, text)
                pair:note({ type = C.SHOVE_NOTE_SETTLED + more, slot = 3, generation = 4, outcome = 2 }, text)
                C.shove_channel_publish_notes(pair.worker)
            end
            fragment(constants.SHOVE_NOTE_MORE, "ab")
            assert.are.equal(0, (pair:next_note()))
            C.shove_channel_release_notes(pair.control)
            fragment(constants.SHOVE_NOTE_MORE, "cd")
            assert.are.equal(0, (pair:next_note()))
            fragment(0, "e")
            pair:expect_note(3, "abcde")
        end)

        it("refuses a note that is joined to more than the limit", function()
            local pair = new_pair { note_max_bytes = 2000 }
            pair:settle(1, text_of(2000, 1))
            C.shove_channel_publish_notes(pair.worker)
            pair:expect_note(1, text_of(2000, 1))
            C.shove_channel_release_notes(pair.control)
            pair:settle(2, text_of(2001, 1))
            C.shove_channel_publish_notes(pair.worker)
            assert.are.equal(C.SHOVE_ECORRUPT, (pair:next_note()))
        end)

        it("reveals after a death what was written and not published", function()
            local pair = new_pair()
            pair:settle(1)
            C.shove_channel_publish_notes(pair.worker)
            pair:settle(2, "told nobody")
            pair:expect_note(1, "")
            assert.are.equal(0, (pair:next_note()))
            C.shove_channel_reveal(pair.control)
            pair:expect_note(2, "told nobody")
            assert.are.equal(0, (pair:next_note()))
        end)
    end)

    it("carries numbered messages and answers of all sizes between two threads, without a lost wake-up", function()
        local folder = assert(require("luv").exepath()):match "^(.*)/"
        local result = process.run({ folder .. "/channel_stress", "60000", tostring(os.time()) }, 120000)
        assert.are.equal(0, result.code, result.process:transcript())
        assert.truthy(result.stdout:find("60000 messages", 1, true), result.stdout)
    end)

    describe("wake-ups", function()
        it("rings the worker once per nap, and never while it is awake", function()
            local pair = new_pair()
            local function submit_and_flush()
                pair:submit(1)
                C.shove_channel_flush(pair.control)
            end
            submit_and_flush()
            assert.are.equal(0, bells(pair.fds[2]))
            pair:next_submit()
            assert.is_false(C.shove_channel_worker_sleeps(pair.worker))
            submit_and_flush()
            submit_and_flush()
            assert.are.equal(1, bells(pair.fds[2]))
            C.shove_channel_worker_wakes(pair.worker)
            submit_and_flush()
            assert.are.equal(0, bells(pair.fds[2]))
            while pair:next_submit() do end
            assert.is_false(C.shove_channel_worker_sleeps(pair.worker))
            C.shove_channel_release_submits(pair.worker)
            submit_and_flush()
            assert.are.equal(1, bells(pair.fds[2]))
        end)

        it("rings control once per nap, and never while it is awake", function()
            local pair = new_pair()
            local function settle_and_publish()
                pair:settle(1)
                C.shove_channel_publish_notes(pair.worker)
            end
            settle_and_publish()
            assert.are.equal(0, bells(pair.bell.listen_fd))
            pair:next_note()
            assert.is_false(C.shove_channel_control_sleeps(pair.control))
            settle_and_publish()
            settle_and_publish()
            assert.are.equal(1, bells(pair.bell.listen_fd))
            C.shove_channel_control_wakes(pair.control)
            settle_and_publish()
            assert.are.equal(0, bells(pair.bell.listen_fd))
        end)

        it("keeps a side from sleeping on what is already there", function()
            local pair = new_pair()
            pair:submit(1)
            C.shove_channel_flush(pair.control)
            assert.is_true(C.shove_channel_worker_sleeps(pair.worker))
            pair:settle(1)
            C.shove_channel_publish_notes(pair.worker)
            assert.is_true(C.shove_channel_control_sleeps(pair.control))
        end)

        it("does not ring for an empty flush or publication", function()
            local pair = new_pair()
            C.shove_channel_worker_sleeps(pair.worker)
            C.shove_channel_control_sleeps(pair.control)
            C.shove_channel_flush(pair.control)
            C.shove_channel_publish_notes(pair.worker)
            assert.are.equal(0, bells(pair.fds[2]))
            assert.are.equal(0, bells(pair.bell.listen_fd))
        end)
    end)

    it("tells which slot runs, since when, and that none does", function()
        local pair = new_pair()
        local slot, generation, since = ffi.new "uint32_t[1]", ffi.new "uint32_t[1]", ffi.new "int64_t[1]"
        assert.is_false(C.shove_channel_running(pair.control, slot, generation, since))
        C.shove_channel_set_begun(pair.worker, 123456789000)
        C.shove_channel_set_running(pair.worker, 12, 4000000000, 123456789012)
        assert.are.equal(123456789000, tonumber(C.shove_channel_begun(pair.control)))
        assert.is_true(C.shove_channel_running(pair.control, slot, generation, since))
        assert.are.same({ 12, 4000000000, 123456789012 }, { slot[0], generation[0], tonumber(since[0]) })
        C.shove_channel_clear_running(pair.worker)
        assert.is_false(C.shove_channel_running(pair.control, slot, generation, since))
    end)

    describe("protection", function()
        it("gives the worker no way to write into the messages", function()
            local pair = new_pair()
            local writable = C.mmap(nil, HEADER_BYTES, PROT_READ + PROT_WRITE, MAP_SHARED, pair.fds[0], 0)
            assert.are.equal(ffi.cast("void *", -1), writable)
        end)

        it("gives the worker no way to shrink a segment under control's feet", function()
            local pair = new_pair()
            assert.are.equal(-1, C.ftruncate(pair.fds[0], 0))
            assert.are.equal(-1, C.ftruncate(pair.fds[1], 0))
        end)

        it("shows the worker what control wrote into the arena", function()
            local pair = new_pair()
            local envelope = ffi.cast("struct shove_envelope *", C.shove_channel_arena(pair.control) + 128)
            envelope.offset, envelope.partition, envelope.payload_size = 42, 7, 3
            ffi.copy(envelope + 1, "abc", 3)
            local seen = C.shove_channel_envelope(pair.worker, 128)
            assert.are.same({ 42, 7, "abc" },
                { tonumber(seen.offset), seen.partition, ffi.string(seen + 1, seen.payload_size) })
        end)

        it("keeps a worker's own children from inheriting the channel", function()
            local pair = new_pair()
            local F_GETFD = 1
            for i = 0, 3 do assert.are.equal(1, C.fcntl(pair.fds[i], F_GETFD)) end
        end)

        it("refuses descriptors that are no channel", function()
            local err, out = ffi.new "struct shove_error", ffi.new "struct shove_channel *[1]"
            local status = C.shove_channel_attach(ffi.new("int[4]", { 900, 901, 902, 903 }), out, err)
            assert.are.equal(C.SHOVE_EUSAGE, status)
            assert.truthy(ffi.string(err.text):find("not by hand", 1, true))
            local pair = new_pair()
            local swapped = ffi.new("int[4]", { pair.fds[1], pair.fds[0], pair.fds[2], pair.fds[3] })
            assert.are.equal(C.SHOVE_ECORRUPT, C.shove_channel_attach(swapped, out, err))
        end)

        it("refuses sizes that are no power of two", function()
            local err, out = ffi.new "struct shove_error", ffi.new "struct shove_channel *[1]"
            for _, sizes in ipairs { { 7, 4096 }, { 0, 4096 }, { 8, 5000 }, { 8, 2048 }, { 8, 0 } } do
                local options = ffi.new("struct shove_channel_options", { arena_bytes = 65536,
                    submit_entries = sizes[1], outbound_bytes = sizes[2] })
                assert.are.equal(C.SHOVE_EINVAL, C.shove_channel_new(options, out, err))
            end
        end)
    end)

    -- What a worker that lost its mind may leave in its segment. Control must say ECORRUPT or carry on; it must not
    -- crash, loop, or yield a note that is larger than what there is.
    describe("hostile outbound segment", function()
        local function map_outbound(pair)
            local size = HEADER_BYTES + pair.outbound_bytes
            local base = ffi.cast("uint8_t *",
                C.mmap(nil, size, PROT_READ + PROT_WRITE, MAP_SHARED, pair.fds[1], 0))
            cleanup.defer(function() C.munmap(base, size) end)
            return ffi.cast("struct channel_outbound *", base), base + HEADER_BYTES
        end

        local function pair_with_one_note()
            local pair = new_pair()
            local header, ring = map_outbound(pair)
            pair:settle(1, "some text")
            C.shove_channel_publish_notes(pair.worker)
            return pair, header, ffi.cast("struct shove_note *", ring), ring
        end

        it("refuses a position beyond the ring, before it, or not on a record", function()
            for _, position in ipairs { 4096 + 16, 2 ^ 40, 8, 33, 1 } do
                local pair, header = pair_with_one_note()
                header.notes_published = position
                assert.are.equal(C.SHOVE_ECORRUPT, (pair:next_note()), "position " .. position)
                assert.are.equal(C.SHOVE_ECORRUPT, (pair:next_note()), "it stays refused")
            end
        end)

        it("refuses more than a ring beyond what was released: it would never come to an end", function()
            for more, status in pairs { [0] = 1, [16] = C.SHOVE_ECORRUPT } do
                local pair, header, _, ring = pair_with_one_note() -- 32 bytes
                pair:expect_note(1, "some text")
                for at = 0, 4095, 16 do
                    ffi.cast("struct shove_note *", ring + at)[0] = { type = C.SHOVE_NOTE_SETTLED, slot = 1 }
                end
                header.notes_published = 4096 + more
                assert.are.equal(status, (pair:next_note()))
            end
        end)

        it("refuses a position that goes back", function()
            local pair, header = pair_with_one_note()
            pair:expect_note(1, "some text")
            header.notes_published = 16
            assert.are.equal(C.SHOVE_ECORRUPT, (pair:next_note()))
        end)

        it("refuses sizes larger than what was published", function()
            for _, size in ipairs { 17, 4096, 4080, 0x7fffffff, 0xfffffff0, 0xffffffff } do
                local pair, _, note = pair_with_one_note()
                note.size = size
                assert.are.equal(C.SHOVE_ECORRUPT, (pair:next_note()), "size " .. size)
            end
        end)

        it("refuses unknown types", function()
            local last = C.SHOVE_NOTE_STOPPING
            for _, kind in ipairs { 0, last + 1, 100, 0x7fff, 0x8000, 0x8000 + last + 1, 0xffff } do
                local pair, _, note = pair_with_one_note()
                note.type = kind
                assert.are.equal(C.SHOVE_ECORRUPT, (pair:next_note()), "type " .. kind)
            end
        end)

        it("refuses a fragment of nothing, and fragments of different notes joined", function()
            local function second_fragment(fields)
                local pair = new_pair()
                local more = C.SHOVE_NOTE_SETTLED + constants.SHOVE_NOTE_MORE
                pair:note({ type = more, slot = 1, generation = 2, outcome = 3 }, fields.first or "begin")
                pair:note({ type = fields.type or C.SHOVE_NOTE_SETTLED, slot = fields.slot or 1,
                    generation = fields.generation or 2, outcome = fields.outcome or 3 }, "end")
                C.shove_channel_publish_notes(pair.worker)
                return (pair:next_note())
            end
            assert.are.equal(1, second_fragment {})
            assert.are.equal(C.SHOVE_ECORRUPT, second_fragment { first = "" })
            assert.are.equal(C.SHOVE_ECORRUPT, second_fragment { slot = 9 })
            assert.are.equal(C.SHOVE_ECORRUPT, second_fragment { generation = 9 })
            assert.are.equal(C.SHOVE_ECORRUPT, second_fragment { outcome = 9 })
            assert.are.equal(C.SHOVE_ECORRUPT, second_fragment { type = C.SHOVE_NOTE_PUBLISH })
        end)

        it("gives no room to submit when the worker claims to have read what was never there", function()
            for _, position in ipairs { 1, 9, 2 ^ 50 } do
                local pair, header = pair_with_one_note()
                header.submits_released = position
                assert.are.equal(0, C.shove_channel_submit_room(pair.control))
                assert.is_false(pair:submit(1))
                assert.are.equal(C.SHOVE_ECORRUPT, (pair:next_note()))
            end
        end)

        it("bears every single flipped bit of a header, and any noise", function()
            local seed = tonumber(os.getenv "SHOVE_TEST_SEED") or os.time()
            math.randomseed(seed)
            for round = 1, 3000 do
                local pair = new_pair()
                local size = HEADER_BYTES + pair.outbound_bytes
                local base = ffi.cast("uint8_t *",
                    C.mmap(nil, size, PROT_READ + PROT_WRITE, MAP_SHARED, pair.fds[1], 0))
                for slot = 1, 10 do pair:settle(slot, text_of(slot * 13, slot)) end
                C.shove_channel_publish_notes(pair.worker)
                local used = 10 * 16 + 800
                if round <= 1000 then
                    local at = math.random(0, used - 1)
                    base[HEADER_BYTES + at] = bit.bxor(base[HEADER_BYTES + at], bit.lshift(1, math.random(0, 7)))
                else
                    for _ = 1, math.random(1, 60) do
                        local at = math.random() < 0.3 and math.random(0, 511) or HEADER_BYTES + math.random(0, used)
                        base[at] = math.random(0, 255)
                    end
                end
                local notes = 0
                repeat
                    local status, note, payload = pair:next_note()
                    if status == 1 then
                        notes = notes + 1
                        assert(note.size == #payload and note.size <= pair.outbound_bytes, "seed " .. seed)
                        assert(bit.band(note.type, NO_MORE) == note.type, "seed " .. seed)
                    end
                until status ~= 1
                assert(notes <= pair.outbound_bytes / 16, "seed " .. seed)
                C.shove_channel_release_notes(pair.control)
                C.shove_channel_submit_room(pair.control)
                C.shove_channel_running(pair.control, ffi.new "uint32_t[1]", ffi.new "uint32_t[1]",
                    ffi.new "int64_t[1]")
                C.shove_channel_reveal(pair.control)
                pair:next_note()
                C.munmap(base, size)
                pair:close()
            end
        end)
    end)
end)
