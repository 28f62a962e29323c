# Fulcrum: build, test, demonstrate, install. `make` alone explains itself.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help
.PHONY: help setup build demo check test trex-check bench bench-memif install clean

PREFIX ?= /usr/local
TARGET := $(or $(CARGO_TARGET_DIR),target)
PROGRAMS := fulcrum-dataplane fulcrum-control fulcrum
# The demo makes network namespaces.
AS_ROOT := $(if $(filter 0,$(shell id -u)),,sudo -E)

help: ## this list
	@echo "Fulcrum, a layer-4 director in user space"
	echo
	sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | while IFS=$$'\t' read -r name what; do
	    printf '  make %-11s %s\n' "$$name" "$$what"
	done

setup: ## install the packages that building, testing and the demo need (Debian)
	@scripts/setup

build: setup ## build the three programs, optimised, into target/release
	@cargo build --release --locked --workspace $(PROGRAMS:%=--bin %)

demo: setup ## balance real traffic in all four forwarding modes; KEEP=1 leaves the set-up running
	@cargo build --release --locked --workspace $(PROGRAMS:%=--bin %) --bin fulcrum-lab
	$(AS_ROOT) $(TARGET)/release/fulcrum-lab demo $(if $(KEEP),--keep)

check: setup ## formatting and lints only
	@cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings

test: check ## everything: lints, unit, doc, engine and replay tests, and the labs on real traffic
	@runner=CARGO_TARGET_$$(rustc -vV | sed -n 's/^host: //p' | tr 'a-z-' 'A-Z_')_RUNNER
	# One command for all packages: their programs, which the labs start, are built by it too.
	env $$runner=$(CURDIR)/tests/runner cargo test --workspace --locked --no-fail-fast

trex-check: setup ## the TRex kit without a TRex; TREX_HOME=DIR: its profiles also by TRex's own simulators
	@cargo build --locked --workspace $(PROGRAMS:%=--bin %)
	mkdir -p $(TARGET)/trex
	export FULCRUM_PROGRAMS=$(abspath $(TARGET))/debug TREX_CHECK_OUTPUT=$(abspath $(TARGET))/trex
	export TREX_HOME=$(abspath $(TREX_HOME))
	(cd tests/trex; python3 -B -m unittest discover -v)
	echo "the profiles, as frames, are in $(TARGET)/trex"

bench: setup ## measure what a core can do, packets in memory; BENCH="--only 'fullnat request 1m'", --list, --quick
	@cargo build --release --locked --workspace $(PROGRAMS:%=--bin %) --bin fulcrum-bench
	$(TARGET)/release/fulcrum-bench --json $(TARGET)/bench.json $(BENCH)

bench-memif: setup ## measure two processes over shared memory, beside testpmd
	@cargo build --release --locked --workspace $(PROGRAMS:%=--bin %) --bin fulcrum-bench
	$(TARGET)/release/fulcrum-bench --memif --json $(TARGET)/bench-memif.json $(BENCH)

install: ## install what `make build` made: DESTDIR, PREFIX (/usr/local), IPVSADM=1 for ipvsadm and its scripts
	@for program in $(PROGRAMS); do
	    [ -x $(TARGET)/release/$$program ] || { echo "$$program is not built yet: run \`make build\` first" >&2; exit 1; }
	done
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/sbin $(DESTDIR)/etc/fulcrum
	install -m 755 $(TARGET)/release/fulcrum $(DESTDIR)$(PREFIX)/bin/
	install -m 755 $(TARGET)/release/fulcrum-dataplane $(TARGET)/release/fulcrum-control $(DESTDIR)$(PREFIX)/sbin/
	install -d $(DESTDIR)$(PREFIX)/share/bash-completion/completions
	$(TARGET)/release/fulcrum completion bash > $(DESTDIR)$(PREFIX)/share/bash-completion/completions/fulcrum
	$(TARGET)/release/fulcrum man --directory $(DESTDIR)$(PREFIX)/share/man/man1
	$(if $(IPVSADM),for name in ipvsadm ipvsadm-save ipvsadm-restore; do
	    ln -sf ../bin/fulcrum $(DESTDIR)$(PREFIX)/sbin/$$name
	    $(TARGET)/release/fulcrum man $$name --directory $(DESTDIR)$(PREFIX)/share/man/man8
	    $(TARGET)/release/fulcrum completion bash $$name > $(DESTDIR)$(PREFIX)/share/bash-completion/completions/$$name
	done)

clean: ## remove what was built
	@cargo clean
