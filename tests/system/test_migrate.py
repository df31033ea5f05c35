# SPDX-License-Identifier: BSD-2-Clause
"""Moves that must succeed: both ways, under load, with every word of memory checked afterwards, clocks and registers
intact."""
import calendar
import os
import re
import time

import guest_clock
from fixtures import DIRTIER
from host import RUNS, vm

SAMPLES, SAMPLES_MOST = 20, 200
SLACK_MS = 30                   # may come on top of blackout and noise
MOVES_MORE = 2                  # a move whose gap is longer is repeated so often
NOISE_S = 2                     # the noise is watched for so long before a move


def watch_noise(pair):
    """How long the emulated machine keeps the guest from running although nobody moves it, in ms; the gap is measured
    from here on."""
    with pair.home()[0].guest("guest") as g:
        g.gaps_ms()
        time.sleep(NOISE_S)
        return g.gaps_ms()[0]


def check_after_move(pair, report, noise=None):
    """The guest ticks on at its new host, all memory is right, its longest gap is the blackout that the hosts measured.

    noise: what watch_noise() saw before the move; None: the gap is not judged.  A busy machine also takes the
    emulator's threads away during the move, so the second longest gap since then counts as noise as well; the blackout
    is one gap, so it cannot hide there.  The emulator also stops a CPU in the middle of its guest, by a lock of its own
    (docs/emulators.md); Godwit sees that as a timer that comes late, and what this machine's own kernel says about
    threads without a CPU counts, too (emulator.CpuWaits).  If the longest gap is too long all the same, another move
    (there and back) decides: what Godwit does to a guest, it does in every move."""
    gap, second = look_after_move(pair)
    for again in range(MOVES_MORE + 1):
        blackout = report.number("blackout_ms")
        if noise is None:
            return
        late, out = report.number("timer_late_ms"), report.number("kept_out_ms")
        told = (f"the guest saw a gap of {gap:.1f} ms, the hosts a blackout of {blackout:.1f} ms; noise {noise:.1f} ms "
                f"before, {second:.1f} ms during the move;"
                f" kept out for {out:.1f} ms at most, timer late by {late:.1f} ms; a thread waited "
                f"{report.waited_ms:.1f} ms for a CPU")
        print(f"        {told}")
        assert gap >= blackout * 0.3, told + ": one of them measures wrong"
        if gap <= blackout + max(noise, second, late, report.waited_ms) + SLACK_MS:
            return
        assert again < MOVES_MORE, told
        print("        too long; another move decides")
        pair.move()
        noise = watch_noise(pair)
        report = pair.move()
        gap, second = look_after_move(pair)


def look_after_move(pair):
    src, dst = pair.b if pair.at is pair.a else pair.a, pair.at
    with dst.guest("guest") as g:
        gaps = g.gaps_ms()
        assert all(t["backwards"] is None for t in g.ticks(3)), "a clock went backwards"
        g.verify()
    assert not src.has_vm("guest"), "the source still runs the guest"
    assert dst.has_vm("guest")
    return gaps


def test_a_to_b_under_load(pair):
    noise = watch_noise(pair)
    report = pair.move()
    check_after_move(pair, report, noise)
    sent = report.number("pages_lz4") + report.number("pages_raw")
    assert sent >= 32 * 256, f"only {sent} pages were sent, the dirtied buffer alone has {32 * 256}"
    assert report.number("rounds") >= 1 and len(report.round_list) == report.number("rounds")
    assert report.number("wire_bytes") > 32 << 20


def test_b_to_a_under_load(pair):
    noise = watch_noise(pair)
    check_after_move(pair, pair.move(), noise)


def rtc_ahead_s(host):
    """By how much the machine's own clock is ahead of this machine's, as its emulator says."""
    numbers = {k: int(v) for k, v in re.findall(r'"tm_(\w+)": (\d+)',
                                                host.machine.monitor("qom-get /machine rtc-time"))}
    return calendar.timegm((1900 + numbers["year"], 1 + numbers["mon"],
                            *(numbers[k] for k in ("mday", "hour", "min", "sec")))) - time.time()


def clock_samples(host, khz):
    """So many that the guest's clocks are known()."""
    samples = []
    with host.guest("guest") as g:
        while len(samples) < SAMPLES or not guest_clock.known(samples, khz) and len(samples) < SAMPLES_MOST:
            samples.append(g.clocks())
        assert all(t["backwards"] is None for t in g.ticks(2)), "a clock went backwards"
    return samples


def test_clocks_after_moves(pair):
    """A move puts neither clock of the guest forward or back by more than its blackout + 10 ms (guest_clock.py), though
    host b's own clock is an hour ahead."""
    assert abs(rtc_ahead_s(pair.b) - guest_clock.AHEAD_S) < 120
    khz = guest_clock.tsc_khz(pair.a)                           # which has started it
    before = clock_samples(pair.home()[0], khz)
    blackout_ms = pair.move().number("blackout_ms")
    after = clock_samples(pair.at, khz)
    date_s = after[-1][2] / 1e9 - time.time()
    assert abs(date_s) < 2, f"the guest's date is {date_s:+.2f} s off after the move"
    print(f"        a move with a blackout of {blackout_ms} ms put the guest's clock forward by "
          + guest_clock.check_step("the move", before, after, blackout_ms, khz))


def test_incompressible_fill(pair):
    with pair.home()[0].guest("guest") as g:
        g.ask("mode fill", "^mode fill\n")
    noise = watch_noise(pair)
    check_after_move(pair, pair.move(), noise)
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


def test_there_and_back(pair):
    for _ in range(3):
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
    """What the moves used was given back: `host` shows no growth over one more round trip."""
    pair.guest_on_a()
    before = [h.free_kib() >> 10 for h in (pair.a, pair.b)]
    for _ in range(2):
        pair.move()
    after = [h.free_kib() >> 10 for h in (pair.a, pair.b)]
    assert all(abs(x - y) <= 4 for x, y in zip(before, after)), (
        f"free memory a, b: {before} MiB, after two moves {after}")


def whole_move(pair, cpus=1):
    """One move of a fresh pair made for one check, all verified."""
    noise = watch_noise(pair)
    report = pair.move()
    check_after_move(pair, report, noise if cpus == 1 else None)
    return report


def test_e1000_and_one_cpu_each(own):
    whole_move(own.pair(nic="e1000", cpus=1, vms={"guest": vm("godwit.run=dirtier,8,200")}))


def test_both_dirty_logs_with_verify(own):
    """a finds written pages by write protection, b by D bits.  verify = yes: at the stop the source hashes all memory
    again and refuses to move if a page changed without a dirty mark."""
    pair = own.pair(host_keys={"dirty-log": "wp", "verify": "yes"}, b_keys={"dirty-log": "ad", "verify": "yes"})
    for _ in range(2):
        report = whole_move(pair)
        assert report.parts()["verify"] > 0, f"nothing was verified:\n{report.text}"


def test_two_vcpus_on_four_cpus_each(own):
    pair = own.pair(cpus=4, vms={"guest": vm("godwit.run=dirtier,16,500", cpus=2)})
    whole_move(pair, cpus=2)
    assert "vCPU 1:" in pair.b.command("vm inspect guest")


def test_nothing_in_plaintext_on_the_wire(own):
    """The guest's memory is full of a marker and its name is a rare one: neither may be found in a packet dump of the
    whole move."""
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
