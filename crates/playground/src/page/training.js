// Training: a network learns while one watches.

import { button, choice, el, facts, figure, get, labelled, latest, live, nats, post, problem, state, whole } from "./common.js";

export const id = "training";
export const title = "Train";
export const idea = "A network sees more than one letter back. Its loss falls below that of n-gram models, and on the embedded stories toward H(p), below which no model can be.";
export const hint = "train twice with one setting changed, and lay the curves over each other.";
export const formula = [
  "L = −(1/T) Σ ln q(w | all before), in nats per token; perplexity = exp(L).",
  "A step: θ ← (1 − lr · decay) θ − lr · m̂ / (√v̂ + 10⁻⁸), with the gradient of the loss smoothed by ε.",
  "No model has a lower loss than H(p), the entropy of the source, on average.",
];

const SIZES = [["", "medium"], ["small", "small"], ["large", "large"]];
const PHASES = {
  queued: "waits", starting: "reads the text", running: "trains", paused: "pauses", stopping: "stops after this step",
  finished: "finished", stopped: "stopped; its model can be used", failed: "failed",
};

function number(label, name, attributes) {
  const input = el("input", { type: "number", inputmode: "decimal", value: state.get(name, ""), ...attributes });
  input.addEventListener("change", () => state.set({ [name]: input.value }));
  return { node: labelled(label, input), get value() {
      if (!input.checkValidity()) throw new Error(`${label}: ${input.validationMessage}`);
      return input.value === "" ? undefined : Number(input.value);
    } };
}

export async function open(root, left) {
  let stop = () => {}, runs = [], watched = "";
  const architecture = choice("architecture", "architecture",
    [["transformer", "transformer"], ["lstm", "LSTM"], ["gru", "GRU"], ["mlp", "MLP of 8 letters"], ["bigram", "bigram table"]], "transformer", () => {});
  const size = choice("size", "size", SIZES, "", () => {});
  const fields = {
    passes: number("passes over the text", "passes", { min: "0.01", max: "1000", step: "any", placeholder: "as in its config" }),
    budget: number("or seconds", "budget", { min: "1", max: "3600", step: "any", placeholder: "–" }),
    lr: number("learning rate", "lr", { min: "0", step: "any", placeholder: "as in its config" }),
    epsilon: number("ε, label smoothing", "epsilon", { min: "0", max: "0.99", step: "any", placeholder: "0" }),
    decay: number("weight decay", "decay", { min: "0", step: "any", placeholder: "as in its config" }),
    seed: number("seed", "seed", { min: "0", step: "1", placeholder: "1337" }),
  };
  const begin = button("Train", latest(async () => {
    const wanted = { text: state.get("text"), architecture: architecture.value, size: size.value };
    for (const [name, field] of Object.entries(fields)) if (field.value !== undefined) wanted[name] = field.value;
    const { name } = await post("runs", wanted);
    if (left.aborted) return;
    await list();
    first.select.value = name;
    watch();
  }), { class: "main" });
  const pick = (label, name) => {
    const select = el("select", { change: () => watch() }), node = labelled(label, select);
    select.dataset.name = name;
    node.classList.add("wide");
    return { select, node };
  };
  const first = pick("run", "run"), second = pick("over it", "other");
  const numbers = facts(["state", "step", "training NLL", "validation NLL", "perplexity", "parameters"]);
  const curves = el("figure", { class: "curves", "aria-live": "off" });
  const sample = el("pre", { class: "sample", dir: "auto" });
  const heading = el("h2", {}, "No run yet");
  const bar = el("progress", { max: "1", value: "0", "aria-label": "progress of the run" });
  const control = (label, act) => button(label, latest(() => post("runs/control", "", { name: first.select.value, do: act })));
  const [pause, resume, end] = [control("Pause", "pause"), control("Go on", "resume"), control("Stop", "stop")];

  async function list() {
    runs = await get("runs");
    const shown = runs.filter((run) => run.text !== null && !run.about?.comparison).reverse();
    for (const { select } of [first, second]) {
      const [was, wanted] = [select.value, state.get(select.dataset.name, "")];
      const none = select === second.select ? [el("option", { value: "" }, "–")] : [];
      select.replaceChildren(...none, ...shown.map((run) => el("option", { value: run.name }, run.name)));
      const at = [was, wanted].find((name) => name && shown.some((run) => run.name === name));
      select.value = at ?? (select === first.select ? shown[0]?.name ?? "" : "");
    }
  }
  function show({ runs: [run, other], figure: markup }) {
    figure(curves, markup);
    const waits = run.waits ? `waits, number ${run.waits} in the queue (two are made at a time)` : PHASES[run.phase];
    numbers.set({
      "state": run.error ?? waits,
      "step": run.point ? `${whole(run.point.step)}${run.steps ? " of " + whole(run.steps) : ""}` : "–",
      "training NLL": run.point ? nats(run.point.train_nll) : "–",
      "validation NLL": run.evaluation ? nats(run.evaluation.eval.nats_per_token) : "–",
      "perplexity": run.evaluation ? nats(run.evaluation.eval.perplexity, 3) : "–",
      "parameters": run.parameters ? whole(run.parameters) : "–",
    });
    bar.value = run.progress;
    pause.disabled = run.phase !== "running";
    resume.disabled = run.phase !== "paused";
    end.disabled = !["queued", "starting", "running", "paused"].includes(run.phase);
    const texts = [run, other].filter((one) => one?.samples.length).map((one) => {
      const last = one.samples.at(-1);
      return `${other ? one.name + ", " : ""}step ${whole(last.step)}: ${last.text}`;
    });
    sample.textContent = texts.join("\n\n") || "(comes with the first evaluation)";
  }
  function watch() {
    const names = [first.select.value, second.select.value].filter((name, i, all) => name && all.indexOf(name) === i);
    state.set({ run: names[0] ?? null, other: names[1] ?? null });
    if (watched === names.join(",")) return;
    stop();
    watched = names.join(",");
    // Until its state has come, nothing of the run can be controlled.
    for (const control of [pause, resume, end]) control.disabled = true;
    // A choice may cut a long name; a heading does not.
    heading.textContent = names.join(" over ") || "No run yet";
    if (names.length) stop = live("runs/live", { names: watched }, show);
  }
  root.replaceChildren(
    el("form", { class: "controls", submit: (event) => event.preventDefault() }, architecture.node, size.node, ...Object.values(fields).map((field) => field.node), begin),
    el("div", { class: "controls" }, first.node, second.node, el("div", { class: "buttons wide" }, pause, resume, end)),
    heading, bar, numbers.node, curves,
    el("h2", {}, "It writes, after every evaluation"), sample);
  try {
    await list();
  } catch (error) {
    problem(error.message);
  }
  watch();
}
