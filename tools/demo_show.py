# SPDX-License-Identifier: BSD-2-Clause
"""tools/demo_show.py - shared by the demos: output, booting hosts, a move with its progress, report and timeline."""
import re
import sys
import time

import demo_timeline
from host import PROGRESS


class Failure(Exception):
    """The demo did not reach its expected result."""


def tell(text=""):
    print(text, flush=True)


def step(title):
    tell(f"\n== {title}")


def boot(*hosts):
    """Boot all hosts at once and print their properties; returns the hosts."""
    for host in hosts:
        host.boot(wait=False)
    for host in hosts:
        host.wait_prompt()
        lines = host.command("host").splitlines()
        tell("\n".join(f"   {host.name} | {line}" for line in lines
                       if re.match(r"(version|processor|memory_total|peer)", line)))
    return hosts


def follow(src, start):
    """Print the progress line while it changes, until the report comes."""
    tty, shown = sys.stdout.isatty(), 0
    while True:
        m = src.serial.expect(PROGRESS.pattern + r"\n|^\s*outcome: .*\n|^error: .*\n", 90)
        if m[1] is None:
            break
        if tty:
            print(f"\r      | {m[0].strip()}\033[K", end="", flush=True)
        elif time.monotonic() - shown > 0.9:
            tell(f"      | {m[0].strip()}")
            shown = time.monotonic()
    if tty:
        print()
    return src.migrate_finish(start)


def move(name, src, dst):
    step(f"Live move {src.name} -> {dst.name}: `migrate {name} {dst.name}` on {src.name}; the guest goes on running "
         "while its pages are sent")
    report = follow(src, src.migrate_start(name, dst.name))
    if not report.ok:
        raise Failure(f"the move {src.name} -> {dst.name} failed: {report.get('reason', report.text)}")
    tell("   Report:")
    tell("\n".join(f"      {line}" for line in report.text.splitlines()))
    tell("   Timeline:")
    tell(demo_timeline.text(report))
    return report


def power_off(hosts):
    step("Power off")
    for host in hosts:
        code = host.poweroff()
        tell(f"   {host.name} is off.")
        if code != 0:
            raise Failure(f"the emulator of {host.name} ended with code {code}")
