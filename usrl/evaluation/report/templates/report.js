// The table of cases sorts, filters and opens cases. Nothing here asks anything of another place.
const table = document.getElementById("cases");
const body = table.tBodies[0];
const rows = [...body.rows];
const dialog = document.getElementById("case");
const facts = JSON.parse(document.getElementById("facts").textContent);
const filters = [...document.querySelectorAll("#filters select")];
const words = document.getElementById("words");

const textOf = (row, column) => row.cells[column].textContent;

function sortBy(head) {
  const column = head.cellIndex;
  const way = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
  for (const other of table.tHead.rows[0].cells) other.setAttribute("aria-sort", "none");
  head.setAttribute("aria-sort", way > 0 ? "ascending" : "descending");
  const isNumber = head.className === "number";
  const order = new Intl.Collator("en", { numeric: true });
  const keys = new Map(rows.map((row) => [row, isNumber ? parseFloat(textOf(row, column)) : textOf(row, column)]));
  rows.sort((first, second) => {
    const [a, b] = [keys.get(first), keys.get(second)];
    if (!isNumber) return way * order.compare(a, b);
    if (isNaN(a) || isNaN(b)) return isNaN(a) - isNaN(b); // what is not there comes last
    return way * (a - b);
  });
  body.append(...rows);
}

function filter() {
  const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
  let count = 0;
  for (const row of rows) {
    const name = textOf(row, 0).toLowerCase();
    const isChosen = filters.every((each) => !each.value || textOf(row, each.dataset.column) === each.value);
    row.hidden = !(isChosen && wanted.every((word) => name.includes(word)));
    count += !row.hidden;
  }
  document.getElementById("count").textContent = `${count} of ${rows.length} rows`;
}

function draw(ids, number, label) {
  const view = document.getElementById("view").content.cloneNode(true);
  const svg = view.querySelector("svg");
  svg.setAttribute("viewBox", facts.cases[number].frame.join(" "));
  svg.setAttribute("aria-label", label);
  svg.querySelector("use").setAttribute("href", `#image-${number}`);
  const lines = svg.querySelector("g");
  const mould = lines.querySelector("use");
  mould.remove();
  for (const id of ids.filter((each) => document.getElementById(each))) {
    const line = mould.cloneNode();
    line.setAttribute("href", `#${id}`);
    line.setAttribute("class", id.split("-")[0]);
    lines.append(line);
  }
  return view;
}

let current = 0;

function show(number) {
  current = number;
  const own = facts.cases[number];
  document.getElementById("case-name").textContent = own.name;
  document.getElementById("case-about").textContent = own.about;
  const cells = document.getElementById("case-cells");
  cells.replaceChildren();
  const add = (label, text, ids) => {
    const view = draw(ids, number, `${own.name}, ${label}`);
    view.querySelector("b").textContent = label;
    view.querySelector("span").textContent = text;
    cells.append(view);
  };
  add("target", "", [`target-${number}`]);
  facts.methods.forEach((method, place) => {
    const kinds = method.track === "prompted" ? ["box"] : [];
    const ids = [...kinds, "target"].map((kind) => `${kind}-${number}`);
    add(method.name, own.texts[place], [...ids, `proposal-${number}-${place}`, `pred-${number}-${place}`]);
  });
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
}

function step(way) {
  const seen = [...new Set(rows.filter((row) => !row.hidden).map((row) => Number(row.dataset.case)))];
  const place = seen.indexOf(current);
  if (seen.length) show(seen[(place + way + seen.length) % seen.length]);
}

for (const head of table.tHead.rows[0].cells)
  head.querySelector("button").addEventListener("click", () => sortBy(head));
for (const each of filters) each.addEventListener("change", filter);
words.addEventListener("input", filter);
body.addEventListener("click", (event) => show(Number(event.target.closest("tr").dataset.case)));
for (const each of document.querySelectorAll("button[data-open]"))
  each.addEventListener("click", () => show(Number(each.dataset.open)));
for (const each of dialog.querySelectorAll("button[data-step]"))
  each.addEventListener("click", () => step(Number(each.dataset.step)));
dialog.addEventListener("keydown", (event) => {
  const way = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (way && event.target.type !== "checkbox") step(way);
});
dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
document.getElementById("close").addEventListener("click", () => dialog.close());
document.getElementById("lines").addEventListener("change", (event) => {
  dialog.classList.toggle("bare", !event.target.checked);
});
for (const each of document.querySelectorAll(".scripted")) each.hidden = false;
filter();
