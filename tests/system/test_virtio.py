# SPDX-License-Identifier: BSD-2-Clause
"""Virtio devices on the guest's PCI bus, found by Debian's unmodified kernel and driven during moves."""
import os
import re
import time

from host import BUILD, Link, vm

INITRD = os.path.join(BUILD, "guest", "initramfs-virtio.cpio.gz")
FILES = {"initramfs-virtio.cpio.gz": INITRD}
ALL = {"nic": "yes", "disk": "ram:16M", "console": "virtio"}
IDS = {"0x1b36 0x0008", "0x1af4 0x1044", "0x1af4 0x1045", "0x1af4 0x1041", "0x1af4 0x1042", "0x1af4 0x1043"}


def guest_vm(number, **more):
    return vm(f"godwit.ip=10.7.0.{number}/24", initrd="initramfs-virtio.cpio.gz", **more)


CLOUD_KERNEL = (FILES, "-cloud-amd64", {})      # files, end of its version, keys of [vm]


def ready(guest, version):
    """The guest is up, and with that kernel."""
    kernel = guest.expect(r"^guest ready kernel=(\S+) .*\n", 120)[1]
    assert re.search(version + "$", kernel), f"the guest runs {kernel}"
    guest.expect("guest# ")


def sh(guest, line, timeout=60):
    """Run a line at the guest's shell; returns what it printed."""
    guest.host.serial.mark()
    start = guest.host.serial.pos
    guest.send(line + "; echo done=$?")
    guest.expect(r"^done=\d+\n", timeout)
    text = guest.host.serial.text[start:guest.host.serial.pos]
    return text.split("echo done=$?", 1)[-1]


def pings(text):
    return set(map(int, re.findall(r"seq=(\d+)", text)))


def devices_work(g):
    """Each of the guest's devices does what it is for."""
    found = sh(g, "for d in /sys/bus/pci/devices/*; do read v <$d/vendor; read i <$d/device; echo $v $i; done")
    assert IDS <= set(re.findall(r"0x\w{4} 0x\w{4}", found)), f"the guest's PCI bus:\n{found}"
    assert len(set(re.findall(r"virtio\d-\w+", sh(g, "cat /proc/interrupts")))) >= 8, "virtio interrupts are missing"
    assert len(re.findall(r"\b[0-9a-f]{2}\b", sh(g, "od -An -tx1 -N16 /dev/hwrng"))) == 16, "/dev/hwrng gives nothing"
    for name, ip in ("its host", "10.7.0.1"), ("the other host's guest", "10.7.0.12"):
        got = pings(sh(g, f"ping -c 5 {ip}"))
        assert len(got) >= 4, f"pings to {name}: only {got} of 5 came back"
    text = sh(g, "dd if=/dev/urandom of=/tmp/r bs=64k count=64; dd if=/tmp/r of=/dev/vda bs=64k oflag=direct; "
                 "dd if=/dev/vda bs=64k count=64 iflag=direct | cmp - /tmp/r && echo same=$?; blkdiscard /dev/vda; "
                 "dd if=/dev/vda bs=64k iflag=direct | md5sum; dd if=/dev/zero bs=64k count=256 | md5sum")
    assert "same=0" in text, f"the disk does not give back what was written:\n{text}"
    sums = re.findall(r"^([0-9a-f]{32})", text, re.M)
    assert len(sums) == 2 and sums[0] == sums[1], f"a discarded disk is not empty:\n{text}"
    assert "over-hvc" in sh(g, "echo over-hvc >/dev/hvc0")


def test_devices_work_and_move(own):
    devices_work_and_move(own, CLOUD_KERNEL)


def devices_work_and_move(own, kernel):
    """All devices; then there and back with the disk written and pings running, to a guest on the other host and,
    there, on the same one: contents right, nothing lost but what the blackout covers."""
    link = Link()
    files, version, more = kernel
    keys = {"host_keys": {"verify": "yes"}, "files": files}
    a = own("a", link, vms={"guest": guest_vm(11, **ALL, **more)}, peers=["b"], **keys)
    b = own("b", link, vms={"other": guest_vm(12, memory="128M", nic="yes", **more)}, peers=["a"], **keys)
    with b.guest("other") as g:
        ready(g, version)
    with a.guest("guest") as g:
        ready(g, version)
        devices_work(g)
        text = sh(g, "dd if=/dev/urandom of=/dev/vda bs=64k count=64 oflag=direct 2>/dev/null; dd if=/dev/vda bs=64k "
                     "count=64 iflag=direct 2>/dev/null | md5sum")
        before = re.search(r"^[0-9a-f]{32}", text, re.M)[0]
        sh(g, "ping 10.7.0.12 >/tmp/pings & (while :; do dd if=/dev/urandom of=/dev/vda bs=64k seek=100 count=4 "
              "conv=notrunc oflag=direct 2>/dev/null; done) & true")
    time.sleep(3)
    for src, dst in (a, b), (b, a):
        report = src.migrate("guest", dst.name)
        print(f"        {src.name} -> {dst.name}: blackout {report.number('blackout_ms')} ms with a hash of all "
              f"memory, {report.number('wire_bytes') / 1e6:.1f} MB")
        time.sleep(3)
        with dst.guest("guest") as g:
            text = sh(g, "dd if=/dev/vda bs=64k count=64 iflag=direct 2>/dev/null | md5sum; od -An -tx1 -N4 "
                         "/dev/hwrng; cat /tmp/pings")
        assert before in text, f"the disk's contents changed on the way to {dst.name}:\n{text[:300]}"
        got = pings(text)
        lost = set(range(max(got))) - got
        assert len(lost) <= 1, f"pings lost: {sorted(lost)}"
        shown = dst.command("vm inspect guest")
        assert len(re.findall(r"^virtio \w+ +slot \d, live", shown, re.M)) == 5, f"not every device is live:\n{shown}"
        assert not re.search(r"needs reset|broken [1-9]", shown), shown
        assert re.search(r"^card: .* addresses seen:.* 10\.7\.0\.11\b", shown, re.M), shown


def test_free_memory_is_not_moved(own):
    """What the guest reports as free loses its memory and costs nothing on the wire.  A memory target fills the balloon
    and empties it."""
    link = Link()
    a = own("a", link, vms={"with": guest_vm(11), "without": guest_vm(12, balloon="no")}, peers=["b"], files=FILES,
            memory_mib=2048)
    b = own("b", link, peers=["a"], memory_mib=2048)
    wire = {}
    for name in "without", "with":
        with a.guest(name) as g:
            g.ready()
            sh(g, "dd if=/dev/urandom of=/tmp/x bs=1M count=64 2>/dev/null; rm /tmp/x; sleep 6")
        wire[name] = a.migrate(name, "b").number("wire_bytes")
    print(f"        64 MiB of random data freed before the move: {wire['with'] / 1e6:.1f} MB on the wire with "
          f"free-page reporting, {wire['without'] / 1e6:.1f} MB without")
    assert wire["with"] < wire["without"] - 40e6, wire
    for host, target, low, high in (b, 256, 120, 256), (b, 128, 0, 100), (b, 256, 120, 256):
        assert f"is asked to keep {target} of its 256 MiB" in host.command(f"vm memory-target with {target}")
        with host.guest("with") as g:
            for _ in range(30):
                free = int(re.search(r"^MemFree: +(\d+) kB", sh(g, "grep MemFree /proc/meminfo"), re.M)[1]) // 1024
                if low < free < high:
                    break
                time.sleep(1)
            assert low < free < high, (target, free)
