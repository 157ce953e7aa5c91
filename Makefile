# SPDX-License-Identifier: BSD-3-Clause
# The front door. Each target is one script or one meson call: read those for the details.
#
# Variables: DATASET=dir (demo), JOBS=n, SECONDS_EACH=n (fuzz), STAGES="..." (test),
#            SKIP_DEPS=1 (don't look for Debian packages), PREFIX=dir and DESTDIR=dir (install).

BUILD  := build
JOBS   ?= $(shell nproc)
PREFIX ?= /usr/local

.PHONY: help all deps build demo test lab bench fuzz soak lint install clean

all: build

help:
	@echo "make deps      install the Debian packages that are missing (nothing to do: no apt call)"
	@echo "make build     build into $(BUILD)/"
	@echo "make demo      store a real directory tree, prove it is safe, measure it  [DATASET=dir]"
	@echo "make test      every test and lint; ends with 'N passed, N failed'        [STAGES='lint unit']"
	@echo "make lab       the tests in a virtual machine with a real kernel          [NAMES='boot']"
	@echo "make lint      format, static analysis, headers, arm64, names, sizes, rooms"
	@echo "make bench     the benchmarks and their report, $(BUILD)/bench/report.html [QUICK=1]"
	@echo "make fuzz      the fuzzers without limit                                  [SECONDS_EACH=n]"
	@echo "make soak      the analyzer all the way, then simulation, kills, fuzzers  [HOURS=n]"
	@echo "make install   into PREFIX=$(PREFIX), under DESTDIR if set"
	@echo "make clean     remove every build folder"

deps:
	@$(if $(SKIP_DEPS),true,scripts/deps)

$(BUILD)/build.ninja: | deps
	meson setup $(BUILD) --prefix $(PREFIX)

build: deps $(BUILD)/build.ninja
	@ninja -C $(BUILD) -j $(JOBS)

demo: build
	@scripts/demo $(DATASET)

test: deps
	@scripts/test $(STAGES)

lab: build
	@tests/lab/run $(NAMES)

bench: build
	@$(if $(SKIP_DEPS),true,scripts/deps --bench)
	@bench/run $(if $(QUICK),--quick)

fuzz: deps
	@scripts/fuzz --seconds $(or $(SECONDS_EACH),0)

soak: build
	@scripts/soak $(HOURS)

lint: deps
	@scripts/lint

install: build
	@meson configure $(BUILD) --prefix $(PREFIX)
	@meson install -C $(BUILD)

clean:
	rm -rf $(BUILD) build-asan build-tsan build-fuzz
