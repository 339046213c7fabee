# The commands a person types. What is built, and how, is in CMakeLists.txt and CMakePresets.json.
#
#   make run                     everything a fresh Debian machine needs, then examples/orders on the embedded broker
#   make run APP=x.lua ARGS=...  the same with another app, and arguments for 'shove run'
#   make test [SUITES="unit lua"]

APP    ?= examples/orders/app.lua
ARGS   ?=
SUITES ?=
PREFIX ?= /usr/local
JOBS   ?= $(shell nproc)

.PHONY: help deps deps-build build dev asan tsan clang run test bench figures hostile chaos lint format install clean prove-bare-root

help:
	@echo "make run              install what is missing, build, run APP ($(APP)) with ARGS"
	@echo "make test             all suites, with a Kafka of their own; SUITES=\"unit lua\" for some of them"
	@echo "make build            the program, at build/shove"
	@echo "make deps             packages and librdkafka, for building and testing"
	@echo "make bench            throughput and memory beside a bare librdkafka loop"
	@echo "make figures          reloads, scaling, idling, consumers: what was promised, and what is measured"
	@echo "make hostile          a good group beside each kind of bad handler: its throughput, and that it loses nothing"
	@echo "make chaos            the order of keys while processes, workers and the broker are killed; CHAOS_ROUNDS=20"
	@echo "make lint             clang-format, clang-tidy, luacheck"
	@echo "make format           let clang-format rewrite the C files"
	@echo "make dev asan tsan clang   that preset, in build/<preset>"
	@echo "make install          into PREFIX ($(PREFIX)), DESTDIR is honoured"
	@echo "make prove-bare-root  run and test from a clone inside a minimal Debian (needs root and debootstrap)"
	@echo "make clean            remove build/"

deps:
	@scripts/deps all

# What running needs is a good deal less than what testing needs.
deps-build:
	@scripts/deps build

build:
	@cmake --preset release --log-level=WARNING
	@cmake --build --preset release --parallel $(JOBS) --target shove

dev asan tsan clang:
	@cmake --preset $@ --log-level=WARNING
	@cmake --build --preset $@ --parallel $(JOBS)

# exec: no shell stands between. make itself ends with 2 where the program fails, and by SIGINT after a Ctrl-C.
run: deps-build build
	@exec build/shove run "$(APP)" $(ARGS)

test: deps
	@scripts/test $(SUITES)

bench: deps build
	@cmake --build --preset release --parallel $(JOBS) --target bench_bare_loop bench_fill
	@luajit spec/bench/bench.lua build $(ARGS)

figures hostile: deps dev build
	@cmake --build --preset release --parallel $(JOBS) --target bench_fill
	@build/dev/spec_runner spec/bench/$@.lua

chaos: deps dev build
	@build/dev/spec_runner spec/bench/chaos.lua

lint: deps
	@scripts/lint

format:
	@git ls-files 'runtime/*.[ch]' 'spec/*.[ch]' | xargs -r clang-format -i

# What another user has built is installed as it is: root would look for that user's librdkafka in a folder of its own.
install:
	@[ "$$(stat -c %u build/shove 2>/dev/null || id -u)" != "$$(id -u)" ] || $(MAKE) --no-print-directory build
	@cmake --install build/release --prefix $(PREFIX)

prove-bare-root:
	@scripts/prove-bare-root

clean:
	@rm -rf build
