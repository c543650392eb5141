"""What is frozen is constant, does not travel, and is the same bits at the end; what is trained is trained as if it were alone."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fairyring as fr
from fairyring.task import train_only

FEATURES, HIDDEN, CLASSES = 5, 7, 3
OWNER = np.repeat(np.arange(4), [7, 12, 4, 9])
rng = np.random.default_rng(0)
X, Y = rng.normal(size=(32, FEATURES)).astype(np.float32), rng.integers(0, CLASSES, 32)
PEOPLE = fr.Population.from_arrays({"x": X, "y": Y}, client=OWNER)
BODY = {
    "w": rng.normal(size=(FEATURES, HIDDEN)).astype(np.float32),
    "b": rng.normal(size=HIDDEN).astype(np.float32),
}
HEAD = {"w": rng.normal(size=(HIDDEN, CLASSES)).astype(np.float32), "b": np.zeros(CLASSES, np.float32)}


def features(body, x):
    return jnp.tanh(x @ body["w"] + body["b"])


def apply(params, x):
    return features(params["body"], x) @ params["head"]["w"] + params["head"]["b"]


MODEL = (lambda key: {"body": BODY, "head": HEAD}, apply)


def run(task: fr.task.Task, population: fr.Population = PEOPLE, **options) -> fr.Run:
    plan = fr.Plan(task, fr.LocalTraining(optax.sgd(0.3), batch_size=4), cohort=3)
    return fr.simulate(plan, population, rounds=3, **options)


def equal(one, other) -> None:
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_a_head_is_trained_as_on_the_features_alone(tmp_path) -> None:
    task = fr.classification(MODEL, where="head.*")
    done = run(task, run=tmp_path / "run")
    assert done.plan.layout.size == HIDDEN * CLASSES + CLASSES
    assert set(done.params) == {"head"}
    equal(done.whole_params, {"body": BODY, "head": done.params["head"]})
    whole = fr.Plan(fr.classification(MODEL), fr.LocalTraining(optax.sgd(0.3)), cohort=3)
    assert whole.bytes_up - done.plan.bytes_up == 4 * (FEATURES * HIDDEN + HIDDEN)

    alone = fr.Population.from_arrays({"x": np.asarray(features(BODY, X)), "y": Y}, client=OWNER)
    linear = fr.classification((lambda key: HEAD, lambda params, x: x @ params["w"] + params["b"]))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6),
        done.params["head"],
        run(linear, alone).params,
    )

    x = rng.normal(size=(5, FEATURES)).astype(np.float32)
    saved = fr.load_run(tmp_path / "run")
    np.testing.assert_array_equal(saved.predict(x), done.predict(x))
    with pytest.raises(fr.ModelError, match=r"fr.load_run\(folder, plan\)"):
        _ = saved.whole_params
    equal(fr.load_run(tmp_path / "run", done.plan).whole_params, done.whole_params)


def test_what_is_frozen_is_part_of_the_plan() -> None:
    def digest(scale: float) -> str:
        start = {"body": {name: scale * value for name, value in BODY.items()}, "head": HEAD}
        task = fr.classification((lambda key: start, apply), where="head.*")
        return fr.Plan(task, fr.LocalTraining(optax.sgd(0.3)), cohort=3).digest(task.columns_of(PEOPLE))

    assert digest(1.0) == digest(1.0) != digest(2.0)


def test_low_rank_changes_start_from_the_model_and_add_up(tmp_path) -> None:
    model = fr.lora(MODEL, rank=2, alpha=3.0, where="body.w", train="head.*")
    start = model.init(jax.random.key(5))
    assert {name: jax.tree.map(np.shape, value) for name, value in start.items()} == {
        "body.w": {"a": (2, HIDDEN), "b": (FEATURES, 2)},
        "head.w": (HIDDEN, CLASSES),
        "head.b": (CLASSES,),
    }
    x = rng.normal(size=(5, FEATURES)).astype(np.float32)
    np.testing.assert_array_equal(model.apply(start, x, None), apply({"body": BODY, "head": HEAD}, x))

    done = run(fr.classification(model))
    change = done.params["body.w"]
    assert np.abs(change["b"]).max() > 0.01
    assert not np.array_equal(change["a"], run(fr.classification(model), seed=1).params["body.w"]["a"])
    whole = done.whole_params
    np.testing.assert_allclose(whole["body"]["w"], BODY["w"] + 1.5 * change["b"] @ change["a"], rtol=1e-6)
    equal(whole["body"]["b"], BODY["b"])
    equal(whole["head"], {"w": done.params["head.w"], "b": done.params["head.b"]})
    np.testing.assert_allclose(done.predict(x), apply(whole, x), rtol=1e-5, atol=1e-6)


def test_a_rank_is_at_most_the_shorter_side_and_only_matrices_change() -> None:
    start = fr.lora(MODEL, rank=6, where=["body.*", "head.*"]).init(jax.random.key(0))
    assert {name: jax.tree.map(np.shape, value) for name, value in start.items()} == {
        "body.w": {"a": (5, HIDDEN), "b": (FEATURES, 5)},
        "head.w": {"a": (3, CLASSES), "b": (HIDDEN, 3)},
    }


def test_the_gradient_of_a_low_rank_change_is_that_of_its_product() -> None:
    model = fr.lora(MODEL, rank=2, where="body.w")
    x = rng.normal(size=(6, FEATURES)).astype(np.float32)
    params = jax.tree.map(lambda leaf: leaf + 0.1, model.init(jax.random.key(0)))
    whole = model.whole(params)
    got = jax.grad(lambda p: jnp.sum(model.apply(p, x, None) ** 2))(params)["body.w"]
    by_matrix = jax.grad(lambda p: jnp.sum(apply(p, x) ** 2))(whole)["body"]["w"]
    np.testing.assert_allclose(got["b"], by_matrix @ params["body.w"]["a"].T, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(got["a"], params["body.w"]["b"].T @ by_matrix, rtol=1e-4, atol=1e-4)


def test_an_equinox_module_is_whole_again_by_combine() -> None:
    module = eqx.nn.MLP(FEATURES, CLASSES, HIDDEN, 1, key=jax.random.key(0))
    done = run(fr.classification(module, where=lambda name: name.startswith("layers.1")))
    whole = eqx.combine(jax.tree.map(jnp.asarray, done.params), module)
    equal(whole.layers[0].weight, module.layers[0].weight)
    assert not np.array_equal(whole.layers[1].weight, module.layers[1].weight)
    x = rng.normal(size=(5, FEATURES)).astype(np.float32)
    np.testing.assert_allclose(done.predict(x), jax.vmap(whole)(x), rtol=1e-5, atol=1e-6)


def test_a_pytorch_module_gets_the_changed_matrices_back(tmp_path) -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Linear(FEATURES, HIDDEN), torch.nn.Tanh(), torch.nn.Linear(HIDDEN, CLASSES)
    )
    bias = module[0].bias.detach().clone()
    done = run(fr.classification(fr.lora(module, rank=2, train="2.bias")), run=tmp_path / "run")
    assert set(done.params) == {"0.weight", "2.weight", "2.bias"}
    x = rng.normal(size=(5, FEATURES)).astype(np.float32)
    for source in (done, fr.load_run(tmp_path / "run", done.plan)):
        trained = source.into(
            torch.nn.Sequential(
                torch.nn.Linear(FEATURES, HIDDEN), torch.nn.Tanh(), torch.nn.Linear(HIDDEN, CLASSES)
            )
        )
        assert torch.equal(trained[0].bias, bias)
        np.testing.assert_allclose(
            trained(torch.from_numpy(x)).detach(), done.predict(x), rtol=1e-5, atol=1e-5
        )
    with pytest.raises(fr.ModelError, match=r"fr.load_run\(folder, plan\)"):
        fr.load_run(tmp_path / "run").state_dict()


@pytest.mark.parametrize(
    ("where", "words"),
    [
        (
            "hed.*",
            r"'hed.\*', which is no parameter's name; expected patterns of names such as body.b, body.w, head.b",
        ),
        (["head.*", "tail"], "'tail', which is no parameter's name"),
        (lambda name: False, "no parameter; expected one or more of body.b"),
        (5, "where: given 5; expected a pattern of names"),
        (["*", None], r"given \['\*', None\]; expected a pattern of names"),
    ],
)
def test_a_choice_of_nothing_is_refused(where, words: str) -> None:
    with pytest.raises(fr.ModelError, match=words):
        fr.classification(MODEL, where=where)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rank": 0}, "lora, rank: given 0; expected a whole number of at least 1"),
        ({"where": "body.b"}, "lora, where: given no matrix"),
        ({"train": "*"}, "lora, where: given no matrix"),
    ],
)
def test_a_change_that_is_of_no_low_rank_is_refused(options: dict, words: str) -> None:
    with pytest.raises(fr.ModelError, match=words):
        fr.lora(MODEL, **options)


def test_all_parameters_is_the_model_itself_and_lists_keep_their_places() -> None:
    model = fr.task.as_model(MODEL)
    start = train_only(model, "*").init(jax.random.key(0))
    equal(start, {"body": BODY, "head": HEAD})
    listed = fr.task.as_model(
        (lambda key: [HEAD, BODY["b"]], lambda p, x: x @ p[0]["w"] + p[0]["b"] + p[1].sum()), where="1"
    )
    assert jax.tree.map(np.shape, listed.init(jax.random.key(0)))[1] == (HIDDEN,)
    equal(listed.whole(listed.init(jax.random.key(0))), [HEAD, BODY["b"]])
