// All runs: those that go on as cards, those that have ended as a table.

import { Actions } from "./actions.js";
import { Chart } from "./chart.js";
import { tested, trained } from "./details.js";
import { element, fill, keep, keepStats, put, say } from "./elements.js";
import { keepFunnel, phaseOf } from "./funnel.js";
import { apart, atLeast, atMost, count, duration, goesOn, headline, metric, nameOf, number, size, stateOf, tick, title } from "./words.js";

const FIRST = 25; // ended runs that are shown at once
const DRAWN = 6; // runs under way whose curve is shown here: each of them is asked for

/** A run's state as a badge. */
export function keepState(node, run) {
  const { words, sign, kind } = stateOf(run);
  put(node, "class", `state ${kind}`);
  say(node, `${sign}\u00a0${words}`);
}

/** Epsilon that is spent and left, in words, and whether little of it is left. */
export function budgetOf(run) {
  if (run.epsilon_spent === null && run.epsilon === null) return { value: "–", note: "no privacy budget", share: null };
  const spent = run.epsilon_spent ?? 0;
  if (run.epsilon === null) return { value: atMost(spent), note: "spent; no limit", share: null };
  const left = Math.max(0, run.epsilon - spent);
  return { value: atMost(spent), note: `of ${number(run.epsilon)}; ${atLeast(left)} left`, share: spent / run.epsilon };
}

const paceOf = (run) => number(Number(run.rounds_per_hour.toPrecision(3)));

/** The numbers of a run that everybody looks for. */
export function statsOf(run) {
  const judged = headline(run.metrics);
  const budget = budgetOf(run);
  return [
    { key: "loss", label: "Training loss", value: number(run.loss), note: "of the last sum" },
    ...(judged ? [{ key: "metric", label: title(judged), value: metric(judged, run.metrics[judged]), note: "last evaluation" }] : []),
    { key: "epsilon", label: "Privacy spent (ε)", value: budget.value, note: budget.note, warm: budget.share !== null && budget.share > 0.9 },
    { key: "bytes", label: "From devices", value: size(run.bytes_up), note: `${size(run.bytes_down)} to them` },
    {
      key: "pace",
      label: "Rounds an hour",
      value: run.rounds_per_hour === null ? "–" : paceOf(run),
      note: `${duration(run.seconds)} so far`,
    },
  ];
}

export class Overview {
  constructor(root, session, details) {
    this.session = session;
    this.details = details;
    this.all = false;
    this.summary = element("p", { class: "lead" });
    this.active = element("div", { class: "cards" });
    this.none = element("p", { class: "absent" });
    this.ended = element("ul", { class: "ended" });
    this.more = element("button", { type: "button", on: { click: () => this.expand() } });
    this.past = element("section", {}, element("h2", {}, "Ended"), this.ended, this.more);
    root.append(element("h1", {}, "Runs"), this.summary, this.none, this.active, this.past);
  }

  expand() {
    this.all = true;
    this.show(this.snapshot);
  }

  show(snapshot) {
    this.snapshot = snapshot;
    const { runs, fleet, service } = snapshot;
    const going = runs.filter(goesOn);
    const past = runs.filter((run) => !goesOn(run));
    const seen = `${count(fleet.active_1h, "device")} seen within the last hour.`;
    say(this.summary, going.length ? `${count(going.length, "run")} under way, ${seen}` : seen);
    say(this.none, runs.length ? "No run is under way." : "There is no run yet. An author submits one with: fairyring submit");
    this.none.hidden = going.length > 0;
    keep(this.active, going, ({ id }) => id, (run) => this.card(run), (node, run) => {
      const drawn = going.indexOf(run) < DRAWN;
      node.card.show(run, service.now, drawn ? (this.details.of(run).detail?.rounds ?? []) : []);
    });
    put(this.active, "class", going.length === 1 ? "cards single" : "cards");
    this.past.hidden = past.length === 0;
    const shown = this.all ? past : past.slice(0, FIRST);
    keep(this.ended, shown, ({ id }) => id, (run) => this.line(run), (node, run) => this.showLine(node, run));
    this.more.hidden = shown.length === past.length;
    say(this.more, `Show all ${count(past.length)}`);
  }

  card(run) {
    const card = new Card(run, this.session);
    card.node.card = card;
    return card.node;
  }

  line(run) {
    const link = element("a", { href: `#/run/${encodeURIComponent(run.id)}` }, element("bdi"));
    const cell = (kind) => element("span", { class: kind });
    return element("li", {}, link, element("span"), cell("number"), cell("number"), cell("number wide"), cell("number wide"));
  }

  showLine(node, run) {
    const [link, state, rounds, judged, budget, bytes] = node.children;
    say(link.firstChild, nameOf(run));
    keepState(state, run);
    say(rounds, `${count(run.round)} of ${count(run.rounds, "round")}`);
    const name = headline(run.metrics);
    say(judged, name ? `${title(name)} ${metric(name, run.metrics[name])}` : run.loss === null ? "–" : `Loss ${number(run.loss)}`);
    say(budget, run.epsilon_spent === null ? "no budget" : `ε ${atMost(run.epsilon_spent)}`);
    say(bytes, size(run.bytes_up + run.bytes_down));
  }
}

/** A run that goes on. */
class Card {
  constructor(run, session) {
    this.name = element("bdi");
    this.state = element("span");
    this.where = element("p", { class: "where" });
    this.why = element("p", { class: "note why" }, element("bdi"));
    this.progress = element("div", { class: "progress", role: "progressbar", "aria-label": "Rounds", "aria-valuemin": "0" }, element("i"));
    this.stats = element("dl", { class: "stats" });
    this.funnel = element("ol", { class: "funnel" });
    this.failures = element("p", { class: "quiet failures" });
    this.actions = new Actions(session);
    this.measured = ""; // what the chart shows
    this.chart = element("div");
    this.node = element(
      "article",
      { class: "card" },
      element("h2", {}, element("a", { href: `#/run/${encodeURIComponent(run.id)}` }, this.name)),
      this.state,
      element(
        "div",
        { class: "body" },
        element("div", {}, this.where, this.why, this.progress, this.stats, this.funnel, this.failures),
        this.chart,
      ),
      this.actions.node,
    );
  }

  show(run, now, rounds) {
    say(this.name, nameOf(run));
    keepState(this.state, run);
    const phase = phaseOf(run, now);
    const pace = run.rounds_per_hour === null ? "" : `${paceOf(run)} an hour`;
    say(this.where, [`Round ${count(run.round)} of ${count(run.rounds)}`, pace, phase].filter(Boolean).join(" · "));
    say(this.why.firstChild, run.why);
    this.why.hidden = !run.why;
    put(this.progress, "aria-valuemax", run.rounds);
    put(this.progress, "aria-valuenow", run.round);
    fill(this.progress.firstChild, run.round / Math.max(1, run.rounds));
    keepStats(this.stats, statsOf(run).filter(({ key }) => key !== "pace"));
    keepFunnel(this.funnel, run);
    const many = run.failures.reduce((sum, { count: some }) => sum + some, 0);
    const most = run.failures[0];
    say(this.failures, many ? `${count(many, "failure")} so far, most often: ${apart(most.reason)} (${count(most.count)})` : "No failures so far.");
    this.actions.show(run);
    this.draw(run, rounds);
  }

  /** The measure by which the run is judged, round by round. */
  draw(run, rounds) {
    const linesOf = (name) => [
      { name: "evaluation", look: 0, points: tested(rounds, name) },
      { name: "training", look: 1, points: trained(rounds, name), faint: true },
    ];
    const recorded = (name) => linesOf(name).some(({ points }) => points.some(([, value]) => value !== null));
    const name = [headline(run.metrics), "loss"].find((each) => each !== null && recorded(each));
    this.chart.hidden = name === undefined;
    if (this.chart.hidden) return;
    if (this.measured !== name) {
      this.measured = name;
      this.drawing = new Chart(title(name), (value) => metric(name, value), (value) => tick(name, value));
      this.chart.replaceChildren(this.drawing.node);
    }
    this.drawing.show(linesOf(name));
  }
}
