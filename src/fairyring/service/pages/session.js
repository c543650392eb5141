// Requests to the service, who is signed in, and what is asked before something cannot be undone.

import { put, say } from "./elements.js";

const $ = (id) => document.getElementById(id);
const LONGEST = 20_000; // milliseconds until a request counts as lost

/** Ask for something: `{ ok, status, body, why }`. A service that does not answer has the status 0. */
export async function ask(path, { method = "GET", content = null } = {}) {
  const options = { method, credentials: "same-origin", cache: "no-store", signal: AbortSignal.timeout(LONGEST), headers: {} };
  if (method === "POST") options.headers["Fairyring-Intent"] = "dashboard";
  if (content !== null) {
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(content);
  }
  try {
    const answer = await fetch(path, options);
    const body = await answer.json().catch(() => null);
    return { ok: answer.ok, status: answer.status, body, why: answer.ok ? "" : reason(answer.status, body) };
  } catch {
    return { ok: false, status: 0, body: null, why: "The service does not answer." };
  }
}

const post = (path, content) => ask(path, { method: "POST", content });

function reason(status, body) {
  const told = body?.error;
  if (typeof told?.what === "string") {
    const sentence = [told.what, told.given && `given ${told.given}`, told.expected && `expected ${told.expected}`];
    return `${sentence.filter(Boolean).join("; ")}. ${told.do ?? ""}`.trim();
  }
  if (status === 401) return "Nobody is signed in.";
  if (status === 403) return "Your account may not do this. An operator may.";
  if (status === 404) return "The service does not know it.";
  if (status === 429) return "There were too many requests. Try again in a minute.";
  return `The service refused, with status ${status}.`;
}

/** Who is signed in, and the form for those who are not. `begin` is called when somebody is, `end` when nobody is any more. */
export class Session {
  constructor(begin, end) {
    this.me = null;
    this.begin = begin;
    this.end = end;
    $("sign-in-form").addEventListener("submit", (event) => {
      event.preventDefault();
      void this.enter();
    });
    $("leave").addEventListener("click", () => void this.leave());
  }

  get operates() {
    return this.me?.role === "operator";
  }

  /** Ask who is signed in; whether the service has answered. */
  async look() {
    const { ok, status, body } = await ask("/v1/me");
    if (ok && body) this.take(body);
    else if (status === 401) this.drop();
    return ok || status === 401;
  }

  async enter() {
    const button = $("sign-in-form").querySelector("button");
    put(button, "disabled", true);
    const { ok, status, why } = await post("/v1/login", { name: $("name").value, password: $("password").value });
    put(button, "disabled", false);
    $("password").value = "";
    say($("sign-in-why"), ok ? "" : status === 401 ? "This name and password do not fit together." : why);
    $("sign-in-why").hidden = ok;
    if (ok) await this.look();
    else $("password").focus();
  }

  async leave() {
    await post("/v1/logout", {});
    await this.look();
  }

  take(me) {
    const first = this.me === null;
    this.me = me;
    $("sign-in").hidden = true;
    $("who").hidden = false;
    // On loopback without accounts there is nobody to sign out.
    $("leave").hidden = me.name === "local";
    say($("who-is"), me.name === "local" ? "this machine" : `${me.name}, ${me.role}`);
    if (first) this.begin();
  }

  drop() {
    this.me = null;
    this.end();
    $("who").hidden = true;
    $("sign-in").hidden = false;
    $("name").focus();
  }

  /** Want something of a run; why it was refused, or nothing. */
  async want(run, what) {
    const { ok, status, why } = await post(`/v1/runs/${encodeURIComponent(run)}/want`, { what });
    if (status === 401) this.drop();
    else if (status === 403) void this.look();
    say($("said"), ok ? `Asked for: ${what}` : why);
    return ok ? "" : why;
  }
}

/** Ask a person before what cannot be undone; whether they want it. */
export function sure(title, says, yes, no) {
  const dialog = $("ask");
  say($("ask-title"), title);
  say($("ask-says"), says);
  say($("ask-yes"), yes);
  say($("ask-no"), no);
  return new Promise((done) => {
    const close = (answer) => () => dialog.close(answer);
    $("ask-yes").onclick = close("yes");
    $("ask-no").onclick = close("no");
    dialog.onclose = () => done(dialog.returnValue === "yes");
    dialog.returnValue = "no";
    dialog.showModal();
    $("ask-no").focus();
  });
}
