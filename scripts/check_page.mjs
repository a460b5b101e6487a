// Drives every screen of `surprisal serve` in a real browser and checks what the page promises.
//
//     node scripts/check_page.mjs --program target/release/surprisal --modules FOLDER [--short] [--shots FOLDER] [--pictures FOLDER]
//
// FOLDER has node_modules with playwright-core and axe-core. No error on the console and no request but to the page itself; the
// numbers on the page are those of the JSON beside it; everything works by keyboard; no serious violation that axe-core knows; no
// sideways scrolling from 390 to 1920 pixels; nothing moves while values change; a screen is a page on paper. --shots leaves
// pictures of all screens, sizes and themes to be looked at; --pictures leaves the small ones of data/README.md. With --address
// instead of --program, one browser walks through the screens of a page that is served already, for --seconds: load_page.py starts
// three.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { parseArgs } from "node:util";

const { values: options } = parseArgs({
  options: {
    program: { type: "string" }, modules: { type: "string" }, chromium: { type: "string", default: "/usr/bin/chromium" },
    address: { type: "string" }, seconds: { type: "string", default: "60" }, short: { type: "boolean", default: false }, shots: { type: "string" }, pictures: { type: "string" },
  },
});
const require = createRequire(join(resolve(options.modules), "package.json"));
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

const SCREENS = ["guess", "counting", "learning", "training", "step", "surprise", "parts", "comparing"];
const SIZES = options.short ? [[1280, 800]] : [[1280, 800], [390, 844], [1920, 1080]];
const SCHEMES = options.short ? ["light"] : ["light", "dark"];

const folder = mkdtempSync(join(tmpdir(), "surprisal-page-"));
const server = options.address ? null : spawn(resolve(options.program), ["serve"], { cwd: folder, stdio: ["ignore", "pipe", "inherit"] });
const started = Date.now();
let { address } = options;
if (server) for await (const line of createInterface({ input: server.stdout })) {
  address = line;
  break;
}
assert.match(address, /^http:\/\/127\.0\.0\.1:\d+\/[a-z2-9]{32}\/$/);
const browser = await chromium.launch({
  executablePath: options.chromium,
  args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});
const json = async (path) => (await fetch(`${address}api/${path}`)).json();
const errors = [];

/** A window of the page whose errors and foreign requests are counted. */
async function open(width, height, scheme) {
  const context = await browser.newContext({ viewport: { width, height }, colorScheme: scheme, bypassCSP: false });
  const page = await context.newPage();
  page.on("console", (message) => { if (["error", "warning"].includes(message.type())) errors.push(`console: ${message.text()}`); });
  page.on("pageerror", (error) => errors.push(`page: ${error}`));
  page.on("request", (request) => { if (!request.url().startsWith(address) && !request.url().startsWith("data:")) errors.push(`request: ${request.url()}`); });
  page.on("requestfailed", (request) => { if (!/live/.test(request.url()) && request.failure()?.errorText !== "net::ERR_ABORTED") errors.push(`failed: ${request.url()}`); });
  return page;
}

async function show(page, screen, query = "") {
  await page.goto("about:blank");
  await page.goto(`${address}#${screen}${query ? "?" + query : ""}`);
  await page.waitForSelector("main h1");
  await page.waitForFunction(() => document.querySelector("main > div")?.childElementCount > 0);
  await page.waitForTimeout(700);
  assert.equal(await page.textContent("#problem"), "", screen);
}

const fact = (page, name) => page.locator(".facts div", { has: page.locator("dt", { hasText: new RegExp(`^${name}$`) }) }).locator("dd").innerText();
/** Waits until a number on the page is the one of the JSON. */
async function shows(page, name, value) {
  for (let i = 0; i < 300 && (await fact(page, name)) !== value; i += 1) await page.waitForTimeout(100);
  assert.equal(await fact(page, name), value, name);
}
/** The settings with which screens are looked at, by screen: what their checks have made. */
const states = {};
const nats = (value, digits = 4) => (value === null ? "∞" : value.toFixed(digits));

/** The numbers of the screens are those of the JSON. */
const CHECKS = {
  async guess(page) {
    const letters = page.locator(".letters button");
    for (const letter of ["e", "t", "a"]) {
      const before = await page.locator("tbody tr").count();
      await letters.getByText(letter, { exact: true }).click();
      await page.waitForFunction((n) => document.querySelectorAll("tbody tr").length > n, before);
    }
    const query = new URLSearchParams(new URL(page.url()).hash.split("?")[1]);
    const list = await json("models");
    const network = list.find((model) => model.fits);
    const models = ["bigram", "5gram", ...(network ? [network.id] : [])].join(",");
    const found = await json(`guess?${new URLSearchParams({ guesses: query.get("guesses"), from: query.get("from"), models })}`);
    assert.equal(found.rounds.length, 3);
    const shown = await page.locator("tfoot td").allInnerTexts();
    assert.deepEqual(shown.slice(0, 3), found.means.slice(0, 3).map((mean) => nats(mean)));
  },
  async counting(page) {
    const grid = await json("grid?smoothing=mle&k=0.1&alpha=5");
    await shows(page, "loss on new text, nats per token", nats(grid.eval.nats_per_token));
    await page.getByLabel("Smoothing").selectOption("add_k");
    const smoothed = await json("grid?smoothing=add_k&k=0.1&alpha=5");
    await shows(page, "loss on new text, nats per token", nats(smoothed.eval.nats_per_token));
    await shows(page, "perplexity", nats(smoothed.eval.perplexity, 3));
    // By keyboard: into the grid, and one cell on.
    const cell = page.locator(".cells td[tabindex='0']");
    await cell.focus();
    const before = await page.locator(".cell").first().innerText();
    await page.keyboard.press("ArrowRight");
    assert.notEqual(await page.locator(".cell").first().innerText(), before);
    const [i, j] = (await page.locator(".cells td:focus").getAttribute("data-at")).split(" ").map(Number);
    assert.match(page.url(), new RegExp(`v=${i}&w=${j}`));
    assert.match(await page.locator(".cell").first().innerText(), new RegExp(`q = ${smoothed.q[i][j].toFixed(4).replace(".", "\\.")}`));
  },
  async learning(page) {
    await page.waitForFunction(() => Number(document.querySelector(".facts dd").textContent) >= 20);
    const [step, loss, kl] = await page.locator(".facts dd").allInnerTexts();
    const state = await json(`descent?lr=10&steps=${step.replace(",", "")}`);
    assert.deepEqual([loss, kl], [nats(state.loss), nats(state.kl)]);
  },
  async training(page) {
    await page.waitForFunction(() => document.querySelectorAll(".curves polyline").length > 0);
    const [, name] = /run=([^&]+)/.exec(page.url());
    await page.waitForFunction(() => /^\d+\.\d{4}$/.test(document.querySelectorAll(".facts dd")[3].textContent), null, { timeout: 240_000 });
    const run = await json(`runs?name=${name}`);
    const shown = await fact(page, "validation NLL");
    assert.ok(run.known.evaluations.some((of) => nats(of.eval.nats_per_token) === shown), shown);
    // A second run, over the first; paused, resumed and stopped from the page.
    await page.getByLabel("architecture").selectOption("mlp");
    await page.getByLabel("passes over the text").fill("50");
    await page.getByRole("button", { name: "Train", exact: true }).click();
    // Until the second run is shown, the buttons are those of the first.
    await page.waitForFunction((first) => new URLSearchParams(location.hash.split("?")[1]).get("run") !== first, decodeURIComponent(name));
    await page.getByRole("button", { name: "Pause" }).click({ timeout: 60_000 });
    await page.getByRole("button", { name: "Go on" }).click({ timeout: 60_000 });
    await page.getByLabel("over it").selectOption(decodeURIComponent(name));
    await page.waitForFunction(() => document.querySelectorAll(".curves .wide .key li, .curves .key li").length >= 6);
    await page.getByRole("button", { name: "Stop", exact: true }).click();
    await page.waitForFunction(() => /stopped|stops/.test(document.querySelector(".facts dd").textContent));
  },
  async step(page) {
    const step = await json("step?model=5gram&written=the+cat");
    await shows(page, "−ln q of the true letter", nats(step.computed.nats));
    await shows(page, "log-sum-exp", step.computed.lse.toFixed(4));
    const logit = page.locator(".steps input").nth(step.target);
    await logit.focus();
    for (let i = 0; i < 5; i += 1) await page.keyboard.press("PageDown");
    await page.waitForTimeout(500);
    const z = await page.locator(".steps input").evaluateAll((all) => all.map((input) => Number(input.value)));
    const dragged = await (await fetch(`${address}api/step/dragged`, { method: "POST", body: JSON.stringify({ z, target: step.target, epsilon: 0 }) })).json();
    assert.ok(Math.abs(Number(await fact(page, "−ln q of the true letter")) - dragged.nats) < 0.05);
    assert.ok(dragged.nats > step.computed.nats + 1);
  },
  async surprise(page) {
    const written = "Once upon a time there was a small green frog.";
    const found = await json(`surprise?${new URLSearchParams({ models: "bigram,5gram", written })}`);
    const headings = await page.locator(".readings h2").allInnerTexts();
    found.models.forEach((one, i) => assert.ok(headings[i].endsWith(`${nats(one.eval.nats_per_token)} nats per token`), headings[i]));
    await page.locator(".readings p").nth(1).locator("span").nth(7).hover();
    await page.waitForTimeout(400);
    await shows(page, "surprisal, nats", nats(found.models[1].tokens[7].nats));
  },
  async parts(page) {
    await page.waitForFunction(() => document.querySelectorAll(".stacks .row").length === 2, null, { timeout: 120_000 });
    const found = await json("parts?models=bigram,5gram");
    const shown = await page.locator(".stacks .row .number").allInnerTexts();
    found.models.forEach((one, i) => assert.equal(shown[i], `${nats(one.eval.nats_per_token)}, KL ${nats(one.eval.kl)}`));
    for (const { parts, eval: of } of found.models) {
      const sum = parts.entropy + (parts.approximation ?? 0) + parts.estimation + parts.miscalibration;
      assert.ok(Math.abs(sum - of.nats_per_token) < 1e-9);
    }
    await page.waitForSelector(".curves svg", { state: "attached", timeout: 120_000 });
    // Over the training of a network that sees as far as the counted one.
    const body = JSON.stringify({ text: "babble", architecture: "bigram", passes: 2 });
    const { name } = await (await fetch(`${address}api/runs`, { method: "POST", body })).json();
    while ((await json(`runs?name=${name}`)).known.phase !== "finished") await page.waitForTimeout(300);
    const over = await json(`parts/training?name=${name}`);
    const [counted] = (await json("parts?models=bigram&text=babble")).models;
    assert.ok(Math.abs(over.approximation - counted.parts.approximation) < 1e-9 && over.approximation > 0.01);
    await show(page, "parts", `models=run:${name}&text=babble`);
    await page.waitForFunction((rows) => document.querySelectorAll(".stacks .row").length === rows, 1 + over.evaluations.length, { timeout: 60_000 });
    // Its KL in three parts, at every evaluation whose weights were saved.
    const measured = over.evaluations.filter((at) => at.miscalibration !== null);
    assert.ok(measured.length >= over.evaluations.length - 1 && measured.length > 0);
    const told = await page.locator(".stacks").last().locator(".row .legend").allInnerTexts();
    for (const [i, { entropy, kl, miscalibration }] of over.evaluations.entries()) {
      const estimation = kl - over.approximation - (miscalibration ?? 0);
      assert.ok(told[i].includes(`H(p) ${nats(entropy)} + approximation ${nats(over.approximation)} + estimation ${nats(estimation)}`), told[i]);
      if (miscalibration) assert.ok(told[i].endsWith(`miscalibration ${nats(miscalibration)}`), told[i]);
    }
    await show(page, "parts");
  },
  async comparing(page) {
    await page.getByLabel("architecture").selectOption("bigram");
    await page.getByLabel("seeds").fill("2");
    await page.getByLabel("passes").fill("1");
    await page.getByRole("button", { name: "Compare" }).click();
    await page.waitForSelector(".tables table", { timeout: 240_000 });
    const [, name] = /comparison=([^&]+)/.exec(page.url());
    const found = await json(`comparisons?name=${name}`);
    assert.equal(await page.locator("table").first().locator("tbody tr").count(), found.known.trials.length);
    const shown = await page.locator("table").first().locator("tbody tr td:nth-child(3)").allInnerTexts();
    assert.deepEqual(shown, found.known.trials.map((trial) => nats(trial.eval.nats_per_token)));
  },
};

/** What is wrong with a screen on paper: it has one page of A4, two with a network's training, and nothing is cut off. */
async function printed(page, screen) {
  const late = new Promise((done) => setTimeout(done, 30_000));
  const pdf = await Promise.race([page.pdf({ format: "A4", preferCSSPageSize: true }), late]);
  if (!pdf) throw new Error(`${screen} is not printed in 30 s`);
  const size = page.viewportSize(), pages = pdf.toString("latin1").match(/\/Type\s*\/Page\b/g).length, wrong = [];
  if (pages > (screen === "parts" ? 2 : 1)) wrong.push(`${screen} has ${pages} pages on paper`);
  await page.emulateMedia({ media: "print" });
  // A4 without its margins.
  await page.setViewportSize({ width: 718, height: size.height });
  const cut = await page.evaluate(() => [...document.querySelectorAll("main, main *")].filter((node) => node.getBoundingClientRect().right > innerWidth + 1).length);
  if (cut > 0) wrong.push(`${screen} has ${cut} parts beside the paper`);
  await page.emulateMedia({ media: null });
  await page.setViewportSize(size);
  return wrong;
}

/** Shows one screen after the other, as a student would, for a time. */
async function walk(seconds) {
  const page = await open(1280, 800, "light");
  for (let i = 0; Date.now() - started < 1000 * seconds; i += 1) {
    await show(page, SCREENS[i % SCREENS.length]);
    await page.waitForTimeout(5000);
    assert.equal(await page.textContent("#problem"), "");
  }
}

async function check() {
  const page = await open(1280, 800, "light");
  await show(page, "training");
  await page.waitForFunction(() => document.querySelectorAll(".curves polyline").length > 0, null, { timeout: 60_000 });
  await page.waitForFunction(() => /^[1-9]/.test(document.querySelectorAll(".facts dd")[1].textContent), null, { timeout: 60_000 });
  console.log(`from serve to the first moving point on the page: ${((Date.now() - started) / 1000).toFixed(2)} s, the browser's start included`);
  for (const screen of SCREENS) {
    await show(page, screen);
    await CHECKS[screen](page);
    states[screen] = new URL(page.url()).hash.split("?")[1] ?? "";
    console.log(`${screen}: numbers are the engine's`);
  }
  // A network beside the counts, which has heads of attention.
  const network = (await json("models")).find((model) => /transformer/.test(model.id));
  states.training = new URLSearchParams({ run: network.name }).toString();
  states.surprise = new URLSearchParams({ models: `${network.id},5gram`, at: "30" }).toString();
  if (!options.short) states.parts = new URLSearchParams({ models: `bigram,5gram,${network.id}` }).toString();
  // A screen that a teacher sends opens as it was.
  await show(page, "counting", "smoothing=add_k&k=2");
  const two = await json("grid?smoothing=add_k&k=2&alpha=5");
  await shows(page, "loss on new text, nats per token", nats(two.eval.nats_per_token));
  // One's own text, whose markup stays text.
  await page.getByRole("button", { name: "Your own text…" }).click();
  await page.getByRole("textbox", { name: "Text" }).fill("<img src=x onerror=alert(1)> мир & <b>猫</b>\n".repeat(60));
  await page.getByRole("textbox", { name: "Name" }).fill("<script>alert(1)</script>");
  await page.getByRole("button", { name: "Use this text" }).click();
  await page.waitForFunction(() => /alert/.test(document.querySelector("#texts select").selectedOptions[0].textContent));
  assert.equal(await page.locator("main img, main b").count(), 0);
  for (const screen of SCREENS) await show(page, screen, new URL(page.url()).hash.split("?")[1]?.match(/text=[^&]*/)?.[0]);
  // A text from right to left; its next letter is at its left.
  const arabic = await (await fetch(`${address}api/texts?name=nahr`, { method: "POST", body: "القطة ترى الكلب عند النهر\u200c.\n".repeat(60) })).json();
  await show(page, "guess", `text=${arabic.id}`);
  assert.equal(await page.locator(".context").evaluate((context) => getComputedStyle(context).direction), "rtl");
  assert.ok((await page.locator(".letters button").allInnerTexts()).includes("U+200C"));
  // A screen that is left before it is there leaves nothing in the address of the next one.
  for (const screen of [...SCREENS, "guess"]) await page.evaluate((of) => document.querySelector(`#screens [data-screen=${of}]`).click(), screen);
  await page.waitForFunction(() => document.querySelectorAll(".letters button").length > 0);
  await page.waitForTimeout(700);
  assert.deepEqual([...new URLSearchParams(new URL(page.url()).hash.split("?")[1]).keys()], ["text"]);
  await page.context().close();

  for (const [width, height] of SIZES) for (const scheme of SCHEMES) {
    const page = await open(width, height, scheme);
    for (const screen of SCREENS) {
      await show(page, screen, states[screen]);
      if (screen === "parts" || screen === "training") await page.waitForSelector(".curves svg", { state: "attached", timeout: 120_000 });
      if (screen === "surprise") await page.waitForFunction(() => document.querySelectorAll(".heat[role=img] span").length > 0, null, { timeout: 60_000 });
      const over = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
      if (over > 0) errors.push(`${screen} at ${width}: ${over} pixels too wide`);
      const shifts = await page.evaluate(() => new Promise((done) => {
        let sum = 0;
        new PerformanceObserver((list) => list.getEntries().forEach((entry) => { if (!entry.hadRecentInput) sum += entry.value; })).observe({ type: "layout-shift" });
        setTimeout(() => done(sum), 1500);
      }));
      if (shifts >= 0.02) errors.push(`${screen} at ${width}: things move by ${shifts} while values change`);
      await page.evaluate(axe);
      const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
      const serious = violations.filter((one) => ["serious", "critical"].includes(one.impact));
      errors.push(...serious.map((one) => `${screen} ${width} ${scheme}: ${one.id}: ${one.nodes[0].html.slice(0, 160)}`));
      if (width === 1280) errors.push(...await printed(page, screen));
      if (options.shots) {
        mkdirSync(options.shots, { recursive: true });
        await page.screenshot({ path: join(options.shots, `${screen}-${width}-${scheme}.png`), fullPage: true });
      }
      if (options.pictures && width === 1280 && scheme === "light") {
        mkdirSync(options.pictures, { recursive: true });
        await page.setViewportSize({ width: 1000, height: 700 });
        if (screen === "training") await page.locator(".facts").evaluate((facts) => facts.scrollIntoView());
        await page.screenshot({ path: join(options.pictures, `page-${screen}.png`), scale: "css" });
        await page.setViewportSize({ width, height });
      }
    }
    await page.context().close();
    console.log(`${width} × ${height}, ${scheme}: looked at, ${errors.length} problems so far`);
  }
}

try {
  await (server ? check() : walk(Number(options.seconds)));
  assert.deepEqual(errors, []);
} finally {
  await browser.close();
  if (server) {
    const ended = new Promise((done) => server.once("exit", done));
    server.kill("SIGINT");
    const code = await ended;
    if (process.exitCode === undefined && code !== 0) {
      console.error(`serve ended with ${code}`);
      process.exitCode = 1;
    }
  }
  rmSync(folder, { recursive: true, force: true });
}
