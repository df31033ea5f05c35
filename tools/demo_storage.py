# SPDX-License-Identifier: BSD-2-Clause
"""tools/demo_storage.py - `make demo STORAGE=1`: a Debian moves there and back with its disk of 1 GiB, while a database
in it writes and a client outside is logged in.

Host a has its store on NVMe, host b on AHCI, and neither any server: the operator outside makes the stores, imports the
image and moves the guest, all by godwitctl.  The database is tests/guest/diskcheck.c: it knows what each of its blocks
must contain, and compares all of them with the disk after each move.  The rest is as in tools/demo_debian.py.
"""
import os
import re
import subprocess
import sys
import time

import demo_debian
import demo_timeline
import outside
from demo_debian import CMDLINE, MEMORY, guest_file
from demo_show import Failure, boot, power_off, step, tell
from emulator import BUILD, SLOWNESS
from fixtures import Clients
from host import Host, Report

FOLDER = os.path.join(BUILD, "demo")
GIB, MB = 1 << 30, 1e6
STORE_GIB, DB_MIB, DB_RATE = 2, 128, 50
RATE = 75_000                                  # bytes/s of the transfer: these moves take longer
PROGRAM = os.path.join(BUILD, "guest", "payload")
DEVICES = {"a": ["nvme,drive=store0,serial=godwit"],
           "b": ["ich9-ahci,id=sata", "ide-hd,drive=store0,bus=sata.0,serial=godwit"]}
DEFINITION = f"""[vm debian]
memory = {MEMORY}
cpus = 2
kernel = vmlinuz
initrd = initrd.img
cmdline = {CMDLINE}
nic = yes
disk = lv:godwit/debian
"""


class Operator:
    """Both hosts by godwitctl; what it shows is shown here."""

    def __init__(self, hosts):
        self.clients = Clients(hosts)

    def run(self, *words):
        tell(f"   $ godwitctl {' '.join(os.path.relpath(w) if os.path.isabs(w) else w for w in words)}")
        done = subprocess.run([Clients.GODWITCTL, "--config", self.clients.config("operator"), *words],
                              stdin=subprocess.DEVNULL, check=False, timeout=900 * SLOWNESS)
        sys.stdout.flush()
        if done.returncode:
            raise Failure(f"godwitctl {words[0]} {words[1]} ended with {done.returncode}")

    def json(self, *words):
        return self.clients.json(*words)

    def stores(self):
        """A store on each host's disk; a's has the guest's volume and files."""
        for disk in self.json("disk", "list")["disks"]:
            if disk["serial"] == "godwit":
                self.run("store", "create", disk["host"], disk["name"], "--yes")
        conf = os.path.join(FOLDER, "debian.conf")
        with open(conf, "w", encoding="utf-8") as f:
            f.write(DEFINITION)
        for name in ("vmlinuz", "initrd.img"):
            self.run("file", "put", guest_file(name), "-H", "a")
        self.run("volume", "import", guest_file("disk.img"), "debian", "--raw", "-H", "a")
        self.run("vm", "define", conf, "-H", "a")

    def volumes(self, host):
        return [v["name"] for v in self.json("volume", "list", "-H", host)["volumes"] if v["name"].startswith("debian")]


class Database:
    """diskcheck on a file of the guest's disk, as a unit of its systemd."""
    UNIT = "systemd-run -q --unit=godwit-db -p StandardOutput=file:/run/db /usr/local/sbin/diskcheck /srv/db"

    def __init__(self, client):
        self.client, self.holds = client, 0
        with open(PROGRAM, "rb") as program:
            subprocess.run([*client.ssh.command, "cat >/usr/local/sbin/diskcheck; chmod +x /usr/local/sbin/diskcheck"],
                           stdin=program, check=True, timeout=60 * SLOWNESS)
        client.ask(f"fallocate -l {DB_MIB}M /srv/db; {self.UNIT} {DB_MIB} {DB_RATE}")
        self.wait("DISK begun")
        tell(f"   a database of {DB_MIB} MiB: every block was written, {DB_RATE} blocks of 16 KiB a second are written "
             "again from now on, each with its number and generation")

    def wait(self, pattern):
        deadline = time.monotonic() + 180 * SLOWNESS
        while time.monotonic() < deadline:
            found = re.search(pattern, text := self.client.ask("cat /run/db"))
            if found:
                return found
            time.sleep(1)
        raise Failure(f"the database does not say {pattern}:\n{text}")

    def verify(self, where):
        """All blocks are read from the disk, and compared; then it goes on."""
        self.holds += 1
        self.client.ask("systemctl kill -s USR1 godwit-db")
        said = self.wait(rf"DISK (ok|FAILED) writes=(\d+) .* slowest_ms=(\d+) bad=(\d+) .* holds={self.holds}\n?")
        if said[1] != "ok":
            raise Failure(f"the database is wrong on {where}:\n{self.client.ask('cat /run/db')}")
        self.client.ask("systemctl kill -s USR1 godwit-db")
        tell(f"   {where}: all {DB_MIB * 64} blocks of the database are right; generation {said[2]}, its longest "
             f"request so far took {said[3]} ms")


def move(operator, database, src, dst):
    step(f"{src.name} -> {dst.name}: the guest moves with its disk; first the disk is copied, then its memory")
    operator.run("vm", "migrate", "debian", "--to", dst.name, "--with-disks")
    report = Report(src.command("migrate report"))
    tell("   Report:")
    tell("\n".join(f"      {line}" for line in report.text.splitlines()))
    tell("   Timeline of the memory:")
    tell(demo_timeline.text(report))
    return report


def prove_place(operator, src, dst):
    """The volume is at one place only; the source deletes its own after the move."""
    deadline = time.monotonic() + 60 * SLOWNESS
    while (found := (operator.volumes(src.name), operator.volumes(dst.name))) != ([], ["debian"]):
        if time.monotonic() > deadline:
            raise Failure(f"volumes after the move to {dst.name}: {found}")
        time.sleep(0.5)
    tell(f"   The disk is on {dst.name} only; {src.name} has deleted its volume.")


def bytes_of(report):
    """{"disk": "...", ...}: cells of the table."""
    disk, written, wire = (int(n) for n in re.findall(r"(?:^|written |wire )(\d+)", report["disk_bytes"]))
    total = report.number("wire_bytes")
    memory = report.number("stream_bytes") - wire
    return {"total": f"{report.number('total_ms') / 1000:.1f} s", "sync": f"{int(in_sync(report)) / 1000:.1f} s",
            "disk": f"{written / MB:.0f} of {disk / MB:.0f} MB", "disk_wire": f"{wire / MB:.0f} MB",
            "memory_wire": f"{memory / MB:.0f} MB", "wire": f"{total / MB:.0f} MB"}


def in_sync(report):
    return re.search(r"in_sync_ms: (\d+)", report["disk_bytes"])[1]


ROWS = [("total", "{total}"), ("disk in sync", "{sync}"), ("disk not zero", "{disk}"), ("  on the wire", "{disk_wire}"),
        ("memory on wire", "{memory_wire}"), ("wire with TLS", "{wire}")]


def demo():
    """Returns the moves, [(title, Report)]."""
    link = outside.Bridge()
    hosts = []
    for name, other in ("ab", "ba"):
        disk = os.path.join(FOLDER, f"{name}.disk")
        with open(disk, "wb") as f:
            f.truncate(STORE_GIB * GIB)
        extra = ["-drive", f"file={disk},if=none,id=store0,format=raw,discard=unmap",
                 *(arg for device in DEVICES[name] for arg in ("-device", device))]
        hosts.append(Host(name, link, peers=[other], clients=Clients.ROLES, extra=extra, tag="demo"))
    step("Two machines boot Godwit from UEFI (AMD-V emulated by QEMU, 2 CPUs and 1.5 GiB each); a has an NVMe disk, b "
         "an AHCI disk, both empty")
    a, b = boot(*hosts)
    step(f"The operator outside, {outside.ADDRESS}: stores, and the guest's volume from an image")
    operator = Operator(hosts)
    operator.stores()
    demo_debian.start(a)
    step(f"A client outside: this machine, {outside.ADDRESS} on that network")
    client = demo_debian.Client(RATE)
    database = Database(client)

    def mover(src, dst):
        report = move(operator, database, src, dst)
        prove_place(operator, src, dst)
        return report
    moves, columns = demo_debian.there_and_back(a, b, client, mover)
    for column in columns:
        column.update(bytes_of(column["report"]) if column["report"] else dict.fromkeys(
            ("total", "sync", "disk", "disk_wire", "memory_wire", "wire"), "-"))
    step("What the client outside saw")
    demo_debian.show(columns, *client.prove(), ROWS)
    database.verify("a")
    client.session.end()
    power_off((a, b))
    tell("\nA Debian moved twice with its disk, and the client that was logged in lost nothing.")
    return moves
