# healcached. `make run` and `make check` are all a newcomer needs; doc/hacking.md lists every target.
# Objects go to build/ (the product), build/asan, build/tsan, build/faults and build/trap: VARIANT=asan selects one.

VARIANT ?=
# TLS=0: without OpenSSL, and without TLS for clients.
TLS ?= 1
B := build$(if $(VARIANT),/$(VARIANT))$(if $(filter 0,$(TLS)),/notls)

CC       := gcc
CXX      := g++
WARN     := -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wundef
HARDEN   := -fstack-protector-strong -D_FORTIFY_SOURCE=2 -fPIE
CFLAGS   ?= -O2 -g
CPPFLAGS += -I. -D_GNU_SOURCE
LDFLAGS  += -pie -Wl,-z,relro,-z,now
ifeq ($(VARIANT),asan)
CFLAGS   := -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all
LDFLAGS  += -fsanitize=address,undefined
HARDEN   := -fPIE
else ifeq ($(VARIANT),tsan)
CFLAGS   := -O1 -g -fno-omit-frame-pointer -fsanitize=thread
LDFLAGS  += -fsanitize=thread
HARDEN   := -fPIE
else ifeq ($(VARIANT),faults)
CPPFLAGS += -DFAULTS
else ifeq ($(VARIANT),trap)
# Every store of the code above base is an event (t/store_trap.h); with faults, which stay off unless one is asked for.
CPPFLAGS += -DFAULTS -DSTORE_TRAP
TRAPPED  := -O1 -fsanitize=thread -fno-builtin -Wno-tsan
LDFLAGS  += -Wl,--wrap=memcpy,--wrap=memmove,--wrap=memset
HARDEN   := -fPIE
endif
ALL_CFLAGS := -std=c11 $(CFLAGS) $(WARN) $(HARDEN)

# Folders, each with those it may use (doc/architecture.md; t/tidy checks the includes).
FOLDERS      := base pmem store replica recovery net proto server
USES_base     := base
USES_pmem     := pmem base
USES_store    := store pmem base
USES_replica  := replica store pmem base
USES_recovery := recovery replica store pmem base
USES_net      := net base
USES_proto    := proto base
USES_server   := server recovery replica store pmem net proto base

LIBS_pmem := -lpmem
LIBS_net := -levent $(if $(filter-out 0,$(TLS)),-lcrypto)
LIBS_server := -levent -lraft -luv -lsasl2 $(if $(filter-out 0,$(TLS)),-lssl -lcrypto)

lib   = $(B)/lib$(1).a
libs  = $(foreach folder,$(1),$(call lib,$(folder)))
syslibs = $(sort $(foreach folder,$(1),$(LIBS_$(folder)))) -lpthread

.PHONY: all
all: $(B)/healcached

# ---- objects and one archive a folder --------------------------------------------------------------
NOT_IN_LIBS := server/main.c $(if $(filter 0,$(TLS)),server/tls.c net/proof_openssl.c,server/tls_none.c net/proof_own.c)
define folder_rules
SRC_$(1) := $$(filter-out $$(NOT_IN_LIBS),$$(wildcard $(1)/*.c))
$(B)/lib$(1).a: $$(SRC_$(1):%.c=$(B)/%.o)
	@rm -f $$@
	ar rcs $$@ $$^
endef
$(foreach folder,$(FOLDERS),$(eval $(call folder_rules,$(folder))))

$(B)/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(if $(filter t/% base/%,$<),,$(TRAPPED)) $(CPPFLAGS) -MMD -MP -c $< -o $@

$(B)/%.o: %.cc Makefile
	@mkdir -p $(@D)
	$(CXX) -std=c++17 $(CFLAGS) $(CPPFLAGS) -MMD -MP -c $< -o $@

-include $(shell find $(B) -name '*.d' 2>/dev/null)

$(B)/healcached: $(B)/server/main.o $(call libs,$(USES_server))
	$(CC) $(LDFLAGS) $^ -o $@ $(call syslibs,$(USES_server))

# The manual page is made from the table of options and committed; check-smoke compares.
.PHONY: manual
manual: $(B)/healcached
	$(B)/healcached --manual > doc/healcached.1

# ---- unit tests: t/FOLDER_NOUN_test.c links FOLDER and what it may use ------------------------------
NOT_TESTS := $(if $(filter 0,$(TLS)),t/server_stream_test.c) $(if $(filter trap,$(VARIANT)),,$(wildcard t/*_crash_test.c))
TESTS := $(patsubst t/%.c,$(B)/t/%,$(filter-out $(NOT_TESTS),$(wildcard t/*_test.c)))

# Parts that several tests share, for the tests of these folders. As an archive: a test links what it uses.
T_HELPERS         := t/store_trap.c t/crash_medium.c t/crash_log.c t/sim_medium.c t/log_trace.c t/store_trace.c t/cluster.c \
                     t/store_arena.c t/net_sim_wire.c $(wildcard t/fake_*.c)
T_HELPER_FOLDERS  := pmem store replica recovery net
$(B)/libthelpers.a: $(T_HELPERS:%.c=$(B)/%.o)
	@rm -f $@
	ar rcs $@ $^

define test_rules
$(patsubst t/%.c,$(B)/t/%,$(wildcard t/$(1)_*_test.c)): $(B)/t/%: $(B)/t/%.o $(B)/t/test.o $(if $(filter $(1),$(T_HELPER_FOLDERS)),$(B)/libthelpers.a) $(call libs,$(USES_$(1)))
	$$(CXX) $(LDFLAGS) $$^ -o $$@ -lgtest $(call syslibs,$(USES_$(1)))
endef
$(foreach folder,$(FOLDERS),$(if $(wildcard t/$(folder)_*_test.c),$(eval $(call test_rules,$(folder)))))

.PHONY: unit
unit: $(TESTS)
	t/run-unit $(TESTS)

# ---- the two commands of README.md, and their parts (doc/hacking.md) --------------------------------
.PHONY: run check check-tidy check-asan check-tsan check-notls check-smoke check-e2e threads
run:
	t/install build
	$(MAKE) -j2 all
	server/run-group

check:
	t/install
	t/check $(CHECK)

check-tidy: $(call libs,base pmem store replica recovery proto)
	t/tidy

check-asan:
	$(MAKE) VARIANT=asan unit build/asan/healcached
	HEALCACHED=build/asan/healcached t/e2e/run one_node bad_clients garbage dump_ watch_ stats_ binary_ sasl log_in ways_to \
	    tls_ plain_text_to broken_records exchanged unix_socket udp_garbage udp_answers persist_

check-tsan threads: export TSAN_OPTIONS = suppressions=$(CURDIR)/t/tsan.supp
check-tsan: load
	$(MAKE) VARIANT=tsan threads build/tsan/healcached
	HEALCACHED=build/tsan/healcached setarch -R t/e2e/run one_node many_pipelined killed_under_load sasl_of sighup dump_of dump_ends watch_ \
	    tls_serves exchanged udp_garbage readers_on persist_waits

# The tests in which several threads run at once; address layout fixed, as ThreadSanitizer needs it.
THREAD_TESTS := $(filter $(B)/t/net_% $(B)/t/server_% $(B)/t/base_ring_% $(B)/t/pmem_medium_%,$(TESTS))
threads: $(THREAD_TESTS)
	setarch -R t/run-unit $(THREAD_TESTS)

# Power cuts before every store and at either side of every drain (doc/verification.md).
CRASH_TESTS := $(filter $(B)/t/%_crash_test,$(TESTS))
.PHONY: check-crash crash
check-crash:
	$(MAKE) VARIANT=trap crash
crash: $(CRASH_TESTS)
	t/run-unit $(CRASH_TESTS)

# A build without OpenSSL: it is really without, proves the same to its peers, and says that it has no TLS.
check-notls:
	$(MAKE) TLS=0 all build/notls/t/net_proof_test build/notls/t/net_door_test
	t/run-unit build/notls/t/net_proof_test build/notls/t/net_door_test
	! grep -rl openssl/ build/notls --include='*.d'
	build/notls/healcached -u root -p 0 -l 127.0.0.1:1 -Z 2>&1 | grep "this build has no TLS"

check-smoke: all
	t/server-smoke

check-e2e: all load
	t/e2e/run

# The same bytes to memcached and to us, DIFFERENTIAL_SECONDS long, after proving that it can tell (doc/differences.md).
DIFFERENTIAL_SECONDS ?= 60
DIFFERENTIAL_SEED    ?= 1
.PHONY: check-differential
check-differential: all
	t/differential/run --self-test
	t/differential/run --seconds=$(DIFFERENTIAL_SECONDS) --seed=$(DIFFERENTIAL_SEED)

# Clients of other people, in seven languages. What they need (some 600 MB, half a minute) is not among what `make check` installs;
# .ci/run runs them, too.
.PHONY: check-clients
check-clients: all
	t/install clients
	command -v npm >/dev/null || t/install node
	t/clients/run

# In a throw-away virtual machine: persistent memory with DAX, and disks that fail (t/guest). Its packages and a kernel (some
# 500 MB) are not among what `make check` installs, either.
.PHONY: check-guest
check-guest: all load $(B)/t/pmem_medium_test $(B)/t/net_contract_test guest-tools
	t/install guest
	t/guest/run -p 896 -t 800 t/guest/check

# Of t/guest: connects queue pairs without net/, and breaks those of a running node.
GUEST_TOOLS := $(B)/t/guest/probe $(B)/t/guest/break_qp
$(GUEST_TOOLS): %: %.o
	$(CC) $(LDFLAGS) $^ -o $@ -lrdmacm -libverbs
.PHONY: guest-tools
guest-tools: $(GUEST_TOOLS)

# ---- bench/load, and what it says about this machine ------------------------------------------------
$(B)/bench/load: $(patsubst %.c,$(B)/%.o,$(filter-out bench/parse.c bench/sync.c bench/replay.c bench/trace.c bench/clean.c bench/grow.c,$(wildcard bench/*.c))) $(B)/libbase.a
	$(CC) $(LDFLAGS) $^ -o $@ -lm

.PHONY: load bench-quick
load: $(B)/bench/load

bench-quick: all load
	bench/quick

# In the virtual machine of check-guest, which has a device: two to six minutes.
.PHONY: bench-verbs
bench-verbs: all load
	t/install guest
	t/guest/run -t 900 bench/verbs

.PHONY: bench-dump
bench-dump: all load
	bench/dump

.PHONY: bench-models
bench-models: all load
	bench/models

# The store alone, in one process: what cleaning copies, and what the growth of the index holds up.
$(B)/bench/clean $(B)/bench/grow: $(B)/bench/%: $(B)/bench/%.o $(call libs,$(USES_store))
	$(CC) $(LDFLAGS) $^ -o $@ $(call syslibs,$(USES_store)) -lm

# SPACE_SECONDS long; ARGUMENTS=--memory for a node without a log in files.
SPACE_SECONDS ?= 3600
.PHONY: bench-space
bench-space: all
	bench/space --seconds=$(SPACE_SECONDS) $(ARGUMENTS)

.PHONY: bench-clean bench-grow
bench-clean: $(B)/bench/clean
	$(B)/bench/clean
bench-grow: $(B)/bench/grow
	$(B)/bench/grow

$(B)/bench/replay: $(B)/bench/replay.o $(B)/bench/trace.o
	$(CC) $(LDFLAGS) $^ -lm -o $@

.PHONY: bench-hits
bench-hits: all $(B)/bench/replay
	bench/hits

.PHONY: bench-restart
bench-restart: all
	bench/restart

.PHONY: bench-memory
bench-memory: all
	bench/memory

# One line: what the parsers take for a request.
$(B)/bench/parse: $(B)/bench/parse.o $(call libs,$(USES_proto))
	$(CC) $(LDFLAGS) $^ -o $@

# What the ways of making mapped files durable cost on the disk of the current directory.
$(B)/bench/sync: $(B)/bench/sync.o
	$(CC) $(LDFLAGS) $^ -o $@

.PHONY: bench-sync
bench-sync: $(B)/bench/sync
	$(B)/bench/sync

.PHONY: bench-parse
bench-parse: $(B)/bench/parse
	$(B)/bench/parse

# ---- fuzzers: t/fuzz/FOLDER_NOUN_fuzz.c links FOLDER and what it may use, all compiled by clang ---------
FUZZ_CC      := clang-14
FUZZ_SECONDS ?= 30
FUZZ_SEED    ?= 1
FUZZ_FLAGS   := -std=c11 -O1 -g -fno-omit-frame-pointer -Wall -fno-sanitize-recover=all
FUZZERS      := $(patsubst t/fuzz/%.c,build/fuzz/%,$(wildcard t/fuzz/*_fuzz.c))
fuzz_objects  = $(foreach folder,$(1),$(SRC_$(folder):%.c=build/fuzz/%.o))

build/fuzz/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(FUZZ_CC) $(FUZZ_FLAGS) -fsanitize=fuzzer-no-link,address,undefined $(CPPFLAGS) -MMD -MP -c $< -o $@

define fuzz_rules
$(patsubst t/fuzz/%.c,build/fuzz/%,$(wildcard t/fuzz/$(1)_*_fuzz.c)): build/fuzz/%: build/fuzz/t/fuzz/%.o $(call fuzz_objects,$(USES_$(1)))
	$$(FUZZ_CC) -fsanitize=fuzzer,address,undefined $$^ -o $$@ $(call syslibs,$(USES_$(1)))
endef
$(foreach folder,$(FOLDERS),$(if $(wildcard t/fuzz/$(folder)_*_fuzz.c),$(eval $(call fuzz_rules,$(folder)))))

# One after the other, FUZZ_SECONDS each. What was found stays in build/fuzz; the seeds in t/fuzz/corpus are only read.
.PHONY: check-fuzz
check-fuzz: $(FUZZERS)
	t/run-fuzz $(FUZZ_SECONDS) $(FUZZ_SEED) $(FUZZERS)

# ---- the simulator (doc/verification.md) -------------------------------------------------------------
SIM_SEEDS   ?= 2000
SIM_SRC     := $(filter-out %_test.c,$(wildcard t/sim*.c))
SIM_FOLDERS := recovery replica store pmem base
$(B)/sim: $(SIM_SRC:%.c=$(B)/%.o) $(call libs,$(SIM_FOLDERS))
	$(CC) $(LDFLAGS) $^ -o $@ $(call syslibs,$(SIM_FOLDERS))

$(B)/t/sim_linear_test: $(B)/t/sim_linear_test.o $(B)/t/test.o $(B)/t/sim_linear.o $(B)/t/sim_spec.o
	$(CXX) $(LDFLAGS) $^ -o $@ -lgtest -lpthread

.PHONY: check-sim check-faults soak
check-sim: $(B)/sim
	t/run-sim $(B)/sim $(SIM_SEEDS)

check-faults:
	t/planted-faults

soak: $(B)/sim $(B)/healcached
	t/soak $(B)/sim

.PHONY: clean
clean:
	rm -rf build
