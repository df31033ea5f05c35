# SPDX-License-Identifier: BSD-2-Clause
"""Intel: hosts in Bochs with VT-x and EPT.  Two CPUs, Debian's kernel and its moves; different processors; a host of
the other vendor.

Bochs runs some 40 million instructions a second.  More: test_dirty.py (moves by each method of dirty logging),
test_intel_long.py."""
import re

import bochs
from bochs import SKYLAKE
from fixtures import narrate
from host import Host, vm
from tiny_guest import (QEMU_TICKS, elf_files, elf_kernels_run, elf_vms, masked_features, move, refused, ticks,
                        walker_files, walker_vm)
from tiny_kernel import SPIN_WITH_INTERRUPTS_OFF, bzimage


def test_unlike_processor_refuses_and_names_every_feature(bed):
    """A guest that was promised all of Skylake-X; test_dirty.py moves one on a level that all have."""
    hosts = bed("intel")
    # no RDRAND, and the emulator's timing is no source
    assert "randomness from seed file" in hosts["b"].command("host")
    refused(hosts["a"], "b", "promised", ("avx2", "avx512f", "bmi1", "fma", "clwb", "XSAVE"))


def test_amd_and_intel_do_not_mix(bed):
    """QEMU with AMD-V on the same cable: a move is refused both ways, and the guests run on."""
    hosts = bed("intel")
    d = Host("d", hosts.link, peers=["a"], nic="e1000", tag="bed", files=walker_files(),
             vms={"stray": walker_vm(QEMU_TICKS, autostart=False)})
    try:
        narrate(d.boot())
        d.command("vm start stray --force")
        refused(d, "a", "stray", ("runs on AMD, this host is Intel",))
        refused(hosts["a"], "d", "promised", ("runs on Intel, this host is AMD",))
    finally:
        d.kill()


def test_two_cpus_and_a_guest_that_never_leaves(own):
    """VT-x on both CPUs; a guest that has interrupts off for ever stops neither the console nor the other guests; PVH
    and Multiboot kernels."""
    files = {**walker_files(), **elf_files(), "spin": bochs.write_file("spin", bzimage(SPIN_WITH_INTERRUPTS_OFF))}
    a = own.in_bochs("a", cpus=2, files=files,
                     vms={"guest": walker_vm(), **elf_vms(), "spin": vm(memory="40M", kernel="spin", initrd=None)})
    assert re.search(r"VT-x, EPT, ASIDs \d+, next-RIP yes", a.log()) and "2 of 2 CPUs run" in a.log(), a.log()[-1500:]
    assert re.search(r"spin .*running", a.command("vm list"))
    ticks(a, n=3)
    elf_kernels_run(a)
    shown = a.command("vm inspect spin")
    assert re.search(r"host-interrupt +[1-9]", shown) and "VMCS" in shown, shown
    assert a.poweroff() == 0


def test_masked_features_fault(own):
    masked_features(own, SKYLAKE, {"rdrand": 6, "rdseed": 6})


def test_linux_with_two_vcpus_moves_there_and_back(intel):
    """Under load, with all memory hashed on both hosts, and a program that checks its vector registers for ever."""
    with intel.a.guest("guest") as g:
        g.expect(r"^tick 3 .*\n", 120)
    for src, dst in ((intel.a, intel.b), (intel.b, intel.a)):
        report = src.migrate("guest", dst.name)
        assert report.parts()["verify"] > 0, f"nothing was verified:\n{report.text}"
        with dst.guest("guest") as g:
            assert all(t["backwards"] is None for t in g.ticks(3)), "a clock went backwards"
            g.expect(r"^fpcheck ok rounds=\d+ bad=0 avx=1\n", 60)
            g.verify()
        assert "vCPU 1:" in dst.command("vm inspect guest") and not src.has_vm("guest")
