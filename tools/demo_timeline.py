# SPDX-License-Identifier: BSD-2-Clause
"""tools/demo_timeline.py - a picture of a move: rounds and blackout over time, as text and as SVG.  Input: Report of
tests/system/host.py."""
from xml.sax.saxutils import escape

WIDTH = 60                              # characters of the text picture
PX, ROW, LEFT, RIGHT = 640, 22, 90, 330  # pixels: time axis, line height, labels left and right of it


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


def svg(moves):
    """moves: [(title, report)] -> the text of an SVG file."""
    longest = max(max(report.number("total_ms") for _, report in moves), 1)
    y, body = 10, []
    for title, report in moves:
        y += ROW
        body.append(f'<text x="10" y="{y}" class="title">{escape(title)}: {report.number("total_ms") / 1000:.2f} s, '
                    f'{report.number("wire_bytes") / 1e6:.1f} MB on the wire</text>')
        for label, start, length, note, kind in bars(report):
            y += ROW
            x, width = LEFT + start / longest * PX, max(length / longest * PX, 2)
            body.append(f'<text x="10" y="{y}">{label}</text><rect x="{x:.1f}" y="{y - 13}" width="{width:.1f}" '
                        f'height="16" class="{kind}"/>'
                        f'<text x="{LEFT + PX + 10}" y="{y}">{escape(note)}</text>')
        y += ROW
    style = "text{font:12px sans-serif} .title{font-weight:bold} .round{fill:#4a90d9} .blackout{fill:#c0392b}"
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + PX + RIGHT}" '
            f'height="{y + 10}"><style>{style}</style>'
            f'<rect width="100%" height="100%" fill="white"/>{"".join(body)}</svg>\n')
