#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""tests/bench/storage_move.py - a running guest moves with its disk to another host: Godwit, and QEMU + KVM on Linux.

usage: storage_move.py [--repeat N] [--only NAME]...
  --repeat N    N moves of each kind, by turns; the medians are shown
  --only NAME   godwit, qemu, qemu-blocking or qemu-tls

Two emulated AMD hosts of one CPU each, NVMe disks, one cable.  The guest (128 MiB, 1 vCPU) has a disk of 256 MiB: half
zeroes, 96 MiB of programs and libraries of this machine, 32 MiB at random.  Its program writes to 32 MiB of it all the
time, past the page cache, and verifies all that it wrote afterwards (tests/guest/diskcheck.c).

  total   from the command until the guest runs at the destination and the source is done
  pause   the longest request of that program during the move; "at rest": the same for some seconds before
  bytes   all frames on the cable meanwhile, both ways
  cpu     for how long this machine's CPUs worked for both emulated hosts meanwhile: a busy machine makes the other
          times long, this one hardly

Godwit: `vm migrate --with-disks`, over TLS.  The peer: Linux with KVM and QEMU (this machine's), as libvirt does it:
drive-mirror to an NBD server of the destination, with zeroes detected; once it is ready, live migration; the mirror
ends while the guest is stopped.  qemu: over plain TCP.  qemu-blocking: copy-mode=write-blocking.  qemu-tls: all over
TLS with a pre-shared key.  The peer's kernel is Debian's cloud kernel, as that of the guest; its modules for KVM come
from the same package, by `apt-get download`."""
import argparse
import contextlib
import glob
import json
import os
import random
import re
import shutil
import socket
import statistics
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "system"))

import emulator                                                     # noqa: E402  (needs the path above)
import lvm2                                                         # noqa: E402
from emulator import BUILD, Emulator, Timeout                       # noqa: E402
from fixtures import Clients                                        # noqa: E402
from host import KERNEL, Host, Lan, RUNS, mac                       # noqa: E402
from test_virtio import INITRD                                      # noqa: E402

MIB = 1 << 20
DISK_MIB, STORE_MIB, WRITTEN_MIB, GUEST_MIB = 256, 384, 32, 128
AT_REST_S = 5
FOLDER = os.path.join(RUNS, "storage-move")
QEMU_KINDS = ("qemu", "qemu-blocking", "qemu-tls")
KINDS = ("godwit", *QEMU_KINDS)
PEERS = {"the best of plain TCP": QEMU_KINDS[:2], "TLS": QEMU_KINDS[2:]}


class CountingLan(Lan):
    """The cable counts the bytes of the frames between hosts."""
    n_bytes = 0

    def pass_on(self, name, frame):
        if name != "user" and self.home.get(frame[:6]) != "user":
            self.n_bytes += len(frame)
        super().pass_on(name, frame)


def contents(path):
    """32 MiB of zeroes, which the guest writes to; programs and libraries; 32 MiB at random; zeroes."""
    with open(path, "wb") as f:
        f.seek(WRITTEN_MIB * MIB)
        left = 96 * MIB
        for name in sorted(glob.glob("/usr/lib/x86_64-linux-gnu/*.so*") + glob.glob("/usr/bin/*")):
            if left and os.path.isfile(name) and not os.path.islink(name):
                with open(name, "rb") as source:
                    left -= f.write(source.read(left))
        f.write(random.Random(13).randbytes(32 * MIB))
        f.truncate(DISK_MIB * MIB)


def cpu_s(machines):
    """CPU time that these emulators have had."""
    total = 0
    for machine in machines:
        with open(f"/proc/{machine.process.pid}/stat", encoding="latin-1") as f:
            total += sum(map(int, f.read().rpartition(")")[2].split()[11:13]))
    return total / os.sysconf("SC_CLK_TCK")


class Writer:
    """The guest's program.  console: what takes and says lines, of Serial's kind."""

    def __init__(self, console):
        self.console = console

    def line(self, text, timeout=60):
        start = self.console.mark()
        self.console.send(text + "; echo done=$?\r")
        end = self.console.expect(r"^done=\d+\n", timeout, since=start)
        return self.console.text[start:end.end()]

    def begin(self):
        self.line(f"(diskcheck /dev/vda {WRITTEN_MIB} >/tmp/disk 2>&1 & echo $! >/tmp/pid); until grep -q begun "
                  "/tmp/disk; do usleep 50000; done")

    def end(self):
        """(longest request in ms, number of writes); all that it wrote was right."""
        text = self.line("read pid </tmp/pid; kill -TERM $pid; while [ -d /proc/$pid ]; do usleep 100000; done; cat "
                         "/tmp/disk", 120)
        found = re.search(r"^DISK ok writes=(\d+) .*slowest_ms=(\d+)", text, re.M)
        if not found:
            raise AssertionError(f"the guest's disk is wrong:\n{text}")
        return int(found[2]), int(found[1])

    def at_rest(self):
        self.begin()
        time.sleep(AT_REST_S)
        slowest, n = self.end()
        return {"rest_ms": slowest, "rest_writes_per_s": n / AT_REST_S}


def nvme(path):
    return ["-drive", f"file={path},if=none,id=disk0,format=raw", "-device", "nvme,drive=disk0,serial=godwit"]


# ---- Godwit ----------------------------------------------------------------------------------------------------------

class Godwit:
    """Two hosts, each with a store; the guest's disk is a volume."""

    def __init__(self, image):
        self.lan, self.hosts = CountingLan(), {}
        for name, other in ("ab", "ba"):
            path = os.path.join(FOLDER, f"{name}.disk")
            with open(path, "wb") as f:
                f.truncate(STORE_MIB * MIB)
            self.hosts[name] = Host(name, self.lan, peers=[other], clients=Clients.ROLES, cpus=1, extra=nvme(path),
                                    tag="storage-move").boot(wait=False)
        for host in self.hosts.values():
            host.wait_prompt()
        self.ctl = Clients(self.hosts.values()).ctl
        for name in "ab":
            self.ctl("store", "create", name, "nvme0", "--yes")
        self.ctl("file", "put", KERNEL, "linux", "-H", "a")
        self.ctl("file", "put", INITRD, "initrd", "-H", "a")
        self.ctl("volume", "import", image, "db", "--raw", "-H", "a", timeout=200)
        conf = os.path.join(FOLDER, "db.conf")
        with open(conf, "w", encoding="ascii") as f:
            f.write(f"[vm db]\nmemory = {GUEST_MIB}M\nkernel = linux\ninitrd = initrd\ncmdline = console=ttyS0 quiet\n"
                    "disk = lv:godwit/db\n")
        self.ctl("vm", "define", conf, "-H", "a")
        self.ctl("vm", "start", "db", "-H", "a")

    def machines(self):
        return [host.machine for host in self.hosts.values()]

    @contextlib.contextmanager
    def guest(self, name):
        with self.hosts[name].guest("db") as g:
            if name == "a":
                g.ready()
            yield Writer(self.hosts[name].serial)

    def move(self):
        self.ctl("vm", "migrate", "db", "--to", "b", "--with-disks", timeout=600)

    def close(self):
        for host in self.hosts.values():
            host.kill()
        self.lan.close()


# ---- QEMU ------------------------------------------------------------------------------------------------------------

ROMS = ["bios-256k.bin", "kvmvapic.bin", "linuxboot_dma.bin"]
MODULES = ["irqbypass", "kvm", "kvm-amd"]
PORT_NBD, PORT_MOVE = 10809, 4444
INIT = """#!/bin/sh
mount -t devtmpfs dev /dev; mount -t proc proc /proc; mount -t sysfs sys /sys
exec </dev/console >/dev/console 2>&1
for m in /ko/*.ko; do insmod $m; done
echo none >/sys/block/nvme0n1/queue/scheduler
read -r cmdline </proc/cmdline
more=
for word in $cmdline; do
    case $word in
    address=*) ip link set lo up; ip link set eth0 up; ip addr add ${word#*=}/24 dev eth0 ;;
    incoming) more="-incoming defer" ;;
    esac
done
stty -F /dev/ttyS1 raw -echo
echo "QEMU begins"
qemu -enable-kvm -cpu host -machine q35 -m %d -nodefaults -display none -L /rom -kernel /vmlinuz -initrd /initrd \\
    -append "console=ttyS0 quiet" \\
    -blockdev driver=host_device,filename=/dev/nvme0n1,node-name=disk,cache.direct=on,aio=native,discard=unmap \\
    -device virtio-blk-pci,drive=disk,share-rw=on -object tls-creds-psk,id=server,endpoint=server,dir=/psk \\
    -object tls-creds-psk,id=client,endpoint=client,dir=/psk,username=qemu \\
    -chardev serial,id=console,path=/dev/ttyS0 -serial chardev:console \\
    -chardev serial,id=qmp,path=/dev/ttyS1 -mon chardev=qmp,mode=control $more
echo "QEMU ended: $?"
sleep 1000
""" % GUEST_MIB


def kvm_package():
    """The unpacked package of the guest's kernel, which has KVM's modules."""
    with open(os.path.join(lvm2.LINUX, "VERSION"), encoding="ascii") as f:
        package, version = (line.split()[1] for line in f.read().splitlines()[:2])
    folder = os.path.join(BUILD, "bench", f"{package}_{version}")
    if not os.path.isdir(folder):
        os.makedirs(folder + ".tmp", exist_ok=True)
        subprocess.run(["apt-get", "-qq", "download", f"{package}={version}"], cwd=folder + ".tmp", check=True)
        deb = glob.glob(os.path.join(folder + ".tmp", "*.deb"))[0]
        subprocess.run(["dpkg-deb", "-x", deb, folder + ".tmp"], check=True)
        os.rename(folder + ".tmp", folder)
    return folder


def linux_initrd():
    """The Linux hosts' initramfs, with QEMU and the guest in it."""
    def write(name, text):
        path = os.path.join(FOLDER, name)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        return path
    qemu, out = os.path.realpath(shutil.which(emulator.QEMU)), os.path.join(FOLDER, "initrd")
    libs = lvm2.libraries(qemu)
    folders = {"bin", "dev", "proc", "sys", "ko", "rom", "psk"}
    for name in libs:
        parts = os.path.dirname(name).split("/")
        folders |= {"/".join(parts[:i + 1]) for i in range(len(parts))}
    modules = sorted(glob.glob(os.path.join(lvm2.LINUX, "virtio", "*.ko")))
    named = {os.path.basename(m): m for m in modules}
    for i, name in enumerate(MODULES):
        named[f"{50 + i}-{name}.ko"] = glob.glob(os.path.join(kvm_package(), "lib/modules/*/kernel/**", name + ".ko"),
                                                 recursive=True)[0]
    roms = {r: p for r in ROMS for p in glob.glob(f"/usr/share/*/{r}")}
    subprocess.run([sys.executable, lvm2.MKINITRAMFS, out, *[f"{name}/" for name in sorted(folders)],
                    f"init={write('init', INIT)}", f"psk/keys.psk={write('psk', 'qemu:' + 64 * '5a'[:1] + chr(10))}",
                    f"bin/busybox={lvm2.BUSYBOX}",
                    *[f"bin/{name}@busybox" for name in "sh mount insmod sleep ip stty".split()], f"bin/qemu={qemu}",
                    *[f"{name}={path}" for name, path in libs.items()],
                    *[f"rom/{name}={path}" for name, path in roms.items()], f"vmlinuz={KERNEL}", f"initrd={INITRD}",
                    *[f"ko/{name}={path}" for name, path in named.items()]], check=True)
    return out


class Qmp:
    """QEMU's machine protocol on a serial line of its host."""

    def __init__(self, path):
        self.sock, self.buffer, self.events = socket.socket(socket.AF_UNIX), b"", []
        while not os.path.exists(path):
            time.sleep(0.05)
        self.sock.connect(path)

    def begin(self):
        self.message(lambda m: "QMP" in m, 400)
        self("qmp_capabilities")

    def message(self, wanted, timeout):
        """The next message of that kind; events are kept."""
        deadline = time.monotonic() + timeout * emulator.SLOWNESS
        while True:
            line, sep, rest = self.buffer.partition(b"\n")
            if not sep:
                self.sock.settimeout(max(deadline - time.monotonic(), 0.01))
                try:
                    self.buffer += self.sock.recv(65536)
                except TimeoutError:
                    raise Timeout(f"QEMU says nothing more; the last events: {self.events[-5:]}") from None
                continue
            self.buffer = rest
            if b"{" not in line:
                continue
            message = json.loads(line[line.index(b"{"):])           # the firmware has written before the first one
            if "event" in message:
                self.events.append(message)
            if wanted(message):
                return message

    def __call__(self, command, timeout=60, **arguments):
        arguments = {k.replace("_", "-"): v for k, v in arguments.items()}
        self.sock.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        answer = self.message(lambda m: "return" in m or "error" in m, timeout)
        if "error" in answer:
            raise AssertionError(f"{command}: {answer['error']}")
        return answer["return"]

    def wait(self, event, timeout, **data):
        def wanted(message):
            return message.get("event") == event and all(message["data"].get(k) == v for k, v in data.items())
        if not any(map(wanted, self.events)):
            self.message(wanted, timeout)

    def migration(self, state, timeout):
        """Wait for a state of the migration."""
        deadline = time.monotonic() + timeout * emulator.SLOWNESS
        while (now := self("query-migrate").get("status")) != state:
            if now in ("failed", "cancelled") or time.monotonic() > deadline:
                raise AssertionError(f"the migration is {now}: {self('query-migrate')}")
            time.sleep(0.02)


class Qemu:
    """Two Linux hosts with KVM, whose QEMU has the NVMe disk as the guest's."""

    def __init__(self, image, kind):
        self.kind, self.lan, self.machine, self.qmp = kind, CountingLan(), {}, {}
        initrd = linux_initrd()
        for name in "ab":
            path, nothing = (os.path.join(FOLDER, f"{name}.{k}") for k in ("disk", "nothing"))
            shutil.copyfile(image, path)
            if name == "b":
                with open(path, "wb") as f:
                    f.truncate(DISK_MIB * MIB)
            with open(nothing, "wb") as f:
                f.truncate(MIB)
            number = "ab".index(name) + 1
            qmp = os.path.join(FOLDER, f"{name}.qmp")
            if os.path.exists(qmp):
                os.unlink(qmp)
            extra = [*nvme(path), "-kernel", KERNEL, "-initrd", initrd, "-append",
                     f"console=ttyS0 quiet no_timer_check {'incoming ' if name == 'b' else ''}address=10.7.0.{number}",
                     "-chardev", f"socket,id=com2,path={qmp},server=on,wait=off", "-serial", "chardev:com2"]
            net = ["-netdev", self.lan.netdev(name), "-device",
                   f"virtio-net-pci,netdev=n0,mac={mac(name)},romfile="]
            self.machine[name] = Emulator(name, nothing, os.path.join(FOLDER, "qemu"), 1, 1536, net, 1800, extra=extra)
            self.qmp[name] = Qmp(qmp)
        for name in "ab":
            self.qmp[name].begin()

    def machines(self):
        return list(self.machine.values())

    @contextlib.contextmanager
    def guest(self, name):
        console = self.machine[name].serial
        if name == "a":
            console.expect(r"^guest ready .*\n", 400)
            time.sleep(1)
        yield Writer(console)

    def tls(self, side):
        return {"tls_creds": side} if self.kind == "qemu-tls" else {}

    def destination_listens(self, b):
        b("nbd-server-start", addr={"type": "inet", "data": {"host": "10.7.0.2", "port": str(PORT_NBD)}},
          **self.tls("server"))
        b("block-export-add", type="nbd", id="disk", node_name="disk", name="disk", writable=True)
        if self.kind == "qemu-tls":
            b("migrate-set-parameters", tls_creds="server")
        b("migrate-incoming", uri=f"tcp:10.7.0.2:{PORT_MOVE}")

    def move(self):
        a, b = self.qmp["a"], self.qmp["b"]
        self.destination_listens(b)
        a("blockdev-add", driver="nbd", node_name="target", export="disk", detect_zeroes="unmap", discard="unmap",
          server={"type": "inet", "host": "10.7.0.2", "port": str(PORT_NBD)}, **self.tls("client"))
        a("blockdev-mirror", job_id="mirror", device="disk", target="target", sync="full",
          copy_mode="write-blocking" if self.kind == "qemu-blocking" else "background")
        a.wait("BLOCK_JOB_READY", 600, device="mirror")
        a("migrate-set-capabilities", capabilities=[{"capability": "pause-before-switchover", "state": True}])
        a("migrate-set-parameters", downtime_limit=300, **self.tls("client"))
        a("migrate", uri=f"tcp:10.7.0.2:{PORT_MOVE}")
        a.migration("pre-switchover", 300)
        a("block-job-cancel", device="mirror")
        a.wait("BLOCK_JOB_COMPLETED", 60, device="mirror")
        a("migrate-continue", state="pre-switchover")
        a.migration("completed", 60)
        while not b("query-status")["running"]:
            time.sleep(0.02)
        b("nbd-server-stop")

    def close(self):
        for machine in self.machine.values():
            machine.kill()
        self.lan.close()


# ---- figures ---------------------------------------------------------------------------------------------------------

def measure_once(kind, image):
    pair = Godwit(image) if kind == "godwit" else Qemu(image, kind)
    try:
        with pair.guest("a") as writer:
            figures = writer.at_rest()
            writer.begin()
        n_bytes, cpu, start = pair.lan.n_bytes, cpu_s(pair.machines()), time.monotonic()
        pair.move()
        figures["total_s"] = time.monotonic() - start
        figures["cpu_s"] = cpu_s(pair.machines()) - cpu
        figures["wire_mb"] = (pair.lan.n_bytes - n_bytes) / 1e6
        with pair.guest("b") as writer:
            figures["pause_ms"], figures["writes"] = writer.end()
        return figures
    finally:
        pair.close()


def measure(repeat=1, kinds=KINDS):
    """{kind: {figure: median}}, by turns.  A move that fails is told, and costs no other its figures."""
    os.makedirs(FOLDER, exist_ok=True)
    image = os.path.join(FOLDER, "image.raw")
    contents(image)
    runs = {kind: [] for kind in kinds}
    for _ in range(repeat):
        for kind in kinds:
            try:
                runs[kind].append(measure_once(kind, image))
                print(f"measured {kind}: {runs[kind][-1]}", flush=True)
            except (AssertionError, OSError, Timeout) as e:
                print(f"failed {kind}: {e}", flush=True)
    return {kind: {k: statistics.median(run[k] for run in all_of) for k in all_of[0]}
            for kind, all_of in runs.items() if all_of}


def goal(name, ours, peers):
    """The line of what is a goal beside these."""
    goals = {k: min(p[k] for p in peers) * share
             for k, share in (("total_s", 0.5), ("pause_ms", 0.25), ("wire_mb", 0.5))}
    missed = [k for k, most in goals.items() if ours[k] > most]
    return (f"{'goal, beside ' + name:<40}{goals['total_s']:>9.1f}{'':>8}{goals['pause_ms']:>10.0f}"
            f"{'':>9}{goals['wire_mb']:>8.1f}{'  missed: ' + ', '.join(missed) if missed else ''}")


def table(rows):
    head = (f"{'a guest moves with its disk of 256 MiB':<40}{'total s':>9}{'cpu s':>8}{'pause ms':>10}{'at rest':>9}"
            f"{'MB':>8}")
    lines = [head, "-" * len(head)]
    for kind, row in rows.items():
        lines.append(f"{kind:<40}{row['total_s']:>9.1f}{row['cpu_s']:>8.1f}{row['pause_ms']:>10.0f}"
                     f"{row['rest_ms']:>9.0f}{row['wire_mb']:>8.1f}")
    for name, kinds in PEERS.items():
        peers = [rows[kind] for kind in kinds if kind in rows]
        if "godwit" in rows and peers:
            lines.append(goal(name, rows["godwit"], peers))
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--only", action="append", choices=KINDS)
    args = parser.parse_args()
    emulator.die_on_signals()
    kinds = args.only or KINDS
    rows = measure(args.repeat, kinds)
    print(table(rows))
    return 0 if len(rows) == len(set(kinds)) else 1


if __name__ == "__main__":
    sys.exit(main())
