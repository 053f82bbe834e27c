/**
 * Watches a job while it runs.
 *
 * Used by `use_run.js`. The browser's EventSource connects again by itself after a break, with `Last-Event-ID`; not after
 * an answer that says no. A page that nobody sees does not watch: browsers have six connections to a service on
 * HTTP/1.1, and six streams in as many tabs would keep every other request waiting.
 */

const TYPES = ["state", "started", "start", "wait", "acquire", "release", "give_up", "note", "progress", "output", "end"];
const FINAL = new Set(["succeeded", "failed", "timed_out", "cancelled", "lost"]);

/**
 * Hand each event of a job to `onEvent` until its last.
 * @param {string|null} after  the id of the last event that is known already
 * @param {{onEvent: Function, onLink: (connected: boolean) => void, onEnd: (whole: boolean) => void}} to
 *     `onEnd` is called once: all was told, or the service does not tell more
 * @returns {() => void} stops watching
 */
export function watch(id, after, { onEvent, onLink, onEnd }) {
  let source = null;
  let last = after;
  const take = (message) => {
    const event = JSON.parse(message.data);
    last = event.id;
    onEvent(event);
    if (event.type === "state" && FINAL.has(event.status)) end(true);
  };
  const open = () => {
    source = new EventSource(`/v1/jobs/${id}/events${last === null ? "" : `?cursor=${last}`}`);
    for (const type of TYPES) source.addEventListener(type, take);
    source.onopen = () => onLink(true);
    source.onerror = ({ target }) => (target.readyState === EventSource.CLOSED ? end(false) : onLink(false));
  };
  const close = () => {
    source?.close();
    source = null;
  };
  const turn = () => {
    if (document.hidden) close();
    else if (source === null) open();
  };
  const stop = () => {
    document.removeEventListener("visibilitychange", turn);
    close();
  };
  const end = (whole) => {
    stop();
    onEnd(whole);
  };
  document.addEventListener("visibilitychange", turn);
  turn();
  return stop;
}
