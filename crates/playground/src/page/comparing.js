// Smoothing and decay: a small comparison whose table grows.

import { button, choice, el, figure, get, labelled, latest, live, nats, post, scrolls, state } from "./common.js";

export const id = "comparing";
export const title = "Smoothing and decay";
export const idea = "Does a trick help? One run is luck; a comparison trains every variant with several seeds, and says which differences are more than chance.";
export const hint = "learn a small part of the text many times, and see whether ε or decay protect against learning it by heart.";
export const formula = [
  "Label smoothing: p′ = (1 − ε) p + ε/|V|. Decay: θ ← (1 − lr · decay) θ at every step.",
  "Differences are paired, seed by seed and block by block of the text; p by Student's t, adjusted by Holm. Below 0.05 the verdict is better or worse.",
];

export async function open(root, left) {
  let stop = () => {};
  const field = (label, name, value, attributes) => {
    const input = el("input", { type: "text", value: state.get(name, value), ...attributes });
    input.addEventListener("change", () => state.set({ [name]: input.value }));
    const number = (typed) => {
      if (typed.trim() === "" || Number.isNaN(Number(typed))) throw new Error(`${label}: “${typed}” is no number`);
      return Number(typed);
    };
    return { node: labelled(label, input), get list() { return input.value.split(/[\s,;]+/).filter(Boolean).map(number); }, get value() { return number(input.value); } };
  };
  const architecture = choice("architecture", "architecture", [["mlp", "MLP of 8 letters"], ["transformer", "small transformer"], ["bigram", "bigram table"]], "mlp", () => {});
  const epsilons = field("ε, one or more", "epsilons", "0, 0.1"), decays = field("decay, one or more", "decays", "0, 0.1");
  const seeds = field("seeds", "seeds", "3", { inputmode: "numeric" }), passes = field("passes", "passes", "4"), fraction = field("part of the text", "fraction", "0.02");
  const head = el("tr", {}, ...["variant", "seed", "nats per token", "seconds"].map((name) => el("th", { scope: "col" }, name)));
  const rows = el("tbody", {});
  const said = el("p", { class: "cell", "aria-live": "polite" }, "Nothing is compared yet.");
  const tables = el("div", { class: "tables", tabindex: "0", role: "region", "aria-label": "Verdicts" });
  const show = ({ waits, about, known }) => {
    const done = known.trials.length;
    said.textContent = known.error ?? (waits ? `It waits, number ${waits} in the queue.` : known.phase === "finished" ? `All ${done} runs are made.` : `${done} of ${about.comparison} runs are made.`);
    rows.replaceChildren(...known.trials.map((trial) => el("tr", {}, el("td", {}, trial.name), el("td", {}, String(trial.seed)),
      el("td", {}, trial.diverged ? "diverged" : nats(trial.eval.nats_per_token)), el("td", {}, trial.seconds.toFixed(1)))));
    if (known.tables) figure(tables, known.tables);
    else tables.replaceChildren();
    if (["finished", "failed", "stopped"].includes(known.phase)) stop();
  };
  const watch = (name) => {
    stop();
    state.set({ comparison: name });
    stop = live("comparisons/live", { name }, show);
  };
  const begin = button("Compare", latest(async () => {
    const wanted = { text: state.get("text"), architecture: architecture.value, epsilons: epsilons.list, decays: decays.list, seeds: seeds.value, passes: passes.value, fraction: fraction.value };
    const { name } = await post("comparisons", wanted);
    if (!left.aborted) watch(name);
  }), { class: "main" });
  const end = button("Stop", latest(() => post("runs/control", "", { name: state.get("comparison"), do: "stop" })));
  root.replaceChildren(
    el("form", { class: "controls", submit: (event) => event.preventDefault() }, architecture.node, ...[epsilons, decays, seeds, passes, fraction].map((one) => one.node), begin, end),
    said, scrolls("The runs", el("table", {}, el("thead", {}, head), rows)), el("h2", {}, "Verdicts"), tables);
  const name = state.get("comparison");
  if (name) {
    show(await get("comparisons", { name }));
    watch(name);
  }
}
