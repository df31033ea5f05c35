# SPDX-License-Identifier: BSD-2-Clause
"""Guests that are defined while the host runs, in the registry of its store (docs/storage.md)."""
import os
import re
import subprocess
import time

from fixtures import Clients
from host import Lan, ROOT, RUNS
from tiny_guest import QEMU_TICKS, read_tick, TICK, ticks, walker_files

# group godwit with godwit-registry, as Debian's lvm2 made it
GOLDEN = os.path.join(ROOT, "tests", "unit", "golden", "lvm2_registry.bin")
WALKER = f"memory = 40M\nkernel = walker\ncmdline = {QEMU_TICKS}\n"
AUTO = f"[vm auto]\n; starts first\n{WALKER}autostart = yes\nstart-order = 1\nstart-delay-s = 3\n"
LAST = f"[vm last]\n{WALKER}autostart = last\n"
LATER = f"[vm later]\n{WALKER}autostart = last\ndisk = lv:godwit/later\n"


def disk_arguments():
    """QEMU's for an NVMe disk with the group."""
    os.makedirs(RUNS, exist_ok=True)
    name = os.path.join(RUNS, "define.disk")
    with open(GOLDEN, "rb") as f, open(name, "wb") as out:
        out.write(f.read())
        out.truncate(24 << 20)
    big = os.path.join(RUNS, "define.big")
    with open(big, "wb") as f:
        f.truncate(128 << 20)
    return ["-drive", f"file={name},if=none,id=store0,format=raw", "-device", "nvme,drive=store0,serial=godwit",
            "-drive", f"file={big},if=none,id=store1,format=raw", "-device", "nvme,drive=store1,serial=big"]


def save(host, clients):
    """Save `last` in another store, and see that it is only there.  The last tick before, and when that was."""
    clients.ctl("store", "create", host.name, "nvme1", "--name", "big", "--yes")
    before, date = ticks(host, "last"), time.time()
    said = clients.ctl("vm", "save", "last", "--to", "big/last")[0]
    assert "last is saved in big/last" in said, said
    return before, date


def restore(host, clients, before, date):
    """`last` goes on after the power cut: its memory is right, and its TSC has counted the time that it was away.  It
    is restored once."""
    vm, = (vm for vm in clients.json("vm", "list")["vms"] if vm["name"] == "last")
    assert vm["state"] == "stopped" and vm["saved"] == "big/last", vm
    assert "saved" in host.command("vm list")
    assert "`vm restore last` lets it go on" in clients.ctl("vm", "start", "last", code=1)[1]
    dump = os.path.join(RUNS, "define.saved")
    clients.ctl("volume", "export", "big/last", dump, "--force", "--host", host.name)
    shown = subprocess.check_output([os.path.join(ROOT, "build/tools/mig-dump"), dump], text=True)
    assert "OFFER" in shown and "COMMIT" in shown.splitlines()[-1], shown[-500:]
    away, start = time.time() - date, len(host.serial.text)
    said = clients.ctl("vm", "restore", "last")[0]
    assert "last runs again, as it was saved in big/last" in said, said
    with host.guest("last") as g:
        host.serial.mark()                  # behind the backlog, in which is the first tick after the restore
        for _ in range(3):
            g.expect(TICK, 30)
    lines = [read_tick(m[0]) for m in re.finditer(TICK, host.serial.text[start:], re.M)]
    assert not any(line["bad"] or line["skew"] for line in lines) and lines[-1]["visits"] > before["visits"], lines
    gap = max(line["gap_k"] / line["khz"] for line in lines)
    assert away - 1 < gap < away + 15, f"it was away for {away} s, its TSC counted {gap}"
    clients.ctl("vm", "stop", "last")
    assert "add --again" in clients.ctl("vm", "restore", "last", code=1)[1]
    clients.ctl("vm", "start", "last")
    ticks(host, "last")


def devices(clients):
    """Disks and cards of a stopped guest, and of one that runs."""
    ctl = clients.ctl
    assert "no volume named nope" in ctl("vm", "disk", "attach", "later", "lv:godwit/nope", code=1)[1]
    assert "disk: expected: ram:SIZE" in ctl("vm", "disk", "attach", "later", "godwit/web", code=1)[1]
    assert "vdb of later is ram:2M serial=two" in ctl("vm", "disk", "attach", "later", "ram:2M", "serial=two")[0]
    assert "this is a disk of later" in ctl("vm", "disk", "attach", "last", "lv:godwit/later", code=1)[1]
    mac = clients.json("vm", "nic", "attach", "later")["message"].split()[-1]
    shown = clients.json("vm", "show", "later")
    assert [d["device"] for d in shown["disks"]] == ["vda", "vdb"] and shown["nics"] == [
        {"mac": mac, "spoof": False}], shown
    assert "no more" in ctl("vm", "nic", "detach", "later", mac)[0]
    assert "vdb is no disk of later any more\n" in ctl("vm", "disk", "detach", "later", "vdb")[0]
    assert "this holds when it is started again" in ctl("vm", "disk", "attach", "last", "ram:2M")[0]
    assert not clients.json("vm", "show", "last")["disks"]
    text = ctl("vm", "show", "last", "--config")[0]
    assert text == LAST + "cpus = 2\ndisk = ram:2M\n", text


def test_definitions(own):
    """Guests are defined and started; the power is cut, and the same guests are there, those up that should be.
    Mistakes change nothing.  Another host takes nothing of this until it is told to."""
    host = {"files": walker_files(), "extra": disk_arguments(), "clients": Clients.ROLES}
    link = Lan()

    def files(**texts):
        for name, text in texts.items():
            with open(os.path.join(RUNS, f"{name}.conf"), "w", encoding="utf-8") as f:
                f.write(text)
        return [os.path.join(RUNS, f"{name}.conf") for name in texts]

    def states():
        return {vm["name"]: vm["state"] for vm in clients.json("vm", "list")["vms"]}

    a = own("a", link, **host)
    clients = Clients([a])
    a.wait_log("registry: volume group godwit, generation 0, 1 entry")
    bad, = files(bad="[vm bad]\nmemory = 65M\nkernel = walker\ncpu = fast\n")
    said = clients.ctl("vm", "define", bad, code=1)[1]
    assert f"{bad}:2: memory: expected: a size like 256M" in said and f"{bad}:4: cpu: expected: host, x86" in said, said
    for file in files(auto=AUTO, last=LAST, later=LATER):
        said = clients.ctl("vm", "define", file)
    assert "later is defined" in said[0] and "has no volume named later" in said[1], said
    clients.ctl("vm", "start", "last")
    ticks(a, "last")
    last, = files(last=LAST + "cpus = 2\n")
    assert "when it is started again" in clients.ctl("vm", "define", last)[0]
    assert "only a stopped guest can be undefined" in clients.ctl("vm", "undefine", "last", code=1)[1]
    assert states() == {"auto": "stopped", "last": "running", "later": "stopped"}
    before, date = save(a, clients)
    a.kill()                                            # the power is cut

    a = own("a", link, **host)
    ticks(a, "auto")
    restore(a, clients, before, date)
    assert states() == {"auto": "running", "last": "running", "later": "stopped"}
    assert clients.json("vm", "show", "last")["cpus"] == 2
    for name, text in (("auto", AUTO), ("last", LAST + "cpus = 2\n"), ("later", LATER)):
        assert clients.ctl("vm", "show", name, "--config")[0] == text, name
        assert "from the registry" in a.command(f"vm config {name}")
    editor, = files(editor="sed -i s/40M/48M/ $1\n")
    said = clients.ctl("vm", "edit", "later", env={"EDITOR": f"sh {editor}", "VISUAL": ""})[0]
    assert "later is defined" in said and clients.json("vm", "show", "later")["memory_bytes"] == 48 << 20, said
    devices(clients)
    clients.ctl("vm", "stop", "last")
    assert clients.json("vm", "show", "last")["disks"] == [
        {"device": "vda", "disk": "ram:2M", "read_only": False, "bytes": 2 << 20}]
    said = clients.ctl("vm", "undefine", "later")[0]
    assert "later is undefined; its volumes stay: godwit/later" in said, said
    a.kill()

    host["extra"] = host["extra"][:4]                   # without the other store, which it would take for its own
    b = own("b", link, **host)
    clients = Clients([b])
    b.wait_log("belongs to host a, so it is not used")
    assert not states()
    auto, = files(auto=AUTO)
    assert "godwitctl store adopt HOST godwit --yes" in clients.ctl("vm", "define", auto, code=1)[1]
    assert "nothing is changed" in clients.ctl("store", "adopt", "b", "godwit", code=1)[1]
    assert "is this host's now, with the guests" in clients.ctl("store", "adopt", "b", "godwit", "--yes")[0]
    assert states() == {"auto": "stopped", "last": "stopped"}
    clients.ctl("vm", "start", "auto")
    ticks(b, "auto")
    b.kill()
    b = own("b", link, **host)                          # what was up when its old host was stopped is not up here
    ticks(b, "auto")
    assert states() == {"auto": "running", "last": "stopped"}
