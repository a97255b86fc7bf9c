"use strict";
// The page's data, elements and what is read on demand. Text goes into the page as text, never as markup.

let DATA = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);

function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

function say(text) {
  $("live").textContent = text;
}

const number = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;

function options(select, entries, chosen) {
  select.replaceChildren(...entries.map(([value, text]) => el("option", { value }, text)));
  if (entries.some(([value]) => String(value) === String(chosen))) select.value = chosen;
}

function htmlTable(headers, rows, numeric = () => false) {
  const cell = (tag) => (text, place) => el(tag, { class: numeric(place) ? "number" : null }, String(text));
  return el("table", {},
    el("thead", {}, el("tr", {}, ...headers.map(cell("th")))),
    el("tbody", {}, ...rows.map((row) => el("tr", {}, ...row.map(cell("td"))))));
}

function debounced(work, milliseconds) {
  let timer;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(work, milliseconds);
  };
}

// --- what is read on demand ------------------------------------------------------------------------

const kept = new Map();

function once(name, make) {
  if (!kept.has(name)) kept.set(name, make());
  return kept.get(name);
}

async function unpack(name) {
  let bytes;
  if (DATA.live) {
    const answer = await fetch(`blob/${name}?stamp=${DATA.stamp}`);
    if (!answer.ok) throw new Error(`${name}: ${answer.status}`);
    bytes = await answer.arrayBuffer();
  } else {
    const text = $(`blob-${name}`).textContent;
    bytes = Uint8Array.fromBase64 ? Uint8Array.fromBase64(text) : Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  }
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

const unpackJson = (name) => once(name, async () => JSON.parse(new TextDecoder().decode(await unpack(name))));

// Undoes what curves.py does: differences from value to value, all low bytes before all high ones.
const steps = (metric) =>
  once(`curves-${metric}`, async () => {
    const bytes = await unpack(`curves-${metric}`);
    const count = bytes.length / 2;
    const found = new Uint16Array(count);
    for (let i = 0, last = 0; i < count; i++) {
      last = (last + bytes[i] + (bytes[count + i] << 8)) & 65535;
      found[i] = last;
    }
    return found;
  });

const starts = () =>
  once("starts", () => {
    const found = [0];
    for (const length of DATA.curves.num_epochs) found.push(found[found.length - 1] + length);
    return found;
  });

function curveOf(all, metric, trial) {
  const { low, high, log } = DATA.curves.metrics[metric];
  const [floor, top] = [low[trial], high[trial]];
  const value = log[trial]
    ? (share) => floor * Math.pow(top / floor, share)
    : (share) => floor + (top - floor) * share;
  return Float64Array.from(all.subarray(starts()[trial], starts()[trial + 1]), (step) =>
    step === 65535 ? NaN : value(step / 65534));
}

// --- views and themes ------------------------------------------------------------------------------

function chooseTab(tab) {
  for (const other of $("tabs").children) {
    const chosen = other === tab;
    other.setAttribute("aria-selected", chosen);
    other.tabIndex = chosen ? 0 : -1;
    $(other.getAttribute("aria-controls")).hidden = !chosen;
  }
  drawShown();
}

$("tabs").addEventListener("click", (event) => event.target.role === "tab" && chooseTab(event.target));
$("tabs").addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!step) return;
  const shown = [...$("tabs").children].filter((tab) => !tab.hidden);
  const next = shown[(shown.indexOf(event.target) + step + shown.length) % shown.length];
  next.focus();
  chooseTab(next);
});

const isDark = () => document.documentElement.dataset.theme === "dark";
document.documentElement.dataset.theme = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
$("theme").addEventListener("click", () => {
  document.documentElement.dataset.theme = isDark() ? "light" : "dark";
  redrawCharts();
});

for (const menu of document.querySelectorAll("details.menu")) {
  menu.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    menu.open = false;
    menu.querySelector("summary").focus();
  });
}
document.addEventListener("click", (event) => {
  for (const menu of document.querySelectorAll("details.menu[open]")) if (!menu.contains(event.target)) menu.open = false;
});

$("dialog-close").addEventListener("click", () => $("dialog").close());
$("dialog").addEventListener("click", (event) => event.target === $("dialog") && $("dialog").close());

function showDialog(title, ...body) {
  $("dialog-title").textContent = title;
  $("dialog-body").replaceChildren(...body.filter((part) => part !== null));
  $("dialog").showModal();
  $("dialog").scrollTop = 0;
}

async function copyText(text, what) {
  try {
    await navigator.clipboard.writeText(text);
    say(`Copied ${what}`);
    toast(`Copied ${what}`);
  } catch {
    showDialog(`Copy ${what}`, el("textarea", { readonly: true, rows: 20, "aria-label": what }, text));
    $("dialog-body").firstChild.select();
  }
}

function toast(text) {
  document.querySelector(".toast")?.remove();
  const shown = el("div", { class: "toast", "aria-hidden": "true" }, text);
  document.body.append(shown);
  setTimeout(() => shown.remove(), 1800);
}
