#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""tests/bench/exits.py - instructions from the guest into Godwit and back, by kind of exit, compared with KVM.

usage: exits.py [--all]         --all: also the smallest and largest count of each kind

The guest is tests/guest/exits/exits.c, the machine QEMU with `-icount shift=0`: one TSC tick is one instruction,
whatever else the computer does.  The peer is Linux 6.1 with KVM in the same machine, with its default mitigations (and
without); the goal is half of its first figure.
"""
import argparse
import os
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "system"))

import emulator                                                     # noqa: E402  (needs the path above)
import tiny_kernel                                                  # noqa: E402
from host import RUNS, Host, vm                                     # noqa: E402

GUEST = os.path.join(emulator.BUILD, "guest", "exits.bin")
# the guest's name for it, a person's, the peer's count with mitigations and without
KINDS = [
    ("cpuid",            "CPUID leaf 0",                     2676, 2350),
    ("rdmsr-apic-base",  "RDMSR APIC_BASE",                  2765, 2430),
    ("vmmcall",          "VMMCALL",                          2820, 2477),
    ("in-pic",           "IN from the PIC",                  1726, 1460),
    ("out-uart",         "OUT to the UART (peer: in user space)", 5285, 4809),
    ("out-unused",       "OUT to an unused port (likewise)", 5285, 4809),
    ("lapic-mmio-read",  "local APIC read, xAPIC page",      3661, 3230),
    ("mov",              "the same by any MOV, the dearest", 3661, 3230),
    ("x2apic-eoi",       "x2APIC EOI",                       2821, 2489),
    ("tsc-deadline",     "TSC-deadline write",               3453, 3059),
    ("self-ipi",         "self-IPI, handler, EOI",           7644, 6812),
    ("first-touch",      "first touch of a 4 KiB page, mean", 6665, 6098),
]


def measure():
    """Boot a host with one CPU, run the guest: {kind: (min, median, max)}."""
    os.makedirs(RUNS, exist_ok=True)
    kernel = os.path.join(RUNS, "exits.bzimage")
    with open(GUEST, "rb") as code, open(kernel, "wb") as f:
        f.write(tiny_kernel.bzimage(code.read()))
    files = {"vmlinuz": None, "initramfs.cpio.gz": None, "exits": kernel}  # reading them would take the firmware long
    host = Host("a", vms={"exits": vm(initrd=None, kernel="exits")}, files=files, cpus=1, memory_mib=512,
                extra=emulator.ICOUNT, tag="exits", limit_s=300)
    host.boot(wait=False)
    try:
        host.wait_prompt(200)
        start = host.serial.mark()
        with host.guest("exits") as guest:
            guest.send("")
            guest.expect(r"^exits done\n", 60)
            text = host.serial.text[start:]
        host.poweroff()
    finally:
        host.kill()
    counts = {m[1]: tuple(map(int, m.groups()[1:])) for m in re.finditer(r"^exit (\S+) (\d+) (\d+) (\d+)$", text, re.M)}
    moves = {kind: count for kind, count in counts.items() if kind.startswith("mov")}
    if len(moves) < 25:
        raise AssertionError(f"the guest measured {len(moves)} forms of MOV only:\n{text}")
    dearest = max(moves, key=lambda kind: moves[kind][1])
    counts["mov"] = moves[dearest]
    missing = [kind for kind, *_ in KINDS if kind not in counts]
    if missing or "error:" in text:
        raise AssertionError(f"the guest did not measure {', '.join(missing) or 'without errors'}:\n{text}")
    return counts


def table(counts, spread=False):
    head = f"{'instructions of an exit':<39}{'Godwit':>8}{'goal':>8}{'peer':>8}{'peer, mitigations=off':>24}" + (
        f"{'min':>8}{'max':>8}" if spread else "")
    lines = [head, "-" * len(head)]
    for kind, name, peer, peer_off in KINDS:
        low, median, high = counts[kind]
        lines.append(f"{name:<39}{median:>8}{'≤' + str(peer // 2):>8}{peer:>8}{peer_off:>24}" +
                     (f"{low:>8}{high:>8}" if spread else "")
                     + ("  goal missed" if median > peer // 2 else ""))
    moves = sorted((count[1], kind) for kind, count in counts.items() if kind.startswith("mov") and kind != "mov")
    lines += ["", "every form of MOV: " + ", ".join(f"{kind} {median}" for median, kind in moves)]
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--all", action="store_true")
    args = parser.parse_args()
    emulator.die_on_signals()
    print(table(measure(), args.all))
    return 0


if __name__ == "__main__":
    sys.exit(main())
