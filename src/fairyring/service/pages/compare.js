// Runs beside each other: their curves in one chart for each measure, and their settings, those that differ first.

import { Chart, LOOKS } from "./chart.js";
import { columnsOf, own, tested, trained } from "./details.js";
import { element, keep, keepRows, put, say, table } from "./elements.js";
import { atMost, count, duration, headline, metric, nameOf, number, size, stateOf, tick, title } from "./words.js";

const SHORT = 28; // characters of a name in a legend

export class Compare {
  constructor(root, details) {
    this.details = details;
    this.chosen = [];
    this.looks = new Map(); // a run keeps its line while others come and go
    this.charts = new Map();
    this.list = element("div", { class: "choices" });
    this.says = element("p", { class: "absent", role: "status" });
    this.curves = element("div", { class: "pair" });
    this.ends = table([], "beside");
    this.differ = table([], "beside");
    this.same = table(["Setting", "Value"], "beside");
    this.sameSays = element("summary");
    this.parts = element(
      "div",
      {},
      this.curves,
      element("section", {}, element("h2", {}, "Where they are"), this.ends.node),
      element("section", {}, element("h2", {}, "Where their plans differ"), this.differ.node, element("details", {}, this.sameSays, this.same.node)),
    );
    const choose = element("fieldset", {}, element("legend", {}, `Runs, at most ${LOOKS}`), this.list);
    root.append(element("h1", {}, "Compare"), choose, this.says, this.parts);
  }

  /** Choose runs, by what stands in the address. */
  choose(ids) {
    this.chosen = ids.slice(0, LOOKS);
  }

  show({ runs }) {
    this.choices(runs);
    const chosen = this.chosen.map((id) => runs.find((run) => run.id === id)).filter(Boolean);
    for (const id of [...this.looks.keys()]) if (!chosen.some((run) => run.id === id)) this.looks.delete(id);
    for (const { id } of chosen) if (!this.looks.has(id)) this.looks.set(id, this.free());
    const found = chosen.map((run) => ({ run, label: this.label(run, chosen), look: this.looks.get(run.id), ...this.details.of(run) }));
    const ready = found.filter(({ detail }) => detail);
    const why = found.find((one) => one.why)?.why;
    const words = chosen.length < 2 ? "Choose two or more runs." : why || (ready.length < found.length ? "Asking for their rounds …" : "");
    say(this.says, words);
    this.says.hidden = !words;
    this.parts.hidden = chosen.length < 2 || ready.length < 2;
    if (this.parts.hidden) return;
    this.showCurves(ready);
    this.showEnds(ready);
    this.showSettings(ready);
  }

  free() {
    const taken = new Set(this.looks.values());
    return [...Array(LOOKS).keys()].find((look) => !taken.has(look)) ?? 0;
  }

  /** A short name that no other chosen run has. */
  label(run, chosen) {
    const name = nameOf(run);
    const short = name.length > SHORT ? `${name.slice(0, SHORT - 1)}…` : name;
    const twins = chosen.filter((other) => nameOf(other).slice(0, SHORT - 1) === name.slice(0, SHORT - 1));
    return twins.length > 1 ? `${short} ${twins.indexOf(run) + 1}` : short;
  }

  choices(runs) {
    keep(
      this.list,
      runs,
      ({ id }) => id,
      ({ id }) => {
        const box = element("input", { type: "checkbox", on: { change: () => this.toggle(id, box.checked) } });
        return element("label", {}, box, element("bdi"), element("span", { class: "quiet" }));
      },
      (node, run) => {
        const [box, name, state] = node.children;
        const on = this.chosen.includes(run.id);
        if (box.checked !== on) box.checked = on;
        put(box, "disabled", !on && this.chosen.length >= LOOKS);
        say(name, nameOf(run));
        say(state, `${stateOf(run).words.toLowerCase()}, round ${count(run.round)}`);
      },
    );
  }

  toggle(id, on) {
    const chosen = on ? [...this.chosen, id] : this.chosen.filter((other) => other !== id);
    location.hash = `#/compare/${chosen.map(encodeURIComponent).join(",")}`;
  }

  showCurves(found) {
    const names = [...new Set(found.flatMap(({ detail }) => columnsOf(detail.rounds)))];
    const measures = names.map((name) => {
      const evaluated = found.some(({ detail }) => detail.rounds.some(({ test }) => Object.hasOwn(test, name)));
      const points = (rounds) => (evaluated ? tested(rounds, name) : trained(rounds, name));
      return { key: name, says: `${title(name)}, ${evaluated ? "evaluation" : "training"}`, format: (value) => metric(name, value), ticks: (value) => tick(name, value), points };
    });
    const spent = (rounds) => rounds.filter(({ epsilon }) => typeof epsilon === "number").map(({ round, epsilon }) => [round, epsilon]);
    if (found.some(({ detail }) => spent(detail.rounds).length)) measures.push({ key: "\0epsilon", says: "Privacy spent (ε)", format: number, points: spent });
    for (const { key, says, format, ticks, points } of measures) {
      const kind = `${key} ${says}`;
      if (!this.charts.has(kind)) this.charts.set(kind, new Chart(says, format, ticks));
      const series = found.map(({ label, look, detail }) => ({ name: label, look, points: points(detail.rounds) }));
      this.charts.get(kind).show(series);
    }
    const wanted = new Map(measures.map(({ key, says }) => [`${key} ${says}`, this.charts.get(`${key} ${says}`)]));
    for (const kind of [...this.charts.keys()]) if (!wanted.has(kind)) this.charts.delete(kind);
    keep(this.curves, [...wanted], ([kind]) => kind, ([, chart]) => chart.node, () => {});
  }

  showEnds(found) {
    headed(this.ends.head, ["", ...found.map(({ label }) => label)]);
    const row = (name, words) => ({ key: name, cells: [name, ...found.map(({ run }) => words(run))] });
    const judged = headline(found[0].run.metrics);
    keepRows(this.ends.body, [
      row("State", (run) => stateOf(run).words),
      row("Round", (run) => `${count(run.round)} of ${count(run.rounds)}`),
      row("Training loss", (run) => number(run.loss)),
      ...(judged ? [row(title(judged), (run) => metric(judged, own(run.metrics, judged)))] : []),
      row("ε spent", (run) => atMost(run.epsilon_spent)),
      row("From devices", (run) => size(run.bytes_up)),
      row("To devices", (run) => size(run.bytes_down)),
      row("Time", (run) => duration(run.seconds)),
    ]);
  }

  showSettings(found) {
    const settings = found.map(({ detail }) => flat(detail.document));
    const names = [...new Set(settings.flatMap((each) => [...each.keys()]))];
    const values = (name) => settings.map((each) => each.get(name) ?? "–");
    const differ = names.filter((name) => new Set(values(name)).size > 1);
    const same = names.filter((name) => !differ.includes(name));
    headed(this.differ.head, ["Setting", ...found.map(({ label }) => label)]);
    const rows = differ.map((name) => ({ key: name, cells: [name, ...values(name)] }));
    keepRows(this.differ.body, rows.length ? rows : [{ key: "\0none", cells: ["Nothing", ...found.map(() => "the same plan")] }]);
    say(this.sameSays, `${count(same.length, "setting")} in which they do not differ`);
    keepRows(this.same.body, same.map((name) => ({ key: name, cells: [name, values(name)[0]] })));
  }
}

function headed(row, names) {
  keep(
    row,
    names.map((name, place) => ({ name, place })),
    ({ place }) => place,
    () => element("th", { scope: "col" }, element("bdi")),
    (cell, { name }) => say(cell.firstChild, name),
  );
}

/** A document as dotted names with values in words. */
export function flat(document) {
  const found = new Map();
  const visit = (value, path) => {
    const list = Array.isArray(value);
    const inside = value !== null && typeof value === "object" ? Object.entries(value) : [];
    if (!inside.length) found.set(path, value === null ? "none" : typeof value === "object" ? "none" : `${value}`);
    else if (list && value.every((one) => one === null || typeof one !== "object")) found.set(path, value.join(", "));
    // A list of parts that each have one name, such as the stages of aggregation, is named by them: places move when one is put in.
    else for (const [name, inner] of inside) visit(list && single(inner) ? Object.values(inner)[0] : inner, dotted(path, list ? (single(inner) ?? name) : name));
  };
  try {
    visit(JSON.parse(document), "");
  } catch {
    found.set("document", document);
  }
  return found;
}

const single = (value) => (value !== null && typeof value === "object" && !Array.isArray(value) && Object.keys(value).length === 1 ? Object.keys(value)[0] : null);

const dotted = (path, name) => (path ? `${path}.${name}` : name);
