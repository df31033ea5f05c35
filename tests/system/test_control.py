# SPDX-License-Identifier: BSD-2-Clause
"""Steering moves: limits and the queue, networks in order of preference, options, the best destination, evacuation, history."""
import re

from host import Report, SlowLink, vm
from tiny_guest import TICK, read_tick, walker

NO_LINUX = {"vmlinuz": None, "initramfs.cpio.gz": None}


def walker_vm(**more):
    return {**vm(memory="40M", kernel="walker", initrd=None, **more), "cmdline": "8000000"}


def bring_to_prompt(host):
    """Stop watching a move."""
    host.serial.send("\x03")
    host.serial.expect(host.prompt, 10)


def check_walker(host, name):
    """The guest runs on this host, and all it has ever written is right."""
    with host.guest(name) as g:
        host.serial.mark()
        first = read_tick(g.expect(TICK, 60)[0])
        again = read_tick(g.expect(TICK, 60)[0])
    assert again["visits"] > first["visits"] and again["bad"] == 0, (first, again)


def test_queue_networks_and_options(own):
    """One move at a time: of three asked for, two wait with their places, one of them is cancelled and the other one follows.  b's first address
    does not answer: the second is used, and the report says why.  A limit on bandwidth holds."""
    vms = {name: walker_vm() for name in ("guest", "one", "two")}
    pair = own.pair(host_keys={"max-jobs": "1"}, vms=vms, files={"walker": walker(), **NO_LINUX}, a_peers={"b": {"address": "10.7.0.77, 10.7.0.2"}})
    a, b = pair.a, pair.b
    with a.guest("guest") as g:
        g.expect(r"^tick \d+ visits= \d+ sweeps= ([2-9]|\d\d) .*\n", 120)     # all its pages have been written
    a.serial.send("migrate guest b --plain --limit 2 --downtime 2000\r")
    a.wait_log("guest -> b: job 1 starts")
    bring_to_prompt(a)
    assert "moving already" in a.command("migrate guest b")
    for name in ("one", "two"):
        a.serial.mark()
        a.serial.send(f"migrate {name} b\r")
        a.serial.expect(rf"{name} -> b: QUEUED", 20)
        bring_to_prompt(a)
    status = a.command("migrate status")
    assert re.search(r"job 3 two -> b: QUEUED, 1 before it", status) and re.search(r"job 2 one -> b: QUEUED, 0 before it", status), status
    assert "cancelled" in a.command("migrate cancel one")
    assert a.has_vm("one") and re.search("two -> b: QUEUED, 0 before it", a.command("migrate status"))
    for name in ("guest", "two"):
        a.wait_log(rf"{name} -> b: moved in", 90)
    a.serial.settle()
    report = a.command("migrate report 1")
    assert re.search(r"route: 10\.7\.0\.2 \(.*10\.7\.0\.77", report), report
    assert "pages=plain downtime_limit_ms=2000 bandwidth_limit_mb=2" in report, report
    assert re.search(r"^pages_lz4: 0\b", report, re.M), report
    first = Report(report).round_list[0]
    rate = first["bytes"] / first["ms"] / 1000
    print(f"        round 1: {first['bytes'] / 1e6:.1f} MB in {first['ms']:.0f} ms, {rate:.2f} MB/s under a limit of 2")
    assert first["bytes"] > 4e6 and rate < 2.2, report
    assert re.search(r"^job 2 one -> b: failed: cancelled", a.command("migrate history"), re.M)
    assert re.search(r"queued_ms: [1-9]\d", a.command("migrate report 3"))
    assert b.has_vm("guest") and b.has_vm("two") and not b.has_vm("one")
    for host, name in ((a, "one"), (b, "two"), (b, "guest")):
        check_walker(host, name)


def test_networks_are_refused(own):
    """Connections from outside [host] networks are refused, and addresses outside are not tried."""
    pair = own.pair(b_keys={"networks": "10.9.0.0/16"}, files={"walker": walker(), **NO_LINUX},
                    vms={"one": walker_vm(autostart=False)}, b_vms={"two": walker_vm(autostart=False)})
    pair.a.command("vm start one --force")                      # neither can ask the other one
    report = pair.a.migrate("one", "b", must=False)
    assert report.get("outcome") == "failed" and re.search("reset|refuse", report.get("reason", "")), report.text
    pair.b.wait_log("connection from 10.7.0.1 refused: it is in no network for moves")
    pair.b.command("vm start two --force")
    report = pair.b.migrate("two", "a", must=False)
    assert "networks" in report.get("reason", ""), report.text
    check_walker(pair.a, "one")


def test_evacuate_and_going_down(own):
    """Three hosts.  `auto` takes the one with most memory and says why.  An evacuation empties a host but for the guest that fits nowhere, whose
    reasons it names; what on-shutdown says is done when the host powers off."""
    link, files = SlowLink(), {"walker": walker(), **NO_LINUX}
    vms = {f"w{i}": walker_vm(on_shutdown="evacuate" if i < 2 else "stop") for i in range(4)}
    vms["big"] = {**walker_vm(autostart=False), "memory": "900M"}
    a = own("a", link, wait=False, peers=["b", "c"], vms=vms, files=files, cpus=1)
    b = own("b", link, wait=False, peers=["a", "c"], cpus=1, memory_mib=400)
    c = own("c", link, wait=False, peers=["a", "b"], cpus=1, memory_mib=700)
    for host in (a, b, c):
        host.wait_prompt(120)
    for i in range(4):
        a.wait_started(f"w{i}", 90)
    assert "big started" in a.command("vm start big", 30)

    report = a.migrate("w3", "auto")
    assert report.get("chosen", "").startswith("it can give") and c.has_vm("w3"), report.text
    print(f"        w3 went to c: {report['chosen']}")
    refused = a.migrate("big", "auto", must=False)
    assert re.search(r"b: .*900 MiB.* \| c: .*900 MiB", refused.get("reason", "")), refused.text

    assert re.search(r"5 guest|0 of 4 guest", a.command("host evacuate"))
    a.wait_log(r"evacuation: 3 of 4 guest\(s\) are gone", 120)
    a.serial.settle()
    said = a.command("host evacuate status")
    assert "evacuation: over, 3 of 4 guest(s) gone, 1 failed" in said, said
    assert re.search(r"big stays: b: .*900 MiB.* \| c: ", said), said
    assert a.has_vm("big") and not any(a.has_vm(f"w{i}") for i in range(4))
    for i in range(4):
        check_walker(b if b.has_vm(f"w{i}") else c, f"w{i}")

    assert re.search(r"error: 1 guest\(s\) run here: big", a.command("poweroff"))      # on-shutdown = refuse is the default
    a.command("vm stop big")
    for i in (0, 2):                                                      # back to a, one of each kind
        host = b if b.has_vm(f"w{i}") else c
        assert host.migrate(f"w{i}", "a").ok
    a.serial.send("poweroff\r")
    a.machine.wait_exit(120)
    assert "w2 is stopped, as its on-shutdown says" in a.log(), a.log()[-1500:]
    assert b.has_vm("w0") or c.has_vm("w0")
