# SPDX-License-Identifier: BSD-2-Clause
"""A guest moves with its disk: from a store on NVMe to one on AHCI and back, while it writes.  Afterwards each block is
compared with a copy that the guest keeps in its memory, and the source has no volume left.  What is refused, and what
ends in the middle, leaves the guest and its disk where they were."""
import time

from fixtures import Clients
from host import KERNEL
from test_home import Home, MIB
from test_virtio import INITRD, sh

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


class Pair(Home):
    """Host a with a store on NVMe, host b with one on AHCI."""

    def boot(self):
        drives = {"a": ["-device", "nvme,drive=store0,serial=godwit"],
                  "b": ["-device", "ich9-ahci,id=sata", "-device", "ide-hd,drive=store0,bus=sata.0"]}
        for name, other in ("ab", "ba"):
            extra = ["-drive", f"file={self.disk(name)},if=none,id=store0,format=raw", *drives[name]]
            self.hosts[name] = self.own(name, self.link, wait=False, peers=[other], clients=Clients.ROLES, extra=extra)
        for host in self.hosts.values():
            host.wait_prompt()
        clients = Clients(self.hosts.values())
        self.ctl, self.json, self.folder = clients.ctl, clients.json, clients.folder

    def volumes(self, host):
        return sorted(v["name"] for v in self.json("volume", "list", "-H", host)["volumes"]
                      if not v["name"].startswith(("file.", "part.", "godwit-")))

    def wait_volumes(self, want):
        deadline = time.monotonic() + 60
        while (found := {host: self.volumes(host) for host in "ab"}) != want:
            assert time.monotonic() < deadline, (found, want, [h.log()[-1500:] for h in self.hosts.values()])
            time.sleep(0.5)


def test_move_along(own):
    pair = Pair(own)
    disks = pair.json("disk", "list")["disks"]
    for host in "ab":
        name = next(d["name"] for d in disks if d["host"] == host)
        pair.ctl("store", "create", host, name, "--yes")
    pair.ctl("file", "put", KERNEL, "linux", "-H", "a")
    pair.ctl("file", "put", INITRD, "initrd", "-H", "a")
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
