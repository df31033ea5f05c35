# SPDX-License-Identifier: BSD-2-Clause
"""tools/demo_debian.py - `make demo GUEST=debian`: a Debian with systemd, sshd and a workload moves there and back
while a client outside is logged in.

Two emulated hosts are ports of a Linux bridge; this machine is a third one on that network (tests/system/outside.py),
with the disk server, a login that stays, a TCP transfer, and a ping each 10 ms.  The guest's disk is made by
tools/mkdebian.
"""
import os
import secrets
import time

import outside
from demo_show import Failure, boot, move, power_off, step, tell
from emulator import BUILD, CpuWaits
from host import Host, vm

FOLDER = os.path.join(BUILD, "debian")
ADDRESS, FILE_PORT = "10.7.0.50", 7000          # as in tests/guest/debian
MEMORY = "384M"
# norandmaps: QEMU translates a shared library again for each address that a process has it at, and overwriting a page
# with ten thousand translations, as the host does that gets the guest back, takes it seconds (docs/emulators.md)
CMDLINE = "console=ttyS0 root=/dev/vda rw quiet norandmaps"
LOGIN_S = 300                                   # a busy machine; some 40 s on an idle one
RATE = 400_000  # bytes/s of the transfer while the guest moves: 32 MiB are enough for a minute and a half
CALM_S = 5                                      # pings before the first move, to compare with, and around each
MOST_SILENCE_MS = 2000                          # longer than this and a person or a monitor outside would have noticed

NO_INTEL = ("GUEST=debian is for VENDOR=amd.  Bochs, which emulates VT-x, is 13 times slower than QEMU (a small Linux "
            "in a guest is up after 35 s, not 2.7 s), and its "
            "network card receives 1.2 MB/s: this Debian would need some six minutes to its prompt and a minute for "
            "each login.  VENDOR=intel moves a smaller Linux")


def guest_file(name):
    return os.path.join(FOLDER, name)


def prepare(vendor):
    """Returns in a network namespace that has the bridge; Missing if this cannot run here."""
    if vendor != "amd":
        raise outside.Missing(NO_INTEL)
    if not os.path.exists(guest_file("disk.img")):
        raise outside.Missing(f"there is no {guest_file('disk.img')}: run make demo GUEST=debian, or tools/mkdebian "
                              f"{FOLDER}")
    outside.enter()


def contents(name):
    with open(guest_file(name), encoding="utf-8") as f:
        return f.read().strip()


class Client:
    """The machine outside: logged in, fetching, and later pinging."""

    def __init__(self, rate=RATE):
        self.ssh = outside.Ssh(ADDRESS, guest_file("client_key"), guest_file("known_hosts"))
        began = time.monotonic()
        self.session = outside.Session(self.ssh)
        tell(f"   logged in by ssh within {time.monotonic() - began:.1f} s; in that session a program counts, ten "
             "times a second")
        self.boot_id = self.ask("cat /proc/sys/kernel/random/boot_id")
        facts = self.ask("uname -srv; nproc; cat /proc/1/comm; findmnt -no SOURCE,FSTYPE /; systemctl "
                         "is-system-running --wait || systemctl --failed")
        tell("\n".join(f"      | {line}" for line in facts.splitlines()))
        if not facts.endswith("running"):
            raise Failure("systemd is not content with the guest, see above")
        self.rounds = self.work()
        self.fetch = outside.Fetch(ADDRESS, FILE_PORT, rate)
        tell("   and it began to fetch a file of 32 MiB over another TCP connection")

    def ask(self, line):
        return self.ssh.ask(line)

    def work(self):
        """Rounds that the workload has done; it must be running."""
        state, rounds = self.ask("systemctl is-active godwit-work; cat /run/godwit-work || echo none").split()
        if state != "active":
            raise Failure(f"the guest's workload is {state}:\n{self.ask('journalctl -u godwit-work -n 5 --no-pager')}")
        return int(rounds)

    def prove(self):
        """After the moves: everything that was there is there and goes on.  Returns the session's counts and the file's
        size."""
        self.session.prove_alive(secrets.token_hex(8))
        counts = self.session.counts()
        size, found = self.fetch.finish(120)
        if found != contents("file.sha256"):
            raise Failure(f"the file came with {size} bytes and another checksum: {found}, not "
                          f"{contents('file.sha256')}")
        if self.ask("cat /proc/sys/kernel/random/boot_id") != self.boot_id:
            raise Failure("the guest was booted again")
        rounds = self.work()
        if rounds <= self.rounds:
            raise Failure(f"the guest's workload stands still after {rounds} rounds")
        tell(f"   A new login works, the guest was not booted again, its workload went from round {self.rounds} to "
             f"{rounds} and found every file right.")
        return counts, size


def start(a):
    step("Host a starts the guest: Debian's kernel, initramfs and userland from the disk, "
         f"{MEMORY.replace('M', ' MiB')}, 2 CPUs")
    began = time.monotonic()
    a.command("vm start debian")
    with a.guest("debian") as guest:
        guest.expect(r"^debian login:", LOGIN_S)
    tell(f"   systemd is up: login prompt after {time.monotonic() - began:.0f} s")


def pinged(what, act):
    """Call act(), with a ping each 10 ms before, during and after; returns its result and what the pings say."""
    pings = outside.Pings(ADDRESS)
    with CpuWaits() as waits:
        time.sleep(CALM_S)
        result = act()
        time.sleep(CALM_S)
    return result, {"what": what, "waits_ms": waits.longest_ms, **pings.end()}


def there_and_back(a, b, client, mover):
    """mover(src, dst): moves the guest, and returns the report."""
    _, calm = pinged("no move", lambda: None)
    moves, columns = [], [{**calm, "blackout": "-", "report": None}]
    for src, dst in ((a, b), (b, a)):
        had = client.fetch.bytes
        report, column = pinged(f"{src.name} -> {dst.name}", lambda src=src, dst=dst: mover(src, dst))
        if client.fetch.done or client.fetch.bytes == had:
            raise Failure("the TCP transfer did not go on during the move, so it proves nothing: " +
                          ("it was over" if client.fetch.done else "no byte came"))
        moves.append((column["what"], report))
        columns.append({**column, "blackout": f"{report.number('blackout_ms'):.1f} ms", "report": report})
    return moves, columns


def show(columns, counts, size, more=()):
    """more: further rows, (title, format)"""
    gap = outside.longest_gap([t for t, _ in counts])
    tell(f"\n   SSH session      alive: one session over both moves, {len(counts)} counts, none missing, longest pause "
         f"{gap * 1000:.0f} ms (100 ms are the rule)")
    tell(f"   TCP transfer     complete: {size} bytes in one connection, SHA-256 matches")
    rows = [("", "{what}"), ("pings lost", "{lost} of {sent}"), ("longest silence", "{silence_ms:.0f} ms"),
            ("guest blackout", "{blackout}"),
            *more, ("this machine", "{waits_ms:.0f} ms")]
    for title, cell in rows:
        tell(f"   {title:<16} " + "".join(f"{cell.format(**c):<18}" for c in columns).rstrip())
    tell("   (this machine: for how long it let a thread of the emulators wait for a CPU, at most)")
    worst = max(c["silence_ms"] for c in columns[1:])
    if worst > MOST_SILENCE_MS:
        raise Failure(f"nothing was heard of the guest for {worst:.0f} ms; {MOST_SILENCE_MS} ms is the most that this "
                      "demo accepts")


def demo():
    """Returns the moves, [(title, Report)]."""
    link, server = outside.Bridge(), outside.DiskServer(guest_file("disk.img"))
    guest = vm(memory=MEMORY, cpus=2, initrd="initrd.img", nic="yes", disk=server.DISK, autostart=False)
    guest["cmdline"] = CMDLINE
    files = {"vmlinuz": guest_file("vmlinuz"), "initrd.img": guest_file("initrd.img"), "initramfs.cpio.gz": None}
    step("Two machines boot Godwit from UEFI (AMD-V emulated by QEMU, 2 CPUs and 1.5 GiB each); their cards are ports "
         "of a Linux bridge")
    a, b = boot(Host("a", link, vms={"debian": guest}, files=files, peers=["b"], tag="demo"),
                Host("b", link, peers=["a"], tag="demo", host_keys={"disk-servers": f"{outside.ADDRESS}/32"}))
    start(a)
    step(f"A client outside: this machine, {outside.ADDRESS} on that network")
    client = Client()
    moves, columns = there_and_back(a, b, client, lambda src, dst: move("debian", src, dst))
    step("What the client outside saw")
    show(columns, *client.prove())
    client.session.end()
    power_off((a, b))
    server.end()
    tell("\nA Debian moved twice, and the client that was logged in lost nothing.")
    return moves
