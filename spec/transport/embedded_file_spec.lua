-- The embedded broker's file: made whole, shared, and refused when it is not what it should be. Nothing here is repaired or
-- overwritten: a refused file is the same afterwards, byte for byte.
local ffi = require "ffi"
local uv = require "luv"
local driver = require "spec.transport.driver"
local process = require "spec.support.process"
local tmp = require "spec.support.tmp"

local C = driver.C

ffi.cdef [[
typedef struct MDB_env MDB_env; typedef struct MDB_txn MDB_txn; typedef unsigned int MDB_dbi;
typedef struct MDB_val { size_t mv_size; void *mv_data; } MDB_val;
int mdb_env_create(MDB_env **env);
int mdb_env_set_maxdbs(MDB_env *env, MDB_dbi dbs);
int mdb_env_open(MDB_env *env, const char *path, unsigned int flags, int mode);
void mdb_env_close(MDB_env *env);
int mdb_txn_begin(MDB_env *env, MDB_txn *parent, unsigned int flags, MDB_txn **txn);
int mdb_txn_commit(MDB_txn *txn);
int mdb_dbi_open(MDB_txn *txn, const char *name, unsigned int flags, MDB_dbi *dbi);
int mdb_put(MDB_txn *txn, MDB_dbi dbi, MDB_val *key, MDB_val *data, unsigned int flags);
]]
local MDB_NOSUBDIR, MDB_CREATE = 0x4000, 0x40000

local dir, path

before_each(function()
    dir = tmp.dir()
    path = dir .. "/broker.db"
end)

local function peer(...)
    return process.spawn { uv.exepath():match "^(.*)/" .. "/transport_peer", ... }
end

-- A broker with `count` records in the topic "t" of two partitions, closed.
local function make(count, payload)
    local t = assert(driver.open("embedded:" .. path))
    assert(t:declare { { name = "t", partitions = 2 } })
    for from = 1, count, 500 do
        local records = {}
        for i = from, math.min(from + 499, count) do
            table.insert(records, { payload = (payload or "record ") .. i, partition = i % 2 })
        end
        for _, ack in ipairs(t:publish("t", records)) do assert.equal(0, ack.code) end
    end
    t:close()
end

local function refused_as(code, ...)
    local before = tmp.read(path)
    local t, found, text = driver.open("embedded:" .. path)
    assert.is_nil(t)
    assert.equal(code, found)
    assert.matches(path, text, 1, true)
    for _, part in ipairs { ... } do assert.matches(part, text, 1, true) end
    assert.is_true(tmp.read(path) == before, "the file was changed")
    return text
end

-- Writes one value with LMDB itself.
local function lmdb_put(file, database, key, value)
    local env, txn, dbi = ffi.new "MDB_env *[1]", ffi.new "MDB_txn *[1]", ffi.new "MDB_dbi[1]"
    assert(C.mdb_env_create(env) == 0)
    assert(C.mdb_env_set_maxdbs(env[0], 16) == 0)
    assert(C.mdb_env_open(env[0], file, MDB_NOSUBDIR, tonumber("644", 8)) == 0)
    assert(C.mdb_txn_begin(env[0], nil, 0, txn) == 0)
    assert(C.mdb_dbi_open(txn[0], database, MDB_CREATE, dbi) == 0)
    local k, v = ffi.new("char[?]", #key + 1, key), ffi.new("char[?]", #value + 1, value)
    assert(C.mdb_put(txn[0], dbi[0], ffi.new("MDB_val", { #key, k }), ffi.new("MDB_val", { #value, v }), 0) == 0)
    assert(C.mdb_txn_commit(txn[0]) == 0)
    C.mdb_env_close(env[0])
end

describe("The embedded broker's file", function()
    it("is made when it is not there, with its two companions and nothing else", function()
        make(1)
        local names = {}
        local scan = uv.fs_scandir(dir)
        for name in function() return uv.fs_scandir_next(scan) end do table.insert(names, name) end
        table.sort(names)
        assert.same({ "broker.db", "broker.db-groups", "broker.db-lock" }, names)
    end)

    it("is not made by who only wants to look", function()
        local t, code, text = driver.open("embedded:" .. path, { must_exist = true })
        assert.is_nil(t)
        assert.equal(C.SHOVE_EUNREACHABLE, code)
        assert.matches(path, text, 1, true)
        assert.is_nil(uv.fs_stat(path))
        assert.is_nil(uv.fs_stat(path .. "-groups"))
    end)

    it("needs a folder that is there", function()
        local t, code, text = driver.open("embedded:" .. dir .. "/no/such/folder.db")
        assert.is_nil(t)
        assert.equal(C.SHOVE_EUNREACHABLE, code)
        assert.matches("folder", text, 1, true)
    end)

    it("is opened once per process", function()
        local t = assert(driver.open("embedded:" .. path))
        local other, code = driver.open("embedded:" .. dir .. "/./broker.db")
        assert.is_nil(other)
        assert.equal(C.SHOVE_EBUSY, code)
        -- And the refusal did not cost the first its locks: another process still sees that it is there.
        assert(t:declare { { name = "t", partitions = 1 } })
        local sub = assert(t:subscribe { group = "g", topics = { "t" } })
        t:wait_claims(sub, 1)
        local second = peer("embedded:" .. path, "consume", "g", "t")
        second:wait_for("error EBUSY: .*pid " .. uv.os_getpid(), driver.deadline_ms)
        second:wait_exit(driver.deadline_ms)
    end)

    it("is the same file through a link, with the same locks", function()
        assert(uv.fs_mkdir(dir .. "/elsewhere", tonumber("755", 8)))
        for _, case in ipairs { { "/link.db", "broker.db" }, { "/elsewhere/far.db", "../link.db" } } do
            assert(uv.fs_symlink(case[2], dir .. case[1]))
        end
        -- Nothing is there yet: it is made where the link leads.
        local t = assert(driver.open("embedded:" .. dir .. "/elsewhere/far.db"))
        assert.equal("file", assert(uv.fs_lstat(path)).type)
        assert(t:declare { { name = "t", partitions = 1 } })
        local sub = assert(t:subscribe { group = "g", topics = { "t" } })
        t:wait_claims(sub, 1)
        for _, name in ipairs { path, dir .. "/link.db" } do
            local other = peer("embedded:" .. name, "consume", "g", "t")
            other:wait_for("error EBUSY: .*pid " .. uv.os_getpid(), driver.deadline_ms)
            other:wait_exit(driver.deadline_ms)
            local _, code = driver.open("embedded:" .. name)
            assert.equal(C.SHOVE_EBUSY, code)
        end
        for _, name in ipairs { "/link.db", "/elsewhere/far.db" } do
            assert.is_nil(uv.fs_stat(dir .. name .. "-lock"))
            assert.is_nil(uv.fs_stat(dir .. name .. "-groups"))
        end
    end)

    it("is refused in words to who has the number of a process that uses it, as in two containers", function()
        make(1)
        -- Perl, which every Debian has, stands for the other: LMDB locks the byte of its own number.
        local other = process.spawn { "perl", "-MFcntl", "-e", [[
            open my $file, "+<", $ARGV[0] or die; $| = 1;
            fcntl($file, F_SETLK, pack("s s x4 q q l x4", F_WRLCK, 0, $ARGV[1], 1, 0)) or die;
            print "locked\n"; <STDIN>; sleep 60]], path .. "-lock", tostring(uv.os_getpid()) }
        other:wait_for("locked", driver.deadline_ms)
        local text = refused_as(C.SHOVE_EBUSY, "another process has the same number as this one", "PID namespace")
        assert.is_nil(text:find("Resource temporarily unavailable", 1, true))
        other:kill "sigkill"
        other:wait_exit(driver.deadline_ms)
        assert(driver.open("embedded:" .. path))
    end)

    it("is not looked for along a link that leads in a circle", function()
        assert(uv.fs_symlink("broker.db", path))
        local t, code, text = driver.open("embedded:" .. path)
        assert.is_nil(t)
        assert.equal(C.SHOVE_EUNREACHABLE, code)
        assert.matches(path .. " is a link that leads in a circle: remove it", text, 1, true)
    end)

    it("is finished by the next one when its maker died half way", function()
        tmp.write(path .. "-new", "half a file")
        make(10)
        assert.is_nil(uv.fs_stat(path .. "-new"))
        local t = assert(driver.open("embedded:" .. path))
        assert.equal(10, #t:read_all "t")
    end)

    it("is made once by several who come at the same time", function()
        local peers = {}
        for i = 1, 6 do
            -- The topic is missing: they all open, and are refused only after.
            peers[i] = peer("embedded:" .. path, "publish", "missing", "1", "x")
        end
        for _, p in ipairs(peers) do
            p:wait_for("error ENOTOPIC", driver.deadline_ms)
            p:wait_exit(driver.deadline_ms)
        end
    end)

    it("is refused when it is some other file, which stays as it is", function()
        tmp.write(path, "These are somebody's notes.\n" .. ("x"):rep(20000))
        refused_as(C.SHOVE_EDAMAGED, "left as it is")
        assert.is_nil(uv.fs_stat(path .. "-groups"))
        assert.is_nil(uv.fs_stat(path .. "-lock"))
    end)

    it("is refused when it is empty", function()
        tmp.write(path, "")
        refused_as(C.SHOVE_EDAMAGED, "is empty")
    end)

    it("is refused when it is a folder", function()
        assert(uv.fs_mkdir(path, tonumber("755", 8)))
        local t, code, text = driver.open("embedded:" .. path)
        assert.is_nil(t)
        assert.equal(C.SHOVE_EDAMAGED, code)
        assert.matches("not a file", text, 1, true)
    end)

    it("is refused when it was zero-filled", function()
        make(100)
        tmp.write(path, ("\0"):rep(#tmp.read(path)))
        refused_as(C.SHOVE_EDAMAGED)
    end)

    it("is refused when it is LMDB's, but not ours", function()
        lmdb_put(path, "somebody", "key", "value")
        refused_as(C.SHOVE_EDAMAGED, "not one of shove's")
    end)

    it("is refused when it has a later format, and says which", function()
        make(1)
        lmdb_put(path, "meta", "format", "shove\0\0\0" .. "\99\0\0\0" .. "\0\0\0\0")
        refused_as(C.SHOVE_EDAMAGED, "format 99", "format 1")
    end)

    it("is refused when it was cut short, by half or by little", function()
        make(4000)
        local whole = tmp.read(path)
        for _, size in ipairs { math.floor(#whole / 2), #whole - 40960, 8192, 5000, 100 } do
            tmp.write(path, whole:sub(1, size))
            refused_as(C.SHOVE_EDAMAGED)
        end
        tmp.write(path, whole)
        local t = assert(driver.open("embedded:" .. path))
        assert.equal(4000, #t:read_all "t")
    end)

    it("is refused when a page of a tree was zeroed", function()
        make(4000)
        local whole = tmp.read(path)
        local refusals = 0
        for page = 2, #whole / 4096 - 1 do
            local flags = whole:byte(page * 4096 + 11)
            if flags == 1 or flags == 2 then
                tmp.write(path, whole:sub(1, page * 4096) .. ("\0"):rep(4096) .. whole:sub((page + 1) * 4096 + 1))
                -- Free pages may hold anything.
                local t, code = driver.open("embedded:" .. path)
                if t then
                    assert.equal(4000, #t:read_all "t")
                    t:close()
                else
                    assert.equal(C.SHOVE_EDAMAGED, code)
                    refusals = refusals + 1
                end
            end
        end
        assert.is_true(refusals > 5)
    end)

    it("that cannot be written is refused as read-only, with what to do", function()
        make(1)
        -- Root may write anything, so another user asks.
        if uv.getuid() ~= 0 then
            assert(uv.fs_chmod(path, tonumber("444", 8)))
            refused_as(C.SHOVE_EREADONLY, "right")
            return
        end
        assert(uv.fs_chmod(dir, tonumber("755", 8)))
        assert(uv.fs_chmod(path, tonumber("644", 8)))
        local runner = uv.exepath():match "^(.*)/" .. "/transport_peer"
        local copy = dir .. "/transport_peer"
        assert(uv.fs_copyfile(runner, copy))
        for _, broker in ipairs { "embedded:" .. path, "embedded:" .. dir .. "/new.db" } do
            local other = process.spawn { "setpriv", "--reuid=65534", "--clear-groups", copy, broker, "publish", "t", "1", "x" }
            local line = other:wait_for("error EREADONLY", driver.deadline_ms)
            assert.matches(dir, line, 1, true)
            assert.matches("right", line, 1, true)
            assert.equal(1, (other:wait_exit(driver.deadline_ms)))
        end
    end)

    it("that is taken away while in use ends its consumers and acknowledges nothing more", function()
        make(1)
        local t = assert(driver.open("embedded:" .. path))
        local sub = assert(t:subscribe { group = "g", topics = { "t" } })
        t:wait_claims(sub, 2)
        for _, name in ipairs { "", "-lock", "-groups" } do assert(uv.fs_unlink(path .. name)) end
        local ended = t:finish(sub)
        assert.equal(C.SHOVE_EIO, ended.code)
        assert.matches("removed or replaced", ended.text, 1, true)
        assert.is_true(t:publish("t", { { payload = "x" } })[1].code < 0)
    end)
end)

describe("A damaged record", function()
    -- Everywhere: pages that are no longer in use still hold it.
    local function flip(text)
        local bytes, count = tmp.read(path):gsub(text, text:upper())
        assert(count > 0, "the record is not in the file")
        tmp.write(path, bytes)
    end

    it("ends the subscription, with its place, after what came before it; nothing is skipped", function()
        local t = assert(driver.open("embedded:" .. path))
        assert(t:declare { { name = "t", partitions = 1 } })
        for _, payload in ipairs { "good 1", "good 2", "to be damaged", "good 3" } do
            assert.equal(0, t:publish("t", { { payload = payload } })[1].code)
        end
        t:close()
        flip "to be damaged"
        t = assert(driver.open("embedded:" .. path))
        local sub = assert(t:subscribe { group = "g", topics = { "t" } })
        local claims = t:wait_claims(sub, 1)
        local records = t:take_once(claims[1].claim, 10)
        assert.equal(2, #records)
        assert.equal("good 2", records[2].payload)
        local none, code = t:take_once(claims[1].claim, 10)
        assert.is_nil(none)
        assert.equal(C.SHOVE_ECORRUPT, code)
        -- What was handled before it can still be committed.
        t:wait_events("revoking", 1)
        assert.same({ 0 }, t:commit(sub, { { claim = claims[1].claim, offset = 2 } }))
        local ended = t:finish(sub)
        assert.equal(C.SHOVE_ECORRUPT, ended.code)
        assert.matches("'t' partition 0 offset 2", ended.text, 1, true)
        local read, read_code, text = t:read("t", 0, 2, 10)
        assert.is_nil(read)
        assert.equal(C.SHOVE_ECORRUPT, read_code)
        assert.matches("offset 2", text, 1, true)
        -- The way out that the words name.
        assert(t:delete_before("t", 0, 3))
        local again = assert(t:subscribe { group = "g", topics = { "t" } })
        assert.equal("good 3", t:take(t:wait_claims(again, 1), 1)[1].payload)
        t:leave(again)
    end)

    it("inside a large record is seen too", function()
        local t = assert(driver.open("embedded:" .. path))
        assert(t:declare { { name = "t", partitions = 1 } })
        assert.equal(0, t:publish("t", { { payload = ("a"):rep(100000) .. "mark" .. ("b"):rep(100000) } })[1].code)
        t:close()
        flip "mark"
        t = assert(driver.open("embedded:" .. path))
        local _, code = t:read("t", 0, 0, 1)
        assert.equal(C.SHOVE_ECORRUPT, code)
    end)
end)
