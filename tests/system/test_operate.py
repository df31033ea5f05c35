# SPDX-License-Identifier: BSD-2-Clause
"""Three hosts and six guests, operated with godwitctl only: the queue, possible destinations with the reasons against
the others, the best destination, options of one move, and evacuations while the network between two hosts is cut,
before and during moves."""
import re
import time

from tiny_guest import TICK, read_tick

FAIR_S = 3
UNDER_WAY = ("choosing", "connecting", "moving")


def states(trio):
    """{guest: [(host, state), ...]} of all that are not stopped, on all hosts."""
    found = {guest: [] for guest in trio.GUESTS}
    for vm in trio.json("vm", "list")["vms"]:
        if vm["state"] != "stopped":
            found[vm["name"]].append((vm["host"], vm["state"]))
    return found


def where(trio):
    """{guest: host}; AssertionError unless each runs on exactly one."""
    found = states(trio)
    assert all(len(at) == 1 and at[0][1] == "running" for at in found.values()), found
    return {guest: at[0][0] for guest, at in found.items()}


def last_tick(trio, guest, host):
    """What the guest said last on its console; None: nothing yet."""
    lines = [m[0] for m in re.finditer(TICK, trio.ctl("vm", "console", guest, "--print", "-H", host)[0].replace("\r",
            ""), re.M)]
    return read_tick(lines[-1]) if lines else None


def all_run(trio, timeout=60):
    """Each guest runs on one host, goes on there, and all that it has ever written is right; returns {guest: host}."""
    at, deadline = where(trio), time.monotonic() + timeout
    first = {guest: last_tick(trio, guest, at[guest]) for guest in at}
    for guest in at:
        while True:
            tick = last_tick(trio, guest, at[guest])
            if tick and (not first[guest] or tick["visits"] != first[guest]["visits"]):
                break
            assert time.monotonic() < deadline, f"{guest} stands still on {at[guest]}: {tick}"
            time.sleep(0.3)
        assert tick["bad"] == 0, (guest, tick)
    assert where(trio) == at
    return at


def moves(trio, host):
    """The moves away from host, oldest first; AssertionError if more are under way than may be."""
    listed = trio.json("migration", "list", "-H", host)["migrations"][::-1]
    assert sum(m["state"] in UNDER_WAY for m in listed) <= trio.MAX_JOBS[host], listed
    return listed


def bring(trio, host):
    """All guests to this host."""
    for guest, at in where(trio).items():
        if at != host:
            trio.ctl("vm", "migrate", guest, "--to", host)


def test_pool(trio):
    """All hosts and guests are seen; the whole pool is asked what would move where."""
    deadline = time.monotonic() + 60
    while not all(states(trio).values()):  # they start when both peers have said that they do not have them
        assert time.monotonic() < deadline, states(trio)
        time.sleep(0.3)
    # 2.8 MB to move
    while any((last_tick(trio, guest, "a") or {"visits": 0})["visits"] < 700 for guest in trio.GUESTS):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    assert set(all_run(trio).values()) == {"a"}
    hosts = {h["name"]: h["memory"]["promisable_bytes"] >> 20 for h in trio.json("host", "list")["hosts"]}
    print(f"        memory to be had, in MiB: {hosts}")
    verdicts = trio.json("validate")["verdicts"]
    assert sorted((v["vm"], v["to"]) for v in verdicts) == sorted((g, h) for g in trio.GUESTS for h in "bc"), verdicts
    assert all(v["would_move"] for v in verdicts), verdicts


def guest_us(trio):
    """For how long each guest has had a's only CPU."""
    return {guest: trio.json("vm", "inspect", guest, "-H", "a")["vcpus"][0]["guest_us"] for guest in trio.GUESTS}


def test_fair_shares(trio):
    """Six guests that never sleep on one CPU: each gets a sixth."""
    assert set(where(trio).values()) == {"a"}
    before = guest_us(trio)
    time.sleep(FAIR_S)
    got = {guest: us - before[guest] for guest, us in guest_us(trio).items()}
    mean = sum(got.values()) / len(got)
    print(f"        ms of the CPU in {FAIR_S} s: " + ", ".join(f"{us / 1000:.0f}" for us in got.values()))
    assert all(abs(us - mean) < 0.2 * mean for us in got.values()), got


def test_queue(trio):
    """Of six moves asked for at once three go on and three wait, each with its place.  One that waits and one that goes
    on are cancelled.  Status, history and report at the console say the same."""
    a = trio.hosts["a"]
    ids = {guest: trio.ctl("vm", "migrate", guest, "--to", "b", "--limit", "2", "--plain", "--detach")[0].strip()
           for guest in trio.GUESTS}
    assert list(ids.values()) == [f"a/{n}" for n in range(1, 7)], ids
    now = moves(trio, "a")
    assert [m["state"] in UNDER_WAY for m in now] == [True] * 3 + [False] * 3, now
    assert [m["queue_position"] for m in now[3:]] == [0, 1, 2] and all(m["state"] == "queued" for m in now[3:]), now
    assert re.search(r"^a/6 +w6 +b +queued .* 2 before it$", trio.ctl("migration", "list")[0], re.M)
    assert "job 5 w5 -> b: QUEUED, 1 before it" in a.command("migrate status")
    assert "moving already" in trio.ctl("vm", "migrate", "w1", "--to", "b", code=1)[1]
    assert "runs on here" in trio.ctl("migration", "cancel", "w5")[0]
    assert [m["queue_position"] for m in moves(trio, "a") if m["state"] == "queued"] == [0, 1]
    assert "runs on here" in trio.ctl("migration", "cancel", "a/1")[0]
    while not all(m["ended"] for m in moves(trio, "a")):
        time.sleep(0.3)
    for guest, move in ids.items():
        trio.ctl("migration", "watch", move, code=6 if guest in ("w1", "w5") else 0)
    a.serial.settle()                                           # its log lines
    assert re.search(r"^job 5 w5 -> b: failed: cancelled", a.command("migrate history"), re.M)
    assert re.search(r"^queued_ms: [1-9]\d", a.command("migrate report 6"), re.M)
    assert all_run(trio) == {guest: "a" if guest in ("w1", "w5") else "b" for guest in trio.GUESTS}


def test_one_move(trio):
    """The best destination with its reason; a limit that holds while the guest stands still, and while it runs; an
    address that does not answer, and the next one; networks; what is wrong is said."""
    out, _ = trio.ctl("vm", "migrate", "w1", "--to", "auto", "--live", "--policy", "wait", "--network", "10.7.0.0/24")
    assert re.search(r"^[bc] was chosen: it can give \d+ MiB, the most of 2 peer", out, re.M), out
    trio.ctl("vm", "migrate", "w5", "--to", "b", "--quick", "--plain", "--limit", "4")
    job = trio.json("migration", "show", "w5")
    rate = job["blackout"]["final_bytes"] / job["blackout_us"]
    assert job["transfer_type"] == "quick" and job["disk_transfer"] == "none", job
    print(f"        quick: {job['blackout']['final_bytes'] / 1e6:.1f} MB in {job['blackout_us'] / 1e6:.2f} s, "
          f"{rate:.2f} MB/s under a limit of 4")
    assert not job["options"]["live"] and not job["rounds"] and job["blackout"]["final_bytes"] > 2.5e6 and rate < 4.2, (
        job)
    trio.ctl("vm", "migrate", "w5", "--to", "c")
    trio.ctl("vm", "migrate", "w5", "--to", "b", "--plain", "--limit", "2", "--downtime", "2000")
    job = trio.json("migration", "show", "w5", "-H", "c")
    assert re.match(r"10\.7\.0\.2 \(.*10\.7\.0\.77", job["route"]), job
    first, options = job["rounds"][0], job["options"]
    rate = first["bytes"] / first["us"]
    print(f"        live: {first['bytes'] / 1e6:.1f} MB in {first['us'] / 1e6:.2f} s, "
          f"{rate:.2f} MB/s under a limit of 2")
    assert (options["lz4"], options["downtime_limit_ms"], options["bandwidth_limit_mb"]) == (False, 2000, 2), job
    assert job["pages"]["lz4"] == 0, job
    assert first["bytes"] > 2.5e6 and rate < 2.2, job
    for words, code, message in ((["--network", "10.9.0.0/24"], 1, "has no address in 10.9.0.0/24"),
                                 (["--policy", "maybe"], 1, "throttle, wait or stop"),
                                 (["--paused", "--policy", "wait"], 1, "a live move"),
                                 (["--limit", "4x"], 2, "MB per second"),
                                 (["--live", "--paused"], 2, "not both"), (["--streams", "2"], 2, "streams")):
        _, err = trio.ctl("vm", "migrate", "w5", "--to", "a", *words, code=code)
        assert message in err, err
    all_run(trio)


def test_evacuate_while_cut_off(trio):
    """b is emptied while it cannot reach a: c takes those that it has room for, the others stay, with what stands
    against each peer."""
    bring(trio, "b")
    trio.link.cut("a", "b")
    needed = trio.json("vm", "show", "w1")["needed_bytes"]
    assert trio.GUEST_MIB < needed / 2**20 < trio.GUEST_MIB + 8, needed
    room = trio.json("host", "show", "c")["memory"]["promisable_bytes"] // needed
    assert 1 <= room <= 4, f"c has room for {room}"
    verdicts = trio.json("validate", "w1", code=0)["verdicts"]
    assert [(v["to"], v["would_move"]) for v in verdicts] == [("a", False),
                                                              ("c", True)] and "no answer from 10.7.0.1" in verdicts[0][
                                                                  "reasons"][0], verdicts
    trio.ctl("host", "evacuate", "b", "--detach")
    while "c" not in [host for at in states(trio).values() for host, state in at if state == "running"]:
        time.sleep(0.2)
    gone = next(guest for guest, at in states(trio).items() if ("c", "running") in at)
    verdict, = trio.json("validate", gone, "--to", "b", code=1)["verdicts"]
    assert "host b is being evacuated" in verdict["reasons"][0], verdict
    _, err = trio.ctl("host", "evacuate", "b", code=1)
    assert "an evacuation is active already" in err, err
    while trio.json("host", "evacuate", "b", "--status", code=None)["active"]:
        time.sleep(0.3)
    out, _ = trio.ctl("host", "evacuate", "b", "--status", code=6)
    stay = dict(re.findall(r"^(w\d) +cannot go: (.*)$", out, re.M))
    assert len(re.findall(r"^w\d +gone to [abc]$", out, re.M)) == room and len(stay) == 6 - room, out
    for reason in stay.values():
        assert re.search(r"\ba: cannot be asked: no answer from 10\.7\.0\.1", reason), reason
        assert re.search(r"\bc: the guest needs \d+ MiB .* this host can give", reason), reason
    assert all_run(trio) == {guest: "b" if guest in stay else "c" for guest in trio.GUESTS}
    trio.link.heal()
    out, _ = trio.ctl("host", "evacuate", "b", timeout=120)
    assert len(re.findall(r"^w\d +gone to [abc]$", out, re.M)) == 6 - room and "cannot go" not in out, out
    assert "b" not in all_run(trio).values()


def test_cut_in_the_middle(trio):
    """a is emptied, and loses b while guests are on their way to it: those go to c if it has room, or stay; nobody is
    lost, nobody runs twice."""
    bring(trio, "a")
    trio.ctl("host", "evacuate", "a", "--detach")
    deadline = time.monotonic() + 60
    while not any(m["to"] == "b" and m["state"] == "moving" and 3 <= m["percent"] <= 70 for m in moves(trio, "a")):
        assert time.monotonic() < deadline, moves(trio, "a")
    trio.link.cut("a", "b")
    while not all(m["ended"] or m["state"] == "in-doubt" for m in moves(trio, "a")):
        assert time.monotonic() < deadline + 60, moves(trio, "a")
        time.sleep(0.3)
    trio.link.heal()
    while not all(m["ended"] for m in moves(trio, "a")):        # in doubt: the answer comes now
        assert time.monotonic() < deadline + 90, moves(trio, "a")
        time.sleep(0.3)
    at, over = all_run(trio), trio.json("host", "evacuate", "a", "--status", code=6)
    assert not over["active"] and {i["vm"]: i["gone"] for i in over["items"]} == {guest: host != "a"
            for guest, host in at.items()}, (over, at)
    for item in over["items"]:
        print(f"        {item['vm']}: {'gone to ' + at[item['vm']] if item['gone'] else item['message'][:150]}")
        assert item["gone"] or re.search(r"b: .*10\.7\.0\.2", item["message"]), item
    assert "c" in at.values() and "a" in at.values(), at
    trio.ctl("host", "evacuate", "a", "--status", code=6)
    trio.ctl("host", "evacuate", "a", timeout=120)
    assert "a" not in all_run(trio).values()
