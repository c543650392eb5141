"""A chain that cannot work is refused when it is made, with the way out."""

import math
import re
from collections.abc import Callable

import pytest

from fairyring.aggregation import (
    Auxiliary,
    MessageSpec,
    chain,
    clip,
    complete,
    count_sketch,
    quantize,
    random_k,
    rotate,
    secure_sum,
    top_k,
    weight_by_examples,
    weight_uniformly,
)
from fairyring.core.errors import PlanError

SPEC = MessageSpec(100, 1000, (Auxiliary("examples", math.inf), Auxiliary("accuracy", 1.0)))


@pytest.mark.parametrize(
    "make",
    [
        lambda: weight_by_examples(bound=0),
        lambda: weight_by_examples(bound=math.inf),
        lambda: clip(0.0),
        lambda: clip(-1.0),
        lambda: clip(math.nan),
        lambda: clip("0.5"),
        lambda: clip(True),
        lambda: rotate(block=100),
        lambda: rotate(block=1),
        lambda: rotate(block=1 << 19),
        lambda: rotate(failure=1.0),
        lambda: quantize(bits=1),
        lambda: quantize(bits=17),
        lambda: quantize(bits=8.0),
        lambda: quantize(bound=0.0),
        lambda: random_k(),
        lambda: random_k(5, fraction=0.5),
        lambda: random_k(0),
        lambda: random_k(fraction=1.5),
        lambda: top_k(fraction=0.0),
        lambda: count_sketch(0, 10),
        lambda: count_sketch(3, 10, estimate="mode"),
        lambda: count_sketch(3, 10, failure=-1),
        lambda: secure_sum(modulus_bits=15),
        lambda: secure_sum(modulus_bits=33),
        lambda: chain(clip),
        lambda: chain(weight_uniformly(), weight_by_examples()),
        lambda: chain(weight_uniformly(), chain(weight_by_examples())),
    ],
)
def test_settings_that_make_no_sense(make: Callable[[], object]) -> None:
    with pytest.raises(PlanError) as caught:
        make()
    assert caught.value.do


@pytest.mark.parametrize(
    ("stage", "advice"),
    [
        (quantize(), "clip(norm)"),
        (chain(clip(1.0), weight_by_examples(), quantize()), "only with a bound"),
        (chain(clip(1.0), quantize(), rotate()), "Move rotate() before quantize"),
        (chain(clip(1.0), quantize(), quantize()), "before quantize"),
        (chain(clip(1.0), quantize(), weight_uniformly()), "before quantize"),
        (complete(chain(clip(1.0), secure_sum())), "Add quantize"),
        (complete(chain(clip(1.0), quantize(), secure_sum(), clip(1.0))), "before secure_sum"),
        (complete(chain(clip(1.0), quantize(), secure_sum(), secure_sum())), "Remove one"),
        (chain(clip(1.0), quantize(), secure_sum()), "weight_by_examples(bound=...)"),
        (complete(chain(clip(1.0), top_k(10), quantize(), secure_sum())), "random_k or count_sketch"),
        (random_k(101), "fewer"),
        (top_k(101), "fewer"),
    ],
)
def test_chains_that_cannot_work(stage: object, advice: str) -> None:
    with pytest.raises(PlanError, match=re.escape(advice)):
        stage.bind(SPEC)


def test_an_unbounded_metric_is_named() -> None:
    spec = SPEC.replace(auxiliary=(*SPEC.auxiliary, Auxiliary("loss", math.inf)))
    with pytest.raises(PlanError, match="'loss'"):
        complete(chain(clip(1.0), quantize(), secure_sum())).bind(spec)


def test_a_sum_that_may_overflow_names_three_ways_out_that_work() -> None:
    def bound(bits: int, modulus: int, cohort: int) -> None:
        plan = complete(chain(clip(1.0), quantize(bits=bits), secure_sum(modulus)))
        plan.bind(SPEC.replace(cohort=cohort))

    with pytest.raises(PlanError) as caught:
        bound(10, 16, 1000)  # 511 * 1000 < 2^19
    ways = re.search(
        r"modulus_bits=(\d+) or quantize\(bits=(\d+)\) or a cohort of at most (\d+)", caught.value.do
    )
    modulus, bits, cohort = map(int, ways.groups())
    assert (modulus, bits, cohort) == (20, 6, 64)
    bound(10, modulus, 1000)
    bound(bits, 16, 1000)
    bound(10, 16, cohort)
    for one_less in ((10, modulus - 1, 1000), (bits + 1, 16, 1000), (10, 16, cohort + 1)):
        with pytest.raises(PlanError):
            bound(*one_less)


def test_a_sum_of_levels_beyond_int32_is_refused() -> None:
    quantize(bits=16, bound=1.0).bind(SPEC.replace(cohort=65538))
    with pytest.raises(PlanError, match="at most 65538"):
        quantize(bits=16, bound=1.0).bind(SPEC.replace(cohort=65539))
