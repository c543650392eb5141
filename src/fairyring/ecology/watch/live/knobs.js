// The knobs of the world, by topic: sliders and choices that turn it while it runs, and those that take a new world.

import { number } from "./course.js";
import { element } from "./panels.js";

const EXPLAINED = {
  rho: "What one that pays no heed to food eats for what it spends. Below 1 the blind starve: only those who find food can last.",
  source_lifetime: "How long a patch of food stays before it appears elsewhere. Short: those who stay put lose.",
  emission_cost: "What it costs to emit once. At 0 the chemical is free.",
  mutation_rate: "How often an entry of what is inherited is changed at a division.",
  minimum: "When fewer are alive, random immigrants come in. At 0 the population can die out.",
  control: "Scrambled: children get random genomes. Blind: each gets what another one senses.",
};
const OPEN = "Most used";

/** `turn(name, value)` is called while a knob of the running world is moved; `planned(count)` when a new world is asked for. */
export class Knobs {
  constructor(into, turn, planned) {
    this.into = into;
    this.turn = turn;
    this.planned = planned;
    this.rows = new Map();
    this.changes = {}; // value by name, for the next world
  }

  show(knobs) {
    if (knobs.map((knob) => knob.name).join() !== [...this.rows.keys()].join()) {
      this.rows.clear();
      const groups = grouped(knobs);
      this.into.replaceChildren(...[...groups].map(([name, some]) => this.group(name, some)));
    }
    for (const knob of knobs) {
      const row = this.rows.get(knob.name);
      row.knob = knob;
      // What a hand is on is not moved under it.
      if (!row.held && !(knob.name in this.changes)) this.set(row, knob.value);
      this.label(row);
    }
  }

  /** Forget what was asked of a new world: it has begun. */
  begun() {
    this.changes = {};
    for (const row of this.rows.values()) this.set(row, row.knob.value);
    this.tell();
  }

  group(name, knobs) {
    const count = element("span", { className: "changed" });
    const made = element("details", { name: "knobs", open: name === OPEN }, element("summary", {}, name, count));
    made.append(...knobs.map((knob) => this.row(knob, count)));
    return made;
  }

  row(knob, count) {
    const id = `knob-${knob.name}`;
    const output = element("output", { htmlFor: id });
    const back = element("button", { type: "button", className: "link reset", textContent: "reset" });
    back.ariaLabel = `Reset ${knob.label}`;
    const input = knob.choices.length
      ? element("select", { id }, ...knob.choices.map((name, i) => element("option", { value: i, textContent: name })))
      : element("input", { type: "range", id, min: 0, max: 1000, step: 1 });
    const track = element("div", { className: "track" }, input);
    if (knob.name === "rho" && knob.low < 1 && knob.high > 1) {
      const one = element("span", { className: "one", title: "1" });
      one.style.setProperty("--one", position(knob, 1));
      track.append(one);
    }
    const range = element("p", { className: "range quiet", id: `${id}-says` }, element("span"), back);
    const label = element("label", { htmlFor: id }, element("span", { textContent: knob.label }), output);
    const made = element("div", { className: "knob" }, label, track, range);
    input.setAttribute("aria-describedby", range.id);
    if (EXPLAINED[knob.name]) {
      made.title = EXPLAINED[knob.name];
      const words = element("p", { className: "quiet", id: `${id}-means`, textContent: EXPLAINED[knob.name] });
      input.setAttribute("aria-describedby", `${words.id} ${range.id}`);
      made.append(words);
    }
    const row = { knob, input, output, back, range: range.firstChild, count, held: false, value: knob.value };
    this.rows.set(knob.name, row);
    const moved = () => {
      row.held = !knob.choices.length;
      this.change(row, knob.choices.length ? Number(input.value) : at(row.knob, input.value / 1000));
    };
    input.addEventListener("input", moved);
    input.addEventListener("change", () => (row.held = false));
    back.onclick = () => {
      this.set(row, row.knob.default);
      this.change(row, row.knob.default);
      input.focus();
    };
    return made;
  }

  change(row, value) {
    const { knob } = row;
    row.value = value;
    if (knob.new_world) {
      if (value === knob.value) delete this.changes[knob.name];
      else this.changes[knob.name] = value;
      this.tell();
    } else this.turn(knob.name, value);
    this.label(row);
  }

  set(row, value) {
    row.value = value;
    row.input.value = row.knob.choices.length ? value : position(row.knob, value) * 1000;
  }

  label(row) {
    const { knob, input, output, back, range, value } = row;
    const say = (v) => knob.choices[v] ?? number(v);
    output.textContent = `${say(value)} ${knob.choices.length ? "" : knob.unit}`.trim();
    if (!knob.choices.length) input.setAttribute("aria-valuetext", output.textContent);
    output.hidden = knob.choices.length > 0;
    const from = knob.choices.length ? "" : `${say(knob.low)} to ${say(knob.high)} · `;
    range.textContent = `${knob.new_world ? "new world · " : ""}${from}began with ${say(knob.default)}`;
    back.hidden = close(value, knob.default);
    const changed = [...this.rows.values()].filter((one) => one.count === row.count && !one.back.hidden).length;
    row.count.textContent = changed ? `${changed} changed` : "";
  }

  tell() {
    for (const row of this.rows.values()) this.label(row);
    this.planned(Object.keys(this.changes).length);
  }
}

function grouped(knobs) {
  const groups = new Map();
  for (const knob of knobs) groups.set(knob.group, [...(groups.get(knob.group) ?? []), knob]);
  return groups;
}

/** Values come back from the world in its own precision. */
function close(a, b) {
  return Math.abs(a - b) <= 1e-6 * Math.max(Math.abs(a), Math.abs(b));
}

function position({ low, high, log }, value) {
  const place = log ? Math.log(value / low) / Math.log(high / low) : (value - low) / (high - low);
  return Math.min(1, Math.max(0, place));
}

function at({ low, high, log, step, unit }, place) {
  const value = log ? low * (high / low) ** place : low + (high - low) * place;
  // Of what is not counted, three digits are more than a hand can set.
  const whole = step || (unit === "steps" && high >= 50 ? 1 : 0);
  const short = whole ? Math.round(value / whole) * whole : Number(value.toPrecision(3));
  return Math.min(high, Math.max(low, short));
}
