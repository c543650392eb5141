"""On a real Ray cluster of several nodes: the same bits, nodes killed and added included."""

import os
import time
from collections.abc import Iterator

import jax
import numpy as np
import optax
import pytest

import fairyring as fr
from fairyring.core.errors import MissingExtra
from fairyring.distributed import placement
from tests.distributed import test_worker as local

ray = pytest.importorskip("ray")

# Ray's sockets and processes outlive what Python's collector expects.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings(
        "ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::FutureWarning"
    ),
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[object]:
    """Two nodes of one core each, on this machine."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    two = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    two.add_node(num_cpus=1)
    ray.init(address=two.address, log_to_driver=False, logging_level="error")
    yield two
    ray.shutdown()
    two.shutdown()


def test_the_same_bits_while_nodes_are_killed_and_added(cluster) -> None:
    alone = local.run(local.plan(), rounds=9)
    extra = cluster.add_node(num_cpus=1)
    seen: list[int] = []

    def on_round(record: fr.RoundRecord) -> None:
        alive = [node for node in ray.nodes() if node["Alive"]]
        seen.append(len(alive))
        if record.round == 3:
            cluster.remove_node(extra, allow_graceful=False)
        if record.round == 6:
            cluster.add_node(num_cpus=1)
            time.sleep(1)

    with pytest.warns(fr.PerformanceWarning, match="is computed again, because a machine was lost"):
        there = local.run(local.plan(), fr.ray(), rounds=9, on_round=on_round)
    local.same(alone, there)
    assert (seen[0], min(seen), seen[-1]) == (3, 2, 3)


def test_plans_arrive_as_they_were_sent(cluster) -> None:
    from ray import cloudpickle

    from fairyring.distributed import on_ray

    on_ray._keep_equinox_whole()
    features = {"x": np.zeros((4, 28, 28, 1), np.float32), "y": np.arange(4)}
    people = fr.Population.from_arrays(features, client=[0, 0, 1, 1])
    torch = pytest.importorskip("torch")
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10))
    os.environ["KERAS_BACKEND"] = "jax"
    keras = pytest.importorskip("keras")
    network = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(10)])
    for model in (fr.zoo.c2(), module, fr.lora(module, rank=2), network):
        task = fr.classification(model)
        plan = fr.Plan(task, fr.LocalTraining(optax.sgd(0.1)), cohort=2)
        columns = task.columns_of(people)
        before = plan.digest(columns)
        there = cloudpickle.loads(cloudpickle.dumps(plan))
        assert there.digest(columns) == before
        model, params = there.task.model, plan.task.model.init(jax.random.key(0))
        other = jax.tree.map(lambda leaf: leaf + 0.5, params)  # a copy computes with what it is given
        assert not np.array_equal(
            model.apply(params, features["x"] + 1, None), model.apply(other, features["x"] + 1, None)
        )


def test_an_error_in_a_users_code_is_raised_as_it_is(cluster) -> None:
    def load(client: int) -> dict[str, np.ndarray]:
        if os.environ.get("RAY_JOB_ID") or client == 3:
            raise ValueError(f"client {client} cannot be read here")
        return {"x": np.zeros((2, 5), np.float32), "y": np.zeros(2, np.int32)}

    example = {"x": np.zeros(5, np.float32), "y": np.int32(0)}
    people = fr.Population.from_function(4, load, sizes=[2] * 4, example=example)
    with pytest.raises(ValueError, match="cannot be read here"):
        fr.simulate(local.plan(cohort=3), people, rounds=2, engine=fr.ray())


def test_a_population_in_files_is_read_by_the_nodes(cluster, tmp_path, monkeypatch) -> None:
    people = fr.Population.open(local.PEOPLE.save(tmp_path / "people"))
    assert people.mapped
    alone = fr.simulate(local.plan(), people, rounds=2, seed=3)
    local.same(alone, fr.simulate(local.plan(), people, rounds=2, seed=3, engine=fr.ray()))
    folder = local.PEOPLE.to_parquet(tmp_path / "parquet", row_group_bytes=200, file_bytes=700)
    people = fr.Population.from_parquet(folder, "client", in_memory=False)
    monkeypatch.setattr(placement, "REPLICATED_BYTES", 0)
    monkeypatch.setattr(placement, "BLOCK_BYTES", 500)
    local.same(alone, fr.simulate(local.plan(), people, rounds=2, seed=3, engine=fr.ray()))


def test_a_sweep_of_small_models_is_spread_over_the_nodes(cluster, tmp_path) -> None:
    options = {"rounds": 2, "test": local.people([5, 6, 5, 6], seed=9), "seeds": 2}
    grid = {"local.optimizer.learning_rate": [0.1, 0.2]}
    alone = fr.sweep(local.plan(), grid, local.PEOPLE, **options)
    there = fr.sweep(local.plan(), grid, local.PEOPLE, **options, engine=fr.ray(), folder=tmp_path / "sweep")
    assert len(there.runs) == 4
    for one in alone.runs:
        (other,) = [run for run in there.runs if (run.setting, run.seed) == (one.setting, one.seed)]
        assert (other.test, other.error) == (one.test, None)


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fairyring.core.extras.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"fairyring\[ray\]"):
        fr.ray()
