# SPDX-License-Identifier: BSD-2-Clause
# Godwit - one command does it all: `make` builds build/godwit.efi, `make test` tests it, `make demo` shows a migration.
# `make help` lists more.
#
# Sources are found by wildcard: a new .c or .S file in one of the folders below is built without a change here.  The
# same portable sources are built again for the host, with sanitizers, when a unit test or fuzz target names them in its
# first lines:
#   /* unit-sources: kernel/config/config.c tests/fakes/log.c */     /* unit-deps: lz4 */        in tests/unit/test_*.c
#   /* fuzz-sources: kernel/config/config.c */                       /* fuzz-deps: lz4 */        in tests/fuzz/fuzz_*.c
# Variables: V=1 shows commands · NO_INSTALL=1 lists missing Debian packages instead of installing them
#            · FUZZ_SECONDS=n per fuzz target
#            · EXTRA_CFLAGS=... for our own freestanding code (mutants) · BUILD=dir for another build folder

BUILD        ?= build
FUZZ_SECONDS ?= 10
CC           := gcc
CLANG        := clang
DEPS         := build/deps
Q            := $(if $(V),,@)
say           = $(if $(V),:,printf '  %-7s %s\n')
SHELL        := /bin/bash
.SHELLFLAGS  := -o pipefail -c
.DELETE_ON_ERROR:
.SUFFIXES:
MAKEFLAGS    += --no-builtin-rules $(if $(filter 0,$(MAKELEVEL)),-j$(shell nproc))

.PHONY: all tools deps setup test unit fuzz fuzz-build fuzz-corpus unit-build guest system system-long debian13 \
        demo bench run gdb lint flags soak soak-faults model mutants test-mutants clean distclean help
all: $(BUILD)/godwit.efi $(BUILD)/tools/conf-check

help:
	@sed -n '2,13s/^# \{0,1\}//p' Makefile
	@printf '%s\n' '' 'make            build/godwit.efi (and build/godwit.elf with debug information)' \
	  'make demo       two emulated hosts, a running Linux guest moves there and back; make demo VENDOR=intel:' \
	  '                VT-x in Bochs (minutes)' \
  'make demo GUEST=debian  the same with a Debian on a disk (systemd, sshd, a workload) and a client outside that is' \
  '                logged in all the time; make demo STORAGE=1: it takes its disk of 1 GiB along, from NVMe to AHCI' \
	  'make test       unit tests, model check, mutants, short fuzzing, lint, system tests; one by one: make' \
	  '                unit, model, mutants, fuzz, lint, system' \
	  'make fuzz FUZZ_SECONDS=n  n seconds for each fuzz target (10); seeds in tests/fuzz/corpus/, finds in' \
	  '                build/fuzz/; make fuzz-corpus records seeds' \
	  'make bench      the figures, beside the peer'"'"'s' \
	  'make run        one host in QEMU, the guest console on this terminal (leave: Ctrl-A x; VENDOR=intel: in' \
	  '                Bochs); make gdb: the same, waiting for gdb' \
	  'make tools      host programs (build/tools/): godwitctl, mig-dump, conf-check' \
  'make guest      guest programs and initramfs for the tests' \
	  'make system-long  what make test leaves out for its time: more of Intel in Bochs, NBD disks, 20' \
	  '                power cuts, guests of many CPUs, a whole Debian, the quick part of debian13' \
	  'make debian13   in a Debian 13 made for it: set-up, build, unit tests, lint, one host boots, a guest' \
	  '                moves; ten minutes (DEBIAN13=--quick: not on Intel)' \
	  'make soak       a guest of 2 CPUs with disk and network moves SOAK_MOVES times (50, each 13 s), all of it' \
	  '                verified after each; make test-mutants: proves that the tests can fail (make mutants: only' \
	  '                the quick ones)' \
	  'make soak-faults  faults injected into moves between emulated hosts, 50 for each vendor: VENDOR=amd takes' \
	  '                a quarter of an hour, intel an hour' \
	  'make lint       the rules of the tree: rooms, headers, format, sizes; and a test that breaks each rule' \
	  '                once' \
	  'make setup      install missing Debian packages; make deps: also fetch third-party sources' \
	  'make clean      forget what was built; make distclean: also what was fetched'

# ---- set-up: once, remade when the lists change.  make includes this file and so makes it before anything else. ------
ifneq ($(filter-out clean distclean help flags setup,$(or $(MAKECMDGOALS),all)),)
include $(DEPS)/ready.mk
endif
$(DEPS)/ready.mk: tools/deps.lock tools/setup.sh tools/fetch-deps.sh
	$(Q)tools/setup.sh
	$(Q)tools/fetch-deps.sh $(DEPS)
	$(Q)echo '# made by the Makefile: packages are installed and third-party sources are here' > $@
setup:
	$(Q)tools/setup.sh
deps: $(DEPS)/ready.mk

# ---- third-party libraries: sources, include folders, settings -------------------------------------------------------
LIBS := lwip bearssl lz4 zydis llhttp
src_lwip    := $(wildcard $(addprefix $(DEPS)/lwip/src/,core/*.c core/ipv4/*.c netif/ethernet.c))
src_bearssl := $(wildcard $(DEPS)/bearssl/src/*.c $(DEPS)/bearssl/src/*/*.c)
src_lz4     := $(DEPS)/lz4/lib/lz4.c
src_llhttp  := $(addprefix $(DEPS)/llhttp/,llhttp.c http.c api.c)
src_zydis   := $(addprefix $(DEPS)/zydis/src/,Decoder.c DecoderData.c SharedData.c Register.c Utils.c)

inc_lwip    := -Inet/port -I$(DEPS)/lwip/src/include
inc_bearssl := -I$(DEPS)/bearssl/inc -I$(DEPS)/bearssl/src
inc_lz4     := -I$(DEPS)/lz4/lib
inc_zydis   := -I$(DEPS)/zydis/include -I$(DEPS)/zydis/src -I$(DEPS)/zycore/include \
               -DZYDIS_STATIC_BUILD -DZYCORE_STATIC_BUILD -DZYDIS_DISABLE_FORMATTER -DZYDIS_DISABLE_ENCODER \
               -DZYDIS_DISABLE_AVX512 -DZYDIS_DISABLE_KNC -DZYAN_NO_LIBC
inc_llhttp  := -I$(DEPS)/llhttp
LIB_INC     := $(foreach l,$(LIBS),$(inc_$(l))) -I$(DEPS)/jsmn      # jsmn is one header

def_bearssl := -DBR_USE_UNIX_TIME=0 -DBR_USE_URANDOM=0 -DBR_USE_WIN32_TIME=0 -DBR_USE_WIN32_RAND=0 -DBR_RDRAND=1 \
        -D_MM_MALLOC_H_INCLUDED -fno-stack-protector  # gcc takes the value from %fs in functions with a target
def_llhttp  := -Os                               # 5 KB less; nobody waits for it
def_lz4     := -DLZ4_FREESTANDING=1 -DLZ4_memcpy=__builtin_memcpy -DLZ4_memmove=__builtin_memmove \
        '-DLZ4_memset(p,v,s)=__builtin_memset((p),(v),(s))'

# ---- flags -----------------------------------------------------------------------------------------------------------
FREE := -std=gnu11 -O2 -g -ffreestanding -nostdinc -isystem $(shell $(CC) -print-file-name=include) -I. \
        -Ikernel/lib/libc -mno-red-zone -fstack-protector-strong -mstack-protector-guard=global \
        -fcf-protection=none -fno-asynchronous-unwind-tables -fno-strict-aliasing \
        -ffunction-sections -fdata-sections -fvisibility=hidden -U_FORTIFY_SOURCE \
        -mgeneral-regs-only -fpie -mcmodel=small -fno-omit-frame-pointer -fno-reorder-blocks-and-partition
WARN := -Wall -Wextra -Werror
EFI  := -isystem /usr/include/efi -isystem /usr/include/efi/x86_64 -DGNU_EFI_USE_MS_ABI -maccumulate-outgoing-args \
        -fshort-wchar
HOST := -std=gnu11 -g -I. $(LIB_INC) -DGODWIT_HOST=1 -fno-omit-frame-pointer
SAN  := -O1 -fsanitize=address,undefined -fno-sanitize-recover=all
CMOCKA := $(addprefix -include ,stdarg.h stddef.h stdint.h setjmp.h)     # what cmocka.h wants before it
DEPGEN = -MMD -MP -MF $(@:.o=.d)

# ---- godwit.efi ------------------------------------------------------------------------------------------------------
ROOMS := lib lib/libc config host host/x86 core dev run store vm peers manage
DIRS := boot kernel $(addprefix kernel/,$(ROOMS)) svm vmx net net/port migrate
SRC  := $(foreach d,$(DIRS),$(wildcard $(d)/*.c $(d)/*.S))
OBJ  := $(addprefix $(BUILD)/obj/,$(addsuffix .o,$(SRC)))
LIBA := $(foreach l,$(LIBS),$(BUILD)/lib/lib$(l).a)

$(BUILD)/obj/boot/%.c.o: boot/%.c
	@$(say) CC $<; mkdir -p $(@D)
	$(Q)$(CC) $(FREE) $(WARN) $(EFI) $(EXTRA_CFLAGS) $(DEPGEN) -c $< -o $@
# Rooms of which most waits for people and disks are built for size, which saves 64 KB; not so what each request, page
# or frame passes: for size alone gcc copies by `rep movsb`, whatever the length, which is slow in an emulator.
SMALL := $(addprefix kernel/,config/% manage/% peers/% store/% vm/%)
QUICK := $(addprefix kernel/store/,ahci% block% disk_flow% lv_disk% mirror% nvme% snapshot_disk% snapshot_origin%) \
         $(addprefix kernel/,store/virtio% vm/guest_net% vm/vm_disk% vm/vm_memory% vm/vm_state%) \
         $(addprefix kernel/,peers/arrive_disks% peers/peer_disk%)
$(BUILD)/obj/%.c.o: %.c
	@$(say) CC $<; mkdir -p $(@D)
	$(Q)$(CC) $(FREE) $(if $(filter $(SMALL),$(filter-out $(QUICK),$<)),-Os) $(WARN) $(LIB_INC) $(EXTRA_CFLAGS) \
	  $(DEPGEN) -c $< -o $@
$(BUILD)/obj/%.S.o: %.S
	@$(say) AS $<; mkdir -p $(@D)
	$(Q)$(CC) $(FREE) $(WARN) $(EXTRA_CFLAGS) $(DEPGEN) -c $< -o $@

# libgcc: the few functions that gcc calls where x86-64-v1 has no instruction (__popcountdi2).
LIBGCC := $(shell $(CC) -print-libgcc-file-name)
# Two links: the second one holds a table of the first one's function names, for backtraces.  It comes after the code,
# so the code does not move.
LD_EFI = ld -nostdlib -znocombreloc -pie --no-dynamic-linker -z norelro -z noexecstack --no-warn-rwx-segments \
         --gc-sections --build-id=none -z pack-relative-relocs \
         -T linker.ld /usr/lib/crt0-efi-x86_64.o $(OBJ) $(1) --start-group $(LIBA) --end-group /usr/lib/libgnuefi.a \
         $(LIBGCC)
$(BUILD)/symtab0.S: tools/symtab
	$(Q)mkdir -p $(@D); tools/symtab < /dev/null > $@
$(BUILD)/symtab1.S: $(BUILD)/godwit.pass1.elf tools/symtab
	$(Q)nm -n $< | tools/symtab > $@
$(BUILD)/symtab%.o: $(BUILD)/symtab%.S
	$(Q)$(CC) -c $< -o $@
$(BUILD)/godwit.pass1.elf: $(OBJ) $(LIBA) linker.ld $(BUILD)/symtab0.o
	@$(say) LD "$@ (first pass)"
	$(Q)$(call LD_EFI,$(BUILD)/symtab0.o) -o $@
$(BUILD)/godwit.elf: $(BUILD)/godwit.pass1.elf $(BUILD)/symtab1.o
	@$(say) LD $@
	$(Q)$(call LD_EFI,$(BUILD)/symtab1.o) -o $@
$(BUILD)/godwit.efi: $(BUILD)/godwit.elf
	@$(say) EFI "$@"
	$(Q)objcopy --strip-all $(addprefix -j ,.text .rodata .relr .symtab_blob .reloc .data .dynamic .bss) \
	    --target=efi-app-x86_64 $< $@
	@printf '%s: %s bytes\n' $@ $$(stat -c %s $@)

# Third-party objects, for godwit.efi and once more for host programs.  Warnings there are not ours.
define lib_rules
$(BUILD)/lib/$(1)/%.o: $(DEPS)/$(1)/%.c tools/deps.lock | $(DEPS)/ready.mk
	@mkdir -p $$(@D)
	$$(Q)$$(CC) $$(FREE) -w $$(inc_$(1)) $$(def_$(1)) $$(DEPGEN) -c $$< -o $$@
$(BUILD)/host/lib/$(1)/%.o: $(DEPS)/$(1)/%.c tools/deps.lock | $(DEPS)/ready.mk
	@mkdir -p $$(@D)
	$$(Q)$$(CC) -O2 -w $$(HOST) $$(if $$(filter lz4,$(1)),,$$(def_$(1))) $$(DEPGEN) -c $$< -o $$@
$(BUILD)/lib/lib$(1).a: $$(patsubst $(DEPS)/$(1)/%.c,$(BUILD)/lib/$(1)/%.o,$$(src_$(1)))
	@$$(say) AR $$@; rm -f $$@
	$$(Q)ar rcs $$@ $$^
$(BUILD)/host/lib/lib$(1).a: $$(patsubst $(DEPS)/$(1)/%.c,$(BUILD)/host/lib/$(1)/%.o,$$(src_$(1)))
	@$$(say) AR $$@; rm -f $$@
	$$(Q)ar rcs $$@ $$^
-include $$(patsubst $(DEPS)/$(1)/%.c,$(BUILD)/lib/$(1)/%.d,$$(src_$(1)))
endef
$(foreach l,$(LIBS),$(eval $(call lib_rules,$(l))))
-include $(OBJ:.o=.d)

# ---- unit tests and fuzz targets -------------------------------------------------------------------------------------
UNIT := $(patsubst tests/unit/%.c,%,$(wildcard tests/unit/test_*.c))
FUZZ := $(patsubst tests/fuzz/%.c,%,$(wildcard tests/fuzz/fuzz_*.c))
# $(call named,file,word): what the comment "word: ..." at the top of file lists
named = $(shell head -c 4000 $(1) | tr '\n' ' ' | sed -n 's/.*$(2):\([^:]*\)/\1 */p' | sed 's/\*\/.*//')
# $(call objs,host|fuzz,words): the objects of those words that are sources
# $(call host_libs,words): the archives of those words that are libraries
objs      = $(addprefix $(BUILD)/$(1)/,$(addsuffix .o,$(filter %.c,$(2))))
host_libs = $(foreach l,$(filter $(LIBS),$(1)),$(BUILD)/host/lib/lib$(l).a)

$(BUILD)/host/%.c.o: %.c | $(DEPS)/ready.mk
	@$(say) HOSTCC $<; mkdir -p $(@D)
	$(Q)$(CC) $(HOST) $(SAN) $(WARN) $(if $(filter tests/unit/%,$<),$(CMOCKA)) $(HOST_CFLAGS) \
	    -fno-builtin-snprintf \
	    $(DEPGEN) -c $< -o $@
$(BUILD)/fuzz/%.c.o: %.c | $(DEPS)/ready.mk
	@$(say) FUZZCC $<; mkdir -p $(@D)
	$(Q)$(CLANG) $(HOST) -O1 -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all -w $(DEPGEN) -c \
	    $< -o $@

define unit_rule
$(BUILD)/unit/$(1): $(call objs,host,tests/unit/$(1).c tests/fakes/said.c) \
                    $(call objs,host,$(call named,tests/unit/$(1).c,unit-sources)) \
                    $(foreach l,$(filter $(LIBS),$(call named,tests/unit/$(1).c,unit-deps)),$(BUILD)/host/lib/lib$(l).a)
	@$$(say) HOSTLD $$@; mkdir -p $$(@D)
	$$(Q)$$(CC) $$(SAN) -Wl,--wrap=snprintf,--wrap=vsnprintf $$^ -lcmocka -lm -o $$@
endef
define fuzz_rule
$(BUILD)/fuzz/$(1): $(call objs,fuzz,tests/fuzz/$(1).c $(call named,tests/fuzz/$(1).c,fuzz-sources)) \
                  $(call host_libs,$(call named,tests/fuzz/$(1).c,fuzz-deps) $(call named,tests/fuzz/$(1).c,unit-deps))
	@$$(say) FUZZLD $$@; mkdir -p $$(@D)
	$$(Q)$$(CLANG) -fsanitize=fuzzer,address,undefined $$^ -o $$@
endef
ifneq ($(filter unit% fuzz% mutants test-mutants test soak $(BUILD)/unit/% $(BUILD)/fuzz/%,$(MAKECMDGOALS)),)
$(foreach t,$(UNIT),$(eval $(call unit_rule,$(t))))
$(foreach t,$(FUZZ),$(eval $(call fuzz_rule,$(t))))
-include $(shell find $(BUILD)/host $(BUILD)/fuzz -name '*.d' 2>/dev/null)
endif

unit-build: $(addprefix $(BUILD)/unit/,$(UNIT))
fuzz-build: $(addprefix $(BUILD)/fuzz/,$(FUZZ))
# A program that does not build is one failure; the others still run.
unit:
	$(Q)$(MAKE) --no-print-directory -k unit-build && built=1; BUILT=$${built:-0} tools/run-unit.sh \
	    $(BUILD)/results/unit.txt $(addprefix $(BUILD)/unit/,$(UNIT))
fuzz:
	$(Q)$(MAKE) --no-print-directory -k fuzz-build && built=1; BUILT=$${built:-0} tools/run-fuzz.sh \
	    $(BUILD)/results/fuzz.txt $(FUZZ_SECONDS) $(addprefix $(BUILD)/fuzz/,$(FUZZ))

# The seeds of fuzz_mig_stream: real moves, recorded again (after a change of the wire format).
fuzz-corpus: $(BUILD)/fuzz/fuzz_mig_stream
	$(Q)MIG_RECORD=tests/fuzz/corpus/mig_stream $<

# ---- host programs ---------------------------------------------------------------------------------------------------
# tools/NAME.c with "tool-sources: ..." (and "tool-deps: ...", "tool-libs: -lX") at its top becomes build/tools/NAME.
TOOLS := $(patsubst tools/%.c,%,$(wildcard tools/*.c))
define tool_rule
$(BUILD)/tools/$(1): tools/$(1).c $(filter %.c,$(call named,tools/$(1).c,tool-sources)) $(wildcard tools/ctl/*.h) \
                     $(foreach l,$(filter $(LIBS),$(call named,tools/$(1).c,tool-deps)),$(BUILD)/host/lib/lib$(l).a) | \
                    $(DEPS)/ready.mk
	@$$(say) HOSTCC $$@; mkdir -p $$(@D)
	$$(Q)$$(CC) -O2 $$(HOST) $$(WARN) $$(filter %.c %.a,$$^) $(filter -l%,$(call named,tools/$(1).c,tool-libs)) \
	    -lm -o $$@
endef
$(foreach t,$(TOOLS),$(eval $(call tool_rule,$(t))))
tools: $(addprefix $(BUILD)/tools/,$(TOOLS))

# ---- emulated hosts --------------------------------------------------------------------------------------------------
-include tests/guest/guest.mk
guest:
system: all guest $(BUILD)/tools/godwitctl
	$(Q)tests/system/run.py --lanes
demo: all guest $(BUILD)/tools/godwitctl $(if $(filter debian,$(GUEST))$(STORAGE),$(BUILD)/debian/disk.img)
	$(Q)GUEST=$(GUEST) STORAGE=$(STORAGE) tools/demo
$(BUILD)/debian/disk.img: tools/mkdebian $(shell find tests/guest/debian -type f) | $(DEPS)/ready.mk
	$(Q)tools/mkdebian $(@D)
bench: all guest
	$(Q)python3 tests/bench/run_bench.py
system-long: all guest $(BUILD)/debian/disk.img
	$(Q)tests/system/run.py --long
# A Debian 13 needs nothing that was built here, except what tools/setup.sh installs to make it.
debian13: $(DEPS)/ready.mk
	$(Q)tests/debian13.sh $(DEBIAN13)
soak: all guest
	$(Q)tests/system/run.py --soak
# VENDOR=amd|intel, FAULTS=n per vendor, SEED=n
soak-faults: all
	$(Q)tests/system/soak_faults.py $(if $(VENDOR),--vendor $(VENDOR)) $(if $(FAULTS),--faults $(FAULTS)) \
	    $(if $(SEED),--seed $(SEED))
	$(Q)$(if $(filter intel,$(VENDOR)),true,tests/system/soak_disks.py) $(if $(SEED),--seed $(SEED))
test-mutants: all guest unit-build
	$(Q)tests/system/mutants.py
mutants: unit-build
	$(Q)tests/system/mutants.py --fast
# The handoff protocol, checked by Spin: docs/handoff.md.
model:
	$(Q)tests/model/run.py
run: all guest
	$(Q)tools/run-host.sh
gdb: all guest
	$(Q)tools/run-host.sh --gdb
# All stages, also when one fails; the last line is the sum of build/results/*.txt.
test: $(DEPS)/ready.mk
	$(Q)tools/test.sh unit+model+mutants+fuzz+lint system

# The linter reads which room calls which from the objects.
lint: $(OBJ)
	$(Q)tests/lint/run.py --obj $(BUILD)/obj
# The flags that a header of each folder is compiled with, for tools/lint.py.
flags:
	@printf '%s\n' ': $(FREE) $(WARN) $(LIB_INC)' 'boot/: $(FREE) $(WARN) $(EFI)' \
	    'tests/: $(HOST) $(WARN) $(CMOCKA)' \
	    'tools/: $(HOST) $(WARN)' \
	  'tests/guest/: $(GUEST_CFLAGS)'

clean:
	rm -rf $(filter-out $(DEPS),$(wildcard $(BUILD)/*))
distclean:
	rm -rf $(BUILD) $(DEPS)
