#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""tests/bench/disks_kvm.py - the peer of disks.py: instructions for a request to a disk under Linux + KVM + QEMU.

usage: disks_kvm.py [--aio native|io_uring]

The machine is that of disks.py, with `-icount shift=0` and the disk behind NVMe.  Its Linux runs this computer's QEMU
with KVM, one vCPU, and virtio-blk on the NVMe disk (cache=none), the NVMe queue without a scheduler.  The guest is
the same kernel with tests/guest/diskbench.c.  A request's cost is the time in which the host was not idle, of a long
run less that of a short one, by the number of requests.  KVM polls before it lets an idle vCPU sleep (halt_poll_ns);
that is off here, since it makes busy time of idle time.

QEMU's AMD-V emulation delivers an injected interrupt twice now and then where it counts instructions
(docs/emulators.md), and the guest waits for a lock for ever: then it is run again.  KVM's modules are
those of the guest's kernel, see storage_move.py."""
import argparse
import glob
import os
import re
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "system"))

import emulator                                                     # noqa: E402  (needs the path above)
import lvm2                                                         # noqa: E402
import storage_move                                                 # noqa: E402
from host import RUNS                                               # noqa: E402
from test_virtio import INITRD                                      # noqa: E402

AIO = ("native", "io_uring")
ROMS = ["bios-256k.bin", "kvmvapic.bin", "linuxboot_dma.bin"]
MODULES = ["irqbypass", "kvm", "kvm-amd"]
APPLETS = "sh mount insmod sleep mknod".split()
# a line for diskbench, requests of the two runs
CASES = [("rr 4 1", (100, 1100)), ("rr 4 32", (320, 3520)), ("wr 4 1", (100, 1100)), ("wr 4 32", (320, 3520)),
         ("rs 1024 4", (8, 48)), ("ws 1024 4", (8, 48))]
INIT = """#!/bin/sh
mount -t devtmpfs dev /dev; mount -t proc proc /proc; mount -t sysfs sys /sys
exec </dev/console >/dev/console 2>&1
for m in {modules}; do insmod /ko/$m.ko; done
echo 0 >/sys/module/kvm/parameters/halt_poll_ns
echo none >/sys/block/nvme0n1/queue/scheduler
mknod /to p; mknod /from p
qemu -enable-kvm -cpu host -machine q35 -m 256 -nodefaults -display none -L /rom -kernel /vmlinuz -initrd /initrd \
    -append "console=ttyS0 quiet godwit.run=diskbench,/dev/vda" \
    -drive file=/dev/nvme0n1,if=none,id=disk,format=raw,cache=none,aio={aio} -device virtio-blk-pci,drive=disk \
    -serial stdio </to >/from &
exec 3>/to 4</from
wait_for() {{ while read -r said <&4; do case $said in *DISKBENCH*) break ;; esac; done; }}
clock() {{ while read -r a b c _; do case "$a $b" in
    "now at") now=$c ;; ".idle_sleeptime :") idle=$c ;; esac; done </proc/timer_list; }}
begin() {{ clock; now0=$now idle0=$idle; }}
end() {{ clock; echo "RUN $1: $now0 $idle0 $now $idle $said"; }}
wait_for
for s in 1 11; do begin; sleep $s; end "idle $s"; done
while read -r line; do begin; echo "$line" >&3; wait_for; end "$line"; done </lines
echo END
"""


def initrd(folder, kernel, aio):
    """The host's initramfs, with QEMU and the guest in it."""
    def write(name, text):
        path = os.path.join(folder, name)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        return path
    qemu, out = os.path.realpath(shutil.which(emulator.QEMU)), os.path.join(folder, "initrd")
    libs = lvm2.libraries(qemu)
    folders = {"bin", "dev", "proc", "sys", "ko", "rom"}
    for name in libs:
        parts = os.path.dirname(name).split("/")
        folders |= {"/".join(parts[:i + 1]) for i in range(len(parts))}
    found = {m: glob.glob(os.path.join(kernel, "lib/modules/*/kernel/**", m + ".ko"), recursive=True) for m in MODULES}
    roms = {r: p for r in ROMS for p in glob.glob(f"/usr/share/*/{r}")}
    subprocess.run([sys.executable, lvm2.MKINITRAMFS, out, *[f"{name}/" for name in sorted(folders)],
                    f"init={write('init', INIT.format(modules=' '.join(MODULES), aio=aio))}",
                    f"lines={write('lines', ''.join(f'{line} {n}' + chr(10) for line, ns in CASES for n in ns))}",
                    f"bin/busybox={lvm2.BUSYBOX}", *[f"bin/{name}@busybox" for name in APPLETS], f"bin/qemu={qemu}",
                    *[f"{name}={path}" for name, path in libs.items()],
                    *[f"rom/{name}={path}" for name, path in roms.items()],
                    f"vmlinuz={vmlinuz(kernel)}", f"initrd={INITRD}",
                    *[f"ko/{name}.ko={paths[0]}" for name, paths in found.items()]], check=True)
    return out


def vmlinuz(kernel):
    return glob.glob(os.path.join(kernel, "boot/vmlinuz-*"))[0]


def costs(text):
    """{line: instructions of a request}"""
    runs = {}
    for name, *times in re.findall(r"^RUN (.*?): (\d+) (\d+) (\d+) (\d+)", text, re.M):
        now0, idle0, now, idle = map(int, times)
        runs[name] = (now - now0 - (idle - idle0), now - now0)

    def difference(short, long):
        return (b - a for a, b in zip(runs[short], runs[long]))

    busy, up = difference("idle 1", "idle 11")
    idle_share = busy / up
    found = {}
    for line, (short, long) in CASES:
        busy, up = difference(f"{line} {short}", f"{line} {long}")
        found[line] = round((busy - (up - busy) * idle_share) / (long - short))
    return found


def measure(kernel, aio):
    folder = os.path.join(RUNS, "disks-kvm")
    os.makedirs(folder, exist_ok=True)
    nothing, disk = os.path.join(folder, "nothing.img"), f"/dev/shm/godwit-kvm-{os.getpid()}.img"
    for path in (nothing, disk):
        with open(path, "wb") as f:
            f.truncate(32 << 20)
    extra = [*emulator.ICOUNT, "-kernel", vmlinuz(kernel), "-initrd", initrd(folder, kernel, aio), "-append",
             "console=ttyS0 quiet", "-drive", f"file={disk},if=none,id=disk0,format=raw", "-device",
             "nvme,drive=disk0,serial=godwit"]
    machine = emulator.Emulator("kvm", nothing, folder, cpus=1, memory_mib=1536, extra=extra, limit_s=900)
    try:
        machine.serial.expect(r"^END\n", 800)
        return costs(machine.serial.text)
    finally:
        machine.kill()
        os.unlink(disk)


def again(what, most=4):
    """What what() returns, which is tried again if the guest stands still."""
    for tries in range(1, most + 1):
        try:
            return what()
        except emulator.Timeout as e:
            if tries == most:
                raise
            print(f"the guest stands still, so this is run again: {str(e).splitlines()[0]}", file=sys.stderr)


def measure_best():
    """{line: instructions of a request}, each with the kind of asynchronous I/O that takes less."""
    kernel = storage_move.kvm_package()
    kinds = [again(lambda aio=aio: measure(kernel, aio)) for aio in AIO]
    return {line: min(k[line] for k in kinds) for line in kinds[0]}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--aio", default="native", choices=AIO)
    args = parser.parse_args()
    emulator.die_on_signals()
    for line, n in again(lambda: measure(storage_move.kvm_package(), args.aio)).items():
        print(f"{line:<12}{n:>10}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
