# SPDX-License-Identifier: BSD-2-Clause
"""A whole Debian moves while a client outside is logged in: the demo itself is the check.  Debian's generic kernel (all
else runs the cloud kernel), and Debian's Xen with that as its dom0.  And Debian 13 as the system that builds and tests
Godwit."""
import os
import re
import shutil
import subprocess
import sys

import test_home
import test_virtio
from emulator import BUILD, ROOT, SLOWNESS
from fixtures import Skip
from host import Link
from nbd import NbdServer, missing


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


# Four of them share a CPU that is emulated.
SLOW = "systemd.default_timeout_start_sec=900"


def at_shell(guest, line, timeout=60):
    """What a line prints at the console, where root is logged in."""
    return test_virtio.sh(guest, line, timeout).strip()


def logged_in(guest):
    guest.expect(r"^debian login: root \(automatic login\)", 600)
    guest.expect(r"^root@debian:~# ", 120)


def written(guest):
    """Write a file that only this guest has; returns its checksum."""
    at_shell(guest, "head -c 1M /dev/urandom >/root/mine; sync")
    return checksum(guest)


def checksum(guest):
    text = at_shell(guest, "echo 3 >/proc/sys/vm/drop_caches; sha256sum /root/mine")
    return re.search(r"^[0-9a-f]{64}", text, re.M)[0]


def test_guests_live_here(own):
    """As home.guests_live_here, with guests that are whole Debians: clones of one image, and one on a disk server."""
    if missing():
        raise Skip(missing())
    home, image = test_home.Home(own, 3072, memory_mib=2200, limit_s=2400), os.path.join(BUILD, "debian", "disk.img")
    for host in "ab":
        home.ctl("store", "create", host, "nvme0", "--yes")
    for name, file in ("linux", "vmlinuz"), ("initrd", "initrd.img"):
        home.ctl("file", "put", os.path.join(BUILD, "debian", file), name, "-H", "a")
    home.ctl("volume", "import", image, "base", "--base", "--raw", "-H", "a", timeout=900)
    nbd = NbdServer("debian", 1024)
    shutil.copyfile(image, nbd.file)
    disks = {**{name: f"lv:godwit/{name}" for name in test_home.WEB}, "mover": nbd.disk}
    for name, disk in disks.items():
        if disk != nbd.disk:
            home.ctl("volume", "clone", "base", name, "-H", "a")
        home.define_linux(name, "384M", f"{SLOW} quiet root=/dev/vda rw\nstart-delay-s = 60", disk)
    sums = {}
    for name in disks:                                          # one by one: four that boot at once take long
        home.ctl("vm", "start", name, "-H", "a")
        with home.hosts["a"].guest(name) as g:
            logged_in(g)
            sums[name] = written(g)
            at_shell(g, "here=before")
    assert len({*sums.values()}) == 4
    home.ctl("vm", "migrate", "mover", "--to", "b", timeout=300)
    with home.hosts["b"].guest("mover") as g:
        assert "is before" in at_shell(g, "echo is $here"), "the shell is another one"
        assert checksum(g) == sums["mover"]
        home.ctl("vm", "reset", "mover", "-H", "b")
        logged_in(g)
        assert checksum(g) == sums["mover"]
    want = {**{name: [("a", "running")] for name in test_home.WEB}, "mover": [("b", "running")]}
    home.wait_where(want)
    home.power_cut()
    home.boot()
    home.wait_where(want)
    for name in disks:
        with home.hosts[want[name][0][0]].guest(name) as g:
            logged_in(g)
            assert checksum(g) == sums[name], f"{name} lost what it had flushed"


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
