/**
 * Draws the lanes of a run: a row per thread, a time axis, and the curve of active threads.
 *
 * Used by `run.js`. It writes to the document directly and at most once per animation frame, since 64 lanes with
 * thousands of spans are too many for a virtual tree. Each lane has one path per kind of span; spans closer than a
 * pixel are drawn as one.
 */

import { plain } from "./words.js";

const SVG = "http://www.w3.org/2000/svg";
const LANE_HEIGHT = 22; // px; room for a bar and its frame
const CURVE_HEIGHT = 44; // px
const REST_MS = 1000; // between frames for people who asked for less motion
const EDGE = 24; // px; half of the longest figure on the axis
const TICKS = 5; // about as many marks as people read
const TICK_WIDTH = 72; // px; the longest figure, moved in from the edge, and a gap

const calm = matchMedia("(prefers-reduced-motion: reduce)");

/** The time scale that the runs on the page share. */
export class Scale {
  constructor() {
    /** @type {Set<import("./lanes.js").Lanes>} */
    this.runs = new Set();
  }

  /** The end of the longest run, in seconds. */
  end(now_ms) {
    return Math.max(1e-6, ...[...this.runs].map((lanes) => lanes.length(now_ms)));
  }
}

export class LanesView {
  /**
   * @param {HTMLElement} root  an empty element
   * @param {() => import("./lanes.js").Lanes} read
   * @param {Scale} scale
   */
  constructor(root, read, scale) {
    this.root = root;
    this.read = read;
    this.scale = scale;
    this.rows = new Map();
    this.drawn = null;
    this.frame = 0;
    this.list = root.appendChild(element("ol", "lanes"));
    this.axis = root.appendChild(svg("svg", "axis"));
    this.curve = root.appendChild(svg("svg", "curve"));
    this.curve.setAttribute("role", "img");
    this.step = this.curve.appendChild(svg("path", "steps"));
    this.peak = this.curve.appendChild(svg("text", "mark"));
    this.resized = new ResizeObserver(() => this.#draw(performance.now()));
    this.resized.observe(root);
    this.#loop(performance.now(), -Infinity);
  }

  /** Stop drawing. */
  close() {
    cancelAnimationFrame(this.frame);
    this.resized.disconnect();
  }

  #loop(now_ms, before_ms) {
    const rests = calm.matches && now_ms - before_ms < REST_MS && !this.read().finished;
    if (!rests) this.#draw(now_ms);
    this.frame = requestAnimationFrame((next_ms) => this.#loop(next_ms, rests ? before_ms : now_ms));
  }

  #draw(now_ms) {
    const lanes = this.read();
    const end_s = this.scale.end(now_ms);
    const width = this.axis.clientWidth;
    const state = lanes.finished ? `${end_s} ${width}` : null;
    if (!width || (state !== null && state === this.drawn && lanes === this.last)) return;
    [this.drawn, this.last] = [state, lanes];
    const toX = (at_s) => (at_s / end_s) * width;
    const length_s = lanes.length(now_ms);
    this.#drop(lanes);
    for (const lane of lanes.lanes.values()) this.#row(lane).draw(lane, lanes.doing(lane), toX, length_s);
    if (!lanes.started) return this.#clear();
    this.#drawAxis(end_s, toX, width);
    this.#drawCurve(lanes, toX, length_s);
  }

  /** Nothing has happened: there is neither a time nor a thread. */
  #clear() {
    this.axis.replaceChildren();
    this.step.removeAttribute("d");
    this.peak.textContent = "";
    this.curve.setAttribute("aria-label", "no thread yet");
  }

  #row(lane) {
    if (!this.rows.has(lane.number)) this.rows.set(lane.number, new Row(this.list, lane));
    return this.rows.get(lane.number);
  }

  /** A run that began again has other threads. */
  #drop(lanes) {
    for (const [number, row] of this.rows) {
      if (lanes.lanes.has(number)) continue;
      row.item.remove();
      this.rows.delete(number);
    }
  }

  #drawAxis(end_s, toX, width) {
    const step_s = niceStep(end_s / Math.min(TICKS, width / TICK_WIDTH));
    const marks = [];
    for (let at_s = 0; at_s <= end_s; at_s += step_s) marks.push(mark(toX(at_s), 14, tick(at_s, step_s), width));
    this.axis.replaceChildren(...marks);
  }

  #drawCurve(lanes, toX, length_s) {
    const steps = lanes.steps();
    const peak = Math.max(1, ...steps.map(({ count }) => count));
    const toY = (count) => CURVE_HEIGHT - 1 - (count / peak) * (CURVE_HEIGHT - 14);
    const moves = steps.map(({ at, count }) => `H${toX(at).toFixed(1)}V${toY(count).toFixed(1)}`);
    this.step.setAttribute("d", `M0 ${toY(0)}${moves.join("")}H${toX(length_s).toFixed(1)}V${toY(0)}Z`);
    this.peak.setAttribute("y", "10");
    this.peak.textContent = `active threads, at most ${peak}`;
    this.curve.setAttribute("aria-label", this.peak.textContent);
  }
}

/** One thread's row. */
class Row {
  constructor(list, lane) {
    this.item = list.appendChild(element("li", "lane"));
    const label = this.item.appendChild(element("div", "who"));
    const name = label.appendChild(element("span", "name"));
    name.textContent = name.title = plain(lane.name);
    if (lane.daemon) label.appendChild(element("span", "badge")).textContent = "daemon";
    this.doing = label.appendChild(element("span", "doing"));
    this.picture = this.item.appendChild(svg("svg", "bars"));
    this.picture.setAttribute("aria-hidden", "true");
    const kinds = ["running", "holding", "waiting"];
    this.paths = Object.fromEntries(kinds.map((kind) => [kind, this.picture.appendChild(svg("path", kind))]));
  }

  draw(lane, doing, toX, length_s) {
    if (this.doing.textContent !== doing) this.doing.textContent = doing;
    this.paths.running.setAttribute("d", bars([lane], toX, length_s, 4, LANE_HEIGHT - 8));
    this.paths.holding.setAttribute("d", bars(lane.hold, toX, length_s, 4, LANE_HEIGHT - 8));
    this.paths.waiting.setAttribute("d", bars(lane.wait, toX, length_s, 8, LANE_HEIGHT - 16));
  }
}

/** A path of bars; those that would be less than a pixel apart become one. */
export function bars(spans, toX, length_s, y, height) {
  const parts = [];
  let from = null;
  let to = null;
  const put = () => parts.push(`M${from.toFixed(1)} ${y}H${Math.max(to, from + 1).toFixed(1)}v${height}H${from.toFixed(1)}z`);
  for (const span of spans) {
    const start = toX(span.from);
    const stop = toX(span.to ?? length_s);
    if (from !== null && start - to < 1) {
      to = Math.max(to, stop);
      continue;
    }
    if (from !== null) put();
    [from, to] = [start, stop];
  }
  if (from !== null) put();
  return parts.join("");
}

/** The next larger 1, 2 or 5 times a power of ten. */
function niceStep(least_s) {
  const power = 10 ** Math.floor(Math.log10(least_s));
  return power * [1, 2, 5, 10].find((factor) => factor * power >= least_s);
}

function tick(at_s, step_s) {
  const [factor, unit] = step_s >= 0.5 ? [1, "s"] : step_s >= 5e-4 ? [1e3, "ms"] : [1e6, "µs"];
  return `${Number((at_s * factor).toFixed(1))} ${unit}`;
}

/** A figure on the axis, beside its place where it would else stand over the edge. */
function mark(x, y, text, width) {
  const label = svg("text", "mark");
  label.setAttribute("text-anchor", x < EDGE ? "start" : x > width - EDGE ? "end" : "middle");
  label.setAttribute("x", x.toFixed(1));
  label.setAttribute("y", y);
  label.textContent = text;
  return label;
}

function element(tag, name) {
  const made = document.createElement(tag);
  made.className = name;
  return made;
}

function svg(tag, name) {
  const made = document.createElementNS(SVG, tag);
  made.setAttribute("class", name);
  return made;
}
