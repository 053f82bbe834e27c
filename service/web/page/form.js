/**
 * The form of a scenario, made from its JSON Schema.
 *
 * Used by `bench.js`, which keeps the values. What is wrong with a value the service says; it is shown at the field that
 * the problem's JSON pointer names.
 */

import { Prose } from "./facts.js";
import { same } from "./schema.js";
import { decode } from "./url.js";
import { named } from "./words.js";
import { html, useEffect, useState } from "../vendor/htm/standalone.module.js";

const MOST_RADIOS = 4; // a longer list of choices is easier in a select
const LONGEST_SLIDER = 512; // a step of a longer one is less than a pixel

/** @param {{fields: import("./schema.js").Field[], values: object, errors: object[], interpreters: object[], onChange: Function}} props */
export function Form({ fields, values, errors, interpreters, onChange }) {
  const show = (field) => {
    const wrong = errors.filter(({ pointer }) => pointer === `#/${field.name}` || pointer.startsWith(`#/${field.name}/`));
    return html`<${FieldRow}
      key=${field.name}
      field=${field.name === "python" ? withInterpreters(field, interpreters) : field}
      value=${values[field.name]}
      wrong=${wrong}
      onChange=${(value) => onChange({ [field.name]: value })}
    />`;
  };
  const [open, setOpen] = useState(false);
  const hidden = errors.some(({ pointer }) => fields.some(({ name, option }) => option && pointer.split("/")[1] === name));
  useEffect(() => hidden && setOpen(true), [hidden]); // and it stays open, until somebody closes it
  const homeless = errors.filter(({ pointer }) => !fields.some(({ name }) => pointer.split("/")[1] === name));
  return html`
    ${fields.filter(({ option }) => !option).map(show)}
    <details class="more" open=${open} onToggle=${({ target }) => setOpen(target.open)}>
      <summary>More options</summary>
      ${fields.filter(({ option }) => option).map(show)}
    </details>
    ${homeless.map((error) => html`<p class="wrong" role="alert">${error.pointer}: ${error.detail}</p>`)}
  `;
}

function withInterpreters(field, interpreters) {
  const usable = interpreters.filter((found) => found.usable);
  return {
    ...field,
    kind: "choice",
    choices: usable.map(({ selector }) => selector),
    labels: Object.fromEntries(usable.map((found) => [found.selector, describe(found)])),
  };
}

const describe = ({ selector, version, free_threaded: free }) => `${selector} (${version}${free ? ", free-threaded" : ""})`;

function FieldRow({ field, value, wrong, onChange }) {
  const id = `field-${field.name}`;
  const group = isRadios(field);
  const help = html`<p class="help" id=${`${id}-help`}><${Prose} text=${firstSentence(field.text)} /></p>`;
  const errors = wrong.map(
    (error) => html`<p class="wrong" role="alert" id=${`${id}-wrong`}>
      ${error.detail}${" "}
      ${error.nearest !== undefined &&
      error.nearest !== null &&
      error.pointer === `#/${field.name}` &&
      html`<button type="button" class="small" onClick=${() => onChange(error.nearest)}>Use ${String(error.nearest)}</button>`}
    </p>`,
  );
  const common = { id, "aria-describedby": wrong.length ? `${id}-help ${id}-wrong` : `${id}-help`, "aria-invalid": wrong.length > 0 };
  if (group) {
    return html`<fieldset class="field">
      <legend>${named(field.name)}</legend>
      <${Radios} field=${field} value=${value} onChange=${onChange} />${help}${errors}
    </fieldset>`;
  }
  const Input = INPUTS[field.kind];
  return html`<div class=${`field ${field.kind}`}>
    <label for=${id}>${named(field.name)}</label>
    <${Input} field=${field} value=${value} common=${common} onChange=${onChange} />${help}${errors}
  </div>`;
}

const isRadios = ({ kind, nullable, choices, name }) => kind === "choice" && !nullable && choices.length <= MOST_RADIOS && name !== "python";

const firstSentence = (text) => text.split(/(?<=[.;])\s/)[0].replace(/;$/, ".");

function NumberInput({ field, value, common, onChange }) {
  const { min, max, whole, nullable, name } = field;
  const step = whole ? 1 : "any";
  const take = ({ target }) => onChange(target.value === "" ? (nullable ? null : "") : Number(target.value));
  const slides = whole && max - min <= LONGEST_SLIDER;
  return html`<div class="number-row">
    <input type="number" ...${common} value=${value ?? ""} step=${step} placeholder=${nullable ? "null" : ""} onInput=${take} />
    ${slides && html`<input type="range" aria-label=${`${named(name)}, slider`} value=${value} min=${min} max=${max} onInput=${take} />`}
  </div>`;
}

const SwitchInput = ({ value, common, onChange }) =>
  html`<input type="checkbox" role="switch" ...${common} checked=${value} onChange=${({ target }) => onChange(target.checked)} />`;

const ChoiceInput = ({ field, value, common, onChange }) =>
  html`<select ...${common} value=${value ?? ""} onChange=${({ target }) => onChange(target.value === "" ? null : target.value)}>
    ${field.nullable && html`<option value="">default</option>`}
    ${[...new Set([...field.choices, ...(value ? [value] : [])])].map(
      (choice) => html`<option value=${choice} selected=${choice === value}>${field.labels?.[choice] ?? choice}</option>`,
    )}
  </select>`;

const Radios = ({ field, value, onChange }) =>
  html`<div class="radios">
    ${field.choices.map(
      (choice) => html`<label>
        <input type="radio" name=${field.name} checked=${choice === value} onChange=${() => onChange(choice)} />${choice}
      </label>`,
    )}
  </div>`;

const TextInput = ({ field, value, common, onChange }) =>
  html`<input type="text" ...${common} value=${value ?? ""} onInput=${({ target }) => onChange(target.value === "" && field.nullable ? null : target.value)} />`;

function ListInput({ field, value, common, onChange }) {
  const parse = (text) => {
    const parts = text.split(",").map((part) => part.trim()).filter(Boolean);
    return field.element === "string" ? parts : parts.map((part) => (Number.isNaN(Number(part)) ? part : Number(part)));
  };
  return html`<input type="text" ...${common} value=${(value ?? []).join(", ")} onChange=${({ target }) => onChange(parse(target.value))} />`;
}

/** What was typed stays as it was typed; it is the value as soon as it is JSON, and also, as a text, when it is left. */
function JsonInput({ field, value, common, onChange }) {
  const [draft, setDraft] = useState(null);
  useEffect(() => setDraft((typed) => (typed !== null && same(decode(typed, field), value) ? typed : null)), [JSON.stringify(value)]);
  const text = draft ?? (typeof value === "string" ? value : JSON.stringify(value, null, 2));
  const take = ({ target }) => {
    setDraft(target.value);
    const read = decode(target.value, field);
    if (typeof read !== "string") onChange(read);
  };
  const leave = ({ target }) => onChange(decode(target.value, field));
  return html`<textarea ...${common} rows="10" spellcheck=${false} value=${text} onInput=${take} onChange=${leave}></textarea>`;
}

const INPUTS = { number: NumberInput, switch: SwitchInput, choice: ChoiceInput, list: ListInput, text: TextInput, json: JsonInput };
