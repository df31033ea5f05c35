# SPDX-License-Identifier: BSD-2-Clause
"""Debian's lvm2 in an emulated Linux, on images of stores: what it says of them, changes that it makes, and volumes as
its device-mapper sees them.

The Linux is the kernel of the test guests in a plain QEMU, without Godwit, and lvm2 is this machine's."""
import os
import re
import shutil
import subprocess
import tempfile

from emulator import BUILD, ROOT, SLOWNESS
from fixtures import Skip

LINUX = os.path.join(BUILD, "deps", "linux")
BUSYBOX = os.path.join(BUILD, "deps", "busybox", "busybox")
MKINITRAMFS = os.path.join(ROOT, "tests", "guest", "mkinitramfs.py")
APPLETS = "sh mount insmod echo cat dd sha256sum sed poweroff sync ls mkdir".split()
LVM_COMMANDS = "vgck pvck lvs vgs vgchange lvcreate lvchange lvrename lvremove".split()
# Output of a command that fails is kept; lvm2 without udev makes its device nodes itself.
INIT = """#!/bin/sh
mount -t devtmpfs dev /dev; mount -t proc proc /proc; mount -t sysfs sys /sys
exec </dev/console >/dev/console 2>&1
for m in /ko/*.ko; do insmod $m; done
export DM_DISABLE_UDEV=1 LVM_SUPPRESS_FD_WARNINGS=1
only() { echo "devices { use_devicesfile=0 filter=[ \\"a|^/dev/$1$|\\", \\"r|.*|\\" ] }
backup { backup=0 archive=0 } activation { udev_sync=0 udev_rules=0 monitoring=0 }" >/etc/lvm/lvm.conf; }
say() { echo; echo "== $*"; "$@" || echo "FAILED $?"; }
. /script
sync; echo; echo "== end"; poweroff -f
"""


def find_lvm():
    return shutil.which("lvm", path=os.environ["PATH"] + ":/usr/sbin:/sbin")


def need_lvm2():
    if not find_lvm():
        raise Skip("lvm2 is not installed: make setup")


def libraries(program):
    """The shared libraries of a program, by the names under which it loads them."""
    out = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    return dict((m[1].lstrip("/"), m[1]) for m in re.finditer(r"(/\S+)", out))


def initrd(folder, script):
    """An initramfs that runs the script; returns its path."""
    def write(name, text):
        path = os.path.join(folder, name)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        return path
    lvm, out = find_lvm(), os.path.join(folder, "initrd")
    modules = [os.path.join(LINUX, kind, name) for kind in ("virtio", "dm")
               for name in sorted(os.listdir(os.path.join(LINUX, kind)))]
    folders = "bin dev proc sys etc etc/lvm ko run run/lvm run/lock run/lock/lvm".split()
    libs = libraries(lvm)
    folders += sorted({os.path.dirname(name)[:at] for name in libs for at in
                       [m.start() for m in re.finditer("/|$", os.path.dirname(name))]})
    subprocess.run(["python3", MKINITRAMFS, out, *[f"{name}/" for name in folders],
                    f"init={write('init', INIT)}", f"script={write('script', script)}", f"bin/busybox={BUSYBOX}",
                    *[f"bin/{name}@busybox" for name in APPLETS], f"bin/lvm={lvm}",
                    *[f"bin/{name}@lvm" for name in LVM_COMMANDS],
                    *[f"{name}={path}" for name, path in libs.items()],
                    *[f"ko/{os.path.basename(m)}={m}" for m in modules]], check=True)
    return out


def run(images, script, timeout=120):
    """Run a script of this Linux's shell; image i is /dev/vda, vdb, ...  `only vdb` shows lvm2 that disk alone, `say
    COMMAND` prints the command and its output.  Returns [(command, [lines])]; AssertionError if one fails or warns."""
    with tempfile.TemporaryDirectory() as folder:
        drives = [arg for image in images for arg in ("-drive", f"file={image},if=virtio,format=raw")]
        qemu = subprocess.run(["qemu-system-x86_64", "-accel", "tcg", "-machine", "q35", "-m", "512", "-nographic",
                               "-no-reboot", "-nic", "none", "-kernel", os.path.join(LINUX, "vmlinuz"), "-initrd",
                               initrd(folder, script), "-append", "console=ttyS0 quiet", *drives], text=True,
                              capture_output=True, stdin=subprocess.DEVNULL, timeout=timeout * SLOWNESS, check=False)
    out = qemu.stdout.replace("\r", "")
    assert "\n== end" in out, f"the Linux with lvm2 did not come to its end:\n{out[-3000:]}\n{qemu.stderr}"
    found = []
    for part in out.split("\n== ")[1:-1]:
        command, _, text = part.partition("\n")
        lines = [line.strip() for line in text.splitlines() if line.strip() and "NOT backed up" not in line]
        bad = [line for line in lines if re.search("FAILED|WARNING|[Ee]rror", line)]
        assert not bad, (command, lines)
        found.append((command, lines))
    return found


class States:
    """Copies of a store's image, each after a change; then what lvm2 thinks of all of them."""

    def __init__(self, image, group):
        need_lvm2()
        self.image, self.group, self.states = image, group, []

    def keep(self, **volumes):
        """The image as it is; it shall have these volumes, of so many MiB."""
        copy = f"{self.image}.{len(self.states)}"
        subprocess.run(["cp", "--sparse=always", self.image, copy], check=True)
        self.states.append((copy, {name.replace("_", "-"): size for name, size in volumes.items()}))

    def judge(self, script):
        """lvm2 finds nothing wrong with any of them, and sees their volumes.  Then it runs the script on the image
        itself; returns what that printed, as run()."""
        ask = f"say lvs --noheadings --units m --nosuffix -o lv_name,lv_size {self.group}\n"
        text = "".join(f"only {disk}\nsay vgck {self.group}\nsay pvck /dev/{disk}\n{ask}"
                       for disk in (f"vd{chr(ord('a') + i)}" for i in range(len(self.states))))
        found = run([*(copy for copy, _ in self.states), self.image],
                    f"{text}only vd{chr(ord('a') + len(self.states))}\n{script}")
        for i, (copy, volumes) in enumerate(self.states):
            assert not found[3 * i][1] and len(found[3 * i + 1][1]) == 2, found[3 * i:3 * i + 2]
            rows = [line.split() for line in found[3 * i + 2][1]]
            assert {name: int(float(size)) for name, size in rows} == volumes, (i, rows, volumes)
            os.remove(copy)
        return found[3 * len(self.states):]
