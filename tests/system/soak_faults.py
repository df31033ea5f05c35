#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Faults injected into migrations between emulated hosts, one after the other; each must end as docs/handoff.md says
(make soak-faults).

usage: soak_faults.py [--vendor amd|intel|all] [--faults N] [--seed N] [--seconds N] [--kinds a,b] [-v]

AMD hosts run in QEMU, Intel hosts in Bochs.  The guest is tests/guest/walker.c, which writes all the time and checks
every word of its memory.  One move in four is a paused one.  Each fault occurs at a progress of the move or at a time,
both from the seed.  Then the hosts are left alone until the move is over, and the outcome is compared with the
documented one: did b run the guest, which host was killed and when.  Killed hosts are booted again, without the guest.
A guest still on a must be as fast as before, its dirty log off, its large pages whole; it continues with the next
fault.  A guest on b is moved back; one lost with its host is started again.

A run ends after N faults, after the given seconds, or at the third emulator that hangs.  A fault takes about 15 s for
AMD and a minute for Intel on an idle machine with two cores.
"""
import argparse
import heapq
import itertools
import os
import random
import re
import signal
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import bochs                                                        # noqa: E402  (needs the path above)
import emulator                                                     # noqa: E402
from bochs import BochsHost, BochsLink                              # noqa: E402
from host import BUILD, Host, SlowLink, vm                          # noqa: E402
from tiny_guest import TICK, read_tick, walker                      # noqa: E402

OUTCOMES = ("on a", "on b", "on a by hand", "lost with its host")
END_S = 150                             # so long after a fault all must be over: the longest timeout is 60 s
NO_LINUX = {"vmlinuz": None, "initramfs.cpio.gz": None}


# ---- links that do what a fault says to each frame ----

class Trouble:
    """What a link does to frames: cut, delay (s), twice (each frame two times), swap (so many frames get two words
    exchanged, which the TCP checksum does not notice, but TLS does)."""

    def __init__(self):
        self.good()

    def good(self):
        self.cut, self.delay, self.twice, self.swap = False, 0.0, False, 0

    def pass_on(self, frame):
        """The frames that go on instead of this one."""
        if self.cut:
            return []
        if self.swap and len(frame) > 1000:
            self.swap -= 1
            n = 400  # within the payload, 16-bit aligned as the checksum sees it
            frame = frame[:n] + frame[n + 64:n + 66] + frame[n + 2:n + 64] + frame[n:n + 2] + frame[n + 66:]
        return [frame, frame] if self.twice else [frame]


class TroubledLink(SlowLink):
    """SlowLink with Trouble, for QEMU."""

    def __init__(self):
        super().__init__()
        self.trouble = Trouble()

    def pass_on(self, name, frame):
        self.delay = self.trouble.delay
        for out in self.trouble.pass_on(frame):
            super().pass_on(name, out)


class TroubledBochsLink(BochsLink):
    """The same for Bochs: datagrams, sent on when they are due."""

    def __init__(self):
        super().__init__()
        self.trouble, self.due, self.count, self.some = Trouble(), [], itertools.count(), threading.Condition()
        threading.Thread(target=self._deliver, daemon=True).start()

    def _relay(self, name):
        while True:
            frame = self.ends[name][0].recv(65536)
            with self.some:
                for out in self.trouble.pass_on(frame):
                    heapq.heappush(self.due, (time.monotonic() + self.trouble.delay, next(self.count), name, out))
                self.some.notify()

    def _deliver(self):
        while True:
            with self.some:
                while not self.due or self.due[0][0] > time.monotonic():
                    self.some.wait(max(self.due[0][0] - time.monotonic(), 0) if self.due else None)
                _, _, name, frame = heapq.heappop(self.due)
            for other, (_, port) in list(self.ends.items()):
                if other != name:
                    try:
                        self.ends[name][0].sendto(frame, ("127.0.0.1", port))
                    except OSError:
                        pass                                    # that host is not there now


# ---- the two hosts ----

class Bed:
    """Hosts a and b, both of one vendor.  History: what was logged by hosts that are gone."""

    def __init__(self, vendor, verbose):
        self.vendor, self.verbose = vendor, verbose
        self.link = TroubledBochsLink() if vendor == "intel" else TroubledLink()
        self.trouble = self.link.trouble
        self.a, self.b = self.made("a"), self.made("b")
        self.a.wait_prompt()
        self.b.wait_prompt()
        self.history, self.kills = {"a": "", "b": ""}, {"a": 0, "b": 0}
        self.cancelled = False                                  # the host has said so
        self.slow = 4 if vendor == "intel" else 1               # how much longer things take
        self.start_guest()

    def made(self, name, **kw):
        ticks = "40000" if self.vendor == "intel" else "1000000"
        # Longer than a blackout on a link with delays may be: the policy shall not give up.
        guest = {**vm(memory="40M", kernel="walker", initrd=None, autostart=False), "cmdline": ticks}
        kw = {"vms": {"guest": guest}, "files": {"walker": walker(), **NO_LINUX},
              "host_keys": {"downtime-limit-ms": "20000"}, "tag": "soak",
              "peers": ["b" if name == "a" else "a"], "limit_s": 14400, **kw}
        host = (BochsHost(name, self.link, **kw) if self.vendor == "intel" else Host(name, self.link, memory_mib=512,
                **kw))
        if self.verbose:
            host.boot(wait=False)
            host.serial.echo = lambda text: sys.stderr.write(text.replace("\n", f"\n{name}| "))
            return host
        return host.boot(wait=False)

    def host(self, name):
        return self.a if name == "a" else self.b

    def kill(self, name):
        self.kills[name] += 1
        self.history[name] += self.host(name).log()
        self.host(name).kill()

    def boot(self, name, **kw):
        host = self.made(name, **kw)
        host.wait_prompt()
        setattr(self, name, host)

    def logs(self, name):
        return self.history[name] + self.host(name).log()

    def start_guest(self):
        self.a.command("vm start guest")
        self.tick(self.a)

    def tick(self, host, n=2):
        """The last of n ticks: the guest runs and its memory is right."""
        with host.guest("guest") as g:
            for _ in range(n):
                tick = read_tick(g.expect(TICK, 30)[0])
        assert tick["bad"] == 0, f"{tick['bad']} words of the guest's memory are wrong: {tick}"
        return tick

    def speed(self, host):
        """Visits per second of the wall clock, over some seconds."""
        with host.guest("guest") as g:
            g.host.serial.mark()
            first, t0 = read_tick(g.expect(TICK, 30)[0]), time.monotonic()
            for _ in range(12):
                last = read_tick(g.expect(TICK, 30)[0])
            return (last["visits"] - first["visits"]) / (time.monotonic() - t0)

    def state(self, host):
        """What `vm list` says of the guest: running, paused, arriving, ..., "" if it is not there."""
        found = re.search(r"^\s*guest +(\w+)", self.ask(host, "vm list"), re.M)
        return found[1] if found and found[1] != "stopped" else ""

    def ask(self, host, line):
        """A command whose echo a log line may have torn: then once more."""
        for _ in range(4):
            try:
                return host.command(line, 5)
            except emulator.Timeout:
                host.serial.settle(0.3, 3)
        return host.command(line)

    def close(self):
        self.a.kill()
        self.b.kill()


# ---- faults: each function strikes, and undoes what is to be undone; `pause` is how long, in s ----

def f_cut(bed, pause):
    bed.trouble.cut = True
    time.sleep(pause)
    bed.trouble.good()


def f_corrupt(bed, _):
    bed.trouble.swap = 1
    time.sleep(2 * bed.slow)
    bed.trouble.swap = 0


def f_delay(bed, pause):
    bed.trouble.delay = 0.2 + pause / 10
    time.sleep(pause)
    bed.trouble.delay = 0.0


def f_duplicate(bed, pause):
    bed.trouble.twice = True
    time.sleep(pause)
    bed.trouble.twice = False


def f_kill_b(bed, pause):
    bed.kill("b")
    time.sleep(pause)
    bed.boot("b")


def f_kill_a(bed, pause):
    bed.kill("a")
    time.sleep(pause)
    bed.boot("a")


def f_kill_both(bed, pause):
    bed.kill("a")
    bed.kill("b")
    time.sleep(pause)
    bed.boot("a")
    bed.boot("b")


def f_hang_b(bed, pause):
    """b stops reading, and doing anything, for so long."""
    os.kill(bed.b.machine.process.pid, signal.SIGSTOP)
    time.sleep(pause)
    os.kill(bed.b.machine.process.pid, signal.SIGCONT)


def f_cancel(bed, _):
    bed.trouble.delay = 0.2                                     # else the move is over before all is typed
    bed.a.serial.send("\x03")
    bed.a.serial.expect(bed.a.prompt, 10)
    bed.cancelled = "cancelled; guest runs on here" in bed.ask(bed.a, "migrate cancel guest")


# name -> (function, pauses in s, the move is watched to this percentage first)
FAULTS = {
    "link cut": (f_cut, (2, 8, 15), (0, 1, 40, 80, 95, 97, 99)),
    "byte corrupted": (f_corrupt, (0,), (0, 1, 40)),
    "link delayed": (f_delay, (1, 5, 12), (0, 1, 80)),
    "frames duplicated": (f_duplicate, (3,), (0, 1, 80)),
    "b killed, booted again": (f_kill_b, (0, 8), (0, 1, 40, 80, 95, 97, 99)),
    "a killed, booted again": (f_kill_a, (0, 8), (0, 1, 40, 80, 95, 99)),
    "both killed": (f_kill_both, (0,), (1, 80, 99)),
    "b stops reading": (f_hang_b, (3, 9, 35), (0, 1, 40, 80, 97, 99)),
    "cancelled": (f_cancel, (0,), (0, 1, 40, 80, 95, 99)),
}
# So often in ten faults; what is slow to undo comes less often.
WEIGHTS = {"link cut": 5, "b killed, booted again": 5, "a killed, booted again": 3, "both killed": 1,
           "b stops reading": 3}


# ---- one fault ----

def strike(bed, rng, kind):
    """Start a move, let the fault strike, return a line that says when it did."""
    function, pauses, percents = FAULTS[kind]
    percent, pause = rng.choice(percents), rng.choice(pauses)
    if percent >= 80:                                           # a long way makes the short phases long
        bed.trouble.delay = 0.12
    paused = rng.random() < 0.25                                # the guest stands still from the first page on
    bed.a.migrate_start("guest", "b", " --paused" if paused else "")
    at = f"{'paused move, ' if paused else ''}start, pause {pause} s"
    if percent:
        at = f"{'paused move, ' if paused else ''}{bed.a.migrate_progress(percent, 60)}, pause {pause} s"
    time.sleep(rng.random() * 0.2)
    bed.trouble.delay = 0.0
    function(bed, pause)
    bed.trouble.good()
    return at


def wait_for_the_end(bed, seen_a, kills_a):
    """Until a's job is over and nothing arrives on b; returns whether a person decided, and what the guest is on a and
    on b.  seen_a, kills_a: how long a's log was before the fault, and how often a had been killed.

    In doubt because b has forgotten: a person who sees that b has no such guest says "here"."""
    by_hand, deadline = False, time.monotonic() + END_S * bed.slow
    bed.a.serial.send("\x03")                                   # leave the progress display, if there is one
    bed.a.serial.settle(0.3, 3)
    while True:
        said = bed.logs("a")[seen_a:]
        over = re.search(r"guest -> b: (moved in|failed)", said) or bed.kills["a"] > kills_a
        if not over and not by_hand and "does not know this job" in said and not bed.state(bed.b):
            bed.ask(bed.a, "migrate resolve guest here --sure")
            by_hand = True
        at_a, at_b = bed.state(bed.a), bed.state(bed.b)
        assert not (at_a == "running" and at_b == "running"), "two runners"
        if over and at_a in ("running", "") and at_b in ("running", ""):
            return by_hand, at_a, at_b
        assert time.monotonic() < deadline, (f"not over after {END_S * bed.slow} s: the guest is '{at_a}' on a and "
                                             f"'{at_b}' on b")
        time.sleep(1.5)


def truth(kind, ran_at_b, moved, ran_before_kill):
    """Where the documentation says the guest must be, by what happened."""
    killed_a, killed_b = kind.startswith(("a killed", "both")), kind.startswith(("b killed", "both"))
    if ran_at_b and not (killed_b and ran_before_kill):
        return ("on b",)
    if ran_at_b:
        return ("lost with its host",) if moved or killed_a else ("on a", "on a by hand")
    return ("lost with its host",) if killed_a else ("on a", "on a by hand")


def one_fault(bed, rng, kind, before):
    """Inject it, wait, judge; returns the outcome and a line about it."""
    kills_a = bed.kills["a"]
    seen, bed.cancelled = {name: len(bed.logs(name)) for name in "ab"}, False
    try:
        at = strike(bed, rng, kind)
    except AssertionError as e:
        if "ended before" not in str(e):
            raise
        at = "too late: the move had ended"
        bed.trouble.good()
    by_hand, at_a, at_b = wait_for_the_end(bed, seen["a"], kills_a)
    outcome = "on a by hand" if at_a and by_hand else "on a" if at_a else "on b" if at_b else "lost with its host"
    log_b, log_a = bed.logs("b")[seen["b"]:], bed.logs("a")[seen["a"]:]
    killed_b_log = bed.history["b"][seen["b"]:]
    allowed = truth(kind, "guest: runs here now" in log_b, "guest -> b: moved in" in log_a,
                    "guest: runs here now" in killed_b_log)
    assert outcome in allowed, f"it ended '{outcome}', must be '{' or '.join(allowed)}' ({at})"
    assert outcome == "on a" or not bed.cancelled, (
        f"a said that the move was cancelled, and it ended '{outcome}' ({at})")
    for name in "ab":
        assert not re.search(r"panic|assertion failed", bed.logs(name)[seen[name]:], re.I), f"{name} panicked"
    why = re.search(r"^reason: (.*)$", bed.ask(bed.a, "migrate report"), re.M)
    at += f"; {why[1][:100]}" if why else ""
    after(bed, outcome, before)
    return outcome, at, at.startswith("too late")


def memory_exits(bed):
    return sum(int(n) for n in re.findall(r"\bmemory +(\d+)", bed.ask(bed.a, "vm inspect guest")))


def after(bed, outcome, before):
    """The guest is well wherever it is; then back to where the next fault begins."""
    if outcome.startswith("on a"):
        bed.tick(bed.a)
        shown = bed.ask(bed.a, "vm inspect guest")
        assert "dirty log off" in shown and re.search(r"blocks whole [1-9]\d* split 0\b", shown), (
            f"the move left its traces:\n{shown}")
        faults = [memory_exits(bed) for _ in range(2) if not time.sleep(1)]
        assert faults[0] == faults[1], (
            f"a guest whose stores are not tracked has no memory exits, this one made {faults[1] - faults[0]} in a "
            "second")
        tries = [bed.speed(bed.a)]
        while tries[-1] < 0.3 * before:  # throttled is a tenth; a busy machine takes its share, too
            assert len(tries) < 10, f"the guest made {before:.0f} visits/s before, and only {tries} now"
            tries.append(bed.speed(bed.a))
    elif outcome == "on b":
        bed.tick(bed.b)
        report = bed.b.migrate("guest", "a", 90 * bed.slow, must=False)
        assert report.ok, f"it does not move back:\n{report.text}"
    else:
        bed.start_guest()


def choose(rng, kinds):
    return rng.choices(kinds, [WEIGHTS.get(k, 2) for k in kinds])[0]


def soak(vendor, args):
    """All faults of one vendor; returns (counts, violations, hangs, seconds)."""
    counts, wrong, hangs, late, began = {}, [], 0, 0, time.monotonic()
    rng, kinds = random.Random(args.seed), [k for k in FAULTS if re.search(args.kinds, k)]
    bed, n, before = None, 0, 0
    while n < args.faults and time.monotonic() - began < args.seconds and hangs < 3 and len(wrong) < 5:
        kind = kinds[n % len(kinds)] if n < len(kinds) else choose(rng, kinds)         # each kind once, then by weight
        try:
            if not bed:
                bed = Bed(vendor, args.verbose)
                before = bed.speed(bed.a)
            t0 = time.monotonic()
            outcome, at, was_late = one_fault(bed, rng, kind, before)
            late += was_late
            if not was_late:
                n += 1
                counts[kind, outcome] = counts.get((kind, outcome), 0) + 1
            print(f"  {n:3} {kind}: {outcome} ({time.monotonic() - t0:.0f} s; {at})", flush=True)
        except (emulator.Timeout, emulator.Died) as e:
            hangs += 1
            print(f"      hang during '{kind}': {str(e)[:1500]}", flush=True)
        except AssertionError as e:
            wrong.append(f"{vendor}, seed {args.seed}, fault {n + 1} ({kind}): {e}")
            print(f"  VIOLATION {wrong[-1]}", flush=True)
        else:
            continue
        if bed:
            keep_logs(bed, vendor, len(wrong) + hangs)
            bed.close()
        emulator.kill_all()
        bed = None
    if bed:
        bed.close()
    return counts, wrong, hangs, late, time.monotonic() - began


def keep_logs(bed, vendor, number):
    for name in "ab":
        with open(os.path.join(BUILD, "system", f"soak-{vendor}-{number}-{name}.txt"), "w", encoding="utf-8") as f:
            f.write(bed.logs(name) + "\n\nconsole:\n" + bed.host(name).serial.text)


def table(vendor, counts, wrong, hangs, late, seconds):
    width = max(len(k) for k in FAULTS)
    print(f"{vendor:<{width}}  " + "  ".join(f"{o:>18}" for o in OUTCOMES))
    for kind in FAULTS:
        row = [counts.get((kind, o), 0) for o in OUTCOMES]
        if any(row):
            print(f"{kind:<{width}}  " + "  ".join(f"{x:18}" for x in row))
    total = sum(counts.values())
    print(f"{vendor}: {total} faults injected in {seconds:.0f} s ({late} more came after the move had ended), {hangs} "
          f"emulators hung, {len(wrong)} violations of: "
          "one runner at most; not lost while its host lives; every job ends; the outcome that docs/handoff.md says; "
          "speed as before")
    for text in wrong:
        print(f"VIOLATION {text}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--vendor", choices=("amd", "intel", "all"), default="all")
    parser.add_argument("--faults", type=int, default=50, help="per vendor")
    parser.add_argument("--seconds", type=float, default=5400, help="per vendor, at the most")
    parser.add_argument("--seed", type=int, default=20261122)
    parser.add_argument("--kinds", default="", metavar="PATTERN")
    parser.add_argument("-v", "--verbose", action="store_true")
    args = parser.parse_args()
    emulator.die_on_signals()
    bad = 0
    for vendor in ("amd", "intel") if args.vendor == "all" else (args.vendor,):
        why = bochs.available() if vendor == "intel" else None
        if why:
            print(f"{vendor}: skipped: {why}")
            continue
        counts, wrong, hangs, late, seconds = soak(vendor, args)
        table(vendor, counts, wrong, hangs, late, seconds)
        bad += bool(wrong) or not counts or hangs >= 3
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
