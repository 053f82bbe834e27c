/**
 * Talks to the service: the only module of the page that calls `fetch`.
 *
 * Used by the views. It must not touch the document.
 */

export const RETRY_S = 2; // until it is worth trying again, where the service does not say

/**
 * The service said no (problem+json), or could not be reached (status 0).
 * @property {number} status  the HTTP status; 0 when there was no answer
 * @property {{pointer: string, detail: string, nearest?: unknown}[]} fields  what is wrong, field by field
 * @property {number|null} retryAfter_s  when it is worth trying again, in seconds
 */
export class Problem extends Error {
  constructor(status, body, retryAfter_s) {
    super(body.detail || body.title || `The service answered ${status}.`);
    this.status = status;
    this.title = body.title || `Status ${status}`;
    this.fields = body.errors || [];
    this.retryAfter_s = retryAfter_s;
  }

  /** Whether it may be over when the same is asked again: it lies with the service or the way to it. */
  get passes() {
    return this.status === 0 || this.status >= 500;
  }
}

const UNREACHABLE = {
  title: "The service cannot be reached",
  detail: "No answer came. See whether it still runs (threadlab serve), then try again.",
};

/** Send a request; return the answer's JSON, or throw a Problem. */
export async function ask(method, path, body, headers = {}) {
  const answer = await send(method, path, body, headers);
  const data = await answer.json().catch(() => ({}));
  if (answer.ok) return data;
  throw new Problem(answer.status, data, Number(answer.headers.get("Retry-After")) || null);
}

async function send(method, path, body, headers) {
  const given = { Accept: "application/json", ...headers };
  if (body !== undefined) given["Content-Type"] = "application/json";
  try {
    return await fetch(path, { method, headers: given, body: body === undefined ? undefined : JSON.stringify(body) });
  } catch {
    throw new Problem(0, UNREACHABLE, null);
  }
}

export const listScenarios = async () => (await ask("GET", "/v1/scenarios")).scenarios;
export const readScenario = (name) => ask("GET", `/v1/scenarios/${encodeURIComponent(name)}`);
export const listInterpreters = async () => (await ask("GET", "/v1/interpreters")).interpreters;
export const readCapacity = () => ask("GET", "/v1/capacity");
export const readExperiment = (id) => ask("GET", `/v1/experiments/${encodeURIComponent(id)}`);
export const listExperiments = async () => (await ask("GET", "/v1/experiments?limit=5")).experiments;
export const submitJob = (body) => ask("POST", "/v1/jobs", body);
export const rerunJob = (id, changes) => ask("POST", `/v1/jobs/${id}/rerun`, changes);
export const cancelJob = (id) => ask("POST", `/v1/jobs/${id}/cancel`);

/** The job; with `wait_s`, as soon as it is finished or that time is over. */
export const readJob = (id, wait_s = 0) =>
  ask("GET", `/v1/jobs/${encodeURIComponent(id)}`, undefined, wait_s ? { Prefer: `wait=${wait_s}` } : {});

const PAGE = 50;
const MOST_PAGES = 10; // whoever has run more for experiments since finds the others by the API
const OF_EXPERIMENT = /^exp_[0-9a-z]{26}$/;

/** The latest jobs but the runs of experiments, of which a single one can have hundreds. */
export async function listRecent(limit) {
  const found = [];
  let cursor = "";
  for (let page = 0; page < MOST_PAGES && found.length < limit; page += 1) {
    const { jobs, next_cursor: next } = await ask("GET", `/v1/jobs?limit=${PAGE}${cursor && `&cursor=${cursor}`}`);
    found.push(...jobs.filter(({ label }) => !OF_EXPERIMENT.test(label ?? "")));
    if (next === null) break;
    cursor = next;
  }
  return found.slice(0, limit);
}

/** All events of a finished job, by one request: its stream ends by itself. */
export async function readEvents(id) {
  const answer = await send("GET", `/v1/jobs/${encodeURIComponent(id)}/events`, undefined, { Accept: "text/event-stream" });
  const lines = (await answer.text()).split("\n");
  return lines.filter((line) => line.startsWith("data: ")).map((line) => JSON.parse(line.slice("data: ".length)));
}
