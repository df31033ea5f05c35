# SPDX-License-Identifier: BSD-2-Clause
"""Guests of a few hundred bytes as bzImages, for emulators too slow for a Linux: tests/guest/walker.c checks its own memory, masked.c tries features."""
import os
import re
import subprocess

from emulator import BUILD, ROOT
from tiny_kernel import bzimage

TICK = r"^tick (\d+) visits= (\d+) sweeps= (\d+) bad=(\d+) gap=(\d+) khz=(\d+) skew=(\d+)\n"


def build(name):
    """Compile tests/guest/NAME.c; returns the path of the kernel image."""
    folder = os.path.join(BUILD, "guest")
    os.makedirs(folder, exist_ok=True)
    binary, image = (os.path.join(folder, f"{name}.{kind}") for kind in ("bin", "bzimage"))
    subprocess.run(["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-ffreestanding", "-nostdlib", "-fpie", "-static", "-no-pie", "-mgeneral-regs-only",
                    "-mno-red-zone", "-fno-stack-protector", "-fcf-protection=none", "-fno-asynchronous-unwind-tables", "-fno-builtin",
                    "-Wl,-N,--build-id=none,--oformat=binary,-Ttext=0,-e0", "-o", binary, os.path.join(ROOT, "tests", "guest", f"{name}.c")],
                   check=True)
    with open(binary, "rb") as f, open(image, "wb") as out:
        out.write(bzimage(f.read()))
    return image


def walker():
    return build("walker")


CR4 = {"tsd": 2, "umip": 11, "fsgsbase": 16, "pcide": 17, "osxsave": 18, "smep": 20, "smap": 21}


def masked_vm(vm, cpu, cr4):
    """A guest on baseline cpu that tries features and the named bits of CR4; vm: host.vm."""
    return {**vm(memory="40M", kernel="masked", initrd=None, cpu=cpu), "cmdline": str(sum(1 << CR4[bit] for bit in cr4))}


def masked(host, name, timeout=30):
    """What that guest got for each: {"rdtscp": 0, ..., "smep": 13}, the exception's vector or 0."""
    with host.guest(name) as g:
        line = g.expect(r"^masked( \S+=\d+)+ ;\n", timeout)[0]
    names = {f"cr4.{bit}": name for name, bit in CR4.items()}
    return {names.get(k, k): int(v) for k, v in re.findall(r"(\S+)=(\d+)", line)}


def read_tick(text):
    m = re.search(TICK, text, re.M)
    return {"n": int(m[1]), "visits": int(m[2]), "sweeps": int(m[3]), "bad": int(m[4]), "gap_k": int(m[5]), "khz": int(m[6]), "skew": int(m[7])}
