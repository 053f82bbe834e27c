/**
 * Submitting a job as a Preact hook: one at a time, and what the service said against it.
 *
 * Used by `bench.js`.
 */

import { useEffect, useRef, useState } from "../vendor/htm/standalone.module.js";

/**
 * @param {(address: string) => void} go
 * @param {Function} onAccepted
 * @returns {{busy: boolean, problem: Error|null, submitted: string|null, submit: Function, forgive: Function}}
 *     `submit` takes what asks the service for a job, and what makes an address of the job that it gives;
 *     `forgive` takes the names of fields that have changed since they were refused
 */
export function useSubmit(go, onAccepted) {
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState(null);
  const [submitted, setSubmitted] = useState(null);
  const left = useRef(false);
  useEffect(() => () => (left.current = true), []);
  const submit = async (ask, toAddress) => {
    if (busy) return;
    setBusy(true);
    setProblem(null);
    try {
      const job = await ask();
      onAccepted();
      if (left.current) return; // for another lesson, from which nobody is to be pulled back
      setSubmitted(job.id);
      go(toAddress(job));
    } catch (refused) {
      setProblem(refused);
    }
    setBusy(false);
  };
  const forgive = (names) => setProblem((before) => lessOf(before, names));
  return { busy, problem, submitted, submit, forgive };
}

/** What is left of a problem when these fields have changed: nothing, if it was of them only. */
function lessOf(problem, names) {
  if (!problem?.fields?.length) return problem;
  const fields = problem.fields.filter(({ pointer }) => !names.includes(pointer.split("/")[1]));
  return fields.length ? { title: problem.title, message: problem.message, fields } : null;
}
