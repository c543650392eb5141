// The rounds and the plan of runs, asked for when there is something new in them.

import { ask } from "./session.js";

const GAP = 1000; // milliseconds between two questions about one run

/** Details by run; `changed(id)` is called when there are new ones. */
export class Details {
  constructor(changed) {
    this.changed = changed;
    this.known = new Map();
  }

  forget() {
    this.known.clear();
  }

  /** What is known of a run now: `{ detail, why }`; what is missing is asked for. */
  of(row) {
    const known = this.known.get(row.id) ?? { detail: null, why: "", stamp: "", asked: -Infinity, asking: false };
    this.known.set(row.id, known);
    const stamp = `${row.round} ${row.state} ${row.phase}`;
    if (known.stamp !== stamp && !known.asking && performance.now() - known.asked > GAP) void this.update(row, known, stamp);
    return known;
  }

  async update(row, known, stamp) {
    known.asking = true;
    known.asked = performance.now();
    const last = known.detail?.rounds.at(-1)?.round ?? 0;
    // A run that went back to a checkpoint has other rounds than those that are known.
    const after = last > row.round ? 0 : Math.max(0, last - 1);
    const { ok, body, why } = await ask(`/v1/runs/${encodeURIComponent(row.id)}?after=${after}`);
    known.asking = false;
    if (ok && body) {
      const first = body.rounds[0]?.round ?? Infinity;
      const kept = (known.detail?.rounds ?? []).filter(({ round }) => round <= after && round < first);
      known.detail = { ...body, rounds: [...kept, ...body.rounds] };
      known.stamp = stamp;
    }
    known.why = why;
    this.changed(row.id);
  }
}

/** What is drawn of rounds: names of columns with how a value of each is written, training and test apart. */
export function columnsOf(rounds) {
  const names = new Set(["loss"]);
  for (const { metrics, test } of rounds) for (const name of [...Object.keys(metrics), ...Object.keys(test)]) names.add(name);
  return [...names];
}

/** A value by a name that others chose, which may be one that every object has. */
export const own = (table, name) => (Object.hasOwn(table, name) ? table[name] : null);

export const trained = (rounds, name) => rounds.map((row) => [row.round, name === "loss" ? row.loss : own(row.metrics, name)]);

export const tested = (rounds, name) => rounds.filter(({ test }) => Object.hasOwn(test, name)).map(({ round, test }) => [round, test[name]]);
