# SPDX-License-Identifier: BSD-2-Clause
"""Intel in Bochs, the checks that are too long for `make test`: moves between equal processors by each one's features,
hosts with different TSC rates, and AMD-V as Bochs emulates it (with next-RIP), besides QEMU's."""
import re

from bochs import HASWELL, SANDY_BRIDGE, RYZEN, SKYLAKE
from fixtures import each, need_bochs
from test_outside import tcp_and_pings_survive
from tiny_guest import masked_features, move, ticks

MODELS = {"pml": SKYLAKE, "ad": HASWELL, "wp": SANDY_BRIDGE}


@each({by: by for by in MODELS})
def test_equal_processors(by, own):
    """`dirty-log` is auto: the best that the processor has."""
    a, b = own.pair_in_bochs(MODELS[by], host_keys={"verify": "yes"})
    move(a, b, by)
    move(b, a, by)


def test_amd_in_bochs(own):
    a, b = own.pair_in_bochs(RYZEN, host_keys={"verify": "yes"})
    assert re.search(r"AMD-V, NPT, ASIDs \d+, next-RIP yes", a.log()), a.log()[-1500:]
    move(a, b, "ad")
    move(b, a, "ad")


def other_tsc_rate(own, model, says, khz_there):
    """A host of 40 MHz and one of 30: the rate of the guest's TSC by its own PM timer, and what the report says of
    it."""
    a, b = own.pair_in_bochs(model, host_keys={"verify": "yes"}, b_ips=30000000)
    assert abs(ticks(a)["khz"] - 40000) < 400
    report = move(a, b)
    assert re.search(r"^tsc: " + says, report.text, re.M), f"the report does not say {says}:\n{report.text}"
    assert abs(ticks(b)["khz"] - khz_there) < khz_there / 100
    back = move(b, a)
    assert "tsc:" not in back.text, f"home, the TSC is as promised:\n{back.text}"
    assert abs(ticks(a)["khz"] - 40000) < 400


def test_tsc_is_scaled(own):
    other_tsc_rate(own, SKYLAKE, r"the guest keeps its (39|40)\d+ kHz, scaled from the destination's (29|30)\d+ kHz",
                   40000)


def test_tsc_without_scaling(own):
    other_tsc_rate(own, HASWELL, r"the guest was promised (39|40)\d+ kHz, the destination runs at (29|30)\d+ kHz and "
                                 r"cannot scale", 30000)


def test_masked_features_fault_on_amd(own):
    masked_features(own, RYZEN, {"rdrand": 0, "rdseed": 0})             # AMD-V has no intercept of them


def test_tcp_and_pings_survive():
    need_bochs()
    tcp_and_pings_survive("intel", 900)


def test_mechanism_by_configuration(own):
    """A processor that has PML does without."""
    a, b = own.pair_in_bochs(SKYLAKE, host_keys={"dirty-log": "ad", "verify": "yes"},
                             b_keys={"dirty-log": "wp", "verify": "yes"})
    move(a, b, "ad")
    move(b, a, "wp")
