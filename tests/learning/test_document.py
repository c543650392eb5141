"""The plan as a document, and the digest of a plan: every number, and all code, is in the one or the other."""

import dataclasses
import inspect
import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fairyring as fr
from fairyring.aggregation.contract import BoundStage, Stage
from fairyring.core.errors import PlanError
from fairyring.learning import document as documents
from fairyring.learning.algorithm import Algorithm
from fairyring.learning.describe import read_optimizer
from fairyring.learning.document import ALGORITHMS, COHORTS, STAGES, canonical
from fairyring.learning.document_reader import Described, Document, read

COLUMNS = {"x": ((5,), np.float32), "y": ((), np.int32)}


def init(key: jax.Array) -> Any:
    return {"b": jnp.zeros((3,)), "w": 0.3 * jax.random.normal(key, (5, 3))}


def apply(params: Any, x: jax.Array) -> jax.Array:
    return x @ params["w"] + params["b"]


def plan(
    task: Any = None, *, optimizer: Any = None, local: dict[str, Any] | None = None, **parts: Any
) -> fr.Plan:
    trained = fr.LocalTraining(optimizer or optax.sgd(0.1), **(local or {}))
    return fr.Plan(task or fr.classification((init, apply)), **({"local": trained, "cohort": 6} | parts))


def written(given: fr.Plan) -> bytes:
    return canonical(given.document())


PRIVATE: dict[str, Any] = {"privacy": fr.Budget(math.inf, 1e-5)}
CLIPPED = fr.clip(0.75)
# Each stage as a plan has it, and its part of the document.
STAGED: dict[str, tuple[list[Any], dict[str, Any], dict[str, Any]]] = {
    "weight_by_examples": ([fr.weight_by_examples(30)], {}, {"bound": 30.0}),
    "weight_uniformly": ([fr.weight_uniformly()], {}, {}),
    "clip": ([CLIPPED], {}, {"norm": 0.75}),
    "rotate": ([CLIPPED, fr.rotate(16, failure=1e-7)], {}, {"block": 16, "failure": 1e-7}),
    "quantize": ([fr.quantize(6, bound=0.1)], {}, {"bits": 6, "bound": 0.1}),
    "top_k": ([fr.top_k(3)], {}, {"k": 3, "fraction": None}),
    "random_k": ([fr.random_k(fraction=0.5)], {}, {"k": None, "fraction": 0.5}),
    "count_sketch": (
        [fr.count_sketch(3, 4, estimate="median", failure=0)],
        {},
        {"rows": 3, "columns": 4, "estimate": "median", "failure": 0.0},
    ),
    "gaussian_noise": (
        [CLIPPED, fr.gaussian_noise(1.1, auxiliary_share=0.1)],
        PRIVATE,
        {"multiplier": 1.1, "auxiliary_share": 0.1},
    ),
    "correlated_noise": (
        [CLIPPED, fr.correlated_noise(bands=3)],
        {"privacy": fr.Budget(8, 1e-5, rounds=20), "cohort": fr.cohort.in_turn(6, separation=4)},
        {"multiplier": None, "bands": 3, "auxiliary_share": 0.05},
    ),
    "distributed_noise": (
        [CLIPPED, fr.distributed_noise("skellam", 1.5, shares=2), fr.secure_sum(24)],
        PRIVATE,
        {"mechanism": "skellam", "multiplier": 1.5, "shares": 2, "shortfall": "abort", "auxiliary_share": 0.05},
    ),
    "secure_sum": (
        [CLIPPED, fr.quantize(8), fr.secure_sum(24, adversarial_rate=0, dropout_rate=0.25)],
        {},
        {
            "modulus_bits": 24,
            "threat": "semi_honest",
            "adversarial_rate": 0.0,
            "dropout_rate": 0.25,
            "minimum_cohort": None,
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", STAGED)
def test_every_public_stage_is_there_by_name_and_value(name: str) -> None:
    stages, parts, expected = STAGED[name]
    told = plan(aggregation=fr.chain(*stages), **parts).document()["aggregation"]
    assert len(told) == len(stages)
    assert {name: expected} in told
    # Its settings are all the arguments of the function that makes it, which makes the same of them again.
    assert set(expected) == set(inspect.signature(STAGES[name]).parameters)
    again = fr.chain(*(STAGES[kind](**values) for one in told for kind, values in one.items()))
    assert plan(aggregation=again, **parts).document()["aggregation"] == told


def test_no_public_stage_algorithm_or_rule_is_left_out() -> None:
    assert set(STAGED) == set(STAGES)
    public = {name for name in fr.__all__ if _makes(name, Stage) and name != "chain"}
    assert public <= set(STAGES) | {"complete"}
    assert set(ALGORITHMED) == set(ALGORITHMS)
    assert {name for name in fr.__all__ if _makes(name, Algorithm)} <= set(ALGORITHMS)
    assert set(RULED) == set(COHORTS)


def _makes(name: str, kind: type) -> bool:
    value = getattr(fr, name)
    if not inspect.isfunction(value):
        return False
    return inspect.signature(value).return_annotation in (kind, kind.__name__)


ALGORITHMED: dict[str, tuple[Any, dict[str, Any]]] = {
    "averaging": (fr.Plan.__dataclass_fields__["algorithm"].default_factory(), {}),  # pyright: ignore[reportCallIssue]
    "fedprox": (fr.fedprox(1), {"mu": 1.0}),
    "scaffold": (fr.scaffold(), {}),
    "fednova": (fr.fednova(momentum=0.5), {"momentum": 0.5, "maximum_steps": "inf"}),
    "adaptive_clip": (
        fr.adaptive_clip(0.1, rate=0.3, algorithm=fr.fedprox(0.2)),
        {"initial": 0.1, "quantile": 0.5, "rate": 0.3, "algorithm": {"fedprox": {"mu": 0.2}}},
    ),
}


@pytest.mark.parametrize("name", ALGORITHMED)
def test_every_algorithm_is_there_by_name_and_value(name: str) -> None:
    algorithm, expected = ALGORITHMED[name]
    found = plan(algorithm=algorithm, aggregation=fr.chain(fr.clip(1.0)))
    assert found.document()["algorithm"] == {name: expected}
    assert set(expected) == set(inspect.signature(ALGORITHMS[name]).parameters)
    read(found.document(), Document)


RULED: dict[str, tuple[Any, dict[str, Any]]] = {
    "uniform": (7, {"size": 7}),
    "poisson": (fr.cohort.poisson(0.1, maximum=20), {"rate": 0.1, "maximum": 20}),
    "weighted": (fr.cohort.weighted(5, by="age"), {"size": 5, "by": "age"}),
    "available": (
        fr.cohort.available(4, by="hours", minutes=10),
        {"size": 4, "by": "hours", "minutes": 10.0},
    ),
    "in_turn": (fr.cohort.in_turn(4, separation=3), {"size": 4, "separation": 3}),
    "fixed": (fr.cohort.fixed([[0, 2], [1]]), {"rounds": [[0, 2], [1]]}),
}


@pytest.mark.parametrize("name", RULED)
def test_every_cohort_rule_is_there_by_name_and_value(name: str) -> None:
    rule, expected = RULED[name]
    assert plan(cohort=rule).document()["cohort"] == {name: expected}


OPTIMIZED: dict[str, tuple[Any, dict[str, Any]]] = {
    "sgd": (optax.sgd(0.1), {"sgd": {"learning_rate": 0.1}}),
    "momentum": (
        optax.sgd(0.1, momentum=0.0, nesterov=True),
        {"sgd": {"learning_rate": 0.1, "momentum": 0.0, "nesterov": True, "accumulator_dtype": None}},
    ),
    "adagrad": (
        optax.adagrad(0.1, initial_accumulator_value=0.3),
        {"adagrad": {"learning_rate": 0.1, "initial_accumulator_value": 0.3, "eps": 1e-7}},
    ),
    "schedule": (
        optax.sgd(optax.constant_schedule(0.1)),
        {"sgd": {"learning_rate": {"constant_schedule": {"value": 0.1}}}},
    ),
    "chain": (
        optax.chain(optax.clip_by_global_norm(2.0), optax.trace(0.9), optax.scale(0.5)),
        {
            "chain": {
                "transforms": [
                    {"clip_by_global_norm": {"max_norm": 2.0}},
                    {"trace": {"accumulator_dtype": None, "decay": 0.9, "nesterov": False}},
                    {"scale": {"step_size": 0.5}},
                ]
            }
        },
    ),
    "identity": (optax.identity(), {"identity": {}}),
}  # fmt: skip


@pytest.mark.parametrize("name", OPTIMIZED)
def test_optimisers_are_there_by_name_and_value(name: str) -> None:
    optimizer, expected = OPTIMIZED[name]
    found = plan(optimizer=optimizer, server=optimizer)
    assert found.document()["local"]["optimizer"] == found.document()["server"] == expected
    read(found.document(), Document)


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "yogi", "adagrad", "rmsprop"])
def test_the_usual_optimisers_are_named_as_optax_names_them(name: str) -> None:
    maker = getattr(optax, name)
    (told,) = plan(server=maker(0.25)).document()["server"].items()
    assert told[0] == name
    assert told[1].items() >= {"learning_rate": 0.25}.items()
    assert set(told[1]) <= set(inspect.signature(maker).parameters)
    for setting, value in told[1].items():
        if isinstance(value, float) and setting != "learning_rate":  # none of its numbers is overlooked
            other = plan(server=maker(0.25, **{setting: value + 0.125})).document()["server"]
            assert other == {name: told[1] | {setting: value + 0.125}}


def test_what_cannot_be_named_is_custom_by_its_program() -> None:
    def decaying(factor: float) -> Any:
        return optax.sgd(lambda count: 0.1 * factor**count)

    def own(power: float) -> Any:
        return optax.GradientTransformation(
            lambda params: (),
            lambda updates, state, params=None: (
                jax.tree.map(lambda x: -(jnp.abs(x) ** power), updates),
                state,
            ),
        )

    swapped = optax.GradientTransformation(optax.adam(0.1).init, optax.sgd(0.1).update)
    for optimizers in (
        [decaying(0.5), decaying(0.75), decaying(0.5)],
        [own(2.0), own(3.0), own(2.0)],
        [lambda r: optax.sgd(0.1 / r), lambda r: optax.sgd(0.2 / r), lambda r: optax.sgd(0.1 / r)],
    ):
        first, other, again = (plan(optimizer=one).document()["local"]["optimizer"] for one in optimizers)
        assert set(first) == {"custom"}
        assert first == again
        assert first != other
        read(plan(optimizer=optimizers[0]).document(), Document)
    again = optax.GradientTransformation(
        optax.sgd(0.1, momentum=0.5).init, optax.sgd(0.1, nesterov=True).update
    )
    uneven = optax.GradientTransformation(optax.lamb(0.1).init, optax.sgd(0.1).update)
    for one in (swapped, again):
        assert set(plan(server=one).document()["server"]) == {"custom"}
    assert not read_optimizer(uneven).complete
    assert plan(optimizer=lambda r: optax.sgd(0.1 * r)).document()["local"]["optimizer"]["custom"]["by_round"]


def flipping(name: str, factor: float, **facts: Any) -> Stage:
    """A stage of one's own."""

    def bind(spec: Any) -> BoundStage:
        def encode(message: Any, client_key: Any, round_key: Any) -> Any:
            return message._replace(vector=message.vector * factor)

        return BoundStage(spec, encode, lambda total, round_key: total._replace(vector=total.vector / factor))

    return Stage(name, bind, **facts)


def test_a_stage_of_ones_own_is_custom_whatever_it_is_called() -> None:
    honest = plan(aggregation=fr.chain(CLIPPED)).document()["aggregation"]
    for stage in (
        flipping("clip(0.75)", 2.0, settings=(("norm", 0.75),), kind="clip"),
        dataclasses.replace(fr.clip(3.0), name="clip(0.75)", settings=(("norm", 0.75),)),
        dataclasses.replace(fr.clip(0.75), bounds_influence=False),
    ):
        (told,) = plan(aggregation=fr.chain(stage)).document()["aggregation"]
        assert set(told) == {"custom"}
        assert told["custom"]["name"] == "clip(0.75)"
    assert honest == [{"clip": {"norm": 0.75}}]
    first, other = (plan(aggregation=flipping("own", factor)).document() for factor in (2.0, 3.0))
    assert first != other
    read(first, Document)


def test_an_algorithm_of_ones_own_is_custom_whatever_it_is_called() -> None:
    def halved(combined: Any, server_state: Any, facts: Any) -> Any:
        return jax.tree.map(lambda leaf: leaf / 2, combined.update), server_state

    mixed = fr.fedprox(0.1)._replace(server=halved)
    lying = fr.fedprox(0.2)._replace(settings=(("mu", 0.1),))
    found = [plan(algorithm=one) for one in (fr.fedprox(0.1), mixed, lying)]
    told = [one.document()["algorithm"] for one in found]
    assert [set(one) for one in told] == [{"fedprox"}, {"custom"}, {"custom"}]
    assert told[1] != told[2]
    assert len({one.digest() for one in found}) == 3


def test_what_is_decided_of_a_stage_is_a_fact_and_not_its_name() -> None:
    eclipse = flipping("eclipse(1.0)", 2.0, settings=(("norm", 1.0),))
    assert not eclipse.bounds_influence
    assert not fr.chain(fr.weight_uniformly(), eclipse).bounds_influence
    assert fr.chain(fr.weight_uniformly(), fr.clip(3.0)).bounds_influence
    with pytest.raises(PlanError, match=r"clip\(1\.0\) among them"):
        plan(algorithm=fr.adaptive_clip(0.5), aggregation=fr.chain(eclipse))
    shortening = flipping("shorten", 2.0, clips_to=1.0, bounds_influence=True)
    assert plan(algorithm=fr.adaptive_clip(0.5), aggregation=shortening).algorithm.in_clips
    assert fr.chain(flipping("chain()", 2.0), fr.chain()).singles[0].name == "chain()"


# -- the form ------------------------------------------------------------------------------------------------


def test_the_document_as_a_whole() -> None:
    found = plan(
        fr.classification((init, apply), loss_bound=math.inf),
        local={"epochs": 2, "batch_size": 4},
        aggregation=fr.chain(fr.weight_by_examples(), fr.clip(1)),
    )
    assert found.document() == {
        "fairyring": 3,
        "task": {
            "name": "classification",
            "inputs": "x",
            "columns": ["x", "y"],
            "optional": ["weight"],
            "loss_bound": "inf",
            "metrics": [{"name": "accuracy", "bound": 1.0}],
            "parameters": [
                {"name": "['b']", "shape": [3], "dtype": "float32"},
                {"name": "['w']", "shape": [5, 3], "dtype": "float32"},
            ],
        },
        "local": {
            "optimizer": {"sgd": {"learning_rate": 0.1}},
            "epochs": 2,
            "steps": None,
            "batch_size": 4,
            "shuffle": True,
            "examples": None,
            "rate": None,
        },
        "cohort": {"uniform": {"size": 6}},
        "aggregation": [{"weight_by_examples": {"bound": None}}, {"clip": {"norm": 1.0}}],
        "combine": {"sum": {}},
        "server": {"sgd": {"learning_rate": 1.0}},
        "algorithm": {"averaging": {}},
        "privacy": None,
    }


floats = st.floats(2.0**-20, 2.0**20)
optimizers = st.one_of(
    st.builds(optax.sgd, floats),
    st.builds(optax.sgd, floats, momentum=st.floats(0, 1), nesterov=st.booleans()),
    st.builds(optax.adam, floats, b1=st.floats(0, 0.5), eps=floats),
)
chains = st.builds(
    fr.chain,
    st.one_of(st.just(fr.weight_uniformly()), st.builds(fr.weight_by_examples, floats)),
    st.builds(fr.clip, floats),
    st.builds(fr.rotate, st.sampled_from([None, 8, 16]), failure=st.floats(0, 0.5)),
    st.builds(fr.quantize, st.integers(2, 16)),
)
cohorts = st.one_of(
    st.integers(1, 100),
    st.builds(fr.cohort.poisson, st.floats(0.001, 1), maximum=st.integers(1, 50)),
    st.builds(fr.cohort.in_turn, st.integers(1, 50), separation=st.integers(1, 9)),
    st.builds(lambda size: fr.cohort.fixed([range(size), [size]]), st.integers(1, 9)),
)
algorithms = st.one_of(
    st.builds(fr.fedprox, floats), st.just(fr.scaffold()), st.builds(fr.fednova, momentum=st.floats(0, 0.9))
)
parts = st.fixed_dictionaries(
    {
        "optimizer": optimizers,
        "server": optimizers,
        "aggregation": chains,
        "cohort": cohorts,
        "algorithm": algorithms,
        "local": st.fixed_dictionaries({"epochs": st.integers(1, 9), "batch_size": st.integers(1, 99)}),
    }
)
TASK = fr.classification((init, apply))


@settings(max_examples=60, deadline=None)
@given(parts, parts, st.sampled_from(["optimizer", "server", "aggregation", "cohort", "algorithm", "local"]))
def test_plans_are_read_back_and_differ_where_they_differ(one: Any, two: Any, name: str) -> None:
    first = plan(TASK, **one)
    content = written(first)
    value = json.loads(content)
    # Nothing is lost or rounded in bytes, and their form does not depend on the order in which things were put in.
    assert value == first.document()
    assert canonical(_backwards(value)) == content
    read(value, Document)
    read(json.loads(json.dumps(first.describe())), Described)
    # A part of another plan in its place is told, if it is another.
    changed = plan(TASK, **(one | {name: two[name]}))
    place = {"optimizer": ("local", "optimizer"), "local": ("local",)}.get(name, (name,))

    def at(document: Any) -> Any:
        for step in place:
            document = document[step]
        return document

    same = at(changed.document()) == at(first.document())
    assert (written(changed) == content) == same
    assert same == (at(plan(TASK, **two).document()) == at(first.document())) or name == "local"


def _backwards(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _backwards(value[name]) for name in reversed(value)}
    return [_backwards(one) for one in value] if isinstance(value, list) else value


@given(floats)
def test_numbers_are_exact(norm: float) -> None:
    told = json.loads(
        canonical({"aggregation": plan(TASK, aggregation=fr.clip(norm)).document()["aggregation"]})
    )
    assert told == {"aggregation": [{"clip": {"norm": norm}}]}
    other = math.nextafter(norm, math.inf)
    assert written(plan(TASK, aggregation=fr.clip(other))) != written(plan(TASK, aggregation=fr.clip(norm)))


def test_no_address_is_in_it_and_whole_numbers_are_as_good_as_floats() -> None:
    found = plan(optimizer=lambda r: optax.sgd(0.1 / r), aggregation=flipping("own", 2.0))
    assert not re.search(rb"0x[0-9a-f]{4}|<function|object at", written(found))
    pairs = [
        (fr.Budget(8, 1e-5, 10), fr.Budget(8.0, 1e-5, 10)),
    ]
    for whole, real in pairs:
        a, b = (
            plan(aggregation=fr.chain(CLIPPED, fr.gaussian_noise()), privacy=one) for one in (whole, real)
        )
        assert written(a) == written(b)
        assert a.digest() == b.digest()


def test_a_document_is_a_copy() -> None:
    found = plan()
    found.document()["task"]["metrics"].append("mine")
    found.code(COLUMNS)["programs"].clear()
    assert found.document() == plan().document()
    assert found.digest(COLUMNS) == plan().digest(COLUMNS)


CHANGES: dict[str, tuple[Any, str]] = {
    "another version": (lambda v: v.update(fairyring=4), "version 4"),
    "no version": (lambda v: v.pop("fairyring"), "version 1"),
    "an unknown field": (lambda v: v.update(extra=1), "extra"),
    "an unknown field within": (lambda v: v["local"].update(extra=1), "extra"),
    "a field less": (lambda v: v["task"].pop("loss_bound"), "loss_bound"),
    "a field of another kind": (lambda v: v["local"].update(batch_size="4"), "batch_size"),
    "an unknown stage": (lambda v: v["aggregation"].append({"eclipse": {"norm": 1.0}}), "eclipse"),
    "a stage with a setting more": (lambda v: v["aggregation"].append({"clip": {"norm": 1.0, "p": 2}}), '"p"'),
    "a stage with a setting less": (lambda v: v["aggregation"].append({"clip": {}}), "clip"),
    "a stage of two names": (lambda v: v["aggregation"].append({"clip": {}, "rotate": {}}), "rotate"),
    "an unknown rule": (lambda v: v.update(cohort={"all": {}}), "cohort"),
    "a custom rule": (lambda v: v.update(cohort={"custom": {}}), "cohort"),
    "an unknown algorithm": (lambda v: v.update(algorithm={"fedmagic": {}}), "fedmagic"),
    "an unknown algorithm within": (
        lambda v: v.update(
            algorithm={"adaptive_clip": {"initial": 1.0, "quantile": 0.5, "rate": 0.2, "algorithm": {"x": {}}}}
        ),
        '"x"',
    ),
    "an unknown optimiser": (lambda v: v.update(server={"sgdd": {"learning_rate": 1.0}}), "sgdd"),
    "an optimiser with a setting more": (lambda v: v.update(server={"sgd": {"rate": 1.0}}), "rate"),
    "an unknown one in a chain": (lambda v: v.update(server={"chain": {"transforms": [{"up": {}}]}}), "up"),
    "no document": (lambda v: v.clear(), "version 1"),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_what_is_no_document_is_refused_with_the_reason(name: str) -> None:
    value = plan().document()
    read(value, Document)
    change, words = CHANGES[name]
    change(value)
    with pytest.raises(PlanError, match=re.escape(words)):
        read(value, Document)
    for other in (None, [], "text", 2):
        with pytest.raises(PlanError, match="document"):
            read(other, Document)


# -- the digest ----------------------------------------------------------------------------------------------


def other_loss(outputs: jax.Array, batch: Any) -> Any:
    value, weight = TASK.loss(outputs, batch)
    return 2 * value, weight


def shifted(outputs: jax.Array, batch: Any) -> Any:
    value, weight = TASK.metrics["accuracy"].measure(outputs, batch)
    return 1 - value, weight


def tasks() -> dict[str, Any]:
    """Tasks whose documents are the same, and which differ in one piece of code each."""
    tables = [
        jnp.asarray(np.where(np.arange(length) == 2000, value, np.arange(length, dtype=np.float32)))
        for length in (4000, 300_000)
        for value in (0, 1)
    ]

    def looked_up(table: jax.Array) -> Any:
        return fr.classification((init, lambda params, x: apply(params, x) + table[1999:2002]))

    def dropping(rate: float) -> Any:
        def apply_with(params: Any, x: jax.Array, key: jax.Array | None = None) -> jax.Array:
            kept = 1.0 if key is None else jax.random.bernoulli(key, rate, x.shape)
            return apply(params, x * kept)

        return fr.classification((init, apply_with))

    replaced = dataclasses.replace
    return {
        "as it is": TASK,
        "another apply": fr.classification((init, lambda params, x: jnp.tanh(apply(params, x)))),
        "a constant": looked_up(tables[0]),
        "one number of a constant": looked_up(tables[1]),
        "a large constant": looked_up(tables[2]),
        "one number of a large constant": looked_up(tables[3]),
        "dropout": dropping(0.9),
        "another dropout": dropping(0.8),
        "another preparation": replaced(TASK, prepare=lambda x: x / 2),
        "another loss": replaced(TASK, loss=other_loss),
        "another metric": replaced(TASK, metrics={"accuracy": fr.Metric(shifted, 1.0)}),
        "another start": fr.classification((lambda key: jax.tree.map(lambda w: w * 2, init(key)), apply)),
    }


def test_code_alone_makes_another_digest() -> None:
    found = {name: plan(task) for name, task in tasks().items()}
    assert len({written(one) for one in found.values()}) == 1
    digests = {name: one.digest(COLUMNS) for name, one in found.items()}
    assert len(set(digests.values())) == len(digests)
    # Without columns, no more than the start is told apart.
    assert len({one.digest() for one in found.values()}) == 2
    again = {name: plan(task).digest(COLUMNS) for name, task in tasks().items()}
    assert again == digests


def test_columns_of_other_shapes_make_another_digest_and_names_of_functions_do_not() -> None:
    found = plan(fr.classification((init, lambda params, x: apply(params, x[..., :5]))))
    kinds = [((5,), np.float32), ((6,), np.float32), ((5,), np.float16), ((5,), np.uint8)]
    digests = [found.digest({"x": kind, "y": ((), np.int32)}) for kind in kinds]
    assert len(set(digests)) == len(kinds)
    weighted = found.digest({"weight": ((), np.float32), "x": kinds[0], "y": ((), np.int32)})
    assert weighted not in digests
    # In another order, and with numbers of 64 bits, which a program never sees, they are the same columns.
    assert found.digest({"y": ((), np.int64), "x": ((5,), np.float64)}) == digests[0]

    @jax.jit
    def tame(x: jax.Array) -> jax.Array:
        return jnp.tanh(x)

    @jax.jit
    def squash(x: jax.Array) -> jax.Array:
        return jnp.tanh(x)

    named = [plan(fr.classification((init, lambda p, x, f=f: f(apply(p, x))))) for f in (tame, squash)]  # pyright: ignore
    assert named[0].digest(COLUMNS) == named[1].digest(COLUMNS)


def test_a_digest_is_the_same_in_another_process(tmp_path: Path) -> None:
    code = (
        "from tests.learning.test_document import *\n"
        "print(plan(aggregation=flipping('own', 2.0), optimizer=lambda r: optax.sgd(0.1 / r)).digest(COLUMNS))"
    )
    found = plan(aggregation=flipping("own", 2.0), optimizer=lambda r: optax.sgd(0.1 / r)).digest(COLUMNS)
    command = [sys.executable, "-c", code]
    root = Path(__file__).parents[2]
    environment = {"PYTHONPATH": f"{Path(fr.__file__).parents[1]}:{root}", "PYTHONHASHSEED": "77", "PATH": ""}
    told = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == found


def test_the_digest_is_that_of_the_two_parts() -> None:
    found = plan()
    assert found.digest(COLUMNS) == documents.digest(found.document(), found.code(COLUMNS))
    assert set(found.code(COLUMNS)["programs"]) == {"init", "apply", "loss", "metric accuracy"}
    assert set(found.code()["programs"]) == {"init"}
