# SPDX-License-Identifier: BSD-2-Clause
"""README's way from nothing to a first move, as a new user types it: the `sh` blocks of that section, word for word, in
an empty folder."""
import os
import pty
import re
import shutil
import subprocess
import threading

from emulator import BUILD, ROOT, SLOWNESS
from host import RUNS

SECTION = "From two USB sticks to a first move"
# What the user must see, in this order.  Everything must also end well: the shell runs with -e.
SEEN = [r"^[0-9a-f]{64}$", r"^a is on: 192\.168\.1\.11, from here 127\.0\.0\.11", r"^b is on", r"^all are on",
        r"^host a at .* shows the fingerprint\n +[0-9a-f]{64}\n", "and the host lets it in", "a added to", "b added to",
        r"^a +127\.0\.0\.11 +AMD-V ", r"^b +127\.0\.0\.12 +AMD-V ", r"^web +a +running ", r"^web a -> b: would move$",
        r"^web -> b \[=*>? *\] +\d+% .*MB/s", r"^web moved from a to b in [0-9.]+ s, blackout [0-9.]+ ms, ",
        r"^blackout: total_us=\d+ stop_us=",
        r"^move\.svg shows a/1$", r"^VERIFY ok ", r"^b: \d of 1 guest\(s\) over", r"^web +gone to a$",
        r"^web +a +running "]


def commands():
    """The sh blocks of the section, as one script."""
    with open(os.path.join(ROOT, "README.md"), encoding="utf-8") as f:
        section = re.search(rf"^## {SECTION}\n(.*?)^## ", f.read() + "\n## ", re.M | re.S)
    assert section, f"README has no section '{SECTION}'"
    blocks = re.findall(r"^```sh\n(.*?)^```", section[1], re.M | re.S)
    assert len(blocks) >= 6, f"only {len(blocks)} sh blocks"
    return "".join(blocks)


def fresh_folder():
    """As after `git clone` and `make`, without what a user's own files would be written over; the sticks are
    folders."""
    folder = os.path.join(RUNS, "walk")
    shutil.rmtree(folder, ignore_errors=True)
    for name in ("home", "stick-1", "stick-2"):
        os.makedirs(os.path.join(folder, name))
    for name in os.listdir(ROOT):
        if not name.startswith(".") and name != "build" and not re.search(r"\.(conf|img|svg)$", name):
            os.symlink(os.path.join(ROOT, name), os.path.join(folder, name))
    os.symlink(BUILD, os.path.join(folder, "build"))
    return folder


def sticks(script):
    """The one thing that is not at hand: two sticks, one after the other in the same place."""
    for number in (1, 2):
        script = re.sub(r"/media/usb$(.*?)^umount /media/usb", rf"stick-{number}\1:", script, count=1,
                        flags=re.M | re.S)
    assert "/media" not in script and "stick-2" in script, "README's commands for sticks have changed"
    return script


def type_all(script, folder, timeout):
    """Run it on a terminal, answering `yes` to every question; returns the exit code and what the terminal showed."""
    with open(os.path.join(folder, "walk.sh"), "w", encoding="utf-8") as f:
        f.write(script)
    env = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS", "GODWITCTL"))}
    terminal, end = pty.openpty()
    shell = subprocess.Popen(["bash", "-e", "walk.sh"], cwd=folder, env={**env, "HOME": os.path.join(folder, "home"),
                                                                         "USER": "me", "EMULATE_SECONDS": "600"},
                             stdin=subprocess.PIPE, stdout=end, stderr=end)
    os.close(end)
    shell.stdin.write(b"yes\n" * 8)
    shell.stdin.close()
    shown, alarm = b"", threading.Timer(timeout, shell.kill)
    alarm.start()
    while True:
        try:
            data = os.read(terminal, 65536)
        except OSError:                                         # the shell, and all that it started, are gone
            break
        shown += data
    os.close(terminal)
    alarm.cancel()
    return shell.wait(), shown.decode(errors="replace").replace("\r\n", "\n").replace("\033[K", "").replace("\r", "\n")


def test_readme():
    """From `make` to a first move and back, sticks and emulated hosts, with nothing but README."""
    folder = fresh_folder()
    try:
        code, shown = type_all(sticks(commands()), folder, 240 * SLOWNESS)
    finally:
        subprocess.run([os.path.join(ROOT, "tools", "emulate"), "--off"], capture_output=True, check=False)
    assert code == 0, f"exit code {code} after:\n{shown[-2500:]}"
    at = 0
    for pattern in SEEN:
        found = re.compile(pattern, re.M).search(shown, at)
        assert found, f"nothing matches /{pattern}/ in:\n{shown[at:][-2500:]}"
        at = found.end()
    with open(os.path.join(folder, "move.svg"), encoding="utf-8") as f:
        drawn = f.read()
    assert all(part in drawn for part in ("<title>round 1", "class='dirty'", "MB/s sent", "pages/s dirtied",
                                          "<title>blackout ")), drawn
    for number, name in ((1, "a"), (2, "b")):
        stick = os.path.join(folder, f"stick-{number}")
        for path, source in (("EFI/BOOT/BOOTX64.EFI", "build/godwit.efi"), ("godwit/godwit.conf", f"{name}.conf"),
                             ("godwit/host.key", f"build/keys/{name}.key")):
            with open(os.path.join(stick, path), "rb") as f, open(os.path.join(folder, source), "rb") as g:
                assert f.read() == g.read(), f"{path} on {name}'s stick is not {source}"
    assert os.path.exists(os.path.join(folder, "stick-1", "godwit", "vmlinuz"))
