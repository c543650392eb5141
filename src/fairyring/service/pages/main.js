// The page: where it is by its address, and what it shows of each snapshot.

import { Compare } from "./compare.js";
import { Details } from "./details.js";
import { put, say } from "./elements.js";
import { Devices } from "./fleet.js";
import { Live } from "./live.js";
import { Overview } from "./overview.js";
import { Run } from "./run.js";
import { Session } from "./session.js";
import { count, duration, goesOn, nameOf } from "./words.js";

const $ = (id) => document.getElementById(id);
const VIEWS = ["overview", "run", "compare", "devices"];
const AGAIN = 2000; // milliseconds until a service that did not answer at all is asked again

let snapshot = null;
let version = null; // of the service when the page was loaded
let served = null; // the service and its clock when the last snapshot came

const session = new Session(begin, end);
const details = new Details(() => show());
const overview = new Overview($("overview"), session, details);
const run = new Run($("run"), session, details);
const compare = new Compare($("compare"), details);
const devices = new Devices($("devices"));
const live = new Live({ take, changed: state, out: () => session.drop() });

function begin() {
  $("starting").hidden = false;
  $("pages").hidden = false;
  live.start();
}

function end() {
  live.stop();
  snapshot = null;
  details.forget();
  $("pages").hidden = true;
  $("starting").hidden = true;
  $("banner").hidden = true;
  say($("connection"), "");
  for (const view of VIEWS) $(view).hidden = true;
  document.title = "fairyring";
}

function take(news) {
  snapshot = news;
  version ??= news.service.version;
  served = { now: news.service.now, at: performance.now() };
  show();
}

/** Where the page is: the view, and the runs it is about. */
function place() {
  const [view = "", rest = ""] = location.hash.replace(/^#\//, "").split("/", 2);
  const ids = rest.split(",").filter(Boolean).map(decoded);
  return { view: VIEWS.includes(view) ? view : "overview", ids };
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function show() {
  if (!snapshot || !session.me) return;
  const { view, ids } = place();
  const row = snapshot.runs.find(({ id }) => id === ids[0]);
  const missing = view === "run" && !row;
  $("starting").hidden = !missing;
  say($("starting"), missing ? "There is no run of this name at this service." : "Asking the service …");
  for (const each of VIEWS) $(each).hidden = each !== view || missing;
  for (const [link, of] of [["to-runs", ["overview", "run"]], ["to-compare", ["compare"]], ["to-devices", ["devices"]]])
    put($(link), "aria-current", of.includes(view) ? "page" : null);
  const now = served.now + (performance.now() - served.at) / 1000;
  if (view === "overview") overview.show({ ...snapshot, service: { ...snapshot.service, now } });
  if (view === "run" && row) run.show(row, now);
  if (view === "compare") {
    compare.choose(ids);
    compare.show(snapshot);
  }
  if (view === "devices") devices.show(snapshot);
  const going = snapshot.runs.filter(goesOn).length;
  const where = { overview: going ? `${count(going)} under way` : "", run: row && nameOf(row), compare: "Compare", devices: "Devices" }[view];
  document.title = [where, "fairyring"].filter(Boolean).join(" · ");
  say($("foot"), `fairyring ${snapshot.service.version} · ${snapshot.service.address}`);
  state();
}

function state() {
  if (!session.me) return;
  const old = snapshot && snapshot.service.version !== version;
  const age = duration(live.age);
  const lost = snapshot ? `The connection is lost. These numbers are ${age} old. Trying again …` : "The service does not answer. Trying again …";
  const words = live.lost ? lost : old ? "The service was updated. Load this page again." : "";
  say($("banner"), words);
  $("banner").hidden = !words;
  say($("connection"), live.lost ? "○ lost" : snapshot ? "● live" : "");
  put($("connection"), "class", live.lost ? "connection lost" : "connection");
}

async function look() {
  if (await session.look()) return;
  say($("starting"), "The service does not answer. Trying again …");
  setTimeout(() => void look(), AGAIN);
}

addEventListener("hashchange", () => {
  show();
  $("content").focus({ preventScroll: true });
  scrollTo(0, 0);
});
// What depends on the clock goes on between two snapshots; a run whose rounds could not be read is asked for again.
setInterval(show, 1000);
void look();
