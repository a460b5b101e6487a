// Guess the next letter: the student and the models, by the same number.

import { button, el, get, inline, latest, nats, problem, scrolls, slider, state, visible } from "./common.js";

export const id = "guess";
export const title = "Guess the next letter";
export const idea = "Guess as a language model does: name a letter, and say how sure you are. The surprisal of what comes is your loss, and its mean is your cross-entropy.";
export const hint = "guess twenty letters, and compare your mean with the models'. Being sure and wrong is expensive.";
export const formula = [
  "Your distribution: the guess has the probability that you chose, and all other letters share the rest equally.",
  "Surprisal: −ln q(the letter that came), in nats; divided by ln 2, in bits.",
  "Cross-entropy: the mean surprisal, L = −(1/T) Σ ln q. Everyone's is computed in the same way.",
];

const NAMES = { bigram: "bigram", "5gram": "5-gram" };
const short = (model) => NAMES[model] ?? "network";

export async function open(root, left) {
  const list = await get("models", { text: state.get("text") });
  const network = list.find((model) => model.fits);
  const models = ["bigram", "5gram", ...(network ? [network.id] : [])].join(",");
  let guesses = [], from = state.get("from"), found = null;
  const context = el("p", { class: "context", dir: "auto" });
  const letters = el("div", { class: "letters", role: "group", "aria-label": "Your guess" });
  const sure = slider("how sure you are", "sure", { min: 0.1, max: 0.99, step: 0.01, value: 0.5, show: (x) => `${Math.round(100 * x)} %` }, () => {});
  const said = el("p", { class: "cell", "aria-live": "polite" }, "Choose the letter that comes next.");
  const head = el("tr", {}), rows = el("tbody", {}), foot = el("tr", {});
  const table = scrolls("The guesses", el("table", {}, el("thead", {}, head), rows, el("tfoot", {}, foot)));
  const load = latest(async () => {
    state.set({ guesses: guesses.length ? JSON.stringify(guesses) : null, from });
    found = await get("guess", { text: state.get("text"), from, guesses: JSON.stringify(guesses), models });
    from = found.from;
    context.textContent = found.context;
    context.append(el("mark", {}, "?"));
    if (letters.childElementCount !== found.letters.length) {
      letters.replaceChildren(...found.letters.map((letter) => button(visible(letter), () => guess(letter), { class: "letter" })));
    }
    const names = ["you", ...found.models.map(short)];
    head.replaceChildren(...["came", "your guess", "sure", ...names].map((name) => el("th", { scope: "col" }, name)));
    rows.replaceChildren(...found.rounds.slice(-12).reverse().map((round) => el("tr", {},
      el("td", {}, visible(round.truth)), el("td", {}, `${inline(round.guess)}${round.guess === round.truth ? " ✓" : ""}`), el("td", {}, `${Math.round(100 * round.confidence)}\u00a0%`),
      el("td", {}, nats(round.nats, 3)), ...round.models.map((of) => el("td", {}, nats(of.truth, 3))))));
    foot.replaceChildren(el("th", { scope: "row", colspan: "3" }, `mean of ${found.rounds.length}: cross-entropy, nats`),
      ...found.means.map((mean) => el("td", {}, found.rounds.length ? nats(mean) : "–")));
    const last = found.rounds.at(-1);
    if (last) {
      const of = (i) => `${short(found.models[i])} ${nats(last.models[i].truth, 2)} (for your guess ${nats(last.models[i].guess, 2)})`;
      said.textContent = `“${inline(last.truth)}” came; you guessed “${inline(last.guess)}”. Your surprisal: ${nats(last.nats, 3)} nats, ${nats(last.bits, 3)} bits. `
        + `${found.models.map((_, i) => of(i)).join("; ")}. Knowing nothing costs ${nats(found.uniform, 3)} every time.`;
    }
  });
  const guess = (letter) => {
    guesses.push([letter, sure.value]);
    load();
  };
  // Typing a letter is a guess, too.
  const typed = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, select, textarea, button, summary, a")) return;
    const letter = event.key === " " ? "␣" : event.key === "Enter" ? "⏎" : event.key;
    if (found?.letters.includes(letter)) {
      event.preventDefault();
      guess(letter);
    }
  };
  document.addEventListener("keydown", typed, { signal: left });
  try {
    guesses = JSON.parse(state.get("guesses", "[]"));
  } catch {
    problem("The guesses in the address cannot be read: the game begins anew.");
  }
  root.replaceChildren(
    context, letters,
    el("div", { class: "controls" }, sure.node,
      button("Another place", () => { guesses = []; from = 160 + Math.floor(Math.random() * Math.max(1, found.last - 200)); said.textContent = "Choose the letter that comes next."; load(); })),
    said, table);
  await load();
}
