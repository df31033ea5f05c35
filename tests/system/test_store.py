# SPDX-License-Identifier: BSD-2-Clause
"""Guests' disks on the host's own: a volume of an LVM group as Debian's lvm2 made it, and a store made here."""
import hashlib
import os
import re
import struct
import time
import zlib

from fixtures import Clients, Skip, each
from host import KERNEL, Lan, Link, ROOT, RUNS, SlowLink
from lvm2 import States
from nbd import NbdServer, missing, tls_files
from test_nbd import begin, end
from test_virtio import FILES, INITRD, guest_vm, sh
from tiny_guest import ticks, walker_files, walker_vm
from volatile_disk import VolatileDisk, blank

GOLDEN = os.path.join(ROOT, "tests", "unit", "golden", "lvm2_one_disk.bin")
MIB = 1 << 20
WEB = [(1 * MIB, 20 * MIB), (29 * MIB, 12 * MIB)]       # where `lvs -o+seg_pe_ranges` says that vg0/web lies
WEB_MIB = 32
PART = 2 * MIB                                          # where the partition begins, on the disk that has one


# devices of QEMU, is the store in a partition, the log's line
KINDS = {"nvme": (["nvme,drive=store0,serial=godwit"], False, r"nvme0: QEMU"),
         "virtio": (["virtio-blk-pci,drive=store0,serial=godwit"], False, r"virtio0: virtio-blk \(serial godwit\)"),
         "ahci": (["ide-hd,drive=store0,bus=ide.1,serial=godwit"], True, r"ahci1: QEMU_HARDDISK \(serial godwit\)")}


def partition_table(out, sectors, first, last):
    """Make out a disk of so many sectors, with a GPT whose partition 2 is from `first` to `last`.  Both copies: the
    firmware would write a missing one."""
    kind = bytes.fromhex("79d3d6e607f5c244a23c238f2a3df928")                    # Linux LVM
    entries = (bytes(128) + struct.pack("<16s16sQQ", kind, b"a partition's id", first, last)).ljust(128 * 128, b"\0")

    def header(at, other, where):
        fields = [b"EFI PART", 0x10000, 92, 0, 0, at, other, 34, sectors - 34, b"the disk's own id", where, 128, 128,
                  zlib.crc32(entries)]
        fields[3] = zlib.crc32(struct.pack("<8s4I4Q16sQ3I", *fields))
        return struct.pack("<8s4I4Q16sQ3I", *fields).ljust(512, b"\0")

    mbr = bytes(446) + struct.pack("<8B2I", 0, 0, 2, 0, 0xee, 255, 255, 255, 1, sectors - 1) + bytes(48) + b"\x55\xaa"
    out.write(mbr + header(1, sectors - 1, 2) + entries)
    out.seek((sectors - 33) * 512)
    out.write(entries + header(sectors - 1, 1, sectors - 33))


class StoreDisk:
    """An image that has the first sectors of golden (or zeroes), or a partition that has, and its QEMU arguments."""

    def __init__(self, name, devices, in_partition=False, golden=GOLDEN, mib=64):
        self.begin = PART if in_partition else 0
        os.makedirs(RUNS, exist_ok=True)
        self.file = os.path.join(RUNS, f"{name}.disk")
        with open(golden, "rb") as f, open(self.file, "wb") as out:
            if in_partition:
                partition_table(out, (PART + 66 * MIB) // 512, PART // 512, (PART + 64 * MIB) // 512 - 1)
            out.seek(self.begin)
            out.write(f.read())
            out.truncate(self.begin + (mib + 2 if in_partition else mib) * MIB)
        self.arguments = ["-drive", f"file={self.file},if=none,id=store0,format=raw",
                          *(arg for device in devices for arg in ("-device", device))]

    def volume(self):
        with open(self.file, "rb") as f:
            return b"".join(f.seek(self.begin + at) and f.read(n) for at, n in WEB)

    def outside(self):
        """All that is not the volume."""
        with open(self.file, "rb") as f:
            disk = bytearray(f.read())
        for at, n in WEB:
            disk[self.begin + at:self.begin + at + n] = bytes(n)
        return hashlib.sha256(disk).hexdigest()


class LosingDisk(StoreDisk):
    """Such a disk that loses at a power cut what was not flushed; its volume is blank to diskcuts."""

    def __init__(self, name, devices, in_partition):
        super().__init__(name, devices, in_partition)
        with open(self.file, "r+b") as f:
            left = blank(WEB_MIB)
            for at, n in WEB:
                f.seek(self.begin + at)
                f.write(left[:n])
                left = left[n:]
            f.seek(0)
            image = f.read()
        self.disk = VolatileDisk(name, len(image) // MIB, image)
        self.arguments = [*self.disk.drive("store0"), *self.arguments[2:]]

    def save(self):
        """Into the file."""
        self.disk.save(self.file)

    def power_cut(self):
        lost, unflushed = self.disk.power_cut()
        self.save()
        print(f"        of {unflushed} writes that were not flushed {lost} got lost, or a part of each")


class Doubt:
    """Two hosts with registries on one cable, and a guest that moves between them; the power is cut meanwhile."""
    SLOW_S = 0.5                # a frame's way while the moment for that is waited for

    def __init__(self, own):
        golden = os.path.join(ROOT, "tests", "unit", "golden", "lvm2_registry.bin")
        self.link = SlowLink()
        slow = {"downtime-limit-ms": "5000", "bandwidth-limit-mb": "4", "lz4": "no"}
        both = {"files": walker_files(), "host_keys": slow, "wait": False}
        disks = {name: StoreDisk(f"doubt-{name}", KINDS["nvme"][0], golden=golden, mib=24).arguments for name in "ab"}
        self.a = own("a", self.link, vms={"guest": walker_vm(4000000)}, peers=["b"], extra=disks["a"], **both)
        self.b = own("b", self.link, peers=["a"], extra=disks["b"], **both)
        self.booted(self.a, self.b)

    @staticmethod
    def booted(*hosts):
        for host in hosts:
            host.wait_prompt()
            host.wait_log("registry: volume group godwit")

    def lose_power(self, *hosts, no_calls=None):
        """They come up again, on a cable that is whole."""
        for host in hosts:
            host.kill()
        self.link.cut, self.link.no_calls = False, no_calls
        for host in hosts:
            host.boot(wait=False)
        self.booted(*hosts)

    def move_cut(self, seen):
        """The guest moves from a to b; the cable is cut once seen() returns, with what is on it then."""
        self.a.migrate_start("guest", "b")
        self.a.migrate_progress(80)
        self.link.delay = self.SLOW_S
        seen()
        self.link.cut = True
        time.sleep(2 * self.SLOW_S)
        self.link.delay = 0.0


def test_power_cuts_around_moves(own):
    """The power of the source, of the destination, or of both is cut while a move is in doubt.  The one that asks after
    its boot, or is asked, knows the truth: the guest has one owner, who runs it."""
    d = Doubt(own)
    a, b = d.a, d.b
    ticks(a)
    # The answer is lost, and the source's power.  It cannot ask at first, so a move back waits.
    d.move_cut(lambda: b.wait_log("guest: runs here now", 60))
    d.lose_power(a, no_calls="a")
    a.wait_log("guest -> b: this host went down before it knew")
    assert re.search(r"^guest +stopped .*in doubt", a.command("vm list"), re.M), a.command("vm list")
    assert "may be b's: this host went down before it knew" in a.command("vm start guest --force")
    back = b.migrate_start("guest", "a")
    b.wait_log("guest -> a: waits: .*a move of guest away from host a is in doubt", 30)
    assert not a.has_vm("guest")
    d.link.no_calls = None
    a.wait_log("guest -> b: moved in", 30)
    assert b.migrate_finish(back).ok and a.has_vm("guest")
    ticks(a)
    # COMMIT is lost, and the power of both: it never ran at b.
    d.move_cut(lambda: a.serial.expect("IN_DOUBT", 60))
    d.lose_power(a, b)
    a.wait_log("guest -> b: failed, the guest is stopped here: .*lost power while the guest was arriving", 30)
    ticks(a)
    assert not b.has_vm("guest")
    # The answer is lost, and the destination's power: it is the destination's, which starts it.
    d.move_cut(lambda: b.wait_log("guest: runs here now", 60))
    d.lose_power(b)
    b.wait_log("guest: is this host's, it came from a")
    a.wait_log("guest -> b: moved in", 30)
    ticks(b)
    assert not a.has_vm("guest")
    d.lose_power(a, b)                                  # nothing is in doubt any more
    ticks(b)
    a.wait_log("guest is not started: guest is (stopped|running) at b", 60)
    b.command("vm stop guest")
    a.command("vm start guest --force")                 # a second one, made by hand
    said = a.migrate("guest", "b", must=False)
    assert "host b has guest already, stopped: `vm undefine guest` there" in said["reason"], said.text


@each(KINDS)
def test_guest_on_a_volume(kind, own):
    """A write load on a volume; what cannot be started, or moved, says why; the host loses its power, and the disk what
    was not flushed.  The guest finds all that was.  Nothing outside the volume changes."""
    devices, in_partition, line = kind
    disk = LosingDisk("store", devices, in_partition)
    outside = disk.outside()
    vms = {"guest": guest_vm(11, disk="lv:vg0/web", autostart=False),
           "twice": guest_vm(12, disk="lv:vg0/web", autostart=False),
           "lost": guest_vm(13, disk="lv:vg0/nowhere", autostart=False)}
    host = {"vms": vms, "peers": ["b"], "files": FILES, "extra": disk.arguments}
    a = own("a", Link(), **host)
    a.wait_log(line + ".* MiB, sectors of 512 bytes, MSI")
    if in_partition:
        a.wait_log("ahci1p2: 64 MiB at 2048 KiB")
    a.wait_log(r"volume group vg0: 2 volumes in extents of 4096 KiB")
    a.command("vm start guest --force")
    with a.guest("guest") as g:
        g.ready()
        g.send(f"diskcuts /dev/vda {WEB_MIB} 0 &")
        g.expect("CUTS vda ok later=0 torn=0\n", 60)
    for guest, why in (("twice", "the volume vg0/web is in use: by a guest, an import or an export"),
                       ("lost", "the volume group vg0 has no volume named nowhere")):
        assert why in a.command(f"vm start {guest} --force"), guest
    assert "its disk is the volume vg0/web of this host" in a.command("migrate guest b")
    a.guest("guest").__enter__().expect(r"^CUTS vda flushed [2-9]\d\d\n", 60)      # until the power is cut
    disk.disk.stand_still(4)
    a.kill()
    disk.power_cut()
    flushed = re.findall(r"^CUTS vda flushed (\d+)\n", a.serial.text, re.M)[-1]
    assert disk.outside() == outside
    b = own("a", Link(), **host)
    b.command("vm start guest --force")
    with b.guest("guest") as g:
        g.ready()
        text = sh(g, f"diskcuts /dev/vda {WEB_MIB} {flushed} 0; cat /sys/block/vda/size; "
                     "dd if=/dev/vda bs=1M count=18 2>/dev/null | sha256sum; "
                     "dd if=/dev/zero of=/dev/vda bs=1M seek=19 count=2 conv=fsync; echo 3 >/proc/sys/vm/drop_caches; "
                     "dd if=/dev/vda bs=1M skip=19 count=2 2>/dev/null | sha256sum")
    disk.save()
    assert "CUTS vda ok" in text and re.search(r"^65536$", text, re.M), f"something was lost, or is wrong:\n{text}"
    assert hashlib.sha256(disk.volume()[:18 * MIB]).hexdigest() in text, f"the guest reads something else:\n{text}"
    assert hashlib.sha256(bytes(2 * MIB)).hexdigest() in text, f"across the segments it reads something else:\n{text}"
    assert disk.volume()[19 * MIB:21 * MIB] == bytes(2 * MIB), "what was flushed is not on the disk"
    assert disk.outside() == outside


def store_keeps_more(ctl, states):
    """A definition, a boot file, an image, a clone: what else changes the store, or is written to it."""
    have = {"godwit_registry": 8, "web": 24}

    def write(name, data):
        path = os.path.join(RUNS, name)
        with open(path, "wb") as f:
            f.write(data)
        return path
    ctl("vm", "define", write("later.conf", b"[vm later]\nmemory = 40M\nkernel = vmlinuz\n"))
    states.keep(**have)
    ctl("file", "put", boot := write("boot", b"a boot file"), "boot")
    states.keep(**have, **{f"file.{hashlib.sha256(b'a boot file').hexdigest()}": 4})
    ctl("file", "delete", "boot")
    states.keep(**have)
    with open(boot, "wb") as f:
        f.write(bytes(510) + b"\x55\xaa" + os.urandom(MIB))
    ctl("volume", "import", boot, "base", "--base", "--raw")
    states.keep(**have, base=4)
    ctl("volume", "clone", "base", "clone")
    states.keep(**have, base=4, clone=8)
    ctl("vm", "undefine", "later")


def test_store_made_here(own):
    """A store on an empty disk, and the life of its volumes, by godwitctl; what is in use, full or misnamed is refused.
    The power is cut: a guest's data is there.  lvm2 in an emulated Linux accepts the store after each change, reads the
    same data, and makes a volume, which this host takes."""
    disk = StoreDisk("made", KINDS["nvme"][0], golden=os.devnull)
    states = States(disk.file, "godwit")
    host = {"vms": {"guest": guest_vm(11, disk="lv:godwit/web", autostart=False)}, "files": FILES,
            "extra": disk.arguments, "clients": Clients.ROLES}
    a = own("a", link := Lan(), **host)
    ctl = Clients([a]).ctl
    disks = ctl("disk", "list")[0]
    assert re.search(r"^nvme0 +a +64 MiB +good +- .*nothing: zeroes", disks, re.M)
    boot = re.search(r"^(ahci\d+) .* a FAT file system, what this host boots from$", disks, re.M)[1]
    assert f"{boot} is what this host boots from" in ctl("store", "create", "a", boot, "--yes", code=1)[1]
    assert "no disk of this host has a volume group named godwit" in a.command("vm start guest --force")
    assert "nvme0 is the store godwit, with 52 MiB free" in ctl("store", "create", "a", "nvme0", "--yes")[0]
    states.keep(godwit_registry=8)
    assert "the volume godwit/web is there" in ctl("volume", "create", "web", "16M")[0]
    states.keep(godwit_registry=8, web=16)
    ctl("volume", "create", "other", "8M")
    states.keep(godwit_registry=8, web=16, other=8)
    assert "has 28 MiB free, 1024 MiB are needed" in ctl("volume", "create", "big", "1G", code=1)[1]
    assert "has a volume named web already" in ctl("volume", "create", "web", "1M", code=1)[1]
    assert "LVM2 calls parts of volumes so" in ctl("volume", "create", "pvmove0", "1M", code=1)[1]
    a.command("vm start guest --force")
    with a.guest("guest") as g:
        g.ready()
        text = sh(g, "dd if=/dev/vda bs=1M 2>/dev/null | tr -d '\\0' | wc -c; "
                     "dd if=/dev/urandom of=/dev/vda bs=1M count=16 conv=fsync 2>/dev/null; sha256sum /dev/vda")
    assert re.search(r"^0$", text, re.M), f"a new volume is not all zeroes:\n{text}"
    written = re.search(r"^([0-9a-f]{64})  /dev/vda", text, re.M)[1]
    assert "godwit/web is a disk of the guest guest" in ctl("volume", "delete", "web", "--yes", code=1)[1]
    assert "has its new size" in ctl("volume", "resize", "web", "24M")[0]
    states.keep(godwit_registry=8, web=24, other=8)
    assert "belongs to the volume group godwit, which is in use" in ctl("store", "create", "a", "nvme0", "--name", "x",
                                                                       "--yes", code=1)[1]
    ctl("volume", "rename", "other", "spare")
    states.keep(godwit_registry=8, web=24, spare=8)
    assert "would lose its last 4 MiB for good" in ctl("volume", "resize", "spare", "4M", code=1)[1]
    ctl("volume", "resize", "spare", "4M", "--sure")
    states.keep(godwit_registry=8, web=24, spare=4)
    ctl("volume", "delete", "spare", "--yes")
    states.keep(godwit_registry=8, web=24)
    store_keeps_more(ctl, states)
    a.kill()                                            # the power is cut
    states.keep(godwit_registry=8, web=24, base=4, clone=8)
    said = states.judge("say vgchange -ay godwit\necho; echo '== sum'\n"
                        "dd if=/dev/godwit/web bs=1M count=16 2>/dev/null | sha256sum\n"
                        "say lvcreate -y -Wn -n bylinux -L 8M --addtag t godwit\nsay vgchange -an godwit\n")
    assert dict(said)["sum"][0].split()[0] == written, said
    b = own("b", link, **host)                          # which gets the disk, and has it for its own
    ctl, rest = Clients([b]).ctl, {"godwit_registry": 8, "web": 24, "base": 4, "clone": 8}
    assert re.search(r"^godwit/bylinux +b +8 MiB", ctl("volume", "list")[0], re.M)
    states = States(disk.file, "godwit")
    assert "is this host's now" in ctl("store", "adopt", "b", "godwit", "--yes")[0]
    states.keep(**rest, bylinux=8)
    ctl("volume", "rename", "bylinux", "linux")
    states.keep(**rest, linux=8)
    b.command("vm start guest --force")
    with b.guest("guest") as g:
        g.ready()
        text = sh(g, "cat /sys/block/vda/size; dd if=/dev/vda bs=1M count=16 2>/dev/null | sha256sum; "
                     "dd if=/dev/vda bs=1M skip=16 2>/dev/null | tr -d '\\0' | wc -c")
    assert written in text and re.search(r"^49152$", text, re.M) and re.search(r"^0$", text, re.M), text
    b.kill()
    states.judge("")
    link.close()


def checkpoint_and_back(host, clients):
    """A guest that writes all the time, and remembers each block, at a checkpoint; its files and its disk are
    destroyed, and it goes back: what it remembers is on its disk.  Twice.  What it says at the end shows whether all is
    right."""
    ctl = clients.ctl
    said = [ctl("vm", "checkpoint", "create", "guest", "good")[0]]
    assert "the checkpoint guest:good is there" in said[0], said
    assert "has checkpoints" in ctl("vm", "move-disk", "guest", "vda", "--to", "slow/web", code=1)[1]
    assert "is a part of the checkpoint" in ctl("volume", "delete", "godwit/cp.guest.good.vda", "--yes", code=1)[1]
    assert "add --sure" in ctl("vm", "checkpoint", "revert", "guest", "good", code=1)[1]
    for _ in range(2):
        with host.guest("guest") as g:
            g.ready()
            g.send("dd if=/dev/zero of=/dev/vda bs=1M conv=fsync; rm -rf /bin /etc /tmp; echo bro''ken")
            g.expect("^broken", 60)
        said.append(ctl("vm", "checkpoint", "revert", "guest", "good", "--sure")[0])
        assert "guest runs again, as it was at the checkpoint good" in said[-1], said
        with host.guest("guest") as g:
            g.ready()
            g.send("kill -0 $(cat /tmp/pid) && echo as be''fore")
            g.expect("^as before", 60)
    row, = clients.json("vm", "checkpoint", "list", "guest")["checkpoints"]
    assert row["name"] == "good" and row["memory"] and row["volumes"] == 1 and row["state"] == "kept", row
    ctl("vm", "checkpoint", "delete", "guest", "good")
    assert "cp.guest.good" not in ctl("volume", "list")[0]
    print("; ".join(line.strip() for line in said))


EXCHANGE_MS = 100                                       # what an exchange of the guest's disk may take


def longest_request(host):
    """Of diskcheck in the guest, in ms, since the last call."""
    with host.guest("guest") as g:
        g.ready()
        text = sh(g, "read pid </tmp/pid; n=$(grep -c far /tmp/disk); kill -USR2 $pid; "
                     "until [ $(grep -c far /tmp/disk) -gt $n ]; do usleep 50000; done; tail -n 1 /tmp/disk")
    return int(re.search(r"^DISK so far slowest_ms=(\d+)", text, re.M)[1])


def moves_disk(host, ctl, place, *options):
    """Move the guest's disk.  Its longest request is printed beside that of as long a time in which a client only asks
    something: what the emulator itself is good for.  The exchange is judged, by the host's own measure."""
    longest_request(host)
    begun = time.monotonic()
    said = ctl("vm", "move-disk", "guest", "vda", "--to", place, *options)[0]
    took = time.monotonic() - begun
    during = longest_request(host)
    ctl("vm", "list")
    time.sleep(took)
    own, held, mirror = longest_request(host), *map(float, re.search(
        r"its requests waited ([0-9.]+) ms .* and took ([0-9.]+) ms", said).groups())
    print(f"        to {place}, {took:.1f} s: longest request {during} ms, without a move {own} ms; of these the copy "
          f"{mirror} ms, the exchange {held} ms")
    assert held <= EXCHANGE_MS, said
    return said


def test_a_disk_moves_under_load(own):
    """A guest that writes all the time, and verifies: its disk moves from a server to a store, to another store on
    another controller, into memory, and back to the server, over TLS.  The definition follows; old volumes are gone, or
    kept if asked for.
    Then the power is cut in the middle of a move: the guest has the disk that it had, and what was made is deleted."""
    if missing():
        raise Skip(missing())
    folder, fingerprint = tls_files()
    nbd = NbdServer("moved", 16, options=["--tls=on", f"--tls-certificates={folder}"])      # with and without TLS
    disks = [StoreDisk("fast", [], golden=os.devnull, mib=512), StoreDisk("slow", [], golden=os.devnull)]
    devices = ["nvme,drive=store0,serial=godwit", "ide-hd,drive=store1,bus=ide.1,serial=slow"]
    extra = []
    for i, (disk, device) in enumerate(zip(disks, devices)):
        extra += ["-drive", f"file={disk.file},if=none,id=store{i},format=raw", "-device", device]
    host = {"files": {"linux": KERNEL, "initrd": INITRD}, "extra": extra, "clients": Clients.ROLES}
    a = own("a", link := Lan(), **host)
    clients = Clients([a])
    ctl = clients.ctl
    ctl("store", "create", "a", "nvme0", "--yes")
    ctl("store", "create", "a", next(d["name"] for d in clients.json("disk", "list")["disks"] if d["serial"] == "slow"),
        "--name", "slow", "--yes")
    text = os.path.join(RUNS, "moved.conf")
    with open(text, "w", encoding="utf-8") as f:
        f.write(f"[vm guest]\nmemory = 128M\nkernel = linux\ninitrd = initrd\ncmdline = console=ttyS0 quiet\n"
                f"; the disk\ndisk = {nbd.disk}\n")
    ctl("vm", "define", text)
    ctl("vm", "start", "guest")
    begin(a)
    assert "there is a volume" not in ctl("vm", "move-disk", "guest", "vdb", "--to", "godwit/web", code=1)[1]
    said = [moves_disk(a, ctl, "godwit/web")]
    assert "vda of guest is on lv:godwit/web now" in said[0], said
    assert "; the disk\ndisk = lv:godwit/web\n" in ctl("vm", "show", "guest", "--config")[0]
    checkpoint_and_back(a, clients)
    said.append(moves_disk(a, ctl, "slow/web"))
    assert "lv:godwit/web is deleted" in said[1] and "godwit/web" not in ctl("volume", "list")[0], said
    assert "--overwrite allows that" in ctl("vm", "move-disk", "guest", "vda", "--to", nbd.disk, code=1)[1]
    said.append(moves_disk(a, ctl, "ram", "--yes", "--keep"))
    assert "slow/web" in ctl("volume", "list")[0] and "disk = ram:16M\n" in ctl("vm", "show", "guest", "--config")[0]
    said.append(moves_disk(a, ctl, nbd.disk, "--fingerprint", fingerprint, "--overwrite"))
    assert f"disk = {nbd.disk}\ndisk-fingerprint = {fingerprint}\n" in ctl("vm", "show", "guest", "--config")[0]
    told = [e["what"] for e in clients.json("events", "a")["events"] if e["kind"] == "disk"]
    assert told[-8:] == ["moving", "moved"] * 4, told
    with a.guest("guest") as g:
        g.ready()
        figures = end(g, nbd)
    print("; ".join(line.strip() for line in said), figures)
    assert "the log tells its outcome" in a.command("vm move-disk guest vda godwit/other --limit 1")
    assert re.search(r" running +[a-z]+ .*the operator at the console +move disk vda of guest to lv:godwit/other",
                     ctl("job", "list")[0]), ctl("job", "list")
    assert "is cancelled" in a.command("vm move-disk guest vda --cancel")
    a.wait_log("move disk vda of guest to lv:godwit/other failed: cancelled by the operator")
    ctl("vm", "move-disk", "guest", "vda", "--to", "godwit/web", "--limit", "1", "--detach")
    while "godwit/web" not in ctl("volume", "list")[0]:
        time.sleep(0.3)
    a.kill()                                            # the power is cut
    b = own("a", link, **host)
    b.wait_log("the move of vda of guest ended with this host; lv:godwit/web is deleted")
    assert f"disk = {nbd.disk}\n" in ctl("vm", "show", "guest", "--config")[0]
    assert not re.search("godwit/web", ctl("volume", "list")[0])
    link.close()


BASE = (1 * MIB, 8 * MIB)                               # where lvm2 put vg0/base in golden/lvm2_base.bin
SUM = "dd if={} bs=1M 2>/dev/null | sha256sum"


def test_clones_and_snapshots(own):
    """A guest on a clone of a base, another on a volume of which a snapshot is taken while it runs.  The power is cut:
    what was flushed is there, in the eyes of Linux's device-mapper as well; the base is as it was.  Linux writes to the
    clone, and this host reads it.  The volume goes back to its snapshot."""
    disk = StoreDisk("clones", KINDS["nvme"][0], golden=GOLDEN.replace("one_disk", "base"))
    base = os.urandom(64 * 1024) * 128
    with open(disk.file, "r+b") as f:
        f.seek(BASE[0])
        f.write(base)
    states = States(disk.file, "vg0")
    vms = {name: guest_vm(11 + i, disk=f"lv:vg0/{name}", autostart=False) for i, name in enumerate(("one", "web"))}
    host = {"vms": vms, "files": FILES, "extra": disk.arguments, "clients": Clients.ROLES}
    a = own("a", link := Lan(), **host)
    ctl = Clients([a]).ctl
    assert "the volume vg0/one is there" in ctl("volume", "clone", "base", "one")[0]
    states.keep(base=8, one=12, web=8)
    ctl("volume", "clone", "base", "two")
    states.keep(base=8, one=12, two=12, web=8)
    assert "vg0/web is no base volume" in ctl("volume", "clone", "web", "x", code=1)[1]
    assert "has 2 snapshots or clones" in ctl("volume", "delete", "base", "--yes", code=1)[1]
    ctl("volume", "delete", "two", "--yes")
    states.keep(base=8, one=12, web=8)
    write = "dd if=/dev/urandom of=/dev/vda bs=64k seek={} count={} conv=fsync,notrunc 2>/dev/null; "

    def wrote(name, seek, count):
        """What the guest has on its disk after it has written that and flushed it."""
        with a.guest(name) as g:
            g.ready()
            text = sh(g, write.format(seek, count) + "echo 3 >/proc/sys/vm/drop_caches; " + SUM.format("/dev/vda"))
        return re.search(r"^([0-9a-f]{64})  -", text, re.M)[1]
    a.command("vm start one --force")
    a.command("vm start web --force")
    one, monday = wrote("one", 3, 40), wrote("web", 0, 70)
    assert "the volume vg0/monday is there" in ctl("volume", "snapshot", "web", "monday")[0]
    states.keep(base=8, one=12, web=8, monday=12)
    web = wrote("web", 33, 50)
    assert "is in use: stop its guest first" in ctl("volume", "revert", "monday", "--yes", code=1)[1]
    a.kill()                                            # the power is cut
    states.keep(base=8, one=12, web=8, monday=12)
    said = dict(states.judge("say vgchange -ay vg0\n" + "".join(
        f"echo; echo '== {name}'\n{SUM.format('/dev/vg0/' + name)}\n" for name in ("base", "one", "web", "monday")) +
        "echo; echo '== linux'\ndd if=/dev/zero of=/dev/vg0/one bs=64k seek=100 count=20 conv=fsync,notrunc "
        f"2>/dev/null; {SUM.format('/dev/vg0/one')}\nsay vgchange -an vg0\n"))
    got = {name: said[name][0].split()[0] for name in ("base", "one", "web", "monday", "linux")}
    assert got == {"base": hashlib.sha256(base).hexdigest(), "one": one, "web": web, "monday": monday,
                   "linux": got["linux"]} and got["linux"] != one, (got, one, web, monday)
    b = own("a", link, **host)
    states = States(disk.file, "vg0")
    assert "the volume vg0/web is what monday was" in ctl("volume", "revert", "monday", "--yes")[0]
    states.keep(base=8, one=12, web=8)
    ctl("volume", "snapshot", "web", "tuesday")
    states.keep(base=8, one=12, web=8, tuesday=12)
    ctl("volume", "delete", "tuesday", "--yes")
    states.keep(base=8, one=12, web=8)
    for name, want in (("one", got["linux"]), ("web", monday)):
        b.command(f"vm start {name} --force")
        with b.guest(name) as g:
            g.ready()
            assert want in sh(g, SUM.format("/dev/vda")), name
    b.kill()
    states.judge("")
    link.close()
