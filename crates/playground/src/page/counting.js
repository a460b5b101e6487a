// Counting: the grid of pairs of a text.

import { button, choice, el, facts, get, grid, inline, labelled, latest, nats, share, slider, state, visible, whole } from "./common.js";

export const id = "counting";
export const title = "Counting";
export const idea = "A language model can be made by counting: how often does each letter follow each other letter?";
export const hint = "click a coloured cell and one with a dot. One pair with a dot in a sentence makes its loss infinite, until you add a little to every count.";
export const formula = [
  "Maximum likelihood: q(w | v) = c(v w) / c(v), where c counts in the training text.",
  "Add-k: q(w | v) = (c(v w) + k) / (c(v) + k |V|).",
  "Dirichlet prior: q(w | v) = (c(v w) + α q(w)) / (c(v) + α), with q(w) the probability without context.",
  "Kneser-Ney: q(w | v) = max(c(v w) − D, 0) / c(v) + γ(v) q(w), with q(w) from the number of different letters before w.",
  "Loss: L = −(1/T) Σ ln q(w | v) over a text that was not counted, in nats per token.",
];

const SMOOTHINGS = [["mle", "none (MLE)"], ["add_k", "add-k"], ["dirichlet", "Dirichlet prior"], ["kneser_ney", "Kneser-Ney"]];
const exponential = { scale: (x) => Number((10 ** x).toPrecision(3)), at: (x) => Math.log10(x) };

/** Cards to cut out: after each letter the next ones with their numbers of two ten-sided dice, 00 to 99. */
function cards({ names, q }) {
  return names.map((name, i) => {
    const next = names.map((w, j) => [w, q[i][j]]).filter(([, p]) => p >= 0.01).sort((a, b) => b[1] - a[1]);
    const all = next.reduce((sum, [, p]) => sum + p, 0);
    let from = 0, sum = 0;
    const lines = next.map(([w, p]) => {
      sum += p / all;
      const [first, to] = [from, Math.round(100 * sum)];
      from = to;
      const two = (n) => String(n).padStart(2, "0");
      return to > first ? el("li", {}, `${inline(w)}  ${two(first)}${to - 1 > first ? "–" + two(to - 1) : ""}`) : null;
    });
    return el("section", { class: "cut" }, el("h3", {}, `after ${inline(name)}`), el("ul", {}, ...lines));
  });
}

export async function open(root) {
  let table = null, found = null;
  const numbers = facts(["loss on new text, nats per token", "perplexity", "pairs seen", "possible pairs", "impossible pairs in the new text"]);
  const own = el("input", { type: "text", value: state.get("written", "A quick quiz, Jack!"), maxlength: "300", dir: "auto" });
  const scored = el("p", { class: "heat", role: "group", "aria-label": "Your sentence", dir: "auto" });
  const verdict = el("p", { class: "cell", "aria-live": "polite" });
  own.addEventListener("change", () => { state.set({ written: own.value }); refresh(); });
  const cell = el("p", { class: "cell", "aria-live": "polite" }, "Choose a cell of the grid.");
  const place = el("div", { class: "grid" });
  const drawn = el("pre", { class: "sample", dir: "auto" });
  const paper = el("div", { class: "paper", "aria-hidden": "true" });
  const ask = () => ({ text: state.get("text"), smoothing: smoothing.value, k: k.value, alpha: alpha.value, written: own.value });
  const tell = (i, j) => {
    const [v, w, count, total] = [found.names[i], found.names[j], found.counts[i][j], found.totals[i]];
    cell.textContent = `“${inline(w)}” after “${inline(v)}”: ${whole(count)} of ${whole(total)} times. Maximum likelihood ${share(total ? count / total : 0)}; `
      + `with this smoothing q = ${share(found.q[i][j])}, a surprisal of ${nats(-Math.log(found.q[i][j]), 3)} nats.`;
  };
  const label = (i, j) => `${inline(found.names[j])} after ${inline(found.names[i])}: count ${found.counts[i][j]}, q ${share(found.q[i][j])}`;
  const refresh = latest(async () => {
    const names = found?.names.join("\n");
    found = await get("grid", ask());
    if (names !== found.names.join("\n")) {
      table = grid("Probability of each letter (column) after each letter (row)", found.names, found.names, label, tell);
      place.replaceChildren(table.node);
      table.begin();
    }
    // The square root shows small probabilities, too.
    table.paint((i, j) => (found.q[i][j] === 0 ? -1 : Math.sqrt(found.q[i][j])));
    tell(...table.at);
    const { written } = found;
    scored.replaceChildren(...(written?.letters ?? []).map(({ letter, nats: own }) => {
      const node = el("span", { title: `${nats(own, 3)} nats`, class: own === null ? "impossible" : null }, letter === "␣" ? " " : letter);
      node.style.setProperty("--s", (0.85 * Math.min(1, (own ?? 9) / 6)).toFixed(3));
      return node;
    }));
    verdict.textContent = written ? `Its loss is ${nats(written.nats_per_token)} nats per token${written.impossible ? `: ${written.impossible} of its pairs never occurred` : ""}.` : "";
    numbers.set({
      "loss on new text, nats per token": nats(found.eval.nats_per_token),
      "perplexity": nats(found.eval.perplexity, 3),
      "pairs seen": whole(found.seen),
      "possible pairs": whole(found.vocab_size ** 2),
      "impossible pairs in the new text": whole(found.eval.zero_probability),
    });
  });
  const of = (name) => { k.node.hidden = name !== "add_k"; alpha.node.hidden = name !== "dirichlet"; };
  const smoothing = choice("Smoothing", "smoothing", SMOOTHINGS, "mle", (name) => { of(name); refresh(); });
  const k = slider("k, added to every count", "k", { min: -4, max: 2, step: 0.05, value: 0.1, ...exponential }, refresh);
  const alpha = slider("α, the weight of the prior", "alpha", { min: -1, max: 4, step: 0.05, value: 5, ...exponential }, refresh);
  of(smoothing.value);
  let seed = state.number("seed", 1);
  const draw = latest(async () => { drawn.textContent = (await get("grid/sample", { ...ask(), seed })).text; });
  root.replaceChildren(
    el("div", { class: "controls" }, smoothing.node, k.node, alpha.node),
    numbers.node, place, cell,
    el("p", { class: "legend" }, "The stronger the colour, the likelier. A dot: impossible."),
    el("h2", {}, "A sentence of your own under this grid"), labelled("sentence", own), scored, verdict,
    el("h2", {}, "A text drawn from the grid"),
    el("div", { class: "buttons" }, button("Draw another", () => { seed += 1; state.set({ seed }); draw(); }),
      button("Print cards for a lesson without computers", () => { paper.replaceChildren(...cards(found)); document.body.classList.add("cutting"); print(); document.body.classList.remove("cutting"); })),
    drawn, paper);
  await refresh();
  await draw();
}
