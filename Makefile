# keybound: the commands. Each installs what it lacks (Debian 12, root or sudo).

PREFIX ?= /usr/local
LIBDIR ?= $(PREFIX)/lib
LUADIR ?= $(PREFIX)/share/lua/5.1
MODULEDIR ?= /usr/lib/nginx/modules
DESTDIR ?=

export PATH := $(PATH):$(HOME)/.cargo/bin
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
LLVM = $(shell rustc -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')
LIB := target/release/libkeybound.so
MODULE := target/nginx/ngx_http_keybound_module.so

.PHONY: help build demo demo-up demo-down test test-rust test-c test-mlua test-nginx test-checked test-cli test-rock nginx-module lint coverage bench header docs install \
	install-lua install-rock rockspec clean

help:
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 12

build: ## the library and the command line, in target/release
	cargo build --release --locked

demo: ## a real nginx and a real authorization server: who is let through, and who is not and why
	tools/setup.sh build nginx as
	$(MAKE) --no-print-directory build
	nginx-test/demo.sh run

demo-up: ## the same, left running to play with
	tools/setup.sh build nginx as
	$(MAKE) --no-print-directory build
	nginx-test/demo.sh up

demo-down: ## stop it
	nginx-test/demo.sh down

test: ## everything
	tools/setup.sh test
	$(MAKE) --no-print-directory lint test-rust test-c test-mlua test-nginx test-checked test-cli test-rock
	nginx-test/demo.sh run
	nginx-test/readme.sh
	nginx-test/docs.sh
	nginx-test/memory.sh lua
	nginx-test/memory.sh module
	nginx-test/reload.sh

test-rust:
	cargo test --locked
	cargo test --locked --no-default-features --features aws-lc,cli,capi --target-dir target/aws-lc

test-c: build
	tests/c/run.sh

test-mlua:
	mlua/run.sh

test-nginx: nginx-module
	t/run.sh

nginx-module: ## the nginx module, in target/nginx; NGINX_SOURCE: a source tree of nginx in place of Debian's nginx-dev
	$(if $(NGINX_SOURCE),,tools/setup.sh nginx-module)
	$(MAKE) --no-print-directory build
	nginx/build.sh $(NGINX_SOURCE)

test-checked: nginx-module ## the nginx module under valgrind and AddressSanitizer, and with a newer nginx
	tools/setup.sh nginx-source
	t/checked.sh address t/301*.t t/310*.t t/312*.t t/313*.t t/314*.t t/320*.t t/321*.t t/322*.t t/331*.t t/360*.t t/361*.t
	t/checked.sh valgrind t/310*.t t/312*.t t/313*.t t/314*.t
	t/checked.sh newer t/310*.t t/312*.t t/360*.t

test-cli: build
	nginx-test/cli.sh

test-rock: build
	packaging/rock.sh

lint: ## format, clippy, rustdoc, luacheck, generated files
	cargo fmt --all --check
	cargo clippy --locked --all-targets -- -D warnings
	cargo clippy --locked -p keybound-load --all-targets -- -D warnings
	cargo clippy --locked -p keybound-mlua -- -D warnings
	cargo clippy --locked -p keybound-mlua --no-default-features --features lua54 -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps
	luacheck -q lua t/lib
	cargo test --locked --quiet --test generated

coverage: ## lines of src/ that the Rust tests reach; the C tests, which reach src/ffi, are not counted
	tools/setup.sh build coverage
	LLVM_COV=llvm-cov-$(LLVM) LLVM_PROFDATA=llvm-profdata-$(LLVM) cargo llvm-cov --locked --summary-only

bench: ## criterion, the ratio to the raw signature, instructions and time of the hot call, the hot call from Lua, module and Lua end to end
	tools/setup.sh build nginx as bench
	$(MAKE) --no-print-directory nginx-module
	cargo bench --locked --bench check
	benches/hot.sh
	benches/lua/run.sh
	benches/load/run.sh

header docs: ## write include/keybound.h, cdefs.lua, docs/reasons.md and docs/configuration.md from the code
	UPDATE=1 cargo test --quiet --test generated

install: build install-lua ## the library, header, pkg-config file, Lua modules with the Kong plugin, command line, and the nginx module if it was built, below $(DESTDIR)$(PREFIX)
	install -d $(DESTDIR)$(LIBDIR)/pkgconfig $(DESTDIR)$(PREFIX)/include $(DESTDIR)$(PREFIX)/bin
	install -m 755 $(LIB) $(DESTDIR)$(LIBDIR)/libkeybound.so.$(VERSION)
	ln -sf libkeybound.so.$(VERSION) $(DESTDIR)$(LIBDIR)/libkeybound.so.1
	ln -sf libkeybound.so.1 $(DESTDIR)$(LIBDIR)/libkeybound.so
	install -m 644 include/keybound.h $(DESTDIR)$(PREFIX)/include/
	sed -e 's|@prefix@|$(PREFIX)|' -e 's|@libdir@|$(LIBDIR)|' -e 's|@version@|$(VERSION)|' packaging/keybound.pc.in \
		> $(DESTDIR)$(LIBDIR)/pkgconfig/keybound.pc
	install -m 755 target/release/keybound $(DESTDIR)$(PREFIX)/bin/
	[ ! -e $(MODULE) ] || install -D -m 644 $(MODULE) $(DESTDIR)$(MODULEDIR)/$(notdir $(MODULE))

install-lua:
	install -d $(DESTDIR)$(LUADIR)/resty/keybound $(DESTDIR)$(LUADIR)/kong/plugins/keybound
	install -m 644 lua/resty/keybound.lua $(DESTDIR)$(LUADIR)/resty/
	install -m 644 lua/resty/keybound/*.lua $(DESTDIR)$(LUADIR)/resty/keybound/
	install -m 644 lua/kong/plugins/keybound/*.lua $(DESTDIR)$(LUADIR)/kong/plugins/keybound/

# What LuaRocks calls: Lua modules and the library, each in its directory.
install-rock: build install-lua
	install -d $(DESTDIR)$(LIBDIR)
	install -m 755 $(LIB) $(DESTDIR)$(LIBDIR)/libkeybound.so

rockspec: ## keybound-$(VERSION)-1.rockspec, for `luarocks make`
	sed 's|@version@|$(VERSION)|' packaging/keybound.rockspec.in > keybound-$(VERSION)-1.rockspec

clean:
	cargo clean
