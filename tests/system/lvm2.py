# SPDX-License-Identifier: BSD-2-Clause
"""Debian's lvm2 on the image of a store: what it says of it, and changes that it makes.

It runs on a loop device of this machine, without device-mapper, so it needs root; a check that cannot have it is
skipped."""
import contextlib
import os
import shutil
import subprocess

from fixtures import Skip

QUIET = {**os.environ, "DM_DISABLE_UDEV": "1", "LVM_SUPPRESS_FD_WARNINGS": "1", "PATH": os.environ["PATH"] +
         ":/usr/sbin:/sbin"}


def need_lvm2():
    """Skip without root, loop devices or lvm2."""
    if os.geteuid():
        raise Skip("lvm2 on a loop device needs root")
    if not shutil.which("lvm", path=QUIET["PATH"]):
        raise Skip("lvm2 is not installed: make setup")
    if not os.path.exists("/dev/loop-control"):
        raise Skip("this machine has no loop devices")


@contextlib.contextmanager
def loop(image):
    device = subprocess.run(["losetup", "-f", "--show", image], env=QUIET, capture_output=True, text=True,
                            check=True).stdout.strip()
    try:
        yield device
    finally:
        subprocess.run(["losetup", "-d", device], env=QUIET, check=True)


def lvm(device, command, *args):
    """Run a command of lvm2, which sees this device only.  Returns its output; AssertionError if it complains."""
    config = f'devices {{ use_devicesfile=0 filter=["a|^{device}$|", "r|.*|"] }}'
    run = subprocess.run([command, "--driverloaded", "n", "--config", config, *args], env=QUIET, capture_output=True,
                         text=True, check=False)
    said = [line for line in run.stderr.splitlines() if "Activation disabled" not in line and "not zeroed" not in line]
    assert not run.returncode and not said, (command, args, run.returncode, run.stdout, run.stderr)
    return run.stdout


def accepts(image, group, volumes):
    """lvm2 finds nothing wrong with the group on a copy of the image, which may be in use; and it sees these volumes,
    {name: MiB}."""
    copy = image + ".copy"
    shutil.copyfile(image, copy)
    try:
        with loop(copy) as device:
            lvm(device, "vgck", group)
            lvm(device, "pvck", device)
            rows = lvm(device, "lvs", "--noheadings", "--units", "m", "--nosuffix", "-o", "lv_name,lv_size", group)
            found = {row.split()[0]: int(float(row.split()[1])) for row in rows.splitlines()}
            assert found == volumes, (found, volumes)
    finally:
        os.remove(copy)
