/**
 * What a result has counted and measured: figures side by side, long values over the whole width, lists of rows as tables.
 *
 * Used by `run.js`; `bench.js` and `form.js` have their prose from here.
 */

import { fact, named, shown } from "./words.js";
import { html } from "../vendor/htm/standalone.module.js";

const SHORT = 40; // characters that fit a column in two lines

/** A text in which what stands between backticks is code. */
export const Prose = ({ text }) => text.split("`").map((part, index) => (index % 2 ? html`<code>${part}</code>` : part));

/** @param {{job: object}} props  a job with a result */
export function Facts({ job }) {
  const { timings, values } = job.result;
  const timed = Object.entries(timings).map(([name, value]) => [name in values ? `whole_run_${name}` : name, value]);
  const all = [...timed, ...Object.entries(values)];
  const python = job.python ? `${job.python.version}${job.python.gil === false ? ", no GIL" : ""}` : "–";
  return html`<dl class="facts">
      <${Fact} name="interpreter" text=${python} />
      ${all.filter(([, value]) => !hasRows(value)).map(([name, value]) => {
        const [label, text] = fact(name, isList(value) ? value.map(shown).join(", ") : value);
        return html`<${Fact} name=${label} text=${text} />`;
      })}
    </dl>
    ${all.filter(([, value]) => hasRows(value)).map(([name, value]) => html`<${Rows} name=${named(name)} rows=${value} />`)}`;
}

const Fact = ({ name, text }) =>
  html`<div ...${text.length > SHORT && { class: "long", tabindex: "0" }}><dt>${name}</dt><dd><${Prose} text=${text} /></dd></div>`;

const isList = (value) => Array.isArray(value) && value.every((each) => typeof each !== "object" || each === null);

const hasRows = (value) =>
  Array.isArray(value) && value.length > 0 && value.every((each) => typeof each === "object" && each !== null && !Array.isArray(each));

function Rows({ name, rows }) {
  const columns = [...new Set(rows.flatMap(Object.keys))];
  return html`<details>
    <summary>${name}</summary>
    <div class="wide" tabindex="0" role="region" aria-label=${name}>
      <table>
        <thead><tr>${columns.map((column) => html`<th scope="col">${fact(column, 0)[0]}</th>`)}</tr></thead>
        <tbody>${rows.map((row) => html`<tr>${columns.map((column) => html`<td>${fact(column, row[column] ?? null)[1]}</td>`)}</tr>`)}</tbody>
      </table>
    </div>
  </details>`;
}
