// How many devices came how far in a round, stage by stage.

import { element, fill, keep, put, say } from "./elements.js";
import { apart, count, duration, plain } from "./words.js";

const STAGES = ["checked_in", "invited", "trained", "advertised", "shared", "masked", "confirmed", "summed"];
const OF_MASKS = new Set(["advertised", "shared", "masked", "confirmed"]);
const MEANS = {
  checked_in: "came and said they could take part",
  invited: "were asked to take part in this round",
  trained: "have trained on their examples",
  advertised: "have sent the keys of this round",
  shared: "have shared the secrets that make up for who vanishes",
  masked: "have sent their update under masks",
  confirmed: "have confirmed who is in the sum",
  summed: "are in the sum",
  failed: "have failed or vanished",
};

/** The stages of a run's round as bars. */
export function keepFunnel(list, run) {
  const { funnel } = run;
  const widest = Math.max(1, ...Object.values(funnel));
  const unknown = !funnel.checked_in && funnel.invited > 0;
  const stages = STAGES.filter((stage) => (run.masked || !OF_MASKS.has(stage)) && !(unknown && stage === "checked_in"));
  const shown = funnel.failed ? [...stages, "failed"] : stages;
  keep(
    list,
    shown,
    (stage) => stage,
    (stage) =>
      element(
        "li",
        { title: `Devices that ${MEANS[stage]}`, class: stage === "failed" ? "failed" : null },
        element("span", { class: "stage" }, stage === "failed" ? "failed" : plain(stage)),
        element("span", { class: "bar", "aria-hidden": "true" }, element("i")),
        element("b"),
      ),
    (node, stage) => {
      fill(node.children[1].firstChild, funnel[stage] / widest);
      say(node.children[2], count(funnel[stage]));
    },
  );
  put(list, "aria-label", `Devices in round ${run.round}, by stage`);
}

/** What a run's round is at, in a few words; `now` is the service's clock. */
export function phaseOf(run, now) {
  if (!run.phase) return "";
  const done = run.phase_expected ? ` ${count(run.phase_done)} of ${count(run.phase_expected)}` : "";
  const left = run.phase_deadline === null ? "" : run.phase_deadline > now ? `, closes in ${duration(run.phase_deadline - now)}` : ", is being closed";
  return `${apart(plain(run.phase))}${done}${left}`;
}

/** Reasons with how often each came, as bars. */
export function keepReasons(list, counts) {
  const widest = Math.max(1, ...counts.map(({ count: many }) => many));
  keep(
    list,
    counts,
    ({ reason }) => reason,
    () => element("li", {}, element("bdi", { class: "stage" }), element("span", { class: "bar", "aria-hidden": "true" }, element("i")), element("b")),
    (node, { reason, count: many }) => {
      say(node.children[0], reason);
      fill(node.children[1].firstChild, many / widest);
      say(node.children[2], count(many));
    },
  );
}

export const counted = (table) =>
  Object.entries(table)
    .map(([reason, many]) => ({ reason, count: many }))
    .sort((a, b) => b.count - a.count);
