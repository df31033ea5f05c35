# SPDX-License-Identifier: BSD-2-Clause
"""The tests' own parts, without an emulator: what once made a check fail, or pass, for no fault of Godwit's."""
import types

import soak_faults
from host import Lan


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
