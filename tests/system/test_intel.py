# SPDX-License-Identifier: BSD-2-Clause
"""Intel: hosts in Bochs with VT-x and EPT.  Boot, guests, a move by each way to find changed pages, moves between unlike processors; and
AMD-V as Bochs emulates it (with next-RIP), a second opinion beside QEMU's.

Bochs runs some 40 million instructions a second, so most checks move tests/guest/walker.c, which verifies its own memory; one moves Linux."""
import re

import bochs
from bochs import BochsHost, BochsLink, MixedLink
from fixtures import Skip, narrate
from host import Host, vm
from tiny_guest import TICK, build, masked, masked_vm, read_tick, walker
from tiny_kernel import SPIN_WITH_INTERRUPTS_OFF, bzimage

# The ways to find changed pages: PML, D bits, neither.  (Sandy Bridge has neither as well, but no RDRAND, and Bochs's
# timing has no randomness either, so it cannot encrypt and does not move.)
RYZEN = "ryzen"
SKYLAKE, HASWELL, IVY_BRIDGE = "corei7_skylake_x", "corei7_haswell_4770", "corei7_ivy_bridge_3770k"
NO_LINUX = {"vmlinuz": None, "initramfs.cpio.gz": None}


def walker_vm(ticks_per_visit=40000, **more):
    return {**vm(memory="40M", kernel="walker", initrd=None, **more), "cmdline": str(ticks_per_visit)}


class Hosts:
    """A with-block's hosts: `with Hosts() as hosts: a = hosts("a", ...)`."""

    def __enter__(self):
        why = bochs.available()
        if why:
            raise Skip(why)
        self.made = []
        return self

    def __call__(self, name, link=None, wait=True, **kw):
        self.made.append(BochsHost(name, link, tag="intel", **kw))
        return narrate(self.made[-1].boot(wait))

    def in_qemu(self, name, link, **kw):
        self.made.append(Host(name, link, tag="intel", nic="e1000", **kw))
        return narrate(self.made[-1].boot())

    def pair(self, model, vms, model_b=None, keys_b=None, **kw):
        link = BochsLink()
        a = self("a", link, wait=False, model=model, vms=vms, peers=["b"], **kw)
        b = self("b", link, wait=False, model=model_b or model, peers=["a"], **{**kw, "host_keys": keys_b or kw.get("host_keys")})
        a.wait_prompt()
        b.wait_prompt()
        return a, b

    def __exit__(self, *_):
        for host in self.made:
            host.kill()


def ticks(host, name="guest", n=2, timeout=30):
    """The last of n new tick lines of the walker; AssertionError if it found wrong words."""
    with host.guest(name) as g:
        for _ in range(n):
            tick = read_tick(g.expect(TICK, timeout)[0])
    assert tick["bad"] == 0, f"{tick['bad']} words of the guest's memory are wrong: {tick}"
    assert tick["skew"] == 0, f"the processor's RDTSC and the hypervisor's idea of the guest's TSC differ: {tick}"
    return tick


def move(src, dst, by=None, name="guest"):
    """Move the walker and have it check all of its memory at the new place."""
    before = ticks(src, name)
    report = src.migrate(name, dst.name)
    assert not src.has_vm(name) and dst.has_vm(name)
    if by:
        assert f"changed pages are found by {by}" in src.log(), f"not by {by}:\n{src.log()[-800:]}"
    after = ticks(dst, name)
    while after["sweeps"] < before["sweeps"] + 2:
        after = ticks(dst, name)
    assert report.number("rounds") >= 2, f"a guest that writes all the time needs more than one round:\n{report.text}"
    costs(src, name)
    return report


def costs(src, name):
    """Print what finding changed pages has cost on src in its last move: its own log line, by 1000 pages."""
    lines = re.findall(rf"{name}: changed pages are found by (.*)\n(?:.*\n)*?.*{name}: (\d+) changed pages found in (\d+) harvests, "
                       r"which took (\d+) us; (\d+) exits", src.log())
    assert lines, f"no figures of the dirty log:\n{src.log()[-800:]}"
    by, (pages, harvests, us, exits) = lines[-1][0], (int(n) for n in lines[-1][1:])
    assert pages, "a guest that writes all the time changed nothing"
    print(f"        {src.model} by {by}: for 1000 changed pages {1000 * exits / pages:.1f} exits and {1000 * us / pages:.0f} us "
          f"({pages} pages, {harvests} harvests)")


def test_boot_with_two_cpus_and_guests():
    """VT-x on both CPUs; a guest that never leaves by itself (interrupts off) stops neither the console nor the other guest."""
    spin = bochs.write_file("spin", bzimage(SPIN_WITH_INTERRUPTS_OFF))
    with Hosts() as hosts:
        a = hosts("a", cpus=2, files={"walker": walker(), "spin": spin, **NO_LINUX},
                  vms={"guest": walker_vm(), "spin": vm(memory="40M", kernel="spin", initrd=None)})
        assert re.search(r"VT-x, EPT, ASIDs \d+, next-RIP yes", a.log()) and "2 of 2 CPUs run" in a.log(), a.log()[-1500:]
        assert re.search(r"spin .*running", a.command("vm list"))
        ticks(a, n=3)
        shown = a.command("vm inspect spin")
        assert re.search(r"host-interrupt +[1-9]", shown), shown
        assert "VMCS" in shown
        assert a.poweroff() == 0


def move_there_and_back(model, by):
    with Hosts() as hosts:
        a, b = hosts.pair(model, {"guest": walker_vm()}, files={"walker": walker(), **NO_LINUX}, host_keys={"verify": "yes"})
        move(a, b, by)
        move(b, a, by)


def test_move_by_pml():
    move_there_and_back(SKYLAKE, "the processor's log (PML)")


def test_move_by_d_bits():
    move_there_and_back(HASWELL, "D bits")


def test_move_by_write_protection():
    move_there_and_back(IVY_BRIDGE, "write protection")


def test_mechanism_by_configuration():
    with Hosts() as hosts:
        a, b = hosts.pair(SKYLAKE, {"guest": walker_vm()}, files={"walker": walker(), **NO_LINUX},
                          host_keys={"dirty-log": "ad", "verify": "yes"}, keys_b={"dirty-log": "wp", "verify": "yes"})
        move(a, b, "D bits")
        move(b, a, "write protection")


def test_linux_moves_there_and_back():
    with Hosts() as hosts:
        a, b = hosts.pair(SKYLAKE, {"guest": vm("godwit.run=dirtier,4,100", memory="96M")})
        with a.guest("guest") as g:
            g.expect(r"^tick 3 .*\n", 80)
        for src, dst in ((a, b), (b, a)):
            assert src.migrate("guest", dst.name).ok
            with dst.guest("guest") as g:
                assert all(t["backwards"] is None for t in g.ticks(3)), "a clock went backwards"
                g.verify()


def refused(src, dst_name, name, words):
    report = src.migrate(name, dst_name, must=False)
    assert not report.ok and report.number("wire_bytes") < 200000, f"not refused at validation:\n{report.text}"
    for word in words:
        assert word in report.text, f"the refusal does not name {word}:\n{report.text}"
    ticks(src, name)


def test_moves_between_models():
    """A guest that was promised all of Skylake-X cannot move to Ivy Bridge, and each missing feature is named; one on a level both have can."""
    with Hosts() as hosts:
        a, b = hosts.pair(SKYLAKE, {"guest": walker_vm(), "level": walker_vm(cpu="x86-64-v2")}, model_b=IVY_BRIDGE,
                          files={"walker": walker(), **NO_LINUX})
        refused(a, "b", "guest", ("avx2", "avx512f", "bmi1", "fma", "clwb", "XSAVE"))
        move(a, b, "the processor's log (PML)", "level")
        move(b, a, "write protection", "level")


def test_amd_and_intel_do_not_mix():
    """QEMU with AMD-V and Bochs with VT-x on one cable: a move is refused both ways, and the guests run on."""
    with Hosts() as hosts:
        link = MixedLink()
        files = {"walker": walker(), **NO_LINUX}
        b = hosts("b", link, peers=["a"], files=files, vms={"other": walker_vm()})
        a = hosts.in_qemu("a", link, peers=["b"], files=files, vms={"guest": walker_vm(1000000)})
        refused(a, "b", "guest", ("runs on AMD, this host is Intel",))
        refused(b, "a", "other", ("runs on Intel, this host is AMD",))


def test_amd_in_bochs():
    with Hosts() as hosts:
        a, b = hosts.pair(RYZEN, {"guest": walker_vm()}, files={"walker": walker(), **NO_LINUX}, host_keys={"verify": "yes"})
        assert re.search(r"AMD-V, NPT, ASIDs \d+, next-RIP yes", a.log()), a.log()[-1500:]
        move(a, b, "D bits")
        move(b, a, "D bits")


def other_tsc_rate(model, says, khz_there):
    """A host of 40 MHz and one of 30: the rate of the guest's TSC by its own PM timer, and what the report says of it."""
    with Hosts() as hosts:
        link = BochsLink()
        common = {"model": model, "wait": False, "files": {"walker": walker(), **NO_LINUX}, "host_keys": {"verify": "yes"}}
        a = hosts("a", link, vms={"guest": walker_vm()}, peers=["b"], ips=40000000, **common)
        b = hosts("b", link, vms={}, peers=["a"], ips=30000000, **common)
        a.wait_prompt()
        b.wait_prompt()
        assert abs(ticks(a)["khz"] - 40000) < 400
        report = move(a, b)
        assert re.search(r"^tsc: " + says, report.text, re.M), f"the report does not say {says}:\n{report.text}"
        assert abs(ticks(b)["khz"] - khz_there) < khz_there / 100
        back = move(b, a)
        assert "tsc:" not in back.text, f"home, the TSC is as promised:\n{back.text}"
        assert abs(ticks(a)["khz"] - 40000) < 400


def test_tsc_is_scaled():
    other_tsc_rate(SKYLAKE, r"the guest keeps its (39|40)\d+ kHz, scaled from the destination's (29|30)\d+ kHz", 40000)


def test_tsc_without_scaling():
    other_tsc_rate(HASWELL, r"the guest was promised (39|40)\d+ kHz, the destination runs at (29|30)\d+ kHz and cannot scale", 30000)


def masked_features(model, also):
    """A guest on the lowest level: #UD and #GP for what the host has and the guest is not shown, where the processor can raise them."""
    cr4 = ("fsgsbase", "osxsave", "smep", "smap", "tsd")
    with Hosts() as hosts:
        a = hosts("a", model=model, vms={"all": masked_vm(vm, "host", cr4), "least": masked_vm(vm, "x86-64-v1", ("umip", "pcide") + cr4)},
                  files={"masked": build("masked"), **NO_LINUX})
        got = masked(a, "all")
        assert not any(got[k] for k in ("rdtscp", "rdrand", "rdseed", "xgetbv", "rdfsbase") + cr4), got
        got = masked(a, "least")
        want = {"rdtscp": 6, "invpcid": 6, "monitor": 6, "xgetbv": 6, "rdfsbase": 6, "xsaves": 6, "umip": 13, "fsgsbase": 13, "pcide": 13,
                "osxsave": 13, "smep": 13, "smap": 13, "tsd": 0, **also}
        assert {k: got[k] for k in want} == want, got


def test_masked_features_fault():
    masked_features(SKYLAKE, {"rdrand": 6, "rdseed": 6})


def test_masked_features_fault_on_amd():
    masked_features(RYZEN, {"rdrand": 0, "rdseed": 0})                  # AMD-V has no intercept of them
