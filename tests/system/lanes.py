# SPDX-License-Identifier: BSD-2-Clause
"""Checks in two lanes: those that judge right or wrong run two at a time, those that judge times run alone afterwards.

A check waits most of its time, so two lanes cost little more than one.  A unit is what must run in one process: the
checks of one fixture, or one check that makes its own hosts.  Each unit is a run.py of its own, with its own folder
(GODWIT_LANE) and time limits for two (GODWIT_SLOWNESS); its output is printed at its end.  Checks in Bochs need a CPU
for each host, so only one of them runs at a time."""
import os
import re
import subprocess
import sys
import threading

from emulator import SLOWNESS

# They judge gaps, speeds, idle time.
ALONE = (r"^(guest\.(boots|"
         r"clock|idle)|migrate\.(?!two_vcpus|nothing_in_plaintext|idle_costs|there_and_back|vector|memory_stays))")
BOCHS = r"^(dirty|intel)\."
PATIENCE = 2


class Sum:
    """What all units found."""

    def __init__(self):
        self.count, self.hangs = {"ok": 0, "FAIL": 0, "skip": 0}, []

    def add(self, count, hangs):
        for result, n in count.items():
            self.count[result] += n
        self.hangs += hangs


def units(checks, wanted):
    """[[(name, function), ...], ...]: what stays together, in the order given."""
    found = {}
    for name, function in checks:
        fixture = wanted(function)
        found.setdefault(name if fixture in ((), ("own",)) else fixture, []).append((name, function))
    return list(found.values())


def in_bochs(unit):
    return any(re.search(BOCHS, name) for name, _ in unit)


def run_unit(unit, lane):
    """Run a unit as a process; returns (output, counts, hangs).  One that ends without its last line is one failure
    more."""
    names = "|".join(re.escape(name) for name, _ in unit)
    env = {**os.environ, "GODWIT_LANE": lane, "GODWIT_SLOWNESS": str(SLOWNESS * PATIENCE)}
    command = ["setpriv", "--pdeathsig", "TERM", sys.executable,
               os.path.join(os.path.dirname(os.path.abspath(__file__)), "run.py"), "-k", f"^({names})$"]
    text = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                          env=env, check=False).stdout
    last = re.search(r"^system tests took .*\n(\d+) passed, (\d+) failed, (\d+) skipped\n", text, re.M)
    if not last:
        return text + f"FAIL {names}: its process ended in the middle\n", {"FAIL": 1}, []
    hangs = re.findall(r"^hang, tried again: (.*)$", text, re.M)
    return text[:last.start()], dict(zip(("ok", "FAIL", "skip"), map(int, last.groups()))), hangs


def run_lanes(todo):
    """Run these units two at a time, those of many checks first, so that what one lane does when the other has ended is
    short; returns their Sum."""
    total, lock = Sum(), threading.Lock()
    todo = sorted(todo, key=len, reverse=True)
    bochs, others = [u for u in todo if in_bochs(u)], [u for u in todo if not in_bochs(u)]

    def take(queues):
        with lock:
            return next((q.pop(0) for q in queues if q), None)

    def work(lane, queues):
        while unit := take(queues):
            text, count, hangs = run_unit(unit, lane)
            with lock:
                print(text, end="", flush=True)
                total.add(count, hangs)

    lanes = [threading.Thread(target=work, args=("1", (bochs, others))),
             threading.Thread(target=work, args=("2", (others,)))]
    for lane in lanes:
        lane.start()
    for lane in lanes:
        lane.join()
    return total


def split(checks, wanted):
    """(units for lanes, checks that run alone)."""
    beside = [check for check in checks if not re.search(ALONE, check[0])]
    return units(beside, wanted), [check for check in checks if check not in beside]
