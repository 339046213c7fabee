rockspec_format = "3.0"
package = "shove"
version = "scm-1"

source = {
    url = "git+file://.",
}

description = {
    summary = "Runs message consumers written in Lua, on Kafka or on an embedded durable broker",
    detailed = [[
        One Lua file says which topics exist and what to do with each message; `shove run app.lua` consumes, runs
        handlers concurrently, retries with durable delays, dead-letters what cannot succeed, and drains on shutdown.
    ]],
    license = "MIT",
    labels = { "kafka", "queue", "consumer" },
}

-- lua-cjson and luv are linked or loaded from the system, beside LuaJIT, libuv, LMDB, jansson, libmicrohttpd, mimalloc, uthash
-- and librdkafka 2.2 or newer: `make deps` installs or builds all of them.
dependencies = {
    "lua ~> 5.1",
}

external_dependencies = {
    LUAJIT = { header = "luajit-2.1/luajit.h" },
    UV = { header = "uv.h" },
    LMDB = { header = "lmdb.h" },
    JANSSON = { header = "jansson.h" },
    MICROHTTPD = { header = "microhttpd.h" },
    UTHASH = { header = "uthash.h" },
    MIMALLOC = { library = "mimalloc" },
}

build = {
    type = "cmake",
    variables = {
        CMAKE_BUILD_TYPE = "Release",
        CMAKE_C_FLAGS_RELEASE = "-O2 -g",
        CMAKE_INSTALL_PREFIX = "$(PREFIX)",
        SHOVE_SPECS = "OFF",
    },
}
