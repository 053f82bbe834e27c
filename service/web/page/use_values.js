/**
 * The values of a scenario's form as a Preact hook.
 *
 * Used by `bench.js`. They are what the address says of them; where it names a job only, what that job was asked for; and
 * what was typed since then, which nothing but another address takes away and which the address tells soon after.
 */

import { changedValues, fieldsOf, initialValues } from "./schema.js";
import { decode, format, replace } from "./url.js";
import { useEffect, useLayoutEffect, useRef, useState } from "../vendor/htm/standalone.module.js";

const SETTLED_MS = 300; // browsers refuse an address that changes with each step of a slider

/**
 * @param {import("./url.js").Place} place
 * @param {object|undefined} job  the place's job, once it is known
 * @returns {{fields: import("./schema.js").Field[], values: object, edit: (changes: object) => void, keep: () => void}}
 *     `keep` writes into the address what was typed, which is done anyway when it has settled
 */
export function useValues(place, scenario, job) {
  const fields = fieldsOf(scenario.parameters);
  const [values, setValues] = useState(() => valuesAt(place, fields, scenario));
  const touched = useRef(false); // whether something was typed at this place
  useLayoutEffect(() => { // at once: what is typed as soon as the place is seen is typed at that place
    touched.current = false;
    setValues(valuesAt(place, fields, scenario));
  }, [place]);
  useLayoutEffect(() => {
    if (job && !touched.current && saysNothing(place)) setValues({ ...initialValues(fields), ...ownRequest(job) });
  }, [place, job?.id]);
  const [edits, setEdits] = useState(0);
  const keep = () => touched.current && replace(format(scenario.name, told(fields, values), place.job, place.with));
  useEffect(() => {
    const timer = setTimeout(keep, SETTLED_MS);
    return () => clearTimeout(timer);
  }, [edits, place]);
  const edit = (changes) => {
    touched.current = true;
    setEdits((before) => before + 1);
    setValues((before) => ({ ...before, ...changes }));
  };
  return { fields, values, edit, keep };
}

/** What a job was asked for, without the label by which an experiment finds its runs: another run is none of them. */
function ownRequest({ request }) {
  return { ...parameters(request), ...(request.label?.startsWith("exp_") ? { label: null } : {}) };
}

/** What the address says, over the scenario's first example where it says nothing, over the defaults. */
function valuesAt(place, fields, scenario) {
  const given = Object.fromEntries(
    fields.filter(({ name }) => name in place.given).map((field) => [field.name, decode(place.given[field.name], field)]),
  );
  const bare = place.job === null && Object.keys(given).length === 0;
  return { ...initialValues(fields), ...(bare ? parameters(scenario.examples[0]?.body) : given) };
}

/** What an address says of the values: never nothing, which would be the first example, or the job's values. */
export function told(fields, values) {
  const changed = changedValues(fields, values);
  const [first] = fields;
  return saysNothing({ given: changed }) && first ? { [first.name]: first.initial } : changed;
}

const saysNothing = ({ given }) => Object.keys(given).length === 0;

/** A request without the scenario's name. */
export function parameters(request = {}) {
  const { scenario: _, ...rest } = request;
  return rest;
}
