/**
 * What the threads of one run did, built up event by event.
 *
 * Used by `run.js` (which feeds it) and `lanes_view.js` (which draws it). Pure: it knows neither document nor network.
 * Times are seconds since the scenario began.
 *
 * @typedef {{from: number, to: number|null, open?: boolean}} Span   `to` is null while it lasts; `open`: its end was not seen
 * @typedef {{number: number, name: string, daemon: boolean, from: number, to: number|null, wait: Span[], hold: Span[]}} Lane
 */

const OF_LOCKS = new Set(["wait", "acquire", "release", "give_up"]);

export class Lanes {
  constructor() {
    this.forget();
    this.epoch = "0";
    this.last = null; // the id of the last event
  }

  /** Begin again: the job was started anew. */
  forget() {
    /** @type {Map<number, Lane>} */
    this.lanes = new Map();
    /** @type {{at: number, thread: string|null, line: string}[]} */
    this.output = [];
    this.holders = new Map(); // lock name -> its holder's span
    this.progress = null;
    this.latest = 0;
    this.latestOfLocks = 0;
    this.locksUntil = null; // until when what locks did was kept; null where all of it was
    this.started = false;
    this.still = false; // time stands still: the job has stopped, or nobody tells what it does
    this.finished = false;
    this.clock = null; // the page's clock at the run's zero, in ms; as early as any event allows
  }

  /** Take one event; `now_ms` is when it came, by the page's clock. */
  take(event, now_ms) {
    this.#turn(event.id.split("-")[0]);
    this.last = event.id;
    this.still = false;
    if (event.at_s !== undefined && event.at_s !== null) {
      this.latest = Math.max(this.latest, event.at_s);
      this.clock = Math.min(this.clock ?? Infinity, now_ms - event.at_s * 1000);
    }
    if (OF_LOCKS.has(event.type)) this.latestOfLocks = Math.max(this.latestOfLocks, event.at_s);
    this[`_${event.type}`]?.(event);
  }

  #turn(epoch) {
    if (epoch === this.epoch) return;
    this.forget();
    this.epoch = epoch;
  }

  _started() {
    this.started = true;
    this.#open(0, "MainThread", false, 0);
  }

  _start({ number, thread, daemon, at_s }) {
    this.#open(number, thread, daemon, at_s);
  }

  _end({ number, at_s }) {
    const lane = this.lanes.get(number);
    if (lane) this.#close(lane, at_s);
  }

  _wait({ number, at_s }) {
    this.lanes.get(number)?.wait.push({ from: at_s, to: null });
  }

  _acquire({ number, lock, at_s }) {
    const lane = this.lanes.get(number);
    if (!lane) return;
    end(lane.wait, at_s);
    const span = { from: at_s, to: null };
    lane.hold.push(span);
    this.holders.set(lock, span);
  }

  /** Another thread than the holder may let go of a lock. */
  _release({ lock, at_s }) {
    const span = this.holders.get(lock);
    if (span) span.to = at_s;
    this.holders.delete(lock);
  }

  _give_up({ number, at_s }) {
    const lane = this.lanes.get(number);
    if (lane) end(lane.wait, at_s);
  }

  _output({ thread, line, at_s }) {
    this.output.push({ at: at_s, thread, line });
  }

  _note({ thread, text, at_s }) {
    this.output.push({ at: at_s, thread, line: text });
  }

  _progress({ done, of }) {
    this.progress = { done, of };
  }

  /** How long a run was that was ended by force is not among its events: its result tells. */
  _state({ status }) {
    this.still = !["queued", "running"].includes(status);
  }

  /** The run is over: nothing lasts beyond `at`. */
  finish(at) {
    this.latest = Math.max(this.latest, at);
    for (const lane of this.lanes.values()) if (lane.to === null) this.#close(lane, this.latest);
    this.finished = true;
  }

  /** Some events were not kept: what lasted at the last one of a lock may have ended a moment later. */
  forgetAfterLastLock() {
    if (!this.latestOfLocks) return;
    this.locksUntil = this.latestOfLocks;
    const spans = [...this.lanes.values()].flatMap(({ wait, hold }) => [...wait, ...hold]);
    for (const span of spans) if (span.open) span.to = Math.min(span.to, this.locksUntil);
  }

  #open(number, name, daemon, from) {
    this.lanes.set(number, { number, name, daemon, from, to: null, wait: [], hold: [] });
  }

  #close(lane, at) {
    lane.to = at;
    for (const span of [...lane.wait, ...lane.hold]) if (span.to === null) Object.assign(span, { to: at, open: true });
  }

  /** How long the run is by now. */
  length(now_ms) {
    if (this.finished || this.still || this.clock === null) return this.latest;
    return Math.max(this.latest, (now_ms - this.clock) / 1000);
  }

  /** What a thread is doing, in a word. */
  doing(lane) {
    if (this.finished || this.still) return "";
    if (lane.to !== null) return "ended";
    if (lane.wait.at(-1)?.to === null) return "waits for a lock";
    return lane.hold.at(-1)?.to === null ? "holds a lock" : "running";
  }

  /** How many threads were alive, as steps in the order of time. */
  steps() {
    const moves = [];
    for (const { from, to } of this.lanes.values()) {
      moves.push([from, 1]);
      if (to !== null) moves.push([to, -1]);
    }
    let count = 0;
    return moves.sort((a, b) => a[0] - b[0]).map(([at, by]) => ({ at, count: (count += by) }));
  }
}

function end(spans, at) {
  const last = spans.at(-1);
  if (last && last.to === null) last.to = at;
}

/** A finished run whose events are not kept: what its result tells. */
export function fromResult(result) {
  const lanes = new Lanes();
  lanes.take({ id: "1-1", type: "started", at_s: 0 }, 0);
  result.threads.forEach((row, index) => {
    const number = row.number ?? index + 1;
    const at = { id: "1-1", number, thread: row.name };
    if (row.started_s === null) return;
    lanes.take({ ...at, type: "start", daemon: row.daemon, at_s: row.started_s }, 0);
    if (row.ended_s !== null) lanes.take({ ...at, type: "end", at_s: row.ended_s }, 0);
  });
  for (const line of result.output) lanes.take({ id: "1-1", type: "output", ...line }, 0);
  lanes.finish(result.timings?.wall_s ?? lanes.latest);
  return lanes;
}

/** All events of a finished run, put in the order of time. */
export function fromEvents(events) {
  const lanes = new Lanes();
  const last = events.at(-1)?.id.split("-")[0];
  const told = events.filter(({ id }) => id.split("-")[0] === last);
  const timed = told.filter(({ at_s }) => at_s !== undefined).sort((a, b) => a.at_s - b.at_s);
  for (const event of [...timed, ...told.filter(({ type }) => type === "state")]) lanes.take(event, 0);
  return lanes;
}
