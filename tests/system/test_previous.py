# SPDX-License-Identifier: BSD-2-Clause
"""A guest moves from this version to the previous release and back: a rolling upgrade
of two hosts, one after the other, without stopping a guest."""
import os
import subprocess

from fixtures import Skip
from emulator import ROOT
from host import dirtier, vm


def previous():
    """The path of the previous release's godwit.efi, built from the history of this repository."""
    run = subprocess.run([os.path.join(ROOT, "tools", "previous.sh")], stdout=subprocess.PIPE, text=True, check=False)
    if run.returncode == 2:
        raise Skip(run.stdout.strip())
    assert run.returncode == 0, "the previous release does not build: see above"
    return run.stdout.strip()


def moves_on(pair):
    """The peer is asked first (auto), it takes the guest, and all memory is right there."""
    src, dst = pair.home()
    report = src.migrate("guest", "auto")
    assert report.get("outcome") == "moved", report.text
    pair.at = dst
    with dst.guest("guest") as g:
        assert all(t["backwards"] is None for t in g.ticks(3)), "a clock went backwards"
        g.verify()


def test_previous_release_both_ways(own):
    old = previous()
    # started by this version, to the previous release: with a CPU level, which has no feature that is new
    pair = own.pair(vms={"guest": vm(dirtier(8, 500), cpu="x86-64-v2"), "host": vm(memory="128M")}, b_efi=old)
    report = pair.a.migrate("host", "b", must=False)
    assert "the guest was given processor features that the destination's older version of Godwit does not know " \
        "(mce, mca, tsc-adjust)" in report.text and report.number("wire_bytes") < 200000, report.text
    moves_on(pair)
    moves_on(pair)
    pair.close()
    # started by the previous release, to this version and back
    pair = own.pair(vms={"guest": vm(dirtier(8, 500))}, a_efi=old)
    moves_on(pair)
    moves_on(pair)
