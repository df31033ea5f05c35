# SPDX-License-Identifier: BSD-2-Clause
"""The management interface with curl and with godwitctl: access control, data, moves."""
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time

from emulator import BUILD, ROOT, SLOWNESS, Timeout
from host import fingerprint

PROMTOOL = os.path.join(BUILD, "deps", "promtool", "promtool")
PROMETHEUS = os.path.join(ROOT, "docs", "prometheus")
PASSING = {"godwit_migration_progress_ratio"}           # has samples while a guest moves


def test_curl_certificates(api):
    """Guests as JSON with a certificate, nothing without, and no more than reading for a reader."""
    code, status, body = api.curl("/v1/vms")
    names = {vm["name"]: vm["state"] for vm in json.loads(body)["vms"]}
    assert (code, status) == (0, 200) and names == {"guest": "running", "shell": "stopped"}, body
    for who in (None, "c"):                             # no certificate; one that the host does not know
        code, status, body = api.curl("/v1/vms", who=who)
        assert code in (35, 56) and status == 0 and not body, (who, code, status, body)
    code, status, body = api.curl("/v1/vms/guest/stop", "-XPOST", who="reader")
    assert status == 403 and json.loads(body)["code"] == "HV_E_AUTH", body
    assert api.curl("/v1/vms", who="reader")[1] == 200
    assert api.a.has_vm("guest")


def test_errors(api):
    """What is asked wrongly gets an HTTP status and words, and the connection's next request its answer."""
    for path, more, status, words in (
            ("/v1/nothing", [], 404, "no path"), ("/v1/vms/nobody", [], 404, "no guest"),
            ("/v1/vms", ["-XDELETE"], 405, "method"),
            ("/v1/migrations", ["-d", "{"], 400, "JSON"), ("/v1/migrations", ["-d", '{"vm":"guest"}'], 400, '"to"'),
            ("/v1/migrations", ["-d", '{"vm":"guest","to":"nobody"}'], 404, "no [peer nobody]"),
            ("/v1/migrations/99", [], 404, "number"),
            ("/v1/vms/shell/pause", ["-XPOST"], 409, "only a running guest"), ("/" + "x" * 600, [], 414, "512"),
            ("/v1/vms/guest/console", ["-d", "x" * 9000], 413, "8192")):
        code, got, body = api.curl(path, *more)
        assert (code, got) == (0, status) and words in json.loads(body)["message"], (path, code, got, body)
    run = api.curl("/v1/nothing", f"https://a:7443/v1/vms")       # both on one connection
    assert run[0] == 0 and '"vms"' in run[2], run


def promtool(*args, text=None):
    """Run promtool, which must find nothing to complain about."""
    run = subprocess.run([PROMTOOL, *args], input=text, capture_output=True, text=True, check=False)
    assert run.returncode == 0 and not run.stderr, run.stdout + run.stderr


def expressions(node):
    """All that a dashboard asks for: the strings under "expr" and "query"."""
    if isinstance(node, list):
        return [e for n in node for e in expressions(n)]
    if isinstance(node, dict):
        return [e for key, n in node.items()
                for e in ([n] if key in ("expr", "query") and isinstance(n, str) else expressions(n))]
    return []


def named_metrics():
    """Names of metrics in the dashboard and in the alert rules."""
    with open(os.path.join(PROMETHEUS, "dashboard.json"), encoding="utf-8") as f:
        asked = expressions(json.load(f))
    with open(os.path.join(PROMETHEUS, "alerts.yml"), encoding="utf-8") as f:
        asked += re.findall(r"^ *expr: (.*)$", f.read(), re.M)
    assert len(asked) > 40, asked
    return {name for e in asked for name in re.findall(r"godwit_\w+", e)}


def check_named_metrics(text):
    """A host has every metric that the dashboard and the rules name; all but a few have samples now."""
    samples = set(re.findall(r"^(godwit_\w+)", text, re.M))
    for name in named_metrics() - samples:
        assert name in PASSING and f"# TYPE {name} " in text, f"no host has {name}"


def test_rules():
    """The alert rules are valid, and each fires when it must, and not before."""
    promtool("check", "rules", os.path.join(PROMETHEUS, "alerts.yml"))
    promtool("test", "rules", os.path.join(PROMETHEUS, "alerts_test.yml"))


def test_metrics(api):
    """/metrics counts, and promtool finds nothing to complain about.  The dashboard and the alert rules name what there
    is."""
    code, status, first = api.curl("/metrics")
    assert (code, status) == (0, 200)
    promtool("check", "metrics", text=first)
    count = re.compile(r'^godwit_vm_exits_total\{vm="guest",reason="host-interrupt"\} (\d+)$', re.M)
    time.sleep(0.5)
    second = api.curl("/metrics")[2]
    assert int(count.search(second)[1]) > int(count.search(first)[1])
    assert re.search(r"^godwit_network_receive_bytes_total [1-9]", second, re.M) and "godwit_memory" in second, second
    deadline = time.monotonic() + 40
    while 'godwit_peer_reachable{peer="b"} 1\n' not in second:     # the first answer made a ask its peers
        assert time.monotonic() < deadline, "a does not say that b is reachable"
        time.sleep(0.3)
        second = api.curl("/metrics")[2]
    check_named_metrics(second)
    assert ('godwit_vm_state{vm="guest",state="running"} 1' in second and 'godwit_vm_memory_bytes{vm="shell"} '
                                                                          '268435456' in second)


def test_pairing(api):
    """godwitctl makes a key, shows both fingerprints, and adds a host only for the fingerprint that was confirmed."""
    conf = os.path.join(api.folder, "new", "godwitctl.conf")
    out, _ = api.ctl("key", config=conf)
    own = re.search(r"^fingerprint = ([0-9a-f]{64})$", out, re.M)[1]
    there = f"127.0.0.1:{api.a.api_port}"
    _, err = api.ctl("host", "add", "a", there, config=conf, code=5, stdin="no\n")
    shown = re.search(r"fingerprint is ([0-9a-f]{64})", api.a.log())[1]
    assert own in err and shown in err and "does not know it yet" in err, err
    api.ctl("host", "add", "a", there, "--fingerprint", own, config=conf, code=5)
    api.ctl("host", "list", config=conf, code=3)
    api.ctl("host", "add", "a", there, config=conf, stdin="yes\n")
    _, err = api.ctl("vm", "list", config=conf, code=5)
    assert own in err and "does not let this client in" in err, err
    with open(api.config("operator"), encoding="utf-8") as f:     # a host that is not who it was
        lie = f.read().replace(shown, own)
    with open(os.path.join(api.folder, "lie.conf"), "w", encoding="utf-8") as f:
        f.write(lie)
    _, err = api.ctl("host", "show", "a", config=os.path.join(api.folder, "lie.conf"), code=5)
    assert shown in err and own in err, err


def test_verbs(api):
    """Pause and resume; a reader may not; start and stop; the console's bytes both ways."""
    api.home()
    api.ctl("vm", "pause", "guest", who="reader", code=1)
    api.ctl("vm", "pause", "guest")
    assert api.json("vm", "show", "guest")["state"] == "paused"
    before = api.json("vm", "inspect", "guest")["vcpus"]
    time.sleep(0.4)
    assert api.json("vm", "inspect", "guest")["vcpus"] == before           # it stands still
    # it moves and stays paused; one that is cancelled stays paused here
    move = api.ctl("vm", "migrate", "guest", "--to", "b", "--limit", "2", "--plain", "--detach")[0].strip()
    assert "is moving; cancel that first" in api.ctl("vm", "resume", "guest", "-H", "a", code=1)[1]
    assert "guest stays paused here" in api.ctl("migration", "cancel", move)[0]
    assert api.json("vm", "show", "guest", "-H", "a")["state"] == "paused"
    assert "guest moved from a to b" in api.ctl("vm", "migrate", "guest", "--to", "b")[0]
    assert api.json("vm", "show", "guest")["state"] == "paused"
    standing = api.json("vm", "inspect", "guest", "-H", "b")["vcpus"]
    time.sleep(0.4)
    assert api.json("vm", "inspect", "guest", "-H", "b")["vcpus"] == standing
    assert all(sum(cpu["exits"].values()) == 0 for cpu in standing), standing     # it never ran there
    api.ctl("vm", "resume", "guest")
    with api.b.guest("guest") as g:
        g.ticks(3)
        g.verify()
    assert "guest moved from b to a" in api.ctl("vm", "migrate", "guest", "--to", "a")[0]
    with api.a.guest("guest") as g:
        g.ticks(3)
        g.verify()
    assert "tick" in api.ctl("vm", "console", "guest", "--print")[0]
    api.ctl("vm", "console", "guest", "--send", "verify")
    deadline = time.monotonic() + 20
    while "VERIFY ok" not in api.ctl("vm", "console", "guest", "--print")[0]:
        assert time.monotonic() < deadline, "the guest did not get what was typed"
        time.sleep(0.2)
    assert api.ctl("vm", "start", "shell")[0] == "a: shell started\n"     # b was asked
    assert "only a stopped guest" in api.ctl("vm", "start", "shell", code=1)[1]
    assert {vm["name"]: vm["state"] for vm in api.json("vm", "list", "-H", "a")["vms"]} == {"guest": "running",
            "shell": "running"}
    api.ctl("vm", "stop", "shell")
    assert "shell is stopped already" in api.ctl("vm", "stop", "shell")[0]
    assert "guest is running already" in api.ctl("vm", "resume", "guest")[0]
    assert "guest: paused by client operator" in api.a.log()


def at_prompt(g):
    """Wait until the guest's shell answers; it has no variable x then, for it has just been started."""
    for _ in range(60):
        try:
            g.ask("echo up=$x.", r"^up=\.\n", 3)
            g.ask("x=1; echo marked", r"^marked\n", 60)
            return
        except Timeout:
            pass                                        # what is typed while it boots is lost
    raise AssertionError("the guest's shell does not answer")


def test_buttons(api):
    """NMI, power button and reset of a guest: one whose system does not listen, one that takes the event and stays up,
    one that powers off; --force."""
    def shutdown(*more, **kw):
        return "".join(api.ctl("vm", "shutdown", "shell", *more, **kw))

    assert "is stopped already" in shutdown()
    assert "only a running guest can be reset" in api.ctl("vm", "reset", "shell", code=1)[1]
    api.ctl("vm", "shutdown", "shell", who="reader", code=1)
    api.ctl("vm", "start", "shell")
    with api.a.guest("shell") as g:
        at_prompt(g)
        assert "does not listen to its power button" in shutdown("--timeout", "1", code=1)
        api.ctl("vm", "nmi", "shell")
        g.expect(r"NMI received for unknown reason")
        g.shell("insmod /button.ko; insmod /evdev.ko; echo loaded $?", r"^loaded 0\n")
        assert api.json("vm", "show", "shell")["power_button"] == "ready"
        assert "its kernel has taken the button's event" in shutdown("--timeout", "2", code=1)
        g.send("{ head -c 24 /dev/input/event0 >/dev/null; poweroff -f; } &")
        g.shell("echo listens", r"^listens\n")
        assert "a: it is off" in shutdown()
    api.a.wait_log(r"shell: powered itself off")
    api.ctl("vm", "start", "shell")
    with api.a.guest("shell") as g:
        at_prompt(g)
        assert "shell is reset" in api.ctl("vm", "reset", "shell")[0]
        at_prompt(g)
    assert "shell: reset by client operator" in api.a.log()
    assert "shell stopped" in shutdown("--timeout", "1", "--force")


def test_openapi(api):
    """The document is a valid one; each answer to a GET is as it says, and so is every other answer to curl()."""
    code, status, text = api.curl("/v1/openapi.json", who="reader")
    assert (code, status) == (0, 200), text
    api.clients.openapi.validate()
    api.home()
    api.ctl("vm", "migrate", "guest", "--to", "auto")           # so that there is a move
    api.ctl("vm", "migrate", "guest", "--to", "auto")
    names = {"vm": "guest", "migration": str(api.json("migration", "list", "-H", "a")["migrations"][0]["id"])}
    asked = set()
    for path, operations in api.clients.openapi.document["paths"].items():
        stars = re.findall(r"\{(\w+)\}", path)
        if "get" in operations and all(star in names for star in stars):
            assert api.curl(path.format(**names))[1] == 200, path
            asked.add(path)
    assert asked >= {"/v1/host", "/v1/vms/{vm}", "/v1/vms/{vm}/inspect", "/v1/migrations/{migration}", "/v1/events"}
    assert api.curl("/v1/vms/guest/shutdown", "-XPOST")[1] == 409
    assert api.curl("/v1/validate", "-d", '{"vm": "guest", "to": "b"}')[1] in (200, 202)


def test_settings(api):
    """Values, clients and peers change while the hosts run, and a host without a store says that it forgets them."""
    api.home()
    said = api.ctl("host", "set", "a", "bandwidth-limit-mb", "50")[0]
    assert said.startswith("a: bandwidth-limit-mb = 50; it holds until this host's next start"), said
    assert "set later: bandwidth-limit-mb = 50 (godwit.conf: 0)" in api.ctl("host", "show", "a")[0]
    assert "cannot be set while the host runs; incoming" in api.ctl("host", "set", "a", "ip", "dhcp", code=1)[1]
    assert "milliseconds, 1 to 60000" in api.ctl("host", "set", "a", "downtime-limit-ms", "0", code=1)[1]
    api.ctl("host", "set", "a", "bandwidth-limit-mb", "default")
    assert "set later" not in api.ctl("host", "show", "a")[0]

    api.ctl("client", "remove", "a", "reader")
    api.ctl("vm", "list", "-H", "a", who="reader", code=5)
    assert "last client that may operate" in api.ctl("client", "remove", "a", "operator", code=1)[1]
    api.ctl("client", "add", "a", "reader", "--fingerprint", fingerprint("reader"))
    api.ctl("vm", "list", "-H", "a", who="reader")
    assert re.search(r"^a +reader +read +set later", api.ctl("client", "list")[0], re.M)

    api.ctl("peer", "remove", "a", "b")
    assert api.json("peer", "list")["peers"] == []
    assert "no [peer b]" in api.ctl("vm", "migrate", "guest", "--to", "b", code=1)[1]
    shown = api.ctl("peer", "add", "a", "b", "--yes")[1]
    assert fingerprint("a") in shown and fingerprint("b") in shown, shown
    for there in "ba":
        assert "guest moved from" in api.ctl("vm", "migrate", "guest", "--to", there)[0]


def test_events(api):
    """A long poll ends with the news; godwitctl shows them once, or follows; each change has its client."""
    api.home()
    seen, got = json.loads(api.curl("/v1/events")[2]), []
    more = f"/v1/events?since={seen['next']}&boot={seen['boot']}&timeout="
    assert json.loads(api.curl(more + "1")[2])["events"] == []              # in vain
    waiting = threading.Thread(target=lambda: got.append(json.loads(api.curl(more + "15")[2])))
    waiting.start()
    time.sleep(1)
    assert not got
    api.ctl("vm", "pause", "guest")
    waiting.join(10)
    assert got and got[0]["events"][0]["number"] == seen["next"], got
    follow = subprocess.Popen([api.clients.GODWITCTL, "--config", api.config("operator"), "--json", "events",
                               "--follow", "a", "--since", str(seen["next"])], stdout=subprocess.PIPE, text=True)
    api.ctl("vm", "resume", "guest")
    lines = []
    while not lines or lines[-1]["text"] != "guest is running":
        lines.append(json.loads(follow.stdout.readline()))
    follow.send_signal(signal.SIGINT)
    assert follow.wait(10) == 0
    assert {(e["kind"], e["what"]) for e in lines} >= {("guest", "paused"), ("guest", "running"),
                                                       ("audit", "done")}, lines
    shown = api.ctl("events", "a")[0]
    assert re.search(r" a +audit +client operator from 10\.7\.0\.\d+: POST /v1/vms/guest/pause: 200\n", shown), shown
    assert "audit: client operator from 10.7.0." in api.a.log()
    assert api.json("events")["errors"] == []                               # of both hosts


def test_moves(api):
    """A move there by godwitctl, and back to where godwitctl chooses; figures and picture of it; one that is
    cancelled."""
    api.home()
    before = api.json("vm", "show", "guest")
    out, _ = api.ctl("vm", "migrate", "guest", "--to", "b")
    usage_follows(api, before)
    assert re.search(r"^guest moved from a to b in [0-9.]+ s, blackout [0-9.]+ ms", out), out
    picture = os.path.join(api.folder, "move.svg")
    api.ctl("migration", "show", "guest", "--svg", picture)
    assert [v["host"] for v in api.json("vm", "list")["vms"] if v["name"] == "guest"] == ["b"]
    assert api.json("vm", "show", "guest")["age_us"] < 60e6
    job = api.json("migration", "show", "guest")
    assert job["asked_by"] == "client operator", job
    assert (job["state"] == "moved" and job["blackout_us"] > 0 and len(job["rounds"]) >= 1
            and job["blackout"]["total_us"] == job["blackout_us"])
    with open(picture, encoding="utf-8") as f:
        drawn = set(re.findall("<title>round ([0-9]+): ", f.read()))
    assert drawn == {str(i + 1) for i in range(len(job["rounds"]))}, drawn
    at = 0                                                      # all times are since the start, as elapsed_us is
    for begin, us in ((0, job["connect_us"]), *((r["start_us"], r["us"]) for r in job["rounds"]),
                      (job["blackout"]["start_us"], job["blackout_us"])):
        assert us > 0 and at <= begin and begin + us <= job["elapsed_us"], (begin, us, job)
        at = begin + us
    assert job["elapsed_us"] - at < 500_000 and not any(r["stood_us"] for r in job["rounds"]), job
    with api.b.guest("guest") as g:
        g.verify()
    verdict, = api.json("validate", "guest")["verdicts"]
    assert verdict["would_move"] and verdict["host"] == "b" and verdict["to"] == "a", verdict
    api.ctl("vm", "start", "guest", "--force", "-H", "a")      # a second guest of that name
    verdict, = api.json("validate", "guest", "-H", "a", code=1)["verdicts"]
    assert not verdict["would_move"] and "a guest named guest is running here" in verdict["reasons"][0], verdict
    api.ctl("vm", "stop", "guest", "-H", "a")
    move = api.ctl("vm", "migrate", "guest", "--to", "auto", "--detach")[0].strip()
    assert re.fullmatch(r"b/\d+", move), move
    said, _ = api.ctl("migration", "cancel", move)
    assert "runs on here" in said, said
    _, err = api.ctl("migration", "resolve", move, "--resume-here", code=1, stdin="yes\n")
    assert f"move {move[2:]} has ended" in err, err
    api.ctl("migration", "watch", move, code=6)
    move = api.ctl("vm", "migrate", "guest", "--to", "a", "--limit", "2", "--plain", "--detach")[0].strip()
    deadline = time.monotonic() + 20
    while api.json("vm", "show", "guest", "-H", "a")["state"] != "incoming":
        assert time.monotonic() < deadline, "it does not arrive"
        time.sleep(0.1)
    _, status, body = api.curl("/v1/vms/guest/console", "-d", "lost")
    assert status == 409 and "guest is incoming and takes no input" in body, body
    assert "rejected; it continues at its source" in api.ctl("vm", "stop", "guest", "-H", "a")[0]
    assert "rejected by client operator of host a" in api.ctl("migration", "watch", move, code=6)[1]
    limits_change(api)
    moved = api.json("vm", "migrate", "guest", "--to", "auto")
    assert moved["state"] == "moved" and moved["host"] == "b" and moved["to"] == "a"
    newest = api.json("migration", "show", "guest")             # not a/1, which is older
    assert (newest["host"], newest["id"]) == ("b", moved["id"]), newest
    text = api.curl("/metrics")[2]                              # of all checks so far
    assert re.search(r'^godwit_migrations_total{outcome="arrived"} [1-9]', text, re.M), text
    blackouts = [j["blackout_us"] for j in api.json("migration", "list", "-H", "a")["migrations"]
                 if j["state"] == "moved"]
    total = float(re.search(r"^godwit_migration_blackout_seconds_sum (.*)$", text, re.M)[1])
    assert (abs(total - sum(blackouts) / 1e6) < 1e-9
            and f"godwit_migration_duration_seconds_count {len(blackouts)}\n" in text), (blackouts, text)
    with api.a.guest("guest") as g:
        g.verify()


def usage_follows(api, before):
    """After a move from a to b: the guest's uptime goes on, the time on this host begins, and its CPU share is known
    after some seconds."""
    shown = api.json("vm", "show", "guest")
    assert shown["host"] == "b" and shown["age_us"] < shown["uptime_us"] - 1000000, shown
    assert before["uptime_us"] < shown["uptime_us"] and before["age_us"] <= before["uptime_us"] + 5000000, (before,
            shown)
    deadline = time.monotonic() + 30
    while "cpu_percent" not in shown:
        assert time.monotonic() < deadline, shown
        time.sleep(0.5)
        shown = api.json("vm", "show", "guest")
    assert 0 < shown["cpu_percent"] <= 110, shown
    card, = shown["cards"]
    assert card["mac"] == shown["mac"] and isinstance(card["addresses"], list), shown
    text = api.ctl("vm", "show", "guest")[0]
    assert re.search(r"^uptime_s: \d+\ncpu_percent: \d+\naddresses of [0-9a-f:]{17}:", text, re.M), text
    assert re.search(r"^up for \d+ s, here for \d+ s, uses \d+ % of a CPU", api.b.command("vm inspect guest"), re.M)


def limits_change(api):
    """A move from b that would take minutes gets a higher limit while it runs; only an operator may."""
    move = api.ctl("vm", "migrate", "guest", "--to", "a", "--limit", "1", "--plain", "--detach")[0].strip()
    number = move.split("/")[1]
    assert "from 1 to 60000" in api.ctl("migration", "set", move, "--downtime", "0", code=1)[1]
    assert "may only read" in api.ctl("migration", "set", move, "--limit", "0", who="reader", code=1)[1]
    before = api.json("migration", "show", move)["options"]
    assert (before["bandwidth_limit_mb"], before["downtime_limit_ms"]) == (1, 300), before
    assert "900 MB/s at most, downtime limit 300 ms" in api.b.command("migrate set guest --limit 900")
    assert "without a rate limit" in api.ctl("migration", "set", "guest", "--limit", "0", "--downtime", "700")[0]
    job = api.json("migration", "watch", move)
    assert job["state"] == "moved" and job["elapsed_us"] < 60e6 * SLOWNESS, job
    options = api.json("migration", "show", move)["options"]
    assert (options["bandwidth_limit_mb"], options["downtime_limit_ms"]) == (0, 700), options
    assert f"move {number} has ended" in api.ctl("migration", "set", move, "--limit", "0", code=1)[1]
    api.ctl("vm", "migrate", "guest", "--to", "b")


def test_console_follows(api):
    """`vm console` over a move there and back: each line once, and no line twice; what is typed goes where the guest
    is."""
    api.home()
    name = os.path.join(api.folder, "console")
    with open(name + ".out", "wb") as out, open(name + ".err", "wb") as err:
        run = subprocess.Popen([api.clients.GODWITCTL, "--config", api.config("operator"), "vm", "console", "guest"],
                               stdin=subprocess.PIPE, stdout=out, stderr=err)

    def said(what="out"):
        with open(f"{name}.{what}", encoding="ascii", errors="replace", newline="") as f:
            return f.read().replace("\r", "")

    def ticks():
        return [int(n) for n in re.findall(r"^tick (\d+) t=", said(), re.M)]

    def wait(until, what):
        deadline = time.monotonic() + 60 * SLOWNESS
        while not until():
            assert time.monotonic() < deadline and run.poll() is None, f"{what}:\n{said('err')}{said()[-800:]}"
            time.sleep(0.1)

    try:
        wait(ticks, "no output")
        for to in "ba":
            api.ctl("vm", "migrate", "guest", "--to", to)
            was, verified = ticks()[-1], said().count("VERIFY ok")
            run.stdin.write(b"verify\r")
            run.stdin.flush()
            wait(lambda: said().count("VERIFY ok") > verified and ticks()[-1] > was + 5, f"no output of {to}")
    finally:
        run.stdin.close()
        run.wait(20)
    assert [re.search(rf"^\[guest is on {to} now\]", said("err"), re.M) is not None for to in "ba"] == [True, True]
    assert "missing" not in said("err"), said("err")
    first = said().rfind("guest ready")                                        # its start, if that is still kept
    numbers = [int(n) for n in re.findall(r"^tick (\d+) t=", said()[max(first, 0):], re.M)]
    assert numbers == list(range(numbers[0], numbers[-1] + 1)), numbers


def babble(port):
    """Connect again and again, and send bytes that are no TLS."""
    for _ in range(40):
        try:
            with socket.create_connection(("127.0.0.1", port), 5) as s:
                s.sendall(os.urandom(100000))
        except OSError:
            pass


def test_hostile_clients(api):
    """Connections that say nothing, say half a request, or flood: their slots come free again, and a move meanwhile
    works."""
    api.home()
    silent = [socket.create_connection(("127.0.0.1", api.a.api_port)) for _ in range(12)]
    api.ctl("vm", "list", "-H", "b")
    flood = threading.Thread(target=babble, args=(api.a.api_port,), daemon=True)
    flood.start()
    time.sleep(3)  # the log tells of the first few, and must not tear what is typed
    free = api.a.free_kib()
    report = api.a.migrate("guest", "b")
    api.at = api.b
    assert report.number("total_ms") < 30000, report.text
    flood.join(30)
    for s in silent:
        s.close()
    deadline = time.monotonic() + 25
    while api.curl("/v1/vms")[1] != 200:
        assert time.monotonic() < deadline, "the management interface did not come back"
        time.sleep(0.5)
    assert api.a.free_kib() > free - 16 * 1024
