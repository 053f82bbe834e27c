/**
 * Reads a scenario's JSON Schema into fields that a form can show.
 *
 * Used by `form.js`, `bench.js` and `use_values.js`. Pure.
 *
 * @typedef {object} Field
 * @property {string} name
 * @property {string} text          what it is for
 * @property {"number"|"switch"|"choice"|"list"|"text"|"json"} kind
 * @property {boolean} nullable
 * @property {boolean} whole        integers only
 * @property {unknown} initial      the default
 * @property {number} [min]  @property {number} [max]  @property {string[]} [choices]  @property {string} [element]
 * @property {boolean} option       an option that every job has, not a parameter of the scenario
 */

const OPTIONS = new Set(["gil", "timeout_s", "label", "trace", "callback_url"]);
const FIRST = ["threads", "lock", "daemon", "python"]; // what a lesson is changed by most

/** @returns {Field[]} the fields, the ones most often changed first */
export function fieldsOf(schema) {
  const fields = Object.entries(schema.properties)
    .filter(([name]) => name !== "scenario")
    .map(([name, rule]) => fieldOf(name, rule));
  const rank = ({ name }) => (FIRST.includes(name) ? FIRST.indexOf(name) : FIRST.length);
  return fields.sort((a, b) => rank(a) - rank(b));
}

function fieldOf(name, rule) {
  const choices = rule.anyOf || [rule];
  const nullable = choices.some(({ type }) => type === "null");
  const main = choices.find(({ type }) => type !== "null");
  return {
    name,
    nullable,
    text: rule.description || "",
    initial: rule.default ?? null,
    option: OPTIONS.has(name),
    ...kindOf(main),
  };
}

function kindOf(rule) {
  if (rule.enum) return { kind: "choice", choices: rule.enum };
  if (rule.type === "boolean") return { kind: "switch" };
  if (rule.type === "integer" || rule.type === "number") return numberOf(rule);
  if (rule.type === "array" && rule.items?.type) return { kind: "list", element: rule.items.type };
  if (rule.type === "string") return { kind: "text" };
  return { kind: "json" };
}

const numberOf = (rule) => ({ kind: "number", whole: rule.type === "integer", min: rule.minimum, max: rule.maximum });

/** @returns {Record<string, unknown>} each field's default */
export const initialValues = (fields) => Object.fromEntries(fields.map(({ name, initial }) => [name, initial]));

/** Those values that are not the default: what a request must say. */
export const changedValues = (fields, values) =>
  Object.fromEntries(
    fields.filter(({ name, initial }) => !same(values[name], initial)).map(({ name }) => [name, values[name]]),
  );

/** What was typed as JSON and is none: the value is the text then. In the words and the shape of a problem's fields. */
export const unreadable = (fields, values) =>
  fields
    .filter(({ kind, name }) => kind === "json" && typeof values[name] === "string")
    .map(({ name }) => ({ pointer: `#/${name}`, detail: `This is not JSON${whyNot(values[name])}` }));

function whyNot(text) {
  try {
    JSON.parse(text);
    return ": it is a text.";
  } catch (error) {
    return `: ${error.message}.`;
  }
}

/** Whether two JSON values are equal. */
export const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);
