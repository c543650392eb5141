// One run: its round, its curves, what failed, what is promised, and the plan with its signature.

import { Actions } from "./actions.js";
import { Chart } from "./chart.js";
import { columnsOf, tested, trained } from "./details.js";
import { element, fill, keep, keepRows, keepStats, put, say, table } from "./elements.js";
import { keepFunnel, keepReasons, phaseOf } from "./funnel.js";
import { budgetOf, keepState, statsOf } from "./overview.js";
import { atMost, count, duration, goesOn, grouping, metric, nameOf, number, size, tick, title } from "./words.js";

const ROUNDS = 100; // the last, in the table

export class Run {
  constructor(root, session, details) {
    this.details = details;
    this.charts = new Map();
    this.shown = null;
    this.name = element("bdi");
    this.state = element("span");
    this.why = element("p", { class: "note" });
    this.privacy = element("p", { class: "lead" });
    this.stats = element("dl", { class: "stats" });
    this.actions = new Actions(session);
    this.compare = element("a");
    this.report = element("a", { hidden: true }, "Report");
    this.phase = element("p");
    this.funnel = element("ol", { class: "funnel" });
    this.curves = element("div", { class: "trio" });
    this.missing = element("p", { class: "absent" });
    this.failures = element("ul", { class: "funnel wide-names" });
    this.noFailures = element("p", { class: "absent" }, "Nothing has failed.");
    this.budget = element("p");
    this.meter = element("div", { class: "progress", role: "meter", "aria-label": "Privacy budget", "aria-valuemin": "0" }, element("i"));
    this.sentences = element("ul", { class: "sentences" });
    this.signed = element("p");
    this.key = element("code", { class: "key" });
    this.document = element("pre", { tabindex: "0", "aria-label": "Plan document" });
    this.rounds = table(["Round", "Loss", "Evaluation", "In the sum", "From devices", "Time", "ε so far"], "numbers");
    this.note = element("p", { class: "quiet" });
    const section = (name, ...inside) => element("section", {}, element("h2", {}, name), ...inside);
    const folded = (name, ...inside) => element("details", {}, element("summary", {}, name), ...inside);
    root.append(
      element("p", { class: "back" }, element("a", { href: "#/" }, "← All runs")),
      element("h1", {}, this.name),
      element("p", { class: "badges" }, this.state, this.compare, this.report),
      this.why,
      this.privacy,
      this.actions.node,
      this.stats,
      section("Devices, by stage", this.phase, this.funnel),
      section("Round by round", this.missing, this.curves, folded("The numbers", this.note, this.rounds.node)),
      section("Failures", this.noFailures, this.failures),
      section("Privacy", this.budget, this.meter, this.sentences),
      section("Plan", this.signed, this.key, folded("The document", this.document)),
    );
  }

  show(run, now) {
    if (this.shown !== run.id) {
      this.shown = run.id;
      this.charts.clear();
      this.curves.replaceChildren();
      this.actions.refuse("");
    }
    say(this.name, nameOf(run));
    keepState(this.state, run);
    put(this.compare, "href", `#/compare/${encodeURIComponent(run.id)}`);
    say(this.compare, "Compare with others");
    say(this.why, run.why);
    this.why.hidden = !run.why;
    put(this.why, "class", run.state === "failed" ? "note alarm" : "note");
    say(this.privacy, run.privacy);
    this.actions.show(run);
    const rounds = { key: "round", label: "Round", value: count(run.round), note: `of ${count(run.rounds)}` };
    keepStats(this.stats, [rounds, ...statsOf(run)]);
    const phase = phaseOf(run, now);
    say(this.phase, phase ? `Round ${count(run.round)}: ${phase}.` : goesOn(run) ? "No round is open." : `This was round ${count(run.round)}.`);
    keepFunnel(this.funnel, run);
    this.noFailures.hidden = run.failures.length > 0;
    keepReasons(this.failures, run.failures);
    this.showBudget(run);
    this.showSignature(run);
    this.showDetail(run);
  }

  showBudget(run) {
    const { value, note, share } = budgetOf(run);
    const delta = run.delta === null ? "" : `, at δ = ${number(run.delta)}`;
    say(this.budget, value === "–" ? "This plan has no privacy budget." : `ε = ${value} ${note}${delta}.`);
    this.meter.hidden = share === null;
    fill(this.meter.firstChild, share ?? 0);
    put(this.meter, "class", share > 0.9 ? "progress scarce" : "progress");
    put(this.meter, "aria-valuemax", run.epsilon);
    put(this.meter, "aria-valuenow", run.epsilon_spent);
  }

  showSignature(run) {
    const words = run.signed
      ? "Signed by its author. Every device checks the signature itself, against the keys that its owner trusts. The author's key:"
      : run.author
        ? "The signature does not fit this document. No device will run it. The key that was given:"
        : "Nobody has signed this plan: only devices that ask for no signature run it.";
    say(this.signed, words);
    put(this.signed, "class", run.signed ? null : "note alarm");
    say(this.key, grouping(run.author));
    this.key.hidden = !run.author;
  }

  showDetail(run) {
    const { detail, why } = this.details.of(run);
    const rounds = detail?.rounds ?? [];
    say(this.missing, detail ? (rounds.length ? "" : "No round is recorded yet.") : why || "Asking for the rounds …");
    this.missing.hidden = !this.missing.textContent;
    this.curves.hidden = !rounds.length;
    if (!detail) return;
    keep(this.sentences, detail.sentences, (text) => text, () => element("li"), say);
    const text = indented(detail.document);
    say(this.document, text);
    const report = detail.report?.startsWith("/") && !detail.report.startsWith("//") ? detail.report : null;
    this.report.hidden = report === null;
    put(this.report, "href", report);
    if (rounds.length) this.showCurves(run, rounds);
    this.showRounds(rounds);
  }

  showCurves(run, rounds) {
    for (const name of columnsOf(rounds)) {
      const series = [
        { name: "evaluation", look: 0, points: tested(rounds, name) },
        { name: "training", look: 1, points: trained(rounds, name), faint: true },
      ];
      this.chart(name, title(name), (value) => metric(name, value), (value) => tick(name, value)).show(series);
    }
    const spent = rounds.filter(({ epsilon }) => epsilon !== null && epsilon !== undefined).map(({ round, epsilon }) => [round, epsilon]);
    if (spent.length) {
      const limit = run.epsilon === null ? null : { name: "budget", value: run.epsilon };
      this.chart("\0epsilon", "Privacy spent (ε)", number).show([{ name: "spent", look: 0, points: spent }], { limit, low: 0 });
    }
    const asked = rounds.map(({ round, sampled }) => [round, sampled]);
    const summed = rounds.map(({ round, clients }) => [round, clients]);
    const devices = [
      { name: "in the sum", look: 0, points: summed },
      { name: "asked", look: 1, points: asked, faint: true },
    ];
    this.chart("\0devices", "Devices", number).show(devices, { low: 0 });
    const times = rounds.map(({ round, seconds }) => [round, seconds]);
    this.chart("\0seconds", "Seconds a round", number).show([{ name: "seconds", look: 0, points: times }], { low: 0 });
  }

  chart(key, name, format, ticks = format) {
    if (!this.charts.has(key)) {
      const chart = new Chart(name, format, ticks);
      this.charts.set(key, chart);
      this.curves.append(chart.node);
    }
    return this.charts.get(key);
  }

  showRounds(rounds) {
    const last = rounds.slice(-ROUNDS).reverse();
    say(this.note, rounds.length > ROUNDS ? `The last ${ROUNDS} of ${count(rounds.length, "round")}.` : "");
    keepRows(
      this.rounds.body,
      last.map((row) => {
        const evaluation = Object.entries(row.test).map(([name, value]) => `${title(name)} ${metric(name, value)}`);
        const sum = row.aborted ? `none: ${row.aborted}` : `${count(row.clients)} of ${count(row.sampled)}`;
        const cells = [count(row.round), number(row.loss), evaluation.join(", ") || "–", sum, size(row.bytes_up), duration(row.seconds), atMost(row.epsilon)];
        return { key: row.round, cells, marked: row.aborted ? "aborted" : "" };
      }),
    );
  }
}

function indented(document) {
  try {
    return JSON.stringify(JSON.parse(document), null, 2);
  } catch {
    return document;
  }
}
