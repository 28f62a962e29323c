# Fulcrum: build, test, demonstrate, install. `make` alone explains itself.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help
.PHONY: help setup build demo check test soak trex-check bench bench-memif install install-ipvsadm deb clean

PREFIX ?= /usr/local
TARGET := $(or $(CARGO_TARGET_DIR),target)
PROGRAMS := fulcrum-dataplane fulcrum-control fulcrum
LIBRARY := libfulcrum_preload.so
# Where `make install` takes programs from, and where to units and zsh's completions go.
BUILT ?= $(TARGET)/release
UNITDIR ?= $(PREFIX)/lib/systemd/system
ZSHDIR ?= $(PREFIX)/share/zsh/site-functions
# The demo and the soak make network namespaces.
AS_ROOT := $(if $(filter 0,$(shell id -u)),,sudo -E)

# Completions of a program for three shells: $(1) SHELL $(3) prints those of $(2).
define completions
install -d $(DESTDIR)$(PREFIX)/share/bash-completion/completions $(DESTDIR)$(ZSHDIR) $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d
	    $(1) bash $(3) > $(DESTDIR)$(PREFIX)/share/bash-completion/completions/$(2)
	    $(1) zsh $(3) > $(DESTDIR)$(ZSHDIR)/_$(2)
	    $(1) fish $(3) > $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/$(2).fish
endef

help: ## this list
	@echo "Fulcrum, a layer-4 director in user space"
	echo
	sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | while IFS=$$'\t' read -r name what; do
	    printf '  make %-11s %s\n' "$$name" "$$what"
	done

setup: ## install the packages that building, testing and the demo need (Debian)
	@scripts/setup

build: setup ## build the three programs and the library, optimised, into target/release
	@cargo build --release --locked --workspace $(PROGRAMS:%=--bin %)
	cargo build --release --locked --package fulcrum-preload

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

soak: setup ## load, failures, edits and kills, then a look for what is wrong or left; MINUTES=5, SEED=N repeats a run
	@cargo build --release --locked --workspace $(PROGRAMS:%=--bin %) --bin fulcrum-lab
	$(AS_ROOT) $(TARGET)/release/fulcrum-lab soak --minutes $(or $(MINUTES),5) $(if $(SEED),--seed $(SEED))

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
	    [ -x $(BUILT)/$$program ] || { echo "$$program is not built yet: run \`make build\` first" >&2; exit 1; }
	done
	# Tests leave it among what they depend on.
	for library in $(BUILT)/deps/$(LIBRARY) $(BUILT)/$(LIBRARY); do [ ! -f $$library ] || break; done
	[ -f $$library ] || { echo "$(LIBRARY) is not built yet: run \`make build\` first" >&2; exit 1; }
	install -D -m 644 $$library $(DESTDIR)$(PREFIX)/lib/fulcrum/libfulcrum_ipvs.so
	share=$(DESTDIR)$(PREFIX)/share
	install -D -m 755 -t $(DESTDIR)$(PREFIX)/bin $(BUILT)/fulcrum
	install -D -m 755 -t $(DESTDIR)$(PREFIX)/sbin $(BUILT)/fulcrum-dataplane $(BUILT)/fulcrum-control
	$(BUILT)/fulcrum man --directory $$share/man/man1
	$(BUILT)/fulcrum man fulcrum.toml --directory $$share/man/man5
	install -d $$share/man/man8
	for daemon in fulcrum-dataplane fulcrum-control; do
	    $(BUILT)/$$daemon --generate man > $$share/man/man8/$$daemon.8
	    $(call completions,$(BUILT)/$$daemon --generate,$$daemon,)
	done
	$(call completions,$(BUILT)/fulcrum completion,fulcrum,)
	# The units name the programs where packages have them.
	install -d $(DESTDIR)$(UNITDIR)
	for unit in fulcrum-dataplane.service fulcrum-control.service fulcrum-control.socket fulcrum-ipvs.socket; do
	    sed 's|/usr/sbin/|$(PREFIX)/sbin/|' deploy/systemd/$$unit > $(DESTDIR)$(UNITDIR)/$$unit
	done
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/lib/sysusers.d deploy/sysusers.d/fulcrum.conf
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/lib/tmpfiles.d deploy/tmpfiles.d/fulcrum.conf
	install -d $(DESTDIR)/etc/fulcrum
	[ -e $(DESTDIR)/etc/default/fulcrum ] || install -D -m 644 -t $(DESTDIR)/etc/default deploy/default/fulcrum
	for folder in examples prometheus grafana; do
	    [ ! -d deploy/$$folder ] || { install -d $$share/doc/fulcrum; cp -r deploy/$$folder $$share/doc/fulcrum/; }
	done
	$(if $(IPVSADM),$(MAKE) --no-print-directory install-ipvsadm BUILT=$(BUILT))

install-ipvsadm:
	@install -d $(DESTDIR)$(PREFIX)/sbin $(DESTDIR)$(UNITDIR)
	for name in ipvsadm ipvsadm-save ipvsadm-restore; do
	    ln -sf ../bin/fulcrum $(DESTDIR)$(PREFIX)/sbin/$$name
	    $(BUILT)/fulcrum man $$name --directory $(DESTDIR)$(PREFIX)/share/man/man8
	    $(call completions,$(BUILT)/fulcrum completion,$$name,$$name)
	done
	sed 's|/usr/sbin/|$(PREFIX)/sbin/|g' deploy/systemd/fulcrum-ipvsadm.service \
	    > $(DESTDIR)$(UNITDIR)/fulcrum-ipvsadm.service

deb: build ## make Debian packages of the programs, into target/deb; needs debhelper
	@scripts/deb $(BUILT) $(TARGET)/deb
	! command -v lintian >/dev/null || lintian --allow-root --fail-on error,warning $(TARGET)/deb/fulcrum_*.deb $(TARGET)/deb/fulcrum-ipvsadm_*.deb

clean: ## remove what was built
	@cargo clean
