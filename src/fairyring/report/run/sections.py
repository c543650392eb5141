"""The sections of a report, in the order of the page. Each also works for a run that has not got that far."""

import math
from collections.abc import Mapping

import numpy as np

from fairyring.report.kit import (
    Figure,
    Section,
    absent,
    escaped,
    flat,
    folded,
    mapping,
    number,
    pair,
    paragraph,
    table,
    units,
)
from fairyring.report.run import figures
from fairyring.report.run.clients import Spread, names, spread
from fairyring.report.run.plan_words import plan_in_words
from fairyring.report.run.reported_run import ReportedRun

_TABLE_ROWS = 100
_KINDS = {
    "not_private": "Not yet private",
    "assumed": "Assumed",
    "private": "Protected",
}


def learning(folder: ReportedRun) -> Section:
    """Curves of loss and metrics, and their table."""
    if not folder.rounds:
        return Section(
            "learning", "How it learned", absent("No round has finished, so there is nothing to draw.")
        )
    rounds = folder.column("round")
    shown = [n for n in (folder.headline, "loss", *folder.measured, *folder.evaluated) if n]
    parts, notes = [], []
    for name in dict.fromkeys(shown):
        training = folder.column(name)
        evaluated = [(at, values[name]) for at, values in folder.evaluations if name in values]
        released = np.array([one.aborted is None for one in folder.rounds], bool)  # without a sum no mean
        missing = int((~np.isfinite(training) & released).sum())
        drowned = folder.lost(name)
        if drowned.any():
            training = np.where(drowned, math.nan, training)
            notes.append(_drowned(folder, name, drowned))
            if drowned.all() and not evaluated:
                continue
        if not np.isfinite(training).any() and not any(np.isfinite(v) for _, v in evaluated):
            notes.append(f"No finite {units.label(name)} was recorded.")
            continue
        if missing and name in folder.measured:  # a pooled metric has no value in training
            notes.append(
                f"In {units.count(missing, 'round')} the training {units.label(name)} is not a finite number; "
                "its curve has a gap there."
            )
        title = units.title(name)
        last = []
        if name in folder.measured:
            last.append(f"{units.mean(folder.rounds[-1], name, noise=True)} in training")
        if evaluated:
            at = units.count(evaluated[-1][0])
            last.append(f"{units.metric(name, evaluated[-1][1])} on held-out data (round {at})")
        caption = f"Last: {', '.join(last)}"
        parts.append(
            Figure(
                figures.curves(
                    title,
                    name,
                    rounds,
                    training,
                    evaluated,
                    folder.noise(name),
                    higher_is_better=folder.higher_is_better(name),
                ),
                caption + ".",
                title,
            )
        )
    shares, norms = folder.column("clipped"), folder.column("update_norm")
    if np.isfinite(shares).any():
        last = int(np.flatnonzero(np.isfinite(shares))[-1])
        caption = (
            f"Last: {units.share(float(shares[last]))} of the updates were cut by the clip; half of them were longer than "
            f"{units.number(float(norms[last]))} before. Norms are recorded only where the plan promises no privacy."
        )
        parts.append(Figure(figures.clipped(rounds, shares), caption, "Clipped updates"))
    if not folder.evaluations:
        notes.append("The model has not been evaluated on held-out data; only its training is shown.")
    body = (
        "<p>One round: the server sends the model to some clients, each improves it on its own data, "
        "and the average of their changes makes the next model.</p>"
        f"{''.join(absent(n) for n in notes)}{pair(parts)}{_round_table(folder)}"
    )
    return Section("learning", "How it learned", body)


def _drowned(folder: ReportedRun, name: str, lost: np.ndarray) -> str:
    """A sentence saying that a mean of training is lost in noise in some rounds."""
    noise = (
        float(np.nanmedian(folder.noise(name)[lost])) if np.isfinite(folder.noise(name)[lost]).any() else None
    )
    size = "" if noise is None else f": its noise is ± {units.metric(name, noise)}"
    where = "every round" if lost.all() else units.count(int(lost.sum()), "round")
    gap = "" if lost.all() else "; its curve has a gap there"
    return f"In {where} the training {units.label(name)} is lost in noise{size}, as wide as the range it can have{gap}."


def _round_table(folder: ReportedRun) -> str:
    measured = folder.measured
    total = len(folder.rounds)
    step = -(-total // _TABLE_ROWS)
    shown = [r for i, r in enumerate(folder.rounds) if i % step == 0 or i == total - 1]
    tested = folder.evaluated
    head = [
        "round",
        "clients",
        *(units.label(name) for name in measured),
        *(f"held-out {units.label(name)}" for name in tested),
    ]
    rows = []
    for record in shown:
        test = record.test.columns() if record.test is not None else {}
        cells = [
            units.count(record.round),
            units.count(record.clients),
            *(units.mean(record, name) for name in measured),
            *(units.metric(name, test[name]) if name in test else "" for name in tested),
        ]
        rows.append("<tr>" + "".join(f"<td>{escaped(c)}</td>" for c in cells) + "</tr>")
    label = "The numbers by round" if step == 1 else f"The numbers, every {step} rounds"
    return (
        f'<details><summary>{label}</summary><div class="scroll"><table class="rounds"><thead><tr>'
        f"{''.join(f'<th>{escaped(h)}</th>' for h in head)}</tr></thead><tbody>{''.join(rows)}</tbody></table></div></details>"
    )


def served(folder: ReportedRun) -> Section:
    """How the metric that the run is judged by is spread over clients."""
    served = spread_of(folder)
    title = "How well it serves each client"
    if served is None:
        return Section(
            "clients",
            title,
            absent(f"There is no evaluation per client yet: it {_at_the_end(folder, 'is made')}"),
        )
    name = units.label(served.name)

    def value(of: float) -> str:
        return units.metric(served.name, of)

    everybody = (
        f"An average hides whom a model fails. Over {units.count(len(served.values), 'evaluated client')} the {name} "
        f"is {value(served.by_client)} on average with every client counting the same, and "
        f"{value(served.by_example)} with every example counting the same."
    )
    several = served.worst_count > 1
    worst = (
        f"The worst decile, the {served.worst_count if several else 'one'} {'clients' if several else 'client'} "
        f"it serves worst, {'get' if several else 'gets'} {value(served.worst_mean)}{' on average' if several else ''}."
    )
    body = f"<p>{escaped(everybody)} <strong>{escaped(worst)}</strong></p>"
    if served.left_out:
        body += absent(
            f"{units.count(served.left_out, 'client')} without examples or without a finite {name} "
            f"{'is' if served.left_out == 1 else 'are'} not counted."
        )
    caption = (
        f"Half of the clients lie between {value(served.quartiles[0])} and {value(served.quartiles[2])}; "
        f"the median is {value(served.quartiles[1])}. The worst-served client is at {value(served.extremes[0])}, "
        f"the best at {value(served.extremes[1])}."
    )
    held_out = "Held-out examples of each client"
    sizes = folder.clients["test.examples"]
    called = names(mapping(folder.population.get("test")), len(sizes))
    if called is None:
        drawn = figures.distribution(
            served.name, served.values, served.worst, higher_is_better=served.higher_is_better
        )
        sizes = sizes[sizes > 0]
        held = figures.histogram("test-sizes", held_out, "examples", sizes)
    else:  # in one order, the worst-served at the top, so that rows of both figures are of the same client
        order = np.argsort(served.values * (1 if served.higher_is_better else -1), kind="stable")
        some = [called[place] for place in np.flatnonzero(served.kept)[order]]
        drawn = figures.by_name(
            f"spread-{served.name}",
            f"{units.title(served.name)} of each client",
            f"{name} on the client's own data",
            some,
            served.values[order],
            share=units.is_share(served.name),
            worst=served.worst[order],
        )
        sizes = sizes[served.kept]
        held = figures.by_name("test-sizes", held_out, "examples", some, sizes[order])
    parts = [Figure(drawn, caption, title)]
    parts.append(
        Figure(
            held,
            f"A client with few examples has a noisy score: the smallest has {units.count(sizes.min())}, "
            f"the largest {units.count(sizes.max())}.",
            held_out,
        )
    )
    return Section("clients", title, body + pair(parts) + _client_table(folder))


def _at_the_end(folder: ReportedRun, done: str) -> str:
    """When what is not there is made, and whether it still may be."""
    over = folder.run.get("status") in ("failed", "stopped")
    return f"{done} when a run ends{', and this one has not come to its end' if over else ''}."


def _client_table(folder: ReportedRun) -> str:
    """What is known of each client by its name; nothing if they are too many to be named."""
    of_test = {column: values for column, values in folder.clients.items() if column.startswith("test.")}
    trained = names(folder.population, len(folder.clients.get("examples", ()))) or []
    tested = names(mapping(folder.population.get("test")), len(of_test.get("test.examples", ()))) or []
    if not tested:
        return ""
    measured = [c for c in of_test if c != "test.examples" and of_test[c].shape == (len(tested),)]
    head = ["client"]
    if trained:
        head += ["examples", "rounds it took part in"]
    head += ["held-out examples", *(units.label(c.removeprefix("test.")) for c in measured)]
    rows = []
    for name in dict.fromkeys([*trained, *tested]):
        cells = []
        for column in ("examples", "participation") if trained else ():
            values = folder.clients.get(column, ())
            at = trained.index(name) if name in trained else len(values)
            cells.append(units.count(values[at]) if at < len(values) else "–")
        at = tested.index(name) if name in tested else None
        cells.append("–" if at is None else units.count(of_test["test.examples"][at]))
        for column in measured:
            there = at is not None and of_test["test.examples"][at] > 0
            value = float(of_test[column][at]) if there else None
            cells.append(units.metric(column.removeprefix("test."), value))
        rows.append(
            f'<tr><th scope="row">{escaped(name)}</th>{"".join(f"<td>{escaped(c)}</td>" for c in cells)}</tr>'
        )
    return (
        '<details><summary>The numbers by client</summary><div class="scroll"><table class="rounds"><thead><tr>'
        f"{''.join(f'<th>{escaped(h)}</th>' for h in head)}</tr></thead><tbody>{''.join(rows)}</tbody></table></div></details>"
    )


def participation(folder: ReportedRun) -> Section:
    """How often clients took part, and how many examples they hold."""
    title = "Who took part"
    parts, body = [], ""
    took = folder.clients.get("participation")
    called = names(folder.population, len(took) if took is not None else 0)
    if took is None or not len(took):
        body += absent(f"Participation {_at_the_end(folder, 'is counted')}")
    else:
        never = int((took == 0).sum())
        parts.append(
            Figure(
                _by_client("participation", "Rounds a client took part in", "rounds", took, called),
                f"{units.number(float(took.mean()))} {'round' if took.mean() == 1 else 'rounds'} on average, from {units.count(took.min())} to "
                f"{units.count(took.max())}. "
                + (
                    f"{units.count(never, 'client')} never took part."
                    if never
                    else "Every client took part at least once."
                ),
                title,
            )
        )
    held = folder.clients.get("examples")
    if held is not None and len(held):
        parts.append(
            Figure(
                _by_client("examples", "Examples a client holds", "examples", held, called),
                f"Half of the clients hold {units.count(int(np.median(held)), 'example')} or fewer; "
                f"the largest holds {units.count(held.max())}.",
                "Examples a client holds",
            )
        )
    if folder.rounds:
        sampled, dropped = (np.nansum(folder.column(c)) for c in ("sampled", "dropped"))
        if sampled:
            lost = (
                f"{units.count(dropped)} of them ({units.share(dropped / sampled)})"
                if dropped
                else "none of them"
            )
            body += paragraph(
                f"Over all rounds {units.count(sampled, 'client')} {'was' if sampled == 1 else 'were'} asked (a client "
                f"counts each time) and {lost} dropped out before reporting."
            )
    return Section("participation", title, body + pair(parts))


def _by_client(key: str, title: str, xlabel: str, values: np.ndarray, called: list[str] | None) -> str:
    """Whole numbers of clients: each by its name, or how many have which."""
    if called is None or len(called) != len(values):
        return figures.histogram(key, title, xlabel, values)
    return figures.by_name(key, title, xlabel, called, values)


def traffic(folder: ReportedRun) -> Section:
    """Bytes sent and received."""
    title = "What travelled"
    up, down = folder.column("bytes_up"), folder.column("bytes_down")
    if not folder.rounds or not (np.isfinite(up).any() or np.isfinite(down).any()):
        return Section("traffic", title, absent("No bytes have been recorded."))
    rounds, clients = folder.column("round"), float(np.nansum(folder.column("clients")))
    one = f"; one report takes {units.size(float(np.nansum(up)) / clients)}" if clients else ""
    body = paragraph(
        f"Clients received {units.size(float(np.nansum(down)))} and sent {units.size(float(np.nansum(up)))} in all{one}. "
        "Bytes are counted from the encoded form; the framing of a network comes on top."
    )
    parts = [
        Figure(
            figures.traffic(rounds, up, down, cumulative=False),
            f"Median of a round: {units.size(float(np.nanmedian(up)))} up, {units.size(float(np.nanmedian(down)))} down.",
            "Bytes in each round",
        ),
    ]
    if len(rounds) > 1:
        parts.append(
            Figure(
                figures.traffic(rounds, up, down, cumulative=True),
                f"After round {units.count(rounds[-1])}: {units.size(float(np.nansum(up)))} up, {units.size(float(np.nansum(down)))} down.",
                "Bytes since the start",
            )
        )
    return Section("traffic", title, body + pair(parts))


def pace(folder: ReportedRun) -> Section:
    """How long rounds took."""
    title = "Time a round"
    seconds = folder.column("seconds")
    if not np.isfinite(seconds).any():
        return Section("pace", title, absent("No times have been recorded."))
    total, clients = float(np.nansum(seconds)), float(np.nansum(folder.column("clients")))
    examples = float(np.nansum(folder.column("examples")))
    speed = f" That is {units.count(clients / total)} clients" if total and clients else ""
    if speed and examples:
        speed += f" and {units.count(examples / total)} examples"
    slowest = int(np.nanargmax(seconds))
    caption = (
        f"Median {units.duration(float(np.nanmedian(seconds)))}; the slowest, round "
        f"{units.count(folder.rounds[slowest].round)}, took {units.duration(float(seconds[slowest]))}."
    )
    compiling = number(folder.run.get("compile_seconds"))
    before = f" Compiling the program before them took {units.duration(compiling)}." if compiling else ""
    body = paragraph(
        f"The rounds took {units.duration(total)} in all.{speed + ' a second.' if speed else ''}{before}"
    )
    if len(seconds) == 1:  # one point is no picture
        return Section("pace", title, body)
    drawn = Figure(figures.pace(folder.column("round"), seconds), caption, title)
    return Section("pace", title, body + pair([drawn]))


def plan(folder: ReportedRun) -> Section:
    """The plan in a few lines, and field by field."""
    title = "The plan"
    if not folder.plan:
        return Section("plan", title, absent("The plan was not recorded."))
    task = folder.plan.get("task")
    fewer = (
        {"task": {k: v for k, v in task.items() if k != "parameters"}} if isinstance(task, Mapping) else {}
    )
    fields = "<p>Numbers and switches can be changed with <code>--set</code>, by these names.</p>"
    fields += table(flat({**folder.plan, **fewer}))
    return Section(
        "plan", title, table(plan_in_words(folder.plan)) + folded("Every field of the plan", fields)
    )


def assumptions(folder: ReportedRun) -> Section:
    """The run's privacy statement, sentence by sentence."""
    title = "What was assumed, and what was not private"
    given = folder.run.get("assumptions")
    entries = [a for a in given if isinstance(a, Mapping)] if isinstance(given, list) else []
    if not entries:
        return Section(
            "assumptions",
            title,
            absent("No assumptions were recorded. Take nothing about this run as private."),
        )
    order = list(_KINDS)
    entries.sort(key=lambda entry: order.index(entry["kind"]) if entry.get("kind") in order else len(order))
    items = []
    for entry in entries:
        kind = str(entry.get("kind"))
        kind = kind if kind in _KINDS else "assumed"
        items.append(
            f'<li class="{kind}"><p class="tag">{_KINDS[kind]}</p>'
            f"<h3>{escaped(entry.get('title', ''))}</h3><p>{escaped(entry.get('text', ''))}</p></li>"
        )
    return Section("assumptions", title, f'<ul class="promises">{"".join(items)}</ul>{_outside(folder)}')


def _outside(folder: ReportedRun) -> str:
    """What is in the folder of a private run that its privacy guarantee does not cover."""
    given = folder.run.get("outside")
    entries = [one for one in given if isinstance(one, Mapping)] if isinstance(given, list) else []
    if not entries:
        return ""
    rows = []
    for one in entries:
        names = one.get("names")
        where = ", ".join(map(str, names)) if isinstance(names, list) else ""
        rows.append(
            f'<tr><th scope="row">{escaped(one.get("what", ""))}</th><td>{escaped(one.get("why", ""))}'
            f"<br><small>{escaped(where)}</small></td></tr>"
        )
    lead = "The folder of this run, and this report with it, is for its owner: what of it the promise does not cover"
    return f"<details><summary>{lead}</summary><table><tbody>{''.join(rows)}</tbody></table></details>"


def provenance(folder: ReportedRun) -> Section:
    """What it takes to get the same run again."""
    run, machine = folder.run, mapping(folder.run.get("machine"))
    dropout = number(run.get("dropout"))
    own = run.get("dropout") if isinstance(run.get("dropout"), str) else None
    rows = [
        ("Seed", run.get("seed")),
        ("Fingerprint", run.get("fingerprint")),
        ("Status", run.get("status")),
        (
            "Rounds",
            f"{units.count(len(folder.rounds))} of {units.count(run['rounds'])}" if "rounds" in run else None,
        ),
        ("Started", run.get("started")),
        (
            "Simulated dropout",
            f"each client's own, {own!r}" if own else units.share(dropout) if dropout is not None else None,
        ),
        ("Processor", machine.get("cpu")),
        ("Cores", machine.get("cores")),
        (
            "Memory",
            f"{units.number(machine['memory_gib'])} GiB" if number(machine.get("memory_gib")) else None,
        ),
        ("System", machine.get("system")),
        ("fairyring", run.get("fairyring")),
        *mapping(run.get("versions")).items(),
    ]
    sizes = mapping(folder.population.get("sizes"))
    if sizes:
        quantiles = ", ".join(f"{k} {units.number(v)}" for k, v in sizes.items() if number(v) is not None)
        rows.append(("Examples a client", quantiles))
    test = folder.population.get("test")
    if isinstance(test, Mapping):
        words = {"skipped": "clients without examples"}
        rows += [
            (f"Held-out {words.get(k, k)}", units.number(v)) for k, v in test.items() if number(v) is not None
        ]
    rows = [(k, "–" if v is None else v) for k, v in rows]
    again = "With the same plan, data, seed, versions and machine, the same bits come out."
    if run.get("privacy") and run.get("entropy") == "given":
        again = again.replace("seed,", "seed, entropy,")
    elif run.get("privacy"):
        again = (
            "With the same plan, data, seed, versions and machine the same clients are asked in the same rounds. The model does "
            "not come out again: noise is fresh in every run, as it must be. And another run over the same people is another "
            "release, which adds to what was spent."
        )
    intro = paragraph(f"{again} The fingerprint tells one plan and population from another.")
    return Section("provenance", "How to get it again", intro + table(rows))


def spread_of(folder: ReportedRun) -> Spread | None:
    """How the metric that the run is judged by is spread over clients; None without an evaluation."""
    name = folder.headline
    if not name:
        return None
    return spread(name, folder.clients, higher_is_better=folder.higher_is_better(name))
