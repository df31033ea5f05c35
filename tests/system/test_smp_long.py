# SPDX-License-Identifier: BSD-2-Clause
"""Guests of several CPUs over ten moves (test_smp.py)."""
from fixtures import each
from test_smp import stress_moves


@each({"4_vcpus_on_2_and_1": (4, 3, 2), "2_vcpus_on_3_and_1": (2, 4, 2), "8_vcpus_on_2_and_2": (8, 3, 3)})
def test_ten_moves_under_stress(case, own):
    stress_moves(own, *case, 10)
