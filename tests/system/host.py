# SPDX-License-Identifier: BSD-2-Clause
"""A Godwit host in an emulator: its configuration and ESP image, its console commands, and the guest behind `vm
console`.

    link = Link()
    a = Host("a", link, vms={"guest": vm("godwit.run=dirtier,32,1000")}, peers=["b"]);  a.boot()
    with a.guest("guest") as g:
        g.expect("guest ready", 60)
    report = a.migrate("guest", "b")
"""
import atexit
import os
import queue
import re
import socket
import subprocess
import threading
import time

from emulator import BUILD, CpuWaits, Died, Emulator, LANE, QEMU, ROOT, SLOWNESS, SYSTEM, Timeout, free_port
from guest_clock import tsc

MKHOST = os.path.join(ROOT, "tools", "mkhost")
KEYS = os.path.join(SYSTEM, "keys")
RUNS = os.path.join(SYSTEM, "run")
EFI = os.environ.get("GODWIT_EFI", os.path.join(BUILD, "godwit.efi"))
KERNEL = os.path.join(BUILD, "deps", "linux", "vmlinuz")
INITRD = os.path.join(BUILD, "guest", "initramfs.cpio.gz")
NUMBERS = {"a": 1, "b": 2, "c": 3, "d": 4}                      # host name -> last byte of its addresses

LOG_LINE = re.compile(r"^(?:godwit \S+> )?\[ *\d+\.\d{6}\] (debug|info|warn|error) +\S+: .*$", re.M)
PROGRESS = re.compile(r"^(?:migrate )?\S+ -> \S+: \S+.* (\d+)% .*$", re.M)
BOOT_S, READY_S, MOVE_S = 60, 90, 90                            # generous: for a machine that others use as well


def address(name):
    return f"10.7.0.{NUMBERS[name]}"


def mac(name):
    return f"52:54:00:67:00:{NUMBERS[name]:02x}"


class Link:
    """A cable between two hosts: the first end listens, the second connects.  The second one may leave and come back;
    the first one may not, since QEMU 7.2 does not connect again."""

    def __init__(self):
        os.makedirs(RUNS, exist_ok=True)
        self.path, self.listener = os.path.join(RUNS, f"link-{os.getpid()}-{id(self):x}"), None

    def netdev(self, name):
        self.listener = self.listener or name
        return f"stream,id=n0,server={'on' if self.listener == name else 'off'},addr.type=unix,addr.path={self.path}"


class Cables:
    """What hosts' network cards are plugged into, when this program shall see every frame: a socket for each host.  A
    host may leave and come back.

    pass_on(name, frame) is what happens to a frame that host name has sent: send(to, frame), if at all, to whom it is
    for.  It is called by a thread for each host.  plugged_in(name): once for each host, before its first frame."""

    def __init__(self):
        os.makedirs(RUNS, exist_ok=True)
        self.path = os.path.join(RUNS, f"cables-{os.getpid()}-{id(self):x}")
        self.ends = {}                                          # host name -> its listening socket
        self.wires = {}                                         # host name -> its connection
        self.locks = {}                                         # host name -> who may send on it

    def netdev(self, name):
        if name not in self.ends:
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(f"{self.path}-{name}")
            listener.listen(1)
            self.ends[name], self.locks[name] = listener, threading.Lock()
            self.plugged_in(name)
            threading.Thread(target=self._receive, args=(name,), daemon=True).start()
        return f"stream,id=n0,server=off,addr.type=unix,addr.path={self.path}-{name}"

    def _receive(self, name):
        while True:
            self.wires[name] = self.ends[name].accept()[0]
            stream = self.wires[name].makefile("rb")
            while True:
                try:
                    head = stream.read(4)                       # QEMU's framing: length, frame
                    frame = stream.read(int.from_bytes(head, "big")) if len(head) == 4 else b""
                except OSError:
                    frame = b""                                 # killed before it had read all that was sent to it
                if not frame:
                    break
                self.pass_on(name, frame)
            self.wires.pop(name).close()

    def send(self, to, frame):
        try:
            with self.locks[to]:
                self.wires[to].sendall(len(frame).to_bytes(4, "big") + frame)
        except (OSError, KeyError):
            pass                                                # that host died just now

    def plugged_in(self, name):
        pass

    def pass_on(self, name, frame):
        raise NotImplementedError


class Lan(Cables):
    """A switch with a cable for each host, and one to this machine, which they see at number 100 of their network: what
    listens on 127.0.0.1 here is reached there, and ways_in[name] here, "ADDRESS:PORT", leads to host name's management
    interface.  cut("a", "b"): nothing passes between these two any more, until heal().

    This machine's end is a QEMU without a machine in it, for its user network.  That one takes every frame for its own,
    so only those for its address may reach it: hence a switch, not a hub."""
    GATEWAY = "10.7.0.100"

    def __init__(self, addresses=None, ways_in=None):
        """addresses: {name: A.B.C.D, all in one network of 254}"""
        super().__init__()
        # address -> the cable where it is; pairs of names that are cut off from each other
        self.home, self.apart = {}, set()
        addresses = addresses or {name: address(name) for name in NUMBERS}
        self.ways_in = ways_in or {name: f"127.0.0.1:{free_port()}" for name in addresses}
        net = next(iter(addresses.values())).rpartition(".")[0]
        forward = "".join(f",hostfwd=tcp:{self.ways_in[name]}-{there}:7443" for name, there in addresses.items())
        command = ["setpriv", "--pdeathsig", "KILL", QEMU, "-machine", "none", "-nodefaults", "-display", "none",
                   "-monitor", "none",
                   "-netdev",
                   f"user,id=u,ipv6=off,net={net}.0/24,host={net}.100,dns={net}.101,dhcpstart={net}.200{forward}",
                   "-netdev", "hubport,id=hu,hubid=0,netdev=u", "-netdev", self.netdev("user"), "-netdev",
                   "hubport,id=hn,hubid=0,netdev=n0"]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                        start_new_session=True)
        atexit.register(self.close)

    def cut(self, one, other):
        self.apart.add(frozenset((one, other)))

    def heal(self):
        self.apart.clear()

    def pass_on(self, name, frame):
        if not frame[6] & 1:                                    # a group's address is nobody's
            self.home[frame[6:12]] = name
        known = self.home.get(frame[:6])
        for to in [known] if known else [w for w in list(self.wires) if frame[0] & 1 or w != "user"]:
            if to != name and frozenset((name, to)) not in self.apart:
                self.send(to, frame)

    def close(self):
        self.process.kill()
        self.process.wait()


def opens_connection(frame):
    """Is it a TCP segment with SYN and without ACK, in an Ethernet frame with IPv4?"""
    tcp = 14 + 4 * (frame[14] & 15)
    return frame[12:14] == b"\x08\0" and frame[23] == 6 and frame[tcp + 13] & 0x12 == 2


class SlowLink(Cables):
    """A cable on which each frame takes `delay` seconds; that may be changed at any time, so that a short phase of a
    move becomes a long one.  When a host dies, what it sent and is still under way is lost.  The same while the cable
    is `cut`.  `no_calls`: the name of a host that opens no TCP connection to the other one; what is open goes on."""

    def __init__(self):
        super().__init__()
        self.delay, self.cut, self.no_calls = 0.0, False, None
        self.queues = {}  # host name -> frames for it, each with its time and sender

    def plugged_in(self, name):
        self.queues[name] = queue.Queue()
        threading.Thread(target=self._deliver, args=(name,), daemon=True).start()

    def pass_on(self, name, frame):
        if self.cut or name == self.no_calls and opens_connection(frame):
            return
        for other in self.queues.keys() - {name}:
            self.queues[other].put((time.monotonic() + self.delay, name, frame))

    def _deliver(self, name):
        while True:
            due, sender, frame = self.queues[name].get()
            time.sleep(max(due - time.monotonic(), 0))
            if sender in self.wires and not self.cut:
                self.send(name, frame)


def clock_ahead(seconds):
    """For Host's extra: the machine's own clock (RTC) is so far ahead of this machine's."""
    return ["-rtc", "base=" + time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time.time() + seconds))]


class UserNet:
    """QEMU's own little network with a DHCP server and nothing behind it."""

    def netdev(self, _):
        return "user,id=n0,restrict=on"


def vm(cmdline="", memory="256M", cpus=1, autostart=True, **more):
    """A [vm] section; more: further keys, with _ for -; a list stands for a key that comes again."""
    keys = {"memory": memory, "cpus": cpus, "kernel": "vmlinuz", "initrd": "initramfs.cpio.gz",
            "cmdline": ("console=ttyS0 quiet " + cmdline).strip(),
            "autostart": {True: "yes", False: "no"}.get(autostart, autostart)}
    keys.update({k.replace("_", "-"): v for k, v in more.items()})
    return {k: v for k, v in keys.items() if v is not None}


def dirtier(mib, rate):
    """A command line for vm().  In a lane the dirtier sleeps 10 ms at a time, since another lane wants the CPU and no
    check there asks for its gaps."""
    return f"godwit.run=dirtier,{mib},{rate}" + (",word,1,10" if LANE else "")


def mkhost(*args):
    run = subprocess.run([MKHOST, *args], capture_output=True, text=True, check=False)
    if run.returncode != 0:
        raise RuntimeError(f"{MKHOST} {' '.join(args)} failed:\n{run.stdout}{run.stderr}")
    return run.stdout + run.stderr


_fingerprints = {}


def fingerprint(name):
    """Make host name's key and certificate if need be; returns the certificate's SHA-256 in hexadecimal."""
    if name not in _fingerprints:
        _fingerprints[name] = mkhost("--key", name, "--keydir", KEYS).strip()
    return _fingerprints[name]


class Report(dict):
    """The lines "key: value" that `migrate` prints at its end; rounds: one dict for each "round N: ..." line."""

    def __init__(self, text):
        super().__init__()
        self.text, self.round_list = text, []
        for line in text.splitlines():
            numbered = re.match(r"\s*round (\d+): (.*)$", line)
            plain = re.match(r"\s*([a-z][a-z0-9_-]*): +(.*?)\s*$", line)
            if numbered:
                fields = {k: float(v) for k, v in re.findall(r"(\w+)=([0-9.]+)", numbered.group(2))}
                self.round_list.append({"round": int(numbered.group(1)), **fields})
            elif plain and not LOG_LINE.match(line):
                self.setdefault(plain.group(1), plain.group(2))

    def number(self, key):
        """The first number in a value ("182 ms (stop 3, ...)" -> 182.0)."""
        found = re.search(r"-?\d+(\.\d+)?", self.get(key, ""))
        if not found:
            raise AssertionError(f"the report has no number for {key}:\n{self.text}")
        return float(found.group(0))

    @property
    def ok(self):
        return self.get("outcome") == "moved"

    def parts(self):
        """The pieces of the blackout in µs: {"stop": 210.0, "pages": ...}."""
        return {k: float(v) for k, v in re.findall(r"(\w+)=([0-9.]+)", self.get("blackout_parts", ""))}


class Guest:
    """The guest's serial console.  Leaves with Ctrl-] when the with-block ends."""

    def __init__(self, host, name):
        self.host, self.name = host, name

    def __enter__(self):
        self.host.wait_started(self.name)
        self.start = self._open()
        self.host.serial.settle()  # the backlog has come: ask() and ticks() must not take old lines for answers
        return self

    def _open(self, timeout=60):
        """A host starts guests of its registry when their turn comes, and others when their disk has been found: until
        then they are stopped.  Returns where the console begins."""
        deadline = time.monotonic() + timeout * SLOWNESS
        while True:
            self.host.serial.mark()
            self.host.serial.send(f"vm console {self.name}\r")
            name = re.escape(self.name)
            m = self.host.serial.expect(rf"^console of {name}; .*\n|^error: {name} is stopped; .*\n", 10)
            if m[0].startswith("console"):
                return m.end()
            assert time.monotonic() < deadline, f"{self.name} is not started:\n{self.host.log()[-3000:]}"
            self.host.serial.expect(self.host.prompt, 10)
            time.sleep(0.3)

    def __exit__(self, kind, *_):
        if kind is None or not issubclass(kind, (Died, Timeout)):
            self.host.leave_console(self.name, self.start)

    def send(self, line):
        self.host.serial.send(line + "\r")

    def expect(self, pattern, timeout=20):
        """As Serial.expect(); AssertionError at once if the guest ends instead."""
        m = self.host.serial.expect(rf"(?:{pattern})|^(?P<ended>{re.escape(self.name)} is (?:stopped|crashed) here "
                                    r"now.*)\n", timeout)
        if m["ended"]:
            why = "\n".join(line for line in self.host.log().splitlines() if re.search(r"\b(warn|error) ", line))
            raise AssertionError(f"the guest ended: {m['ended']}\n{why[-3000:]}\n{self.host.serial.tail(12)}")
        return m

    def ask(self, line, pattern, timeout=20):
        self.host.serial.mark()
        self.send(line)
        return self.expect(pattern, timeout)

    # -- the dirtier's commands (tests/guest/dirtier.c)
    def ready(self, timeout=READY_S):
        self.expect(r"^guest ready .*\n", timeout)

    def ticks(self, n=3, timeout=30):
        """Wait for n new tick lines; returns them as dicts of numbers."""
        self.host.serial.mark()
        out = []
        for _ in range(n):
            m = self.expect(r"^tick (\d+) t=(\d+) gap=(\d+) dirtied=(\d+)(?: backwards=(\S+))?\n", timeout)
            out.append({"n": int(m[1]), "t_ms": int(m[2]), "gap_us": int(m[3]), "dirtied": int(m[4]),
                        "backwards": m[5]})
        return out

    def verify(self, timeout=60):
        """Have every word of the dirtier's buffer checked; AssertionError with the first bad words if any is wrong."""
        return self.verify_end(self.verify_begin(), timeout)

    def verify_begin(self):
        """For those who have something else to do meanwhile, though not at the console; returns what verify_end()
        wants."""
        start = self.host.serial.mark()
        self.send("verify")
        return start

    def verify_end(self, start, timeout=60):
        m = self.expect(r"^VERIFY (ok|FAILED) pages=(\d+) words=(\d+) bad=(\d+).*\n", timeout)
        if m[1] != "ok":
            bad = [line for line in self.host.serial.text[start:].splitlines() if line.startswith("VERIFY")]
            raise AssertionError("the guest's memory is wrong:\n" + "\n".join("    " + b for b in bad[:10]))
        return int(m[3])

    def gaps_ms(self):
        """The longest and second longest time for which the guest did not run since the last call, in ms."""
        m = self.ask("gap", r"^gap max=(\d+) second=(\d+) .*\n")
        return int(m[1]) / 1000, int(m[2]) / 1000

    def gap_ms(self):
        return self.gaps_ms()[0]

    def clock_steps_back(self):
        """How often the guest's (monotonic, wall) clock has stepped back since the dirtier began to look at them, which
        it does all the time."""
        m = self.ask("gap", r"^gap .* backwards=(\d+),(\d+)\n")
        return int(m[1]), int(m[2])

    def clocks(self):
        """A sample of the guest's clocks as guest_clock.py wants it: (before, monotonic, wall, after)."""
        before = tsc()
        m = self.ask("wall", r"^wall real=(\d+)\.(\d{9}) mono=(\d+)\.(\d{9})\n")
        return before, int(m[3] + m[4]), int(m[1] + m[2]), tsc()

    def shell(self, line, pattern, timeout=20):
        """At the guest's shell prompt."""
        return self.ask(line, pattern, timeout)


def keep_cpu0_free(cpus):
    """QEMU's threads race for the first CPU's AMD-V flags: any CPU that loads FPU state may undo a change of them, and
    then CPU 0 translates the host's addresses by a guest's tables, or takes no interrupt any more (docs/emulators.md).
    So where there are more, CPU 0 runs no guests."""
    return {"guest-cpus": f"1-{cpus - 1}"} if cpus > 1 else {}


class Host:
    """One Godwit host.  Made from keyword arguments, so that a test says only what differs:

    vms        {name: vm(...)}           peers   names of hosts that it knows, or {name: {key: value}} to lie about one
    host_keys  further keys of [host]    conf    the whole configuration file instead
    clients    {name: role}: who may use the management interface, which is at api_address:api_port of this machine if
               the link is a Lan or an outside.Bridge
    cpus, memory_mib, nic, extra (QEMU arguments), reboot (allow a reset), files {name on ESP: path}, pcap (packet
    dump),
    efi       another godwit.efi than the one of this tree
    buses     QEMU arguments for what its network card is plugged into
    key_name  whose key and certificate it has (default its own)"""

    def __init__(self, name, link=None, vms=None, peers=(), host_keys=None, clients=None, conf=None, cpus=2,
                 memory_mib=1536, nic="virtio-net-pci",
                 extra=(), reboot=False, files=None, pcap=None, limit_s=900, tag="", key_name=None,
                 efi=None, buses=()):
        self.name, self.link, self.vms, self.peers = name, link, vms or {}, peers
        self.host_keys, self.conf, self.files = host_keys or {}, conf, files or {}
        self.cpus, self.memory_mib, self.nic, self.extra, self.reboot = cpus, memory_mib, nic, list(extra), reboot
        self.pcap, self.limit_s, self.key_name = pcap, limit_s, key_name or name
        self.clients = clients or {}
        self.efi, self.buses = efi or EFI, buses
        self.folder = os.path.join(RUNS, tag or name)
        self.machine, self.mkhost_said = None, ""
        self.prompt = re.compile(rf"^godwit {re.escape(name)}> ", re.M)

    # -- image ---------------------------------------------------------------------------------------------------------
    def configuration(self):
        if self.conf is not None:
            return self.conf
        sections = [("host", {"name": self.name, "ip": f"{address(self.name)}/24", **self.machine_keys(),
                              **self.host_keys})]
        lies = self.peers if isinstance(self.peers, dict) else {}
        for peer in self.peers:
            keys = {"address": address(peer), "fingerprint": fingerprint(peer), **lies.get(peer, {})}
            sections.append((f"peer {peer}", keys))
        sections += [(f"client {name}", {"fingerprint": fingerprint(name), "role": role})
                     for name, role in self.clients.items()]
        sections += [(f"vm {name}", keys) for name, keys in self.vms.items()]
        lines = ((title, [f"{k} = {one}\n" for k, v in keys.items() for one in (v if isinstance(v, list) else [v])])
                 for title, keys in sections)
        return "\n".join(f"[{title}]\n" + "".join(text) for title, text in lines)

    def machine_keys(self):
        """Keys of [host] that this kind of machine asks for."""
        return keep_cpu0_free(self.cpus)

    def image(self):
        os.makedirs(self.folder, exist_ok=True)
        conf, image = (os.path.join(self.folder, f"{self.name}.{kind}") for kind in ("conf", "img"))
        with open(conf, "w", encoding="utf-8") as f:
            f.write(self.configuration())
        files = {"vmlinuz": KERNEL, "initramfs.cpio.gz": INITRD, **self.files} if self.vms or self.files else {}
        args = [arg for name, path in files.items() if path for arg in ("--file", f"{path}={name}")]
        self.mkhost_said = mkhost("--name", self.key_name, "--keydir", KEYS, "--efi", self.efi, "--conf", conf,
                                  "--anyway", *args, "--out", image)
        return image

    # -- life ----------------------------------------------------------------------------------------------------------
    def boot(self, wait=True):
        net = []
        if self.link:
            net = [*self.buses, "-netdev", self.link.netdev(self.name), "-device",
                   f"{self.nic},netdev=n0,mac={mac(self.name)},romfile="]
            if self.pcap:
                net += ["-object", f"filter-dump,id=f0,netdev=n0,file={self.pcap},maxlen=65536"]
        self.machine = Emulator(self.name, self.image(), self.folder, self.cpus, self.memory_mib, net, self.limit_s,
                                self.reboot, self.extra)
        if wait:
            self.wait_prompt()
        return self

    @property
    def api_address(self):
        return self.link.ways_in[self.name].rpartition(":")[0]

    @property
    def api_port(self):
        return int(self.link.ways_in[self.name].rpartition(":")[2])

    def wait_prompt(self, timeout=BOOT_S):
        self.serial.expect(self.prompt, timeout)

    @property
    def serial(self):
        return self.machine.serial

    def log(self):
        """The whole log so far (port 0xE9)."""
        return self.machine.e9_text()

    def wait_log(self, pattern, timeout=20):
        deadline = time.monotonic() + timeout * SLOWNESS
        while True:
            found = re.search(pattern, self.log(), re.M)
            if found:
                return found
            if time.monotonic() > deadline:
                raise AssertionError(f"{self.name}: nothing in the log matches /{pattern}/; its tail:\n"
                                     + "\n".join("    | " + line for line in self.log().splitlines()[-15:]))
            time.sleep(0.1)

    def kill(self):
        if self.machine:
            self.machine.kill()

    close = kill

    def poweroff(self, timeout=30):
        self.serial.mark()
        self.serial.send("poweroff --force\r")
        return self.machine.wait_exit(timeout)

    # -- console -------------------------------------------------------------------------------------------------------
    def command(self, line, timeout=20):
        """Run a console command; returns its lines without echo, log lines and prompt."""
        start = self.serial.mark()
        self.serial.send(line + "\r")
        self.serial.expect(rf"{re.escape(line)} *\n", timeout)
        self.serial.expect(self.prompt, timeout)
        return self.answer(start)

    def answer(self, start):
        text = self.serial.text[start:self.serial.pos]
        text = text.split("\n", 1)[1] if "\n" in text else text
        return "\n".join(line for line in text.splitlines() if not LOG_LINE.match(line)
                         and not line.startswith(f"godwit {self.name}> "))

    def leave_console(self, name, since):
        self.serial.send("\x1d")  # at the prompt, where a guest that ended has brought us, it means nothing
        self.serial.expect(rf"^left the console of {re.escape(name)}\n", 10, since=since)
        self.serial.expect(self.prompt, 10)

    def guest(self, name):
        return Guest(self, name)

    def wait_started(self, name, timeout=40):
        """A guest with autostart starts when the host's peers have said that they do not have it."""
        if (self.vms.get(name) and self.vms[name].get("autostart") != "no"
            and f"vm: {name} is not started: " not in self.log()):
            self.wait_log(rf"vm: {re.escape(name)}: started|mig: {re.escape(name)}: runs here now|vm: "
                          rf"{re.escape(name)} is not started: ", timeout)

    def has_vm(self, name):
        """Is the VM running here, by `vm list`?"""
        return re.search(rf"^\s*{re.escape(name)}\s.*\brunning\b", self.command("vm list"), re.M) is not None

    def free_kib(self):
        return int(re.search(r"^memory_free_kib: (\d+)", self.command("host"), re.M)[1])

    # -- migration -----------------------------------------------------------------------------------------------------
    def migrate_start(self, name, to, options=""):
        start = self.serial.mark()
        self.serial.send(f"migrate {name} {to}{options}\r")
        return start

    def migrate_progress(self, percent, timeout=MOVE_S):
        """Wait until the progress line shows at least this percentage; returns the line."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            m = self.serial.expect(PROGRESS.pattern + r"\n|^\s*outcome: .*\n", timeout)
            if m[1] is None:
                raise AssertionError(f"the move ended before {percent} %: {m[0].strip()}")
            if int(m[1]) >= percent:
                return m[0].strip()
        raise Timeout(f"{self.name}: the move did not reach {percent} %; last output:\n{self.serial.tail()}")

    def migrate_finish(self, start, timeout=MOVE_S):
        """Wait for the report; a move that did not even start has outcome "refused" and the console's message as
        reason."""
        m = self.serial.expect(r"^\s*outcome: .*\n|^error: (.*)\n", timeout, since=start)
        self.serial.expect(self.prompt, 20)
        if m[1]:
            return Report(f"outcome: refused\nreason: {m[1]}\n")
        return Report("\n".join(line for line in self.answer(start).splitlines() if line.strip()
                                and not PROGRESS.match(line)))

    def migrate_cancel(self, name):
        """Stop watching, cancel, and fetch the report."""
        self.serial.mark()
        self.serial.send("\x03")
        self.serial.expect(self.prompt, 10)
        said = self.command(f"migrate cancel {name}")
        return said, Report(self.command("migrate report"))

    def migrate(self, name, to, timeout=MOVE_S, must=True):
        """Move a VM and wait for the report; must: AssertionError unless it worked."""
        with CpuWaits() as waits:
            report = self.migrate_finish(self.migrate_start(name, to), timeout)
        report.waited_ms = waits.longest_ms
        if must and not report.ok:
            raise AssertionError(f"migrate {name} {to}:\n{report.text}")
        return report
