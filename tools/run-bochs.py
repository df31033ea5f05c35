#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""tools/run-bochs.py - one Godwit host with VT-x in Bochs, its serial port (console and guest) on this terminal.  Leave
with Ctrl-A x.

Called by tools/run-host.sh when VENDOR=intel.  usage: tools/run-bochs.py IMAGE FOLDER
CPUS=n, MEMORY=megabytes of the host · GODWIT_BOCHS_CPU=model (default corei7_skylake_x), GODWIT_BOCHS_IPS=instructions
per simulated second"""
import os
import select
import sys
import termios
import tty

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests", "system"))

from bochs import Bochs, available                                  # noqa: E402  (needs the path above)
from emulator import die_on_signals                                 # noqa: E402

CTRL_A = b"\x01"


class Raw:
    """A terminal that passes every key, for as long as the with-block lasts; no terminal: nothing."""

    def __enter__(self):
        self.old = termios.tcgetattr(0) if os.isatty(0) else None
        if self.old:
            tty.setraw(0)

    def __exit__(self, *_):
        if self.old:
            termios.tcsetattr(0, termios.TCSADRAIN, self.old)


def keys(machine):
    """Pass keys on until Ctrl-A x, the end of the input, or the end of the machine."""
    escaped, reading = False, True
    while machine.alive() and not machine.serial.closed:
        if not select.select([0] if reading else [], [], [], 0.2)[0]:
            continue
        data = os.read(0, 64)
        reading = bool(data)
        for key in (data[i:i + 1] for i in range(len(data))):
            if escaped and key == b"x":
                return
            if key == CTRL_A and not escaped:
                escaped = True
                continue
            escaped = False
            machine.serial.send(key.decode("latin-1"))


def main(argv):
    why = available()
    if len(argv) != 3 or why:
        sys.exit(why or __doc__)
    die_on_signals()
    machine = Bochs("alpha", argv[1], argv[2], cpus=int(os.environ.get("CPUS", "1")),
                    memory_mib=int(os.environ.get("MEMORY", "512")),
                    limit_s=24 * 3600)
    print("Godwit's console is below, after some 15 s; 'help' lists commands; Ctrl-A x leaves.  Log: "
          f"{machine.e9_path}", flush=True)
    machine.serial.echo = lambda text: (sys.stdout.write(text.replace("\n", "\r\n")), sys.stdout.flush())
    with Raw():
        keys(machine)
    machine.kill()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
