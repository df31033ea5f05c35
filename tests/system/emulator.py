# SPDX-License-Identifier: BSD-2-Clause
"""One emulated machine: QEMU under TCG, its monitor, its serial line, and limits that guarantee its end.

Every emulator has a hard time limit, dies with the process that started it (setpriv --pdeathsig), and is killed at
exit.  Nothing here depends on Godwit.  A Timeout reports the machine's state: registers of every CPU from the monitor,
and the tail of the serial line.
"""
import atexit
import glob
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.join(ROOT, os.environ.get("BUILD", "build"))
LANE = os.environ.get("GODWIT_LANE", "")  # set for a part of the system tests that runs beside another one (lanes.py)
SYSTEM = os.path.join(BUILD, "system", LANE)                    # what they write: keys, disk images, logs
QEMU = os.environ.get("GODWIT_QEMU", "qemu-system-x86_64")
OVMF_CODE = "/usr/share/OVMF/OVMF_CODE_4M.fd"
OVMF_VARS = "/usr/share/OVMF/OVMF_VARS_4M.fd"
ACCEL = ["-accel", "tcg,thread=multi,tb-size=512"]
# `extra` for counting: the TSC counts instructions, so that a figure does not depend on the machine.  One thread only,
# one CPU.
ICOUNT = ["-icount", "shift=0,sleep=off"]
ACCEL_ICOUNT = ["-accel", "tcg,thread=single,tb-size=512"]

# Everything waits this much longer on a slow or busy machine.
SLOWNESS = float(os.environ.get("GODWIT_SLOWNESS", "1"))

running = []  # every emulator that this process started and that was not ended


class Timeout(Exception):
    """Something did not come in time: a hang of the emulator or of ours.  The runner tries again once."""


class Died(Exception):
    """The emulator ended although nobody asked it to."""


def kill_all():
    for emulator in list(running):
        emulator.kill()


atexit.register(kill_all)


def die_on_signals():
    """Turn SIGTERM and SIGHUP into an ordinary exit, so that atexit runs."""
    for sig in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(sig, lambda *_: sys.exit(1))


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class CpuWaits:
    """with CpuWaits() as waits: ...; then waits.longest_ms is for how long a thread of a running emulator was ready and
    got no CPU of *this* machine: the kernel's own count (/proc/PID/task/TID/schedstat, nanoseconds), which grows at the
    end of each wait."""
    EVERY_S = 0.02

    def __enter__(self):
        self.longest_ms, self._before, self._done = 0.0, {}, threading.Event()
        self._look()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._done.set()
        self._thread.join()

    def _watch(self):
        while not self._done.wait(self.EVERY_S):
            self._look()

    def _look(self):
        for emulator in list(running):
            for path in glob.glob(f"/proc/{emulator.process.pid}/task/*/schedstat"):
                try:
                    with open(path, encoding="ascii") as f:
                        waited = int(f.read().split()[1])
                except (OSError, IndexError):
                    continue                                        # that thread has ended
                self.longest_ms = max(self.longest_ms, (waited - self._before.get(path, waited)) / 1e6)
                self._before[path] = waited


class Serial:
    """A serial line: everything received is kept in `text`, with escape sequences removed and every line end made \\n.

    A lone carriage return (progress lines) counts as a line end.  `pos` is how far expect() has read."""
    ESCAPE = re.compile(r"\x1b(\[[0-9;?=]*[ -/]*[@-~]|[@-Z\\^_])")
    HELD_BACK = re.compile(r"(\r+|\x1b(\[[0-9;?=]*)?)\Z")        # may be the first half of something

    def __init__(self, sock, owner):
        self.sock, self.owner = sock, owner
        self.text, self.pos, self.closed = "", 0, False
        self.echo = None                                        # a function called with new text, to narrate
        self._held = ""
        self._changed = threading.Condition()
        threading.Thread(target=self._reader, daemon=True).start()

    def _reader(self):
        while True:
            try:
                data = self.sock.recv(65536)
            except OSError:
                data = b""
            with self._changed:
                if data:
                    self._take(data.decode("latin-1"))
                self.closed = self.closed or not data
                self._changed.notify_all()
            if not data:
                return

    def _take(self, chunk):
        chunk = self._held + chunk
        held = self.HELD_BACK.search(chunk)
        self._held = held.group(0) if held else ""
        chunk = chunk[:held.start()] if held else chunk
        chunk = re.sub(r"\r+\n?", "\n", self.ESCAPE.sub("", chunk).replace("\r\r", "\r"))
        self.text += chunk
        if self.echo:
            self.echo(chunk)

    def send(self, text):
        try:
            self.sock.sendall(text.encode("latin-1"))
        except OSError:
            pass                                                # the next expect() says that the machine died

    def mark(self):
        """Read on from here: forget what came before."""
        with self._changed:
            self.pos = len(self.text)
            return self.pos

    def expect(self, pattern, timeout, since=None, keep=False):
        """Wait for a regular expression after `since` (default: after what was read before); returns the match.

        keep: do not count it as read."""
        regex = re.compile(pattern, re.M) if isinstance(pattern, str) else pattern
        deadline = time.monotonic() + timeout * SLOWNESS
        start = self.pos if since is None else since
        with self._changed:
            while True:
                match = regex.search(self.text, start)
                if match:
                    if not keep:
                        self.pos = match.end()
                    return match
                left = deadline - time.monotonic()
                if self.closed:
                    raise Died(f"{self.owner.name}: ended while waiting for /{regex.pattern}/; last "
                               f"output:\n{self.tail()}")
                if left <= 0:
                    break
                self._changed.wait(min(left, 1))
        raise Timeout(f"{self.owner.name}: no /{regex.pattern}/ within {timeout * SLOWNESS:.0f} s; last "
                      f"output:\n{self.tail()}")

    def settle(self, quiet=0.06, most=1.0):
        """Wait until nothing was received for `quiet` seconds, `most` seconds at the longest."""
        end = time.monotonic() + most
        while time.monotonic() < end:
            before = len(self.text)
            time.sleep(quiet)
            if len(self.text) == before:
                return

    def tail(self, n_lines=25):
        return "\n".join("    | " + line for line in self.text.splitlines()[-n_lines:])


class Emulator:
    """QEMU with UEFI firmware, one disk image, one NIC, COM1 as `serial`, port 0xE9 into a file."""

    def __init__(self, name, image, folder, cpus=2, memory_mib=1536, net=(), limit_s=900, reboot=False, extra=()):
        self.name, self.folder = name, folder
        self.sockets = tempfile.mkdtemp(prefix="godwit-")       # short: a socket's path has at most 107 bytes
        os.makedirs(folder, exist_ok=True)
        self.e9_path = os.path.join(folder, f"{name}.log")
        firmware = os.path.join(folder, f"{name}.vars.fd")
        shutil.copy(OVMF_VARS, firmware)
        com1, monitor = (os.path.join(self.sockets, s) for s in ("com1", "monitor"))
        accel = ACCEL_ICOUNT if "-icount" in extra else ACCEL
        command = ["setpriv", "--pdeathsig", "KILL", QEMU, *accel, "-machine", "q35", "-cpu", "EPYC", "-smp", str(cpus),
                   "-m", str(memory_mib),
                   "-nodefaults", "-display", "none", *([] if reboot else ["-no-reboot"]),
                   "-drive", f"if=pflash,format=raw,unit=0,readonly=on,file={OVMF_CODE}",
                   "-drive", f"if=pflash,format=raw,unit=1,file={firmware}",
                   "-drive", f"format=raw,file={image}",
                   "-chardev",
                   f"socket,id=com1,path={com1},server=on,wait=on,logfile={os.path.join(folder, name + '.com1')}",
                   "-serial", "chardev:com1",
                   "-debugcon", f"file:{self.e9_path}", "-monitor", f"unix:{monitor},server=on,wait=off",
                   *net, *extra]
        self.command = command
        for stale in (self.e9_path, com1):
            if os.path.exists(stale):
                os.unlink(stale)
        self.stderr_path = os.path.join(folder, f"{name}.stderr")
        with open(self.stderr_path, "wb") as err:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=err, stderr=err,
                                            start_new_session=True)
        running.append(self)
        self._limit = threading.Timer(limit_s * SLOWNESS, self._out_of_time)
        self._limit.daemon = True
        self._limit.start()
        self.monitor_path = monitor
        self.serial = Serial(self._connect(com1), self)

    def _connect(self, path, timeout=20):
        deadline = time.monotonic() + timeout * SLOWNESS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                with open(self.stderr_path, encoding="utf-8", errors="replace") as f:
                    raise Died(f"{self.name}: QEMU did not start:\n{f.read()[-1500:]}")
            sock = socket.socket(socket.AF_UNIX)
            try:
                sock.connect(path)
                return sock
            except OSError:
                sock.close()
                time.sleep(0.05)
        raise Timeout(f"{self.name}: QEMU does not open {path}")

    def monitor(self, line, timeout=10):
        """Run one command of QEMU's monitor and return what it says ("" when the monitor does not answer)."""
        out = b""
        try:
            with socket.socket(socket.AF_UNIX) as s:
                s.settimeout(timeout)
                s.connect(self.monitor_path)
                while b"(qemu) " not in out:
                    out += s.recv(65536)
                out = b""
                s.sendall(line.encode() + b"\n")
                while b"(qemu) " not in out:
                    chunk = s.recv(65536)
                    if not chunk:
                        break
                    out += chunk
        except OSError:
            pass
        text = out.decode("latin-1")
        return re.sub(r"\A.*?\n", "", Serial.ESCAPE.sub("", text).replace("\r", ""), count=1,
                      flags=re.S).replace("(qemu) ", "")

    def dump(self):
        """What every CPU is doing, twice, so that a standstill can be told from a loop; and the log's tail."""
        out = []
        for _ in range(2):
            regs = self.monitor("info registers -a")
            out += [line for line in regs.splitlines() if re.match(r"(CPU#|RAX|RIP|CR0|CS )", line)]
            time.sleep(0.3)
        return "\n".join(["    registers:"] + ["    | " + r for r in out] + ["    log:"]
                         + ["    | " + line for line in self.e9_text().splitlines()[-15:]])

    def e9_text(self):
        try:
            with open(self.e9_path, encoding="latin-1") as f:
                return f.read()
        except OSError:
            return ""

    def alive(self):
        return self.process.poll() is None

    def wait_exit(self, timeout):
        """Wait for QEMU to end by itself."""
        try:
            code = self.process.wait(timeout * SLOWNESS)
        except subprocess.TimeoutExpired:
            raise Timeout(f"{self.name}: did not power off within {timeout * SLOWNESS:.0f} s; last "
                          f"output:\n{self.serial.tail()}") from None
        self.kill()
        return code

    def _out_of_time(self):
        print(f"{self.name}: killed, it ran longer than its hard limit", file=sys.stderr)
        self.process.kill()

    def kill(self):
        """End QEMU at once, as a power failure would."""
        if self in running:
            running.remove(self)
        self._limit.cancel()
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.sockets, ignore_errors=True)
