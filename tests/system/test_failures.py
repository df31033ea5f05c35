# SPDX-License-Identifier: BSD-2-Clause
"""Failures must be reported clearly and must not cost a guest: bad configuration and files, unknown, absent, full and
dying peers.

A destination of another version is not here: test_previous.py moves to the previous release, and
tests/unit/test_mig.c test_version has the engine meet peers that speak versions 7 to 9 only, at both ends.  Links cut
at every record boundary and after COMMIT: test_mig_links.c test_cut_everywhere, test_cut_query."""
import os
import re
import time

import tiny_kernel
from fixtures import DIRTIER
from host import KERNEL, RUNS, SlowLink, address, dirtier, fingerprint, vm


RATE_TRIES = 40  # a busy machine may steal from a guest for seconds; a throttled or tracked guest stays slow


def speed(g):
    """Pages per second that the guest dirties over half a second: what it was asked for, unless the machine is too
    busy."""
    ticks = g.ticks(6)
    assert all(t["backwards"] is None for t in ticks), "a clock went backwards"
    return 1000 * sum(t["dirtied"] for t in ticks[1:]) / (ticks[-1]["t_ms"] - ticks[0]["t_ms"])


def speed_before(pair):
    with pair.guest_on_a().guest("guest") as g:
        return speed(g)


def unharmed(pair, before):
    """The guest runs on a as if nothing had been: ticks, as fast as before, right memory, dirty log off, large pages
    whole."""
    with pair.a.guest("guest") as g:
        seen = []
        while not seen or seen[-1] < 0.9 * before:
            assert len(seen) < RATE_TRIES, f"the guest dirtied {before:.0f} pages/s before, and only {seen} now"
            seen.append(int(speed(g)))
        g.verify()
    assert pair.a.has_vm("guest")
    shown = pair.a.command("vm inspect guest")
    assert "dirty log off" in shown and re.search(r"blocks whole [1-9]\d* split 0\b", shown), shown
    assert not re.search(r"panic|assertion failed", pair.a.log(), re.I)


def fails(pair, pattern, host="b", timeout=90):
    """A move of "guest" must fail with a reason that matches."""
    before = speed_before(pair)
    report = pair.a.migrate("guest", host, timeout, must=False)
    assert report.get("outcome") in ("failed", "refused"), f"this move should have failed:\n{report.text}"
    assert re.search(pattern, report.get("reason", ""), re.I), f"the reason does not match /{pattern}/:\n{report.text}"
    unharmed(pair, before)


# -- moves that must fail and harm nobody ------------------------------------------------------------------------------

def test_unknown_guest_and_host(pair):
    pair.guest_on_a()
    assert "nobody" in pair.a.command("migrate nobody b")
    assert "nowhere" in pair.a.command("migrate guest nowhere")


def test_cancel_midway(pair):
    pair.plain_b()
    host, before = pair.guest_on_a(), speed_before(pair)
    host.migrate_start("guest", "b")
    host.migrate_progress(20)
    said, report = host.migrate_cancel("guest")
    assert "cancelled" in said, said
    assert report.get("outcome") == "failed" and "cancel" in report.get("reason", "").lower(), report.text
    unharmed(pair, before)
    assert not pair.b.has_vm("guest")
    pair.move()                                         # and b is not left in a state that refuses it
    pair.guest_on_a()


SLOW_S = 0.12  # a frame's way on a link made slow: there and back is longer than the progress line's 100 ms


def slow_pair(own):
    """The long way counts in the estimated downtime: with the usual limit this move would give up."""
    return own.pair(link=SlowLink(), host_keys={"downtime-limit-ms": "5000"}, vms={"guest": vm(dirtier(8, 1000))})


def slow_down(pair):
    """Let the bulk of the pages pass, and stretch what comes after."""
    pair.a.migrate_progress(60)
    pair.link.delay = SLOW_S


def destination_killed_at(pair, percent):
    pair.plain_b()
    host, before = pair.guest_on_a(), speed_before(pair)
    start = host.migrate_start("guest", "b")
    if isinstance(pair.link, SlowLink):
        slow_down(pair)
    line = host.migrate_progress(percent)
    pair.b.kill()
    report = host.migrate_finish(start, 120)
    print(f"        killed at: {line}")
    print(f"        told: {report.get('reason')}")
    assert report.get("outcome") == "failed" and re.search(r"link was lost|nothing heard", report.get("reason", "")), (
        report.text)
    unharmed(pair, before)
    return line


def test_destination_killed_at_10_percent(pair):
    destination_killed_at(pair, 10)


def test_destination_absent(pair):
    if pair.b.machine.alive():
        pair.guest_on_a()
        pair.b.kill()
    fails(pair, r"timeout|timed out|no answer|unreachable|not reach|connect")


def test_destination_killed_at_50_percent(pair):
    destination_killed_at(pair, 50)


def test_destination_killed_at_95_percent(own):
    """The guest stands still already and PREPARED has not come; on a link that has become slow this takes long enough
    to be hit surely."""
    pair = slow_pair(own)
    line = destination_killed_at(pair, 95)
    assert re.search(r"STOPP(ING|ED) ", line), f"not killed during the stop: {line}"


def test_destination_restarts_before_it_answers_commit(own):
    """b dies when COMMIT is out: a cannot know whether the guest ran there, keeps it stopped, and asks b when it is
    back.  The new b knows nothing, which proves nothing; a person who knows that b lost everything says so, and the
    guest runs on here."""
    pair = slow_pair(own)
    host, before = pair.guest_on_a(), speed_before(pair)
    start = host.migrate_start("guest", "b")
    slow_down(pair)
    print(f"        killed at: {host.migrate_progress(99)}")
    pair.b.kill()
    host.wait_log(r"guest -> b: the connection broke after COMMIT; the guest stays stopped here", 30)
    pair.link.delay = 0.0
    pair.boot_b()
    host.wait_log(r"guest -> b: still in doubt.*does not know this job", 60)
    time.sleep(3)
    asked = len(re.findall("connected to b", host.log()))
    assert asked < 60, f"b was asked {asked} times"
    host.serial.send("\x03")
    host.serial.expect(host.prompt, 10)
    assert not host.has_vm("guest") and not pair.b.has_vm("guest"), (
        "the guest must stand still while nobody knows where it lives")
    said = host.command("migrate resolve guest here")
    assert ("committed to b, and it is not known what became of it: the destination does not know this job" in said
            and "--sure` does it" in said), said
    assert not host.has_vm("guest"), "it was asked what is known, no more"
    host.command("migrate resolve guest here --sure")
    assert host.has_vm("guest"), host.serial.text[start:][-1500:]
    assert "the operator at the console resumed the guest here" in host.command("migrate report")
    unharmed(pair, before)


def test_destination_refuses_incoming(pair):
    pair.new_b(host_keys={"incoming": "no"})
    fails(pair, r"takes no incoming moves")


def test_destination_has_too_little_memory(pair):
    pair.new_b(memory_mib=300)
    fails(pair, r"memory|MiB")


def test_destination_has_a_guest_of_that_name(pair):
    b = pair.new_b(vms={"guest": vm(dirtier(4, 100), autostart=False)})
    b.command("vm start guest --force")
    fails(pair, r"guest.*(running|already)")


def test_source_is_unknown_to_destination(pair):
    b = pair.new_b(peers={"a": {"fingerprint": "00" * 32}})
    fails(pair, r"alert|auth|unknown|certificate|trust|fingerprint")
    assert not b.has_vm("guest")
    assert fingerprint("a") in b.log().replace(":", "").lower(), "b's log does not show the fingerprint of the stranger"


def test_destination_is_not_who_it_should_be(pair):
    pair.new_b(key_name="stranger")
    fails(pair, r"alert|auth|unknown|certificate|trust|fingerprint")
    assert fingerprint("stranger") in pair.a.log().replace(":", "").lower(), (
        "a's log does not show the fingerprint of the stranger")


def test_works_again_after_all_that(pair):
    pair.plain_b()
    pair.move()
    with pair.b.guest("guest") as g:
        g.verify()


# -- configuration and files -------------------------------------------------------------------------------------------

def test_configuration_mistakes_are_named(own):
    """Each mistake is reported with file, line, key and what was expected; what is right still works."""
    conf = f"""[host]
name = a
ip = 10.7.0.1/99
colour = green
[peer b]
address = {address("b")}
fingerprint = 1234
[vm good]
memory = 96M
cpus = 1
kernel = vmlinuz
initrd = initramfs.cpio.gz
cmdline = console=ttyS0 quiet
[vm small]
memory = 64M
kernel = vmlinuz
[vm bad]
memory = lots
kernel = vmlinuz
[vm nokernel]
memory = 64M
[zoo]
"""
    host = own("a", conf=conf, vms={"good": None})
    log = host.log()
    for line, key in ((3, "ip"), (4, "colour"), (7, "fingerprint"), (18, "memory"), (22, "zoo")):
        assert re.search(rf"godwit\.conf:{line}\b.*{key}", log), (
            f"the log does not name line {line}, {key}:\n{log[-2500:]}")
    by_host = re.findall(r"error config: (\\godwit.*)", log)
    assert by_host == re.findall(r": error: (.*)", host.mkhost_said), (by_host, host.mkhost_said)   # mkhost knew
    listed = host.command("vm list")
    assert "good" in listed and "bad" not in listed, listed
    assert "raise `memory`" in host.command("vm start small"), "too little memory for the kernel is not explained"
    host.command("vm start good")
    with host.guest("good") as g:
        g.ready()


def spoiled_kernel(name, spoil):
    path = os.path.join(RUNS, name)
    with open(KERNEL, "rb") as f:
        data = bytearray(f.read())
    with open(path, "wb") as f:
        f.write(spoil(data))
    return path


def test_damaged_missing_and_too_big(own):
    """A kernel that is none, one cut short, one with a wrong header, a missing file, more memory than there is: all
    explained, host unharmed."""
    os.makedirs(RUNS, exist_ok=True)
    files = {"text.img": spoiled_kernel("text.img", lambda d: b"this is no kernel\n" * 100),
             "short.img": spoiled_kernel("short.img", lambda d: d[:200000]),
             "header.img": spoiled_kernel("header.img", lambda d: d[:0x202] + b"XXXX" + d[0x206:])}
    vms = {name[:-4]: vm(autostart=False, kernel=name) for name in files}
    vms.update(missing=vm(autostart=False, kernel="not-there"), noinitrd=vm(autostart=False, initrd="not-there"),
               huge=vm(autostart=False, memory="16G"), nodisk=vm(autostart=False, disk="ram:not-there"),
               good=vm(DIRTIER, autostart=False))
    host = own("a", vms=vms, files=files)
    for name, words in (("text", "kernel|bzImage|text.img"), ("short", "short|truncated|incomplete|kernel"),
                        ("header", "kernel|header|bzImage"),
                        ("missing", r"not-there is not on this host's boot disk"), ("noinitrd", "not-there"),
                        ("nodisk", r", its disk, is not on this"),
                        ("huge", r"this host can promise \d+ MiB")):
        said = host.command(f"vm start {name}")
        assert re.search(words, said) and "error" in said, f"vm start {name}: {said}"
        assert not host.has_vm(name)
        missing = re.search(rf"{name}: file .* is not on this host's boot disk", said)
        assert bool(missing) == ("not-there" in said) == (f": warn: {name}: " in host.mkhost_said), said
        assert not missing or missing[0] in host.mkhost_said, (missing[0], host.mkhost_said)    # mkhost knew
    host.command("vm start good")
    assert "only a stopped guest can be started" in host.command("vm start good")
    with host.guest("good") as g:
        g.ready()
        g.ticks(2)


def test_no_network_card(own):
    """Without a NIC the host comes up, its guests run, and a move says why not."""
    host = own("a", vms={"guest": vm(dirtier(4, 100), autostart="always")}, peers=["b"])
    assert re.search(r"warn|error", host.log()), "nobody was told that there is no network"
    host.wait_started("guest")
    report = host.migrate("guest", "b", must=False)
    assert not report.ok and re.search("network|connect", report.get("reason", "")), report.text
    with host.guest("guest") as g:
        g.ticks(3)


def test_tiny_bad_guests(own):
    """Guests that spin or halt for ever with interrupts off, fault at once, or try AMD-V themselves: on a host with one
    CPU, beside a good one."""
    os.makedirs(RUNS, exist_ok=True)
    kernels = {"spin": tiny_kernel.SPIN_WITH_INTERRUPTS_OFF, "halt": tiny_kernel.HALT_WITH_INTERRUPTS_OFF,
               "triple": tiny_kernel.TRIPLE_FAULT, "vmrun": tiny_kernel.USE_AMD_V}
    files = {}
    for name, code in kernels.items():
        files[f"{name}.img"] = os.path.join(RUNS, f"{name}.img")
        with open(files[f"{name}.img"], "wb") as f:
            f.write(tiny_kernel.bzimage(code))
    vms = {name: vm(memory="16M", kernel=f"{name}.img", initrd=None, autostart=False) for name in kernels}
    host = own("a", cpus=1, files=files, vms={**vms, "good": vm(dirtier(4, 100))})
    for name in ("spin", "halt"):
        assert "started" in host.command(f"vm start {name}")
    for name in ("triple", "vmrun"):  # no use in starting these over and over: the fifth quick reset is the last
        host.serial.send(f"vm start {name}\r")          # its log lines come at once, into the echo
        host.wait_log(rf"{name}: .*triple fault")
        host.wait_log(rf"{name}: reset itself 5 times in a row", 30)
        host.serial.settle()
        assert re.search(rf"^{name} +crashed .*reset itself 5 times", host.command("vm list"), re.M), (
            host.command("vm list"))
    assert len(host.log()) < 100000, "those guests flood the log"
    with host.guest("good") as g:
        g.ready(180)
        g.ticks(3)
    for name in ("spin", "halt"):
        began = time.monotonic()
        host.command(f"vm stop {name}")
        assert time.monotonic() - began < 5, f"stopping {name} took {time.monotonic() - began:.0f} s"
        assert not host.has_vm(name)
    with host.guest("good") as g:
        g.verify()
