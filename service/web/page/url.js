/**
 * The page's address holds its whole state: scenario, changed fields, the run shown and the one it is compared with.
 *
 * Used by the views, and by `use_values.js`. Pure but for `push` and `replace`, which write the browser's history.
 *
 * @typedef {{scenario: string, given: Record<string, string>, job: string|null, with: string|null}} Place
 */

const OWN = new Set(["scenario", "job", "with"]);

/** @returns {Place} what an address such as `?scenario=counter&threads=4&job=job_1` says */
export function parse(search) {
  const query = new URLSearchParams(search);
  const given = Object.fromEntries([...query].filter(([name]) => !OWN.has(name)));
  return { scenario: query.get("scenario"), given, job: query.get("job"), with: query.get("with") };
}

/** The address of a place, with only those fields that differ from their defaults. */
export function format(scenario, changed, job, other) {
  const query = new URLSearchParams({ scenario });
  for (const [name, value] of Object.entries(changed)) query.set(name, encode(value));
  if (job) query.set("job", job);
  if (job && other) query.set("with", other);
  return `/?${query}`;
}

/** The address of a job alone: its values are known by its id. */
export const addressOf = (job) => format(job.scenario, {}, job.id, null);

const encode = (value) => (typeof value === "string" ? value : JSON.stringify(value));

/** A field's value from the text that an address has for it; the text itself where it is not valid JSON. */
export function decode(text, field) {
  if (field.kind === "text" || field.kind === "choice") return field.nullable && text === "null" ? null : text;
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

/** Go to an address without loading the page again. */
export function push(address) {
  if (address !== here()) history.pushState(null, "", address);
}

/** Write an address over the one that is there. */
export function replace(address) {
  if (address !== here()) history.replaceState(null, "", address);
}

const here = () => location.pathname + location.search;
