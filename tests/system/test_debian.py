# SPDX-License-Identifier: BSD-2-Clause
"""A whole Debian moves while a client outside is logged in: the demo itself is the check.  Debian's generic kernel (all
else runs the cloud kernel), and Debian's Xen with that as its dom0.  And Debian 13 as the system that builds and tests
Godwit."""
import os
import re
import subprocess
import sys

import test_virtio
from emulator import BUILD, ROOT, SLOWNESS
from fixtures import Skip
from host import Link


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


def test_xen_and_its_dom0_boot_and_move(own):
    """Debian's Xen as docs/config.md shows it.  cpu: QEMU 7.2 cannot do what dom0 needs with SMAP
    (docs/emulators.md)."""
    files, *_ = generic_kernel()
    files = {**files, "xen": os.path.join(BUILD, "deps", "xen", "xen")}
    xen = {"memory": "1G", "cpus": "2", "cpu": "x86-64-v3", "kernel": "xen",
           "cmdline": "console=com1 com1=115200",
           "module": ["vmlinuz console=hvc0 quiet root=/dev/vda", "initramfs.cpio.gz"], "autostart": "yes"}
    link = Link()
    a = own("a", link, vms={"xen": xen}, files=files, peers=["b"], memory_mib=1800)
    b = own("b", link, peers=["a"], files={}, memory_mib=1800)
    with a.guest("xen") as g:
        g.expect(r"^\(XEN\) Xen version 4", 60)
        g.expect(r"^guest ready kernel=\S+-amd64 .*cpus=2 ", 120)
    report = a.migrate("xen", "b")
    print(f"        Xen and its dom0: blackout {report.number('blackout_ms')} ms")
    with b.guest("xen") as g:
        g.shell("echo $((6 * 7)) in dom0", r"^42 in dom0")
