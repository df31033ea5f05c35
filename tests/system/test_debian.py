# SPDX-License-Identifier: BSD-2-Clause
"""A whole Debian moves while a client outside is logged in: the demo itself is the check.  Debian's generic kernel (all
else runs the cloud kernel).  And Debian 13 as the system that builds and tests Godwit."""
import os
import re
import subprocess
import sys

import test_virtio
from emulator import BUILD, ROOT, SLOWNESS
from fixtures import Skip


def test_demo():
    """Its exit code is 0 only if the session, the transfer, the workload and the silence were as they must be."""
    run = subprocess.run([sys.executable, os.path.join(ROOT, "tools", "demo")],
                         env=dict(os.environ, GUEST="debian", VENDOR=""), stdin=subprocess.DEVNULL,
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=900 * SLOWNESS,
                         check=False)
    if run.returncode == 2:
        raise Skip(run.stdout.strip())
    print("\n".join("        " + line.strip() for line in run.stdout.splitlines()
                    if re.match(r" +(SSH|TCP|pings|longest|guest blackout)", line)))
    assert run.returncode == 0, run.stdout[-4000:]


def test_builds_and_moves_a_guest_on_debian_13():
    command = ["setpriv", "--pdeathsig", "TERM", os.path.join(ROOT, "tests", "debian13.sh"), "--quick"]
    run = subprocess.run(command, stdin=subprocess.DEVNULL, text=True,
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=7200 * SLOWNESS, check=False)
    if run.stdout.startswith("skip debian13: "):
        raise Skip(run.stdout.splitlines()[0].removeprefix("skip debian13: "))
    print("\n".join("        " + line for line in run.stdout.splitlines()[:-1]))
    assert run.returncode == 0, run.stdout.splitlines()[-1]


def generic_kernel():
    """For test_virtio.py: fetched when it is missing; its modules are an archive that Linux unpacks over those of the
    cloud kernel."""
    deps, archive = os.path.join(BUILD, "deps"), os.path.join(BUILD, "guest", "generic.cpio.gz")
    folder = os.path.join(deps, "linux-generic")
    subprocess.run([os.path.join(ROOT, "tools", "fetch-deps.sh"), deps, os.path.join(ROOT, "tools", "deps-long.lock")],
                   check=True, capture_output=True)
    modules = [f"virtio/{name}={folder}/virtio/{name}" for name in sorted(os.listdir(os.path.join(folder, "virtio")))]
    subprocess.run([sys.executable, os.path.join(ROOT, "tests", "guest", "mkinitramfs.py"), archive, *modules],
                   check=True)
    files = {**test_virtio.FILES, "vmlinuz": os.path.join(folder, "vmlinuz"), "generic.cpio.gz": archive}
    return files, r"\d-amd64", {"module": "generic.cpio.gz"}


def test_generic_kernel_has_its_devices_and_moves(own):
    test_virtio.devices_work_and_move(own, generic_kernel())
