// Small line charts that change in place. Lines differ in colour, in dashes and in the mark at their end, so none rests on colour alone.

import { drawn, element, keep, put, say } from "./elements.js";
import { count } from "./words.js";

const HEIGHT = 168;
const TOP = 12;
const BOTTOM = 22;
const LETTER = 6.3; // pixels of a figure at the size of the ticks
export const LOOKS = 6; // that page.css has
const MARKS = ["M-3 0a3 3 0 1 0 6 0a3 3 0 1 0-6 0", "M-3-3h6v6h-6z", "M0-4l4 7h-8z", "M0-4l4 4-4 4-4-4z", "M0 4l4-7h-8z", "M-3-3l6 6M3-3l-6 6"];
let charts = 0;

/** A chart of values by round: `node` is its figure. */
export class Chart {
  constructor(title, format, tick = format) {
    this.format = format;
    this.tick = tick;
    this.title = title;
    this.data = null;
    this.seen = "";
    this.at = null; // the round that is pointed at
    const id = `chart-${++charts}`;
    this.head = element("h3", { id }, title);
    this.reading = element("output", { class: "reading" });
    this.drawing = drawn("svg", { role: "img", tabindex: "0", height: HEIGHT });
    this.legend = element("ul", { class: "legend" });
    this.node = element("figure", { "aria-labelledby": id }, this.head, this.drawing, element("figcaption", {}, this.legend, this.reading));
    this.drawing.addEventListener("pointermove", ({ offsetX }) => this.point(this.roundAt(offsetX)));
    this.drawing.addEventListener("pointerleave", () => this.point(null));
    this.drawing.addEventListener("blur", () => this.point(null));
    this.drawing.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.draw()).observe(this.drawing);
  }

  /** Show series `{ name, look, points: [[round, value or null]], faint }`; `limit` is a value to compare with, and its name; `low` a value to
   * begin at. */
  show(series, { limit = null, low = Infinity } = {}) {
    const data = { series: series.filter(({ points }) => points.some(([, value]) => value !== null)), limit, low };
    const seen = JSON.stringify(data);
    if (seen === this.seen) return;
    this.seen = seen;
    this.data = data;
    this.draw();
  }

  draw() {
    const wide = this.drawing.clientWidth;
    if (!this.data || !wide) return;
    const { series, limit, low: floor } = this.data;
    const rounds = series.flatMap(({ points }) => points.map(([round]) => round));
    const values = series.flatMap(({ points }) => points.map(([, value]) => value)).filter((value) => value !== null);
    put(this.drawing, "viewBox", `0 0 ${wide} ${HEIGHT}`);
    if (!values.length) {
      this.drawing.replaceChildren();
      say(this.reading, "Nothing is recorded yet.");
      return;
    }
    const ticks = ticksOf(Math.min(...least(values), limit?.value ?? Infinity, floor ?? Infinity), Math.max(...most(values), limit?.value ?? -Infinity));
    const labels = ticks.map((value) => this.tick(value));
    const left = 8 + LETTER * Math.max(...labels.map((label) => label.length));
    const [low, high] = [ticks[0], ticks.at(-1)];
    const first = Math.min(...least(rounds));
    const end = Math.max(...most(rounds), first + 1);
    this.scale = {
      left,
      wide,
      first,
      end,
      x: (round) => left + ((wide - left - 8) * (round - first)) / (end - first),
      y: (value) => TOP + ((HEIGHT - TOP - BOTTOM) * (high - value)) / (high - low),
    };
    const { x, y } = this.scale;
    const parts = [];
    ticks.forEach((value, place) => {
      parts.push(drawn("line", { class: "rule", x1: left, x2: wide, y1: y(value), y2: y(value) }));
      parts.push(drawn("text", { x: left - 6, y: y(value) + 3.5, "text-anchor": "end" }, labels[place]));
    });
    parts.push(drawn("text", { x: left, y: HEIGHT - 5 }, `round ${count(first)}`));
    if (rounds.some((round) => round > first)) parts.push(drawn("text", { x: wide - 1, y: HEIGHT - 5, "text-anchor": "end" }, count(end)));
    if (limit) parts.push(drawn("line", { class: "limit", x1: left, x2: wide, y1: y(limit.value), y2: y(limit.value) }));
    for (const { points, look, faint } of series) {
      const kind = `line look-${look % LOOKS}${faint ? " faint" : ""}`;
      parts.push(drawn("path", { class: kind, d: path(thinned(points, wide), x, y) }));
      const tip = points.findLast(([, value]) => value !== null);
      if (!faint) parts.push(drawn("path", { class: `mark look-${look % LOOKS}`, d: MARKS[look % LOOKS], transform: `translate(${x(tip[0])} ${y(tip[1])})` }));
    }
    this.cursor = drawn("line", { class: "cursor", y1: TOP, y2: HEIGHT - BOTTOM, visibility: "hidden" });
    this.drawing.replaceChildren(...parts, this.cursor);
    this.showLegend(limit);
    this.point(this.at);
  }

  showLegend(limit) {
    const names = this.data.series.map(({ name, look, faint }) => ({ name, kind: `line look-${look % LOOKS}${faint ? " faint" : ""}` }));
    if (limit) names.push({ name: limit.name, kind: "limit", value: this.format(limit.value) });
    keep(
      this.legend,
      names,
      ({ name, kind }) => `${kind} ${name}`,
      ({ name, kind }) =>
        element("li", {}, drawn("svg", { width: 24, height: 8, "aria-hidden": "true" }, drawn("path", { class: kind, d: "M0 4H24" })), element("bdi", {}, name), element("b")),
      (node, { value }) => value && say(node.lastChild, value),
    );
    this.legend.hidden = names.length < 2;
  }

  roundAt(offset) {
    if (!this.scale) return null;
    const { left, wide, first, end } = this.scale;
    return Math.round(Math.min(end, Math.max(first, first + ((offset - left) / (wide - left - 8)) * (end - first))));
  }

  key(event) {
    if (!this.scale || !["ArrowLeft", "ArrowRight", "Home", "End", "Escape"].includes(event.key)) return;
    event.preventDefault();
    const { first, end } = this.scale;
    const known = this.data.series.flatMap(({ points }) => points.filter(([, value]) => value !== null).map(([round]) => round));
    const last = Math.max(...most(known));
    const at = this.at ?? (event.key === "ArrowRight" ? first - 1 : last + 1);
    const next = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: first, End: last, Escape: null }[event.key];
    this.point(next === null ? null : Math.min(end, Math.max(first, next)));
  }

  /** Read the values at a round, or the last ones. */
  point(round) {
    this.at = round;
    if (!this.data?.series.length || !this.scale) return;
    const found = this.data.series.map(({ name, points }) => {
      const point = round === null ? points.findLast(([, value]) => value !== null) : points.findLast(([at, value]) => at <= round && value !== null);
      return { name, point };
    });
    const values = found.map(({ name, point }) => ({ name, value: point ? this.format(point[1]) : "–" }));
    const ends = new Set(found.map(({ point }) => point?.[0]));
    const where = round === null && ends.size > 1 ? "The last of each" : `Round ${count(round ?? [...ends][0])}`;
    const alone = this.legend.hidden;
    say(this.reading, alone ? `${where}: ${values[0].value}` : where);
    // The lines come first in the legend, in the order of the series; a limit follows.
    if (!alone) values.forEach(({ value }, place) => say(this.legend.children[place].lastChild, value));
    put(this.drawing, "aria-label", `${this.title}. ${where}: ${values.map(({ name, value }) => `${name} ${value}`).join(", ")}`);
    if (!this.cursor) return;
    put(this.cursor, "visibility", round === null ? "hidden" : "visible");
    if (round !== null) for (const side of ["x1", "x2"]) put(this.cursor, side, this.scale.x(round));
  }
}

/** Two to four round numbers that span a range. */
export function ticksOf(low, high) {
  const span = high - low || Math.abs(high) || 1;
  const rough = span / 2.5;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 2.5, 5, 10].find((factor) => factor * power >= rough * 0.999) ?? 10);
  const first = Math.floor(low / step + 1e-9);
  const last = Math.max(first + 1, Math.ceil(high / step - 1e-9));
  return Array.from({ length: last - first + 1 }, (_, place) => Number(((first + place) * step).toPrecision(12)));
}

/** The points of a line with at most a few in a pixel: the least and the largest of each stretch. */
export function thinned(points, wide) {
  const stretch = Math.ceil(points.length / wide);
  if (stretch < 3) return points;
  const kept = [];
  for (let from = 0; from < points.length; from += stretch) {
    const part = points.slice(from, from + stretch).filter(([, value]) => value !== null);
    if (!part.length) {
      kept.push(points[from]);
      continue;
    }
    const low = part.reduce((a, b) => (b[1] < a[1] ? b : a));
    const high = part.reduce((a, b) => (b[1] > a[1] ? b : a));
    kept.push(...(low[0] <= high[0] ? [low, high] : [high, low]));
  }
  return kept;
}

function path(points, x, y) {
  let text = "";
  points.forEach(([round, value], place) => {
    if (value === null) return;
    const begins = place === 0 || points[place - 1][1] === null;
    text += `${begins ? "M" : "L"}${x(round).toFixed(1)} ${y(value).toFixed(1)}`;
    // A point by itself is a line of no length, which round ends make a dot.
    if (begins && (place + 1 === points.length || points[place + 1][1] === null)) text += "h0";
  });
  return text;
}

// Spreading an array of any length over arguments would overflow the stack.
const least = (values) => [values.reduce((a, b) => Math.min(a, b), Infinity)];
const most = (values) => [values.reduce((a, b) => Math.max(a, b), -Infinity)];
