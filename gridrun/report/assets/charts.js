// Charts of the rows in view. Python wrote their options (DATA.charts); here they get rows, curves, colours.

const charts = new Map();
const resized = new ResizeObserver((entries) => entries.forEach(({ target, contentRect }) => {
  const chart = charts.get(target.id)?.chart; // it also says so when nothing has changed, at the first look
  if (chart && (Math.abs(chart.getWidth() - contentRect.width) > 1 || Math.abs(chart.getHeight() - contentRect.height) > 1)) chart.resize();
}));

function merged(base, more) {
  const isPlain = (value) => value && typeof value === "object" && !Array.isArray(value);
  const pairs = Object.entries(more).map(([name, value]) => [name, isPlain(value) && isPlain(base[name]) ? { ...base[name], ...value } : value]);
  return { ...base, ...Object.fromEntries(pairs) };
}

// Draw into an element: the options that Python wrote, and `more`. `wire` adds handlers once. A chart that
// is brushed keeps its brush.
function draw(id, base, more, wire) {
  let one = charts.get(id);
  if (!one) {
    const chart = echarts.init($(id), isDark() ? "dark" : null);
    one = { chart };
    charts.set(id, one);
    resized.observe($(id));
    wire?.(chart);
  }
  one.chart.setOption(merged(base, more), !brushed.has(id));
  $(id).setAttribute("role", "img");
  return one.chart;
}

function redrawCharts() {
  for (const [id, { chart }] of charts) {
    chart.dispose();
    resized.unobserve($(id));
  }
  charts.clear();
  brushed.clear();
  drawShown();
}

const palette = () => DATA.charts.palette[isDark() ? "dark" : "light"];
const isShown = (id) => !$(id).closest("[hidden]");
const tip = (lines) => lines.filter(Boolean).join("\n");
const cut = (text, length = 60) => (text.length > length ? `${text.slice(0, length - 1)}…` : text);
const short = (value) => (typeof value === "number" ? String(Number(value.toPrecision(5))) : value);

function drawShown() {
  if (isShown("view-tables") && grid) drawRowsSoon();
  if (isShown("view-timeline")) drawTimeline();
  if (isShown("view-failures")) drawFailures();
  if (isShown("view-searches")) drawSearches();
}

// Charts of rows are drawn when they come into view, after the table has been.
const drawers = { curves: () => drawCurves(), scatter: () => drawScatter(), parallel: () => drawParallel() };
const near = new Set();
const stale = new Set();
const scrolled = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) isIntersecting ? near.add(target.dataset.chart) : near.delete(target.dataset.chart);
  drawNear();
}, { rootMargin: "150px" });
for (const card of document.querySelectorAll("[data-chart]")) scrolled.observe(card);

function drawNear() {
  if (!grid) return;
  for (const id of near) if (stale.delete(id)) drawers[id]();
}

const drawRowsSoon = debounced(() => {
  for (const id of Object.keys(drawers)) stale.add(id);
  requestAnimationFrame(drawNear);
}, 150);

// --- curves ----------------------------------------------------------------------------------------

const curveTrials = (id) => shown().trials[id].filter((trial) => DATA.curves.num_epochs[trial] > 0);

function rowsOfCurves() {
  const own = state.visible.filter((id) => curveTrials(id).length);
  const chosen = own.filter((id) => state.selected.has(id));
  return { chosen: (chosen.length ? chosen : own.slice(0, 6)).slice(0, DATA.charts.max_curves), all: chosen.length ? chosen.length : own.length, selected: chosen.length > 0 };
}

// Median, lowest and highest of several curves, as [epoch, value]; epochs without any value are left out.
function summary(curves) {
  const length = Math.max(0, ...curves.map((curve) => curve.length));
  const found = { median: [], low: [], high: [] };
  const values = new Float64Array(curves.length);
  for (let at = 0; at < length; at++) {
    let count = 0;
    for (const curve of curves) if (curve[at] > -Infinity) values[count++] = curve[at]; // not untested (NaN), nor beyond its end
    if (!count) continue;
    const sorted = values.subarray(0, count).sort();
    const middle = count >> 1;
    found.median.push([at + 1, count % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2]);
    found.low.push([at + 1, sorted[0]]);
    found.high.push([at + 1, sorted[count - 1]]);
  }
  return found;
}

// Exponential moving average, corrected for its start.
function smoothed(points, weight) {
  let [sum, mass] = [0, 0];
  return points.map(([epoch, value]) => {
    sum = weight * sum + (1 - weight) * value;
    mass = weight * mass + (1 - weight);
    return [epoch, sum / mass];
  });
}

function curveSeries(name, color, metric, all, id, dashed) {
  const trials = curveTrials(id);
  const logY = $("curve-log-y").checked;
  const positive = (points) => (logY ? points.filter(([, value]) => value > 0) : points);
  const of = (trial) => curveOf(all, metric, trial);
  const done = trials.filter((trial) => DATA.trials.status[trial] === "done");
  const { median, low, high } = summary(done.map(of));
  const weight = Number($("curve-smooth").value);
  const plain = { name, type: "line", showSymbol: median.length <= 12, symbolSize: 5, color, emphasis: { focus: "series" } };
  const hidden = { ...plain, showSymbol: false, silent: true, tooltip: { show: false }, lineStyle: { opacity: 0 }, emphasis: { disabled: true } };
  const series = [];
  if ($("curve-band").checked && done.length > 1) {
    const height = low.map(([epoch, value], place) => [epoch, high[place][1] - value]);
    series.push(
      { ...hidden, stack: `${id} ${metric}`, data: positive(low) },
      { ...hidden, stack: `${id} ${metric}`, areaStyle: { color, opacity: 0.16 }, data: height.filter((_, place) => !logY || low[place][1] > 0) });
  }
  if (weight && median.length) series.push({ ...hidden, data: positive(median), lineStyle: { width: 1, opacity: 0.3 } });
  if (median.length) series.push({ ...plain, data: positive(weight ? smoothed(median, weight) : median), lineStyle: { width: 2, type: dashed ? "dashed" : "solid" } });
  for (const trial of trials.filter((one) => DATA.trials.status[one] !== "done")) {
    const own = summary([of(trial)]).median;
    series.push({ ...plain, data: positive(own), lineStyle: { width: 1.5, type: "dotted" } });
  }
  return series;
}

// The reader's next choice of a metric need not wait: unpack the others, one after the other, while nothing else is to do.
async function unpackNext() {
  const metric = Object.keys(DATA.curves.metrics).find((name) => !kept.has(`curves-${name}`));
  if (!metric) return;
  await steps(metric);
  requestIdleCallback(unpackNext);
}

let drawing = 0;

async function drawCurves() {
  const choice = DATA.charts.curve_choices[Number($("curve-metric").value)];
  const { chosen, all, selected } = rowsOfCurves();
  const turn = ++drawing;
  $("curves").hidden = !choice || !chosen.length;
  if (!choice || !chosen.length) {
    $("curve-hint").textContent = "No row in view has been trained yet.";
    return;
  }
  const columns = await Promise.all(choice.metrics.map(steps));
  if (turn !== drawing) return; // another choice was made meanwhile
  if (!DATA.live) requestIdleCallback(unpackNext);
  const series = chosen.flatMap((id, place) => {
    const name = `${id + 1}: ${cut(shown().labels[id])}`;
    const color = palette()[place % palette().length];
    return choice.metrics.flatMap((metric, nth) => curveSeries(name, color, metric, columns[nth], id, nth > 0 || place >= palette().length));
  });
  const log = (box) => ($(box).checked ? "log" : "value");
  draw("curves", DATA.charts.curves, {
    xAxis: { type: log("curve-log-x"), min: $("curve-log-x").checked ? 1 : undefined },
    yAxis: { type: log("curve-log-y"), name: choice.axis },
    tooltip: { valueFormatter: short },
    series,
  });
  const rows = chosen.length === all ? number(all, `${selected ? "selected " : ""}row`) : `The first ${chosen.length} of ${number(all, `${selected ? "selected " : ""}row`)}`;
  $("curve-hint").textContent = `${rows}${selected ? "" : "; select rows to choose"}. Line: median of the seeds; band: lowest to highest; dotted: diverged.`;
}

// --- axes that the rows offer ----------------------------------------------------------------------

const axisColumns = (roles) => shown().columns.filter((column) => roles.includes(column.page.role));
const differs = (column) => new Set(shown().texts[Number(column.field.slice(1))].filter((text) => text !== "")).size > 1;
const valueOf = (column, id) => (column.page.number ? key(column.field, id) : shown().texts[Number(column.field.slice(1))][id] || "none");

function chooseAxes() {
  const inputs = axisColumns(["option"]).filter(differs);
  const results = axisColumns(["metric", "beside"]).filter((column) => column.page.number);
  const entries = (columns) => columns.map((column) => [column.field, column.title]);
  const first = inputs.find((column) => column.page.number && column.visible) || inputs.find((column) => column.visible) || inputs[0];
  options($("scatter-x"), entries([...inputs, ...results]), $("scatter-x").value || first?.field);
  const measured = results.find((column) => shown().keys[Number(column.field.slice(1))].some((key) => key !== null)) || results[0];
  options($("scatter-y"), entries(results), measured?.field);
  options($("scatter-color"), [["", "none"], ...entries([...inputs, ...results])], "");
  options($("parallel-y"), entries(results), measured?.field);
  if (first) $("scatter-x").value = first.field;
  setLogs();
  const axes = [...inputs.filter((column) => column.visible), ...inputs.filter((column) => !column.visible)].slice(0, 24);
  $("parallel-axes").replaceChildren(...axes.map((column, place) => {
    const box = el("input", { type: "checkbox", value: column.field, onchange: drawParallel });
    box.checked = column.visible ? place < 8 : place < 5;
    return el("label", {}, box, ` ${column.title}`);
  }));
  brushed.clear();
}

function setLogs() {
  for (const axis of ["x", "y"]) {
    const field = $(`scatter-${axis}`).value;
    $(`scatter-log-${axis}`).checked = Boolean(field && columnAt(field).page.log);
  }
}

function axisOf(column, log, ids) {
  if (!column.page.number) return { type: "category", data: [...new Set(ids.map((id) => valueOf(column, id)))], name: column.title };
  return { type: log ? "log" : "value", name: column.title };
}

const brushed = new Map(); // what is brushed now, by chart
let quiet = false;

function clearBrushes() {
  brushed.clear();
  charts.get("scatter")?.chart.dispatchAction({ type: "brush", areas: [] });
  if (charts.has("parallel")) drawParallel();
}

// --- scatter ---------------------------------------------------------------------------------------

let dots = [];

function drawScatter() {
  const [x, y, color] = ["x", "y", "color"].map((axis) => $(`scatter-${axis}`).value).map((field) => (field ? columnAt(field) : null));
  $("scatter").hidden = !x || !y;
  if (!x || !y) {
    $("scatter-hint").textContent = x ? "Nothing is measured yet." : "The rows differ in no option.";
    return;
  }
  const [logX, logY] = ["x", "y"].map((axis) => $(`scatter-log-${axis}`).checked);
  const fits = (value, log) => value !== null && value !== "" && !(log && value <= 0);
  dots = state.visible.filter((id) => fits(valueOf(x, id), logX && x.page.number) && fits(valueOf(y, id), logY));
  $("scatter").hidden = !dots.length;
  if (!dots.length) {
    $("scatter-hint").textContent = "No row in view has both values.";
    return;
  }
  const point = (id) => [valueOf(x, id), valueOf(y, id), color ? valueOf(color, id) : 0, id];
  const ringed = dots.filter((id) => state.selected.has(id)).slice(0, 500);
  const chart = draw("scatter", DATA.charts.scatter, {
    color: palette(),
    xAxis: axisOf(x, logX, dots),
    yAxis: axisOf(y, logY, dots),
    dataset: undefined,
    visualMap: color ? colorMap(color) : undefined,
    tooltip: { formatter: ({ value }) => tip([cut(shown().labels[value[3]]), `${x.title}: ${short(value[0])}`, `${y.title}: ${short(value[1])}`, color && `${color.title}: ${short(value[2])}`]) },
    brush: { seriesIndex: 0 },
    series: [
      { ...DATA.charts.scatter.series[0], data: dots.map(point), symbolSize: dots.length > 2000 ? 5 : 9 },
      { type: "scatter", silent: true, symbolSize: 14, z: 3, data: ringed.map(point), itemStyle: { color: "transparent", borderColor: palette()[6], borderWidth: 1.5 }, tooltip: { show: false } },
    ],
  }, (made) => made.on("brushSelected", ({ batch }) => {
    const { areas, selected } = batch[0];
    const had = brushed.has("scatter");
    if (!areas.length) {
      brushed.delete("scatter");
      if (had) select([], false);
      return;
    }
    const ids = selected[0].dataIndex.map((place) => dots[place]);
    const mark = ids.join();
    if (brushed.get("scatter") === mark) return;
    brushed.set("scatter", mark);
    select(ids, true);
  }));
  if (!brushed.has("scatter")) chart.dispatchAction({ type: "takeGlobalCursor", key: "brush", brushOption: { brushType: "rect", brushMode: "single" } });
  $("scatter-hint").textContent = `${number(dots.length, "row")}. Drag over the chart to select rows; click beside it to let go.`;
}

function colorMap(column) {
  const values = dots.map((id) => valueOf(column, id));
  if (!column.page.number) {
    return { type: "piecewise", dimension: 2, seriesIndex: 0, categories: [...new Set(values)].slice(0, 12), inRange: { color: palette() }, outOfRange: { color: "#999" }, orient: "horizontal", top: 4, left: 8 };
  }
  const numbers = values.filter((value) => value !== null);
  const range = { min: Math.min(...numbers), max: Math.max(...numbers) };
  return { type: "continuous", dimension: 2, seriesIndex: 0, ...range, calculable: true, orient: "horizontal", top: 4, left: 8, itemHeight: 90, precision: 3, inRange: DATA.charts.parallel.visualMap.inRange };
}

// --- parallel coordinates --------------------------------------------------------------------------

let axes = [];

function drawParallel() {
  const fields = [...$("parallel-axes").querySelectorAll(":checked")].map((box) => box.value);
  const y = $("parallel-y").value;
  axes = [...fields, y].filter(Boolean).map(columnAt);
  $("parallel").hidden = axes.length < 2 || !y;
  if (axes.length < 2 || !y) {
    $("parallel-hint").textContent = y ? "The rows differ in no option." : "Nothing is measured yet.";
    return;
  }
  const result = axes[axes.length - 1];
  const measured = state.visible.filter((id) => valueOf(result, id) !== null);
  $("parallel").hidden = !measured.length;
  if (!measured.length) {
    $("parallel-hint").textContent = "No row in view has this result yet.";
    return;
  }
  const most = DATA.charts.max_lines;
  let lines = measured;
  if (measured.length > most) { // every k-th by result, so that the sample has the same spread
    const sorted = [...measured].sort((a, b) => valueOf(result, a) - valueOf(result, b));
    lines = Array.from({ length: most }, (_, place) => sorted[Math.round((place * (sorted.length - 1)) / (most - 1))]);
  }
  const room = Math.max(30, ($("parallel").clientWidth - 120) / (axes.length - 1) - 8);
  const results = lines.map((id) => valueOf(result, id));
  draw("parallel", DATA.charts.parallel, {
    parallelAxis: axes.map((column, dim) => ({ dim, id: `axis-${dim}`, nameLocation: "end", nameTruncate: { maxWidth: room }, nameTextStyle: { fontSize: 11 }, ...axisOf(column, column.page.log, measured), scale: true })),
    visualMap: { dimension: axes.length - 1, min: Math.min(...results), max: Math.max(...results) },
    tooltip: { formatter: ({ dataIndex }) => tip([cut(shown().labels[lines[dataIndex]]), `${result.title}: ${short(results[dataIndex])}`]) },
    series: [{ ...DATA.charts.parallel.series[0], data: lines.map((id) => axes.map((column) => valueOf(column, id) ?? "-")) }],
  }, (made) => made.on("axisareaselected", onAxisBrush));
  const sample = lines.length < measured.length ? `${number(lines.length, "line")} of ${number(measured.length, "row")} are drawn, to stay fast; brushing selects among all. ` : `${number(measured.length, "row")}. `;
  $("parallel-hint").textContent = `${sample}Drag along an axis to select rows; click on it to let go.`;
}

function onAxisBrush(event) {
  const each = event.batch || [event];
  const ranges = new Map(brushed.get("parallel") || []);
  for (const { parallelAxisId, intervals } of each) {
    const dim = axes.findIndex((_, place) => parallelAxisId === `axis-${place}`);
    if (dim >= 0) intervals?.length ? ranges.set(dim, intervals) : ranges.delete(dim);
  }
  if (!ranges.size) {
    if (brushed.delete("parallel")) select([], false);
    return;
  }
  brushed.set("parallel", ranges);
  selectBrushed(ranges);
}

const selectBrushed = (ranges) => {
  const places = axes.map((column) => (column.page.number ? null : new Map([...new Set(state.visible.map((id) => valueOf(column, id)))].map((text, place) => [text, place]))));
  const inside = (id) => [...ranges].every(([dim, intervals]) => {
    const value = places[dim] ? places[dim].get(valueOf(axes[dim], id)) : valueOf(axes[dim], id);
    return value !== null && value !== undefined && intervals.some(([from, to]) => value >= Math.min(from, to) && value <= Math.max(from, to));
  });
  select(state.visible.filter((id) => valueOf(axes[axes.length - 1], id) !== null && inside(id)), true);
};

// --- timeline, failures, searches ------------------------------------------------------------------

const rowLabels = () =>
  once("row labels", () => {
    const found = new Map();
    for (const table of DATA.tables) {
      table.trials.forEach((trials, id) => trials.forEach((trial) => found.has(trial) || found.set(trial, table.labels[id])));
    }
    const places = new Map(DATA.searches.length ? DATA.trials.id.map((id, place) => [id, place]) : []);
    for (const { rows } of DATA.searches) for (const row of rows) found.set(places.get(row.trial), `round ${row.round}, member ${row.member}`);
    return found;
  });

function drawTimeline() {
  const { lanes, bars, sessions } = DATA.timeline;
  $("timeline").hidden = !bars.length;
  const name = (lane) => (lane.number > 1 ? `${lane.place} (${lane.number})` : lane.place);
  $("timeline").style.height = `${Math.min(900, 150 + 26 * lanes.length)}px`;
  const colors = DATA.charts.status_colors;
  const total = Math.max(0, ...bars.map(([, , end]) => end));
  const [unit, per] = total > 2 ? ["Hours", 1] : total > 2 / 60 ? ["Minutes", 60] : ["Seconds", 3600];
  const items = { done: [], other: [], diverged: [], failed: [] };
  bars.forEach(([lane, start, end, train, , status], bar) => {
    const item = (from, to) => ({ coords: [[from * per, lane], [to * per, lane]], bar });
    if (status !== "done") items[status].push(item(start, end));
    else items.done.push(item(end - train, end)) && end - train > start && items.other.push(item(start, end - train));
  });
  const series = Object.entries(items).map(([status, data]) => ({
    type: "lines", name: { done: "training", other: "beside training", diverged: "diverged", failed: "failed" }[status],
    coordinateSystem: "cartesian2d", polyline: false, data, color: colors[status], progressive: 2000,
    lineStyle: { color: colors[status], width: 14, opacity: 1, curveness: 0, cap: "butt" }, emphasis: { lineStyle: { width: 18 } },
  }));
  series[0].markLine = {
    symbol: "none", silent: true, lineStyle: { type: "dashed", color: "#888" },
    label: { formatter: ({ data }) => data.name, position: "start", rotate: 0, align: "left", fontSize: 10, color: isDark() ? "#aaa" : "#555" },
    data: sessions.slice(0, 40).map(([at, moment]) => ({ xAxis: at * per, name: moment })),
  };
  draw("timeline", DATA.charts.timeline, {
    xAxis: { max: total * per, name: `${unit}, long pauses left out`, axisLabel: { formatter: short } },
    yAxis: { data: lanes.map(name) },
    tooltip: { formatter: ({ data }) => {
      const [lane, start, end, train, trial, status, moment] = bars[data.bar];
      return tip([`${DATA.trials.id[trial]}, seed ${DATA.trials.seed[trial]}: ${status}`, cut(rowLabels().get(trial) || "", 80), `from ${moment} UTC, ${clock(end - start)}, of it training ${clock(train)}`, name(lanes[lane])]);
    } },
    series,
  });
  const share = (lane, what) => `${(100 * lane[what] / Math.max(1e-9, lane.train + lane.other + lane.lost + lane.idle)).toFixed(0)} %`;
  const times = ["train", "other", "lost", "idle"];
  $("lanes").replaceChildren(htmlTable(
    ["machine", "trials", "training", "beside training", "failed or diverged", "idle"],
    lanes.map((lane) => [name(lane), lane.trials, ...times.map((what) => `${clock(lane[what])} (${share(lane, what)})`)]),
    (place) => place > 0));
}

function clock(hours) {
  const seconds = Math.round(3600 * hours);
  if (seconds < 60) return `${seconds}s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)}m${String(seconds % 60).padStart(2, "0")}`;
  return `${Math.floor(seconds / 3600)}h${String(Math.floor((seconds % 3600) / 60)).padStart(2, "0")}`;
}

const otherTables = new Map();

function tableIn(id, columns, data, placeholder) {
  const plain = { titleFormatter: "plaintext", formatter: "plaintext", headerWordWrap: true, headerFilter: "input", headerFilterPlaceholder: "filter" };
  const before = otherTables.get(id);
  if (before?.element.isConnected) {
    if (before.rows !== data) before.made.replaceData((before.rows = data));
    return;
  }
  const made = new Tabulator($(id), {
    data, layout: "fitDataStretch", maxHeight: 520, placeholder,
    columns: columns.map((column) => ({ ...plain, ...column, headerFilterParams: { elementAttributes: { "aria-label": `Filter ${column.title}` } } })),
  });
  made.on("tableBuilt", () => nameParts($(id)));
  otherTables.set(id, { made, element: $(id), rows: data });
}

const failedTrials = () =>
  once("failures", () => {
    const { trial, about, failure, attempts, error, ended, place } = DATA.failures;
    return trial.map((number, at) => ({
      number, trial: DATA.trials.id[number], seed: DATA.trials.seed[number], status: DATA.trials.status[number],
      about: about[at], failure: failure[at], attempts: attempts[at], error: error[at], ended: ended[at], place: place[at],
    }));
  });

function drawFailures() {
  const opener = (cell) => el("button", { type: "button", class: "opener", onclick: () => openTrial(cell.getData().number) }, cell.getValue());
  tableIn("failure-table", [
    { title: "Trial", field: "trial", formatter: opener }, { title: "Status", field: "status" }, { title: "Why", field: "failure" },
    { title: "Attempts", field: "attempts", hozAlign: "right", sorter: "number" }, { title: "Setting", field: "about", width: 320 },
    { title: "Error", field: "error", width: 320 }, { title: "Ended (UTC)", field: "ended" }, { title: "Machine", field: "place" },
  ], failedTrials(), "No trial has failed or diverged");
}

// A trial that failed: its traceback, and the way to its row if a table has one.
async function openTrial(trial) {
  const at = DATA.failures.trial.indexOf(trial);
  const traceback = (await unpackJson("tracebacks"))[at];
  const rowOf = (table) => table.trials.findIndex((trials) => trials.includes(trial));
  const place = DATA.tables.findIndex((table) => rowOf(table) >= 0);
  const openItsRow = () => {
    $("dialog").close();
    if (state.table !== place) {
      $("table-choice").value = place;
      chooseTable(place);
    }
    openRow(rowOf(DATA.tables[place]));
  };
  showDialog(
    `${DATA.trials.id[trial]}, seed ${DATA.trials.seed[trial]}: ${DATA.trials.status[trial]}`,
    el("p", {}, DATA.failures.about[at]),
    el("p", {}, DATA.failures.error[at]),
    traceback ? el("pre", { tabindex: "0" }, traceback) : null,
    place < 0 ? null : el("button", { type: "button", onclick: openItsRow }, "Open its row, with the commands that train it again"));
}

function drawSearches() {
  // Keeps the charts while nothing but numbers change.
  const parts = DATA.searches.map(({ schedule }) => (schedule ? "lineage and schedule" : "lineage")).join();
  if ($("view-searches").dataset.parts !== parts) {
    $("view-searches").dataset.parts = parts;
    for (const [id] of [...charts].filter(([name]) => /^(search|schedule)-/.test(name))) {
      charts.get(id).chart.dispose();
      charts.delete(id);
    }
    $("view-searches").replaceChildren(...DATA.searches.flatMap((search, place) => [
      el("h2", {}, search.title),
      el("p", { class: "hint" }, "A dot is a member in a round, coloured by its validation error. Lines: whose weights it went on from; thick: the way of the best."),
      el("div", { class: "chart", id: `search-${place}` }),
      search.schedule ? el("h3", {}, search.schedule.title) : "",
      search.schedule ? el("p", { class: "hint" }, `What each operation adds: ${search.schedule.notes}.`) : "",
      search.schedule ? el("div", { class: "chart tall", id: `schedule-${place}` }) : "",
      el("div", { id: `search-table-${place}` })]));
  }
  DATA.searches.forEach(({ rows, best, schedule }, place) => {
    if (schedule) drawSchedule(`schedule-${place}`, schedule);
    const onBest = new Set(best.map(String));
    const link = (row) => {
      const best = onBest.has(String([row.round, row.member]));
      return { coords: [[row.round - 1, row.from], [row.round, row.member]], lineStyle: { width: best ? 4 : 1, opacity: best || row.from !== row.member ? 0.9 : 0.35 } };
    };
    const errors = rows.map((row) => row.error).filter((error) => error !== null);
    draw(`search-${place}`, DATA.charts.search, {
      yAxis: { max: 1 + Math.max(...rows.map((row) => row.member)) },
      visualMap: { min: Math.min(...errors), max: Math.max(...errors) },
      series: [
        { type: "lines", coordinateSystem: "cartesian2d", data: rows.filter((row) => row.round > 1).map(link), lineStyle: { color: "#888", curveness: 0 }, silent: true },
        { type: "scatter", symbolSize: 13, data: rows.map((row) => ({ value: [row.round, row.member, row.error ?? "-"], row })) },
      ],
      tooltip: { formatter: ({ data }) => tip([`round ${data.row.round}, member ${data.row.member}${data.row.from === data.row.member ? "" : `, from member ${data.row.from}`}`, data.row.error === null ? "no error yet" : `validation error ${data.row.error.toFixed(2)} %`, `epochs ${data.row.epochs}`, cut(data.row.policy, 120)]) },
    });
    tableIn(`search-table-${place}`, [
      ...[["Round", "round"], ["Member", "member"], ["Goes on from", "from"], ["Validation error (%)", "error"]].map(([title, field]) => ({ title, field, hozAlign: "right", sorter: "number" })),
      { title: "Epochs", field: "epochs" }, { title: "Trial", field: "trial" }, { title: "Policy", field: "policy", width: 700 },
    ], rows, "No round yet");
  });
}

// A policy counts from its first epoch until the next one begins.
function drawSchedule(id, { starts, epochs, operations, stacks }) {
  const base = DATA.charts.schedule;
  const edges = [...starts, epochs + 1];
  draw(id, base, {
    xAxis: base.xAxis.map((axis) => ({ ...axis, max: epochs + 1 })),
    yAxis: base.yAxis.map((axis, panel) => ({ ...axis, name: stacks[panel].label })),
    series: stacks.flatMap(({ layers }, panel) => operations.map((name, at) => ({
      name, type: "line", step: "end", stack: `panel ${panel}`, xAxisIndex: panel, yAxisIndex: panel,
      symbol: "none", lineStyle: { width: 0 }, areaStyle: { opacity: 0.85 },
      data: edges.map((epoch, piece) => [epoch, layers[at][Math.min(piece, starts.length - 1)]]),
    }))),
    tooltip: { formatter: (points) => tip([
      `from epoch ${points[0].value[0]}`,
      ...points.filter(({ value }) => value[1] > 0).map(({ seriesName, value }) => `${seriesName} ${short(value[1])}`)]) },
  });
}

// --- controls --------------------------------------------------------------------------------------

for (const id of ["curve-metric", "curve-log-x", "curve-log-y", "curve-band"]) $(id).addEventListener("change", drawCurves);
$("curve-smooth").addEventListener("input", () => {
  const weight = Number($("curve-smooth").value);
  $("curve-smooth-out").value = weight ? weight.toFixed(2) : "off";
  drawCurves();
});
for (const id of ["scatter-x", "scatter-y"]) {
  $(id).addEventListener("change", () => {
    setLogs();
    brushed.delete("scatter");
    drawScatter();
  });
}
for (const id of ["scatter-color", "scatter-log-x", "scatter-log-y"]) $(id).addEventListener("change", drawScatter);
$("parallel-y").addEventListener("change", () => {
  brushed.delete("parallel");
  drawParallel();
});
