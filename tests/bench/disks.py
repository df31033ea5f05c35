#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""tests/bench/disks.py - instructions for a request of a guest to a volume on the host's NVMe disk.

usage: disks.py

The guest is Linux with tests/guest/diskbench.c, the machine QEMU with `-icount shift=0`: one TSC tick is one
instruction, whatever else the computer does.  A request's cost is the time that the processor was not idle, in the
guest and in Godwit, less what an idle host with that guest does meanwhile: how long the emulated disk takes depends on
this machine.  It is the difference of a long run and a short one, by the number of requests.

Beside it: the same guest on the bare machine, whose disk is QEMU's virtio-blk.  The share is what a guest under Godwit
gets of the bare machine's speed where the processor, not the disk, is the limit.  The peer is Linux 6.1 + KVM + QEMU
7.2 with the same guest and disk, measured in the same run (disks_kvm.py): the better of aio=native and io_uring.  The
goal is half of it.  On a machine with much else to do it takes long: the guest's clock runs on while the disk waits
for its turn.  A guest that stands still is run again: see disks_kvm.py."""
import os
import re
import shutil
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "system"))

import disks_kvm                                                    # noqa: E402  (needs the path above)
import emulator                                                     # noqa: E402
from host import KERNEL, RUNS, Host, vm                             # noqa: E402
from test_store import KINDS, StoreDisk                             # noqa: E402
from test_virtio import FILES, INITRD                               # noqa: E402

RUN = "godwit.run=diskbench,/dev/vda"
DONE = r"^DISKBENCH n=\d+ us=(\d+) idle_ms=(\d+)\n"
# a line for diskbench, a person's name for it, requests of the two runs
CASES = [
    ("rr 4 1",    "4 KiB reads at random, one at a time",  (200, 2200)),
    ("rr 4 32",   "4 KiB reads at random, 32 at a time",   (2000, 22000)),
    ("wr 4 1",    "4 KiB writes at random, one at a time", (200, 2200)),
    ("wr 4 32",   "4 KiB writes at random, 32 at a time",  (2000, 22000)),
    ("rs 1024 4", "1 MiB reads in sequence, 4 at a time",  (20, 220)),
    ("ws 1024 4", "1 MiB writes in sequence, 4 at a time", (20, 220)),
]


def in_memory(path):
    """A copy whose reads and writes take no longer than they must: an idle machine's clock runs ahead meanwhile."""
    copy = os.path.join("/dev/shm" if os.access("/dev/shm", os.W_OK) else RUNS, f"godwit-bench-{os.getpid()}.img")
    shutil.copyfile(path, copy)
    return copy


def type_slowly(serial, line):
    """A character at a time, since nobody waits for a serial port where the TSC counts instructions."""
    serial.mark()
    for character in line + "\r":
        serial.send(character)
        time.sleep(0.03)


def figures(host):
    """(busy, up, in the guest) of a host with one CPU, in ms since boot."""
    text, guest = host.command("host", 60), host.command("vm inspect guest", 60)
    up, idle = (int(re.search(p, text)[1]) for p in (r"uptime_ms: (\d+)", r"idle (\d+) ms"))
    return up - idle, up, int(re.search(r"guest time (\d+) ms", guest)[1])


def differences(host, what):
    before = figures(host)
    what()
    return [b - a for a, b in zip(before, figures(host))]


def under_godwit():
    """{line: (instructions of a request, of these in the guest)}"""
    disk = StoreDisk("bench", *KINDS["nvme"][:2])
    quick = in_memory(disk.file)
    guest = vm(RUN, initrd="initramfs-virtio.cpio.gz", disk="lv:vg0/web")
    host = Host("a", vms={"guest": guest}, files=FILES, cpus=1, memory_mib=1024,
                extra=[*(a.replace(disk.file, quick) for a in disk.arguments), *emulator.ICOUNT], tag="disks",
                limit_s=900)
    host.boot(wait=False)
    try:
        host.wait_prompt(200)
        with host.guest("guest") as g:
            g.expect(r"^DISKBENCH ready\n", 300)

        def bench(line):
            with host.guest("guest"):
                type_slowly(host.serial, line)
                host.serial.expect(DONE, 100)

        idle = differences(host, lambda: time.sleep(1))
        costs = {}
        for line, _, counts in CASES:
            short, long = (differences(host, lambda n=n: bench(f"{line} {n}")) for n in counts)
            busy, up, inside = (b - a for a, b in zip(short, long))
            waited = (up - busy) / (idle[1] - idle[0])          # so many times as long as `idle`
            n = counts[1] - counts[0]
            costs[line] = tuple(round((part - waited * unused) * 1e6 / n)
                                for part, unused in ((busy, idle[0]), (inside, idle[2])))
        return costs
    finally:
        host.kill()
        os.unlink(quick)


def on_the_machine():
    """{line: instructions of a request} without Godwit."""
    folder = os.path.join(RUNS, "disks")
    os.makedirs(folder, exist_ok=True)
    nothing = os.path.join(folder, "nothing.img")
    with open(nothing, "wb") as f:
        f.truncate(32 << 20)
    disk = in_memory(nothing)
    extra = [*emulator.ICOUNT, "-kernel", KERNEL, "-initrd", INITRD, "-append", f"console=ttyS0 quiet {RUN}", "-drive",
             f"file={disk},if=none,id=disk0,format=raw", "-device", "virtio-blk-pci,drive=disk0"]
    machine = emulator.Emulator("bare", nothing, folder, cpus=1, memory_mib=512, extra=extra, limit_s=600)
    try:
        machine.serial.expect(r"^DISKBENCH ready\n", 300)
        costs = {}
        for line, _, counts in CASES:
            busy = []
            for n in counts:
                type_slowly(machine.serial, f"{line} {n}")
                done = machine.serial.expect(DONE, 200)
                busy.append(int(done[1]) / 1000 - int(done[2]))
            costs[line] = round((busy[1] - busy[0]) * 1e6 / (counts[1] - counts[0]))
        return costs
    finally:
        machine.kill()
        os.unlink(disk)


def measure():
    return {"godwit": disks_kvm.again(under_godwit), "bare": on_the_machine(), "peer": disks_kvm.measure_best()}


def table(costs):
    head = (f"{'instructions of a request to a disk':<40}{'Godwit':>8}{'peer':>8}{'of it':>8}{'in the guest':>14}"
            f"{'bare machine':>14}{'share':>8}")
    lines = [head, "-" * len(head)]
    for line, name, _ in CASES:
        whole, inside = costs["godwit"][line]
        bare, peer = costs["bare"][line], costs["peer"][line]
        lines.append(f"{name:<40}{whole:>8}{peer:>8}{100 * whole / peer:>6.0f} %{inside:>14}{bare:>14}"
                     f"{100 * bare / whole:>6.0f} %{'  goal missed' if whole > peer / 2 else ''}")
    return "\n".join(lines)


def main():
    emulator.die_on_signals()
    print(table(measure()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
