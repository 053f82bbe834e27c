/**
 * What the service has, as a Preact hook.
 *
 * Used by `app.js`, `shelf.js` and `use_shelf.js`.
 */

import { RETRY_S } from "./api.js";
import { useEffect, useState } from "../vendor/htm/standalone.module.js";

/**
 * Load something when one of `when` changes, and again and again while the service cannot give it.
 * @returns {[unknown, Error|null]} what was loaded last, and why there is nothing newer
 */
export function useLoaded(load, initial, when) {
  const [value, setValue] = useState(initial);
  const [problem, setProblem] = useState(null);
  useEffect(() => {
    let timer = 0;
    let current = true;
    const ask = async () => {
      try {
        const loaded = await load();
        if (!current) return;
        setValue(loaded);
        setProblem(null);
      } catch (refused) {
        if (!current) return;
        setProblem(refused);
        if (refused.passes) timer = setTimeout(ask, (refused.retryAfter_s ?? RETRY_S) * 1000);
      }
    };
    setProblem(null);
    ask();
    return () => {
      current = false;
      clearTimeout(timer);
    };
  }, when);
  return [value, problem];
}
