# SPDX-License-Identifier: BSD-2-Clause
"""`make soak`: a guest of 2 vCPUs with a disk and network traffic moves back and forth SOAK_MOVES times (50), and after each move all of it is verified.

memory    every word of the buffer that the guest has been writing all along (tests/guest/dirtier.c)
disk      a write load goes on during each move; then the guest reads all of its disk back, and what it wrote is compared with the NBD server's file
network   one TCP connection from the guest to this machine carries random bytes there and back all the time, a second one a shell:
          both live through all moves, and every byte is right
clocks    by how much has the move put the guest's monotonic and wall clock forward or back, measured whatever the delays (guest_clock.py)?  Less than
          its blackout + 10 ms; and all moves together less than the longest blackout + 10 ms, so that nothing adds up.  Neither ever steps back.
          Host b's own clock is an hour ahead
host      the one that the guest has left has all of its memory back

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
from test_nbd import MIB, begin, server
from test_virtio import FILES, guest_vm, sh

AHEAD_S = 3600                  # host b's clock
CLOCK_MS = 10                   # on top of the blackout
SAMPLES = 100                   # exchanges (2 s) at least, from which the clocks before or after a move are known
LEAK_KIB = 4096
STATE = os.path.join(SYSTEM, "soak-state.txt")


class Shell:
    """A shell in the guest over a TCP connection that the guest has opened."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]

    def accept(self, timeout=30):
        self.listener.settimeout(timeout)
        self.connection = self.listener.accept()[0]
        self.stream = self.connection.makefile("r", encoding="latin-1")

    def ask(self, line, timeout=60):
        """Returns what the line prints."""
        self.connection.settimeout(timeout)
        lines = []
        try:
            self.connection.sendall(f"{line}; echo END\n".encode())
            while not lines or lines[-1] != "END\n":
                lines.append(self.stream.readline())
                assert lines[-1], f"the guest closed the connection of its shell at: {line}"
        except OSError as error:
            raise AssertionError(f"the guest's shell, asked `{line}` over TCP: {error}") from error
        return "".join(lines[:-1])


class Soak:
    def __init__(self, own):
        self.nbd, self.mirror, self.shell, link = server("soak", "qemu-nbd"), guest_clock.Mirror(), Shell(), Lan()
        guest = guest_vm(11, cpus=2, nic="yes", disk=self.nbd.disk)
        both = {"files": FILES, "cpus": 3, "limit_s": 14400}
        self.a = own("a", link, vms={"guest": guest}, peers=["b"], **both)
        self.b = own("b", link, vms={"clock": vm(memory="128M")}, peers=["a"], extra=clock_ahead(AHEAD_S), **both)
        for host, cpu in zip((self.a, self.b), sorted(os.sched_getaffinity(0))):
            guest_clock.keep_on_cpu(host, cpu)
        self.at, self.to = self.a, self.b
        self.empty_kib, self.holds, self.writes = {}, 0, 0
        self.moves = []                                         # of each: {"blackout": ms, "total": s}

    def begin(self):
        self.show_that_b_is_ahead()
        begin(self.a)                                           # the load on the disk
        with self.a.guest("guest") as g:
            sh(g, f"(mirror {Lan.GATEWAY} {self.mirror.port} >/tmp/mirror 2>&1 &); (nc {Lan.GATEWAY} {self.shell.port} -e sh &)")
            self.shell.accept()
            g.send("dirtier 16 500")
            g.expect(r"^dirtier ready ", 60)
        self.khz = guest_clock.tsc_khz(self.a)
        self.verify(self.a)
        self.calm = self.first_calm = self.mirror.since(0, SAMPLES)[-SAMPLES:]

    def show_that_b_is_ahead(self):
        with self.b.guest("clock") as g:
            g.ready()
            ahead = int(re.search(r"^(\d+)$", sh(g, "date +%s"), re.M)[1]) - time.time()
        assert abs(ahead - AHEAD_S) < 60, f"host b's clock is {ahead:.0f} s ahead, which should be {AHEAD_S} s: then this check says nothing"
        self.b.command("vm stop clock")

    # -- one move
    def move(self):
        begun = len(self.mirror.samples)
        report = self.at.migrate("guest", self.to.name)
        self.at, self.to = self.to, self.at
        self.moves.append({"blackout": report.number("blackout_ms"), "total": report.number("total_ms") / 1000})
        ended = len(self.mirror.samples) + 1                    # one may be under way
        now = self.mirror.since(ended, SAMPLES)
        answers = [after for _, _, _, after in self.mirror.samples[begun - 1:]]
        silence = max(later - earlier for earlier, later in zip(answers, answers[1:])) / self.khz
        stepped = self.check_clocks(f"move {len(self.moves)}", self.calm, now, report.number("blackout_ms"))
        done = self.verify(self.at)
        self.calm = self.mirror.since(ended, SAMPLES)[-SAMPLES:]
        print(f"        move {len(self.moves):2} to {self.at.name}: blackout {report.number('blackout_ms'):5.1f} ms, total {self.moves[-1]['total']:4.1f} s, "
              f"network silent for {silence:3.0f} ms; clock {stepped}, {done}", flush=True)

    def check_clocks(self, what, before, after, blackout_ms):
        """Returns what is known of the clocks' steps between two sets of samples, for people."""
        said, limit = [], blackout_ms + CLOCK_MS
        before, after = guest_clock.clocks(before), guest_clock.clocks(after)
        for name in before:
            least, most = guest_clock.step_ms(before[name], after[name], self.khz)
            assert -limit < least and most < limit, f"{what} put the guest's {name} clock forward by {least:.2f} to {most:.2f} ms; {limit:.1f} ms are the limit"
            said.append(f"{least:+.1f} to {most:+.1f} ms")
        return said[0] if said[0] == said[1] else "; wall clock ".join(said)

    def check_all_moves(self):
        """What all moves together have done to the clocks, for people."""
        last = self.mirror.since(len(self.mirror.samples), SAMPLES)
        return self.check_clocks(f"{len(self.moves)} moves", self.first_calm, last, max(m["blackout"] for m in self.moves))

    def verify(self, host):
        """Memory, disk, network and the other host's memory.  Returns what was compared, for people."""
        other = self.b if host is self.a else self.a
        assert host.has_vm("guest") and not other.has_vm("guest"), f"the guest should run on {host.name} only"
        with host.guest("guest") as g:
            assert all(t["backwards"] is None for t in g.ticks(2)), "a clock in the guest stepped back"
            words = g.verify()
        writes, blocks = self.verify_disk()
        self.mirror.alive()
        free = other.free_kib()
        lost = self.empty_kib.setdefault(other, free) - free
        assert lost < LEAK_KIB, f"host {other.name} without the guest has {lost} KiB less than the first time"
        return f"{words} words, {blocks} blocks of {writes} writes, {len(self.mirror.samples)} records"

    def verify_disk(self):
        """The load stands still, all of the disk is compared, the load goes on.  Returns (writes since the last time, blocks that were written)."""
        self.holds += 1
        text = self.shell.ask("kill -USR1 $(cat /tmp/pid); n=0; "
                              f"until grep -e FAILED -e 'holds={self.holds}$' /tmp/disk || [ $n = 600 ]; do usleep 50000; n=$((n+1)); done; tail -n 5 /tmp/disk", 90)
        line = re.search(r"^DISK ok (.*)$", text, re.M)
        assert line, f"the guest's disk is wrong, or it does not stand still when asked:\n{text}"
        figures = {k: int(v) for k, v in re.findall(r"(\w+)=(\d+)", line[1])}
        blocks = self.nbd.blocks()
        assert self.nbd.sum() == figures["sum"], f"the server's file is not what the guest wrote: {figures}"
        self.shell.ask("kill -USR1 $(cat /tmp/pid)")
        writes, self.writes = figures["writes"] - self.writes, figures["writes"]
        assert writes > 0, f"the guest wrote nothing to its disk since the last time: {figures}"
        return writes, len(blocks)

    # -- for people
    def summary(self):
        if not self.moves:
            return "        no move was made"
        lines = [f"        {len(self.moves)} moves          min     median        max"]
        for name, unit in ("blackout", "ms"), ("total", "s"):
            values = [m[name] for m in self.moves]
            lines.append(f"        {name + ', ' + unit:<14}" + "".join(f"{f(values):11.1f}" for f in (min, statistics.median, max)))
        return "\n".join(lines)

    def state_of_affairs(self):
        """Everything into the file STATE.  Returns the least of it."""
        said = []
        with open(STATE, "w", encoding="utf-8") as f:
            for host in (self.a, self.b):
                said += [f"host {host.name}: " + answer(host, "vm list").replace("\n", "\n        ")]
                f.write(f"host {host.name}\n{said[-1]}\n{answer(host, 'vm inspect guest')}\n{answer(host, 'migrate report')}\n{host.machine.dump()}\n"
                        f"log:\n{host.log()}\nconsole:\n{host.serial.text[-20000:]}\n")
        said += [f"guest's records: {len(self.mirror.samples)}, {self.mirror.error or 'connection open'}",
                 f"NBD server: {'runs' if self.nbd.process.poll() is None else 'has ended'}", f"more in {STATE}; hosts' files in {RUNS}"]
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
        raise AssertionError(f"after {len(soak.moves)} of {wanted} moves: {error}\n{soak.state_of_affairs()}") from error
    finally:
        print(soak.summary(), flush=True)
        soak.mirror.close()
