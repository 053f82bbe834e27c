/**
 * One scenario: its form, and the runs that were made with it.
 *
 * Used by `app.js`.
 */

import * as api from "./api.js";
import { command } from "./curl.js";
import { Prose } from "./facts.js";
import { Form } from "./form.js";
import { Scale } from "./lanes_view.js";
import { Run, Trouble } from "./run.js";
import { changedValues, initialValues, unreadable } from "./schema.js";
import { addressOf, format, replace } from "./url.js";
import { useSubmit } from "./use_submit.js";
import { parameters, told, useValues } from "./use_values.js";
import { changes, named } from "./words.js";
import { html, useRef, useState } from "../vendor/htm/standalone.module.js";

/**
 * @param {{
 *   scenario: object, place: import("./url.js").Place, interpreters: object[], go: (address: string) => void, onChange: Function
 * }} props  `onChange` is called when a job was submitted or has ended
 */
export function Bench({ scenario, place, interpreters, go, onChange }) {
  const [seen, setSeen] = useState({});
  const { fields, values, edit, keep } = useValues(place, scenario, seen[place.job]);
  const { busy, problem, submitted, submit, forgive } = useSubmit(go, onChange);
  const changed = changedValues(fields, values);
  const body = { scenario: scenario.name, ...changed };
  const curl = command(location.origin, body);
  const garbled = unreadable(fields, values);
  const remember = (job) => {
    setSeen((before) => ({ ...before, [job.id]: job }));
    if (job.id === place.job && job.scenario !== scenario.name) go(addressOf(job), replace); // the form is another's
  };
  const change = (changes) => {
    edit(changes);
    forgive(Object.keys(changes));
  };
  const run = (event) => {
    event.preventDefault();
    keep();
    if (garbled.length) event.target.querySelector("[aria-invalid=true]").focus();
    else submit(() => api.submitJob(body), (job) => format(scenario.name, changed, job.id, place.job));
  };
  const again = (before, changes) =>
    submit(() => api.rerunJob(before.id, changes), (job) => format(scenario.name, {}, job.id, before.id));
  return html`<div class="bench">
    <form class="controls" aria-label="Scenario" onSubmit=${run} novalidate>
      <h1>${scenario.title}</h1>
      <p class="summary"><${Prose} text=${scenario.summary} /></p>
      <${Examples} scenario=${scenario} onChoose=${(example) => change({ ...initialValues(fields), ...example })} />
      <${Form}
        fields=${fields} values=${values} errors=${[...garbled, ...(problem?.fields ?? [])]} interpreters=${interpreters} onChange=${change}
      />
      <pre class="curl" tabindex="0" aria-label="curl command">${curl}</pre>
      <details class="why"><summary>Why it happens</summary><pre tabindex="0">${scenario.text}</pre></details>
      <div class="actions">
        ${problem && html`<${Trouble} problem=${problem} />`}
        <button type="submit" class="primary" aria-disabled=${busy}>${place.job ? "Run again" : "Run"}</button>
        <${CopyCurl} text=${curl} />
      </div>
    </form>
    <${Runs} place=${place} seen=${seen} submitted=${submitted} onJob=${remember} onFinish=${onChange} onAgain=${again}
      onAlone=${() => go(format(scenario.name, told(fields, values), place.job, null))} />
  </div>`;
}

const Examples = ({ scenario, onChoose }) =>
  html`<div class="examples" role="group" aria-label="Examples">
    ${scenario.examples.map(
      ({ caption, body }) => html`<button type="button" class="small" onClick=${() => onChoose(parameters(body))}>${caption}</button>`,
    )}
  </div>`;

/** Copies the command for what the form says. */
function CopyCurl({ text }) {
  const [state, setState] = useState("");
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      setState("Copied.");
    } catch {
      setState("Select it to copy."); // a page that is not on https or loopback has no clipboard
    }
  };
  return html`<button type="button" onClick=${copy}>Copy curl</button>
    <span class="quiet" role="status">${state}</span>`;
}

/** The run, and the one before it above, on one scale. */
function Runs({ place, seen, submitted, onJob, onFinish, onAgain, onAlone }) {
  const scale = useRef(null);
  scale.current ??= new Scale();
  const ids = [place.with, place.job].filter(Boolean);
  const both = ids.length === 2;
  const pick = (id) => (both ? (id === place.job ? "This run" : "The run before") : "The run");
  return html`<div class="runs">
    ${ids.length === 0 && html`<p class="empty">Press Run: what each thread does appears here, while it does it.</p>`}
    ${both && html`<${Difference} before=${seen[place.with]} after=${seen[place.job]} onAlone=${onAlone} />`}
    ${ids.map(
      (id) => html`<${Run}
        key=${id} id=${id} label=${pick(id)} scale=${scale.current} isNew=${id === submitted} onJob=${onJob} onFinish=${onFinish} onAgain=${onAgain}
      />`,
    )}
  </div>`;
}

function Difference({ before, after, onAlone }) {
  if (!before || !after) return null;
  const texts = changes(before.request, after.request);
  const outcome = ({ result, status }) => named(result?.outcome ?? status);
  return html`<section class="difference" aria-label="What changed">
    <p><b>Changed</b> ${texts.length ? texts.join("; ") : "nothing: the same again"}</p>
    <p><b>Outcome</b> ${outcome(before)} → ${outcome(after)}</p>
    <button type="button" class="small" onClick=${onAlone}>Show one run only</button>
  </section>`;
}
