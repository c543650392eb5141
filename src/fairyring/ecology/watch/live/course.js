// The course of the world: the same points and the same thinning as history.py, and small curves of them.

const MOST = 512;
const BINS = 72;
// Made once: a formatter takes much longer to make than to use.
const SHORT = [0, 1, 2, 3].map((digits) => new Intl.NumberFormat("en", { maximumFractionDigits: digits }));

export class Course {
  constructor() {
    this.begin([], 1);
  }

  /** `points` are `[step, population, food, signal, births, deaths, immigrants]`, the last three in all. */
  begin(points, gap) {
    this.points = points;
    this.gap = gap;
    const last = points.at(-1);
    this.sums = last ? last.slice(4) : [0, 0, 0];
    this.now = last || null;
  }

  add(frame) {
    this.sums = [this.sums[0] + frame.births, this.sums[1] + frame.deaths, this.sums[2] + frame.immigrants];
    this.now = [frame.step, frame.population, frame.foodInAll, frame.signalInAll, ...this.sums];
    const last = this.points.at(-1);
    if (last && frame.step < last[0] + this.gap) return;
    this.points.push(this.now);
    if (this.points.length >= MOST) {
      this.points = this.points.filter((_, i) => i % 2 === 0);
      this.gap *= 2;
    }
  }

  steps() {
    return this.points.map((point) => point[0]);
  }

  values(column) {
    return this.points.map((point) => point[column]);
  }

  /** Births, deaths and immigrants a step, in equal stretches of time; `at` are their middles. */
  rates() {
    const { points } = this;
    if (points.length < 2) return { at: [], rates: [[], [], []] };
    const from = points[0][0];
    const to = points.at(-1)[0];
    const bins = Math.min(BINS, points.length - 1);
    const edges = Array.from({ length: bins + 1 }, (_, i) => from + ((to - from) * i) / bins);
    const rates = [4, 5, 6].map((column) => {
      let j = 0;
      const sums = edges.map((edge) => {
        while (j < points.length - 2 && points[j + 1][0] < edge) j++;
        const [a, b] = [points[j], points[j + 1]];
        return a[column] + ((b[column] - a[column]) * (edge - a[0])) / Math.max(1, b[0] - a[0]);
      });
      return sums.slice(1).map((sum, i) => Math.max(0, sum - sums[i]) / Math.max(1e-9, edges[i + 1] - edges[i]));
    });
    return { at: edges.slice(1).map((edge, i) => (edge + edges[i]) / 2), rates };
  }
}

/** Draw curves over the same xs, from 0 up to the largest, which is written. Series: `{ values, colour, fill, dashed }`. */
export function plot(canvas, xs, series, { lines = [], top = 0, unit = "" } = {}) {
  const sharp = Math.min(2, window.devicePixelRatio || 1);
  const wide = Math.round(canvas.clientWidth * sharp);
  const high = Math.round(canvas.clientHeight * sharp);
  if (!wide || !high) return;
  if (canvas.width !== wide || canvas.height !== high) {
    canvas.width = wide;
    canvas.height = high;
  }
  const pen = canvas.getContext("2d");
  const style = getComputedStyle(canvas);
  const quiet = style.getPropertyValue("--quiet");
  const line = style.getPropertyValue("--line");
  pen.clearRect(0, 0, wide, high);
  const most = Math.max(top, ...series.flatMap(({ values }) => values.filter(Number.isFinite)), 1e-9);
  const base = high - 1.5 * sharp;
  const room = base - 14 * sharp; // the largest value is written above
  const up = (value) => base - (room * value) / most;
  const from = xs[0];
  const span = Math.max(1e-9, xs.at(-1) - from);
  const over = (x) => ((x - from) / span) * wide;
  pen.lineWidth = sharp;
  for (const value of [0, ...lines]) {
    pen.strokeStyle = line;
    pen.beginPath();
    pen.moveTo(0, up(value));
    pen.lineTo(wide, up(value));
    pen.stroke();
  }
  if (xs.length > 1) {
    for (const { values, colour, fill, dashed } of series) {
      const ink = style.getPropertyValue(colour);
      pen.beginPath();
      values.forEach((value, i) => pen.lineTo(over(xs[i]), up(value)));
      pen.strokeStyle = ink;
      pen.lineWidth = 1.5 * sharp;
      pen.lineJoin = "round";
      pen.setLineDash(dashed ? [4 * sharp, 2.5 * sharp] : []);
      pen.stroke();
      pen.setLineDash([]);
      if (fill) {
        pen.lineTo(wide, base);
        pen.lineTo(0, base);
        pen.globalAlpha = 0.14;
        pen.fillStyle = ink;
        pen.fill();
        pen.globalAlpha = 1;
      }
    }
  }
  pen.fillStyle = quiet;
  pen.font = `${10.5 * sharp}px ${style.fontFamily}`;
  pen.textBaseline = "top";
  pen.fillText(`${number(most)} ${unit}`, 2 * sharp, 1 * sharp);
}

/** A number as short as it can be read: 12,480; 3.2; 0.041. */
export function number(value) {
  if (!Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  const digits = size >= 100 || size === 0 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3;
  return SHORT[digits].format(value);
}
