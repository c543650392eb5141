// Snapshots as they come, and whether they still come.

import { ask } from "./session.js";

const SILENCE = 10_000; // milliseconds after which the service is asked whether it is still there
const GRACE = 4000; // in which a stream that has ended is opened again, as every one ends at some time
const SOONEST = 1000; // between two tries
const LATEST = 15_000;

/** Takes snapshots from the service. `take(snapshot)` is called with each, `changed()` when the connection is lost or back, `out()` when
 * nobody is signed in any more. */
export class Live {
  constructor({ take, changed, out }) {
    Object.assign(this, { take, changed, out });
    this.source = null;
    this.lost = false;
    this.failing = null; // since when there is no stream
    this.heard = 0; // when the numbers were known to be right, by the clock of this page
    this.wait = SOONEST;
    this.asking = false;
    this.timer = 0;
    // A page that nobody looks at holds no connection: a browser has few of them.
    document.addEventListener("visibilitychange", () => (document.hidden ? this.close() : this.wanted && this.open()));
    this.wanted = false;
  }

  start() {
    this.wanted = true;
    this.heard = performance.now();
    this.open();
  }

  stop() {
    this.wanted = false;
    this.close();
  }

  /** Seconds since the numbers were known to be right. */
  get age() {
    return (performance.now() - this.heard) / 1000;
  }

  open() {
    this.close();
    const source = new EventSource("/v1/events");
    this.source = source;
    source.addEventListener("snapshot", ({ data }) => this.hear(data));
    source.onerror = () => {
      this.failing ??= performance.now();
      // The browser tries again by itself, but not after an answer that is no stream.
      if (source.readyState === EventSource.CLOSED) this.later();
    };
    this.timer = setInterval(() => void this.check(), 1000);
  }

  close() {
    this.source?.close();
    this.source = null;
    clearInterval(this.timer);
    clearTimeout(this.again);
  }

  later() {
    clearTimeout(this.again);
    this.again = setTimeout(() => void this.retry(), this.wait);
    this.wait = Math.min(LATEST, 1.6 * this.wait);
  }

  async retry() {
    const { status } = await ask("/v1/me");
    if (!this.wanted) return;
    if (status === 401) this.out();
    else if (status >= 200 && status < 300) this.open();
    else this.later();
  }

  /** While nothing changes nothing comes: ask whether that is why. */
  async check() {
    if (this.failing !== null && performance.now() - this.failing > GRACE) this.set(true);
    if (this.asking || this.age * 1000 < SILENCE || (this.lost && this.source?.readyState !== EventSource.OPEN)) return;
    this.asking = true;
    const { ok, status, body } = await ask("/v1/snapshot");
    this.asking = false;
    if (!this.wanted) return;
    if (ok && body) this.took(body);
    else if (status === 401) this.out();
    else this.set(true);
  }

  hear(data) {
    let snapshot;
    try {
      snapshot = JSON.parse(data);
    } catch {
      return; // half of an event, as a proxy may leave it; the next one is whole
    }
    this.took(snapshot);
  }

  took(snapshot) {
    this.heard = performance.now();
    this.failing = null;
    this.wait = SOONEST;
    this.take(snapshot);
    this.set(false);
  }

  set(lost) {
    if (this.lost === lost) return;
    this.lost = lost;
    this.changed();
  }
}
