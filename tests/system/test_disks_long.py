# SPDX-License-Identifier: BSD-2-Clause
"""A guest moves with its disk: from a store on NVMe to one on AHCI and back, while it writes.  Afterwards each block is
compared with a copy that the guest keeps in its memory, and the source has no volume left.  And six moves at once, of
which three end early."""
import json
import os
import re
import subprocess
import time

from fixtures import Skip
from host import RUNS
from nbd import NbdServer, missing
from test_disks import DISK_MIB as SMALL_MIB, SLOW, STORE_MIB, Pair
from test_home import MIB
from test_virtio import sh

DISK_MIB = 24
WRITES = r"""cat > /tmp/writes <<'EOF'
i=0
while [ ! -e /tmp/stop ]; do
  i=$((i + 1)); at=$(( (i * 37 + i * i) % %d ))
  dd if=/dev/urandom of=/tmp/block bs=64k count=1 2>/dev/null
  dd if=/tmp/block of=/tmp/copy bs=64k seek=$at conv=notrunc 2>/dev/null
  dd if=/tmp/block of=/dev/vda bs=64k seek=$at conv=notrunc,fsync 2>/dev/null || echo BAD >> /tmp/bad
done
echo $i > /tmp/done
EOF"""


def test_move_along(own):
    pair = Pair(own)
    pair.stores()
    pair.ctl("volume", "create", "db", f"{DISK_MIB}M", "-H", "a")
    pair.define("db", 31, "lv:godwit/db")
    pair.ctl("vm", "start", "db", "-H", "a")
    with pair.hosts["a"].guest("db") as g:
        g.ready()
        sh(g, f"dd if=/dev/urandom of=/tmp/copy bs=1M count={DISK_MIB} 2>/dev/null")
        sh(g, "dd if=/tmp/copy of=/dev/vda bs=1M 2>/dev/null; sync")
        for line in WRITES.replace("%d", str(DISK_MIB * 16)).split("\n"):
            g.send(line)
        sh(g, "sh /tmp/writes & true")
    assert "--with-disks" in pair.ctl("vm", "migrate", "db", "--to", "b", code=None)[1]
    for source, target in ("ab", "ba"):
        pair.ctl("vm", "migrate", "db", "--to", target, "--with-disks")
        pair.wait_volumes({source: [], target: ["db"]})
        job = pair.json("migration", "list", "-H", source)["migrations"][0]
        print(f"> {source} -> {target}: {job['elapsed_us'] // 1000} ms, blackout {job['blackout_us'] // 1000} ms, "
              f"{job['wire_bytes'] / MIB:.1f} MiB for a disk of {DISK_MIB} MiB")
    with pair.hosts["a"].guest("db") as g:
        sh(g, "touch /tmp/stop; while [ ! -e /tmp/done ]; do sleep 1; done; echo 3 > /proc/sys/vm/drop_caches")
        assert "SAME" in sh(g, "dd if=/dev/vda bs=1M iflag=direct 2>/dev/null | cmp - /tmp/copy && [ ! -e /tmp/bad ] "
                               "&& echo SA''ME; cat /tmp/done")


class Six(Pair):
    """Host a with two stores, b with one, and c with one on a disk that can be full: a write fails then."""
    DRIVES = {"a": [*Pair.NVME, "-device", "ide-hd,drive=store1,bus=ide.1,serial=second"], "b": Pair.DRIVES["b"],
              "c": Pair.NVME}
    MORE = {"host_keys": {"disk-servers": "0.0.0.0/0", "max-jobs": "2", "max-storage-jobs": "2"}, "memory_mib": 1200}
    GUESTS = [f"g{n}" for n in range(1, 7)]

    def boot(self):
        self.full, path = (os.path.join(RUNS, f"six-{os.getpid()}-{id(self):x}.{kind}") for kind in ("full", "nbd"))
        self.is_full(False)
        self.second = os.path.join(RUNS, "six.second")
        with open(self.second, "wb") as f:
            f.truncate(STORE_MIB * MIB)
        self.thin = f"nbd+unix:///?socket={path}"
        self.server = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "nbdkit", "-f", "-U", path, "--filter=error",
                                        "memory", f"{STORE_MIB}M", "error=ENOSPC", "error-pwrite-rate=100%",
                                        "error-zero-rate=100%", f"error-file={self.full}"], stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while not os.path.exists(path):
            assert time.monotonic() < deadline, "nbdkit does not start"
            time.sleep(0.1)
        super().boot()

    def drive(self, name, file=None, node="store0"):
        first = super().drive(name, self.thin if name == "c" else file, node)
        return first + super().drive(name, self.second, "store1") if name == "a" else first

    def is_full(self, now):
        if now:
            with open(self.full, "wb"):
                return
        elif os.path.exists(self.full):
            os.unlink(self.full)

    def stores(self):
        super().stores()
        second = next(d["name"] for d in self.json("disk", "list")["disks"] if d["serial"] == "second")
        self.ctl("store", "create", "a", second, "--name", "second", "--yes")

    def ask(self, nbd):
        """All six at once; returns {guest: how to look at its job}."""
        jobs = {}
        for guest, to, *more in (("g1", "b"), ("g2", "c", *SLOW), ("g3", "b", *SLOW), ("g5", "b", *SLOW)):
            said = self.ctl("vm", "migrate", guest, "--to", to, "--with-disks", "--detach", *more)[0]
            jobs[guest] = lambda n=int(said.split("/")[1]): self.job(n)
        for guest, place, *more in (("g4", "second/g4"), ("g6", nbd.disk, "--overwrite")):
            said = self.ctl("vm", "move-disk", guest, "vda", "--to", place, "--detach", *more)[0]
            jobs[guest] = lambda n=int(said.split("/")[1]): self.json_of(f"/v1/jobs/{n}")
        return jobs

    def json_of(self, path):
        return json.loads(self.clients.curl(self.hosts["a"], path)[2])


def over(job):
    return job.get("ended", job["state"] in ("done", "failed"))


def waits(job):
    """Its place in the queue, or 0."""
    place = re.search(r"waits, place (\d+)", job.get("message", ""))
    return int(place[1]) if place else job.get("storage_position") or 1 if job["state"] == "queued" else 0


def copying(job):
    return not over(job) and job.get("disks", {}).get("done_bytes", 0) > 0


def follow(six, jobs):
    """Until all have ended: c's disk becomes full, g3's move is cancelled, a and b are cut off from each other, each in
    the middle of a copy.  Returns the jobs as they were at their ends, and the longest queue."""
    queue, deadline, cut = {}, time.monotonic() + 500, False
    while True:
        now = {guest: look() for guest, look in jobs.items()}
        queue = max(queue, {guest: waits(job) for guest, job in now.items() if waits(job)}, key=len)
        if all(over(job) for job in now.values()):
            return now, queue
        assert time.monotonic() < deadline, now
        if copying(now["g2"]):
            six.is_full(True)
        if over(now["g2"]):
            six.is_full(False)
        if copying(now["g3"]):
            six.ctl("migration", "cancel", "g3")
        if copying(now["g5"]) and over(now["g1"]) and over(now["g3"]) and not cut:
            six.link.cut("a", "b")
            cut = True
        time.sleep(0.3)


def test_six_at_once(own):
    """With two at a time.  Three of them end early, and their guests run on where they are; no block is wrong, and no
    volume is left behind."""
    if missing():
        raise Skip(missing())
    six, nbd = Six(own), NbdServer("six", SMALL_MIB)
    six.stores()
    for guest in six.GUESTS:
        six.database(guest)
    jobs, queue = follow(six, six.ask(nbd))
    six.link.heal()
    print("        queue: " + ", ".join(f"{guest} is number {n}" for guest, n in queue.items()))
    for guest, job in sorted(jobs.items()):
        why = job.get("error", {}).get("message") or job.get("message") or ""
        wire = f"{job.get('wire_bytes', 0) / 1e6:5.1f} MB" if "wire_bytes" in job else " " * 8
        print(f"        {guest} {job['state']:<7} {job['elapsed_us'] / 1e6:5.1f} s {wire} {why[:90]}")
    assert {guest for guest, job in jobs.items() if job["state"] == "failed"} == {"g2", "g3", "g5"}, jobs
    assert len(queue) >= 2, queue
    six.wait_volumes({"a": ["g2", "g3", "g4", "g5"], "b": ["g1"], "c": []})
    for guest in six.GUESTS:
        figures = six.verify(guest, "b" if guest == "g1" else "a")
        print(f"        {guest}: every block right, longest request {figures['slowest_ms']} ms")
