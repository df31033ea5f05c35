# SPDX-License-Identifier: BSD-2-Clause
"""What checks are given by parameter name.  One set of hosts is alive at a time: this runs on small machines.

solo    one host with guests "guest" (dirtier 32 MiB, 1000 pages/s; runs) and "shell" (a shell; stopped)
pair    two hosts that know each other; "guest" runs on a (or on b, if a check left it there: use pair.home())
api     a pair with management interfaces, and godwitctl with its configuration: api.ctl("vm", "list")
trio    three hosts with management interfaces, six guests without Linux on a; used by trio.ctl() alone
own     a function Host(...) whose hosts end with the check; own.in_bochs(...) and own.pair_in_bochs(...): in Bochs
bed     a function bed(vendor): hosts of one vendor that find changed pages in different ways, with a guest without
        Linux (class Bed)
intel   two hosts in Bochs with one CPU each; "guest" is a Linux with 2 vCPUs and runs on a
"""
import json
import os
import shutil
import subprocess
import sys

import bochs
from bochs import BochsHost, BochsLink
from emulator import BUILD, SLOWNESS, kill_all
from guest_clock import AHEAD_S
from host import KEYS, RUNS, Host, Lan, Link, address, clock_ahead, dirtier, fingerprint, vm
from openapi import Document
from tiny_guest import QEMU_TICKS, move, walker_files, walker_vm

VERBOSE = False
DIRTIER = dirtier(32, 1000)


class Skip(Exception):
    """Raised by a check that cannot run here; the text says why."""


def each(cases):
    """A check that is run once for each of cases, {name: value}; the value is its first argument."""
    def mark(function):
        function.cases = cases
        return function
    return mark


def need_bochs():
    why = bochs.available()
    if why:
        raise Skip(why)


def narrate(host):
    """With -v: show a host's console, each line with its name before it."""
    if VERBOSE:
        host.serial.echo = lambda text: sys.stderr.write(text.replace("\n", f"\n{host.name}| "))
    return host


class Pair:
    """Hosts a and b on one link; a has the guests.  b's own clock is an hour ahead.  b_keys: further keys of b's [host]
    section.  b_vms: b's guests.  a_peers: what a knows of b, if not the usual.  a_efi, b_efi: another godwit.efi.
    More keyword arguments: for both hosts."""

    def __init__(self, vms=None, b_keys=None, link=None, b_vms=None, a_peers=None, a_efi=None, b_efi=None,
                 **both):
        self.link = link or Link()
        vms = vms or {"guest": vm(DIRTIER), "shell": vm(autostart=False)}
        self.a = narrate(Host("a", self.link, vms=vms, peers=a_peers or ["b"], tag="pair", efi=a_efi,
                           **both).boot(wait=False))
        both["host_keys"] = b_keys or both.get("host_keys")
        self.b = narrate(Host("b", self.link, vms=b_vms, peers=["a"], tag="pair", extra=clock_ahead(AHEAD_S),
                              efi=b_efi, **both).boot(wait=False))
        self.a.wait_prompt()
        self.b.wait_prompt()
        for host in (self.a, self.b):
            for name in host.vms:
                host.wait_started(name)
        self.b_is_plain = True
        self.at = None

    def new_b(self, plain=False, **kw):
        """Replace host b, as after a power failure, by one that differs; returns it.  The guest must be on a."""
        self.guest_on_a()
        return self.boot_b(plain, **kw)

    def boot_b(self, plain=True, **kw):
        """The same, wherever the guest is."""
        self.b.kill()
        self.b = narrate(Host("b", self.link, tag="pair", extra=clock_ahead(AHEAD_S),
                              **{"peers": ["a"], **kw}).boot(wait=False))
        self.b.wait_prompt()
        self.b_is_plain = plain
        return self.b

    def plain_b(self):
        """Make sure that b is alive and an ordinary destination."""
        if not self.b_is_plain or not self.b.machine.alive():
            self.new_b(plain=True)
        return self.b

    def guest_on_a(self):
        if self.home()[0] is not self.a:
            self.move()
        return self.a

    def home(self):
        """The host that runs "guest" and the other one; waits for the guest's first ticks when it is fresh."""
        if self.at is None:
            self.at = self.a
            with self.a.guest("guest") as g:
                g.expect(r"^(tick|dirtier ready) .*\n", 90)
                g.ticks(3)
        return (self.a, self.b) if self.at is self.a else (self.b, self.a)

    def move(self, **kw):
        """Move "guest" to the other host; returns the report."""
        src, dst = self.home()
        report = src.migrate("guest", dst.name, **kw)
        self.at = dst
        return report

    def close(self):
        self.a.kill()
        self.b.kill()


class Solo:
    def __init__(self):
        vms = {"guest": vm(DIRTIER), "shell": vm(autostart=False)}
        self.host = narrate(Host("a", Link(), vms=vms, tag="solo").boot())

    def close(self):
        self.host.kill()


class Clients:
    """Programs that control hosts on a Lan: "operator" and "reader".  ctl() runs godwitctl as one of them, curl() asks
    a host as curl does."""
    GODWITCTL = os.path.join(BUILD, "tools", "godwitctl")
    ROLES = {"operator": "operate", "reader": "read"}           # for a host's clients=

    def __init__(self, hosts):
        self.openapi = None                                     # what curl()'s answers are checked against
        self.folder = os.path.join(RUNS, "api")
        shutil.rmtree(self.folder, ignore_errors=True)
        os.makedirs(self.folder)
        for name in ("operator", "reader", "a", "b", "c"):
            fingerprint(name)                                   # made if need be
            for kind, command in (("crt", "x509"), ("key", "pkey")):
                subprocess.run(["openssl", command, "-inform", "DER", "-in", os.path.join(KEYS, f"{name}.{kind}"),
                                "-out", self.pem(name, kind)], check=True)
        for name in ("operator", "reader"):
            with open(self.config(name), "w", encoding="utf-8") as f:
                f.write(f"[client]\nname = {name}\nkey = {name}.key.pem\ncert = {name}.crt.pem\n")
                for host in hosts:
                    f.write(f"[host {host.name}]\naddress = {host.api_address}\nport = {host.api_port}\n"
                            f"fingerprint = {fingerprint(host.name)}\n")

    def pem(self, name, kind):
        return os.path.join(self.folder, f"{name}.{kind}.pem")

    def config(self, who):
        return os.path.join(self.folder, f"{who}.conf")

    def ctl(self, *args, who="operator", config=None, code=0, stdin=None, timeout=60, env=None):
        """Run godwitctl; AssertionError unless it ends with this code (None: any).  Returns (stdout, stderr)."""
        run = subprocess.run([self.GODWITCTL, "--config", config or self.config(who), *args], capture_output=True,
                             text=True, timeout=timeout * SLOWNESS, input=stdin, env={**os.environ, **(env or {})},
                             stdin=None if stdin else subprocess.DEVNULL, check=False)
        if code is not None and run.returncode != code:
            raise AssertionError(f"godwitctl {' '.join(args)}: exit code {run.returncode}, not "
                                 f"{code}\n{run.stdout}{run.stderr}")
        return run.stdout, run.stderr

    def json(self, *args, **kw):
        return json.loads(self.ctl("--json", *args, **kw)[0])

    def curl(self, host, path, *more, who="operator"):
        """Returns (curl's exit code, HTTP status, body); the host is checked by its certificate, as docs/api.md
        says."""
        run = subprocess.run(["curl", "-sS", "-m", str(20 * SLOWNESS), "-w", "\n%{http_code}", "--cacert",
                              self.pem(host.name, "crt"),
                              "--connect-to", f"{host.name}:7443:{host.api_address}:{host.api_port}",
                              *(["--cert", self.pem(who, "crt"), "--key", self.pem(who, "key")] if who else []),
                              *more, f"https://{host.name}:7443{path}"], capture_output=True, text=True, check=False)
        body, _, status = run.stdout.rpartition("\n")
        if not run.returncode and not any(m.startswith("https://") for m in more):
            self.check_answer(host, path, more, int(status), body)
        return run.returncode, int(status or 0), body

    def check_answer(self, host, path, more, status, body):
        """Each answer to curl() must be as the host's own OpenAPI document says."""
        method = next((m[2:] for m in more if m.startswith("-X")), "POST" if "-d" in more else "GET")
        if path == "/v1/openapi.json":
            self.openapi = Document(body)
        elif not self.openapi:
            self.curl(host, "/v1/openapi.json")
        if "HEAD" not in method:
            self.openapi.check(method, path, status, body)


class Api(Pair):
    """A pair with management interfaces, and clients of both.  "guest" has a card and a disk."""

    def __init__(self):
        vms = {"guest": vm(DIRTIER, nic="yes", disk="ram:2M"), "shell": vm(autostart=False)}
        super().__init__(vms=vms, link=Lan(), clients=Clients.ROLES)
        self.clients = Clients([self.a, self.b])
        self.folder, self.config, self.ctl, self.json = (self.clients.folder, self.clients.config, self.clients.ctl,
                                                         self.clients.json)

    def curl(self, path, *more, **kw):
        return self.clients.curl(self.a, path, *more, **kw)

    def close(self):
        super().close()
        self.link.close()


class Trio:
    """Hosts a, b and c with management interfaces, one CPU each; the guests w1 to w6 (walkers) run on a.  All else by
    ctl().  a may have more moves under way than is usual.  b has a second address, which c tries first and where nobody
    is."""
    GUESTS = [f"w{i}" for i in range(1, 7)]
    GUEST_MIB = 96
    MEMORY_MIB = {"a": 800, "b": 800, "c": 400}                 # c has room for a few of them only
    MAX_JOBS = {"a": 3, "b": 2, "c": 2}                         # 2 is the default

    def __init__(self):
        self.link, self.hosts = Lan(), {}
        for name, memory in self.MEMORY_MIB.items():
            more = {"host_keys": {"bandwidth-limit-mb": "4", "lz4": "no", "max-jobs": str(self.MAX_JOBS["a"])},
                    "vms": {guest: {**walker_vm(4000000), "memory": f"{self.GUEST_MIB}M"} for guest in self.GUESTS},
                    "files": walker_files()} if name == "a" else {}
            peers = ({"a": {}, "b": {"address": f"10.7.0.77, {address('b')}"}} if name == "c"
                     else "abc".replace(name, ""))
            self.hosts[name] = narrate(Host(name, self.link, peers=peers, clients=Clients.ROLES, cpus=1,
                                            memory_mib=memory, tag="trio",
                                            **more).boot(wait=False))
        for host in self.hosts.values():
            host.wait_prompt()
        clients = Clients(self.hosts.values())
        self.ctl, self.json = clients.ctl, clients.json

    def close(self):
        for host in self.hosts.values():
            host.kill()
        self.link.close()


class Own:
    """Hosts for one check only."""

    def __init__(self):
        self.made = []

    def __call__(self, name, link=None, wait=True, **kw):
        host = Host(name, link, tag="own", **kw)
        self.made.append(host)
        narrate(host.boot(wait=False))
        if wait:
            host.wait_prompt()
        return host

    def pair(self, **kw):
        self.made.append(Pair(**kw))
        return self.made[-1]

    def in_bochs(self, name, link=None, wait=True, **kw):
        need_bochs()
        self.made.append(BochsHost(name, link, tag="own", **kw))
        return narrate(self.made[-1].boot(wait))

    def pair_in_bochs(self, model, b_keys=None, b_ips=bochs.IPS, **kw):
        """Hosts a and b on one processor model, the walker on a.  b_keys: b's own host_keys; b_ips: its speed."""
        link, files = BochsLink(), walker_files()
        a = self.in_bochs("a", link, wait=False, model=model, vms={"guest": walker_vm()}, files=files, peers=["b"],
                          **kw)
        b = self.in_bochs("b", link, wait=False, model=model, ips=b_ips, peers=["a"],
                          **{**kw, "host_keys": b_keys or kw.get("host_keys")})
        a.wait_prompt()
        b.wait_prompt()
        return a, b

    def close(self):
        for host in self.made:
            host.close()


class Bed:
    """Hosts of one vendor that find changed pages in different ways (`dirty-log`), all with `verify`.  The guest is the
    walker, on a at first.

    amd     in QEMU: a by D bits, b by write protection
    intel   in Bochs, three processors: a Skylake-X (PML), b Sandy Bridge (has no D bits: write protection; no RDRAND:
            randomness from the seed file), c Haswell (no PML: D bits).  "guest" was promised what all three have,
            "promised" all that a has.  A host d in QEMU may join the link."""
    WAYS = {"amd": {"a": "ad", "b": "wp"}, "intel": {"a": "pml", "b": "wp", "c": "ad"}}
    MODELS = {"a": bochs.SKYLAKE, "b": bochs.SANDY_BRIDGE, "c": bochs.HASWELL}

    def __init__(self, vendor):
        self.vendor, self.at = vendor, "a"
        if vendor == "intel":
            need_bochs()
            self.link, vms, names = (BochsLink(), {"guest": walker_vm(cpu="x86-64-v2", autostart=False),
                                                   "promised": walker_vm(autostart=False)}, "abcd")
        else:
            self.link, vms, names = Link(), {"guest": walker_vm(QEMU_TICKS)}, "ab"
        self.hosts = {}
        for name, way in self.WAYS[vendor].items():
            keys = {"peers": names.replace(name, ""), "host_keys": {"dirty-log": way, "verify": "yes"}, "tag": "bed"}
            if name == "a":
                keys.update(vms=vms, files=walker_files())
            self.hosts[name] = BochsHost(name, self.link, model=self.MODELS[name],
                                         **keys) if vendor == "intel" else Host(name, self.link, **keys)
            narrate(self.hosts[name].boot(wait=False))
        for host in self.hosts.values():
            host.wait_prompt()
        if vendor == "intel":  # a would ask d, too, which is not there (yet): nobody but us starts these guests
            for name in vms:
                self["a"].command(f"vm start {name} --force")

    def __getitem__(self, name):
        return self.hosts[name]

    def bring(self, name):
        """Have "guest" on this host."""
        if self.at != name:
            self.move(name)

    def move(self, to, by=None):
        """Move "guest" and let it verify its memory (tiny_guest.move()); returns the report."""
        report = move(self[self.at], self[to], by)
        self.at = to
        return report

    def close(self):
        for host in self.hosts.values():
            host.close()


class Beds:
    """bed("amd"), bed("intel"): booted when first asked for, one at a time."""

    def __init__(self):
        self.bed = None

    def __call__(self, vendor):
        if not self.bed or self.bed.vendor != vendor:
            self.close()
            self.bed = Bed(vendor)
        return self.bed

    def close(self):
        if self.bed:
            self.bed.close()
        self.bed = None


class IntelPair:
    """One CPU each: a Bochs with two emulates them in turns, and does not sleep when both are idle."""

    def __init__(self):
        need_bochs()
        link, both = BochsLink(), {"tag": "intel", "host_keys": {"verify": "yes"}}
        vms = {"guest": vm("godwit.run=dirtier,4,100 godwit.bg=fpcheck", memory="96M", cpus=2)}
        self.a = narrate(BochsHost("a", link, vms=vms, peers=["b"], **both).boot(wait=False))
        self.b = narrate(BochsHost("b", link, peers=["a"], **both).boot(wait=False))
        self.a.wait_prompt()
        self.b.wait_prompt()

    def close(self):
        self.a.kill()
        self.b.kill()


class Live:
    """The fixture that is alive now."""
    MAKERS = {"pair": Pair, "solo": Solo, "api": Api, "trio": Trio, "own": Own, "bed": Beds, "intel": IntelPair}

    def __init__(self):
        self.name, self.value = None, None

    def get(self, names):
        """Keyword arguments for a check that wants these fixtures (one at most)."""
        if not names:
            self.spoil()
            return {}
        (name,) = names
        if name == "own" or name != self.name:
            self.spoil()
            os.makedirs(RUNS, exist_ok=True)
            self.value = self.MAKERS[name]()
            self.name = name
        return {name: self.value}

    def spoil(self):
        if self.value:
            self.value.close()
        kill_all()                                  # also what a fixture's half-done set-up left
        self.name, self.value = None, None
