// Numbers as a person reads them, in the forms that reports have them in (records/units.py).

const SHARES = ["accuracy", "precision", "recall", "f1", "share", "top_5", "top5", "exact_match", "hamming"];
const ABBREVIATIONS = ["auc", "f1", "mae", "mse", "r2", "rmse"];
const UNKNOWN = "–";

const grouped = (text) => {
  const [whole, part] = text.split(".");
  const digits = whole.replace(/\B(?=(\d{3})+(?!\d))/g, ",");
  return part === undefined ? digits : `${digits}.${part}`;
};

/** At most four significant digits, thousands separated, no exponent for everyday sizes. */
export function number(value) {
  if (value === null || value === undefined) return UNKNOWN;
  const size = Math.abs(value);
  if (size && (size < 1e-3 || size >= 1e9)) return exponent(value);
  if (Number.isInteger(value)) return grouped(value.toFixed(0));
  const decimals = Math.max(0, 3 - Math.floor(Math.log10(size)));
  const text = grouped(value.toFixed(decimals));
  return text.includes(".") ? text.replace(/0+$/, "").replace(/\.$/, "") : text;
}

function exponent(value) {
  const [digits, power] = value.toExponential(2).split("e");
  const short = digits.includes(".") ? digits.replace(/0+$/, "").replace(/\.$/, "") : digits;
  const size = Math.abs(Number(power));
  return `${short}e${power.startsWith("-") ? "-" : "+"}${size < 10 ? "0" : ""}${size}`;
}

/** `1 round`, `1,437 rounds`. */
export function count(value, noun = "", plural = `${noun}s`) {
  const text = grouped(Math.round(value).toFixed(0));
  return noun ? `${text} ${value === 1 ? noun : plural}` : text;
}

/** Bytes: `812 B`, `3.4 MiB`. */
export function size(value) {
  let left = value;
  for (const unit of ["B", "KiB", "MiB", "GiB", "TiB"]) {
    if (Math.abs(left) < 1024 || unit === "TiB") return `${left.toFixed(unit === "B" || Math.abs(left) >= 100 ? 0 : 1)}\u00a0${unit}`;
    left /= 1024;
  }
  return UNKNOWN;
}

/** `0 s`, `41 s`, `3 min 05 s`, `2 h 10 min`, `3 d 4 h`. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return UNKNOWN;
  const total = Math.max(0, Math.round(seconds));
  const two = (part) => `${part}`.padStart(2, "0");
  if (total < 60) return `${total}\u00a0s`;
  if (total < 3600) return `${Math.floor(total / 60)}\u00a0min ${two(total % 60)}\u00a0s`;
  if (total < 86400) return `${Math.floor(total / 3600)}\u00a0h ${two(Math.floor((total % 3600) / 60))}\u00a0min`;
  return `${count(Math.floor(total / 86400))}\u00a0d ${Math.floor((total % 86400) / 3600)}\u00a0h`;
}

/** A metric's value: `94.6 %` for a share, `0.2312` for anything else. */
export function metric(name, value) {
  if (value === null || value === undefined) return UNKNOWN;
  return isShare(name) ? `${(100 * value).toFixed(1)}\u00a0%` : number(value);
}

/** The same beside a line of a chart, whose values are round. */
export const tick = (name, value) => (isShare(name) ? `${number(Number((100 * value).toPrecision(6)))}\u00a0%` : number(value));

export const isShare = (name) => SHARES.some((word) => name.toLowerCase().includes(word));

/** What a metric is called, at the beginning of a line. */
export function title(name) {
  const words = name.split("_").map((word) => (ABBREVIATIONS.includes(word) ? word.toUpperCase() : word));
  const text = words.join(" ");
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** The metric by which a run is judged: its accuracy, or the first; null of none. */
export function headline(metrics) {
  const names = Object.keys(metrics);
  return names.includes("accuracy") ? "accuracy" : (names[0] ?? null);
}

/** An upper bound, no less than 0, to four digits: rounded up so that it stays one. */
export function atMost(value) {
  if (value === null || value === undefined) return UNKNOWN;
  return rounded(value, true);
}

/** A lower bound to four digits, rounded down. */
export const atLeast = (value) => rounded(value, false);

/** By the decimal digits that the number is written with: arithmetic would miss some by their last bit. */
function rounded(value, up) {
  if (!value) return "0";
  const [mantissa, power] = value.toExponential().split("e");
  const all = mantissa.replace(".", "");
  const digits = value < 1e-3 ? 3 : 4; // that `number` writes
  const more = up && /[1-9]/.test(all.slice(digits)) ? 1 : 0;
  return number(Number(`${Number(all.slice(0, digits).padEnd(digits, "0")) + more}e${Number(power) - digits + 1}`));
}

const STATES = {
  queued: ["Queued", "○"],
  running: ["Running", "●"],
  paused: ["Paused", "‖"],
  finished: ["Finished", "✓"],
  cancelled: ["Cancelled", "×"],
  failed: ["Failed", "!"],
};
const OVER = ["finished", "cancelled", "failed"];

/** A run's state in words and as a sign; what an operator wants is said while it is not yet so. */
export function stateOf({ state, wanted }) {
  const [words, sign] = STATES[state] ?? [state, "·"];
  const coming = {
    pause: state !== "paused" && "Pausing",
    run: state === "paused" && "Going on",
    cancel: "Cancelling",
  }[goesOn({ state }) ? wanted : ""];
  return { words: coming ? `${coming} …` : words, sign, kind: STATES[state] ? state : "other" };
}

export const goesOn = ({ state }) => !OVER.includes(state);

/** A word of the protocol for people: `checked_in` is `checked in`. */
export const plain = (name) => name.replaceAll("_", " ");

/** A text of others within a sentence: it keeps its own direction, and turns nothing after it round. */
export const apart = (text) => `\u2068${text.replace(/[\u202a-\u202e\u2066-\u2069]/g, "")}\u2069`;

/** A run's name; its number if it has none. */
export const nameOf = (run) => run.name || run.id;

/** A time as a clock has it here, with the date if it was not today. */
export function clock(seconds) {
  const when = new Date(1000 * seconds);
  const today = new Date().toDateString() === when.toDateString();
  const parts = { hour: "2-digit", minute: "2-digit", hourCycle: "h23", ...(today ? {} : { day: "numeric", month: "short", year: "numeric" }) };
  return new Intl.DateTimeFormat("en-GB", parts).format(when);
}

/** A key in groups of eight, so that two can be compared by eye. */
export const grouping = (key) => key.match(/.{1,8}/gu)?.join(" ") ?? "";
