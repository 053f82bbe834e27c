/**
 * Numbers, states and differences in words.
 *
 * Used by all views. Pure.
 */

import { same } from "./schema.js";

/** A duration in the unit that suits it; a dash for what was not measured. */
export function seconds(value_s) {
  if (value_s === null || value_s === undefined) return "–";
  const size = Math.abs(value_s);
  if (size >= 1 || size === 0) return `${Number(value_s.toFixed(3))} s`;
  if (size >= 1e-3) return `${Number((value_s * 1e3).toFixed(2))} ms`;
  return `${Number((value_s * 1e6).toFixed(1))} µs`;
}

/** A counted value as people write it: whole numbers in full. */
export function shown(value) {
  if (value === null) return "null";
  if (Number.isInteger(value)) return value.toLocaleString("en");
  if (typeof value === "number") return value.toLocaleString("en", { maximumSignificantDigits: 6 });
  return typeof value === "string" ? value : JSON.stringify(value);
}

const DURATION = /(?<!_per)_s$/;

/** `switch_interval_s` as "switch interval (s)". */
export const named = (name) =>
  name.replace(DURATION, " (s)").replace(/_per_s(?=_|$)/, "_per_second").replace(/_bytes$/, " (bytes)").replaceAll("_", " ");

/** A result's value with its name: a duration tells its unit itself. */
export function fact(name, value) {
  if (value === null) return [named(name.replace(DURATION, "")), "–"];
  if (typeof value === "number" && DURATION.test(name)) return [named(name.replace(DURATION, "")), seconds(value)];
  return [named(name), shown(value)];
}

const STATUSES = {
  queued: "waiting for its turn",
  running: "running",
  succeeded: "ran to its end",
  failed: "raised an error",
  timed_out: "ran out of time and was ended",
  cancelled: "was cancelled",
  lost: "was lost",
  unknown: "is no longer known",
};

/** How a job stands, or how it ended; one in a list does not tell why it had to be ended. */
export function standing({ status, error }) {
  if (error?.type === "Deadlock") return "was stuck and was ended";
  return status === "timed_out" && error === undefined ? "had to be ended" : STATUSES[status];
}

export const isFinished = (status) => !["queued", "running"].includes(status);

/** What changed between two requests: "lock: true → false", one text per field. */
export function changes(before, after) {
  return [...new Set([...Object.keys(before), ...Object.keys(after)])]
    .filter((name) => name !== "label" && !same(before[name], after[name]))
    .map((name) => `${named(name)}: ${shown(before[name] ?? null)} → ${shown(after[name] ?? null)}`);
}

const TURNS = /[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;

/** A text in which no character turns the others' order: such are written as JSON and Python do. */
export const plain = (text) => text.replace(TURNS, (turn) => `\\u${turn.charCodeAt(0).toString(16).padStart(4, "0")}`);

/** "2 minutes ago", for times as RFC 3339. */
export function ago(moment, now_ms = Date.now()) {
  const past_s = Math.max(0, (now_ms - Date.parse(moment)) / 1000);
  for (const [unit, size_s] of [["day", 86_400], ["hour", 3_600], ["minute", 60]]) {
    const count = Math.floor(past_s / size_s);
    if (count) return `${count} ${unit}${count === 1 ? "" : "s"} ago`;
  }
  return "just now";
}
