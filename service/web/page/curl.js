/**
 * The command that does what the page shows.
 *
 * Used by `bench.js`. Pure.
 */

import { plain } from "./words.js";

/** Quote for a POSIX shell: within single quotes only the single quote itself is special. */
export const quote = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

/** The curl for a job, in the order in which it is sent. */
export function command(origin, body) {
  return `curl -H 'Prefer: wait=60' --json ${quote(plain(JSON.stringify(body)))} ${quote(`${origin}/v1/jobs`)}`;
}
