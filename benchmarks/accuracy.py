"""How good are federated models, beside the same model trained centrally on the same examples?

    FAIRYRING_DATA=... python benchmarks/accuracy.py [2nn] [c2] [shakespeare] [--seed 1]
    FAIRYRING_DATA=... python benchmarks/accuracy.py 2nn --choose

Each work is run federated and centrally (one client that owns everything, as many passes over the data as the
federated run makes, but at most 10 for the CNN), and judged on examples that nobody trained on. Prints the machine and
a table.

`--choose` judges each of a work's choices of settings, and of the central run's learning rate, on a fifth of its training
clients, held out for that; the test examples take no part. Only the 2NN has choices.
"""

import argparse
import itertools
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import optax

import fairyring as fr


@dataclass(frozen=True)
class Work:
    """One comparison. `target` is the accuracy the federated run is to reach."""

    load: Callable[[], Any]
    task: Callable[[], Any]
    rounds: int
    cohort: int
    batch: int
    rate: float
    target: float
    epochs: int = 1
    server_rate: float = 1.0  # along the mean delta; above 1 where clients use up what they can learn
    optimizer: Callable[[float], optax.GradientTransformation] = optax.sgd  # local
    most_passes: int = 100  # of the central run
    choices: tuple[dict[str, float], ...] = ()
    central_rate: float | None = None  # without it the federated run's
    central_rates: tuple[float, ...] = ()  # choices of it

    def plan(self) -> fr.Plan:
        """The federated plan."""
        local = fr.LocalTraining(self.optimizer(self.rate), epochs=self.epochs, batch_size=self.batch)
        return fr.Plan(self.task(), local=local, cohort=self.cohort, server=fr.fedavg(self.server_rate))

    def central(self) -> fr.Plan:
        """The same model, loss, optimiser and batch for one client that owns everything."""
        optimizer = self.optimizer(self.central_rate or self.rate)
        return fr.Plan(self.task(), local=fr.LocalTraining(optimizer, batch_size=self.batch), cohort=1)

    def passes(self, federated: fr.Run, train: fr.Population) -> float:
        """How often a federated run went through the training examples."""
        return sum(r["examples"] for r in federated.metrics) * self.epochs / train.examples

    def run_centrally(self, train: fr.Population, test: fr.Population, passes: float, seed: int) -> fr.Run:
        """The central run: about so many passes, a round each."""
        return fr.simulate(
            self.central(),
            pooled(train),
            test=test,
            rounds=min(self.most_passes, max(1, round(passes))),
            seed=seed,
            processors=1,  # a second one would only wait
        )


def mnist() -> Any:
    """MNIST by writer; the test writers are none of the training writers."""
    return fr.load("mnist-writers")


def shakespeare() -> Any:
    """Shakespeare's speakers; the last fifth of each one's lines is held out."""
    return fr.load("shakespeare", split="time")


def choices(epochs: tuple[int, ...], rates: tuple[float, ...], steps: tuple[float, ...]) -> Any:
    """All combinations of local epochs, local learning rates and server steps."""
    return tuple(
        {"epochs": e, "rate": r, "server_rate": s} for e, r, s in itertools.product(epochs, rates, steps)
    )


WORKS = {
    "2nn": Work(
        mnist,
        lambda: fr.classification(fr.zoo.two_nn(classes=10)),
        rounds=100,
        cohort=50,
        batch=10,
        epochs=5,
        rate=0.2,
        server_rate=2.0,
        target=0.965,
        choices=choices((5,), (0.1, 0.2), (1.0, 1.5, 2.0)),
        central_rate=0.1,
        central_rates=(0.02, 0.05, 0.1, 0.2),
    ),
    "c2": Work(
        mnist,
        lambda: fr.classification(fr.zoo.cnn((28, 28, 1), classes=10)),
        rounds=75,
        cohort=50,
        batch=20,
        epochs=4,
        rate=0.1,
        server_rate=2.0,
        target=0.98,
        most_passes=10,
    ),
    "shakespeare": Work(
        shakespeare,
        lambda: fr.next_token(fr.zoo.c4()),
        rounds=40,
        cohort=20,
        batch=10,
        rate=3e-3,
        optimizer=optax.adam,  # SGD at rate 1 had not left the most frequent letters after 18 rounds
        target=0.0,  # set from the bigram baseline
    ),
}


def pooled(people: fr.Population) -> fr.Population:
    """All examples in the hands of one client."""
    rows, _ = people.rows()
    return fr.Population.from_arrays(rows, client=np.zeros(people.examples, np.int32))


def baselines(train: fr.Population, test: fr.Population) -> dict[str, float]:
    """Accuracy of always guessing the most frequent next character, and the most frequent one after the last."""
    seen, asked = train.rows()[0], test.rows()[0]
    x, y = seen["x"].ravel().astype(int), seen["y"].ravel().astype(int)
    size = int(max(x.max(), y.max())) + 1
    pairs = np.zeros((size, size), np.int64)
    np.add.at(pairs, (x, y), 1)
    after, right = asked["x"].ravel().astype(int), asked["y"].ravel()
    return {
        "unigram": float(np.mean(right == pairs.sum(axis=0).argmax())),
        "bigram": float(np.mean(right == pairs.argmax(axis=1)[after])),
    }


def choose(name: str, seed: int) -> None:
    """Judge each choice of settings on held-out training clients; print them and the best."""
    work = WORKS[name]
    if not work.choices:
        print(f"{name}: no choices of settings")
        return
    train, held_out = work.load().train.split_clients(0.8, seed)
    judged, passes = [], 0.0
    for choice in work.choices:
        tried = replace(work, **choice)
        run = fr.simulate(
            tried.plan(), train, test=held_out, rounds=work.rounds, evaluate_every=work.rounds, seed=seed
        )
        passes = tried.passes(run, train)
        judged.append((run.tested.means["accuracy"], choice))
        print(f"{judged[-1][0]:.4f}  {choice}", flush=True)
    accuracy, best = max(judged, key=lambda pair: pair[0])
    print(f"best of {len(judged)} on held-out training clients, seed {seed}: {best} ({accuracy:.4f})")
    for rate in work.central_rates:
        run = replace(work, central_rate=rate).run_centrally(train, held_out, passes, seed)
        print(f"{run.tested.means['accuracy']:.4f}  central, rate {rate}", flush=True)


def measure(name: str, seed: int) -> dict[str, Any]:
    """Run one work both ways."""
    work = WORKS[name]
    data = work.load()
    federated = fr.simulate(
        work.plan(), data.train, test=data.test, rounds=work.rounds, evaluate_every=10, seed=seed
    )
    passes = work.passes(federated, data.train)
    central = work.run_centrally(data.train, data.test, passes, seed)
    curve = {r["round"]: r["test"]["accuracy"] for r in federated.metrics if "test" in r}
    result = {
        "work": name,
        "rounds": work.rounds,
        "federated": federated.tested.means["accuracy"],
        "best": max(curve.values()),
        "worst_decile": federated.tested.worst_decile("accuracy"),
        "central": central.tested.means["accuracy"],
        "passes": round(passes, 2),
        "seconds": round(federated.header["seconds"], 1),
        "central_seconds": round(central.header["seconds"], 1),
        "target": work.target,
        "curve": curve,
    }
    if name == "shakespeare":
        result |= baselines(data.train, data.test)
        result["target"] = result["bigram"]
    return result | {"machine": federated.header["machine"]}


def main() -> None:
    """Run the works asked for and print."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("work", nargs="*", choices=[*WORKS, []], default=list(WORKS))
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument(
        "--choose", action="store_true", help="judge settings on held-out training clients"
    )
    options = arguments.parse_args()
    if options.choose:
        for name in options.work:
            choose(name, options.seed)
        return
    results = []
    for name in options.work or WORKS:
        began = time.perf_counter()
        result = measure(name, options.seed)
        if not results:
            machine = result["machine"]
            print(f"{machine['cpu']}, {machine['cores']} cores, {machine['system']}; seed {options.seed}")
            print(
                f"{'work':13}{'federated':>10}{'worst 10%':>10}{'central':>9}{'target':>8}{'passes':>8}{'seconds':>9}"
            )
        print(
            f"{name:13}{result['federated']:10.4f}{result['worst_decile']:10.4f}{result['central']:9.4f}"
            f"{result['target']:8.4f}{result['passes']:8.1f}{time.perf_counter() - began:9.0f}",
            flush=True,
        )
        results.append(result)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
