# SPDX-License-Identifier: BSD-2-Clause
"""Guests' disks on the host's own: a volume of an LVM group, as Debian's lvm2 made it."""
import hashlib
import os
import re

from fixtures import each
from host import Link, ROOT, RUNS
from nbd import blocks_in, sum_of
from test_nbd import begin
from test_virtio import FILES, guest_vm, sh

GOLDEN = os.path.join(ROOT, "tests", "unit", "golden", "lvm2_one_disk.bin")
MIB = 1 << 20
WEB = [(1 * MIB, 20 * MIB), (29 * MIB, 12 * MIB)]       # where `lvs -o+seg_pe_ranges` says that vg0/web lies
WRITTEN = 8 * MIB                                       # diskcheck writes so much, from byte 0 on


KINDS = {"nvme": (["nvme,drive=store0,serial=godwit"], r"nvme0: QEMU"),    # devices of QEMU, the log's line
         "virtio": (["virtio-blk-pci,drive=store0,serial=godwit"], r"virtio0: virtio-blk \(serial godwit\)"),
         "ahci": (["ide-hd,drive=store0,bus=ide.1,serial=godwit"], r"ahci1: QEMU_HARDDISK \(serial godwit\)")}


class StoreDisk:
    """An image that has the first sectors of golden, and its QEMU arguments."""

    def __init__(self, name, devices):
        os.makedirs(RUNS, exist_ok=True)
        self.file = os.path.join(RUNS, f"{name}.disk")
        with open(GOLDEN, "rb") as f, open(self.file, "wb") as out:
            out.write(f.read())
            out.truncate(64 * MIB)
        self.arguments = ["-drive", f"file={self.file},if=none,id=store0,format=raw",
                          *(arg for device in devices for arg in ("-device", device))]

    def volume(self):
        with open(self.file, "rb") as f:
            return b"".join(f.seek(at) and f.read(n) for at, n in WEB)

    def outside(self):
        """All that is not the volume."""
        with open(self.file, "rb") as f:
            disk = bytearray(f.read())
        for at, n in WEB:
            disk[at:at + n] = bytes(n)
        return hashlib.sha256(disk).hexdigest()


@each(KINDS)
def test_guest_on_a_volume(kind, own):
    """A write load on a volume; what cannot be started, or moved, says why; the host loses its power, and what was
    flushed is there.  Nothing outside the volume changes."""
    devices, line = kind
    disk = StoreDisk("store", devices)
    outside = disk.outside()
    vms = {"guest": guest_vm(11, disk="lv:vg0/web", autostart=False),
           "twice": guest_vm(12, disk="lv:vg0/web", autostart=False),
           "lost": guest_vm(13, disk="lv:vg0/nowhere", autostart=False)}
    host = {"vms": vms, "peers": ["b"], "files": FILES, "extra": disk.arguments}
    a = own("a", Link(), **host)
    a.wait_log(line + ".*64 MiB, sectors of 512 bytes, MSI")
    a.wait_log(r"volume group vg0: 2 volumes in extents of 4096 KiB")
    a.command("vm start guest --force")
    begin(a)
    for guest, why in (("twice", "another guest has the volume vg0/web as its disk"),
                       ("lost", "the volume group vg0 has no volume named nowhere")):
        assert why in a.command(f"vm start {guest} --force"), guest
    assert "its disk is the volume vg0/web of this host, and disks do not move" in a.command("migrate guest b")
    with a.guest("guest") as g:
        text = sh(g, "read pid </tmp/pid; kill -TERM $pid; while [ -d /proc/$pid ]; do usleep 100000; done; sync; "
                     "cat /tmp/disk; cat /sys/block/vda/size")
    found = re.search(r"^DISK ok writes=(\d+) .* sum=(\d+)", text, re.M)
    assert found and re.search(r"^65536$", text, re.M), f"the guest's disk is wrong:\n{text}"
    a.kill()                                            # the power is cut: the guest is lost, the disk is not
    assert sum_of(blocks_in(disk.volume()[:WRITTEN])) == int(found[2]), "the volume is not what the guest wrote"
    assert disk.outside() == outside
    b = own("a", Link(), **host)
    b.command("vm start guest --force")
    with b.guest("guest") as g:
        g.ready()
        text = sh(g, f"dd if=/dev/vda bs=1M count={WRITTEN // MIB} 2>/dev/null | sha256sum; "
                     "dd if=/dev/zero of=/dev/vda bs=1M seek=19 count=2 conv=fsync; echo 3 >/proc/sys/vm/drop_caches; "
                     "dd if=/dev/vda bs=1M skip=19 count=2 2>/dev/null | sha256sum")
    assert hashlib.sha256(disk.volume()[:WRITTEN]).hexdigest() in text, f"the guest reads something else:\n{text}"
    assert hashlib.sha256(bytes(2 * MIB)).hexdigest() in text, f"across the segments it reads something else:\n{text}"
    assert disk.outside() == outside
