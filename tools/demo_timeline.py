# SPDX-License-Identifier: BSD-2-Clause
"""tools/demo_timeline.py - a picture of a move: rounds and blackout over time, as text, and as SVG by godwitctl.
Input: Report of tests/system/host.py."""
import json
import os
import subprocess

from emulator import BUILD

WIDTH = 60                              # characters of the text picture


def bars(report):
    """[(label, start_ms, length_ms, note, kind)]: one for each round, the last is the blackout."""
    out = []
    for r in report.round_list:
        rate = r["bytes"] / 1e6 / max(r["ms"] / 1e3, 1e-3)
        note = f"{r['pages']:.0f} pages, {r['bytes'] / 1e6:.2f} MB, {rate:.1f} MB/s, then {r['dirty_pages']:.0f} dirty"
        out.append((f"round {r['round']}", r["start_ms"], r["ms"], note, "round"))
    blackout, total = report.number("blackout_ms"), report.number("total_ms")
    parts = report.parts()
    note = f"{blackout:.1f} ms, {parts.get('final_pages', 0):.0f} pages, {parts.get('final_bytes', 0) / 1e3:.0f} kB"
    out.append(("blackout", max(total - blackout, 0), blackout, note, "blackout"))
    return out


def text(report):
    total = max(report.number("total_ms"), 1)
    lines = []
    for label, start, length, note, kind in bars(report):
        first = min(int(start / total * WIDTH), WIDTH - 1)
        n = min(max(1, round(length / total * WIDTH)), WIDTH - first)
        lines.append(f"  {label:>9} "
                     f"|{' ' * first}{('#' if kind == 'blackout' else '=') * n}{' ' * (WIDTH - first - n)}| {note}")
    lines.append(f"  {'':>9} 0{' ' * (WIDTH - 1)}{total / 1000:.2f} s    = guest runs, pages are sent   # guest stands "
                 "still")
    return "\n".join(lines)


def job(title, report):
    """The report of a move "a -> b" as the management interface gives it (docs/api.md), as far as the picture needs
    it."""
    def us(key):
        return round(report.number(key) * 1000) if key in report else 0

    parts, host, (_, guest, _, to) = report.parts(), title.split(" -> ")[0], report["job"].split()
    rounds = [{"start_us": round(r["start_ms"] * 1000), "us": round(r["ms"] * 1000), "bytes": int(r["bytes"]),
               "pages": int(r["pages"]), "dirty_pages": int(r["dirty_pages"]), "dirty_pages_per_s": int(r["dirty"]),
               "stood_us": round(r["stood_ms"] * 1000), "throttle_percent": int(r["throttle"])}
              for r in report.round_list]
    blackout = {f"{k}_us": int(parts[k]) for k in ("stop", "pages", "verify", "state", "prepare", "commit")}
    return {"vm": guest, "host": host, "to": to, "state": "moved", "elapsed_us": us("total_ms"),
            "connect_us": us("connect_ms"), "blackout_us": us("blackout_ms"), "rounds": rounds,
            "wire_bytes": int(report.number("wire_bytes")),
            "blackout": {**blackout, "start_us": us("blackout_start_ms"), "final_bytes": int(parts["final_bytes"])}}


def draw(moves, folder):
    """Draw each of the moves, [(title, report)], as godwitctl does; returns the paths of the pictures."""
    paths = []
    for number, (title, report) in enumerate(moves, 1):
        paths.append(os.path.join(folder, f"move-{number}.svg"))
        subprocess.run([os.path.join(BUILD, "tools", "godwitctl"), "migration", "show", "-", "--svg", paths[-1]],
                       input=json.dumps(job(title, report)), text=True, stdout=subprocess.DEVNULL, check=True)
    return paths
