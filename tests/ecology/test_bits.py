"""Worlds make the steps they always made: what a change of the code must not change without saying so.

Fingerprints are of float32 states. They hold on x86-64 with fused multiply-add (AVX2 and AVX-512 alike), and others without
it; on other processors only the counts are compared, which rounding does not change in so few steps.
"""

import hashlib
import platform

import pytest

from fairyring.ecology.history import evolve, fingerprint
from tests.ecology import worlds

pytestmark = pytest.mark.optimised

KNOWN = {  # counts of 64 steps; fingerprints with and without fused multiply-add
    "FIRST": ("0ab1af6ab3b93819", "2bc5484b08e87d15", "23a04cfa235d8a82"),
    "HOPPING_BLIND": ("c488492fc75c89d5", "e90018e05c9cb2dc", "977f13c5d086516c"),
    "SECOND": ("0a691cf83547621e", "8cdd0e3630c9100a", "7257a5a71c845139"),
    "REWARDS_SCRAMBLED": ("6964e1f09558cfb5", "5dfbdbc16ea6c064", "e00135630f9ecc53"),
    "EVOLVED_BLIND": ("be99fe2872d7f418", "5e5f9cdf3abcb96b", "97f5d8e484473bd9"),
    "LAMARCK_HOPPING": ("b5ba9eeac617786f", "ec48e04dc6d2df0c", "07093613354086f0"),
}


@pytest.mark.parametrize("name", KNOWN)
def test_a_seeded_world_has_the_bits_it_always_had(name: str) -> None:
    counts, *fingerprints = KNOWN[name]
    run = evolve(getattr(worlds, name), 1, 64, seed=5)
    assert hashlib.sha256(run.worlds[0].numbers.tobytes()).hexdigest()[:16] == counts
    if platform.machine() in ("x86_64", "AMD64"):
        assert fingerprint(run)[:16] in fingerprints
