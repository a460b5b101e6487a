// What is the loss made of: H(p), KL and its parts.

import { el, figure, get, latest, modelBoxes, nats, slider, state, whole } from "./common.js";

export const id = "parts";
export const title = "What is the loss made of?";
export const idea = "A part of every loss is the text's own: H(p), which nobody can remove. The rest is KL(p‖q), and it has causes.";
export const hint = "compare the bigram with the 5-gram: a longer context lowers the approximation and raises the estimation, as there are fewer examples of each.";
export const formula = [
  "H(p, q) = H(p) + KL(p‖q).",
  "KL = approximation (the best model with this context is still wrong) + estimation (learnt from finite text) + miscalibration (one temperature would remove it).",
  "Perplexity = exp(L): 0.1 nats less divide it by e^0.1 = 1.105, about 10 %.",
  "Maximum likelihood on N letters: KL ≈ k / 2N with k free parameters.",
];

const PARTS = [["entropy", "H(p)"], ["approximation", "approximation"], ["estimation", "estimation"], ["miscalibration", "miscalibration"]];

/** A bar of stacked parts; all bars have one scale. */
function stack(name, parts, most) {
  const bar = el("span", { class: "stack", role: "img", "aria-label": `${name}: ${parts.map(([part, value]) => `${part} ${nats(value)}`).join(", ")}` });
  parts.forEach(([part, value], i) => {
    const piece = el("i", { class: `part${parts.length === 1 ? 4 : i}`, title: `${part} ${nats(value)}` });
    piece.style.setProperty("--w", Math.max(0, value / most).toFixed(4));
    bar.append(piece);
  });
  return bar;
}

export async function open(root) {
  const models = await get("models");
  const { node: boxes, chosen } = modelBoxes(models, 4, () => load());
  const name = (model) => models.find((one) => one.id === model)?.name ?? model;
  const stacks = el("div", { class: "stacks" }), cards = el("div", { class: "pair" }), training = el("div", { class: "stacks" });
  const said = el("p", { class: "legend line", "aria-live": "polite" });
  const curve = el("figure", { class: "curves" });
  const perplexity = el("p", { class: "cell", "aria-live": "polite" });
  let first = null;
  const less = slider("nats less", "less", { min: 0, max: 1, step: 0.01, value: 0.1, show: (x) => x.toFixed(2) }, () => tell());
  const tell = () => {
    if (!first) return;
    const from = first.eval.perplexity, factor = Math.exp(-less.value);
    perplexity.textContent = `${name(first.model)} has perplexity ${nats(from, 3)}. ${less.value.toFixed(2)} nats less make it ${nats(from * factor, 3)}: ${(100 * (1 - factor)).toFixed(1)} % lower.`;
  };
  // Where no approximation is known, what it would be is in the estimation.
  const told = (parts) => PARTS.filter(([key]) => parts[key] !== null)
    .map(([key, part]) => `${key === "estimation" && parts.approximation === null ? "approximation and estimation" : part} ${nats(parts[key])}`).join(" + ");
  const legend = el("ul", { class: "key" }, ...PARTS.map(([, part], i) => el("li", {}, el("i", { class: `swatch part${i}` }), part)));
  const load = latest(async () => {
    const wanted = [...chosen], found = [];
    for (const model of wanted) {
      said.textContent = `computes the parts of ${name(model)} …`;
      found.push((await get("parts", { text: state.get("text"), models: model })).models[0]);
    }
    said.textContent = "";
    first = found[0];
    const most = Math.max(...found.map((one) => one.eval.nats_per_token ?? 0));
    stacks.replaceChildren(...found.map((one) => {
      const parts = one.parts ? PARTS.map(([key, part]) => [part, one.parts[key] ?? 0]) : [["loss (the source is not known)", one.eval.nats_per_token ?? most]];
      const kl = one.eval.kl === undefined || one.eval.kl === null ? "" : `, KL ${nats(one.eval.kl)}`;
      return el("div", { class: "row" }, el("span", { class: "of" }, name(one.model)), stack(name(one.model), parts, most),
        el("span", { class: "number" }, `${nats(one.eval.nats_per_token)}${kl}`),
        el("p", { class: "legend" }, one.parts ? told(one.parts) : "The source of this text is not known, so its H(p) is not: the loss in one piece."));
    }));
    cards.replaceChildren(...found.filter((one) => one.figure).map((one) => {
      const place = el("div", {});
      figure(place, one.figure);
      return el("section", { class: "card" }, el("h3", {}, name(one.model)), place);
    }));
    tell();
    const run = [...chosen].find((model) => model.startsWith("run:"))?.slice(4);
    if (run) {
      const { approximation, evaluations } = await get("parts/training", { name: run });
      // Of a run that was made before this page only the end is known.
      if (!evaluations.length) { training.replaceChildren(); return; }
      const highest = Math.max(...evaluations.map((at) => at.nats ?? 0));
      const split = ({ nats: loss, entropy, kl, miscalibration }) => {
        if (kl === null) return [["loss (the source is not known)", loss]];
        const rest = kl - (approximation ?? 0) - (miscalibration ?? 0);
        return [["H(p)", entropy], ["approximation", approximation ?? 0], [approximation === null ? "approximation and estimation" : "estimation", rest], ["miscalibration", miscalibration ?? 0]];
      };
      const why = (approximation === null ? "Its context is too long to tell approximation from estimation: the blue part is both. "
        : "The approximation is its context's, the same at every step. ") + "Miscalibration is measured on the first 8,192 letters, of steps whose weights were saved.";
      training.replaceChildren(el("h2", {}, `Over training: ${run}`), ...evaluations.map((at) => el("div", { class: "row" },
        el("span", { class: "of" }, `step ${whole(at.step)}`), stack(`step ${at.step}`, split(at), highest),
        el("span", { class: "number" }, `${nats(at.nats)}${at.kl === null ? "" : `, KL ${nats(at.kl)}`}`),
        at.kl === null ? null : el("p", { class: "legend" }, split(at).filter(([, value]) => value !== 0).map(([part, value]) => `${part} ${nats(value)}`).join(" + ")))),
        evaluations.some((at) => at.kl !== null) ? el("p", { class: "legend" }, why) : null);
    } else training.replaceChildren();
  });
  root.replaceChildren(
    boxes, said, legend, stacks, training,
    el("h2", {}, "0.1 nats are about 10 % of the perplexity"), el("div", { class: "controls" }, less.node), perplexity,
    el("h2", {}, "Does it know how sure it is? Accuracy by confidence"), cards,
    el("h2", {}, "More text"), el("p", {}, "A chain of letters whose source is known, counted on more and more of its text: the KL follows parameters / 2N."), curve);
  await load();
  const found = await get("parts/consistency");
  figure(curve, found.figure);
  curve.append(el("figcaption", {}, `The source has ${found.free_parameters} free parameters. With ${whole(found.kl.at(-1)[0])} letters the KL is ${found.kl.at(-1)[1].toPrecision(2)} and the line ${found.line.at(-1)[1].toPrecision(2)}.`));
}
