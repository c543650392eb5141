// The devices, and the service itself.

import { element, keepRows, keepStats, say, table } from "./elements.js";
import { counted, keepReasons } from "./funnel.js";
import { clock, count, duration, number } from "./words.js";

export class Devices {
  constructor(root) {
    this.stats = element("dl", { class: "stats" });
    this.versions = element("ul", { class: "funnel" });
    this.runtimes = element("ul", { class: "funnel" });
    this.refused = element("ul", { class: "funnel" });
    this.requests = element("p");
    this.service = element("p");
    this.processes = table(["Process", "Address", "Leases"]);
    const part = (name, ...inside) => element("div", { class: "card" }, element("h2", {}, name), ...inside);
    root.append(
      element("h1", {}, "Devices"),
      this.stats,
      element("div", { class: "pair" }, part("By version", this.versions), part("By runtime", this.runtimes)),
      element("section", {}, element("h2", {}, "Service"), this.service, this.processes.node),
      element("section", {}, element("h2", {}, "Requests"), this.requests, this.refused),
    );
  }

  show({ fleet, service, requests }) {
    keepStats(this.stats, [
      { key: "enrolled", label: "Enrolled", value: count(fleet.enrolled), note: "may take part" },
      { key: "active", label: "Active", value: count(fleet.active_1h), note: "within the last hour" },
      { key: "barred", label: "Barred", value: count(fleet.barred), note: "broke a protocol", warm: fleet.barred > 0 },
      { key: "revoked", label: "Revoked", value: count(fleet.revoked), note: "by an operator" },
    ]);
    for (const [list, counts] of [
      [this.versions, fleet.by_version],
      [this.runtimes, fleet.by_runtime],
      [this.refused, requests.refused],
    ])
      keepReasons(list, counted(counts));
    const many = Object.values(requests.refused).reduce((sum, some) => sum + some, 0);
    say(this.requests, `${number(Number(requests.per_second.toPrecision(3)))} a second. ${many ? `${count(many)} were refused since the start:` : "None was refused since the start."}`);
    say(this.service, `fairyring ${service.version} at ${service.address}, since ${clock(service.started)} (${duration(service.now - service.started)}).`);
    keepRows(
      this.processes.body,
      service.processes.map(({ owner, address, leases }) => ({ key: owner, cells: [owner, address, count(leases)] })),
    );
  }
}
