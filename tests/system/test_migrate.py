# SPDX-License-Identifier: BSD-2-Clause
"""Moves that must work: both ways, under load, every word of memory checked afterwards, clocks and registers intact."""
import os
import re
import time

from fixtures import DIRTIER
from host import RUNS, vm

SLACK_MS = 120                  # a tick line and the guest's own scheduling may add this to the blackout


def check_after_move(pair, report, fresh_gap=True):
    """The guest ticks on at its new host, all memory is right, its longest gap is the blackout that the hosts measured."""
    src, dst = pair.b if pair.at is pair.a else pair.a, pair.at
    with dst.guest("guest") as g:
        assert all(t["backwards"] is None for t in g.ticks(3)), "a clock went backwards"
        g.verify()
        gap = g.gap_ms()
    blackout = report.number("blackout_ms")
    if fresh_gap:
        assert gap <= blackout + SLACK_MS, f"the guest saw a gap of {gap} ms, the hosts a blackout of {blackout} ms"
        assert gap >= blackout * 0.3, f"the guest saw {gap} ms only, the hosts {blackout} ms: one of them measures wrong"
    assert not src.has_vm("guest"), "the source still runs the guest"
    assert dst.has_vm("guest")
    return gap


def reset_gap(pair):
    with pair.home()[0].guest("guest") as g:
        g.gap_ms()


def test_a_to_b_under_load(pair):
    reset_gap(pair)
    report = pair.move()
    check_after_move(pair, report)
    sent = report.number("pages_lz4") + report.number("pages_raw")
    assert sent >= 32 * 256, f"only {sent} pages were sent, the dirtied buffer alone has {32 * 256}"
    assert report.number("rounds") >= 1 and len(report.round_list) == report.number("rounds")
    assert report.number("wire_bytes") > 32 << 20


def test_b_to_a_under_load(pair):
    reset_gap(pair)
    check_after_move(pair, pair.move())


def test_clocks_after_moves(pair):
    host, _ = pair.home()
    with host.guest("guest") as g:
        wall, mono, real = *g.wall(), time.time()
    pair.move()
    with pair.at.guest("guest") as g:
        wall2, mono2, real2 = *g.wall(), time.time()
        assert all(t["backwards"] is None for t in g.ticks(2)), "a clock went backwards"
    assert abs(wall2 - real2) < 2, f"the guest's date is {wall2 - real2:+.2f} s off after the move"
    assert abs((wall2 - wall) - (real2 - real)) < 1 and abs((mono2 - mono) - (real2 - real)) < 1, \
        f"in {real2 - real:.2f} s the guest's clocks went on by {wall2 - wall:.2f} (real) and {mono2 - mono:.2f} s (monotonic)"


def test_incompressible_fill(pair):
    with pair.home()[0].guest("guest") as g:
        g.ask("mode fill", "^mode fill\n")
        g.gap_ms()
    report = pair.move()
    check_after_move(pair, report)
    with pair.at.guest("guest") as g:
        g.ask("mode word", "^mode word\n")


def test_idle_costs_little(pair):
    with pair.home()[0].guest("guest") as g:
        g.ask("pause", "^paused\n")
    report = pair.move()
    with pair.at.guest("guest") as g:
        g.ask("resume", "^rate 1000\n")
        g.verify()
    final = report.parts().get("final_pages", 0)
    assert final < 2000, f"{final:.0f} pages were left for the blackout of an idle guest"


def test_there_and_back_five_times(pair):
    for _ in range(5):
        pair.move()
    with pair.at.guest("guest") as g:
        g.ticks(2)
        g.verify()
    for host in (pair.a, pair.b):
        assert not re.search(r"panic|assertion failed", host.log(), re.I)


def test_vector_registers_over_a_move(pair):
    """A second guest, computing with patterns in its vector registers, moves while "guest" runs."""
    src = pair.guest_on_a()
    src.command("vm start shell")
    with src.guest("shell") as g:
        g.expect("guest# ", 120)
        g.shell("fpcheck", r"^fpcheck ok rounds=(\d+) bad=0 avx=1\n", 60)
    report = src.migrate("shell", "b")
    assert report.ok
    with pair.b.guest("shell") as g:
        rounds = [int(g.expect(r"^fpcheck ok rounds=(\d+) bad=0 avx=1\n", 60)[1]) for _ in range(3)]
        assert rounds == sorted(rounds)
        g.shell("\x03", "guest# ")
        g.send("poweroff -f")
        pair.b.wait_log("shell: powered itself off")


def test_memory_stays_bounded_on_both_hosts(pair):
    """What the moves used was given back: `host` shows no growth over three more round trips."""
    pair.guest_on_a()
    before = [h.free_kib() >> 10 for h in (pair.a, pair.b)]
    for _ in range(4):
        pair.move()
    after = [h.free_kib() >> 10 for h in (pair.a, pair.b)]
    assert all(abs(x - y) <= 8 for x, y in zip(before, after)), f"free memory a, b: {before} MiB, after four moves {after}"


def whole_move(pair, cpus=1):
    """One move of a fresh pair made for one check, all verified."""
    pair.home()
    reset_gap(pair)
    report = pair.move()
    check_after_move(pair, report, fresh_gap=cpus == 1)
    return report


def test_e1000_and_one_cpu_each(own):
    whole_move(own.pair(nic="e1000", cpus=1, vms={"guest": vm("godwit.run=dirtier,8,200")}))


def test_dirty_log_by_write_protection(own):
    whole_move(own.pair(host_keys={"dirty-log": "wp", "verify": "yes"}))


def test_dirty_log_by_d_bits(own):
    whole_move(own.pair(host_keys={"dirty-log": "ad", "verify": "yes"}))


def test_two_vcpus_move(own):
    whole_move(own.pair(vms={"guest": vm("godwit.run=dirtier,16,500", cpus=2)}), cpus=2)


def test_nothing_in_plaintext_on_the_wire(own):
    """The guest's memory is full of a marker and its name is a rare one: neither may be found in a packet dump of the whole move."""
    dump = os.path.join(RUNS, "plaintext.pcap")
    name = "canary-7f3a"
    pair = own.pair(vms={name: vm("godwit.run=dirtier,8,200,marker")}, pcap=dump)
    with pair.a.guest(name) as g:
        g.ticks(3, 120)
    assert pair.a.migrate(name, "b").ok
    with pair.b.guest(name) as g:
        g.verify()
    pair.close()
    with open(dump, "rb") as f:
        wire = f.read()
    assert len(wire) > 2 << 20, f"the dump has {len(wire)} bytes only: was nothing sent?"
    assert b"\x16\x03\x03" in wire and b"\x17\x03\x03" in wire, "no TLS records in the dump: is it the right link?"
    for secret in (b"GODWIT-PLAINTEXT", b"MARKER:page=", name.encode(), DIRTIER[:14].encode(), b"guest ready"):
        assert secret not in wire, f"{secret} is on the wire in plaintext"


def test_soak(own):
    """Only with --soak: back and forth for SOAK_SECONDS under load, verified after each move."""
    pair, end, moves = own.pair(limit_s=7200), time.monotonic() + float(os.environ.get("SOAK_SECONDS", "600")), 0
    while time.monotonic() < end:
        whole_move(pair)
        moves += 1
    print(f"        {moves} moves")
