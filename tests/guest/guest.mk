# SPDX-License-Identifier: BSD-2-Clause
# tests/guest/guest.mk - the test guest's initramfs: Debian's busybox, our init, our programs.  The Makefile has it in.
#
# Gives: GUEST_INITRD (a file), GUEST_KERNEL (a file), target `guest`.

BUILD ?= build
GUEST_SRC     := tests/guest
GUEST_OUT     := $(BUILD)/guest
GUEST_KERNEL  := $(BUILD)/deps/linux/vmlinuz
GUEST_BUSYBOX := $(BUILD)/deps/busybox/busybox
GUEST_INITRD  := $(GUEST_OUT)/initramfs.cpio.gz
GUEST_CC      ?= gcc
GUEST_CFLAGS  := -std=gnu11 -static -O2 -Wall -Wextra -Werror -s
GUEST_PAYLOAD_SRC := $(addprefix $(GUEST_SRC)/,payload.c dirtier.c fpcheck.c probe.c diskcheck.c diskbench.c \
    diskcuts.c stress.c mirror.c)
GUEST_APPLETS := sh mount umount insmod setsid cttyhack cat echo ls ps kill sleep date dmesg free grep head tail wc \
                 top uptime uname reboot \
                 poweroff halt devmem hexdump ip ifconfig stty taskset test time true false usleep vi
# Debian's virtio drivers are modules: a second initramfs has them, and some applets to try them with.
GUEST_VIRTIO_INITRD := $(GUEST_OUT)/initramfs-virtio.cpio.gz
GUEST_VIRTIO_KO := $(wildcard $(BUILD)/deps/linux/virtio/*.ko)
GUEST_VIRTIO_APPLETS := dd ping md5sum cmp od blkdiscard mke2fs sync rm nc
# The MSR driver, where the fetch keeps it: `probe msr` needs it and says so when it is missing.
GUEST_MSR_KO  := $(wildcard $(BUILD)/deps/linux/msr.ko)
# The power button's drivers: a check loads them in its guest.
GUEST_BUTTON_KO := $(wildcard $(BUILD)/deps/linux/button.ko $(BUILD)/deps/linux/evdev.ko)

.PHONY: guest
guest: $(GUEST_INITRD) $(GUEST_VIRTIO_INITRD) $(GUEST_OUT)/exits.bin

# A guest without a kernel: measures exits.  tests/system/tiny_kernel.py puts the header before it.
$(GUEST_OUT)/exits.bin: $(GUEST_SRC)/exits/exits.c $(GUEST_SRC)/exits/exits.ld $(GUEST_SRC)/guest.mk
	@mkdir -p $(@D)
	$(Q)$(GUEST_CC) -std=gnu11 -O2 -Wall -Wextra -Werror -ffreestanding -fpie -no-pie -mno-red-zone \
	    -mgeneral-regs-only \
	    -fno-stack-protector -fcf-protection=none -fno-asynchronous-unwind-tables -nostdlib -static \
	    -Wl,--build-id=none,--no-warn-rwx-segments,-T,$(word 2,$^) -o $(@:.bin=.elf) $<
	$(Q)objcopy -O binary $(@:.bin=.elf) $@

$(GUEST_OUT)/payload: $(GUEST_PAYLOAD_SRC) $(GUEST_SRC)/payload.h $(GUEST_SRC)/fpcheck.h $(GUEST_SRC)/guest.mk
	@mkdir -p $(@D)
	$(Q)$(GUEST_CC) $(GUEST_CFLAGS) -pthread -o $@ $(GUEST_PAYLOAD_SRC)

$(GUEST_INITRD): $(GUEST_OUT)/payload $(GUEST_SRC)/init $(GUEST_SRC)/mkinitramfs.py $(GUEST_SRC)/guest.mk \
        $(GUEST_BUSYBOX) $(GUEST_MSR_KO) $(GUEST_BUTTON_KO)
	@mkdir -p $(@D)
	$(Q)python3 $(GUEST_SRC)/mkinitramfs.py $@ bin/ dev/ proc/ sys/ init=$(GUEST_SRC)/init \
	    bin/busybox=$(GUEST_BUSYBOX) \
	    $(foreach a,$(GUEST_APPLETS),bin/$(a)@busybox) bin/payload=$(GUEST_OUT)/payload \
	    $(foreach p,dirtier fpcheck probe stress,bin/$(p)@payload) $(if $(GUEST_MSR_KO),msr.ko=$(GUEST_MSR_KO)) \
	    $(foreach k,$(GUEST_BUTTON_KO),$(notdir $(k))=$(k))

$(GUEST_VIRTIO_INITRD): $(GUEST_INITRD) $(GUEST_VIRTIO_KO)
	$(Q)python3 $(GUEST_SRC)/mkinitramfs.py $@ bin/ dev/ proc/ sys/ tmp/ mnt/ virtio/ init=$(GUEST_SRC)/init \
	    bin/busybox=$(GUEST_BUSYBOX) \
	    $(foreach a,$(GUEST_APPLETS) $(GUEST_VIRTIO_APPLETS),bin/$(a)@busybox) bin/payload=$(GUEST_OUT)/payload \
	    $(foreach p,dirtier fpcheck probe stress diskcheck diskbench diskcuts mirror,bin/$(p)@payload) \
	    $(foreach k,$(GUEST_VIRTIO_KO),virtio/$(notdir $(k))=$(k))
