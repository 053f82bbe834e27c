/**
 * Watches a job while it runs.
 *
 * Used by `run.js`. The browser's EventSource connects again by itself after a break, with `Last-Event-ID`.
 */

const TYPES = ["state", "started", "start", "wait", "acquire", "release", "give_up", "note", "progress", "output", "end"];
const FINAL = new Set(["succeeded", "failed", "timed_out", "cancelled", "lost"]);

/**
 * Hand each event of a job to `onEvent` until its last.
 * @param {{onEvent: Function, onLink: (connected: boolean) => void, onEnd: () => void}} to
 *     `onEnd` is called once: the job is finished, or the service does not offer the stream
 * @returns {() => void} stops watching
 */
export function watch(id, { onEvent, onLink, onEnd }) {
  const source = new EventSource(`/v1/jobs/${id}/events`);
  const end = () => {
    source.close();
    onEnd();
  };
  const take = (message) => {
    const event = JSON.parse(message.data);
    onEvent(event);
    if (event.type === "state" && FINAL.has(event.status)) end();
  };
  for (const type of TYPES) source.addEventListener(type, take);
  source.onopen = () => onLink(true);
  source.onerror = () => (source.readyState === EventSource.CLOSED ? end() : onLink(false));
  return () => source.close();
}
