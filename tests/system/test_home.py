# SPDX-License-Identifier: BSD-2-Clause
"""A host where guests live, by godwitctl alone: an empty disk becomes a store, guests run on clones of one image, one
moves to another host, and both hosts lose their power."""
import hashlib
import os
import random
import re
import time

from fixtures import Clients, Skip
from host import KERNEL, Lan, RUNS
from nbd import NbdServer, missing
from test_virtio import INITRD, sh

MIB = 1 << 20
IMAGE_MIB = 8
WEB = ("web1", "web2", "web3")


class Home:
    """Host a with an empty disk of 256 MiB, and host b with another; the commands of their operator.  of_host: more
    arguments of Host()."""

    def __init__(self, own, disk_mib=256, **of_host):
        os.makedirs(RUNS, exist_ok=True)
        self.own, self.link, self.hosts, self.of_host = own, Lan(), {}, of_host
        for name in "ab":
            with open(self.disk(name), "wb") as f:
                f.truncate(disk_mib * MIB)
        self.boot()

    @staticmethod
    def disk(name):
        return os.path.join(RUNS, f"home.{name}.disk")

    def boot(self):
        """Both hosts, which have no guests and no files but what their disks hold."""
        for name, other in ("ab", "ba"):
            nvme = ["-drive", f"file={self.disk(name)},if=none,id=store0,format=raw", "-device",
                    "nvme,drive=store0,serial=godwit"]
            self.hosts[name] = self.own(name, self.link, wait=False, peers=[other], clients=Clients.ROLES, extra=nvme,
                                        host_keys={"disk-servers": "0.0.0.0/0"}, **self.of_host)
        for host in self.hosts.values():
            host.wait_prompt()
        clients = Clients(self.hosts.values())
        self.ctl, self.json, self.folder = clients.ctl, clients.json, clients.folder

    def power_cut(self):
        for host in self.hosts.values():
            host.kill()

    def file(self, name, data):
        path = os.path.join(self.folder, name)
        with open(path, "wb") as f:
            f.write(data)
        return path

    def define(self, guest, number, disk):
        self.define_linux(guest, "128M", f"quiet godwit.ip=10.7.0.{number}/24\nnic = yes", disk)

    def define_linux(self, guest, memory, words, disk):
        text = (f"[vm {guest}]\nmemory = {memory}\nkernel = linux\ninitrd = initrd\nautostart = yes\n"
                f"cmdline = console=ttyS0 {words}\ndisk = {disk}\n")
        self.ctl("vm", "define", self.file(f"{guest}.conf", text.encode()), "-H", "a")

    def where(self):
        """{guest: [(host, state), ...]} of all that are not stopped."""
        found = {}
        for vm in self.json("vm", "list")["vms"]:
            if vm["state"] != "stopped":
                found.setdefault(vm["name"], []).append((vm["host"], vm["state"]))
        return found

    def wait_where(self, want, timeout=120):
        deadline = time.monotonic() + timeout
        while self.where() != want:
            assert time.monotonic() < deadline, (self.where(), want, [h.log()[-1500:] for h in self.hosts.values()])
            time.sleep(0.5)


def first_sum(g):
    """SHA-256 of the image's part of the guest's disk, as the guest reads it."""
    text = sh(g, f"dd if=/dev/vda bs=1M count={IMAGE_MIB} iflag=direct 2>/dev/null | sha256sum")
    return re.search(r"^[0-9a-f]{64}", text, re.M)[0]


def more_devices(home, guest, disks):
    """Two disks more and a second card, by godwitctl."""
    for n, disk in enumerate(disks):
        assert f"vd{'bc'[n]} of {guest} is {disk}" in home.ctl("vm", "disk", "attach", guest, disk, "-H", "a")[0]
    home.ctl("vm", "nic", "attach", guest, "-H", "a")


def second_card_up(g, number):
    sh(g, "echo 1 >/proc/sys/net/ipv4/conf/all/arp_ignore; ip link set eth1 up; "     # each card for its own address
          f"ip addr add 10.8.0.{number}/24 dev eth1")


def further_sums(g):
    text = sh(g, "for d in vdb vdc; do dd if=/dev/$d bs=64k count=8 iflag=direct 2>/dev/null | sha256sum; done")
    return re.findall(r"^[0-9a-f]{64}", text, re.M)


def devices_work(g, ping):
    """Each of the further disks keeps what is written, and each card reaches another guest's.  Returns their sums."""
    before = further_sums(g)
    text = sh(g, "for d in vdb vdc; do dd if=/dev/urandom of=/dev/$d bs=64k count=8 conv=notrunc,fsync 2>/dev/null; "
                 f"done; for n in 7 8; do ping -c 4 10.$n.0.{ping}; done")
    after = further_sums(g)
    assert len({*before, *after}) == 2 + len(set(before)) and len(after) == 2, "a disk does not keep what is written"
    for net in "78":
        assert len(re.findall(rf"from 10.{net}.0.{ping}: seq", text)) >= 3, f"pings over a card are lost:\n{text}"
    return after


def test_guests_live_here(own):
    if missing():
        raise Skip(missing())
    home, image = Home(own), random.Random(12).randbytes(IMAGE_MIB * MIB)
    base, sums = hashlib.sha256(image).hexdigest(), {}
    for host in "ab":
        home.ctl("store", "create", host, "nvme0", "--yes")
    home.ctl("file", "put", KERNEL, "linux", "-H", "a")
    home.ctl("file", "put", INITRD, "initrd", "-H", "a")
    home.ctl("volume", "import", home.file("image.raw", image), "base", "--base", "--raw", "-H", "a")
    for n, guest in enumerate(WEB):
        home.ctl("volume", "clone", "base", guest, "-H", "a")
        home.define(guest, 11 + n, f"lv:godwit/{guest}")
    nbd, more = NbdServer("home", IMAGE_MIB), [NbdServer(f"home{n}", 1) for n in "12"]
    home.define("mover", 20, nbd.disk)
    home.ctl("volume", "create", "data", "4M", "-H", "a")
    more_devices(home, "web1", ["lv:godwit/data", more[0].disk])
    more_devices(home, "mover", ["ram:2M", more[1].disk])
    for guest in (*WEB, "mover"):
        home.ctl("vm", "start", guest, "-H", "a")
    home.wait_where({guest: [("a", "running")] for guest in (*WEB, "mover")})
    for n, guest in enumerate(WEB):                             # each writes a place of its own into its clone
        with home.hosts["a"].guest(guest) as g:
            g.ready()
            assert first_sum(g) == base, f"{guest} does not read the image"
            sh(g, f"dd if=/dev/urandom of=/dev/vda bs=64k seek={n * 7} count=9 conv=notrunc,fsync 2>/dev/null")
            sums[guest] = first_sum(g)
    assert len({base, *sums.values()}) == 4
    further = {}
    for guest, number in ("web1", 11), ("mover", 20):
        with home.hosts["a"].guest(guest) as g:
            second_card_up(g, number)
    for guest, other in ("web1", 20), ("mover", 11):
        with home.hosts["a"].guest(guest) as g:
            further[guest] = devices_work(g, other)
    assert "its disk is the volume" in home.ctl("vm", "migrate", "web1", "--to", "b", code=1)[1]
    home.ctl("vm", "migrate", "mover", "--to", "b")
    with home.hosts["b"].guest("mover") as g:
        assert further_sums(g) == further["mover"], "a disk is another one after the move"
        devices_work(g, 11)
        home.ctl("vm", "reset", "mover", "-H", "b")             # b has its files and its definition by the move
        g.expect(r"guest ready kernel=.*\n", 120)               # behind the prompt that it was reset at
    deadline = time.monotonic() + 60
    while len(home.json("file", "list", "-H", "b")["files"]) < 2:     # b writes them into its store
        assert time.monotonic() < deadline, home.hosts["b"].log()
        time.sleep(0.5)
    data = random.Random(13).randbytes(4 * MIB)
    home.ctl("volume", "import", home.file("data.raw", data), "sleep", "--raw", "-H", "a")
    home.define("sleeper", 21, "lv:godwit/sleep")               # it has never run; its volume moves along
    said = home.ctl("vm", "migrate", "sleeper", "--to", "b", "--dry-run")[0]
    assert "transfer type: cold" in said and "copied" in said, said
    assert "there is no such store" in home.ctl("vm", "migrate", "sleeper", "--to", "b", "--dry-run", "--disk",
                                                "vda=fast/nap", code=None)[0]
    said = home.ctl("vm", "migrate", "sleeper", "--to", "b", "--disk", "vda=godwit/nap")
    assert "sleeper moved from a to b" in said[0] and "transfer type cold" in said[1], said
    assert [(vm["host"], vm["state"]) for vm in home.json("vm", "list")["vms"] if vm["name"] == "sleeper"] == [
        ("b", "stopped")]
    deadline = time.monotonic() + 30
    while [v["host"] for v in home.json("volume", "list")["volumes"] if v["name"] in ("sleep", "nap")] != ["b"]:
        assert time.monotonic() < deadline, home.hosts["a"].log()   # a deletes it once its registry is durable
        time.sleep(0.5)
    want = {**{guest: [("a", "running")] for guest in WEB}, "mover": [("b", "running")]}
    home.wait_where(want)
    saved = save(home, "web2")
    del want["web2"]
    home.power_cut()
    home.boot()
    home.wait_where({**want, "sleeper": [("b", "running")]})    # by autostart, there
    with home.hosts["b"].guest("sleeper") as g:
        g.ready()
        text = sh(g, "dd if=/dev/vda bs=1M count=4 iflag=direct 2>/dev/null | sha256sum")
        assert hashlib.sha256(data).hexdigest() in text, "the volume of a stopped guest is not what it was"
    assert all(vm["host"] == "b" for vm in home.json("vm", "list")["vms"] if vm["name"] == "mover")
    for guest in ("web1", "web3"):
        with home.hosts["a"].guest(guest) as g:
            g.ready()
            assert first_sum(g) == sums[guest], f"{guest} lost what it had flushed"
    exported = os.path.join(home.folder, "base.raw")
    home.ctl("volume", "export", "base", exported, "-H", "a")
    with open(exported, "rb") as f:
        assert hashlib.sha256(f.read(len(image))).hexdigest() == base, "the base volume is not the image any more"
    clone_moves(home, exported, sums["web3"])
    saved_moves(home, "web2", sums["web2"], *saved)


def clock_behind(g):
    """Seconds by which the guest's clock is behind this machine's."""
    return time.time() - int(re.search(r"^\d{9,}", sh(g, "date +%s"), re.M)[0])


def save(home, guest):
    """Save it at a, with a file in its memory.  Returns by how much its clock was behind, and since when."""
    with home.hosts["a"].guest(guest) as g:
        sh(g, "echo kept in memory >/tmp/note")
        behind = clock_behind(g)
    assert f"{guest} is saved" in home.ctl("vm", "save", guest, "-H", "a")[0]
    return behind, time.time()


def saved_moves(home, guest, want, behind, since):
    """Both hosts were off since it was saved at a.  It moves to b as it is, and goes on there, once."""
    assert "saved" in home.ctl("vm", "migrate", guest, "--to", "b")[1]
    assert [vm["host"] for vm in home.json("vm", "list")["vms"] if vm["name"] == guest] == ["b"]
    home.ctl("vm", "restore", guest, "-H", "b")
    with home.hosts["b"].guest(guest) as g:
        assert "kept in memory" in sh(g, "cat /tmp/note")
        assert first_sum(g) == want, "the disk of a saved guest is not what it was"
        now = clock_behind(g)
    print(f"        saved for {time.time() - since:.0f} s, its clock was {behind:.0f} s behind, and is {now:.0f} s")
    assert abs(now - behind) < 20, f"its clock was {behind} s behind, and is {now} s"
    home.ctl("vm", "stop", guest, "-H", "b")
    assert "add --again" in home.ctl("vm", "restore", guest, "-H", "b", code=1)[1]


def clone_moves(home, image, want):
    """A guest on a clone moves while it runs, once its base is at b as well; only what it has changed is sent."""
    ask = "vm", "migrate", "web3", "--to", "b", "--with-disks"
    assert "clone of a base volume which is not in the store godwit here" in home.ctl(*ask, "--dry-run", code=None)[0]
    home.ctl("volume", "import", image, "same", "--base", "--raw", "-H", "b")
    home.ctl(*ask)
    disks = home.json("migration", "list", "-H", "a")["migrations"][0]["disks"]
    assert 9 * 65536 <= disks["written_bytes"] + disks["zero_bytes"] < IMAGE_MIB * MIB // 2, disks
    with home.hosts["b"].guest("web3") as g:
        assert first_sum(g) == want, "the clone is not what it was"
