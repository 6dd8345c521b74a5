# factmesh. `make help` lists the targets.
#
# Everything is built out of tree in build/<variant>/; VARIANT is debug-free `release` unless
# asan or tsan is asked for. Debian packages that are missing are installed by scripts/setup.

VARIANT ?= release
ifeq ($(filter -j%,$(MAKEFLAGS)),)
MAKEFLAGS += -j$(shell nproc)
endif
BUILD   := build/$(VARIANT)
PREFIX  ?= /usr/local
DESTDIR ?=
VERSION := 0.1.0
CC      ?= cc
PKGS    := libzmq libczmq libprotobuf-c libxxhash libcrypto json-c

# Targets that need no packages, and so no set-up.
BARE := help clean format
ifneq ($(filter-out $(BARE),$(or $(MAKECMDGOALS),all)),)
SETUP := $(shell scripts/setup >&2 && echo ok)
ifneq ($(SETUP),ok)
$(error scripts/setup failed: see above)
endif
endif

WARN := -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wformat=2 -Wmissing-prototypes -Wvla -Werror
# Sanitizers hide from gcc's flow analysis what is set: it would warn of what the release build knows to be right.
ifneq ($(filter fuzz coverage,$(VARIANT)),)
CC := clang
WARN := -Wall -Wextra
endif
ifneq ($(filter asan tsan,$(VARIANT)),)
WARN += -Wno-maybe-uninitialized
endif
OPT_release := -O2 -g
OPT_asan    := -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
# Under clang, with libFuzzer; a fuzz target of the other variants brings its own driver.
OPT_fuzz    := -O1 -g -fsanitize=address,undefined,fuzzer-no-link -fno-sanitize-recover=undefined -fno-omit-frame-pointer
# Counters live in a mapped file: those of a process that is killed are there too. Threads and processes count in it together, so atomically. Static functions
# are told apart by the file's name, in full: nodes/blob.c is not nodes/cli/blob.c. The line behind an assert would count as not reached.
OPT_coverage = -O1 -g -fprofile-instr-generate -fprofile-update=atomic -fcoverage-mapping -mllvm -runtime-counter-relocation -DNDEBUG \
    -Xclang -main-file-name -Xclang $< -Wno-unused-command-line-argument
OPT_tsan    := -O1 -g -fsanitize=thread -fno-omit-frame-pointer
PKG_CFLAGS := $(shell pkg-config --cflags $(PKGS) 2>/dev/null)
PKG_LIBS   := $(shell pkg-config --libs $(PKGS) 2>/dev/null)
JOURNAL_LIBS := -lsqlite3 -lmicrohttpd
CFLAGS_ALL = -std=c17 -D_GNU_SOURCE -DFM_VERSION='"$(VERSION)"' $(OPT_$(VARIANT)) -fPIC -pthread -fvisibility=hidden \
    -Iproto -Inodes -Ijournal -I$(BUILD)/gen $(PKG_CFLAGS) $(CFLAGS)
LIBS = $(PKG_LIBS) -pthread -lm

comma := ,

# make V=1 shows the commands.
Q := $(if $(V),,@)
say = @$(if $(V),true,printf '  %-6s %s\n' $(1) $@)

LIB_SRC     := $(sort $(wildcard proto/*.c nodes/*.c))
JOURNAL_SRC := $(sort $(wildcard journal/*.c))
CLI_SRC     := $(sort $(wildcard nodes/cli/*.c))
SHOP_SRC    := $(sort $(wildcard nodes/shop/*.c))
UNIT_SRC    := $(sort $(wildcard tests/unit/test_*.c))
# Its threads are coroutines, of which ThreadSanitizer knows nothing.
ifeq ($(VARIANT),tsan)
UNIT_SRC    := $(filter-out tests/unit/test_simulation.c,$(UNIT_SRC))
endif
# Loaded into other programs: a shared object.
PRELOAD_SRC := tests/e2e/fail_calls.c
TOOL_SRC    := $(filter-out $(PRELOAD_SRC),$(sort $(wildcard tests/e2e/*.c)))
BENCH_SRC   := $(sort $(wildcard bench/*.c))
# Targets of the fuzzer, and what is linked into each.
FUZZ_SHARED := tests/fuzz/driver.c tests/fuzz/file.c
FUZZ_SRC    := $(filter-out $(FUZZ_SHARED),$(sort $(wildcard tests/fuzz/*.c)))
SUPPORT_SRC := $(sort $(wildcard tests/support/*.c))
SIM_SRC     := $(sort $(wildcard tests/sim/*.c))
BENCH_COMMON_SRC := $(sort $(wildcard bench/common/*.c)) nodes/cli/bench_load.c

obj = $(patsubst %.c,$(BUILD)/%.o,$(1))
LIB_OBJ     := $(call obj,$(LIB_SRC)) $(BUILD)/gen/factmesh.pb-c.o
JOURNAL_OBJ := $(call obj,$(JOURNAL_SRC))
SUPPORT_OBJ := $(call obj,$(SUPPORT_SRC))
UNIT_BIN    := $(patsubst %.c,$(BUILD)/%,$(UNIT_SRC))
TOOL_BIN    := $(patsubst %.c,$(BUILD)/%,$(TOOL_SRC))
BENCH_BIN   := $(patsubst %.c,$(BUILD)/%,$(BENCH_SRC))
PRELOAD_SO  := $(patsubst %.c,$(BUILD)/%.so,$(PRELOAD_SRC))
FUZZ_BIN    := $(patsubst %.c,$(BUILD)/%,$(FUZZ_SRC))
PATH_BIN    := $(filter $(BUILD)/bench/path_%,$(BENCH_BIN))

.PHONY: all help
all: $(BUILD)/libfactmesh.a $(BUILD)/libfactmesh.so $(BUILD)/libfactmesh-journal.a $(BUILD)/factmesh.pc $(if $(CLI_SRC),$(BUILD)/factmesh) $(BUILD)/factmesh-shop  ## build the libraries, the command and the worked example

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## *' '{ printf "  %-12s %s\n", $$1, $$2 }'

$(BUILD)/gen/factmesh.pb-c.c: proto/factmesh.proto
	@mkdir -p $(@D)
	$(Q)protoc-c --c_out=$(@D) -Iproto $<
$(BUILD)/gen/factmesh.pb-c.h: $(BUILD)/gen/factmesh.pb-c.c ;

$(BUILD)/gen/factmesh.pb-c.o: $(BUILD)/gen/factmesh.pb-c.c
	$(call say,CC)
	$(Q)$(CC) -std=c17 $(OPT_$(VARIANT)) -fPIC -pthread -I$(BUILD)/gen -c $< -o $@

$(BUILD)/%.o: %.c $(BUILD)/gen/factmesh.pb-c.h
	@mkdir -p $(@D)
	$(call say,CC)
	$(Q)$(CC) $(CFLAGS_ALL) $(WARN) -MMD -MP -c $< -o $@

$(BUILD)/libfactmesh.a: $(LIB_OBJ)
	@rm -f $@
	$(call say,AR)
	$(Q)$(AR) rcs $@ $^
$(BUILD)/libfactmesh-journal.a: $(JOURNAL_OBJ)
	@rm -f $@
	$(call say,AR)
	$(Q)$(AR) rcs $@ $^
$(BUILD)/libfactmesh.so: $(LIB_OBJ)
	$(call say,LINK)
	$(Q)$(CC) $(OPT_$(VARIANT)) -shared -Wl,-soname,libfactmesh.so.0 $^ -o $@ $(LIBS)
	$(Q)ln -sf libfactmesh.so $(BUILD)/libfactmesh.so.0

$(BUILD)/factmesh: $(call obj,$(CLI_SRC)) $(BUILD)/libfactmesh-journal.a $(BUILD)/libfactmesh.a
	$(call say,LINK)
	$(Q)$(CC) $(OPT_$(VARIANT)) $^ -o $@ $(JOURNAL_LIBS) $(LIBS)

# The shop has what everybody has: the installed headers, and the shared library's symbols.
$(call obj,$(SHOP_SRC)): $(BUILD)/%.o: %.c nodes/factmesh.h proto/fm_types.h
	@mkdir -p $(BUILD)/shop-include $(@D)
	@cp -u nodes/factmesh.h proto/fm_types.h $(BUILD)/shop-include/
	$(call say,CC)
	$(Q)$(CC) -std=c17 -D_GNU_SOURCE $(OPT_$(VARIANT)) -pthread -I$(BUILD)/shop-include $(CFLAGS) $(WARN) -MMD -MP -c $< -o $@
$(BUILD)/factmesh-shop: $(call obj,$(SHOP_SRC)) $(BUILD)/libfactmesh.so
	$(call say,LINK)
	$(Q)$(CC) $(OPT_$(VARIANT)) -pthread $(filter %.o,$^) -o $@ -L$(BUILD) -lfactmesh -Wl,-rpath,'$$ORIGIN' -lsqlite3 -ljson-c

$(BUILD)/bench/redis_flow: LIBS += -lhiredis
$(BENCH_BIN): $(BUILD)/%: $(BUILD)/%.o $(call obj,$(BENCH_COMMON_SRC)) $(BUILD)/libfactmesh-journal.a $(BUILD)/libfactmesh.a
	$(call say,LINK)
	$(Q)$(CC) $(OPT_$(VARIANT)) $^ -o $@ $(JOURNAL_LIBS) $(LIBS)

$(BUILD)/tests/libsupport.a: $(SUPPORT_OBJ)
	$(call say,AR)
	@rm -f $@
	$(Q)$(AR) rcs $@ $^

# A constructor: nothing refers to it, so the archive would leave it out.
$(UNIT_BIN): $(BUILD)/tests/support/test_filter.o

# The simulation stands in for the C library and ZeroMQ: its objects go into no other program.
$(BUILD)/tests/unit/test_simulation: $(call obj,$(SIM_SRC))

# Its allocations, and those of the code under test, go through tests/support/fail_memory.c.
$(addprefix $(BUILD)/tests/unit/,test_no_memory test_no_memory_mesh test_http): LIBS += -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=strdup

$(BUILD)/tests/unit/test_shop: $(call obj,$(addprefix nodes/shop/,csv.c mbox.c order.c outbox.c store.c))
$(BUILD)/tests/unit/test_shop_email: $(call obj,$(addprefix nodes/shop/,mbox.c order.c store.c))
$(BUILD)/tests/unit/test_shop_follow: $(call obj,nodes/shop/store.c)

# They run the command in processes that they fork; main comes with tests/unit/run_command.h.
$(addprefix $(BUILD)/tests/unit/,test_usage test_printing test_directories): $(call obj,$(filter-out nodes/cli/main.c,$(CLI_SRC)))

# They run it over a library that follows a script (tests/unit/scripted_library.h): calls of these end there.
SCRIPTED := fm_node_open fm_node_close fm_node_address fm_node_wait_members fm_node_wait_journal cli_monotonic_ns cli_monotonic_ms cli_unix_ns clock_nanosleep \
    cli_wait_read cli_wait fm_publisher_open stream_pool_open fm_publisher_close fm_publish fm_publisher_flush fm_publisher_wait_synced fm_publisher_lost_next \
    fm_publisher_state fm_subscription_open fm_subscription_close fm_subscription_next fm_subscription_fd fm_subscription_ack fm_subscription_commit \
    fm_worker_open fm_worker_close fm_worker_handle fm_worker_commit fm_work_extend fm_work_left_ms fm_requester_open fm_requester_close fm_request_many \
    fm_respond link_open link_join link_close link_cursor_bytes link_cursor_filters link_request
SCRIPTED_BIN := $(addprefix $(BUILD)/tests/unit/,test_benching test_endings)
$(SCRIPTED_BIN): $(call obj,$(filter-out nodes/cli/main.c,$(CLI_SRC)))
$(SCRIPTED_BIN): LIBS += $(addprefix -Wl$(comma)--wrap=,$(SCRIPTED))

# They run those that ask a journal, over a scripted one; options.c comes with tests/unit/asking.h.
$(addprefix $(BUILD)/tests/unit/,test_asking test_asking_facts): $(call obj,$(addprefix nodes/cli/,status.c cursor.c group.c trace.c correct.c blob.c replay.c repair.c damage.c directory.c link.c \
    recorded.c input.c text.c when.c output.c format_options.c patterns.c progress.c through.c))

$(UNIT_BIN) $(TOOL_BIN): $(BUILD)/%: $(BUILD)/%.o $(BUILD)/tests/libsupport.a $(BUILD)/libfactmesh-journal.a $(BUILD)/libfactmesh.a
	$(call say,LINK)
	$(Q)$(CC) $(OPT_$(VARIANT)) $(filter %.o,$^) $(filter %.a,$^) -o $@ $(shell pkg-config --libs cmocka) $(JOURNAL_LIBS) $(LIBS)

# Neither instrumented nor with its own idea of what malloc does.
$(PRELOAD_SO): $(BUILD)/%.so: %.c
	@mkdir -p $(@D)
	$(call say,LINK)
	$(Q)$(CC) -std=c17 -D_GNU_SOURCE -O1 -g -fPIC -shared -pthread -fvisibility=hidden -fno-builtin $(PKG_CFLAGS) $(WARN) -Wno-pedantic $< -o $@

$(BUILD)/libcli.a: $(call obj,$(filter-out nodes/cli/main.c,$(CLI_SRC)))
	$(call say,AR)
	@rm -f $@
	$(Q)$(AR) rcs $@ $^

FUZZ_ENGINE := $(if $(filter fuzz,$(VARIANT)),,$(BUILD)/tests/fuzz/driver.o)
$(FUZZ_BIN): $(BUILD)/%: $(BUILD)/%.o $(FUZZ_ENGINE) $(BUILD)/tests/fuzz/file.o $(BUILD)/libcli.a $(BUILD)/tests/libsupport.a $(BUILD)/libfactmesh-journal.a $(BUILD)/libfactmesh.a
	$(call say,LINK)
	$(Q)$(CC) $(OPT_$(VARIANT)) $(if $(FUZZ_ENGINE),,-fsanitize=fuzzer) $^ -o $@ $(shell pkg-config --libs cmocka) $(JOURNAL_LIBS) $(LIBS)

$(BUILD)/factmesh.pc: Makefile
	@mkdir -p $(@D)
	$(Q)printf 'prefix=%s\nName: factmesh\nDescription: a brokerless ZeroMQ mesh with a persistent journal\nVersion: %s\nRequires.private: $(PKGS)\nCflags: -I$${prefix}/include\nLibs: -L$${prefix}/lib -lfactmesh\n' '$(PREFIX)' '$(VERSION)' > $@

# ---------------------------------------------------------------- tests

.PHONY: fuzz fuzz-corpus fuzz-bins
fuzz-bins: $(FUZZ_BIN)

fuzz:  ## hostile bytes for every decoder, under libFuzzer: make fuzz [SECONDS=n for each] [ONLY=NAME,NAME]
	scripts/setup --fuzz
	$(MAKE) VARIANT=fuzz fuzz-bins
	tests/fuzz/run $(or $(SECONDS),20) $(subst $(comma), ,$(ONLY))

.PHONY: coverage
coverage:  ## which lines of journal/ and nodes/ no test reaches: unit and end to end, instrumented
	scripts/setup --coverage
	@rm -rf build/coverage/profiles
	-$(PROFILED) TEST_LIMIT_S=900 $(MAKE) VARIANT=coverage unit
	-$(PROFILED) PATIENCE=5 FAIL_EVERY=1 TEST_LIMIT_S=3600 $(MAKE) VARIANT=coverage e2e
	tests/coverage build/coverage
PROFILED := LLVM_PROFILE_FILE='$(CURDIR)/build/coverage/profiles/%m%c.profraw'

fuzz-corpus:  ## the fuzzers' corpora again, and mutations of them for a second each; needs no clang
	$(MAKE) VARIANT=asan fuzz-replay
.PHONY: fuzz-replay
fuzz-replay: $(FUZZ_BIN)
	JOBS=2 scripts/run-tests fuzz-$(VARIANT) $(FUZZ_BIN)

.PHONY: test unit fault crash asan tsan e2e mutants soak soak-sim demo shop bench bench-check install lint format clean tools
tools: all $(TOOL_BIN) $(PRELOAD_SO)

# The longest begin first, so that none of them is alone at the end.
longest_first = $(filter $(addprefix %/test_,$(addsuffix $1,$2)),$3) $(filter-out $(addprefix %/test_,$(addsuffix $1,$2)),$3)

unit: $(UNIT_BIN)  ## the unit tests
	JOBS=3 BUILD=$(BUILD) scripts/run-tests unit-$(VARIANT) $(call longest_first,,recover repair subscription_trouble identities power_loss full_disk,$(UNIT_BIN))

# Tables of many MiB come and go with each log: to clear their shadow is cheaper than to map it anew.
asan:  ## the unit tests under AddressSanitizer and UndefinedBehaviorSanitizer
	ASAN_OPTIONS=clear_shadow_mmap_threshold=1073741824:$$ASAN_OPTIONS MEMBERSHIP_ROUNDS=10 $(MAKE) VARIANT=asan unit

tsan:  ## the unit tests under ThreadSanitizer
	TSAN_OPTIONS=suppressions=tests/support/tsan.supp $(MAKE) VARIANT=tsan unit

e2e: tools  ## the end-to-end tests: real processes over loopback
	JOBS=3 BUILD=$(BUILD) scripts/run-tests e2e $(call longest_first,.py,identity request shop group fail_calls,$(filter-out $(E2E_ALONE),$(sort $(wildcard tests/e2e/test_*.py))))
	BUILD=$(BUILD) scripts/run-tests e2e-alone $(E2E_ALONE)
# They measure rates or times, and want the machine for themselves.
E2E_ALONE := $(addprefix tests/e2e/test_,$(addsuffix .py,bench fault_hostile_peer fault_network fault_subscriber late_equals_early membership \
    soak stopped_subscriber))

# What of these fits the name; a part of unit and e2e.
FAULT_BIN := $(filter $(addprefix %,faults damage full_disk no_memory no_memory_mesh trouble hostile),$(UNIT_BIN))
FAULT_PY  := $(wildcard tests/e2e/test_fault_*.py tests/e2e/test_bad_input.py tests/e2e/test_fail_calls.py tests/e2e/test_slow_links.py)
CRASH_BIN := $(filter $(addprefix %,power_loss recover journal_restart),$(UNIT_BIN))
CRASH_PY  := $(wildcard tests/e2e/test_*_kills.py tests/e2e/test_publisher_faults.py tests/e2e/test_effects.py)
fault: tools $(FAULT_BIN)  ## of these, what fails, damages, floods or cuts off
	BUILD=$(BUILD) scripts/run-tests fault $(FAULT_BIN) $(FAULT_PY)
crash: tools $(CRASH_BIN)  ## of these, what kills processes and takes the power away
	BUILD=$(BUILD) scripts/run-tests crash $(CRASH_BIN) $(CRASH_PY)

test:  ## everything: unit, sanitizers, end to end
	@rm -f build/test-results
	$(MAKE) unit
	$(MAKE) asan
	$(MAKE) fuzz-corpus
	$(MAKE) e2e
	@scripts/run-tests --total

mutants:  ## take each protection out and see its test fail: make mutants [ONLY=NAME,NAME] [JOBS=N]
	tests/mutants/run --jobs $(or $(JOBS),1) $(subst $(comma), ,$(ONLY))

MINUTES ?= 5
soak-sim: $(BUILD)/tests/unit/test_simulation  ## simulated schedules that no run had before: make soak-sim [SECONDS=60]
	SECONDS=$(or $(SECONDS),60) $<

soak: tools  ## random faults on a whole mesh, judged at the end: make soak [MINUTES=5] [SEED=N]
	@BUILD=$(BUILD) SOAK_SECONDS=$$(($(MINUTES) * 60)) tests/e2e/soak.py

shop: all  ## combo style's worked example, told step by step and proved: make shop [INPUT=FILE] [ROUNDS=N] [KILL_SEED=N]
	@BUILD=$(BUILD) scripts/shop $(INPUT)

demo: all  ## the main job, told step by step: make demo [INPUT=FILE]
	@BUILD=$(BUILD) scripts/demo $(INPUT)

model:  ## search the protocol's model with spin, and see that it can fail
	scripts/setup --model
	proto/model/run.sh build/model

bench:  ## how fast, beside its peers: make bench [QUICK=1] [ONLY=B1,B3]
	scripts/setup --bench
	$(MAKE) all $(BENCH_BIN)
	BUILD=$(BUILD) bench/run $(if $(QUICK),--quick) $(if $(ONLY),--only $(ONLY))

bench-check:  ## instructions for each fact, against bench/instructions.json: make bench-check [UPDATE=1]
	scripts/setup --bench-check
	$(MAKE) $(PATH_BIN)
	BUILD=$(BUILD) bench/check $(if $(UPDATE),--update)

lint: $(BUILD)/gen/factmesh.pb-c.h  ## clang-tidy over the sources
	scripts/setup --lint
	printf '%s\n' $(LIB_SRC) $(JOURNAL_SRC) $(CLI_SRC) $(SHOP_SRC) | xargs -P 2 -n 8 sh -c \
	    'clang-tidy --quiet "$$@" -- $(subst ','\'',$(filter-out -fsanitize=%,$(CFLAGS_ALL)))' sh

format:  ## clang-format over the sources
	scripts/setup --lint
	clang-format -i $(wildcard proto/*.[ch] nodes/*.[ch] nodes/cli/*.[ch] journal/*.[ch] bench/*.[ch] tests/*/*.[ch])

install: all  ## to PREFIX (default /usr/local), below DESTDIR
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/include $(DESTDIR)$(PREFIX)/lib/pkgconfig \
	    $(DESTDIR)$(PREFIX)/share/bash-completion/completions
	install -m 755 $(BUILD)/factmesh $(DESTDIR)$(PREFIX)/bin/
	install -m 644 nodes/factmesh.h proto/fm_types.h $(DESTDIR)$(PREFIX)/include/
	install -m 644 $(BUILD)/libfactmesh.a $(DESTDIR)$(PREFIX)/lib/
	install -m 755 $(BUILD)/libfactmesh.so $(DESTDIR)$(PREFIX)/lib/libfactmesh.so.0
	ln -sf libfactmesh.so.0 $(DESTDIR)$(PREFIX)/lib/libfactmesh.so
	sed 's|^prefix=.*|prefix=$(PREFIX)|' $(BUILD)/factmesh.pc > $(DESTDIR)$(PREFIX)/lib/pkgconfig/factmesh.pc
	install -m 644 scripts/factmesh-completion.bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/factmesh

clean:  ## remove what was built
	rm -rf build

.SECONDARY:
-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
