// The owner's page: what the device does, in words, and the two things that its owner may do about it.

const $ = (id) => document.getElementById(id);
const EVERY = 2000; // milliseconds between two looks
const LONGEST = 8000;
const FIRST = 8; // entries of a list that are shown at once

let state = null;
let seen = 0; // when the device last answered
let busy = false;
const all = new Set(); // lists that are shown whole

function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Make the children of a list be one for each item; each is made of texts, so nothing in them is HTML. */
function keep(list, items, make) {
  items.forEach((item, place) => {
    const parts = make(item);
    const node = list.children[place] ?? list.appendChild(document.createElement("li"));
    const tags = parts.map(([tag]) => tag).join();
    if (node.dataset.tags !== tags) {
      node.replaceChildren(...parts.map(([tag]) => document.createElement(tag)));
      node.dataset.tags = tags;
    }
    parts.forEach(([, text, action], at) => {
      say(node.children[at], text);
      if (action) node.children[at].onclick = action;
    });
  });
  while (list.children.length > items.length) list.lastElementChild.remove();
}

const many = (number, one, more = `${one}s`) => `${number.toLocaleString("en")} ${number === 1 ? one : more}`;

function size(bytes) {
  if (bytes < 1000) return many(bytes, "byte");
  const [value, unit] = bytes < 1e6 ? [bytes / 1e3, "kB"] : bytes < 1e9 ? [bytes / 1e6, "MB"] : [bytes / 1e9, "GB"];
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ${unit}`;
}

const DAY = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "long", year: "numeric" });
const TIME = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
function day(seconds) {
  const when = new Date(1000 * seconds);
  const ago = new Date(Date.now() - 86_400_000);
  if (when.toDateString() === new Date().toDateString()) return "today";
  return when.toDateString() === ago.toDateString() ? "yesterday" : DAY.format(when);
}
const moment = (seconds) => `${day(seconds)}, ${TIME.format(new Date(1000 * seconds))}`;
/** A text of others within a sentence: it keeps its own direction, and turns nothing after it round. */
const apart = (text) => `\u2068${text.replace(/[\u202a-\u202e\u2066-\u2069]/g, "")}\u2069`;
const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

async function ask(path, content) {
  const options = { cache: "no-store", signal: AbortSignal.timeout(LONGEST) };
  if (content !== undefined) {
    options.method = "POST";
    options.headers = { "Content-Type": "application/json", "Fairyring-Intent": "owner" };
    options.body = JSON.stringify(content);
  }
  const answer = await fetch(path, options);
  const body = await answer.json().catch(() => null);
  if (answer.ok) return body;
  const told = body?.error;
  throw new Error(told ? `${apart(capital(told.what))}: ${apart(told.given)}. ${told.do}` : `The device refused (${answer.status}).`);
}

async function look() {
  try {
    state = await ask("state");
    seen = performance.now();
    show();
    $("banner").hidden = true;
  } catch {
    const old = seen ? ` What is shown is from ${TIME.format(new Date(Date.now() - (performance.now() - seen)))}.` : "";
    say($("banner"), `The device does not answer. Is it still running?${old}`);
    $("banner").hidden = false;
  }
}

async function act(path, content) {
  busy = true;
  for (const button of document.querySelectorAll("main button")) button.disabled = true;
  let answer = null;
  try {
    answer = await ask(path, content);
    $("refused-now").hidden = true;
  } catch (error) {
    say($("refused-now"), error.name === "Error" ? error.message : "The device does not answer. Nothing was changed, as far as is known.");
    $("refused-now").hidden = false;
  }
  busy = false;
  for (const button of document.querySelectorAll("main button")) button.disabled = false;
  await look();
  return answer;
}

function show() {
  $("whole").hidden = false;
  say($("name"), state.name || "This device");
  say($("device"), `· key ${state.device}`);
  const off = "It takes part in nothing, and nothing leaves it.";
  say($("headline"), state.on ? "This device takes part in learning" : "This device is switched off");
  $("switch").setAttribute("aria-checked", `${state.on}`);
  say($("switch-means"), state.on ? "Switch it off at any time, also while it trains." : off);
  say($("doing"), `Now: ${apart(state.doing)}${/[.!?…]$/.test(state.doing) ? "" : "."}`);
  const waits = state.on && !state.eligible ? state.why_not : [];
  keep($("why-not"), waits, (text) => [["span", text]]);
  $("waits").hidden = waits.length === 0;
  showLeft();
  showExamples();
  list("refused", state.refused, ({ when, what, why }) => [["b", capital(what)], ["span", why], ["span", capital(moment(when))]]);
  keep($("caps"), state.caps, (text) => [["span", text]]);
  keep($("promises"), state.promises, (text) => [["span", text]]);
  say($("foot"), state.service ? `The service is ${apart(state.service)}. This page is served by the device itself, to this machine only.` : "This page is served by the device itself, to this machine only.");
}

function showLeft() {
  const { rounds, bytes_up: up, bytes_down: down } = state.totals;
  say($("left"), rounds ? `In ${many(rounds, "round")} altogether ${size(up)} left it, and ${size(down)} came to it. No example is among what left it.` : "");
  $("left").hidden = !rounds;
  list("taken", state.taken_part, (one) => {
    const how = one.masked ? "under masks: the service sees only the sum over many devices" : "without masks: the service sees it";
    const parts = [["b", `${apart(one.plan)}, round ${one.round.toLocaleString("en")}: ${apart(one.outcome)}`], ["span", `${size(one.bytes_up)} left, ${how}.`]];
    if (one.epsilon) parts.push(["span", one.epsilon]);
    return [...parts, ["span", `${capital(moment(one.when))}. Signed by ${apart(one.author)}.`]];
  }, "taken-part");
}

/** A list of which the first are shown, until all are asked for. */
function list(name, items, make, id = name) {
  const shown = all.has(name) ? items : items.slice(0, FIRST);
  keep($(id), shown, make);
  $(`none-${name}`).hidden = items.length > 0;
  const more = $(`more-${name}`);
  more.hidden = shown.length === items.length;
  say(more, `Show all ${items.length.toLocaleString("en")}`);
  more.onclick = () => {
    all.add(name);
    show();
  };
}

function showExamples() {
  const held = state.examples.filter(({ number }) => number > 0);
  keep($("examples"), held, (one) => {
    const oldest = one.oldest === null ? "" : `The oldest is from ${day(one.oldest)}. `;
    const until = one.kept_until === null ? "" : `It is deleted by itself on ${DAY.format(new Date(1000 * one.kept_until))}.`;
    return [
      ["b", `${apart(capital(one.source))}: ${many(one.number, "example")}`],
      ["button", "Forget …", () => void forget(one)],
      ["span", `${oldest}${until} ${one.consent}`.trim()],
    ];
  });
  $("none-held").hidden = held.length > 0;
  $("forget-all").hidden = held.length < 2;
}

/** Ask before examples are deleted; of one source, or all. */
async function forget(one) {
  const number = one ? one.number : state.examples.reduce((sum, each) => sum + each.number, 0);
  say($("ask-title"), one ? `Forget ${apart(one.source.length > 60 ? `${one.source.slice(0, 60)}…` : one.source)}?` : "Forget everything?");
  say($("ask-says"), `${many(number, "example")} will be deleted from this device for good. What was already learned from them stays in sums that left it.`);
  if (!(await sure())) return;
  const answer = await act("forget", { source: one ? one.source : null });
  if (answer) say($("forgotten"), `${many(answer.forgotten, "example was", "examples were")} deleted.`);
}

function sure() {
  const dialog = $("ask");
  $("ask-no").onclick = () => dialog.close("no");
  $("ask-yes").onclick = () => dialog.close("yes");
  return new Promise((done) => {
    dialog.onclose = () => done(dialog.returnValue === "yes");
    dialog.returnValue = "no";
    dialog.showModal();
    $("ask-no").focus();
  });
}

$("switch").addEventListener("click", () => void act("switch", { on: !state.on }));
$("forget-all").addEventListener("click", () => void forget(null));

async function go() {
  if (!busy && !document.hidden) await look();
  setTimeout(() => void go(), EVERY);
}
document.addEventListener("visibilitychange", () => !document.hidden && !busy && void look());
void go();
