# SPDX-License-Identifier: BSD-2-Clause
"""Stores, the longer checks: twenty power cuts under a write load, a snapshot that grows, and a checkpoint that moves.

The power cuts: the host has a store on an NVMe disk, one on a SATA disk, and one on a virtio-blk disk.  They lose what
was not flushed (volatile_disk.py).  Its guest writes to a volume and to a clone in each of them, all at once, each with
several requests under way (tests/guest/diskcuts.c).  Volumes get and lose snapshots meanwhile.  After each cut the host
starts the guest by itself, and the guest verifies everything.  CUTS=n: so many cuts, not twenty."""
import hashlib
import os
import random
import re
import threading
import time

import lvm2
from fixtures import Clients
from host import KERNEL, Lan, RUNS
from test_home import Home
from test_store import KINDS, StoreDisk
from test_virtio import FILES, INITRD, guest_vm, sh
from volatile_disk import VolatileDisk, blank

CUTS, VOLUME_MIB = int(os.environ.get("CUTS", "20")), 16
MIB = 1 << 20
DEVICES = {"nvme": "nvme,drive=nvme,serial=godwit", "ahci": "ide-hd,drive=ahci,bus=ide.1,serial=godwit",
           "virtio": "virtio-blk-pci,drive=virtio,serial=godwit"}
NAMES = {"nvme": "nvme0", "ahci": "ahci1", "virtio": "virtio0"}          # of the host for them
VOLUMES = [f"{kind}/{volume}" for kind in DEVICES for volume in ("thick", "clone")]   # the guest's vda, vdb, ...


class Cuts:
    def __init__(self, own, seed):
        self.own, self.link, self.random = own, Lan(), random.Random(seed)
        self.disks = {kind: VolatileDisk(kind, 112, seed=self.random.random()) for kind in DEVICES}
        self.flushed = [0] * len(VOLUMES)
        self.boot()

    def boot(self):
        drives = [arg for kind, disk in self.disks.items() for arg in (*disk.drive(kind), "-device", DEVICES[kind])]
        vms = {"guest": guest_vm(11, disk=[f"lv:{volume}" for volume in VOLUMES], autostart="last")}
        self.host = self.own("a", self.link, vms=vms, files=FILES, clients=Clients.ROLES, extra=drives)

    def make_volumes(self):
        self.ctl = Clients([self.host]).ctl
        path = os.path.join(RUNS, "cuts.img")
        with open(path, "wb") as f:
            f.write(blank(VOLUME_MIB))
        for kind in DEVICES:
            self.ctl("store", "create", "a", NAMES[kind], "--name", kind, "--yes")
            self.ctl("volume", "import", path, f"{kind}/base", "--base", "--raw")
            self.ctl("volume", "import", path, f"{kind}/thick", "--raw")
            self.ctl("volume", "clone", f"{kind}/base", "clone")
        self.host.command("vm start guest --force")

    def verify(self, count=""):
        """The guest is up, finds all that was flushed, and writes on: `count` times, or for ever."""
        guest = self.host.guest("guest").__enter__()            # for ever: until the power cut
        guest.ready()
        guest.send(f"set -- {' '.join(map(str, self.flushed))}; for d in a b c d e f; do "
                   f"diskcuts /dev/vd$d {VOLUME_MIB} $1 {count} & shift; done")
        start, found = self.host.serial.mark(), {}
        while len(found) < len(VOLUMES):
            m = guest.expect(r"CUTS vd(\w) (?:ok later=(\d+) torn=(\d+)|(bad|FAILED).*)\n", 120)
            assert not m[4], f"{VOLUMES[ord(m[1]) - ord('a')]} lost something:\n{self.host.serial.text[start:][-3000:]}"
            found[m[1]] = (int(m[2]), int(m[3]))
        return [sum(found[d][i] for d in found) for i in (0, 1)]

    def work(self):
        """Until a volume has some more writes flushed."""
        which = self.random.randrange(len(VOLUMES))
        guest, goal = self.host.guest("guest"), self.flushed[which] + self.random.randint(10, 90)
        while self.flushed[which] < goal:
            self.flushed[which] = int(guest.expect(rf"^CUTS vd{chr(ord('a') + which)} flushed (\d+)\n", 120)[1])

    def cut(self):
        self.host.kill()
        lost = [disk.power_cut() for disk in self.disks.values()]
        for name, number in re.findall(r"^CUTS vd(\w) flushed (\d+)\n", self.host.serial.text, re.M):
            which = ord(name) - ord("a")
            self.flushed[which] = max(self.flushed[which], int(number))
        return lost

    def ask_lvm2(self):
        """lvm2 finds nothing wrong with the three stores."""
        lvm2.need_lvm2()
        images = [os.path.join(RUNS, f"cuts-{kind}.disk") for kind in self.disks]
        for path, disk in zip(images, self.disks.values()):
            disk.save(path)
        said = lvm2.run(images, "".join(f"only vd{chr(ord('a') + i)}\nsay vgck {kind}\nsay lvs --noheadings {kind}\n"
                                        for i, kind in enumerate(self.disks)))
        assert not any(lines for command, lines in said if command.startswith("vgck")), said

    def snapshots(self, number):
        """Each volume in turn gets a snapshot, or loses it; the power may go before that is done."""
        kind = list(DEVICES)[number // 2 % len(DEVICES)]
        words = ("delete", f"{kind}/snap", "--yes") if number % 2 else ("snapshot", f"{kind}/thick", "snap")
        threading.Thread(target=self.ctl, args=("volume", *words), kwargs={"code": None}, daemon=True).start()


def test_twenty_power_cuts(own):
    seed = int(os.environ.get("CUTS_SEED", str(random.randrange(1 << 32))))
    print(f"        CUTS_SEED={seed}")
    cuts = Cuts(own, seed)
    cuts.make_volumes()
    for number in range(CUTS):
        later, torn = cuts.verify()
        cuts.work()
        cuts.snapshots(number)
        cuts.work()
        time.sleep(cuts.random.uniform(0, 0.5))
        lost = cuts.cut()
        print(f"        cut {number + 1}: the last had {later} later blocks, {torn} of them torn; lost and unflushed "
              f"writes {lost}; flushed {cuts.flushed}")
        cuts.boot()
    cuts.verify(0)
    cuts.host.kill()
    cuts.ask_lvm2()
    cuts.link.close()


def test_snapshot_grows(own):
    """A volume with a snapshot is overwritten by an import.  The snapshot gets the space that it needs, and lvm2 and
    its device-mapper see both contents."""
    lvm2.need_lvm2()
    disk = StoreDisk("grows", KINDS["nvme"][0], golden=os.devnull, mib=256)
    a = own("a", link := Lan(), extra=disk.arguments, clients=Clients.ROLES)
    ctl, states, sums = Clients([a]).ctl, lvm2.States(disk.file, "godwit"), []
    ctl("store", "create", "a", "nvme0", "--yes")
    for content in range(2):
        path = os.path.join(RUNS, "grows.img")
        with open(path, "wb") as f:
            f.write(random.Random(content).randbytes(72 * MIB))
        with open(path, "rb") as f:
            sums.append(hashlib.sha256(f.read()).hexdigest())
        ctl("volume", "import", path, "web", "--raw", "--overwrite", timeout=300)
        if not content:
            ctl("volume", "snapshot", "web", "monday")
            states.keep(godwit_registry=8, web=72, monday=64)
    a.kill()
    states.keep(godwit_registry=8, web=72, monday=76)
    said = dict(states.judge("say vgchange -ay godwit\n" + "".join(
        f"echo; echo '== {name}'\nsha256sum /dev/godwit/{name}\n" for name in ("monday", "web"))))
    assert [said[name][0].split()[0] for name in ("monday", "web")] == sums, (said, sums)
    link.close()


def sum_of(g):
    text = sh(g, "dd if=/dev/vda bs=64k count=16 iflag=direct 2>/dev/null | sha256sum")
    return re.search(r"^[0-9a-f]{64}", text, re.M)[0]


def back_to(home, host, first):
    """The guest goes back to its checkpoint once all of it is released from the move: memory and disk are as then."""
    deadline = time.monotonic() + 30
    while "one" not in home.ctl("vm", "checkpoint", "list", "g", "-H", host)[0]:
        assert time.monotonic() < deadline, home.hosts[host].log()
        time.sleep(0.5)
    home.ctl("vm", "checkpoint", "revert", "g", "one", "--sure", "-H", host)
    with home.hosts[host].guest("g") as g:
        g.ready()
        assert sum_of(g) == first, "the disk is not what it was at the checkpoint"
        assert "hello" in sh(g, "cat /tmp/note")


def home_with_checkpoint(own):
    """Guest g, whose disk and files are not what they were at its checkpoint; and the disk's sum then."""
    home = Home(own)
    for host in "ab":
        home.ctl("store", "create", host, "nvme0", "--yes")
    home.ctl("file", "put", KERNEL, "linux", "-H", "a")
    home.ctl("file", "put", INITRD, "initrd", "-H", "a")
    home.ctl("volume", "create", "root", "8M", "-H", "a")
    home.define("g", 11, "lv:godwit/root")
    home.ctl("vm", "start", "g", "-H", "a")
    with home.hosts["a"].guest("g") as g:
        g.ready()
        sh(g, "dd if=/dev/urandom of=/dev/vda bs=64k count=4 conv=notrunc,fsync 2>/dev/null; echo hello >/tmp/note")
        first = sum_of(g)
        home.ctl("vm", "checkpoint", "create", "g", "one", "-H", "a")
        sh(g, "dd if=/dev/urandom of=/dev/vda bs=64k count=16 conv=notrunc,fsync 2>/dev/null; rm /tmp/note")
        assert sum_of(g) != first
    return home, first


def test_checkpoint_moves(own):
    """Of a guest that runs, whose checkpoint is a snapshot; then of a stopped one, which has a copy and a snapshot."""
    home, first = home_with_checkpoint(own)
    with home.hosts["a"].guest("g") as g:
        g.send("while dd if=/dev/urandom of=/dev/vda bs=64k count=2 seek=32 conv=notrunc,fsync; do sleep 0.2; done\n")
    home.ctl("vm", "migrate", "g", "--to", "b", "--with-disks", timeout=240)
    back_to(home, "b", first)
    home.ctl("vm", "checkpoint", "create", "g", "two", "-H", "b")
    home.ctl("vm", "stop", "g", "-H", "b")
    home.ctl("vm", "migrate", "g", "--to", "a")
    back_to(home, "a", first)
    assert "two" in home.ctl("vm", "checkpoint", "list", "g", "-H", "a")[0]


def only_host(home):
    """Where the guest runs, once it runs at one host alone, and the other has no volume of it any more."""
    deadline = time.monotonic() + 240
    while True:
        runs = [host for host, state in home.where().get("g", []) if state == "running"]
        volumes = [(v["host"], v["name"]) for v in home.json("volume", "list")["volumes"]
                   if v["name"].startswith(("root", "cp.g."))]
        if len(runs) == 1 and {host for host, _ in volumes} == set(runs) and len(volumes) == 3:
            return runs[0]
        assert time.monotonic() < deadline, (home.where(), volumes, [h.log()[-3000:] for h in home.hosts.values()])
        time.sleep(0.5)


def test_checkpoint_moves_and_power_cuts(own):
    """The power of the source, of the destination or of both goes at a random moment of a move.  Afterwards guest and
    checkpoint exist once, and the guest goes back to it.  MOVE_CUTS=n: so many cuts, not nine."""
    seed = int(os.environ.get("CUTS_SEED", str(random.randrange(1 << 32))))
    print(f"        CUTS_SEED={seed}")
    chance, (home, first), host = random.Random(seed), home_with_checkpoint(own), "a"
    begun = time.monotonic()
    home.ctl("vm", "migrate", "g", "--to", "b", "--with-disks", timeout=240)
    takes = time.monotonic() - begun
    for number in range(int(os.environ.get("MOVE_CUTS", "9"))):
        host = only_host(home)
        back_to(home, host, first)
        other, after = "ba"[host == "b"], chance.uniform(0, 1.2 * takes)
        mover = threading.Thread(target=home.ctl, args=("vm", "migrate", "g", "--to", other, "--with-disks"),
                                 kwargs={"code": None, "timeout": 300})
        mover.start()
        time.sleep(after)
        cut = (host, other, host + other)[number % 3]
        for name in cut:
            home.hosts[name].kill()
        for name in cut:
            home.hosts[name].boot(wait=False)
        for name in cut:
            home.hosts[name].wait_prompt()
        mover.join()
        print(f"        cut {number + 1}: {host} -> {other}, power of {cut} after {after:.1f} of {takes:.1f} s: "
              f"the guest is at {only_host(home)}")
    back_to(home, only_host(home), first)
