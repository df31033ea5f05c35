# SPDX-License-Identifier: BSD-2-Clause
"""Guests of several CPUs, with more or fewer of them than the host has, under tests/guest/stress.c during moves."""
import re

from host import Link, vm

PHASES_THAT_FAIL = {"remap", "seal", "fill", "hop", "wake", "tick"}


def line(guest, rounds=0, timeout=90):
    """The program's next line with at least so many rounds, as {name: number}; AssertionError if it found anything
    wrong."""
    guest.host.serial.mark()
    while True:
        m = guest.expect(r"^stress (ok|FAILED)(.*)\n", timeout)
        assert m[1] == "ok", guest.host.serial.tail(30)
        figures = {k: int(v) for k, v in re.findall(r"(\w+)=(\d+)", m[2])}
        if figures["rounds"] >= rounds:
            return figures


def stress_moves(own, vcpus, cpus_a, cpus_b, moves, rounds=2, limit_s=900):
    """Hosts with so many CPUs, of which the first runs no guests; at least so many rounds of stress after each move."""
    link, limit = Link(), {"limit_s": limit_s}
    a = own("a", link, vms={"guest": vm("godwit.run=stress,1,corrupt", cpus=vcpus)}, peers=["b"], cpus=cpus_a, **limit)
    b = own("b", link, peers=["a"], cpus=cpus_b, **limit)
    with a.guest("guest") as g:
        g.ready()
        # barrier: the vectors of those that only watch
        want, found = PHASES_THAT_FAIL | ({"barrier"} if vcpus > 2 else set()), set()
        for _ in range(4):  # a watcher must run while a promise is broken, which a round may miss
            found |= set(re.findall(r" (\w+):\d+", g.expect(r"^stress FAILED rounds=1 .*\n", 120)[0]))
            g.expect("guest# ")
            if found >= want:
                break
            g.host.serial.mark()
            g.send("stress 1 corrupt")
        assert found == want, f"of the promises that were broken on purpose these were not missed: {want - found}"
        g.send("stress")
        figures = line(g, 1)
    at, to = a, b
    for i in range(moves):
        report = at.migrate("guest", to.name)
        at, to = to, at
        with at.guest("guest") as g:
            figures = line(g, figures["rounds"] + rounds)
        print(f"        move {i + 1}, to {at.name}: blackout {report.number('blackout_ms')} ms, total "
              f"{report.number('total_ms') / 1000:.1f} s, {figures['rounds']} rounds", flush=True)
    assert figures["cpus"] == vcpus, figures
    with at.guest("guest") as g:
        g.send("\x03")
        g.shell("cat /proc/interrupts /proc/stat; echo done=$?", r"^done=0\n")
        used = {name: list(map(int, counts.split()))
                for name, counts in re.findall(r"^ *(LOC|RES|CAL|TLB): +((?:\d+ +)+)", at.serial.text, re.M)}
        stolen = [int(line.split()[8]) * 10 for line in re.findall(r"^cpu\d+ .*", at.serial.text, re.M)[-vcpus:]]  # ms
    calls = sum(map(int, re.findall(r"exits hypercall +(\d+)", at.command("vm inspect guest"))))
    print(f"        {figures}\n        interrupts {used}\n        ms that each vCPU waited for a CPU, as the guest "
          f"knows it: {stolen}; {calls} hypercalls since the last move")
    assert len(stolen) == vcpus and min(stolen) > 0, f"a vCPU that shares its CPU knows of no stolen time: {stolen}"
    assert all(len(n) == vcpus and min(n) > 0 for n in used.values()) and len(used) == 4, (
        f"a vCPU had no such interrupt: {used}")


def test_stress_over_moves(own):
    """Four vCPUs on two CPUs, then on one, and back."""
    stress_moves(own, 4, 3, 2, 2)


def test_40_vcpus_move(own):
    """A guest of 40 vCPUs on two CPUs: all of them come up; its state, above 128 KiB, moves in parts."""
    link, limit = Link(), {"limit_s": 600}
    a = own("a", link, vms={"guest": vm(cpus=40)}, peers=["b"], cpus=3, **limit)
    b = own("b", link, peers=["a"], cpus=2, **limit)
    with a.guest("guest") as g:
        g.ready()
        g.shell("nproc; cat /proc/interrupts | head -1 | wc -w; echo done=$?", r"^40\r?\n40\r?\ndone=0\n")
    report = a.migrate("guest", b.name)
    print(f"        blackout {report.number('blackout_ms')} ms, total {report.number('total_ms') / 1000:.1f} s")
    with b.guest("guest") as g:
        g.shell("for i in 0 7 8 31 39; do taskset -p -c $i $$ >/dev/null && cut -d' ' -f39 /proc/self/stat; done; "
                "echo done=$?", r"^0\r?\n7\r?\n8\r?\n31\r?\n39\r?\ndone=0\n")
