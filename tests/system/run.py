#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""System tests: Godwit hosts in QEMU under TCG (AMD) and in Bochs (Intel), real guests, moves, failures.

usage: run.py [-k PATTERN] [--list] [-v] [--long] [--soak] [--lanes]
  -k   only checks whose name matches the regular expression      -v   show hosts' consoles while they run
  --lanes  two at a time where no times are judged (lanes.py)
  --long   the checks that take minutes each (more of Intel in Bochs, virtio devices, a whole Debian), which a plain run
           leaves out

A check is a function test_* in tests/system/test_*.py.  Its parameters name fixtures (fixtures.py); checks with the
same fixture share one boot, in the order written.  One marked with fixtures.each() is a check for each of its cases.  A
check that fails, or hangs, spoils its fixture: the next check gets a new one.  A hang (Timeout, Died) is printed with
what the machines were doing, and tried once more.
"""
import argparse
import functools
import importlib
import inspect
import os
import re
import sys
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

import emulator                                                     # noqa: E402  (needs the path above)
import fixtures                                                     # noqa: E402
import lanes                                                        # noqa: E402


def discover(pattern):
    """All checks as (name, function), grouped by fixture in order of first appearance."""
    checks = []
    for file in sorted(os.listdir(HERE)):
        if re.fullmatch(r"test_\w+\.py", file):
            module = importlib.import_module(file[:-3])
            for name, function in vars(module).items():
                if name.startswith("test_") and callable(function):
                    checks += cases(f"{file[5:-3]}.{name[5:]}", function)
    checks = [c for c in checks if re.search(pattern, c[0])]
    groups = list(dict.fromkeys(wanted(f) for _, f in checks))
    return sorted(checks, key=lambda c: groups.index(wanted(c[1])))     # stable: order within a group stays


def cases(name, function):
    if not hasattr(function, "cases"):
        return [(name, function)]
    return [(f"{name}.{case}", functools.partial(function, value)) for case, value in function.cases.items()]


def wanted(function):
    return tuple(inspect.signature(function).parameters)


LONG = r"^(disks_long|intel_long|nbd_long|smp_long|store_long|debian)\."      # their modules
HANG_LINES = 40  # so much of what is known about a hang goes to the output; all of it into a file


def describe_hang(name, error):
    """Say what the machines were doing: everything in a file, the least that tells a standstill from a loop here."""
    path = os.path.join(emulator.BUILD, "system", f"hang-{name}.txt")
    machines = [(m, m.dump()) for m in list(emulator.running)]
    with open(path, "w", encoding="utf-8") as f:
        f.write(f"{error}\n")
        for machine, dump in machines:
            f.write(f"\n{machine.name}:\n{dump}\nlog:\n{machine.e9_text()}\nconsole:\n{machine.serial.text}\n")
    lines = [f"hang: {str(error).splitlines()[0]}; all of it is in {os.path.relpath(path)}"]
    for machine, dump in machines:
        where = re.findall(r"RIP=([0-9a-f]+) .*HLT=(\d)", dump)
        lines.append(f"{machine.name}: " + ", ".join(f"rip {rip}{' halted' if halted == '1' else ''}"
                                                     for rip, halted in where))
        lines += [line.strip() for line in machine.serial.tail(30 // len(machines)).splitlines()]
    print("\n".join("        " + line[:180] for line in lines[:HANG_LINES]))


def run_check(name, function, live, hangs):
    """Run one check, twice if it hangs; returns (result, reason)."""
    for attempt in (1, 2):
        try:
            function(**live.get(wanted(function)))
            return "ok", ""
        except fixtures.Skip as skip:
            return "skip", str(skip)
        except (emulator.Timeout, emulator.Died) as error:
            describe_hang(name, error)
            live.spoil()
            hangs.append(str(error).splitlines()[0])
            reason = str(error).splitlines()[0] + " (twice)"
            if attempt == 1:
                print("        retrying once in fresh hosts", flush=True)
        except Exception as error:                                  # a check failed: say where, go on with the next
            live.spoil()
            where = traceback.extract_tb(error.__traceback__)[-1]
            test = [f for f in traceback.extract_tb(error.__traceback__)
                    if os.path.basename(f.filename).startswith("test_")]
            where = test[-1] if test else where
            kind = "" if isinstance(error, AssertionError) else f"{type(error).__name__}: "
            return "FAIL", f"{os.path.basename(where.filename)}:{where.lineno}: {where.line}\n{kind}{error}"
    return "FAIL", reason


def run_here(checks):
    """Run checks one after the other in this process; returns their lanes.Sum."""
    total, live = lanes.Sum(), fixtures.Live()
    for name, function in checks:
        begin = time.monotonic()
        result, reason = run_check(name, function, live, total.hangs)
        total.count[result] += 1
        print(f"{result:4} {name} ({time.monotonic() - begin:.1f} s)" + (f": {reason}" if result == "skip" else ""))
        if result == "FAIL":
            print("\n".join("        " + line for line in reason.splitlines()))
    live.spoil()
    return total


def write_results(count):
    """For tools/test.sh.  A unit of a lane is a part only: its lane adds it up."""
    if emulator.LANE:
        return
    os.makedirs(os.path.join(emulator.BUILD, "results"), exist_ok=True)
    with open(os.path.join(emulator.BUILD, "results", "system.txt"), "w", encoding="utf-8") as f:
        f.write(f"system {count['ok']} {count['FAIL']} {count['skip']}\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("-k", default="", metavar="PATTERN")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("-v", "--verbose", action="store_true")
    parser.add_argument("--soak", action="store_true", help="move one loaded guest back and forth for a long time")
    parser.add_argument("--long", action="store_true", help="the checks that take minutes each")
    parser.add_argument("--lanes", action="store_true", help="two at a time where no times are judged")
    args = parser.parse_args()
    emulator.die_on_signals()
    sys.stdout.reconfigure(line_buffering=True)
    fixtures.VERBOSE = args.verbose
    checks = discover(r"\.soak$" if args.soak else args.k or (LONG if args.long else rf"^(?!.*\.soak$)(?!{LONG[1:]})"))
    if args.list:
        print("\n".join(f"{name}  ({', '.join(wanted(f)) or 'own hosts'})" for name, f in checks))
        return 0
    started, total = time.monotonic(), lanes.Sum()
    if args.lanes:
        beside, checks = lanes.split(checks, wanted)
        total = lanes.run_lanes(beside)
        print(f"        the lanes took {time.monotonic() - started:.0f} s; from here on one check at a time")
    alone = run_here(checks)
    total.add(alone.count, alone.hangs)
    write_results(total.count)
    for hang in total.hangs:
        print(f"hang, tried again: {hang}")
    print(f"system tests took {time.monotonic() - started:.0f} s, {len(total.hangs)} hangs")
    print("{ok} passed, {FAIL} failed, {skip} skipped".format_map(total.count))
    return 1 if total.count["FAIL"] or not total.count["ok"] else 0


if __name__ == "__main__":
    sys.exit(main())
