# SPDX-License-Identifier: BSD-2-Clause
"""The picture of a move, as `godwitctl migration show - --svg FILE` draws it from the JSON of a move.  No emulator."""
import json
import os
import re
import subprocess
import tempfile
import xml.etree.ElementTree as ET
from decimal import ROUND_HALF_UP, Decimal

from fixtures import Clients

SVG = "{http://www.w3.org/2000/svg}"
PARTS = ("stop_us", "pages_us", "verify_us", "state_us", "prepare_us", "commit_us")
BLACKOUT = (200, 3100, 0, 400, 8000, 4170)
# Widths in a wide font (DejaVu Sans), in hundredths of its size; other characters 100.
WIDTHS = {c: w for w, text in ((30, "ilj'I"), (33, " ,."), (36, "J|/\\:;f"), (46, '()!"[]tr-'), (55, "cszkL?*_F"),
                               (62, "vxyeaoTPYK"), (65, "0123456789bdghnpquES"), (71, "ABCXZVR"),
                               (84, "DNHOQUG&w%<>=+~")) for c in text}


def move(rounds=4, first_ms=1900.0, ratio=.25, speed=31, dirty=1000, connect=353_140, check=121_000, blackout=BLACKOUT,
         **more):
    """The JSON of a move whose rounds get shorter by ratio."""
    at, us, kept = connect + check, first_ms * 1000, []
    for i in range(rounds):
        n = max(int(us), 300)
        kept.append({"start_us": at, "us": n, "bytes": n * speed * (4 - i % 2) // 4, "pages": 1000 + i,
                     "dirty_pages": dirty * n // 10**6, "dirty_pages_per_s": dirty * (5 - i % 3) // 5, "stood_us": 0,
                     "throttle_percent": 0})
        at, us = at + n, us * ratio
    parts = dict(zip(PARTS, blackout or (0,) * 6), start_us=at + 900 if blackout else 0, final_bytes=22000)
    end = at + (960 + sum(blackout) if blackout else 0)
    return {"id": 7, "vm": "web", "host": "a", "to": "b", "state": "moved", "phase": "RELEASED", "percent": 100,
            "round": rounds, "connect_us": connect, "waited_us": 20, "elapsed_us": end, "rounds": kept,
            "wire_bytes": sum(r["bytes"] for r in kept) + 222_222, "blackout": parts,
            "blackout_us": sum(blackout or ()), **more}


def failed(message, code="HV_E_TIMEOUT", **more):
    return move(blackout=None, state="failed", error={"code": code, "message": message}, **more)


def undone():
    """A stop before round 4 was undone."""
    j = move(rounds=5)
    for r in j["rounds"][3:]:
        r["start_us"] += 110_000
    j["rounds"][3].update(stood_us=88_000, throttle_percent=30)
    j["blackout"]["start_us"] += 110_000
    return {**j, "elapsed_us": j["elapsed_us"] + 110_000}


def older():
    """As release 0.1 says it."""
    j = move()
    j.pop("connect_us")
    j["blackout"].pop("start_us")
    return j


MOVES = {
    "usual": move(), "one round": move(rounds=1), "30 rounds": move(rounds=30, ratio=.8, waited_us=3_200_000),
    "cut off": failed("did not converge in 4 rounds: " + "the guest dirties more than the link takes, " * 20, round=5,
                      elapsed_us=4_200_000, stream_bytes={"total": 90_000_000}),
    "cancelled": failed("cancelled by the operator", "HV_E_CANCEL", rounds=0, round=1, elapsed_us=900_000),
    "refused": failed("b refuses", rounds=0, connect=0, elapsed_us=12_000),
    "after the stop": {**failed("b <\"&'> \a gone", elapsed_us=3_500_000),
                       "blackout": {"stop_us": 200, "start_us": 3_400_000}},
    "no blackout": move(blackout=None), "nothing": {"vm": "web"},
    "long names": move(vm="W" * 31, host="M" * 31, to="W" * 31), "hostile names": move(vm="<a&b>'\"\n", to="]]>\x7f"),
    "8 hours": move(rounds=48, first_ms=9e5, ratio=.98, speed=110, dirty=25_000, round=61),
    "100 ms": move(rounds=2, first_ms=40, connect=12_000, check=6000),
    "paused": move(0, blackout=(4000, 2_500_000) * 3),
    "verified": move(blackout=(200, 3100, 410_000, 400, 380_000, 4200)), "undone": undone(), "older": older(),
    "fast": move(3, 900, speed=11_000, dirty=21_000_000, blackout=(30, 200, 0, 90, 300, 110)),
    "slow": move(3, 9000, speed=1, dirty=20), "under way": move(blackout=None, state="moving", round=5,
                                                                elapsed_us=3_000_000),
    "failed at the stop": {**failed("b is gone", elapsed_us=3_400_000), "blackout": {"start_us": 3_400_000}},
    "in doubt": {**move(state="in-doubt", elapsed_us=9_000_000), "blackout_us": 0},
}


def shown(j, *options):
    run = subprocess.run([Clients.GODWITCTL, "migration", "show", "-", *options], input=json.dumps(j), text=True,
                         capture_output=True, check=True)
    return run.stdout


def drawn(j):
    """The picture of a move, parsed."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "move.svg")
        shown(j, "--svg", path)
        return ET.parse(path).getroot()


def text_box(t):
    size, x, y = (float(t.get(k)) for k in ("font-size", "x", "y"))
    width = sum(WIDTHS.get(c, 100) for c in t.text or "") * size / 100
    left = x - {"start": 0, "middle": width / 2, "end": width}[t.get("text-anchor")]
    return left, y - .72 * size, left + width, y + .2 * size


def shapes(root):
    """The corners of all rectangles and paths with absolute coordinates."""
    for r in root.iter(SVG + "rect"):
        x, y, w, h = (float(r.get(k, 0)) for k in ("x", "y", "width", "height"))
        yield from ((x, y), (x + w, y + h))
    for p in root.iter(SVG + "path"):
        x = y = 0
        for kind, numbers in re.findall(r"([MLHV])([-0-9. ]*)", re.sub("[mhvlz].*", "", p.get("d"))):
            n = [float(v) for v in numbers.split()]
            x, y = (n[0], y) if kind == "H" else (x, n[0]) if kind == "V" else n
            yield x, y


def test_nothing_is_cut_off():
    """Every picture is XML, and no text or shape leaves it; no text covers another one."""
    for name, j in MOVES.items():
        root = drawn(j)
        _, _, w, h = (float(v) for v in root.get("viewBox").split())
        assert root.get("width") == f"{w / 96:.2f}in" and w <= 3.5 * 96, (name, root.attrib)
        texts = [(text_box(t), t.text) for t in root.iter(SVG + "text")]
        for (x0, y0, x1, y1), text in texts:
            assert x0 >= -.01 * w and x1 <= 1.01 * w and y0 >= 0 and y1 <= h, (name, text, x0, y0, x1, y1, w, h)
        for i, ((ax0, ay0, ax1, ay1), a) in enumerate(texts):
            for (bx0, by0, bx1, by1), b in texts[:i]:
                assert min(ax1, bx1) - max(ax0, bx0) < 1 or min(ay1, by1) - max(ay0, by0) < 1, (name, a, b)
        for x, y in shapes(root):
            assert 0 <= x <= w + .01 and 0 <= y <= h + .01, (name, x, y)
    assert "W" * 31 in [t.text for t in drawn(MOVES["long names"]).iter(SVG + "text")]
    hostile = "".join(drawn(MOVES["hostile names"]).itertext())
    assert "<a&b>'\"" in hostile and "]]>" in hostile, hostile


def rounded(n, unit, digits):
    return str((Decimal(n) / unit).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP))


def test_figures():
    """The same figures, rounded in one way, in the JSON, in the text and in the picture."""
    for name, j in MOVES.items():
        text, root = shown(j), drawn(j)
        pictured = " ".join(t.text or "" for t in root.iter(SVG + "text"))
        rounds, kept = max(j.get("round", 0), len(j.get("rounds", ()))), j.get("rounds", ())
        summary = (f"{rounded(j.get('elapsed_us', 0), 10**6, 3)} s, "
                   f"blackout {rounded(j.get('blackout_us', 0), 1000, 1)} ms, "
                   f"{rounded(j.get('wire_bytes', 0), 10**6, 2)} MB on the wire, {rounds} round{'s' * (rounds != 1)}")
        assert summary in pictured, (name, summary, pictured)
        assert summary in text or j.get("state") != "moved", (name, summary, text)
        titles = {t.text for t in root.iter(SVG + "title")}
        for i, r in enumerate(kept):
            number = i + 1 if i + 1 < len(kept) or j["state"] == "failed" else j["round"] or i + 1
            ms, speed = rounded(r["us"], 1000, 1), rounded(r["bytes"], r["us"], 1)
            title = (f"round {number}: {r['pages']} pages, {rounded(r['bytes'], 10**6, 2)} MB in {ms} ms ({speed} "
                     f"MB/s), then {r['dirty_pages']} dirty, {r['dirty_pages_per_s']} pages/s")
            assert title in titles or j["state"] == "moving", (name, number, titles)
            row = [str(i + 1), rounded(r["start_us"], 1000, 1), ms, str(r["bytes"]), speed]
            assert any(line.split()[:5] == row for line in text.splitlines()), (name, row, text)
        for part in PARTS:
            us = j.get("blackout", {}).get(part)
            assert not us or f" {rounded(us, 1000, 1)} ms" in pictured, (name, part, pictured)
    assert "88.0 ms" in "".join(drawn(MOVES["undone"]).itertext())


def scale(root, css, axis, panel):
    """How a panel maps values to pixels: (pixel, value) of the first and the last tick of an axis."""
    ticks = [t for t in root.iter(SVG + "text") if t.get("class") == css and re.fullmatch(r"-?[0-9.]+", t.text)]
    ticks = ticks[:5] if panel == 0 else ticks[5:]
    return [(float(t.get(axis)) - (3 if axis == "y" else 0), float(t.text)) for t in (ticks[0], ticks[-1])]


def test_steps_are_to_scale():
    """The steps of what was sent have the height that the axis gives them, and begin and end where their rounds do."""
    j = MOVES["usual"]
    root = drawn(j)
    (y0, v0), (y1, v1) = scale(root, "sl", "y", 0)
    assert v0 == 0 and v1 == 40, (v0, v1)
    steps = [p.get("d") for p in root.iter(SVG + "path") if p.get("class") == "sent"][1]    # after the legend's
    found = re.findall(r"H([0-9.]+)V([0-9.]+)H([0-9.]+)V", steps)
    assert len(found) == len(j["rounds"])
    ticks = {float(t.text): float(t.get("x")) for t in root.iter(SVG + "text")
             if t.get("text-anchor") == "middle" and t.get("class") == "t" and re.fullmatch("[0-9.]+", t.text)
             and float(t.get("y")) < 190 and float(t.get("font-size")) == 9}
    first, last = min(ticks), max(ticks)
    per_second = (ticks[last] - ticks[first]) / (last - first)
    for (x, y, x2, ), r in zip([tuple(map(float, f)) for f in found], j["rounds"]):
        assert abs((float(y) - y0) / (y1 - y0) * v1 - r["bytes"] / r["us"]) < .1, (y, r)
        assert abs(x - ticks[first] - r["start_us"] / 1e6 * per_second) < .3, (x, r)
        assert abs((x2 - x) - r["us"] / 1e6 * per_second) < .3, (x, x2, r)


def test_light_and_dark():
    """Dark on a dark screen only: paper stays white."""
    style = drawn(MOVES["usual"]).find(SVG + "style").text
    assert style.count("prefers-color-scheme") == style.count("@media screen and (prefers-color-scheme:dark)") == 1
    light, dark = style.split("@media screen and")
    assert ".bg{fill:#fff}" in light and ".bg{fill:#fff}" not in dark and "font-family:sans-serif" in light


def test_not_a_move():
    """What is no JSON of a move is refused with its place; absurd figures are drawn, and it ends."""
    absurd = {"blackout_us": 1000, "blackout": {"start_us": 1 << 62}, "elapsed_us": -1, "rounds": [1, "x"]}
    assert len(drawn({**move(), **absurd}))
    for text, why in (("", "line|near|EOF|end"), ("[]", "not what"), ('{"vm": ""}', "not what")):
        run = subprocess.run([Clients.GODWITCTL, "migration", "show", "-"], input=text, text=True, capture_output=True,
                             check=False)
        assert run.returncode == 2 and re.search(why, run.stderr) and not run.stdout, (text, run)
