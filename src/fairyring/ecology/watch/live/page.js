// The page: what comes from the world is shown, what the hands do is sent.

import { Course, number, plot } from "./course.js";
import { Dish } from "./dish.js";
import { decode } from "./frames.js";
import { Knobs } from "./knobs.js";
import { WORDS, contrasts, drawMind, element, sayLife } from "./panels.js";
import { download, numbers, picture, saveBlob } from "./save.js";

const $ = (id) => document.getElementById(id);
// Below one step a frame the page asks less often, and glides in between.
const SPEEDS = [
  { steps: 1, slow: 8, says: "1 step in 8 frames" },
  { steps: 1, slow: 4, says: "1 step in 4 frames" },
  { steps: 1, slow: 2, says: "1 step in 2 frames" },
  { steps: 1, slow: 1, says: "1 step a frame" },
  ...[2, 4, 8, 16, 32, 64].map((steps) => ({ steps, slow: 1, says: `${steps} steps a frame` })),
  // Steps cannot be seen there; fewer frames leave more of a small machine to the world.
  { steps: 0, slow: 2.5, says: "as fast as it goes" },
];
const WALK = 1; // of SPEEDS: slow enough to look at one
const BRUSH = { radius: 4, amount: 0.35 };
const FRAME = 1000 / 60;
const READ = 250; // milliseconds between two looks at what is written beside the dish
const TRY_LATER = 1013; // a socket closed by a world that answers, and said why it has no place

const course = new Course();
let socket = null;
let session = null;
let refused = ""; // why the world last said no
let retry = 500;
let dish = null;
let frames = []; // come, and not yet shown
let asked = false;
let due = 0; // when the next frame may be shown
let pause = 0; // before which nothing is asked
let state = { paused: true, speed: 1 };
let chosen = 3; // of SPEEDS
let hurry = null; // the speed before one was met
let seed = 0;
let film = null; // when it ends, and how long it is then, while this page is filmed
let life = null;
let energies = [];
let painting = false;
let marks = []; // [time, step] of recent frames
let shown = 0; // frames in all

const send = (kind, fields = {}) => {
  if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ kind, ...fields }));
};
const knobs = new Knobs(
  $("knobs"),
  (name, value) => later(`turn ${name}`, () => send("turn", { name, value })),
  (count) => {
    $("restart").textContent = count ? "Start a new world" : "Restart";
    $("restart").classList.toggle("main", count > 0);
    $("planned").textContent = count ? `Changed for the next: ${count}.` : "";
  },
);
// The last of many of a kind, at most every so many milliseconds.
const waiting = new Map();
function later(kind, call, after = 60) {
  if (!waiting.has(kind)) {
    setTimeout(() => {
      const last = waiting.get(kind);
      waiting.delete(kind);
      last();
    }, after);
  }
  waiting.set(kind, call);
}

function connect() {
  socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/look`);
  socket.binaryType = "arraybuffer";
  socket.onmessage = ({ data }) => (typeof data === "string" ? heard(JSON.parse(data)) : seen(data));
  socket.onclose = ({ code }) => {
    document.body.dataset.connected = "no";
    asked = false;
    showFilm(null);
    const why = code === TRY_LATER ? refused : "The world does not answer. Is it still running?";
    banner(`${why} Trying again …`);
    setTimeout(connect, retry);
    retry = Math.min(3000, retry * 1.5);
  };
}

function heard(message) {
  switch (message.kind) {
    case "hello":
      hello(message);
      break;
    case "state":
      state = message;
      if (SPEEDS[chosen].steps !== state.speed) chosen = SPEEDS.findLastIndex(({ steps }) => steps === state.speed);
      showState();
      break;
    case "knobs":
      knobs.show(message.knobs);
      break;
    case "life":
      showLife(message);
      break;
    case "filming":
      showFilm(message.on ? { ends: performance.now() + 1000 * message.most, seconds: message.most } : null);
      break;
    case "writing":
      sayFilm(`The film is being written: ${number(message.done)} of ${number(message.frames)} frames.`);
      break;
    case "filmed":
      sayFilm(`The film has ${number(message.frames)} frames.`);
      download(message.url, `world-seed-${seed}.mp4`);
      break;
    case "error":
      refused = `${message.what}: ${message.given}. Expected ${message.expected}. ${message.do}`;
      banner(refused, 6000);
      // A frame that was asked for may be what went wrong, and may go wrong again.
      asked = false;
      pause = performance.now() + 1000;
      break;
  }
}

function hello(message) {
  const again = session === message.session && dish !== null;
  const watched = life?.uid;
  session = message.session;
  retry = 500;
  dish?.close();
  dish = new Dish($("dish"), message.width, message.palette, message.divides);
  $("divides").textContent = number(message.divides);
  $("seed").value = $("seed-is").textContent = seed = message.seed;
  knobs.begun();
  for (const name of ["food", "signal", "hungry", "fed", "tumbling", "background"]) {
    document.documentElement.style.setProperty(`--dish-${name}`, `rgb(${message.palette[name].join(" ")})`);
  }
  course.begin(message.points, message.gap);
  marks = [];
  banner("");
  setBrush(painting);
  showLife({ step: 0, life: null });
  if (again && watched !== undefined && message.points.length) send("watch", { uid: watched });
  frames = [];
  asked = false;
  due = 0;
  document.body.dataset.connected = "yes";
}

function seen(data) {
  asked = false;
  frames.push(decode(data));
  ask();
}

/** Ask for the next frame while this one is shown, so that the way there and back costs no time; at most two wait here. */
function ask() {
  const ahead = SPEEDS[chosen].steps === 0 ? 0 : 1;
  if (asked || frames.length > ahead || performance.now() < pause) return;
  asked = true;
  send("next");
}

function tick(now) {
  requestAnimationFrame(tick);
  if (dish === null) return;
  // A little early is in time: the next call is a whole frame away.
  if (frames.length && (state.paused || now >= due - 4)) {
    due = Math.max(due + SPEEDS[chosen].slow * FRAME, now);
    show(frames.shift(), now);
  }
  ask();
  dish.draw(now);
}

function show(frame, now) {
  const { slow, steps } = SPEEDS[chosen];
  dish.show(frame, now, steps && slow > 1 && !state.paused ? slow * FRAME : 0);
  course.add(frame);
  shown += 1;
  marks.push([now, frame.step]);
  while (marks.length > 2 && now - marks[0][0] > 1000) marks.shift();
  document.body.dataset.step = frame.step;
  document.body.dataset.frames = shown;
  $("step").textContent = number(frame.step);
  later("panels", showPanels, READ);
}

function showPanels() {
  const frame = dish?.frame;
  if (!frame || !course.now || !marks.length) return;
  const [to, from] = [marks.at(-1), marks[0]];
  const pace = to[0] > from[0] ? (1000 * (to[1] - from[1])) / (to[0] - from[0]) : 0;
  $("alive").textContent = $("now-alive").textContent = number(frame.population);
  $("pace").textContent = state.paused ? "0" : number(Math.round(pace));
  $("now-food").textContent = number(frame.foodInAll);
  $("now-signal").textContent = number(frame.signalInAll);
  $("signal-legend").hidden = $("signal-key").hidden = frame.signal === null;
  const xs = course.steps();
  plot($("course-alive"), xs, [{ values: course.values(1), colour: "--alive", fill: true }], { unit: "bacteria" });
  const field = [{ values: course.values(2), colour: "--food", fill: true }];
  if (frame.signal !== null) field.push({ values: course.values(3), colour: "--signal" });
  plot($("course-food"), xs, field, { unit: "units" });
  const { at, rates } = course.rates();
  const colours = ["--alive", "--deaths", "--immigrants"];
  const turnover = rates.map((values, i) => ({ values, colour: colours[i], dashed: i === 1 }));
  plot($("course-turnover"), at, turnover, { unit: "a step" });
  ["births", "deaths", "immigrants"].forEach((name, i) => {
    $(`now-${name}`).textContent = at.length ? Number(rates[i].at(-1).toPrecision(2)) : "–";
  });
  $("axis-from").textContent = `step ${number(xs[0])}`;
  $("axis-to").textContent = `step ${number(xs.at(-1))}`;
  showMind(frame.mind);
  const cells = dish.camera.zoom > 1.8 ? 8 : 16;
  $("bar-cells").textContent = `${cells} cells`;
  $("bar").style.width = `${((cells * dish.camera.zoom) / dish.width) * $("dish").clientWidth}px`;
  const signal = frame.signal === null ? "" : `, ${number(frame.signalInAll)} units of signal`;
  $("dish").ariaLabel =
    `The world at step ${number(frame.step)}: ${number(frame.population)} bacteria alive, ` +
    `${number(frame.foodInAll)} units of food${signal}. ${state.paused ? "It stands." : "It runs."}`;
}

function showMind(mind) {
  const words = WORDS[mind.kind];
  ["lede", "mind-title", "mind-note"].forEach((id, i) => {
    if ($(id).textContent !== words[i]) $(id).textContent = words[i];
  });
  drawMind($("mind-table"), mind, mind);
  const lines = contrasts(mind).flatMap(([name, value, means]) => [
    element("dt", { textContent: name }),
    element("dd", { textContent: value }),
    element("dd", { textContent: means }),
  ]);
  $("mind-says").replaceChildren(...lines);
  $("mind-says").hidden = !lines.length;
}

function showLife(message) {
  const fresh = life?.uid !== message.life?.uid;
  const dies = !fresh && life?.died === null && message.life.died !== null;
  life = message.life;
  $("life-is").hidden = life === null;
  $("life-none").hidden = life !== null;
  $("life-title").textContent = life === null ? "One life" : `Bacterium ${number(life.uid)}`;
  if (fresh) {
    energies = [];
    dish.watch(life === null ? null : life.uid);
    if (life) {
      showTab("life");
      $("follow").checked = true;
      say(`Bacterium ${life.uid}, ${life.died === null ? "alive" : "dead"}, generation ${life.generation}.`);
    }
  }
  if (life === null) return;
  $("heir").hidden = life.died === null;
  $("follow").parentElement.hidden = life.died !== null;
  $("life").classList.toggle("dead", life.died !== null);
  if (dies) atDeath();
  // After its death the curve stands as it was.
  const over = life.died !== null && energies.length && energies.at(-1)[0] >= life.died;
  if (!over && message.step !== energies.at(-1)?.[0]) energies.push([message.step, life.energy]);
  if (energies.length > 600) energies = energies.filter((_, i) => i % 2 === 0);
  document.body.dataset.energy = life.energy;
  if (fresh) drawLife(message.step);
  else later("life", () => life && drawLife(message.step));
}

function atDeath() {
  say(`Bacterium ${life.uid} has died.`);
  if ($("at-death").value === "line") send("heir", { uid: life.uid });
  if ($("at-death").value === "stop" && !state.paused) send("pause", { on: true });
}

function drawLife(step) {
  const words = sayLife(life, step, (uid) => send("watch", { uid }));
  $("life-says").textContent = words.says;
  for (const name of ["age", "generation", "offspring"]) $(`life-${name}`).textContent = words[name];
  const line = life.ancestors.join();
  if ($("life-ancestors").dataset.of !== `${life.uid} ${line}`) {
    // Made anew only when it is another line: what has the focus keeps it.
    $("life-ancestors").dataset.of = `${life.uid} ${line}`;
    $("life-ancestors").replaceChildren(...words.ancestors);
  }
  $("life-energy").textContent = number(life.energy);
  const xs = energies.map(([at]) => at);
  const values = energies.map(([, energy]) => energy);
  plot($("life-course"), xs, [{ values, colour: "--alive", fill: true }], { lines: [dish.divides], top: 1.1 * dish.divides });
  if (dish.frame) drawMind($("life-mind"), dish.frame.mind, { mean: life.mind.flat(), small: true });
}

function showState() {
  $("play").textContent = state.paused ? "Play" : "Pause";
  $("play").setAttribute("aria-pressed", String(!state.paused));
  $("speed").value = chosen;
  $("speed").setAttribute("aria-valuetext", SPEEDS[chosen].says);
  $("speed-is").textContent = SPEEDS[chosen].says;
  document.body.dataset.paused = state.paused;
  later("panels", showPanels);
}

function setSpeed(index) {
  chosen = Math.min(SPEEDS.length - 1, Math.max(0, index));
  due = 0;
  if (SPEEDS[chosen].steps !== state.speed) send("speed", { steps: SPEEDS[chosen].steps });
  showState();
}

function setBrush(on) {
  painting = on;
  $("brush").setAttribute("aria-pressed", String(on));
  $("dish").classList.toggle("painting", on);
  if (dish) {
    dish.brush = null;
    dish.stale = true;
  }
}

/** Follow one of those who have eaten best, for they live longest; at a speed at which it can be looked at. */
function meet() {
  const frame = dish?.frame;
  if (!frame?.n) return;
  const fed = Array.from(frame.uid.keys()).sort((a, b) => frame.energy[b] - frame.energy[a]);
  send("watch", { uid: frame.uid[fed[Math.floor((Math.random() * frame.n) / 10)]] });
  if (chosen <= WALK) return;
  hurry ??= chosen;
  setSpeed(WALK);
}

function letGo() {
  send("watch", { uid: -1 });
  if (hurry !== null && chosen === WALK) setSpeed(hurry);
  hurry = null;
}

function restart() {
  const asked = Math.min(2 ** 32 - 1, Math.max(0, Math.floor(Number($("seed").value) || 0)));
  $("seed").value = asked;
  const { changes } = knobs;
  send("restart", { seed: asked, changes });
  if (Object.keys(changes).length) banner("The new world is compiled first …");
  say(`The world begins again from seed ${asked}.`);
}

function showTab(name) {
  document.body.dataset.tab = name;
  for (const one of ["turn", "life"]) $(`tab-${one}`).setAttribute("aria-selected", String(one === name));
}

function showFilm(now) {
  film = now;
  if (film) sayFilm("");
  $("save-film").setAttribute("aria-pressed", String(film !== null));
  const left = film ? (film.ends - performance.now()) / 1000 : 0;
  $("save-film").textContent = film ? `Stop, ${Math.floor(Math.max(0, film.seconds - left))} s` : "Film";
  if (!film) return;
  if (left <= 0) send("film", { on: false });
  else later("film", () => film && showFilm(film), 500);
}

function sayFilm(text) {
  $("film-says").textContent = text;
  $("film-says").hidden = !text;
}

async function savePicture() {
  if (dish?.frame) saveBlob(await picture(dish, seed), `world-seed-${seed}-step-${dish.frame.step}.png`);
}

function saveNumbers() {
  if (dish?.frame) saveBlob(numbers(course, dish.frame.signal !== null), `world-seed-${seed}.csv`);
}

function fullScreen() {
  if (document.fullscreenElement) document.exitFullscreen();
  else document.querySelector(".world").requestFullscreen();
}

let hiding = 0;
function banner(text, lasts = 0) {
  clearTimeout(hiding);
  $("banner").textContent = text;
  $("banner").hidden = !text;
  if (lasts) hiding = setTimeout(() => banner(""), lasts);
}
const say = (text) => ($("said").textContent = text);

function toggle() {
  send("pause", { on: !state.paused });
  say(state.paused ? "It runs." : "It stands.");
}

const step = () => send("step");

$("play").onclick = toggle;
$("one").onclick = step;
$("brush").onclick = () => setBrush(!painting);
$("meet").onclick = meet;
$("let-go").onclick = letGo;
$("heir").onclick = () => life && send("heir", { uid: life.uid });
$("tab-turn").onclick = () => showTab("turn");
$("tab-life").onclick = () => showTab("life");
$("full").onclick = fullScreen;
$("save-picture").onclick = savePicture;
$("save-film").onclick = () => send("film", { on: film === null });
$("save-numbers").onclick = saveNumbers;
$("closer").onclick = () => dish?.closer(1.5);
$("farther").onclick = () => dish?.closer(1 / 1.5);
$("follow").onchange = () => {
  if (!dish) return;
  dish.following = $("follow").checked;
  if (!dish.following) dish.whole();
};
$("speed").oninput = () => {
  hurry = null;
  setSpeed(Number($("speed").value));
};
$("again").onsubmit = (event) => {
  event.preventDefault();
  restart();
};

const canvas = $("dish");
let held = null; // where the pointer went down, and was last
const paint = ({ x, y }) => send("paint", { x, y, ...BRUSH });
canvas.onpointerdown = (event) => {
  if (dish === null || event.button !== 0) return;
  held = { x: event.clientX, y: event.clientY, far: false };
  canvas.setPointerCapture(event.pointerId);
  if (painting) paint(dish.place(event));
};
canvas.onpointermove = (event) => {
  if (dish === null) return;
  if (painting) {
    const place = dish.place(event);
    dish.brush = { ...place, radius: BRUSH.radius };
    dish.stale = true;
    if (held) later("paint", () => paint(place));
    return;
  }
  if (!held || event.pointerType === "touch") return;
  const dx = event.clientX - held.x;
  const dy = event.clientY - held.y;
  if (!held.far && Math.hypot(dx, dy) < 5) return;
  canvas.classList.add("dragging");
  dish.pan(dx, dy);
  $("follow").checked = false;
  held = { x: event.clientX, y: event.clientY, far: true };
};
canvas.onpointerup = (event) => {
  const clicked = held && !held.far && !painting;
  held = null;
  canvas.classList.remove("dragging");
  if (!clicked) return;
  const { x, y, perPixel } = dish.place(event);
  // A finger is wider than a bacterium.
  send("pick", { x, y, radius: Math.min(64, Math.max(2, (event.pointerType === "touch" ? 24 : 12) * perPixel)) });
};
canvas.onpointercancel = () => (held = null);
canvas.onpointerleave = () => {
  if (!dish) return;
  dish.brush = null;
  dish.stale = true;
};

const KEYS = {
  " ": toggle,
  ".": step,
  ArrowLeft: () => setSpeed(chosen - 1),
  ArrowRight: () => setSpeed(chosen + 1),
  ArrowUp: () => dish?.closer(1.5),
  ArrowDown: () => dish?.closer(1 / 1.5),
  b: () => setBrush(!painting),
  n: meet,
  f: fullScreen,
  Escape: letGo,
};
addEventListener("keydown", (event) => {
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const on = event.target.closest("input, select, button, summary");
  // Sliders and fields keep the keys they know, and a button its space.
  if (!KEYS[key] || event.ctrlKey || event.metaKey || event.altKey) return;
  if (on && (on.matches("input, select") || key === " ") && key !== "Escape") return;
  event.preventDefault();
  KEYS[key]();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => later("panels", showPanels));

showTab("turn");
connect();
requestAnimationFrame(tick);
