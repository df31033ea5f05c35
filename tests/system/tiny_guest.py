# SPDX-License-Identifier: BSD-2-Clause
"""tests/guest/walker.c as a bzImage: a guest of a few hundred bytes that checks its own memory, for emulators too slow for a Linux."""
import os
import re
import subprocess

from emulator import BUILD, ROOT
from tiny_kernel import bzimage

SOURCE = os.path.join(ROOT, "tests", "guest", "walker.c")
TICK = r"^tick (\d+) visits= (\d+) sweeps= (\d+) bad=(\d+) gap=(\d+) khz=(\d+) skew=(\d+)\n"


def walker():
    """Compile it; returns the path of the kernel image."""
    folder = os.path.join(BUILD, "guest")
    os.makedirs(folder, exist_ok=True)
    binary, image = os.path.join(folder, "walker.bin"), os.path.join(folder, "walker.bzimage")
    subprocess.run(["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-ffreestanding", "-nostdlib", "-fpie", "-static", "-no-pie", "-mgeneral-regs-only",
                    "-mno-red-zone", "-fno-stack-protector", "-fcf-protection=none", "-fno-asynchronous-unwind-tables", "-fno-builtin",
                    "-Wl,-N,--build-id=none,--oformat=binary,-Ttext=0,-e0", "-o", binary, SOURCE],
                   check=True)
    with open(binary, "rb") as f, open(image, "wb") as out:
        out.write(bzimage(f.read()))
    return image


def read_tick(text):
    m = re.search(TICK, text, re.M)
    return {"n": int(m[1]), "visits": int(m[2]), "sweeps": int(m[3]), "bad": int(m[4]), "gap_k": int(m[5]), "khz": int(m[6]), "skew": int(m[7])}
