// One step: from logits to the loss and its gradient.

import { bars, button, choice, el, facts, get, inline, labelled, latest, nats, post, slider, state, visible } from "./common.js";

export const id = "step";
export const title = "One step";
export const idea = "One prediction, and how it learns: scores become probabilities, the true letter's probability becomes a loss, and the gradient says where each score should go.";
export const hint = "drag the true letter's logit down until the model is confidently wrong: the gradient of the cross-entropy stays, that of the squared error vanishes.";
export const formula = [
  "log-sum-exp = max z + ln Σ e^(z − max z), and q = e^(z − log-sum-exp).",
  "Loss: −Σ p ln q, with p = (1 − ε) for the true token plus ε/|V| for each.",
  "Gradient by the logits: q − p. Descent moves z against it.",
  "Squared error ½ Σ (q − p)² has the gradient q ((q − p) − Σ q (q − p)): it is near zero wherever q is near 0 or 1, right or wrong.",
];

export async function open(root) {
  let found = null, z = [];
  const models = await get("models");
  const written = el("input", { type: "text", value: state.get("written", "the cat"), maxlength: "200", dir: "auto" });
  const model = choice("model", "model", models.map((one) => [one.id, one.name]), "5gram", () => load());
  const place = el("div", { class: "letters", role: "group", "aria-label": "The letter to predict", dir: "auto" });
  const epsilon = slider("ε, label smoothing", "epsilon", { min: 0, max: 0.5, step: 0.01, value: 0 }, () => compute());
  const table = el("div", { class: "steps" });
  const numbers = facts(["max z", "Σ e^(z − max)", "log-sum-exp", "−ln q of the true letter", "bits", "loss with ε", "squared error"]);
  let rows = null;
  function build() {
    const names = found.names;
    const logits = names.map((name, i) => {
      const input = el("input", { type: "range", min: -20, max: 20, step: 0.05, value: z[i], "aria-label": `logit of ${visible(name)}` });
      input.addEventListener("input", () => { z[i] = Number(input.value); compute(); });
      const value = el("span", { class: "number" });
      return { input, value, node: el("li", {}, el("span", { class: "of" }, visible(name)), input, value) };
    });
    rows = {
      logits,
      q: bars("Probabilities q", names), p: bars("Targets p", names),
      gradient: bars("Gradient of the cross-entropy, q − p", names, { signed: true }),
      squared: bars("Gradient of the squared error", names, { signed: true }),
    };
    for (const part of [rows.q, rows.p, rows.gradient, rows.squared]) part.mark(found.target);
    const section = (heading, node) => el("section", {}, el("h2", {}, heading), node);
    table.replaceChildren(
      section("1. Logits z", el("ul", { class: "bars", "aria-label": "Logits" }, ...logits.map((row) => row.node))),
      section("2. Probabilities q", rows.q.node), section("3. Target p", rows.p.node),
      section("4. Gradient q − p", rows.gradient.node), section("Squared error: its gradient", rows.squared.node));
  }
  const signed = (value) => (value >= 0 ? "+" : "−") + Math.abs(value).toFixed(4);
  function show(now) {
    rows.logits.forEach(({ input, value }, i) => { input.value = z[i]; value.textContent = z[i].toFixed(2); });
    rows.q.set(now.q, 1, (x) => x.toFixed(4));
    rows.p.set(now.p, 1, (x) => x.toFixed(4));
    rows.gradient.set(now.gradient, 1, signed);
    rows.squared.set(now.squared_gradient, 1, signed);
    numbers.set({
      "max z": now.max.toFixed(4), "Σ e^(z − max)": now.sum.toFixed(4), "log-sum-exp": now.lse.toFixed(4),
      "−ln q of the true letter": nats(now.nats), "bits": nats(now.bits), "loss with ε": nats(now.smoothed_loss), "squared error": now.squared_error.toFixed(4),
    });
  }
  const compute = latest(async () => found && show(await post("step/dragged", { z, target: found.target, epsilon: epsilon.value })));
  const load = latest(async () => {
    state.set({ written: written.value });
    const at = state.values.get("at");
    found = await get("step", { text: state.get("text"), model: model.value, written: written.value, at, epsilon: epsilon.value });
    z = found.z.slice();
    const had = place.contains(document.activeElement);
    place.replaceChildren(...found.tokens.map((token, i) => button(visible(token), () => { state.set({ at: i }); load(); },
      { class: "letter", "aria-pressed": String(i === found.at), "aria-label": `letter ${i + 1}: ${visible(token)}` })));
    if (had) place.children[found.at].focus();
    build();
    show(found.computed);
    said.textContent = `“${inline(found.tokens[found.at])}” after “${inline(found.tokens.slice(0, found.at).join(""))}”: the model's own loss over all ${found.vocab_size} tokens is ${nats(found.all.nats)} nats. `
      + `Here are its likeliest tokens and the true one (${found.scores}).`;
  });
  const takeStep = latest(async () => {
    if (!found) return;
    const now = await post("step/dragged", { z, target: found.target, epsilon: epsilon.value });
    z = z.map((value, i) => Math.max(-20, Math.min(20, value - now.gradient[i])));
    compute();
  });
  const said = el("p", {});
  written.addEventListener("change", () => { state.set({ at: null }); load(); });
  root.replaceChildren(
    el("div", { class: "controls" }, labelled("text", written), model.node, epsilon.node, button("Back to the model's logits", () => { z = found.z.slice(); compute(); }),
      button("Take a step", takeStep)),
    place, said, numbers.node, table);
  await load();
}
