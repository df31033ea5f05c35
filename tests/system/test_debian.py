# SPDX-License-Identifier: BSD-2-Clause
"""A whole Debian moves while a client outside is logged in: the demo itself is the check."""
import os
import re
import subprocess
import sys

from emulator import ROOT, SLOWNESS
from fixtures import Skip


def test_demo():
    """Its exit code is 0 only if the session, the transfer, the workload and the silence were as they must be."""
    run = subprocess.run([sys.executable, os.path.join(ROOT, "tools", "demo")], env=dict(os.environ, GUEST="debian", VENDOR=""), stdin=subprocess.DEVNULL,
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=900 * SLOWNESS, check=False)
    if run.returncode == 2:
        raise Skip(run.stdout.strip())
    print("\n".join("        " + line.strip() for line in run.stdout.splitlines() if re.match(r" +(SSH|TCP|pings|longest|guest blackout)", line)))
    assert run.returncode == 0, run.stdout[-4000:]
