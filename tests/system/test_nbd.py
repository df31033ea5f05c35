# SPDX-License-Identifier: BSD-2-Clause
"""Guests' disks on NBD servers: Debian's unmodified kernel writes to one while it moves, and while the server dies and
is restarted."""
import re
import time

from emulator import Timeout
from fixtures import Skip, each
from host import Lan
from nbd import NbdServer, missing, tls_files
from test_virtio import FILES, guest_vm, sh

MIB = 8


def server(name, kind="nbdkit", options=()):
    if missing():
        raise Skip(missing())
    return NbdServer(name, MIB, kind, options)


def two_hosts(own, vms, pcaps=None, b_more=None, **more):
    """Hosts a, with these guests, and b, where their servers can be reached.  pcaps: {host: path of a packet dump};
    b_more: for b; more: for a alone."""
    link, pcaps = Lan(), pcaps or {}
    servers = {"disk-servers": "0.0.0.0/0"}
    more["host_keys"] = {**servers, **more.get("host_keys", {})}
    a = own("a", link, vms=vms, peers=["b"], files=FILES, pcap=pcaps.get("a"), **more)
    return a, own("b", link, peers=["a"], files=FILES, pcap=pcaps.get("b"),
                  **{**(b_more or {}), "host_keys": {**servers, **(b_more or {}).get("host_keys", {})}})


WHERE = ("read pid </tmp/pid; cat /tmp/disk /proc/$pid/stat /proc/$pid/wchan /proc/interrupts /sys/block/vda/inflight "
         "/proc/diskstats; dmesg | tail -20")


def begin(host):
    """Start diskcheck in the guest, and see it at work.  If it does not begin: Timeout, with all that is known of
    guest, rings and server."""
    with host.guest("guest") as g:
        g.ready()
        text = sh(g, f"(diskcheck /dev/vda {MIB} >/tmp/disk 2>&1 & echo $! >/tmp/pid); n=0; until grep begun /tmp/disk "
                     "|| [ $n = 200 ]; do usleep 50000; n=$((n+1)); done")
        if "DISK begun" in text:
            return
        text = sh(g, WHERE)
    raise Timeout(f"diskcheck does not begin\n{host.command('vm inspect guest')}\n{text}\n{host.log()[-2000:]}")


def end(guest, nbd, timeout=60):
    """Stop it, and compare what it knows with what it reads and with the server's file; returns its figures."""
    text = sh(guest, "read pid </tmp/pid; kill -TERM $pid; while [ -d /proc/$pid ]; do usleep 100000; done; sync; cat "
                     "/tmp/disk", timeout)
    line = re.search(r"^DISK (ok|FAILED) (.*)$", text, re.M)
    assert line and line[1] == "ok", f"the guest's disk is wrong:\n{text}"
    figures = {k: int(v) for k, v in re.findall(r"(\w+)=(\d+)", line[2])}
    assert nbd.sum() == figures["sum"], f"the server's file is not what the guest wrote: {figures}"
    return figures


@each({"plain": False, "tls": True})
def test_disk_moves_and_survives_its_server(tls, own):
    """The short form of all: a write load goes there and back, loses its server in the middle, stands still, goes on;
    every byte is compared."""
    options, keys = [], {}
    if tls:
        folder, keys["disk_fingerprint"] = tls_files()
        options = ["--tls=require", f"--tls-certificates={folder}"]
    nbd = server("core", options=options)
    a, b = two_hosts(own, {"guest": guest_vm(11, disk=nbd.disk, **keys)})
    begin(a)
    report = a.migrate("guest", "b")
    print(f"        a -> b: blackout {report.number('blackout_ms')} ms")
    nbd.kill()
    b.wait_log("guest: paused, waiting for its disk: nbd:.* unreachable", 20)
    assert re.search(r"^guest +paused .*waiting for its disk: nbd:.* unreachable since \d+ s: .*refuses",
                     b.command("vm list"), re.M), b.command("vm list")
    refused = b.migrate("guest", "a", must=False)
    assert "waiting for its disk" in refused["reason"], refused.text
    nbd.start()
    b.wait_log("guest: resumed, it waited", 20)
    time.sleep(1)
    report = b.migrate("guest", "a")
    print(f"        b -> a: blackout {report.number('blackout_ms')} ms")
    with a.guest("guest") as g:
        figures = end(g, nbd)
    assert figures["writes"] > 100, figures
    assert figures["slowest_ms"] > 2000, f"the guest saw nothing of the loss of its server: {figures}"
    shown = a.command("vm inspect guest")
    assert re.search(r"^virtio disk +slot 4, live, .* 0 failed", shown, re.M), shown
