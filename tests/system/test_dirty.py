# SPDX-License-Identifier: BSD-2-Clause
"""Every method of dirty logging, of both vendors: the same checks for each, and the cost of each.

The guest (tests/guest/walker.c) changes some 2000 pages a second and verifies every word of its memory for ever, so a
missed change shows after the move.  In addition, `verify` has both hosts hash all memory at the stop."""
from dataclasses import dataclass

from fixtures import Skip, each
from tiny_guest import BY, log_costs, move

# Exits for a changed page, at least and at most: a page that is found again before it was sent is counted once, but
# cost another exit.
EXITS = {"ad": (0, 0), "wp": (0.95, 1.5), "pml": (0, 0.02)}


@dataclass
class Way:
    vendor: str
    by: str                     # as in `dirty-log`
    on: str                     # the processor
    src: str                    # the host of the bed (fixtures.Bed) that does it so, and the next one
    dst: str

    def __str__(self):
        return f"{self.vendor}_{self.by}"


WAYS = [Way("amd", "ad", "EPYC", "a", "b"), Way("amd", "wp", "EPYC", "b", "a"),
        Way("intel", "pml", "Skylake-X", "a", "b"),
        Way("intel", "wp", "Sandy Bridge", "b", "c"), Way("intel", "ad", "Haswell", "c", "a")]
costs = {}                      # Way's name -> what log_costs() saw


@each({str(way): way for way in WAYS})
def test_finds_every_change(way, bed):
    hosts = bed(way.vendor)
    hosts.bring(way.src)
    report = hosts.move(way.dst, way.by)
    assert report.parts()["verify"] > 0, f"nothing was verified:\n{report.text}"
    seen = costs[str(way)] = log_costs(hosts[way.src])
    least, most = EXITS[way.by]
    assert least <= seen["exits"] / seen["pages"] <= most, (
        f"{seen}: {BY[way.by]} takes {least} to {most} exits for a page")


def test_what_each_costs(bed):
    """The table.  Takes `bed` only to come after the others."""
    missing = [str(way) for way in WAYS if str(way) not in costs]
    if missing:
        raise Skip(f"no figures of {', '.join(missing)}: they did not run, or failed")
    print(f"        {'for 1000 changed pages':42}  exits  us in them  us of harvesting    (pages, harvests)")
    for way in WAYS:
        c = costs[str(way)]
        exits, exit_us, harvest_us = (1000 * c[key] / c["pages"] for key in ("exits", "fault_us", "harvest_us"))
        print(f"        {way.vendor:5}  {way.on:10}  {c['by']:25}{exits:7.1f}  {exit_us:10.0f}  {harvest_us:16.0f}    "
              f"({c['pages']}, {c['harvests']})")
