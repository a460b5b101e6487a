// The frame of the page: its screens, and the text that they are of.

import { button, el, get, labelled, post, problem, state, turn } from "./common.js";
import * as comparing from "./comparing.js";
import * as counting from "./counting.js";
import * as guess from "./guess.js";
import * as learning from "./learning.js";
import * as parts from "./parts.js";
import * as step from "./step.js";
import * as surprise from "./surprise.js";
import * as training from "./training.js";

const SCREENS = [guess, counting, learning, training, step, surprise, parts, comparing];
const main = document.getElementById("main");
/** Bytes of a text that the server takes. */
const MOST = 50 * 2 ** 20;

/** Shows the screen that the address names. */
async function show() {
  const left = turn();
  state.read();
  const screen = SCREENS.find((one) => one.id === state.screen) ?? SCREENS[0];
  state.screen = screen.id;
  for (const link of document.querySelectorAll("#screens a")) {
    const here = link.dataset.screen === screen.id;
    if (here) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
    link.href = state.address(link.dataset.screen);
  }
  document.title = `${screen.title} · Surprisal`;
  problem();
  const formula = el("details", { id: "formula" }, el("summary", {}, "The formula"), ...screen.formula.map((line) => el("p", { class: "formula" }, line)));
  const link = el("a", { href: "#formula", click: (event) => { event.preventDefault(); formula.open = true; formula.querySelector("summary").focus(); } }, "formula");
  const body = el("div", {});
  main.replaceChildren(
    el("h1", {}, screen.title),
    el("p", { class: "idea" }, screen.idea, " ", el("strong", {}, "Try: "), screen.hint, " The ", link, " is below."),
    body,
    formula,
    button("Print this screen", () => print(), { class: "print" }),
  );
  try {
    await texts.ready;
    if (left.aborted) return;
    main.dataset.text = texts.select.selectedOptions[0].textContent;
    await screen.open(body, left);
  } catch (error) {
    if (!left.aborted) problem(error.message);
  }
}

/** The choice of the text, and a place for one's own. */
const texts = {
  select: el("select", { change: () => texts.choose(texts.select.value) }),
  ready: null,
  async load() {
    const list = await get("texts", {}, null);
    this.select.replaceChildren(...list.map((text) => el("option", { value: text.id }, text.name)));
    const wanted = state.get("text", list[0].id);
    if (list.some((text) => text.id === wanted)) this.select.value = wanted;
    else problem(`There is no text “${wanted}” here; this is ${list[0].name}.`);
    if (this.select.value !== wanted) state.set({ text: this.select.value });
  },
  choose(text) {
    // Places in the last text are no places in this one.
    state.set({ text, guesses: null, from: null, at: null, v: null, w: null });
    show();
  },
  async send(name, body) {
    try {
      const sent = await post("texts", body, { name });
      await this.load();
      this.select.value = sent.id;
      this.choose(sent.id);
    } catch (error) {
      problem(error.message);
    }
  },
  build() {
    const area = el("textarea", { rows: "8", dir: "auto" });
    const file = el("input", { type: "file", accept: ".txt,.md,text/*" });
    const name = el("input", { type: "text", value: "my text", maxlength: "60" });
    const dialog = el("dialog", { "aria-label": "Your own text" },
      el("h2", {}, "Your own text"),
      el("p", {}, "Write or paste a text, or choose a file of text (at most 50 MB). It stays on the machine that shows this page."),
      labelled("Text", area), labelled("or a file", file), labelled("Name", name),
      el("p", { class: "buttons" },
        button("Use this text", async () => {
          const chosen = file.files[0];
          dialog.close();
          // A browser does not show the answer to what it is not allowed to send whole.
          if (chosen?.size > MOST) problem(`The text has ${Math.ceil(chosen.size / 1e6)} MB, but at most 50 MB are taken.`);
          else await texts.send(chosen ? chosen.name : name.value, chosen ?? area.value);
          file.value = "";
        }, { class: "main" }),
        button("Cancel", () => dialog.close())));
    document.getElementById("texts").replaceChildren(
      labelled("Text", this.select), button("Your own text…", () => dialog.showModal()), dialog);
  },
};

// The address keeps the screen.
document.querySelector(".skip").addEventListener("click", (event) => { event.preventDefault(); main.focus(); });
document.getElementById("screens").replaceChildren(
  ...SCREENS.map((screen) => el("li", {}, el("a", { "data-screen": screen.id, href: `#${screen.id}` }, screen.title))));
state.read();
texts.build();
texts.ready = texts.load();
texts.ready.catch((error) => problem(error.message));
addEventListener("hashchange", show);
show();
