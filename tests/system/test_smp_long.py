# SPDX-License-Identifier: BSD-2-Clause
"""Guests of several CPUs over ten moves (test_smp.py)."""
from fixtures import each
from test_smp import stress_moves


# A round of 8 vCPUs on 2 CPUs takes QEMU about 10 s (docs/unfinished.md), so one after each move.
@each({"4_vcpus_on_2_and_1": {"vcpus": 4, "cpus_a": 3, "cpus_b": 2}, "2_vcpus_on_3_and_1": {"vcpus": 2, "cpus_a": 4,
        "cpus_b": 2},
       "8_vcpus_on_2_and_2": {"vcpus": 8, "cpus_a": 3, "cpus_b": 3, "rounds": 1}})
def test_ten_moves_under_stress(case, own):
    stress_moves(own, moves=10, **case)
