// Fills the page, and asks a live server for what is new.

const doneOf = (table) => table.trials.flat().filter((trial) => DATA.trials.status[trial] === "done").length;

function fillPage() {
  document.title = DATA.title;
  $("title").textContent = DATA.title;
  $("about").textContent = `${DATA.grids.map((one) => one.path).slice(0, 4).join(", ")}${DATA.grids.length > 4 ? ", ..." : ""}; results in ${DATA.results}; ${DATA.made_at} UTC; gridrun ${DATA.version}`;
  const { counts, launches, running } = DATA.state;
  const all = running.length ? { running: running.length, ...counts } : counts;
  $("counts").replaceChildren(...Object.entries(all).map(([status, count]) => el("li", { class: `count ${status.split(" ")[0]}` }, `${count.toLocaleString("en")} ${status}`)));
  $("running").hidden = !launches.length && !running.length;
  $("running").replaceChildren(
    ...launches.map((launch) => el("p", {},
      el("progress", { max: 1, value: launch.share, "aria-label": "Share of the work that is done" }),
      ` ${launch.ended} of ${number(launch.total, "trial")} ended, since ${launch.started} UTC${launch.seconds_left === null ? "" : `, about ${clock(launch.seconds_left / 3600)} left`}`)),
    ...running.map((run) => el("p", {},
      el("progress", { max: run.epochs, value: run.epoch, "aria-label": `Epochs of ${run.trial}` }),
      ` epoch ${run.epoch} of ${run.epochs}${run.error === null ? "" : `, test error ${(100 * run.error).toFixed(2)} %`}: ${run.about}${run.place ? ` (${run.place})` : ""}`)));
  const groups = new Map();
  DATA.tables.forEach((table, place) => {
    const trials = table.trials.flat();
    const text = trials.length ? `${table.title} (${doneOf(table)} of ${trials.length} done)` : table.title;
    groups.set(table.grid, [...(groups.get(table.grid) || []), el("option", { value: place }, text)]);
  });
  $("table-choice").replaceChildren(...[...groups].map(([name, entries]) => (groups.size > 1 ? el("optgroup", { label: name }, ...entries) : entries)).flat());
  $("table-choice").value = state.table;
  options($("curve-metric"), DATA.charts.curve_choices.map((choice, place) => [place, choice.label]), $("curve-metric").value);
  $("tab-failures").textContent = `Failures (${DATA.failures.trial.length})`;
  $("tab-searches").hidden = !DATA.searches.length;
  $("view-provenance").replaceChildren(
    el("h2", {}, "Code that trained the trials"), el("div", { class: "scroll", tabindex: "0" }, htmlTable(DATA.provenance.code.headers, DATA.provenance.code.rows)),
    el("h2", {}, "Machines"), el("div", { class: "scroll", tabindex: "0" }, htmlTable(DATA.provenance.machines.headers, DATA.provenance.machines.rows)),
    el("p", { class: "hint" }, "Open a row of a table (its number) to see its trials, and the commands that train it again."));
}

// Take in what is new, and keep what the reader has chosen: table, sort, filters and selected rows.
function update(fresh) {
  const before = shown();
  const chosen = new Set([...state.selected].map((id) => before?.configs[id] || before?.labels[id]));
  const keep = grid && { sort: grid.getSorters().map(({ field, dir }) => ({ column: field, dir })), filters: grid.getHeaderFilters() };
  const same = before && JSON.stringify(fresh.tables.find((one) => one.id === before.id)?.columns) === JSON.stringify(before.columns);
  DATA = { ...fresh, live: true };
  kept.clear();
  state.table = Math.max(0, DATA.tables.findIndex((table) => table.id === before?.id));
  const table = shown();
  if (table) state.selected = new Set(table.labels.map((_, id) => id).filter((id) => chosen.has(table.configs[id] || table.labels[id])));
  fillPage();
  if (!table) return;
  if (same && grid) {
    state.rows = rowsOf(table);
    $("notes").replaceChildren(...table.notes.map((note) => el("li", {}, note)));
    grid.replaceData(state.rows).then(applyFilters);
    drawShown();
  } else {
    buildTable(keep || {});
  }
}

const POLL_MILLISECONDS = 2000;

async function poll() {
  try {
    const answer = await fetch(`data.json?stamp=${DATA.stamp}`, { cache: "no-store" });
    if (answer.status === 200) update(await answer.json());
    else if (answer.status !== 204) throw new Error(String(answer.status));
    document.body.classList.remove("stale");
  } catch {
    document.body.classList.add("stale"); // the server has ended, or is busy; what is here stays
  }
  setTimeout(poll, POLL_MILLISECONDS);
}

state.table = Math.max(0, DATA.tables.findIndex(doneOf)); // the first table that has something to show
fillPage();
if (DATA.tables.length) buildTable();
else $("table-title").textContent = "The named grids have no tables.";
if (!DATA.tables.length && DATA.searches.length) chooseTab($("tab-searches"));
if (DATA.live) poll();
