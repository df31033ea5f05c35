# SPDX-License-Identifier: BSD-2-Clause
"""`make soak`: a guest of 2 vCPUs with a disk and network traffic moves back and forth SOAK_MOVES times (50), and after
each move all of it is verified.

memory    every word of the buffer that the guest has been writing all along (tests/guest/dirtier.c)
disk      a write load goes on during each move; then the guest reads all of its disk back, and what it wrote is
          compared with the NBD server's file
network   one TCP connection from the guest to this machine carries random bytes there and back all the time, a second
          one a shell, a third one what the disk's load says: they live through all moves, and every byte is right
clocks    by how much has the move put the guest's monotonic and wall clock forward or back, measured whatever the
          delays (guest_clock.py)?  Less than its blackout + 10 ms; and all moves together less than the longest
          blackout + 10 ms, so that nothing adds up.  Neither ever steps back.  Host b's own clock is an hour ahead
host      the one that the guest has left has all of its memory back

Memory and disk are verified at the same time, and the clocks with the records that went there and back meanwhile.  The
guest forks nothing and prints nothing that nobody asked for: each host's CPUs take turns on one of this machine's, so
both cost it whole seconds.

The first failure ends it, and says how things stand.  The figures are printed in any case.
"""
import os
import re
import socket
import statistics
import time

import guest_clock
from emulator import SYSTEM, Died, Timeout
from host import RUNS, Lan, clock_ahead, vm
from nbd import sum_of
from test_nbd import MIB, server
from test_virtio import FILES, guest_vm, sh

SAMPLES = 100  # records that go there and back between two moves, at least: a guest's stay is some seconds
LEAK_KIB = 4096
STATE = os.path.join(SYSTEM, "soak-state.txt")


class Program:
    """A program in the guest whose input and output is a TCP connection that the guest has opened."""

    def __init__(self, name):
        self.name, self.listener = name, socket.create_server(("127.0.0.1", 0))
        self.command = f"nc {Lan.GATEWAY} {self.listener.getsockname()[1]} -e {name}"

    def accept(self, timeout=30):
        self.listener.settimeout(timeout)
        self.connection = self.listener.accept()[0]
        self.stream = self.connection.makefile("r", encoding="latin-1")

    def say(self, line):
        try:
            self.connection.sendall(f"{line}\n".encode())
        except OSError as error:
            raise AssertionError(f"the guest's `{self.name}` cannot be told `{line}` over TCP: {error}") from error

    def expect(self, pattern, timeout=60):
        """Reads lines until one matches; returns the match and the lines before it."""
        before = []
        self.connection.settimeout(timeout)
        try:
            while True:
                line = self.stream.readline()
                assert line, f"the guest closed the connection of `{self.name}`, which had said:\n{''.join(before)}"
                found = re.match(pattern, line)
                if found:
                    return found, "".join(before)
                before.append(line)
        except OSError as error:
            raise AssertionError(f"the guest's `{self.name}` over TCP: {error}; it had "
                                 f"said:\n{''.join(before)}") from error


class Soak:
    def __init__(self, own):
        self.nbd, self.mirror, link = server("soak", "qemu-nbd"), guest_clock.Mirror(), Lan()
        self.shell, self.load = Program("sh"), Program(f"diskcheck /dev/vda {MIB}")
        guest = guest_vm(11, cpus=2, nic="yes", disk=self.nbd.disk)
        both = {"files": FILES, "cpus": 3, "host_keys": {"disk-servers": "0.0.0.0/0"}, "limit_s": 14400}
        self.a = own("a", link, vms={"guest": guest}, peers=["b"], **both)
        self.b = own("b", link, vms={"clock": vm(memory="128M")}, peers=["a"], extra=clock_ahead(guest_clock.AHEAD_S),
                     **both)
        for host, cpu in zip((self.a, self.b), sorted(os.sched_getaffinity(0))):
            guest_clock.keep_on_cpu(host, cpu)
        self.at, self.to = self.a, self.b
        self.empty_kib, self.holds, self.writes = {}, 0, 0
        self.moves = []  # of each: {"blackout": ms, "total": s, "checked": s with all its checks}

    def begin(self):
        self.show_that_b_is_ahead()
        with self.a.guest("guest") as g:
            g.ready()
            sh(g, f"({self.shell.command} &)")
            self.shell.accept()
            self.shell.say(f"mirror {Lan.GATEWAY} {self.mirror.port} >/tmp/mirror 2>&1 &")
            self.shell.say(f"{self.load.command} & load=$!")
            self.load.accept()
            self.load.expect("DISK begun")
            g.send("dirtier 16 500")
            g.expect(r"^dirtier ready ", 60)
            g.ask("every 0", "^every 0\n")
        self.khz = guest_clock.tsc_khz(self.a)
        self.verify(self.a)
        # samples of the guest's clocks since it came to where it is
        self.first_stay = self.stay = self.mirror.known_since(0, SAMPLES, self.khz)

    def show_that_b_is_ahead(self):
        with self.b.guest("clock") as g:
            g.ready()
            ahead = int(re.search(r"^(\d+)$", sh(g, "date +%s"), re.M)[1]) - time.time()
        assert abs(ahead - guest_clock.AHEAD_S) < 60, (
            f"host b's clock is {ahead:.0f} s ahead, which should be {guest_clock.AHEAD_S} s: then this check says "
            "nothing")
        self.b.command("vm stop clock")

    # -- one move
    def move(self):
        began, begun = time.monotonic(), len(self.mirror.samples)
        report = self.at.migrate("guest", self.to.name)
        self.at, self.to = self.to, self.at
        blackout_ms, total_s = report.number("blackout_ms"), report.number("total_ms") / 1000
        self.moves.append({"blackout": blackout_ms, "total": total_s})
        ended = len(self.mirror.samples) + 1                    # one may be under way
        done = self.verify(self.at)
        now = self.mirror.known_since(ended, SAMPLES, self.khz)
        stepped = guest_clock.check_step(f"move {len(self.moves)}", self.stay, now, blackout_ms, self.khz)
        self.stay = now
        answers = [after for _, _, _, after in self.mirror.samples[begun - 1:ended + 1]]
        silence = max(later - earlier for earlier, later in zip(answers, answers[1:])) / self.khz
        self.moves[-1]["checked"] = time.monotonic() - began
        print(f"        move {len(self.moves):2} to {self.at.name}: blackout {blackout_ms:5.1f} ms, total "
              f"{total_s:4.1f} s, network silent for {silence:3.0f} ms; "
              f"clock {stepped} by {len(now)} samples, {done}; {self.moves[-1]['checked']:.1f} s with all checks",
              flush=True)

    def check_all_moves(self):
        """What all moves together have done to the clocks, for people."""
        return guest_clock.check_step(f"{len(self.moves)} moves", self.first_stay, self.stay,
                                      max(m["blackout"] for m in self.moves), self.khz)

    def verify(self, host):
        """Memory, disk, network and the other host's memory.  Returns what was compared, for people."""
        other = self.b if host is self.a else self.a
        assert host.has_vm("guest") and not other.has_vm("guest"), f"the guest should run on {host.name} only"
        with host.guest("guest") as g:
            start = g.verify_begin()
            blocks, writes = self.verify_disk()
            words = g.verify_end(start)
            back = g.clock_steps_back()
        assert back == (0, 0), f"so often has the guest's (monotonic, wall) clock stepped back: {back}"
        self.mirror.alive()
        free = other.free_kib()
        lost = self.empty_kib.setdefault(other, free) - free
        assert lost < LEAK_KIB, f"host {other.name} without the guest has {lost} KiB less than the first time"
        return f"{words} words, {blocks} blocks of {writes} writes"

    def verify_disk(self):
        """The load stands still, all of the disk is compared, the load goes on.  Returns (blocks that were written,
        writes since the last time)."""
        self.holds += 1
        self.shell.say("kill -USR1 $load")
        line, before = self.load.expect(r"DISK (ok|FAILED) (.*)")
        assert line[1] == "ok", f"the guest's disk is wrong:\n{before}{line[0]}"
        figures = {k: int(v) for k, v in re.findall(r"(\w+)=(\d+)", line[2])}
        assert figures["holds"] == self.holds, (
            f"the disk's load has stood still {figures['holds']} times, was asked to {self.holds} times")
        blocks = self.nbd.blocks()
        assert sum_of(blocks) == figures["sum"], f"the server's file is not what the guest wrote: {figures}"
        self.shell.say("kill -USR1 $load")
        writes, self.writes = figures["writes"] - self.writes, figures["writes"]
        assert writes > 0, f"the guest wrote nothing to its disk since the last time: {figures}"
        return len(blocks), writes

    # -- for people
    def summary(self):
        if not self.moves:
            return "        no move was made"
        lines = [f"        {len(self.moves)} moves          min     median        max"]
        for name, unit in ("blackout", "ms"), ("total", "s"), ("checked", "s"):
            values = [m[name] for m in self.moves if name in m] or [float("nan")]
            lines.append(f"        {name + ', ' + unit:<14}" +
                         "".join(f"{f(values):11.1f}" for f in (min, statistics.median, max)))
        return "\n".join(lines)

    def state_of_affairs(self):
        """Everything into the file STATE.  Returns the least of it."""
        said = []
        with open(STATE, "w", encoding="utf-8") as f:
            for host in (self.a, self.b):
                said += [f"host {host.name}: " + answer(host, "vm list").replace("\n", "\n        ")]
                f.write(f"host {host.name}\n{said[-1]}\n{answer(host, 'vm inspect guest')}\n"
                        f"{answer(host, 'migrate report')}\n{host.machine.dump()}\n"
                        f"log:\n{host.log()}\nconsole:\n{host.serial.text[-20000:]}\n")
        said += [f"guest's records: {len(self.mirror.samples)}, {self.mirror.error or 'connection open'}",
                 f"NBD server: {'runs' if self.nbd.process.poll() is None else 'has ended'}",
                 f"more in {STATE}; hosts' files in {RUNS}"]
        return "\n".join(said)


def answer(host, line):
    if not host.machine.alive():
        return f"{line}: the emulator has ended"
    host.serial.send("\x1d")                                    # if we were at the guest's console
    host.serial.settle()
    try:
        return host.command(line, 5)
    except (Timeout, Died) as error:
        return f"{line}: {str(error).splitlines()[0]}"


def test_soak(own):
    """The first failure, also a hang, ends it: nothing is tried again here."""
    soak, wanted = Soak(own), int(os.environ.get("SOAK_MOVES", "50"))
    try:
        soak.begin()
        for _ in range(wanted):
            soak.move()
        print(f"        clock after all moves: {soak.check_all_moves()}")
    except (AssertionError, Died, Timeout) as error:
        raise AssertionError(f"after {len(soak.moves)} of {wanted} moves: "
                             f"{error}\n{soak.state_of_affairs()}") from error
    finally:
        print(soak.summary(), flush=True)
        soak.mirror.close()
