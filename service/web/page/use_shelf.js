/**
 * The lists below the runs as a Preact hook: live as long as somebody looks and something in them goes on.
 *
 * Used by `app.js`.
 */

import { listExperiments, listRecent, readCapacity } from "./api.js";
import { useLoaded } from "./use_loaded.js";
import { isFinished } from "./words.js";
import { useEffect, useState } from "../vendor/htm/standalone.module.js";

const AGAIN_MS = 3000;
const RECENT = 8;
const EMPTY = { jobs: [], experiments: [], capacity: null };

/**
 * @param {number} count  another one when the lists are out of date
 * @returns {[{jobs: object[], experiments: object[], capacity: object|null}, Error|null]}
 */
export function useShelf(count) {
  const [turn, setTurn] = useState(0);
  const [shelf, problem] = useLoaded(load, EMPTY, [count, turn]);
  useEffect(() => {
    const again = () => document.hidden || setTurn((before) => before + 1);
    const timer = goesOn(shelf) ? setTimeout(again, AGAIN_MS) : 0;
    document.addEventListener("visibilitychange", again);
    return () => {
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", again);
    };
  }, [shelf]);
  return [shelf, problem];
}

async function load() {
  const [jobs, experiments, capacity] = await Promise.all([listRecent(RECENT), listExperiments(), readCapacity()]);
  return { jobs, experiments, capacity };
}

const goesOn = ({ jobs, experiments, capacity }) =>
  [...jobs, ...experiments].some(({ status }) => !isFinished(status)) ||
  Object.values(capacity?.lanes ?? {}).some(({ queued, running }) => queued + running > 0);
