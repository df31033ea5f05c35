# SPDX-License-Identifier: BSD-2-Clause
"""Disks on NBD servers, the longer checks: another server, connections lost during moves, servers that hang, TLS, and
refusals."""
import os
import re
import signal
import time

from host import RUNS
from nbd import MARK, tls_files
from test_nbd import begin, end, server, two_hosts
from test_virtio import guest_vm, sh


def other(host, a, b):
    return b if host is a else a


def test_qemu_nbd_and_losses_in_moves(own):
    """Six moves with a write load; during four of them the server dies at some time and comes back: each move ends
    somehow, and every byte is right."""
    nbd = server("qemu", "qemu-nbd")
    a, b = two_hosts(own, {"guest": guest_vm(11, disk=nbd.disk)})
    begin(a)
    at, outcomes = a, []
    for kill_after, back_after in (None, 0), (0.3, 1), (0.8, 5), (1.5, 6), (0.1, 4.5), (None, 0):
        start = at.migrate_start("guest", other(at, a, b).name)
        if kill_after is not None:
            time.sleep(kill_after)
            nbd.kill()
            time.sleep(back_after)
            nbd.start()
        report = at.migrate_finish(start)
        outcomes.append("moved" if report.ok else report["reason"])
        at = other(at, a, b) if report.ok else at
        deadline = time.monotonic() + 60
        while not at.has_vm("guest"):                           # it may have to wait for its disk
            assert time.monotonic() < deadline, at.command("vm inspect guest")
            time.sleep(0.5)
    print("\n".join(f"        {outcome}" for outcome in outcomes))
    assert outcomes[0] == outcomes[-1] == "moved", outcomes
    with at.guest("guest") as g:
        figures = end(g, nbd)
    print(f"        {figures}")
    assert "sent again" in at.command("vm inspect guest")


def test_server_that_hangs(own):
    """A server that takes requests and does not answer: a move gives up before the stop, the guest waits, and goes on
    when the server does."""
    nbd = server("hang")
    a, b = two_hosts(own, {"guest": guest_vm(11, disk=nbd.disk)})
    begin(a)
    start = a.migrate_start("guest", "b")
    a.serial.expect(r"PRECOPY round 1 ", 30)
    nbd.process.send_signal(signal.SIGSTOP)
    report = a.migrate_finish(start)
    assert not report.ok and "its disk does not answer" in report["reason"], report.text
    a.wait_log(r"guest: paused, waiting for its disk: nbd:.* has not answered a request for \d+ s", 20)
    nbd.process.send_signal(signal.SIGCONT)
    a.wait_log("guest: resumed, it waited", 20)
    assert a.migrate("guest", "b").ok
    with b.guest("guest") as g:
        figures = end(g, nbd)
    assert figures["slowest_ms"] > 3000, figures


def test_refusals(own):
    """What cannot work says why: an export that is not there, a server for one client, a disk that is read-only."""
    single, named = server("single", options=["--filter=limit"]), server("named", "qemu-nbd")
    single.kill()
    single.start(("limit=1",))
    read_only = server("ro", options=["-r"])
    vms = {"guest": guest_vm(11, disk=single.disk), "lost": guest_vm(12, memory="128M", disk=named.disk + "x"),
           "ro": guest_vm(13, memory="128M", disk=read_only.disk)}
    a, _ = two_hosts(own, vms, memory_mib=2048)
    with a.guest("guest") as g:
        g.ready()
    assert re.search(r'^lost +paused .*waiting for its disk: .* the server has no export named "diskx"',
                     a.command("vm list"), re.M), a.command("vm list")
    assert "lost" in a.command("vm stop lost")
    report = a.migrate("guest", "b", must=False)
    assert not report.ok and re.search(r"its disk nbd:\S+ cannot be opened from host b: .*in the middle of the "
                                       r"handshake", report["reason"]), report.text
    with a.guest("guest") as g:
        assert "same=0" in sh(g, "dd if=/dev/urandom of=/tmp/r bs=64k count=8 2>/dev/null; dd if=/tmp/r of=/dev/vda "
                                 "bs=64k conv=fsync 2>/dev/null; "
                                 "dd if=/dev/vda bs=64k count=8 iflag=direct 2>/dev/null | cmp - /tmp/r; echo same=$?")
    with a.guest("ro") as g:
        g.ready()
        assert "ro=1" in sh(g, "echo ro=$(cat /sys/block/vda/ro); dd if=/dev/zero of=/dev/vda bs=512 count=1")


def test_tls(own):
    """A server that wants TLS: the guest's disk moves, loses its server, and none of its data goes in the clear.  A
    wrong certificate, or none, gets nothing."""
    folder, fingerprint = tls_files()
    nbd, bare = server("tls", options=["--tls=require", f"--tls-certificates={folder}"]), server("bare")
    wrong = "00" + fingerprint[2:]
    vms = {"guest": guest_vm(11, disk=nbd.disk, disk_fingerprint=fingerprint),
           "wrong": guest_vm(12, memory="128M", disk=nbd.disk, disk_fingerprint=wrong),
           "bare": guest_vm(13, memory="128M", disk=bare.disk, disk_fingerprint=fingerprint),
           "trusting": guest_vm(14, memory="128M", disk=nbd.disk)}
    pcaps = {name: os.path.join(RUNS, f"nbd-tls-{name}.pcap") for name in "ab"}
    a, b = two_hosts(own, vms, pcaps, memory_mib=2048)
    begin(a)
    listed = a.command("vm list")
    for name, why in (("wrong", f"{fingerprint}, which is not the guest's"), ("bare", "the server offers no TLS"),
                      ("trusting", "the server wants TLS")):
        assert re.search(rf"^{name} +paused .*waiting for its disk: .*{why}", listed, re.M), listed
        assert name in a.command(f"vm stop {name}")
    report = a.migrate("guest", "b")
    print(f"        a -> b: blackout {report.number('blackout_ms')} ms")
    nbd.kill()
    b.wait_log("guest: paused, waiting for its disk: nbd:.* unreachable", 20)
    nbd.start()
    b.wait_log("guest: resumed, it waited", 30)
    assert b.migrate("guest", "a").ok
    with a.guest("guest") as g:
        figures = end(g, nbd)
    print(f"        {figures}")
    assert figures["writes"] > 50, figures
    for name, path in pcaps.items():
        with open(path, "rb") as f:
            seen = f.read()
        assert len(seen) > figures["writes"] * 16384 / 4 and MARK.to_bytes(8, "little") not in seen, (
            f"the guest's data is in the clear on host {name}'s wire")
