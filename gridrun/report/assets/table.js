// One table at a time: sorted, filtered, selected, copied.

const state = { table: 0, selected: new Set(), only: false, rows: [], visible: [] };
let grid = null;

const shown = () => DATA.tables[state.table];
const columnAt = (field) => shown().columns[Number(field.slice(1))];

function rowsOf(table) {
  return table.labels.map((label, id) => {
    const row = { id, text: "" };
    table.columns.forEach((column, place) => {
      row[column.field] = table.texts[place][id];
      row.text += `${row[column.field]}\n`.toLowerCase();
    });
    return row;
  });
}

// The number that a column sorts, filters and plots by; null where a cell has none.
function key(field, id) {
  const keys = shown().keys[Number(field.slice(1))];
  return keys ? keys[id] : null;
}

function compare(field) {
  return (a, b, aRow, bRow, column, direction) => {
    const [x, y] = [aRow, bRow].map((row) => row.getData().id);
    if (!columnAt(field).page.number) return a.localeCompare(b, "en", { numeric: true });
    const [u, v] = [key(field, x), key(field, y)];
    if (u === null || v === null) {
      const blank = (u === null) - (v === null);
      return direction === "desc" ? -blank : blank; // rows without a value come last either way
    }
    return u - v;
  };
}

// --- filters ---------------------------------------------------------------------------------------

const TIME = /^(?:([\d.]+)h)?(?:([\d.]+)m)?(?:([\d.]+)s)?$/;

function toNumber(text) {
  const time = text && /[hms]$/.test(text) && TIME.exec(text);
  if (time) return 3600 * (time[1] || 0) + 60 * (time[2] || 0) + Number(time[3] || 0);
  return text === "" ? NaN : Number(text);
}

// `>0.1`, `<=22m`, `0.05..0.2`, `=128`, `!x`, text; several with commas mean any of them.
function readFilter(text, isNumber) {
  const tests = text.split(",").map((part) => part.trim().toLowerCase()).filter(Boolean).map((part) => {
    const [, sign, rest] = /^(<=|>=|<|>|=|!)?\s*(.*)$/.exec(part);
    const [from, to] = rest.split("..").map(toNumber);
    if (isNumber && !Number.isNaN(from)) {
      if (to !== undefined) return (k) => k !== null && k >= from && k <= (Number.isNaN(to) ? Infinity : to);
      if (sign === "<") return (k) => k !== null && k < from;
      if (sign === ">") return (k) => k !== null && k > from;
      if (sign === "<=") return (k) => k !== null && k <= from;
      if (sign === ">=") return (k) => k !== null && k >= from;
      if (sign === "=") return (k) => k === from;
      if (sign === "!") return (k) => k !== from;
    }
    if (sign === "=") return (k, cell) => cell === rest;
    if (sign === "!") return (k, cell) => !cell.includes(rest);
    return isNumber ? (k, cell) => cell.startsWith(part) : (k, cell) => cell.includes(part);
  });
  return (k, cell) => !tests.length || tests.some((test) => test(k, cell));
}

const readOnce = (text, isNumber) => once(`filter ${isNumber} ${text}`, () => readFilter(text, isNumber));

function passes(row, field, text) {
  return readOnce(text, columnAt(field).page.number)(key(field, row.id), row[field].toLowerCase());
}

function found(row) {
  const text = $("find").value.trim().toLowerCase();
  return !text || row.text.includes(text);
}

function applyFilters() {
  grid.setFilter((row) => found(row) && (!state.only || state.selected.has(row.id)));
}

// --- building --------------------------------------------------------------------------------------

const ROW_HEIGHT = 32;
const [MIN_WIDTH, MAX_WIDTH] = [70, 280];

// Width of a column, from its longest text. Tabulator would lay out the whole page once for each column.
function widths() {
  const pen = el("canvas").getContext("2d");
  const { fontFamily } = getComputedStyle($("table"));
  const measure = (text, weight) => {
    pen.font = `${weight} 13.5px ${fontFamily}`;
    return pen.measureText(text).width;
  };
  const longest = (texts) => texts.reduce((most, text) => (text.length > most.length ? text : most), "");
  return shown().columns.map((column, place) => {
    const widest = Math.max(measure(longest(shown().texts[place]), 400) + 20, measure(column.title, 700) + 36);
    return Math.ceil(Math.min(MAX_WIDTH, Math.max(MIN_WIDTH, widest)));
  });
}

function tabulatorColumns() {
  const wide = widths();
  const plain = { headerSort: false, headerFilter: false, resizable: false, frozen: innerWidth > 700 };
  const checkbox = (cell) => {
    const { id } = cell.getData();
    const box = el("input", { type: "checkbox", "aria-label": `Select row ${id + 1}` });
    box.checked = state.selected.has(id);
    box.addEventListener("change", () => select(box.checked ? [...state.selected, id] : [...state.selected].filter((one) => one !== id)));
    return box;
  };
  const opener = (cell) => {
    const { id } = cell.getData();
    return el("button", { type: "button", class: "opener", "aria-label": `Open row ${id + 1}`, onclick: () => openRow(id) }, String(id + 1));
  };
  return [
    { ...plain, title: "Select", field: "select", width: 58, hozAlign: "center", formatter: checkbox },
    { ...plain, title: "Row", field: "open", width: 62, hozAlign: "right", formatter: opener },
    ...shown().columns.map(({ page, ...column }, place) => ({
      ...column,
      titleFormatter: "plaintext",
      formatter: "plaintext",
      minWidth: MIN_WIDTH,
      width: wide[place],
      sorter: compare(column.field),
      headerFilterFunc: (text, value, row) => passes(row, column.field, String(text)),
      tooltip: (event, cell) => {
        const { id } = cell.getData();
        const text = shown().hover[place][id];
        const element = cell.getElement();
        const cut = element.scrollWidth > element.clientWidth ? cell.getValue() : "";
        return text || cut ? el("div", { class: "hover" }, text || cut) : "";
      },
    })),
  ];
}

function buildTable(keep = {}) {
  const table = shown();
  state.rows = rowsOf(table);
  state.visible = state.rows.map((row) => row.id);
  $("table-title").textContent = table.title;
  $("notes").replaceChildren(...table.notes.map((note) => el("li", {}, note)));
  grid?.destroy();
  const room = innerHeight > 560 ? Math.max(260, Math.round(innerHeight * 0.55)) : innerHeight;
  grid = new Tabulator($("table"), {
    data: state.rows,
    index: "id",
    columns: tabulatorColumns(),
    layout: "fitDataFill",
    renderVerticalBuffer: 120,
    rowHeight: ROW_HEIGHT, // else Tabulator measures each row
    // A long table keeps its height while you filter. Otherwise Tabulator lays it out twice, and the page jumps.
    ...(ROW_HEIGHT * state.rows.length > room ? { height: room } : { maxHeight: room }),
    placeholder: "No row passes the filters",
    initialSort: keep.sort || [],
    initialHeaderFilter: keep.filters || [],
    headerFilterLiveFilterDelay: 80,
    columnDefaults: { resizable: "header" },
    rowFormatter: (row) => row.getElement().classList.toggle("selected", state.selected.has(row.getData().id)),
  });
  grid.on("tableBuilt", () => {
    makeHeadersFocusable();
    listColumns();
    applyFilters();
  });
  grid.on("dataFiltered", (_, rows) => {
    const filters = grid.getHeaderFilters();
    state.visible = state.rows
      .filter((row) => found(row) && filters.every(({ field, value }) => passes(row, field, String(value))))
      .map((row) => row.id);
    showCounts(rows.length);
    drawRowsSoon();
  });
  chooseAxes();
  drawShown();
}

// The element that scrolls stands between a grid and its rows, and would hide these from screen readers.
function nameParts(element) {
  element.querySelector(".tabulator-tableholder").setAttribute("role", "rowgroup");
  element.querySelector(".tabulator-table").removeAttribute("role");
}

// Tabulator sorts by clicks alone.
function makeHeadersFocusable() {
  nameParts(grid.element);
  for (const column of grid.getColumns()) {
    if (!column.getField()?.startsWith("c")) continue;
    const title = column.getElement().querySelector(".tabulator-col-title");
    title.tabIndex = 0;
    title.setAttribute("role", "button");
    title.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      const [sorted] = grid.getSorters().filter((one) => one.field === column.getField());
      grid.setSort(column.getField(), sorted?.dir === "asc" ? "desc" : "asc");
      say(`Sorted by ${columnAt(column.getField()).title}`);
    });
  }
}

function listColumns() {
  $("column-list").replaceChildren(...shown().columns.map((column) => {
    const box = el("input", { type: "checkbox" });
    box.checked = grid.getColumn(column.field).isVisible();
    box.addEventListener("change", () => {
      grid.toggleColumn(column.field);
      grid.redraw();
    });
    return el("label", {}, box, ` ${column.title}`);
  }));
}

// --- selection -------------------------------------------------------------------------------------

function select(ids, only = state.only) {
  state.selected = new Set(ids);
  state.only = only && state.selected.size > 0;
  $("only-selected").checked = state.only;
  for (const row of grid.getRows("visible")) row.reformat();
  applyFilters();
}

function showCounts(some) {
  const all = state.rows.length;
  $("row-count").textContent = `${some === all ? number(all, "row") : `${some.toLocaleString("en")} of ${number(all, "row")}`}, ${state.selected.size.toLocaleString("en")} selected`;
  $("clear").disabled = !state.selected.size;
}

async function openRow(id) {
  const one = (await unpackJson(`details-${state.table}`))[id];
  const command = ([title, text]) => [
    el("h3", {}, title),
    el("div", { class: "command" }, el("pre", { tabindex: "0" }, text),
      el("button", { type: "button", onclick: () => copyText(text, "the command") }, "Copy")),
  ];
  const facts = [...one.numbers, ...one.facts].flatMap(([name, text]) => [el("dt", {}, name), el("dd", {}, text)]);
  const traceback = ([title, text]) => el("details", {}, el("summary", {}, title), el("pre", { tabindex: "0" }, text));
  showDialog(
    one.about || shown().labels[id],
    el("p", { class: "hint" }, [one.place, one.config && `config ${one.config}`].filter(Boolean).join("; ")),
    el("dl", {}, ...facts),
    one.runs.length
      ? el("div", { class: "scroll", tabindex: "0" }, htmlTable(["seed", "trial", "status", "result", "commit", "machine", "ended (UTC)", "note"], one.runs))
      : el("p", {}, "As published, not trained here."),
    ...one.tracebacks.map(traceback),
    ...one.commands.flatMap(command));
}

// --- copies ----------------------------------------------------------------------------------------

function copied() {
  const columns = grid.getColumns().filter((column) => column.isVisible() && /^c\d/.test(column.getField())).map((column) => columnAt(column.getField()));
  const rows = grid.getRows("active").map((row) => columns.map((column) => row.getData()[column.field]));
  return { columns, rows };
}

const COPIES = {
  markdown({ columns, rows }) {
    const special = new RegExp(DATA.escapes.markdown, "gi");
    const escape = (text) => text.replace(special, "\\$&");
    const line = (cells) => `| ${cells.map(escape).join(" | ")} |`;
    const rule = `| ${columns.map((column) => (column.hozAlign === "right" ? "--:" : "---")).join(" | ")} |`;
    const notes = shown().notes.map((note) => `- ${escape(note)}`);
    return [`### ${escape(shown().title)}`, [line(columns.map((column) => column.title)), rule, ...rows.map(line)].join("\n"), notes.join("\n")].filter(Boolean).join("\n\n") + "\n";
  },
  latex({ columns, rows }) {
    const special = new RegExp(DATA.escapes.latex_special, "g");
    const escape = (text) => text.replace(special, (found) => DATA.escapes.latex[found]);
    const line = (cells) => `    ${cells.join(" & ")} \\\\`;
    const cell = (text, place) => (columns[place].page.number ? escape(text).replace(/^-(?=\d)/, "$$-$$") : escape(text));
    return [
      "\\begin{table}", "  \\centering", `  \\caption{${escape(shown().title)}}`, `  \\label{tab:${shown().id}}`,
      `  \\begin{tabular}{${columns.map((column) => (column.hozAlign === "right" ? "r" : "l")).join("")}}`,
      "    \\toprule", line(columns.map((column) => escape(column.title))), "    \\midrule",
      ...rows.map((row) => line(row.map(cell))),
      "    \\bottomrule", "  \\end{tabular}", "\\end{table}",
    ].join("\n") + "\n";
  },
  csv({ columns, rows }) {
    const quote = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
    const guard = (text, place) => (!columns[place].page.number && /^[=+\-@]/.test(text) ? `'${text}` : text); // else a formula
    return [columns.map((column) => column.title), ...rows.map((row) => row.map(guard))].map((line) => line.map(quote).join(",") + "\r\n").join("");
  },
};

$("copy").addEventListener("click", (event) => {
  const format = event.target.dataset?.copy;
  if (!format) return;
  copyText(COPIES[format](copied()), event.target.textContent);
  $("copy").open = false;
});

// --- controls --------------------------------------------------------------------------------------

function chooseTable(place) {
  state.table = place;
  state.selected.clear();
  state.only = $("only-selected").checked = false;
  $("find").value = "";
  buildTable();
}

$("table-choice").addEventListener("change", () => chooseTable(Number($("table-choice").value)));
$("find").addEventListener("input", debounced(() => applyFilters(), 80));
$("only-selected").addEventListener("change", () => select(state.selected, $("only-selected").checked));
$("clear").addEventListener("click", () => {
  select([], false);
  clearBrushes();
});
$("clear-filters").addEventListener("click", () => {
  $("find").value = "";
  grid.clearHeaderFilter();
  applyFilters();
});
