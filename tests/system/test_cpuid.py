# SPDX-License-Identifier: BSD-2-Clause
"""The processor that a guest sees: a CPU level, a pool of hosts, features that this host lacks.  And a guest with fewer
features than its host can move."""
import os
import re

from fixtures import RUNS
from host import Link, vm
from tiny_guest import build, masked, masked_vm

SHELL = r"guest# "
ABOVE_V2 = {"avx", "avx2", "fma", "f16c", "bmi1", "bmi2", "movbe", "xsave", "abm", "aes", "smep", "rdtscp", "rdrand",
            "tsc_adjust"}
V2 = {"cx16", "lahf_lm", "popcnt", "pni", "sse4_1", "sse4_2", "ssse3", "cmov", "fxsr", "sse2", "nx", "lm"}


def flags(g):
    return set(g.shell("grep -m1 ^flags /proc/cpuinfo", r"^flags\s*:\s*(.*)\n")[1].split())


def started(host, name):
    host.command(f"vm start {name}")
    g = host.guest(name)
    with g:
        g.ready()
        g.expect(SHELL)
    return g


def test_levels_and_pool(own):
    link = Link()
    b = own("b", link, peers=["a"])
    lines = b.command("host cpuid")
    assert len(re.findall(r"^cpuid b [0-9a-f]{8}\.[0-9a-f]+( [0-9a-f]{8}){4}$", lines, re.M)) > 6, lines
    # as if b had nothing of leaf 7 EBX
    without = re.sub(r"^(cpuid b 00000007\.0 \S+) \S+", r"\1 00000000", lines, flags=re.M)
    pool = os.path.join(RUNS, "pool-cpuid.txt")
    with open(pool, "w", encoding="ascii") as f:
        f.write(without + "\n")
    shells = {cpu: vm(autostart=False, memory="128M", cpu=cpu) for cpu in ("x86-64-v2", "x86-64-v4", "pool")}
    a = own("a", link, peers=["b"], vms=shells, files={"pool-cpuid.txt": pool})

    said = a.command("vm start x86-64-v4")
    assert re.search(r"this host lacks avx512f, avx512dq, avx512cd, avx512bw, avx512vl, XSAVE component 5", said), said

    with started(a, "pool") as g:
        shown = flags(g)
        assert {"avx", "fma", "xsave", "aes", "tsc_adjust"} <= shown
        assert not {"avx2", "bmi1", "smep", "smap", "fsgsbase"} & shown, shown
    a.command("vm stop pool")

    with started(a, "x86-64-v2") as g:
        shown = flags(g)
        assert V2 <= shown and not ABOVE_V2 & shown, shown
        sizes = g.shell("grep -m1 ^address /proc/cpuinfo",
                        r"^address sizes\s*: (\d+) bits physical, (\d+) bits virtual")
        assert sizes.group(1, 2) == ("36", "48")
        g.shell("fpcheck", r"^fpcheck ok rounds=\d+ bad=0 avx=0\n", 60)
    a.migrate("x86-64-v2", "b")
    with b.guest("x86-64-v2") as g:  # its SSE and x87 registers came with it, over and over written
        for _ in range(3):
            g.expect(r"^fpcheck ok rounds=(\d+) bad=0 avx=0\n", 60)
        g.send("\x03")
        g.expect(SHELL)
        assert flags(g) == shown, "the guest's processor changed with the move"
    b.migrate("x86-64-v2", "a")
    assert a.has_vm("x86-64-v2") and not b.has_vm("x86-64-v2")


UD, GP = 6, 13
CR4_BITS = ("fsgsbase", "osxsave", "smep", "smap", "tsd")


def test_masked_features_fault(own):
    """A guest that executes what its CPUID does not show: an exception wherever the processor can be made to raise
    one."""
    a = own("a",
            vms={"all": masked_vm("host", CR4_BITS), "least": masked_vm("x86-64-v1", ("umip", "pcide") + CR4_BITS)},
            files={"masked": build("masked")})
    got = masked(a, "all")
    assert not any(got[k] for k in ("rdrand", "xgetbv", "rdfsbase") + CR4_BITS), got
    got = masked(a, "least")
    want = {"xgetbv": UD, "rdfsbase": UD, "xsaves": UD, "monitor": UD, "umip": GP, "fsgsbase": GP, "pcide": GP,
            "osxsave": GP, "smep": GP, "smap": GP,
            "tsd": 0}
    assert {k: got[k] for k in want} == want, got                       # (this emulator has no intercept of RDTSCP)
