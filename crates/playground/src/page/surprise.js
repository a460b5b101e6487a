// Where is a model surprised: a text coloured by surprisal.

import { bars, button, choice, el, facts, get, inline, labelled, latest, modelBoxes, nats, share, slider, state, visible } from "./common.js";

export const id = "surprise";
export const title = "Where is it surprised?";
export const idea = "Every letter of a text has a surprisal. Where a model is surprised shows what it has not learnt, or what nobody could know.";
export const hint = "point at the first letter of a word and then at its last; then raise the temperature and draw.";
export const formula = [
  "Surprisal of a token: −ln q(w | all before), in nats; divided by ln 2, in bits.",
  "Temperature: q′ ∝ q^(1/T). Top-p: only the fewest likeliest tokens that reach p together.",
  "Entropy of the next token: −Σ q ln q, the surprisal that the model itself expects.",
];

const MOST = 6;

export async function open(root) {
  let found = null, at = [0, 0];
  const models = await get("models");
  const written = el("textarea", { rows: "3", maxlength: "2000", dir: "auto" });
  written.value = state.get("written", "Once upon a time there was a small green frog.");
  const { node: boxes, chosen } = modelBoxes(models, 3, () => load());
  const reading = el("div", { class: "readings" });
  const about = el("p", { class: "cell", "aria-live": "polite" });
  const numbers = facts(["surprisal, nats", "bits", "q", "rank", "entropy of the next token"]);
  const next = bars("The likeliest tokens here", Array(10).fill(" "));
  const drawn = bars("What a sample draws from", Array(10).fill(" "));
  const sample = el("pre", { class: "sample", dir: "auto" });
  const temperature = slider("temperature", "temperature", { min: 0, max: 3, step: 0.05, value: 1 }, () => reshape());
  const topP = slider("top-p", "top_p", { min: 0.05, max: 1, step: 0.05, value: 1 }, () => reshape());

  const reshape = latest(async () => {
    if (!found) return;
    const place = { text: state.get("text"), model: found.models[at[0]].model, written: written.value, at: at[1] };
    const here = await get("surprise/next", { ...place, temperature: temperature.value, top_p: topP.value });
    here.next.forEach(({ token }, i) => { next.name(i, token); drawn.name(i, token); });
    next.set(here.next.map(({ q }) => q), 1, share);
    drawn.set(here.next.map((one) => one.drawn), 1, share);
    numbers.set({ "entropy of the next token": nats(here.entropy) });
    attended = await get("surprise/attention", place);
    const heads = attended.layers.flatMap((layer, l) => layer.map((_, h) => [`${l} ${h}`, `layer ${l + 1}, head ${h + 1}`]));
    head.node.hidden = looks.hidden = !heads.length;
    if (head.value === "" || !heads.some(([value]) => value === head.value)) head.fill(heads, state.get("head", "0 0"));
    paint();
  });
  const head = choice("Attention of", "head", [], "0 0", () => paint());
  const looks = el("p", { class: "heat", role: "img", "aria-label": "What the head looks at", dir: "auto" });
  head.node.hidden = looks.hidden = true;
  let attended = null;
  function paint() {
    if (!attended?.layers.length) return;
    const [l, h] = head.value.split(" ").map(Number);
    const weights = attended.layers[l]?.[h] ?? [];
    looks.replaceChildren(...weights.map((weight, i) => {
      const letter = el("span", { title: `${inline(attended.tokens[i])}: ${share(weight)}` }, attended.tokens[i]);
      letter.style.setProperty("--s", (0.85 * weight).toFixed(3));
      return letter;
    }));
  }
  function look(m, i) {
    at = [m, i];
    reading.querySelectorAll(".looked").forEach((node) => node.classList.remove("looked"));
    reading.querySelectorAll("p")[m]?.children[i]?.classList.add("looked");
    const token = found.models[m].tokens[i];
    about.textContent = `“${inline(token.token)}”, ${name(found.models[m].model)}: ${nats(token.nats, 3)} nats, number ${token.rank} of its expectations.`;
    numbers.set({ "surprisal, nats": nats(token.nats), "bits": nats(token.bits), "q": token.nats === null ? "0" : share(Math.exp(-token.nats)), "rank": String(token.rank) });
    state.set({ at: i });
    reshape();
  }
  const name = (model) => models.find((one) => one.id === model)?.name ?? model;
  const load = latest(async () => {
    state.set({ written: written.value });
    found = await get("surprise", { text: state.get("text"), models: [...chosen].join(","), written: written.value });
    reading.replaceChildren(...found.models.map((one, m) => {
      const letters = one.tokens.map((token, i) => {
        const node = el("span", { tabindex: i ? "-1" : "0", "data-at": i }, token.token === "␣" ? " " : token.token === "⏎" ? "⏎\n" : token.token);
        node.style.setProperty("--s", (0.85 * Math.min(1, (token.nats ?? 9) / MOST)).toFixed(3));
        return node;
      });
      const line = el("p", { class: "heat", role: "group", dir: "auto", "aria-label": `The text as ${name(one.model)} reads it` }, ...letters);
      const place = (event) => Number(event.target.dataset?.at ?? NaN);
      line.addEventListener("pointerover", (event) => { if (place(event) >= 0 && event.pointerType === "mouse") look(m, place(event)); });
      line.addEventListener("click", (event) => { if (place(event) >= 0) look(m, place(event)); });
      line.addEventListener("focusin", (event) => { if (place(event) >= 0) look(m, place(event)); });
      line.addEventListener("keydown", (event) => {
        const right = getComputedStyle(line).direction === "rtl" ? -1 : 1;
        const to = { ArrowRight: right, ArrowLeft: -right }[event.key];
        const node = to && letters[place(event) + to];
        if (!node) return;
        event.preventDefault();
        letters[place(event)].setAttribute("tabindex", "-1");
        node.setAttribute("tabindex", "0");
        node.focus();
      });
      return el("section", {}, el("h2", {}, `${name(one.model)}: ${nats(one.eval.nats_per_token)} nats per token`), line);
    }));
    if (found.models[0]?.tokens.length) look(0, Math.min(state.number("at", 5), found.models[0].tokens.length - 1));
  });
  let seed = state.number("seed", 1);
  const draw = latest(async () => {
    if (!found) return;
    const place = { text: state.get("text"), model: found.models[at[0]].model, written: written.value, at: at[1] };
    const { text } = await get("surprise/sample", { ...place, temperature: temperature.value, top_p: topP.value, seed });
    sample.textContent = text;
  });
  written.addEventListener("change", load);
  root.replaceChildren(
    el("div", { class: "controls" }, labelled("text", written), boxes),
    el("p", { class: "legend" }, "0 ", el("span", { class: "ramp", "aria-hidden": "true" }, ...[0, 1, 2, 3, 4, 5, 6].map((n) => {
      const box = el("i", {});
      box.style.setProperty("--s", (0.85 * n / MOST).toFixed(3));
      return box;
    })), ` ${MOST} nats or more`),
    reading, about, numbers.node,
    el("div", { class: "controls" }, temperature.node, topP.node, button("Draw on from here", () => { seed += 1; state.set({ seed }); draw(); })),
    el("div", { class: "pair" }, el("section", {}, el("h2", {}, "Likeliest here"), next.node), el("section", {}, el("h2", {}, "Drawn from"), drawn.node)),
    el("div", { class: "controls" }, head.node), looks,
    sample);
  await load();
  await draw();
}
