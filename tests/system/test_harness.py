# SPDX-License-Identifier: BSD-2-Clause
"""The tests' own parts, without an emulator: what once made a check fail, or pass, for no fault of Godwit's."""
import subprocess
import types

import soak_faults
from host import Lan
from volatile_disk import SECTOR, VolatileDisk


class Recorder(Lan):
    """A Lan with three cables and nothing on them."""

    def __init__(self):                                         # pylint: disable=super-init-not-called
        self.home, self.apart, self.wires, self.sent = {}, set(), {"a": 0, "b": 0, "user": 0}, []

    def send(self, to, frame):
        self.sent.append(to)


def test_lan_learns_no_group_addresses():
    """One frame from ff:ff:ff:ff:ff:ff must not draw all broadcasts to its sender."""
    everyone, a, b = b"\xff" * 6, b"\2\0\0\0\0\1", b"\2\0\0\0\0\2"
    lan = Recorder()
    for source in (everyone, b"\1\0\x5e\0\0\1"):
        lan.pass_on("a", b + source)
        lan.sent.clear()
        lan.pass_on("b", everyone + b)
        assert sorted(lan.sent) == ["a", "user"], lan.sent
    lan.pass_on("a", everyone + a)
    lan.sent.clear()
    lan.pass_on("b", a + b)
    assert lan.sent == ["a"], lan.sent


def test_soak_sees_a_silent_kill():
    """Host a is killed before it has logged a line since the fault began: its move is over all the same."""
    bed = types.SimpleNamespace(slow=0.01, history={"a": "old", "b": ""}, kills={"a": 1, "b": 0}, b=None)
    bed.a = types.SimpleNamespace(serial=types.SimpleNamespace(send=lambda text: None, settle=lambda *_: None))
    bed.logs, bed.state = lambda name: bed.history[name], lambda host: "running" if host is bed.a else ""
    assert soak_faults.wait_for_the_end(bed, len("old"), 0) == (False, "running", "")


def sectors(disk, at, length):
    """The values of the sectors there, each of which is all of one value."""
    found = {bytes(disk.durable[begin:begin + SECTOR]) for begin in range(at, at + length, SECTOR)}
    assert all(sector == sector[:1] * SECTOR for sector in found), found
    return {sector[0] for sector in found}


def test_disk_loses_what_is_not_flushed():
    """What was flushed survives a power cut.  Of each later write, whole sectors may be lost, and sooner or later
    are."""
    disk, kib = VolatileDisk("harness", 1, seed=12), 1024
    lines = ["write -P 1 0 64k", "flush", "write -P 2 32k 32k", "write -P 2 64k 32k", "sleep 60000"]
    words = [word for line in lines for word in ("-c", line)]
    with subprocess.Popen(["qemu-io", "-f", "raw", "-t", "writeback", *words, disk.url],
                          stdout=subprocess.DEVNULL) as writer:
        disk.stand_still(2)
        writer.kill()
    unflushed = disk.power_cut()[1]
    assert (disk.flushes, unflushed) == (1, 2), (disk.flushes, unflushed)
    assert sectors(disk, 0, 32 * kib) == {1}
    assert sectors(disk, 32 * kib, 32 * kib) <= {1, 2} and sectors(disk, 64 * kib, 32 * kib) <= {0, 2}
    ends = set()
    for value in range(3, 40):
        disk.cache = [(0, bytes([value]) * 16 * kib)]
        disk.power_cut()
        now = sectors(disk, 0, 16 * kib)
        ends.add("torn" if value in now and len(now) > 1 else "there" if value in now else "lost")
        assert sectors(disk, 16 * kib, 16 * kib) == {1}
    assert ends == {"torn", "there", "lost"}, ends
