/** Starts the page. Loaded by `index.html`, and by nothing else. */

import { App } from "./app.js";
import { html, render } from "../vendor/htm/standalone.module.js";

const root = document.getElementById("app");
root.replaceChildren();
render(html`<${App} />`, root);
