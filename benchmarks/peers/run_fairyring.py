"""One work in fairyring: `python run_fairyring.py --work lr`.

`fairyring.simulate` with its own defaults, and a model of the zoo; with `--torch` the PyTorch module that the peers train.
"""

import argparse
import json

import jax
import numpy as np
import optax
from work import LEARNING_RATE, SERVER_LEARNING_RATE, WORKS, Work, data, judged, line

import fairyring as fr
from fairyring.task import zoo

arguments = argparse.ArgumentParser()
arguments.add_argument("--work", required=True)
arguments.add_argument("--rounds", type=int, default=10)
arguments.add_argument("--warmup", type=int, default=2)
arguments.add_argument("--threads", type=int, default=2, help="cores")
arguments.add_argument("--torch", action="store_true", help="the peers' module, images channels first")
options = arguments.parse_args()


def torch_model(work: Work) -> object:
    """The peers' module."""
    from torch_models import model  # PyTorch is loaded only where it is asked for

    return model(work)


def main() -> None:
    """Run and print."""
    work = WORKS[options.work]
    x, y = data(work)
    shape = work.shape
    if options.torch:
        x, shape = np.moveaxis(x, -1, 2), (shape[-1], *shape[:-1])
    people = fr.Population.from_arrays(
        {"x": x.reshape(-1, *shape), "y": y.reshape(-1)},
        client=np.repeat(np.arange(work.clients), work.examples),
    )
    networks = {
        "lr": lambda: zoo.logistic_regression(features=784, classes=work.classes),
        "2nn": lambda: zoo.two_nn(features=784, hidden=200, classes=work.classes),
        "c1": zoo.c1,
        "c2": zoo.c2,
    }
    task = fr.classification(torch_model(work) if options.torch else networks[work.name]())
    plan = fr.Plan(
        task,
        local=fr.LocalTraining(optax.sgd(LEARNING_RATE), epochs=1, batch_size=work.batch),
        aggregation=fr.chain(fr.weight_by_examples()),
        server=optax.sgd(SERVER_LEARNING_RATE),
        cohort=work.cohort,
    )
    x_judged, y_judged = judged(work)
    if options.torch:
        x_judged = np.moveaxis(x_judged, -1, 1)

    def loss_of(params) -> float:
        outputs = task.model.apply(params, task.prepare(x_judged), None)
        value, _ = task.loss(outputs, {"x": x_judged, "y": y_judged})
        return float(value.mean())

    work.same_model(sum(leaf.size for leaf in jax.tree.leaves(task.model.init(jax.random.key(0)))))
    run = fr.simulate(
        plan, people, rounds=options.warmup + options.rounds, seed=0, processors=options.threads
    )
    seconds = [row.seconds for row in run.records[options.warmup :]]
    first = task.model.init(jax.random.key(0))  # another draw of the same kind as the run starts from
    settings = f"{options.threads} cores, JAX {jax.__version__}"
    print(
        json.dumps(
            line(
                work,
                "fairyring-torch" if options.torch else "fairyring",
                fr.__version__,
                options.threads,
                1,
                options.warmup,
                seconds,
                (loss_of(first), loss_of(run.params)),
                settings,
            )
        ),
        flush=True,
    )


if __name__ == "__main__":
    main()
