# SPDX-License-Identifier: BSD-2-Clause
"""Moves with disks that end early: a full store, a cancel, a power cut before and after RUNNING.  The guest writes all
the time and compares every block: it runs on at the source, or at the destination, once.  Nothing is left behind."""
import os
import re
import time

from fixtures import Clients
from host import KERNEL, RUNS
from test_home import Home, MIB
from test_virtio import INITRD, sh

STORE_MIB, DISK_MIB, PER_S = 128, 12, 30
SLOW = ("--limit", "1")                                 # MB/s, so that a copy has a middle


class Pair(Home):
    """Host a with a store on NVMe, host b with one on AHCI.  Guests run diskcheck, like a database."""
    NVME = ["-device", "nvme,drive=store0,serial=godwit"]
    DRIVES = {"a": NVME, "b": ["-device", "ich9-ahci,id=sata", "-device", "ide-hd,drive=store0,bus=sata.0"]}
    MORE = {}                                           # keyword arguments of all hosts

    def boot(self):
        os.makedirs(RUNS, exist_ok=True)
        for name, drives in self.DRIVES.items():
            with open(self.disk(name), "wb") as f:
                f.truncate(STORE_MIB * MIB)
            self.hosts[name] = self.own(name, self.link, wait=False, peers=[p for p in self.DRIVES if p != name],
                                        clients=Clients.ROLES, extra=[*self.drive(name), *drives], **self.MORE)
        for host in self.hosts.values():
            host.wait_prompt()
        self.clients = Clients(self.hosts.values())
        self.ctl, self.json, self.folder = self.clients.ctl, self.clients.json, self.clients.folder
        self.holds = {}

    def drive(self, name, file=None, node="store0"):
        return ["-drive", f"file={file or self.disk(name)},if=none,id={node},format=raw,werror=report"]

    def stores(self):
        disks = self.json("disk", "list")["disks"]
        for host in self.hosts:
            self.ctl("store", "create", host, next(d["name"] for d in disks if d["host"] == host), "--yes")
            self.ctl("file", "put", KERNEL, "linux", "-H", host)
            self.ctl("file", "put", INITRD, "initrd", "-H", host)

    def database(self, guest, mib=DISK_MIB):
        """Guest runs on a, and its database has begun to write."""
        self.ctl("volume", "create", f"godwit/{guest}", f"{mib}M", "-H", "a")
        text = (f"[vm {guest}]\nmemory = 96M\nkernel = linux\ninitrd = initrd\nautostart = yes\n"
                f"cmdline = console=ttyS0 quiet\ndisk = lv:godwit/{guest}\n")
        self.ctl("vm", "define", self.file(f"{guest}.conf", text.encode()), "-H", "a")
        self.ctl("vm", "start", guest, "-H", "a")
        self.holds[guest] = 0
        with self.hosts["a"].guest(guest) as g:
            g.ready()
            sh(g, f"(diskcheck /dev/vda {mib} {PER_S} >/tmp/disk 2>&1 & echo $! >/tmp/pid); "
                  "until grep begun /tmp/disk; do usleep 100000; done")

    def verify(self, guest, host):
        """Every block is compared with what the database knows; returns its figures, and lets it go on."""
        self.holds[guest] += 1
        with self.hosts[host].guest(guest) as g:
            text = sh(g, f"read pid </tmp/pid; kill -USR1 $pid; until grep -q holds={self.holds[guest]}$ /tmp/disk; do "
                         "usleep 100000; done; kill -USR1 $pid; tail -n 1 /tmp/disk")
        line = re.search(r"^DISK ok (.*)$", text, re.M)
        assert line, f"the disk of {guest} on {host} is wrong:\n{text}"
        return {k: int(v) for k, v in re.findall(r"(\w+)=(\d+)", line[1])}

    def begin(self, guest, to, *more):
        """A move with disks; returns its number once the disk is being copied."""
        number = int(self.ctl("vm", "migrate", guest, "--to", to, "--with-disks", "--detach", *more)[0].split("/")[1])
        deadline = time.monotonic() + 60
        while not (job := self.job(number)).get("disks", {}).get("done_bytes", 0):
            assert not job["ended"] and time.monotonic() < deadline, job
            time.sleep(0.2)
        return number

    def job(self, number, host="a"):
        return self.json("migration", "show", f"{host}/{number}")

    def failed(self, number, timeout=60):
        """Why the move ended."""
        deadline = time.monotonic() + timeout
        while not (job := self.job(number))["ended"]:
            assert time.monotonic() < deadline, job
            time.sleep(0.3)
        assert job["state"] == "failed", job
        return job["error"]["message"]

    def volumes(self, host):
        return sorted(v["name"] for v in self.json("volume", "list", "-H", host)["volumes"]
                      if not v["name"].startswith(("file.", "part.", "godwit-", "godwit_")))

    def wait_volumes(self, want):
        deadline = time.monotonic() + 60
        while (found := {host: self.volumes(host) for host in want}) != want:
            assert time.monotonic() < deadline, (found, want, [h.log()[-1500:] for h in self.hosts.values()])
            time.sleep(0.5)

    def lose_power(self, name):
        self.hosts[name].kill()
        self.hosts[name].boot(wait=False)
        self.hosts[name].wait_prompt()
        self.hosts[name].wait_log("registry: volume group godwit")


def test_what_ends_early_leaves_nothing(own):
    pair = Pair(own)
    pair.stores()
    pair.database("db")
    runs_on = {"a": ["db"], "b": []}

    free = pair.json("store", "list", "-H", "b")["stores"][0]["free_bytes"] // MIB
    pair.ctl("volume", "create", "filler", f"{free - 8}M", "-H", "b")
    said = pair.ctl("vm", "migrate", "db", "--to", "b", "--with-disks", code=None)[1]
    assert re.search(r"the guest's disks need 12 MiB in the store godwit here, where \d MiB are free", said), said
    pair.ctl("volume", "delete", "filler", "--yes", "-H", "b")

    number = pair.begin("db", "b", *SLOW)
    pair.ctl("migration", "cancel", f"a/{number}")
    assert "cancel" in pair.failed(number)
    pair.wait_volumes(runs_on)
    before = pair.verify("db", "a")

    number = pair.begin("db", "b", *SLOW)
    pair.lose_power("b")
    print("        power cut at the destination:", pair.failed(number))
    pair.wait_volumes(runs_on)
    time.sleep(4)                                       # it writes on, and as often as before
    after = pair.verify("db", "a")
    assert after["writes"] > before["writes"] + 2 * PER_S, (before, after)
    print(f"        the guest's longest request: {after['slowest_ms']} ms")

    with pair.hosts["a"].guest("db") as g:
        text = sh(g, "read pid </tmp/pid; kill $pid; while [ -d /proc/$pid ]; do usleep 100000; done; tail -n 1 "
                     "/tmp/disk; sha256sum /dev/vda")
    assert "DISK ok" in text, text
    pair.ctl("vm", "migrate", "db", "--to", "b", "--with-disks")
    pair.lose_power("b")
    pair.wait_volumes({"a": [], "b": ["db"]})
    pair.wait_where({"db": [("b", "running")]})
    with pair.hosts["b"].guest("db") as g:
        g.ready()
        assert re.search(r"^[0-9a-f]{64}", text, re.M)[0] in sh(g, "sha256sum /dev/vda"), "its disk is another one"
