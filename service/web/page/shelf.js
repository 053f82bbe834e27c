/**
 * What stands beside the runs: the lessons and the catalogue above, recent jobs, experiments and the queue below.
 *
 * Used by `app.js`.
 */

import { readExperiment } from "./api.js";
import { push, replace } from "./url.js";
import { useLoaded } from "./use_loaded.js";
import { ago, isFinished, named, plain, standing } from "./words.js";
import { html, useRef, useState } from "../vendor/htm/standalone.module.js";

const LESSONS = {
  interleaving: "Two threads take turns",
  named_workers: "Threads have names",
  daemon: "A daemon ends with the program",
  counter: "A lock keeps a counter exact",
  custom: "The parameters of Thread()",
};
const GROUPS = {
  "What threads are good for": ["io_bound", "cpu_bound", "pool", "oversubscription", "responsiveness", "convoy"],
  "What goes wrong": ["atomicity", "check_then_act", "deadlock", "producer_consumer"],
  "Locks and signals": ["rlock", "semaphore", "event", "condition", "barrier", "thread_local"],
};

/** The five lessons, and everything else that can be run. */
export function Catalog({ scenarios, chosen, onChoose }) {
  const byName = new Map(scenarios.map((scenario) => [scenario.name, scenario]));
  const grouped = new Set([...Object.keys(LESSONS), ...Object.values(GROUPS).flat()]);
  const groups = { ...GROUPS, More: scenarios.map(({ name }) => name).filter((name) => !grouped.has(name)) };
  const entered = useRef(false); // arrow keys choose one after the other; Back is to lead to where they began
  const pick = ({ target }) => {
    onChoose(target.value, entered.current ? replace : push);
    entered.current = true;
  };
  const option = (name) => html`<option value=${name} selected=${name === chosen}>${byName.get(name).title}</option>`;
  return html`<nav class="catalog" aria-label="Lessons">
    <ol class="lessons">
      ${Object.entries(LESSONS).map(
        ([name, title]) => html`<li>
          <button type="button" aria-pressed=${name === chosen} data-lesson=${name} onClick=${() => onChoose(name)}>${title}</button>
        </li>`,
      )}
    </ol>
    <label class="all">
      <span>All scenarios</span>
      <select value=${chosen} onFocus=${() => (entered.current = false)} onChange=${pick}>
        <optgroup label="Lessons">${Object.keys(LESSONS).filter((name) => byName.has(name)).map(option)}</optgroup>
        ${Object.entries(groups).map(
          ([title, names]) =>
            names.some((name) => byName.has(name)) &&
            html`<optgroup label=${title}>${names.filter((name) => byName.has(name)).map(option)}</optgroup>`,
        )}
      </select>
    </label>
  </nav>`;
}

/** The latest jobs, each a link that shows it. */
export function RecentJobs({ jobs, addressOf, onOpen }) {
  const open = (event, job) => {
    if (event.metaKey || event.ctrlKey || event.shiftKey) return;
    event.preventDefault();
    onOpen(job);
  };
  return html`<section aria-labelledby="recent"><h2 id="recent">Recent jobs</h2>
    ${jobs.length === 0 && html`<p class="quiet">None yet: press Run.</p>`}
    <ul class="recent">
      ${jobs.map(
        (job) => html`<li key=${job.id}>
          <a href=${addressOf(job)} onClick=${(event) => open(event, job)}>
            <b>${named(job.scenario)}</b>
            <span class="grade" data-grade=${job.grade}>${named(job.outcome ?? job.status)}</span>
            <span class="quiet">${plain(job.label ?? standing(job))}, ${ago(job.created_at)}</span>
          </a>
        </li>`,
      )}
    </ul></section>`;
}

/** Experiments with their charts. */
export const Experiments = ({ experiments }) =>
  html`<section aria-labelledby="experiments"><h2 id="experiments">Experiments</h2>
    ${experiments.length === 0 &&
    html`<p class="quiet">None yet. <code>POST /v1/experiments</code> runs a matrix of jobs; <a href="/docs#/experiments">see how</a>.</p>`}
    <ul class="experiments">
      ${experiments.map((experiment) => html`<${Experiment} key=${experiment.id} experiment=${experiment} />`)}
    </ul></section>`;

/** An experiment that goes on is looked at whenever the list is. */
function Experiment({ experiment }) {
  const { id, status } = experiment;
  const name = plain(experiment.label ?? id);
  const [known] = useLoaded(() => readExperiment(id), null, [id, isFinished(status) ? status : experiment]);
  const progress = known && !isFinished(status) ? `, ${known.progress.done} of ${known.progress.of} runs` : "";
  return html`<li>
    <a href=${`/v1/experiments/${id}`}>${name}</a>${" "}
    <span class="quiet">${named(status)}${progress}, ${ago(experiment.created_at)}</span>
    ${known && html`<${Chart} experiment=${known} name=${name} />`}
  </li>`;
}

/** A chart has another address whenever it shows more; one that cannot be drawn yet leaves no broken picture behind. */
function Chart({ experiment, name }) {
  const [broken, setBroken] = useState(null);
  const address = `${experiment.links.chart}?done=${experiment.progress.done}`;
  if (address === broken) return null;
  return html`<div class="wide" tabindex="0" role="region" aria-label=${`Chart of ${name}`}>
    <img src=${address} alt=${experiment.verdict?.text ?? ""} loading="lazy" onError=${() => setBroken(address)} />
  </div>`;
}

/** How busy the service is. */
export function Queue({ capacity }) {
  if (!capacity) return null;
  const text = Object.entries(capacity.lanes).map(
    ([lane, { queued, running, slots }]) => `${lane}: ${running} of ${slots} running, ${queued} waiting`,
  );
  return html`<section aria-labelledby="queue"><h2 id="queue">Queue</h2>
    <ul class="plain">${text.map((line) => html`<li>${line}</li>`)}</ul></section>`;
}
