// What an operator may want of a run; who is none is told so.

import { element, put, say } from "./elements.js";
import { sure } from "./session.js";
import { apart, count, goesOn, nameOf } from "./words.js";

export class Actions {
  constructor(session) {
    this.session = session;
    this.pause = element("button", { type: "button", on: { click: () => void this.turn() } });
    this.cancel = element("button", { type: "button", class: "danger", on: { click: () => void this.end() } }, "Cancel …");
    this.why = element("p", { class: "note alarm", role: "alert", hidden: true });
    this.may = element("p", { class: "quiet" });
    this.buttons = element("p", { class: "actions" }, this.pause, this.cancel);
    this.node = element("div", { class: "control" }, this.buttons, this.may, this.why);
    this.run = null;
  }

  show(run) {
    this.run = run;
    const going = goesOn(run) && run.wanted !== "cancel";
    this.buttons.hidden = !(going && this.session.operates);
    say(this.may, going && !this.session.operates ? "You are signed in as a viewer. An operator can pause or cancel this run." : "");
    this.may.hidden = !this.may.textContent;
    say(this.pause, run.wanted === "pause" ? "Go on" : "Pause");
    // What others were refused is of no interest any more once the run has ended.
    if (!going) this.refuse("");
  }

  turn() {
    return this.want(this.run.wanted === "pause" ? "run" : "pause");
  }

  async end() {
    const { run } = this;
    const says =
      `It is in round ${count(run.round)} of ${count(run.rounds)}. The rounds it has finished and its model are kept. ` +
      "Privacy that is spent stays spent. A cancelled run cannot go on.";
    if (await sure(`Cancel ${apart(nameOf(run).slice(0, 60))}?`, says, "Cancel the run", "Keep it running")) await this.want("cancel");
  }

  async want(what) {
    for (const button of [this.pause, this.cancel]) put(button, "disabled", true);
    const why = await this.session.want(this.run.id, what);
    for (const button of [this.pause, this.cancel]) put(button, "disabled", false);
    this.refuse(why);
    if (!why) this.show({ ...this.run, wanted: what }); // until the next snapshot says so
  }

  refuse(why) {
    say(this.why, why);
    this.why.hidden = !why;
  }
}
