/**
 * The command that does what the page shows.
 *
 * Used by `app.js`. Pure.
 */

/** Quote for a POSIX shell: within single quotes only the single quote itself is special. */
export const quote = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

/** The curl for a job. */
export function command(origin, body) {
  return `curl -H 'Prefer: wait=60' --json ${quote(JSON.stringify(body))} ${quote(`${origin}/v1/jobs`)}`;
}
