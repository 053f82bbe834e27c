/**
 * The page: keeps what is chosen and what is shown, and puts the views together.
 *
 * Used by `main.js`. Its state is the address's: every change of it goes through `go`, and back and forward read it again.
 */

import * as api from "./api.js";
import { command } from "./curl.js";
import { Form } from "./form.js";
import { Scale } from "./lanes_view.js";
import { Run, Trouble } from "./run.js";
import { changedValues, initialValues, unreadable } from "./schema.js";
import { Catalog, Experiments, Queue, RecentJobs } from "./shelf.js";
import { format, parse, push, replace } from "./url.js";
import { useLoaded } from "./use_loaded.js";
import { useShelf } from "./use_shelf.js";
import { parameters, told, useValues } from "./use_values.js";
import { changes, named } from "./words.js";
import { html, useEffect, useRef, useState } from "../vendor/htm/standalone.module.js";

const FIRST = "counter"; // the lesson that most people come for

/** The place that the address names, read again at back and forward. */
function usePlace() {
  const [place, setPlace] = useState(() => parse(location.search));
  const read = () => setPlace(parse(location.search));
  useEffect(() => {
    addEventListener("popstate", read);
    return () => removeEventListener("popstate", read);
  }, []);
  const go = (address, write = push) => {
    write(address);
    read();
  };
  return [place, go];
}

export function App() {
  const [place, go] = usePlace();
  const [count, setCount] = useState(0); // grows when the lists below the runs are out of date
  const refresh = () => setCount((before) => before + 1);
  const name = place.scenario ?? FIRST;
  const [scenarios, noScenarios] = useLoaded(api.listScenarios, [], []);
  const [interpreters, noInterpreters] = useLoaded(api.listInterpreters, [], []);
  const [scenario, noScenario] = useLoaded(() => api.readScenario(name), null, [name]);
  const [shelf, noShelf] = useShelf(count);
  const problem = noScenario ?? noScenarios ?? noInterpreters ?? noShelf;
  const choose = (chosen, write = push) => go(format(chosen, {}, null, null), write);
  const open = (job) => go(addressOf(job));
  return html`
    <${Catalog} scenarios=${scenarios} chosen=${name} onChoose=${choose} />
    ${problem && html`<${Trouble} problem=${problem} />`}
    ${scenario?.name === name &&
    html`<${Bench} key=${name} scenario=${scenario} place=${place} interpreters=${interpreters} go=${go} onChange=${refresh} />`}
    <div class="shelf">
      <${RecentJobs} jobs=${shelf.jobs} addressOf=${addressOf} onOpen=${open} />
      <${Experiments} experiments=${shelf.experiments} />
      <${Queue} capacity=${shelf.capacity} />
    </div>
  `;
}

const addressOf = (job) => format(job.scenario, {}, job.id, null);

/** One scenario: its form, and the runs that were made with it. */
function Bench({ scenario, place, interpreters, go, onChange }) {
  const [problem, setProblem] = useState(null);
  const [busy, setBusy] = useState(false);
  const [submitted, setSubmitted] = useState(null);
  const [seen, setSeen] = useState({});
  const { fields, values, edit } = useValues(place, scenario, seen[place.job]);
  const changed = changedValues(fields, values);
  const body = { scenario: scenario.name, ...changed };
  const curl = command(location.origin, body);
  const garbled = unreadable(fields, values);
  const remember = (job) => {
    setSeen((before) => ({ ...before, [job.id]: job }));
    if (job.id === place.job && job.scenario !== scenario.name) go(addressOf(job), replace); // the form is another's
  };
  const left = useRef(false);
  useEffect(() => () => (left.current = true), []);
  const change = (changes) => {
    edit(changes);
    setProblem((before) => lessOf(before, Object.keys(changes)));
  };
  const start = async (submit, given, before) => {
    if (busy) return;
    setBusy(true);
    setProblem(null);
    try {
      const job = await submit();
      onChange();
      if (left.current) return; // for another lesson, from which nobody is to be pulled back
      setSubmitted(job.id);
      go(format(scenario.name, given, job.id, before));
    } catch (refused) {
      setProblem(refused);
    }
    setBusy(false);
  };
  const run = (event) => {
    event.preventDefault();
    if (garbled.length) return event.target.querySelector("[aria-invalid=true]").focus();
    start(() => api.submitJob(body), changed, place.job);
  };
  const again = (job, changes) => start(() => api.rerunJob(job.id, changes), {}, job.id);
  return html`<div class="bench">
    <form class="controls" aria-label="Scenario" onSubmit=${run} novalidate>
      <h1>${scenario.title}</h1>
      <p class="summary">${scenario.summary}</p>
      <${Examples} scenario=${scenario} onChoose=${(example) => change({ ...initialValues(fields), ...example })} />
      <${Form} fields=${fields} values=${values} errors=${[...garbled, ...(problem?.fields ?? [])]} interpreters=${interpreters} onChange=${change} />
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

/** What is left of a problem when these fields have changed: nothing, if it was of them only. */
function lessOf(problem, names) {
  if (!problem?.fields?.length) return problem;
  const fields = problem.fields.filter(({ pointer }) => !names.includes(pointer.split("/")[1]));
  return fields.length ? { title: problem.title, message: problem.message, fields } : null;
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
