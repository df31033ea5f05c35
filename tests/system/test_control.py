# SPDX-License-Identifier: BSD-2-Clause
"""Migration controlled from the console: networks, choice of the destination, evacuation.  Queue, options and history:
test_operate.py."""
import re

from host import SlowLink, vm
from tiny_guest import TICK, read_tick, walker

NO_LINUX = {"vmlinuz": None, "initramfs.cpio.gz": None}


def walker_vm(**more):
    return {**vm(memory="40M", kernel="walker", initrd=None, **more), "cmdline": "8000000"}


def check_walker(host, name):
    """The guest runs on this host, and all it has ever written is right."""
    with host.guest(name) as g:
        host.serial.mark()
        first = read_tick(g.expect(TICK, 60)[0])
        again = read_tick(g.expect(TICK, 60)[0])
    assert again["visits"] > first["visits"] and again["bad"] == 0, (first, again)


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
    """Three hosts.  `auto` takes the one with most memory and says why.  An evacuation empties a host but for the guest
    that fits nowhere, whose reasons it names; what on-shutdown says is done when the host powers off."""
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
    assert re.search(r"b: .*needs 9\d\d MiB.* \| c: .*needs 9\d\d MiB", refused.get("reason", "")), refused.text

    assert re.search(r"5 guest|0 of 4 guest", a.command("host evacuate"))
    a.wait_log(r"evacuation: 3 of 4 guest\(s\) have moved", 120)
    a.serial.settle()
    said = a.command("host evacuate status")
    assert "evacuation: over, 3 of 4 guest(s) gone, 1 failed" in said, said
    assert re.search(r"big stays: b: .*needs 9\d\d MiB.* \| c: ", said), said
    assert a.has_vm("big") and not any(a.has_vm(f"w{i}") for i in range(4))
    for i in range(4):
        check_walker(b if b.has_vm(f"w{i}") else c, f"w{i}")

    assert re.search(r"error: 1 guest\(s\) run here: big", a.command("poweroff"))  # on-shutdown = refuse is the default
    a.command("vm stop big")
    for i in (0, 2):                                                      # back to a, one of each kind
        host = b if b.has_vm(f"w{i}") else c
        assert host.migrate(f"w{i}", "a").ok
    a.serial.send("poweroff\r")
    a.machine.wait_exit(120)
    assert "w2 is stopped, as its on-shutdown says" in a.log(), a.log()[-1500:]
    assert b.has_vm("w0") or c.has_vm("w0")
