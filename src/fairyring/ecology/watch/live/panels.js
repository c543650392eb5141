// What is beside the world: what they inherit, and one life.

import { number } from "./course.js";

/** Of each kind of mind: what is seen here, and the title and the caption of what they inherit. */
export const WORDS = {
  table: [
    "Each is born with a small table: for what it senses, how likely it then is to tumble. Nothing is learnt in a life, " +
      "and nobody says what is good. Tables are copied at division, with mistakes. What you see is what lasted.",
    "The table they inherit",
    "Chance of a tumble in a step: mean over all alive, ± their standard deviation. " +
      "Down: how much food there is. Across: how it changes.",
  ],
  rewards: [
    "Each learns while it lives, from rewards it was born with. Nobody wrote the rewards: they are copied at division, " +
      "with mistakes. What you see is what lasted.",
    "The rewards they inherit",
    "What an event is worth: mean over all alive, in units of reward; the thin line is ± one standard deviation between them. " +
      "“dummy” happens at random and means nothing: it shows how far a reward drifts by itself.",
  ],
};

export const element = (name, fields = {}, ...children) => {
  const made = Object.assign(document.createElement(name), fields);
  made.append(...children);
  return made;
};

/** Fill `into` with a table of probabilities as a heat map, or of rewards as signed bars; in place where it can. */
export function drawMind(into, mind, { mean, spread = null, small = false }) {
  const shape = JSON.stringify([mind.kind, mind.rows, mind.columns, small]);
  if (into.dataset.shape !== shape) {
    into.replaceChildren(...(mind.kind === "table" ? heat(mind, small) : bars(mind)));
    into.dataset.shape = shape;
  }
  const cells = into.querySelectorAll("td[data-cell]");
  if (mind.kind === "table") {
    cells.forEach((cell, i) => {
      const known = Number.isFinite(mean[i]);
      cell.style.setProperty("--p", known ? Math.min(1, Math.max(0, mean[i])) : 0);
      cell.classList.toggle("warm", mean[i] > 0.5);
      cell.children[0].textContent = known ? mean[i].toFixed(2) : "–";
      if (cell.children[1]) cell.children[1].textContent = known ? `± ${spread[i].toFixed(2)}` : "";
    });
    return;
  }
  const most = Math.max(1, ...mean.map((v, i) => Math.abs(v) + (spread ? spread[i] : 0)).filter(Number.isFinite));
  cells.forEach((cell, i) => {
    const value = Number.isFinite(mean[i]) ? mean[i] : 0;
    const [bar, error] = cell.firstChild.children;
    stretch(bar, Math.min(0, value) / most, Math.abs(value) / most);
    bar.classList.toggle("minus", value < 0);
    if (spread) stretch(error, (value - spread[i]) / most, (2 * spread[i]) / most);
    else error.hidden = true;
    cell.nextSibling.textContent = (value < 0 ? "−" : "+") + Math.abs(value).toFixed(2);
  });
}

function stretch(bar, from, long) {
  bar.style.setProperty("--from", from);
  bar.style.setProperty("--long", long);
}

function heat(mind, small) {
  const head = element("tr", {}, element("td"));
  head.append(...mind.columns.map((name) => element("th", { scope: "col", textContent: name })));
  const body = mind.rows.map((name) => {
    const row = element("tr", {}, element("th", { scope: "row", textContent: name }));
    for (const _ of mind.columns) {
      const cell = element("td", {}, element("b"), ...(small ? [] : [element("small")]));
      cell.dataset.cell = "";
      row.append(cell);
    }
    return row;
  });
  const table = element("table", { className: small ? "heat small" : "heat" });
  table.append(element("thead", {}, head), element("tbody", {}, ...body));
  table.setAttribute("aria-label", "Chance of a tumble by how much food there is, down, and how it changes, across");
  if (small) return [table];
  const scale = element("p", { className: "heat-scale quiet" });
  scale.append("0: runs", element("i"), "1: tumbles");
  return [table, scale];
}

function bars(mind) {
  const body = mind.rows.map((name) => {
    const bar = element("span", { className: "bar" }, element("i"), element("s"));
    const cell = element("td", {}, bar);
    cell.dataset.cell = "";
    return element("tr", {}, element("th", { scope: "row", textContent: name }), cell, element("td"));
  });
  const table = element("table", { className: "bars" }, element("tbody", {}, ...body));
  table.setAttribute("aria-label", "What each event is worth to them");
  return [table];
}

/** The two contrasts of a table, each `[name, value, what it means]`: empty of anything else. */
export function contrasts(mind) {
  if (mind.kind !== "table" || mind.columns.length !== 3 || mind.rows.length !== 3) return [];
  const of = (cells) => cells.reduce((sum, cell) => sum + mind.mean[cell], 0) / 3;
  const signed = (value) => (Number.isFinite(value) ? (value < 0 ? "−" : "+") + Math.abs(value).toFixed(2) : "–");
  return [
    ["falling − rising", signed(of([0, 3, 6]) - of([2, 5, 8])), "+: as E. coli"],
    [`${mind.rows[2]} − ${mind.rows[0]}`, signed(of([6, 7, 8]) - of([0, 1, 2])), "+: stays at food"],
  ];
}

/** The words of one life; `watch(uid)` is called when an ancestor is clicked. */
export function sayLife(life, step, watch) {
  const age = (life.died ?? step) - life.born;
  const origin = {
    founder: "It was there in the beginning.",
    immigrant: "It came in because few were left.",
    born: `Its line began with ${number(life.founder)}.`,
  }[life.origin];
  const state = life.died === null ? "It is alive." : `It died at step ${number(life.died)}, ${number(age)} steps old.`;
  const link = (uid) =>
    element("button", { type: "button", className: "link", textContent: number(uid), onclick: () => watch(uid) });
  const line = life.ancestors.slice(0, 4);
  const rest = life.forebears - line.length;
  return {
    says: `${state} ${origin}`,
    age: `${number(age)} steps, since step ${number(life.born)}`,
    generation: number(life.generation),
    offspring: number(life.offspring),
    ancestors: line.length
      ? [...line.flatMap((uid, i) => [i ? ", " : "", link(uid)]), rest > 0 ? ` and ${number(rest)} more` : ""]
      : ["none"],
  };
}
