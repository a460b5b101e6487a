// Counting is learning: the grid of pairs, learnt by gradient descent.

import { button, el, facts, get, grid, inline, latest, live, nats, share, slider, state, whole } from "./common.js";

export const id = "learning";
export const title = "Counting is learning";
export const idea = "The same grid can be learnt: start with every letter equally likely, and follow the gradient of the loss downhill, step by step. It ends at the counts.";
export const hint = "watch the KL divergence from the counted grid fall to zero; then smooth with ε, and find the k that gives the same grid for a row.";
export const formula = [
  "Each cell has a logit z(v, w), and q(w | v) = e^z(v, w) / Σ e^z(v, u).",
  "Descent: z ← z − lr · c(v)/N · (q − p′), with p′ = (1 − ε) c(v w)/c(v) + ε/|V|.",
  "The loss is H(p) + KL(p‖q), so descent ends where q = p′.",
  "Label smoothing is add-k, row by row: ε = k |V| / (c(v) + k |V|).",
];

export async function open(root) {
  let stop = () => {}, found = null, frame = null;
  const numbers = facts(["step", "loss, nats per token", "KL from the counts", "KL from add-k"]);
  const cell = el("p", { class: "cell", "aria-live": "polite" });
  const go = button("Start again", () => start());
  const tell = (i, j) => {
    const q = (frame ?? found).q[i][j];
    const same = found.same_k[i];
    cell.textContent = `“${inline(found.names[j])}” after “${inline(found.names[i])}”: counted ${share(found.counted[i][j])}, learnt ${share(q)}. `
      + `The row has ${whole(found.totals[i])} pairs${epsilon.value ? `: its ε of ${epsilon.value} is add-k with k = ${same.toPrecision(3)}` : ""}.`;
  };
  const show = (now) => {
    frame = now;
    learnt.paint((i, j) => Math.sqrt(now.q[i][j]));
    numbers.set({
      "step": whole(now.step), "loss, nats per token": nats(now.loss), "KL from the counts": nats(now.kl), "KL from add-k": nats(now.kl_add_k),
    });
    tell(...learnt.at);
  };
  const ask = () => ({ text: state.get("text"), lr: lr.value, epsilon: epsilon.value, k: k.value });
  const start = latest(async () => {
    stop();
    found = await get("descent", { ...ask(), steps: 0 });
    counted.paint((i, j) => (found.counted[i][j] === 0 ? -1 : Math.sqrt(found.counted[i][j])));
    stop = live("descent/live", ask(), show);
  });
  const logarithm = { scale: (x) => Number((10 ** x).toPrecision(3)), at: (x) => Math.log10(x) };
  const lr = slider("learning rate", "lr", { min: -2, max: 1.3, step: 0.05, value: 10, ...logarithm }, () => start());
  const epsilon = slider("ε, label smoothing", "epsilon", { min: 0, max: 0.5, step: 0.01, value: 0 }, () => start());
  const k = slider("k of add-k", "k", { min: 0, max: 200, step: 1, value: 0 }, () => start());
  found = await get("descent", { text: state.get("text"), steps: 0 });
  const label = (i, j) => `${inline(found.names[j])} after ${inline(found.names[i])}: counted ${share(found.counted[i][j])}`;
  const learnt = grid("The learnt grid", found.names, found.names, label, (i, j) => tell(i, j));
  const counted = grid("The counted grid", found.names, found.names, label, (i, j) => { learnt.look(i, j, false); });
  root.replaceChildren(
    el("div", { class: "controls" }, lr.node, epsilon.node, k.node, go),
    numbers.node,
    el("div", { class: "pair" },
      el("section", {}, el("h2", {}, "Learnt"), learnt.node),
      el("section", {}, el("h2", {}, "Counted"), counted.node)),
    cell);
  learnt.begin();
  await start();
}
