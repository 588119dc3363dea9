# A thin front of the CMake presets. `make demo` and `make test` do all the set-up on a fresh Debian 12 machine.
SHELL := /bin/bash
JOBS ?= $(shell nproc)
PREFIX ?= /usr/local

.PHONY: all setup build format check test test-long demo demo-moe bench docs install clean
all: build

setup:
	@tools/setup.sh

build: setup
	@tools/build.sh release

format:
	@tools/format.sh

check: setup
	@tools/check.sh quick

test: setup
	@tools/check.sh full

test-long: setup
	@LARDER_LONG=1 tools/check.sh full

demo: setup
	@tools/demo.sh

# make demo-moe MODEL=file.kvlm (a mixture of experts; .bpe and .txt beside it)
demo-moe: setup
	@tools/build.sh release larder-demo-moe
	@build/release/bin/larder-demo-moe $(if $(MODEL),--model $(MODEL)) $(DEMO_FLAGS)

bench: setup
	@tools/build.sh release
	@for suite in index memory codec store kv moe cluster; do build/release/bin/larder-bench $$suite $(BENCH_FLAGS) || exit 1; done

docs: setup
	@tools/docs.sh

install: build
	@cmake --install build/release --prefix $(PREFIX)

clean:
	@rm -rf build demo-report.html
