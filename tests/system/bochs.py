# SPDX-License-Identifier: BSD-2-Clause
"""One emulated Intel machine: Bochs, its serial line, a cable between two of them, and limits that guarantee its end.

Bochs replaces QEMU (emulator.py) for VT-x, which QEMU's emulator does not have.  Differences:

- Speed is about 50 million instructions a second.  Simulated time follows instructions, not the wall clock: `ips`
  instructions are one simulated second.  sync=slowdown keeps an idle host's time from racing (ten simulated seconds per
  second otherwise, and so connections time out while the other host computes).  One frame is received per simulated
  millisecond, so the network carries 1.4 MB per simulated second; see IPS.
- The serial line is a TCP socket of ours that Bochs connects to; the log on port 0xE9 goes to Bochs's standard output,
  which is a file.
- The exit code is 1 in every case; SIGTERM is ignored; a disk image is locked by a file that outlives a killed Bochs.
- Its own findings (which check of a VM entry failed, triple faults, ...) are in NAME.bochs.log.
"""
import os
import shutil
import socket
import subprocess
import threading

from emulator import Died, Emulator, Serial, Timeout, running
from host import Host, RUNS, mac
import emulator

BOCHS = os.environ.get("GODWIT_BOCHS", "bochs-bin")
OVMF = "/usr/share/ovmf/OVMF.fd"
VGABIOS = "/usr/share/vgabios/vgabios.bin"
SKYLAKE, HASWELL, SANDY_BRIDGE, RYZEN = "corei7_skylake_x", "corei7_haswell_4770", "corei7_sandy_bridge_2600k", "ryzen"
MODEL = os.environ.get("GODWIT_BOCHS_CPU", SKYLAKE)
# About the real speed: the clocks go as the wall's when idle, and somewhat slower when busy.
IPS = int(os.environ.get("GODWIT_BOCHS_IPS", "40000000"))
PATIENCE = float(os.environ.get("GODWIT_BOCHS_PATIENCE", "6"))  # how much longer than for QEMU everything is waited for

CONFIG = """\
display_library: rfb, options="timeout=0"
romimage: file={OVMF}
vgaromimage: file={VGABIOS}
megs: {memory_mib}
cpu: model={model}, count={cpus}:1:1, ips={ips}, reset_on_triple_fault=0
clock: sync=slowdown, time0=utc
ata0-master: type=disk, path={image}, mode=flat
com1: enabled=1, mode=socket-client, dev=127.0.0.1:{com1}
port_e9_hack: enabled=1
speaker: enabled=0
log: {log}
{net}"""


class PatientSerial(Serial):
    def expect(self, pattern, timeout, since=None, keep=False):
        return super().expect(pattern, timeout * PATIENCE, since, keep)

    def send(self, text):
        """One piece at a time: a Bochs that is slow loses what overflows its 16-byte FIFO."""
        for i in range(0, len(text), 8):
            super().send(text[i:i + 8])


class Bochs(Emulator):
    """Bochs with UEFI firmware, one disk image, one e1000, COM1 as `serial`, port 0xE9 into a file.  Same use as
    Emulator."""

    def __init__(self, name, image, folder, cpus=1, memory_mib=512, net="", limit_s=900, model=MODEL, ips=IPS):
        # not super().__init__: that starts QEMU
        self.name, self.folder = name, folder
        os.makedirs(folder, exist_ok=True)
        self.e9_path = os.path.join(folder, f"{name}.log")
        self.bochs_log = os.path.join(folder, f"{name}.bochs.log")
        self.stderr_path = os.path.join(folder, f"{name}.stderr")
        listener = socket.create_server(("127.0.0.1", 0))
        rc, config = (os.path.join(folder, f"{name}.{kind}") for kind in ("rc", "bochsrc"))
        with open(config, "w", encoding="utf-8") as f:
            f.write(CONFIG.format(OVMF=OVMF, VGABIOS=VGABIOS, memory_mib=memory_mib, model=model, cpus=cpus, ips=ips,
                                  image=image,
                                  com1=listener.getsockname()[1], log=self.bochs_log, net=net))
        with open(rc, "w", encoding="utf-8") as f:
            f.write("c\n")                                      # Debian's Bochs starts in its debugger: continue
        for stale in (self.e9_path, self.bochs_log, image + ".lock"):
            if os.path.exists(stale):
                os.unlink(stale)
        self.command = ["setpriv", "--pdeathsig", "KILL", BOCHS, "-q", "-f", config, "-rc", rc]
        with open(self.e9_path, "wb") as out, open(self.stderr_path, "wb") as err:
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                                            start_new_session=True)
        running.append(self)
        self._limit = threading.Timer(limit_s * emulator.SLOWNESS, self._out_of_time)
        self._limit.daemon = True
        self._limit.start()
        self.serial = PatientSerial(self._accept(listener), self)

    def _accept(self, listener, timeout=20):
        listener.settimeout(0.5)
        with listener:
            for _ in range(int(timeout * 2 * emulator.SLOWNESS)):
                try:
                    return listener.accept()[0]
                except TimeoutError:
                    if self.process.poll() is not None:
                        raise Died(f"{self.name}: Bochs did not start:\n{self.bochs_says()}") from None
        self.kill()
        raise Timeout(f"{self.name}: Bochs does not connect its serial line")

    def bochs_says(self, n_lines=15):
        """The end of Bochs's own log."""
        try:
            with open(self.bochs_log, encoding="latin-1") as f:
                return "\n".join("    | " + line.rstrip() for line in f.readlines()[-n_lines:])
        except OSError:
            return ""

    def monitor(self, line, timeout=10):
        return ""

    def dump(self):
        return "\n".join(["    Bochs:", self.bochs_says(), "    log:"] +
                         ["    | " + line for line in self.e9_text().splitlines()[-15:]])

    def wait_exit(self, timeout):
        """Wait for Bochs to end by itself.  0, as its own exit code says nothing."""
        super().wait_exit(timeout * PATIENCE)
        return 0

    def kill(self):
        if self in running:
            running.remove(self)
        self._limit.cancel()
        self.process.kill()
        self.process.wait()


class BochsLink:
    """A switch that joins hosts in Bochs, and in QEMU (nic="e1000"): one datagram of UDP is one frame.  A frame whose
    destination was seen as a source goes there only, any other to all.

    A Bochs receives on its port P and sends to P + 1; QEMU is told to do the same."""

    def __init__(self):
        self.ends = {}                                          # host name -> (socket bound to P + 1, P)
        self.seen = {}                                          # Ethernet address -> host name
        self.n_frames = 0

    def _port(self, name):
        if name not in self.ends:
            self.ends[name] = self._open()
            threading.Thread(target=self._relay, args=(name,), daemon=True).start()
        return self.ends[name][1]

    def config(self, name):
        """For Bochs."""
        return f"e1000: enabled=1, mac={mac(name)}, ethmod=socket, ethdev={self._port(name)}\n"

    def netdev(self, name):
        """For QEMU."""
        port = self._port(name)
        return (f"dgram,id=n0,local.type=inet,local.host=127.0.0.1,local.port={port},"
                f"remote.type=inet,remote.host=127.0.0.1,remote.port={port + 1}")

    @staticmethod
    def _open():
        for port in range(20000 + os.getpid() % 10000, 60000, 2):
            try:
                sock, probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), socket.socket(socket.AF_INET,
                        socket.SOCK_DGRAM)
                probe.bind(("127.0.0.1", port))
                probe.close()
                sock.bind(("127.0.0.1", port + 1))
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
                return sock, port
            except OSError:
                sock.close()
        raise RuntimeError("no free pair of UDP ports")

    def _relay(self, name):
        sock = self.ends[name][0]
        while True:
            try:
                frame = sock.recv(65536)
            except ConnectionError:
                continue                                        # what was sent before found nobody at home
            self.n_frames += 1
            self.seen[frame[6:12]] = name
            to = self.seen.get(frame[:6])
            for other, (_, port) in list(self.ends.items()):
                if other != name and to in (other, None):
                    try:
                        sock.sendto(frame, ("127.0.0.1", port))
                    except OSError:
                        pass                                    # that host is not there now


class BochsHost(Host):
    """A Godwit host in Bochs.  Further keyword arguments: model, ips.  nic, extra, reboot and pcap do not apply."""

    def __init__(self, name, link=None, model=MODEL, ips=IPS, cpus=1, memory_mib=512, **kw):
        super().__init__(name, link, cpus=cpus, memory_mib=memory_mib, **kw)
        self.model, self.ips = model, ips
        self.folder = os.path.join(RUNS, "bochs" + (("-" + kw["tag"]) if kw.get("tag") else ""))

    def machine_keys(self):
        return {}                                               # one thread emulates all CPUs: nothing races

    def boot(self, wait=True):
        net = self.link.config(self.name) if self.link else ""
        self.machine = Bochs(self.name, self.image(), self.folder, self.cpus, self.memory_mib, net, self.limit_s,
                             self.model, self.ips)
        if wait:
            self.wait_prompt()
        return self

    def wait_log(self, pattern, timeout=20):
        return super().wait_log(pattern, timeout * PATIENCE)


def write_file(name, content):
    """A file for a host's disk; returns its path."""
    path = os.path.join(RUNS, "bochs-files", name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as f:
        f.write(content)
    return path


def available():
    """None, or why Bochs cannot run here."""
    missing = [p for p in (OVMF, VGABIOS) if not os.path.exists(p)] + ([] if shutil.which(BOCHS) else [BOCHS])
    return f"missing: {' '.join(missing)} (tools/setup.sh installs them)" if missing else None
