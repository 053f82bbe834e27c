/**
 * One run on the page: its outcome, its lanes, its output, its threads as a table.
 *
 * Used by `bench.js`.
 */

import { cancelJob } from "./api.js";
import { Facts, Prose } from "./facts.js";
import { LanesView } from "./lanes_view.js";
import { useRun } from "./use_run.js";
import { isFinished, named, plain, seconds, shown, standing } from "./words.js";
import { html, useEffect, useLayoutEffect, useRef, useState } from "../vendor/htm/standalone.module.js";

const MAX_LINES = 1000; // more would make the page slow; all of them are one link away
const FIRST_LANES = 8; // of a new run are brought into sight
const INPUTS = ["wheel", "touchmove", "keydown", "pointerdown"];
const NEAR = 8; // px; less than half a line

const calm = matchMedia("(prefers-reduced-motion: reduce)");

/**
 * @param {{
 *   id: string, label: string, scale: object, isNew: boolean, onJob: Function, onFinish: Function, onAgain: Function
 * }} props  `isNew`: it was submitted here; `onAgain` is called with the job and what to change
 */
export function Run({ id, label, scale, isNew, onJob, onFinish, onAgain }) {
  const run = useRun(id, onFinish);
  const { job, lanes, problem } = run;
  useEffect(() => job && onJob(job), [job]);
  const section = useInSight(isNew, [Math.min(lanes.lanes.size, FIRST_LANES), Boolean(job?.result)]);
  useEffect(() => {
    scale.runs.add(lanes);
    return () => scale.runs.delete(lanes);
  }, [lanes]);
  if (problem && !job) return html`<${Trouble} problem=${problem} />`;
  return html`<section class="run" ref=${section} aria-label=${label} data-status=${job?.status}>
    <${Outcome} run=${run} label=${label} />
    ${problem && html`<${Trouble} problem=${problem} />`}
    <div class="picture">
      <${Picture} read=${() => run.lanes} scale=${scale} job=${job} onAgain=${onAgain} />
      <${Output} run=${run} />
    </div>
    ${job?.result && html`<${Details} job=${job} />`}
  </section>`;
}

/** Keep an element in sight whenever it has grown, until somebody does something else. */
function useInSight(isNew, growth) {
  const element = useRef(null);
  const followed = useRef(isNew);
  useEffect(() => {
    const leave = () => (followed.current = false);
    for (const kind of INPUTS) addEventListener(kind, leave, { passive: true });
    return () => INPUTS.forEach((kind) => removeEventListener(kind, leave));
  }, []);
  useEffect(() => {
    const behavior = calm.matches ? "instant" : "smooth";
    if (followed.current) element.current?.scrollIntoView({ block: "nearest", behavior });
  }, growth);
  return element;
}

/** What went wrong, and what to do next. */
export const Trouble = ({ problem }) =>
  html`<div class="trouble" role="alert">
    <strong>${problem.title || "Something went wrong"}</strong>
    <span>${problem.message}</span>
    ${problem.retryAfter_s && html`<span>Try again in ${problem.retryAfter_s} s.</span>`}
  </div>`;

function Outcome({ run, label }) {
  const { job, lanes, connected } = run;
  const heading = useRef(null);
  const status = job?.status ?? "loading";
  const result = job?.result;
  return html`<header class="outcome" data-grade=${result?.grade}>
    <div aria-live="polite">
      <p class="kicker">${label}${job && html` · <code>${job.scenario}</code> ${standing(job)}`}</p>
      <h2 ref=${heading} tabindex="-1">
        ${result?.outcome ? named(result.outcome) : named(status)}
        ${result?.grade && html` <span class="grade">${result.grade}</span>`}
      </h2>
      ${result?.meaning && html`<p class="meaning"><${Prose} text=${result.meaning} /></p>`}
      ${job?.error && html`<p class="meaning">${plain(job.error.message || job.error.detail || job.error.type)}</p>`}
      ${!connected && !isFinished(status) && html`<p class="meaning" role="status">The link is lost; reconnecting.</p>`}
    </div>
    ${lanes.progress && !result && html`<progress value=${lanes.progress.done} max=${lanes.progress.of} aria-label="Progress" />`}
    ${job && !isFinished(status) && html`<${Cancel} id=${job.id} onCancel=${() => heading.current.focus()} />`}
  </header>`;
}

/** The button goes away with the run: whoever pressed it is led to what becomes of that. */
function Cancel({ id, onCancel }) {
  const [asked, setAsked] = useState(false);
  const cancel = () => {
    if (asked) return;
    setAsked(true);
    onCancel();
    cancelJob(id).catch(() => setAsked(false)); // a job that ended by itself meanwhile shows that it did
  };
  return html`<button type="button" class="danger" aria-disabled=${asked} onClick=${cancel}>Cancel</button>`;
}

function Picture({ read, scale, job, onAgain }) {
  const root = useRef(null);
  const source = useRef(read);
  source.current = read;
  useEffect(() => {
    const view = new LanesView(root.current, () => source.current(), scale);
    return () => view.close();
  }, []);
  return html`<figure class="threads">
    <figcaption>
      <span class="key running">alive</span>
      <${LockKeys} job=${job} onAgain=${onAgain} />
      ${read().locksUntil !== null && html`<span>What locks did after ${seconds(read().locksUntil)} was not kept.</span>`}
    </figcaption>
    <div ref=${root}></div>
  </figure>`;
}

/** What the colours of locks mean; that they say nothing where nobody looked. */
function LockKeys({ job, onAgain }) {
  if (!job) return null;
  if (job.request.trace === "locks")
    return html`<span class="key holding">holds a lock</span><span class="key waiting">waits for a lock</span>`;
  return html`<span>Locks were not traced.</span>
    ${isFinished(job.status) &&
    html`<button type="button" class="small" onClick=${() => onAgain(job, { trace: "locks" })}>Run with locks traced</button>`}`;
}

function Output({ run }) {
  const { id, job, lanes, loading } = run;
  const lines = lanes.output;
  const box = useRef(null);
  const atEnd = box.current === null || leftBelow(box.current) < NEAR; // before there are more lines
  useLayoutEffect(() => {
    if (atEnd) box.current.scrollTop = box.current.scrollHeight; // who reads further up is left there
  }, [lines, lines.length]);
  const cut = lines.length - MAX_LINES;
  const dropped = job?.result?.output_dropped;
  return html`<div class="output">
    <h3>Output</h3>
    <div class="lines" ref=${box} tabindex="0" role="log" aria-label="Output" aria-live="off">
      ${cut > 0 && html`<p>${shown(cut)} earlier lines: <a href=${`/v1/jobs/${id}/output`}>all lines</a></p>`}
      ${lines.length === 0 && html`<p class="quiet">${whyEmpty(job, loading)}</p>`}
      <ol>
        ${lines.slice(-MAX_LINES).map(
          ({ at, thread, line }) => html`<li><span class="at">${seconds(at)}</span><b>${plain(thread ?? "")}</b><span class="text">${plain(line)}</span></li>`,
        )}
      </ol>
      ${dropped > 0 && html`<p class="quiet">${shown(dropped)} more ${dropped === 1 ? "line was" : "lines were"} not kept.</p>`}
    </div>
  </div>`;
}

const leftBelow = ({ scrollHeight, scrollTop, clientHeight }) => scrollHeight - scrollTop - clientHeight;

function whyEmpty(job, loading) {
  if (job && !isFinished(job.status)) return "Nothing printed yet.";
  return loading ? "Loading…" : "Nothing printed.";
}

function Details({ job }) {
  const { result } = job;
  return html`<div class="details">
    ${result.warnings?.map((warning) => html`<p class="warning"><${Prose} text=${plain(warning.detail || shown(warning))} /></p>`)}
    <${Facts} job=${job} />
    ${job.error?.traceback && html`<pre tabindex="0">${job.error.traceback}</pre>`}
    <details>
      <summary>Threads as a table</summary>
      <div class="wide" tabindex="0" role="region" aria-label="Threads"><${ThreadTable} threads=${result.threads} /></div>
    </details>
    <p class="links">
      <a href=${job.links?.timeline ?? `/v1/jobs/${job.id}/timeline.svg`}>Picture (SVG)</a>
      <a href=${job.links?.trace ?? `/v1/jobs/${job.id}/trace.json`} download>Trace</a>
      <span class="quiet">opens in ui.perfetto.dev</span>
      <a href=${`/v1/jobs/${job.id}`}>JSON</a>
    </p>
  </div>`;
}

const ThreadTable = ({ threads }) =>
  html`<table>
    <thead>
      <tr>${["Thread", "Daemon", "Started", "Ended", "CPU", "Lock waits"].map((head) => html`<th scope="col">${head}</th>`)}</tr>
    </thead>
    <tbody>
      ${threads.map(
        (row) => html`<tr>
          <th scope="row">${plain(row.name)}</th>
          <td>${row.daemon ? "yes" : "no"}</td>
          <td>${seconds(row.started_s)}</td>
          <td>${row.ended_s === null ? "did not end" : seconds(row.ended_s)}</td>
          <td>${seconds(row.cpu_s)}</td>
          <td>${row.lock_waits ?? "–"}</td>
        </tr>`,
      )}
    </tbody>
  </table>`;
