/**
 * A run as a Preact hook: the job, its lanes and the state of the link, kept up to date until the job is finished.
 *
 * Used by `run.js`. Events come far faster than anybody can read: the view is told at most once per animation frame.
 */

import { readEvents, readJob } from "./api.js";
import { Lanes, fromEvents, fromResult } from "./lanes.js";
import { watch } from "./stream.js";
import { isFinished } from "./words.js";
import { useEffect, useRef, useState } from "../vendor/htm/standalone.module.js";

const LONG_POLL_S = 30; // for a service, or a way to it, that has no event stream

/**
 * @returns {{job: object|null, lanes: Lanes, connected: boolean, problem: Error|null}}
 */
export function useRun(id, onFinish) {
  const run = useRef(null);
  if (run.current?.id !== id) run.current = { id, job: null, lanes: new Lanes(), connected: true, problem: null };
  const [, redraw] = useState(0);
  useEffect(() => {
    const watched = new Watched(run.current, () => redraw((count) => count + 1), onFinish);
    watched.begin();
    return () => watched.close();
  }, [id]);
  return run.current;
}

/** How long a run was; of one that was ended by force, until its process was gone. */
function lengthOf(result) {
  if (!result?.process?.signal) return result?.timings?.wall_s;
  return Math.max(0, (result.process.lived_s ?? 0) - (result.timings.startup_s ?? 0));
}

class Watched {
  constructor(run, changed, onFinish) {
    this.run = run;
    this.changed = changed;
    this.onFinish = onFinish;
    this.frame = 0;
    this.open = true;
    this.stop = () => {};
  }

  close() {
    this.open = false;
    this.stop();
    cancelAnimationFrame(this.frame);
  }

  async begin() {
    await this.#guard(async () => {
      this.#set({ job: await readJob(this.run.id) });
      if (isFinished(this.run.job.status)) await this.#show();
      else if (this.open) this.#watch();
    });
  }

  #watch() {
    this.stop = watch(this.run.id, {
      onEvent: (event) => {
        this.run.lanes.take(event, performance.now());
        if (event.type === "state") this.run.job = { ...this.run.job, status: event.status };
        this.#soon();
      },
      onLink: (connected) => this.#set({ connected }),
      onEnd: () => this.#guard(() => this.#end()),
    });
  }

  /** The stream is over: the job's result is there, or will be. */
  async #end() {
    let job = await readJob(this.run.id);
    while (this.open && !isFinished(job.status)) job = await readJob(this.run.id, LONG_POLL_S);
    if (!this.open) return;
    this.#set({ job, connected: true });
    if (this.run.lanes.started) this.#finish();
    else await this.#show();
    this.changed();
    this.onFinish?.(job);
  }

  /** A finished job: drawn from its events, or from its result where they are not kept. */
  async #show() {
    const events = await readEvents(this.run.id).catch(() => []);
    const kept = events.some(({ type }) => type === "started");
    const { result } = this.run.job;
    if (kept) this.#set({ lanes: fromEvents(events) });
    else if (result) this.#set({ lanes: fromResult(result) });
    this.#finish();
    this.changed();
  }

  #finish() {
    const { job, lanes } = this.run;
    lanes.finish(lengthOf(job.result) ?? lanes.latest);
    if (job.result?.trace?.dropped) lanes.forgetAfterLastLock();
  }

  async #guard(action) {
    try {
      await action();
    } catch (problem) {
      this.#set({ problem });
    }
  }

  #set(change) {
    Object.assign(this.run, change);
    if (this.open) this.changed();
  }

  #soon() {
    this.frame ||= requestAnimationFrame(() => {
      this.frame = 0;
      this.changed();
    });
  }
}
