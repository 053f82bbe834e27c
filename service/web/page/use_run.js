/**
 * A run as a Preact hook: the job, its lanes and the state of the link, kept up to date until the job is finished.
 *
 * Used by `run.js`. Events come far faster than anybody can read: the view is told at most once per animation frame.
 */

import { RETRY_S, readEvents, readJob } from "./api.js";
import { Lanes, fromEvents, fromResult } from "./lanes.js";
import { watch } from "./stream.js";
import { isFinished } from "./words.js";
import { useEffect, useRef, useState } from "../vendor/htm/standalone.module.js";

const LONG_POLL_S = 30; // a job whose last event was told is finished in no time

/**
 * @returns {{job: object|null, lanes: Lanes, loading: boolean, connected: boolean, problem: Error|null}}
 *     `loading`: not all that a finished job told is here
 */
export function useRun(id, onFinish) {
  const run = useRef(null);
  if (run.current?.id !== id) run.current = { id, job: null, lanes: new Lanes(), loading: true, connected: true, problem: null };
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

const pause = (length_s) => new Promise((resolve) => setTimeout(resolve, length_s * 1000));

class Watched {
  constructor(run, changed, onFinish) {
    this.run = run;
    this.changed = changed;
    this.onFinish = onFinish;
    this.frame = 0;
    this.open = true;
    this.watched = false; // whether the job was seen before its end
    this.stop = () => {};
  }

  close() {
    this.open = false;
    this.stop();
    cancelAnimationFrame(this.frame);
  }

  /** Follow the job to its end, however often the service is away meanwhile. */
  async begin() {
    while (this.open) {
      try {
        await this.#follow();
        return;
      } catch (problem) {
        this.#lose(problem);
        if (!problem.passes) return;
        await pause(problem.retryAfter_s ?? RETRY_S);
      }
    }
  }

  async #follow() {
    let job = await this.#look();
    let whole = false;
    while (this.open && !isFinished(job.status)) {
      this.watched = true;
      whole = await this.#watch();
      job = await this.#look(whole ? LONG_POLL_S : 0);
      if (!whole && !isFinished(job.status)) await pause(RETRY_S); // whatever ended the stream would end the next one, too
    }
    if (!this.open) return;
    if (whole) this.#finish();
    else await this.#show();
    this.#set({ loading: false });
    if (this.watched) this.onFinish(job);
  }

  async #look(wait_s) {
    const job = await readJob(this.run.id, wait_s);
    this.#set({ job, connected: true, problem: null });
    return job;
  }

  /** Watch until the job's last event (true) or until the stream breaks off (false). */
  #watch() {
    const { lanes } = this.run;
    return new Promise((resolve) => {
      this.stop = watch(this.run.id, lanes.last, {
        onEvent: (event) => {
          lanes.take(event, performance.now());
          if (event.type === "state") this.run.job = { ...this.run.job, status: event.status };
          this.#soon();
        },
        onLink: (connected) => {
          lanes.still = !connected;
          this.#set({ connected });
        },
        onEnd: resolve,
      });
    });
  }

  /** The service does not answer, or has no such job. */
  #lose(problem) {
    const { job, lanes } = this.run;
    lanes.still = true;
    this.#set({ problem, connected: false, job: job && !problem.passes ? { ...job, status: "unknown" } : job });
  }

  /** A finished job: drawn from its result at once, and from its events as soon as they are here, if they are kept. */
  async #show() {
    const { result } = this.run.job;
    if (result) this.#set({ lanes: fromResult(result) });
    this.#finish();
    this.changed();
    const events = await readEvents(this.run.id).catch(() => []);
    const whole = events.some(({ type }) => type === "started") && events.at(-1).type === "state";
    if (whole) this.#set({ lanes: fromEvents(events) });
    this.#finish();
  }

  #finish() {
    const { job, lanes } = this.run;
    lanes.finish(lengthOf(job.result) ?? lanes.latest);
    if (job.result?.trace?.dropped) lanes.forgetAfterLastLock();
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
