/**
 * The page: keeps what is chosen and what is shown, and puts the views together.
 *
 * Used by `main.js`. Its state is the address's: every change of it but what is typed goes through `go`, and back and
 * forward read it again.
 */

import * as api from "./api.js";
import { Bench } from "./bench.js";
import { Trouble } from "./run.js";
import { Catalog, Experiments, Queue, RecentJobs } from "./shelf.js";
import { addressOf, format, parse, push } from "./url.js";
import { useLoaded } from "./use_loaded.js";
import { useShelf } from "./use_shelf.js";
import { html, useEffect, useState } from "../vendor/htm/standalone.module.js";

const FIRST = "counter"; // the lesson that most people come for

/** The place that the address names, read again at back and forward. */
function usePlace() {
  const [place, setPlace] = useState(() => parse(location.search));
  const read = () => setPlace(parse(location.search));
  useEffect(() => {
    addEventListener("popstate", read);
    return () => removeEventListener("popstate", read);
  }, []);
  const go = (address, write = push) => {
    write(address);
    read();
  };
  return [place, go];
}

export function App() {
  const [place, go] = usePlace();
  const [count, setCount] = useState(0); // grows when the lists below the runs are out of date
  const refresh = () => setCount((before) => before + 1);
  const name = place.scenario ?? FIRST;
  const [scenarios, noScenarios] = useLoaded(api.listScenarios, [], []);
  const [interpreters, noInterpreters] = useLoaded(api.listInterpreters, [], []);
  const [scenario, noScenario] = useLoaded(() => api.readScenario(name), null, [name]);
  const [shelf, noShelf] = useShelf(count);
  const problem = noScenario ?? noScenarios ?? noInterpreters ?? noShelf;
  const choose = (chosen, write = push) => go(format(chosen, {}, null, null), write);
  const open = (job) => go(addressOf(job));
  return html`
    <${Catalog} scenarios=${scenarios} chosen=${name} onChoose=${choose} />
    ${problem && html`<${Trouble} problem=${problem} />`}
    ${scenario?.name === name &&
    html`<${Bench} key=${name} scenario=${scenario} place=${place} interpreters=${interpreters} go=${go} onChange=${refresh} />`}
    <div class="shelf">
      <${RecentJobs} jobs=${shelf.jobs} addressOf=${addressOf} onOpen=${open} />
      <${Experiments} experiments=${shelf.experiments} />
      <${Queue} capacity=${shelf.capacity} />
    </div>
  `;
}
