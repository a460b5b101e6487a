// Shared parts: elements, requests, the state in the address, controls.

/** An element. Attributes that are functions listen to events; children that are strings are text. */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name, value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child != null));
  return node;
}

/** The state of the page: the screen and its settings, as they are in the address. */
export const state = {
  screen: "",
  values: new URLSearchParams(),
  read() {
    const [screen, query] = location.hash.slice(1).split("?");
    this.screen = screen;
    this.values = new URLSearchParams(query ?? "");
  },
  get(name, otherwise) {
    return this.values.get(name) ?? otherwise;
  },
  number(name, otherwise) {
    const number = Number(this.values.get(name) ?? NaN);
    return Number.isFinite(number) ? number : otherwise;
  },
  set(changes) {
    for (const [name, value] of Object.entries(changes)) {
      if ((value ?? "") === "") this.values.delete(name);
      else this.values.set(name, String(value));
    }
    history.replaceState(null, "", this.address(this.screen));
  },
  /** The address of a screen, which keeps the text. */
  address(screen) {
    const values = screen === this.screen ? this.values : new URLSearchParams();
    const text = this.values.get("text");
    if (text) values.set("text", text);
    const query = values.toString();
    return `#${screen}${query ? "?" + query : ""}`;
  },
};

export function problem(message) {
  const place = document.getElementById("problem");
  place.textContent = message ?? "";
}

/** Takes a message away, unless there is another by now. */
function solved(message) {
  if (document.getElementById("problem").textContent === message) problem();
}

async function answer(response) {
  const found = await response.json();
  if (!response.ok) throw new Error(found.hint ? `${found.error}: ${found.hint}` : found.error);
  return found;
}

function address(path, parameters = {}) {
  const given = Object.entries(parameters).filter(([, value]) => value !== undefined && value !== null);
  const query = new URLSearchParams(given).toString();
  return `api/${path}${query ? "?" + query : ""}`;
}

/** What belongs to the screen that is shown: it ends when another one is. */
let shown = new AbortController();
/** Ends what belongs to the last screen; gives the signal of the next one. */
export function turn() {
  shown.abort();
  shown = new AbortController();
  return shown.signal;
}

let late = 0;
/** A request; one that takes long is told about. */
async function request(path, parameters, settings) {
  const tell = (more) => {
    late += more;
    document.getElementById("busy").textContent = late ? "It works on an answer …" : "";
  };
  let is_late = false;
  const timer = setTimeout(() => tell(+(is_late = true)), 1500);
  try {
    return await fetch(address(path, parameters), settings);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The program that makes this page does not answer. Does it still run? A new start has a new address.");
  } finally {
    clearTimeout(timer);
    if (is_late) tell(-1);
  }
}

/** Numbers of the server, for the screen that is shown unless `signal` is another. */
export async function get(path, parameters, signal = shown.signal) {
  return answer(await request(path, parameters, { signal }));
}

export async function post(path, body, parameters) {
  const text = typeof body === "string" || body instanceof Blob ? body : JSON.stringify(body);
  return answer(await request(path, parameters, { method: "POST", body: text }));
}

/** Calls `act` now and, if it is called again before it is done, once more afterwards: so a slider asks for no more than
 *  the server answers. Errors are shown. */
export function latest(act) {
  const { signal } = shown;
  let busy = false, again = false, said = null;
  const run = async () => {
    if (signal.aborted) return;
    if (busy) {
      again = true;
      return;
    }
    busy = true;
    try {
      await act();
      solved(said);
    } catch (error) {
      if (error.name !== "AbortError") problem(said = error.message);
    }
    busy = false;
    if (again) {
      again = false;
      run();
    }
  };
  return run;
}

/** Events of the server as they come, for as long as the screen is shown; gives a function that ends them. A window that
 *  is not seen has none: a browser has few connections to one server for all of its windows. */
export function live(path, parameters, hear) {
  const lost = "The connection is lost. The page tries to get it back.";
  let source = null;
  const close = () => {
    source?.close();
    source = null;
    solved(lost);
  };
  const open = () => {
    const mine = source = new EventSource(address(path, parameters));
    mine.onopen = () => solved(lost);
    mine.onmessage = (event) => {
      const found = JSON.parse(event.data);
      if (found.error && !found.runs) problem(found.error);
      else hear(found);
    };
    mine.addEventListener("end", () => stop());
    mine.onerror = async () => {
      if (source !== mine) return;
      if (mine.readyState !== EventSource.CLOSED) {
        problem(lost);
        return;
      }
      // It was refused; only another request is told why.
      const asking = new AbortController();
      try {
        const response = await request(path, parameters, { signal: asking.signal });
        if (!response.ok) await answer(response);
        asking.abort();
      } catch (error) {
        problem(error.message);
      }
    };
  };
  const seen = () => {
    if (document.hidden) close();
    else if (!source) open();
  };
  const stop = () => {
    document.removeEventListener("visibilitychange", seen);
    close();
  };
  document.addEventListener("visibilitychange", seen);
  shown.signal.addEventListener("abort", stop);
  seen();
  return stop;
}

/** A number of nats as everything here prints it. */
export function nats(value, digits = 4) {
  return value === null || value === undefined || !Number.isFinite(value) ? "∞" : value.toFixed(digits);
}

/** A probability. */
export function share(value) {
  if (value === 0) return "0";
  return value < 0.0001 ? value.toExponential(1) : value.toFixed(4);
}

export function whole(value) {
  return Math.round(value).toString().replace(/\B(?=(\d{3})+$)/g, ",");
}

/** White space made visible, and other letters without a shape by their numbers. */
export function visible(token) {
  return token.replaceAll(" ", "␣").replaceAll("\n", "⏎").replaceAll("\t", "⇥")
    .replace(/^[\p{C}\p{Z}\p{DI}]$/u, (c) => `U+${c.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`);
}

/** A token in a sentence, whose direction does not turn what is around it. */
export function inline(token) {
  return `\u2068${visible(token)}\u2069`;
}

let ids = 0;
function id() {
  ids += 1;
  return `c${ids}`;
}

/** A control with its label. */
export function labelled(label, control, ...after) {
  control.id ||= id();
  return el("div", { class: "control" }, el("label", { for: control.id }, label), control, ...after);
}

/** A slider that keeps its value in the address. `scale` turns its position into the value. */
export function slider(label, name, { min, max, step, value, scale = (x) => x, show = (x) => String(x), at = (x) => x }, moved) {
  const given = state.number(name, value);
  const input = el("input", { type: "range", min, max, step, value: at(given) });
  const output = el("output", { class: "value" }, show(given));
  output.htmlFor = input.id ||= id();
  input.setAttribute("aria-valuetext", show(given));
  let current = given;
  input.addEventListener("input", () => {
    current = scale(Number(input.value));
    output.textContent = show(current);
    input.setAttribute("aria-valuetext", show(current));
    state.set({ [name]: current });
    moved(current);
  });
  const node = labelled(label, input, output);
  return { node, get value() { return current; }, set value(to) { current = to; input.value = at(to); output.textContent = show(to); } };
}

/** A choice that keeps its value in the address. `options` are pairs of a value and its name. */
export function choice(label, name, options, otherwise, chosen) {
  const given = state.get(name, otherwise);
  const select = el("select", { change: () => { state.set({ [name]: select.value }); chosen(select.value); } });
  const fill = (list, value) => {
    select.replaceChildren(...list.map(([of, shown]) => el("option", { value: of }, shown)));
    select.value = list.some(([of]) => of === value) ? value : list[0]?.[0] ?? "";
  };
  fill(options, given);
  return { node: labelled(label, select), get value() { return select.value; }, fill };
}

/** Boxes of models, of which one to `most` are chosen; the address has the choice. */
export function modelBoxes(models, most, changed) {
  const known = (id) => models.some((model) => model.id === id);
  const wanted = state.get("models", "bigram,5gram").split(",").filter(known).slice(0, most);
  const chosen = new Set(wanted.length ? wanted : ["bigram", "5gram"]);
  const boxes = models.filter((model, i) => i < 12 || chosen.has(model.id)).map((model) => {
    const box = el("input", { type: "checkbox", checked: chosen.has(model.id) });
    box.addEventListener("change", () => {
      if (chosen.size === (box.checked ? most : 1)) { box.checked = !box.checked; return; }
      if (box.checked) chosen.add(model.id); else chosen.delete(model.id);
      state.set({ models: [...chosen].join(",") });
      changed();
    });
    return labelled(model.name, box);
  });
  return { node: el("fieldset", {}, el("legend", {}, `Models, at most ${most}`), ...boxes), chosen };
}

/** A part that scrolls sideways where it is too wide, also by keyboard. */
export function scrolls(label, ...children) {
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label }, ...children);
}

export function button(label, act, attributes = {}) {
  return el("button", { type: "button", click: act, ...attributes }, label);
}

/** Markup that the server has drawn, and escaped, as nodes. */
export function figure(into, markup) {
  const parsed = new DOMParser().parseFromString(markup, "text/html");
  into.replaceChildren(...parsed.body.childNodes);
}

/** A list of names and values, whose values are set later without moving anything. */
export function facts(names) {
  const values = names.map((name) => [name, el("dd", {}, "–")]);
  const node = el("dl", { class: "facts" }, ...values.map(([name, value]) => el("div", {}, el("dt", {}, name), value)));
  return { node, set: (found) => values.forEach(([name, value]) => { if (name in found) value.textContent = found[name]; }) };
}

/** A grid of cells that can be walked with the arrow keys. `label` names a cell, `chosen` hears which is looked at. */
export function grid(caption, rows, columns, label, chosen) {
  const cells = rows.map((_, i) => columns.map((_, j) => el("td", { tabindex: "-1", role: "gridcell", "data-at": `${i} ${j}` })));
  const head = el("tr", {}, el("td", { "aria-hidden": "true" }), ...columns.map((name) => el("th", { scope: "col" }, visible(name))));
  const body = rows.map((name, i) => el("tr", {}, el("th", { scope: "row" }, visible(name)), ...cells[i]));
  const table = el("table", { class: "cells", role: "grid", "aria-label": caption }, el("thead", {}, head), el("tbody", {}, ...body));
  let at = [0, 0];
  const look = (i, j, focus) => {
    cells[at[0]]?.[at[1]]?.setAttribute("tabindex", "-1");
    cells[at[0]]?.[at[1]]?.classList.remove("looked");
    at = [i, j];
    const cell = cells[i][j];
    cell.setAttribute("tabindex", "0");
    cell.classList.add("looked");
    cell.setAttribute("aria-label", label(i, j));
    if (focus) {
      cell.focus();
      state.set({ v: i, w: j });
    }
    chosen(i, j);
  };
  const place = (event) => event.target.closest?.("td[data-at]")?.dataset.at.split(" ").map(Number);
  table.addEventListener("click", (event) => {
    const found = place(event);
    if (found) look(...found, true);
  });
  table.addEventListener("keydown", (event) => {
    const [i, j] = at;
    const to = { ArrowUp: [i - 1, j], ArrowDown: [i + 1, j], ArrowLeft: [i, j - 1], ArrowRight: [i, j + 1], Home: [i, 0], End: [i, columns.length - 1] }[event.key];
    if (!to || !cells[to[0]]?.[to[1]]) return;
    event.preventDefault();
    look(...to, true);
  });
  return {
    node: el("div", { class: "scroll" }, table),
    look,
    /** Looks at the cell that the address names, or at that of an e after an e. */
    begin() {
      const e = Math.max(0, rows.indexOf("e"));
      const given = ["v", "w"].map((name) => state.number(name, e));
      look(...given.map((at) => (cells[at] ? at : e)), false);
    },
    get at() { return at; },
    /** Colours every cell by a strength from 0 to 1; negative ones are impossible. */
    paint(strength) {
      cells.forEach((row, i) => row.forEach((cell, j) => {
        const value = strength(i, j);
        cell.style.setProperty("--s", Math.max(0, value).toFixed(3));
        cell.classList.toggle("never", value < 0);
      }));
    },
  };
}

/** Bars with names and numbers, which keep their places while they move. */
export function bars(label, names, { signed = false } = {}) {
  const rows = names.map((name) => {
    const bar = el("i", {}), value = el("span", { class: "number" }, "–"), shown = el("span", { class: "of" }, visible(name));
    return { bar, value, shown, node: el("li", {}, shown, el("span", { class: signed ? "track signed" : "track" }, bar), value) };
  });
  return {
    node: el("ul", { class: "bars", "aria-label": label }, ...rows.map((row) => row.node)),
    set(values, most, show) {
      values.forEach((value, i) => {
        const { bar, value: number } = rows[i];
        const width = Math.min(1, Math.abs(value) / (most || 1));
        bar.style.setProperty("--w", (signed ? width / 2 : width).toFixed(4));
        bar.classList.toggle("minus", value < 0);
        number.textContent = show(value);
      });
    },
    name: (i, name) => { rows[i].shown.textContent = visible(name); },
    mark: (i) => rows.forEach((row, j) => row.node.classList.toggle("marked", i === j)),
  };
}
