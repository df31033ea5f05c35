#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Faults injected into moves of a guest with its disk, between emulated hosts of AMD (make soak-faults).

usage: soak_disks.py [--faults N] [--seed N]

Hosts a and b have stores, and the guest runs diskcheck, which writes all the time and knows what each block must be.
Each move goes from where the guest is to the other host; a fault strikes at a random moment.  Then the guest must be on
one host, and run; each block is compared, if it has not lost its memory with its host; and no volume is left but its
own."""
import argparse
import os
import random
import signal
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import emulator                                                     # noqa: E402  (needs the path above)
from host import Host                                               # noqa: E402
from test_disks import DISK_MIB, PER_S, Pair                        # noqa: E402
from test_virtio import sh                                          # noqa: E402

END_S = 240
FAULTS = ("link cut", "source killed", "destination killed", "both killed", "cancelled", "destination full",
          "destination hangs")


class Bed(Pair):
    """The two hosts, and where the guest is."""
    at = "a"

    def other(self):
        return "b" if self.at == "a" else "a"

    def strike(self, kind, rng):
        """A move with that fault; returns how long after its begin, in s."""
        source, target, wait = self.at, self.other(), rng.random() * 14
        if kind == "destination full":
            free = self.json("store", "list", "-H", target)["stores"][0]["free_bytes"] >> 20
            self.ctl("volume", "create", "filler", f"{free - 8}M", "-H", target)
        move = ("vm", "migrate", "db", "--to", target, "--with-disks", "--limit", "2")
        if kind == "destination full":
            said, why = self.ctl(*move, code=None)
            self.ctl("volume", "delete", "filler", "--yes", "-H", target)
            assert "the guest's disks need" in said + why, said + why
            return 0.0
        said, _ = self.ctl(*move, "--detach")
        number = int(said.split("/")[1])
        time.sleep(wait)
        if kind == "link cut":
            self.link.cut("a", "b")
            time.sleep(rng.choice((1, 8, 15)))
            self.link.heal()
        elif kind == "cancelled":
            self.ctl("migration", "cancel", f"{source}/{number}", code=None)
        elif kind == "destination hangs":
            self.hang(target, rng.choice((2, 12)))
        else:
            self.lose(*{"source": source, "destination": target, "both": "ab"}[kind.split()[0]])
        return wait

    def hang(self, name, seconds):
        """It does nothing at all for so long."""
        process = self.hosts[name].machine.process
        os.kill(process.pid, signal.SIGSTOP)
        time.sleep(seconds)
        os.kill(process.pid, signal.SIGCONT)

    def lose(self, *names):
        for name in names:
            self.hosts[name].kill()
        for name in names:
            self.hosts[name].boot(wait=False)
        for name in names:
            self.hosts[name].wait_prompt()
            self.hosts[name].wait_log("registry: volume group godwit")

    def settle(self):
        """One host has the guest, and its volume; the other one nothing."""
        deadline, found = time.monotonic() + END_S, None
        while time.monotonic() < deadline:
            try:
                where = self.where().get("db", [])
                found = where, {host: self.volumes(host) for host in "ab"}
            except (AssertionError, OSError):
                where = []
            running = [host for host, state in where if state == "running"]
            assert len(running) < 2, f"two runners: {where}"
            if len(where) == 1 and running and found[1] == {running[0]: ["db"], "ba"[running[0] == "b"]: []}:
                return running[0]
            time.sleep(1)
        raise AssertionError(f"not over after {END_S} s: {found}\n" + "\n".join(h.log()[-1500:] for h in
                                                                               self.hosts.values()))

    def check(self):
        """Its blocks; after a restart, its database begins anew."""
        with self.hosts[self.at].guest("db") as g:
            g.ready()
            if "YES" in sh(g, "[ -e /tmp/pid ] && echo Y''ES"):
                g = None
        if not g:
            return f"{self.verify('db', self.at)['writes']} writes, every block right"
        with self.hosts[self.at].guest("db") as g:
            self.holds["db"] = 0
            sh(g, f"(diskcheck /dev/vda {DISK_MIB} {PER_S} >/tmp/disk 2>&1 & echo $! >/tmp/pid); "
                  "until grep begun /tmp/disk; do usleep 100000; done")
        return "started again"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--faults", type=int, default=20)
    parser.add_argument("--seed", type=int, default=20261130)
    args = parser.parse_args()
    emulator.die_on_signals()
    rng, counts = random.Random(args.seed), {}
    bed = Bed(lambda name, link, wait=True, **kw: Host(name, link, limit_s=7200, tag="soak-disks",
                                                       **kw).boot(wait=wait))
    bed.stores()
    bed.database("db")
    try:
        for n in range(args.faults):
            kind, began, was = FAULTS[n % len(FAULTS)], time.monotonic(), bed.at
            after = bed.strike(kind, rng)
            bed.at = bed.settle()
            moved = "moved" if bed.at != was else "stayed"
            said = bed.check()
            counts[kind, moved] = counts.get((kind, moved), 0) + 1
            print(f"  {n + 1:3} {kind} after {after:.1f} s: {moved}, {said} ({time.monotonic() - began:.0f} s)",
                  flush=True)
    finally:
        for host in bed.hosts.values():
            host.kill()
    for kind in FAULTS:
        print(f"{kind:<26} " + ", ".join(f"{counts.get((kind, m), 0)} {m}" for m in ("stayed", "moved")))
    print(f"disks: {sum(counts.values())} faults injected; one guest, its blocks right, and no volume left after each")
    return 0


if __name__ == "__main__":
    sys.exit(main())
