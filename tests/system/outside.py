# SPDX-License-Identifier: BSD-2-Clause
"""The network outside the hosts, made by Linux: a bridge as the switch, a tap device for each host's card, and clients
with Linux's own TCP.

All of it is in a network namespace of this process (enter()), which ends with the process: nothing is left behind, and
no name or port can collide.  The test machine is ADDRESS on that network.  Needs root, or a kernel that lets users
create namespaces, and /dev/net/tun.
"""
import hashlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

from emulator import SLOWNESS, Timeout
from host import NUMBERS, address, mac

ADDRESS = "10.7.0.100"
INSIDE = "GODWIT_IN_NETNS"


class Missing(Exception):
    """This machine lacks something; the text says what, and how to get it."""


def run(*command):
    return subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, check=False)


def must(why, *command):
    done = run(*command)
    if done.returncode:
        raise Missing(f"can't {why}: `{' '.join(command)}` says: {done.stdout.strip() or done.returncode}")


def enter():
    """Start this program again in a network namespace of its own and with the bridge in it; returns there.  Missing if
    that may not be."""
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    lacking = [tool for tool in ("unshare", "ip", "ping", "ssh", "qemu-nbd") if not shutil.which(tool)]
    if lacking:
        raise Missing(f"there is no {', no '.join(lacking)}: run tools/setup.sh")
    if os.environ.get(INSIDE) != str(os.getpid()):              # exec keeps the number
        unshare = ["unshare", "--net", *([] if os.getuid() == 0 else ["--user", "--map-root-user"])]
        must("make a network namespace (be root, or allow user namespaces: sysctl kernel.unprivileged_userns_clone=1)",
             *unshare, "true")
        os.environ[INSIDE] = str(os.getpid())
        os.execvp(unshare[0], [*unshare, sys.executable, *sys.argv])
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        raise Missing("can't open /dev/net/tun: be root, or have root run `modprobe tun; chmod 666 /dev/net/tun` (in a "
                      "container: give it that device)")
    must("bring lo up", "ip", "link", "set", "lo", "up")
    must("make a bridge (as root: modprobe bridge)", "ip", "link", "add", "br0", "type", "bridge", "stp_state", "0",
         "forward_delay", "0", "mcast_snooping", "0")
    must("give the bridge an address", "ip", "addr", "add", f"{ADDRESS}/24", "dev", "br0")
    must("bring the bridge up", "ip", "link", "set", "br0", "up")


class Bridge:
    """A link for Host: each host's card is a port of the bridge."""
    ways_in = {name: f"{address(name)}:7443" for name in NUMBERS}

    @staticmethod
    def plug(name):
        tap = f"tap-{name}"
        must("make a tap device", "ip", "tuntap", "add", "dev", tap, "mode", "tap")
        # a cable that loses nothing
        must("join it to the bridge", "ip", "link", "set", tap, "txqueuelen", "4000", "master", "br0", "up")
        return tap

    def netdev(self, name):
        return f"tap,id=n0,ifname={self.plug(name)},script=no,downscript=no"


class BochsBridge(Bridge):
    """The same for Bochs.  Its other modules drop what is for a guest's address, so guests in Bochs have no network but
    this one."""

    def config(self, name):
        return f"e1000: enabled=1, mac={mac(name)}, ethmod=tuntap, ethdev=/dev/net/tun:{self.plug(name)}\n"


class Program:
    """A program of this machine that ends with us; its lines are kept with the time when they came."""

    def __init__(self, *command):
        self.command, self.lines, self.changed = command, [], threading.Condition()
        self.process = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *command], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                        text=True, bufsize=1)
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            with self.changed:
                self.lines.append((time.monotonic(), line.rstrip("\n")))
                self.changed.notify_all()

    def say(self, text):
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()

    def expect(self, pattern, timeout, start=0):
        """Wait for a line after the first `start` ones; returns the match."""
        deadline = time.monotonic() + timeout * SLOWNESS
        with self.changed:
            while True:
                for _, line in self.lines[start:]:
                    found = re.search(pattern, line)
                    if found:
                        return found
                if time.monotonic() > deadline or not self.reader.is_alive():
                    tail = "\n".join(f"    | {line}" for _, line in self.lines[-10:])
                    raise Timeout(f"{' '.join(self.command[:2])}: no /{pattern}/ "
                                  f"{'before it ended' if self.process.poll() is not None else 'in time'}:\n{tail}")
                self.changed.wait(0.5)

    def end(self, sig=signal.SIGKILL):
        """End it and return all its lines."""
        if self.process.poll() is None:
            self.process.send_signal(sig)
        self.process.wait(10)
        self.reader.join(10)
        return self.lines


def longest_gap(times):
    return max((b - a for a, b in zip(times, times[1:])), default=0.0)


class Pings:
    """ping, every 10 ms."""
    EACH_S = 0.01

    def __init__(self, address):
        self.program = Program("ping", "-n", "-D", "-i", str(self.EACH_S), address)

    def end(self):
        """{"sent": n, "lost": n, "silence_ms": the longest time without an answer}; what is still on its way now is not
        lost."""
        ended = time.time()
        text = [line for _, line in self.program.end(signal.SIGINT)]
        answers = [re.match(r"\[(\d+\.\d+)\] \d+ bytes from .* icmp_seq=(\d+) ", line) for line in text]
        answers = [(float(m[1]), int(m[2])) for m in answers if m]
        if not answers:
            raise AssertionError("ping had no answer at all:\n" + "\n".join(text[-5:]))
        sent = max(n for _, n in answers)
        return {"sent": sent, "lost": sent - len({n for _, n in answers}),
                "silence_ms": 1000 * longest_gap(sorted(t for t, _ in answers) + [ended])}


class Ssh:
    """How the guest is reached."""

    def __init__(self, address, key, known_hosts):
        self.command = ["ssh", "-F", "/dev/null", "-i", key, "-o", f"UserKnownHostsFile={known_hosts}", "-o",
                        "GlobalKnownHostsFile=/dev/null",
                        "-o", "BatchMode=yes", "-o", "ConnectTimeout=60", f"root@{address}"]

    def ask(self, line, timeout=60):
        """A connection of its own for one command; returns what that printed."""
        try:
            done = subprocess.run([*self.command, line], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, text=True,
                                  timeout=timeout * SLOWNESS, check=False)
        except subprocess.TimeoutExpired:
            raise Timeout(f"ssh ... {line!r} has no answer within {timeout * SLOWNESS:.0f} s") from None
        if done.returncode:
            raise AssertionError(f"ssh ... {line!r} ended with {done.returncode}: {done.stdout.strip()}")
        return done.stdout.strip()


class Session:
    """A login that stays: a program in it counts, ten times a second, and repeats what it is told."""
    COUNTER = ('n=0; while :; do echo "count $n pid $$"; n=$((n + 1)); if read -r -t 0.1 word; then echo "heard '
               '$word"; fi; done')

    def __init__(self, ssh):
        self.program = Program(*ssh.command, f"exec bash -c '{self.COUNTER}'")
        self.pid = self.program.expect(r"^count 0 pid (\d+)", 90)[1]

    def counts(self):
        """[(time, count)] so far; AssertionError if one is missing, comes twice, or another process counts."""
        lines = [(t, re.match(r"count (\d+) pid (\d+)$", line)) for t, line in list(self.program.lines)]
        found = [(t, int(m[1]), m[2]) for t, m in lines if m]
        numbers = [n for _, n, _ in found]
        assert numbers == list(range(len(numbers))), (
            f"counts are missing in the session: {numbers[:5]}...{numbers[-5:]}, {len(numbers)} of them")
        assert {pid for _, _, pid in found} <= {self.pid}, "another program counts in the session now"
        return [(t, n) for t, n, _ in found]

    def prove_alive(self, word):
        """Type a word; the program must repeat it, and go on counting."""
        if self.program.process.poll() is not None:
            raise AssertionError("the SSH session ended: " + self.program.lines[-1][1])
        start = len(self.program.lines)
        self.program.say(word)
        self.program.expect(rf"^heard {re.escape(word)}$", 20, start)
        self.program.expect(r"^count \d+ ", 20, start + 1)

    def end(self):
        self.program.end()


class Fetch(threading.Thread):
    """One TCP connection over which a file comes.  It reads `rate` bytes/s until finish(), then all it can get."""

    def __init__(self, address, port, rate):
        super().__init__(daemon=True)
        self.sock, self.rate, self.hurry = socket.socket(), rate, threading.Event()
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)  # so that what is not read is not sent, either
        self.sock.settimeout(30 * SLOWNESS)
        self.sock.connect((address, port))
        self.bytes, self.sum, self.error, self.done = 0, hashlib.sha256(), None, False
        self.start()

    def run(self):
        try:
            while True:
                data = self.sock.recv(16384)
                if not data:
                    self.done = True
                    return
                self.sum.update(data)
                self.bytes += len(data)
                self.hurry.wait(len(data) / self.rate)
        except OSError as error:
            self.error = error

    def finish(self, timeout):
        """Let the rest come; returns (bytes, SHA-256 in hexadecimal)."""
        self.hurry.set()
        self.join(timeout * SLOWNESS)
        if self.is_alive():
            raise Timeout(f"the TCP transfer is not complete after {timeout * SLOWNESS:.0f} s more: {self.bytes} bytes "
                          "came")
        if self.error:
            raise AssertionError(f"the TCP transfer broke after {self.bytes} bytes: {self.error}")
        return self.bytes, self.sum.hexdigest()


class DiskServer(Program):
    """qemu-nbd on this machine: serves an image without changing it (what is written goes into a temporary file)."""
    DISK = f"nbd:{ADDRESS}:10809/disk"

    def __init__(self, image):
        super().__init__("qemu-nbd", "--snapshot", "-f", "raw", "-x", "disk", "-p", "10809", "-b", ADDRESS,
                         "--shared=0", "--persistent", "--discard=unmap", image)
        time.sleep(0.5)
        if self.process.poll() is not None:
            raise Missing("qemu-nbd does not start: " + "\n".join(line for _, line in self.end()))
