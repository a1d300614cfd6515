// The page: keeps what is shown, and does what buttons, keys and the pointer ask for.
//
// The server holds the truth. Every step is sent, and what comes back is shown.

import * as api from "./api.js";
import { listen as listenToHand, order } from "./hand.js";
import { keysOf, listen as listenToKeys, writeSheet } from "./keys.js";
import { List, STATES } from "./list.js";
import { View } from "./view.js";

const LONGEST_PAUSE_MS = 60_000; // a longer one is a break and does not count as time spent
const PAN = 60;
const TOOLS = ["box", "border", "inside", "outside"];
const ORIGINS = ["network", "existing", "accepted"];

const find = (id) => document.getElementById(id);
const view = new View(find("canvas"));
const list = new List(find("list"), find("filter"), (name) => run(() => open(name)));

let desk = null; // what `usrl annotate` was told
let image = null; // the view of the image that the server has sent
let structure = null; // name of the one that is worked on
let tool = "box";
let isGrabbing = false;
let corner = null; // first corner of a box that is drawn by keys
let seconds = 0; // spent since the last step
let seen = performance.now();

// What is asked for is done one after the other, each with the revision that the one before has left.
let last = Promise.resolve();
function run(work) {
  last = last.then(work).catch(showError);
  return last;
}

function touch() {
  const now = performance.now();
  if (now - seen < LONGEST_PAUSE_MS) seconds += (now - seen) / 1000;
  seen = now;
}

function say(text) {
  find("status").textContent = text;
}

function alarm(text) {
  find("alert-text").textContent = text;
  find("alert").hidden = !text;
}

async function showError(error) {
  if (!(error instanceof api.Refused)) throw error;
  alarm(error.message);
  if (error.view && error.view.name === image?.name) await show(error.view);
}

const work = () => image?.works[structure];
const takesCorrections = () => desk.method.asks !== "nothing";
const markTools = () => (desk.method.asks === "clicks" ? ["inside", "outside"] : takesCorrections() ? ["border"] : []);

// Images ------------------------------------------------------------------------------------------------------------

async function open(name) {
  const told = list.images.find((each) => each.name === name);
  if (told?.fault) throw new api.Refused(told.fault, 422);
  const [next, pixels] = await Promise.all([api.readView(name), api.readPixels(name)]);
  image = next;
  seconds = 0;
  seen = performance.now();
  view.stop();
  view.setImage(pixels);
  view.selected = corner = null;
  isGrabbing = false;
  const first = desk.structures.find((each) => !image.works[each.name].mask) ?? desk.structures[0];
  structure = first.name;
  tool = desk.method.takes_boxes && !work().mask ? "box" : (markTools()[0] ?? "box");
  history.replaceState(null, "", `#${encodeURIComponent(name)}`);
  alarm("");
  await show(next);
  view.canvas.setAttribute("aria-label", `Image ${name}, ${image.width} by ${image.height} pixels`);
}

/** Shows a view that the server has sent. */
async function show(next) {
  const masks = await Promise.all(
    desk.structures.map(({ name }) => (next.works[name].mask ? api.readMask(next.works[name].mask) : null)),
  );
  image = next;
  image.masks = masks;
  list.update(next);
  list.mark(next.name);
  if (view.selected && view.selected.number >= (view.selected.what === "mark" ? work().marks : work().boxes).length)
    view.selected = null;
  render();
}

function render() {
  const own = work();
  const number = desk.structures.findIndex((each) => each.name === structure);
  view.boxes = own.boxes;
  view.marks = own.marks.map((mark) => ({ ...mark }));
  view.axes = own.size?.lesions.flatMap((lesion) => lesion.axes) ?? [];
  view.setLayers(
    desk.structures
      .map(({ colour }, each) => ({ mask: image.masks[each], colour, isActive: each === number }))
      .filter(({ mask }) => mask),
  );
  view.canvas.dataset.revision = image.revision;
  find("title").textContent = image.name;
  document.title = `${image.name} · usrl annotate`;
  const state = find("state");
  state.textContent = STATES[image.state];
  state.dataset.state = image.state;
  find("progress").textContent = `${list.accepted} of ${list.images.length} accepted`;
  renderTools();
  renderStructures();
  renderSizes();
  say(describe(own));
}

function renderTools() {
  const own = work();
  const can = {
    box: desk.method.takes_boxes,
    undo: own.can_undo,
    redo: own.can_redo,
    remove: own.marks.length > 0 || view.selected !== null,
    clear: own.mask !== null,
    watch: own.mask !== null,
    previous: list.beside(image.name, -1) !== null,
    next: list.beside(image.name, 1) !== null,
  };
  for (const origin of ORIGINS) can[origin] = image.origins.includes(origin);
  for (const button of document.querySelectorAll("[data-do]")) {
    const action = button.dataset.do;
    if (action in can) button.disabled = !can[action];
    if (TOOLS.includes(action)) {
      button.hidden = action !== "box" && !markTools().includes(action);
      button.setAttribute("aria-pressed", String(action === tool));
      if (action !== "box") button.disabled = own.mask === null;
    }
    if (ORIGINS.includes(action)) button.hidden = !can[action];
  }
  find("hint").textContent = hint(own);
}

function hint(own) {
  if (!own.mask) {
    if (desk.method.takes_boxes) return "Draw a box around a lesion.";
    return "Start from the network's mask.";
  }
  if (tool === "box") return takesCorrections() ? "Draw another box, or correct the mask." : "Draw another box, or accept.";
  if (tool === "border") return "Where the outline is most wrong, click on the true border. Drag a point to move it.";
  return `Click on what is ${tool === "inside" ? "missing" : "too much"}. Shift and click is the other kind.`;
}

function renderStructures() {
  const parent = find("structures");
  parent.replaceChildren(
    ...desk.structures.map(({ name, colour }, number) => {
      const label = document.createElement("label");
      const input = document.createElement("input");
      const swatch = document.createElement("span");
      Object.assign(input, { type: "radio", name: "structure", value: name, checked: name === structure });
      input.addEventListener("change", () => choose(number));
      swatch.className = "swatch";
      swatch.style.background = `rgb(${colour.join(" ")})`;
      label.append(input, swatch, ` ${name}${image.works[name].mask ? "" : " (nothing yet)"}`);
      return label;
    }),
  );
}

function choose(number) {
  if (!desk.structures[number] || !image) return;
  structure = desk.structures[number].name;
  view.selected = null;
  tool = desk.method.takes_boxes && !work().mask ? "box" : (markTools()[0] ?? "box");
  render();
}

const unitOf = () => (image.unit === "mm" ? ["mm", "mm2", "mm²"] : ["px", "px", "px"]);
const format = (value) => (value >= 100 ? value.toFixed(0) : value.toFixed(1));

function renderSizes() {
  const size = work().size;
  const [unit, squared, shown] = unitOf();
  const body = find("sizes").tBodies[0];
  const rows = size
    ? size.lesions.map((lesion, number) => [
        String(number + 1),
        format(lesion[`area_${squared}`]),
        `${format(lesion[`long_${unit}`])} × ${format(lesion[`short_${unit}`])}`,
      ])
    : [];
  if (size && size.components > 1) rows.push([`all ${size.components}`, format(size[`area_${squared}`]), ""]);
  body.replaceChildren(
    ...rows.map((cells) => {
      const row = document.createElement("tr");
      cells.forEach((text) => (row.insertCell().textContent = text));
      return row;
    }),
  );
  find("area-title").textContent = `Area, ${shown}`;
  find("axes-title").textContent = `Axes, ${unit}`;
  find("sizes").hidden = !rows.length;
  find("no-size").hidden = rows.length > 0;
}

/** Says in a sentence what is on the image, for those who do not see it. */
function describe(own) {
  if (!own.mask) return `${structure}: nothing is segmented yet.`;
  const [unit, squared, shown] = unitOf();
  const { lesions, components } = own.size;
  const area = `${format(own.size[`area_${squared}`])} ${shown}`;
  const axes = lesions.length ? `, axes ${format(lesions[0][`long_${unit}`])} and ${format(lesions[0][`short_${unit}`])} ${unit}` : "";
  const parts = components > 1 ? ` in ${components} parts` : "";
  const points = own.marks.length ? `, ${own.marks.length} point${own.marks.length > 1 ? "s" : ""}` : "";
  return `${structure}: area ${area}${parts}${axes}${points}.`;
}

// Steps -------------------------------------------------------------------------------------------------------------

/** Sends a step on the structure that is worked on, and shows what comes back. */
function act(verb, details = {}) {
  return run(async () => {
    if (!image) return;
    touch();
    const spent = seconds;
    view.canvas.setAttribute("aria-busy", "true");
    try {
      const body = { revision: image.revision, seconds: Math.round(spent * 10) / 10, structure, verb, ...details };
      const next = await api.act(image.name, body);
      seconds -= spent;
      alarm("");
      if (verb === "box" || verb === "mask") tool = markTools()[0] ?? tool;
      await show(next);
    } catch (error) {
      render(); // a point that was dragged goes back
      throw error;
    } finally {
      view.canvas.removeAttribute("aria-busy");
    }
    if (find("show-moves").checked && work().mask && !["undo", "redo", "clear"].includes(verb)) await watch();
  });
}

async function watch() {
  const steps = await api.readMoves(image.name, structure);
  if (steps.length) view.play(steps);
  else say("This method shows no moves for this mask.");
}

function finish(isEmpty) {
  return run(async () => {
    if (!image) return;
    touch();
    const body = { revision: image.revision, seconds: Math.round(seconds * 10) / 10, is_empty: isEmpty };
    const next = await api.accept(image.name, body);
    seconds = 0;
    await show(next);
    const name = list.nextOpen(image.name);
    if (name !== null) await open(name);
    const overlap = next.overlap_px
      ? ` ${next.overlap_px} px belonged to several structures; the last of them keeps them.`
      : "";
    say(name === null ? `All images are accepted.${overlap}` : `${next.name} is accepted.${overlap} ${find("status").textContent}`);
  });
}

const page = {
  touch,
  isBoxTool: () => tool === "box" && desk.method.takes_boxes,
  canMark: () => markTools().includes(tool) && work()?.mask !== null,
  addBox: (box) => act("box", { box }),
  moveMark: (number, point) => act("move", { number, point }),
  putMark(point, isOther) {
    const kind = isOther && tool !== "border" ? (tool === "inside" ? "outside" : "inside") : tool;
    act("mark", { kind, point });
  },
  select(what, number) {
    view.selected = { what, number };
    renderTools();
    view.draw();
  },
};

// Keys and buttons --------------------------------------------------------------------------------------------------

function setTool(name) {
  if (name === "box" ? !desk.method.takes_boxes : !markTools().includes(name)) {
    say(name === "box" ? "This method takes no box." : `This method takes no ${name === "border" ? "points on the border" : "clicks"}.`);
    return;
  }
  tool = name;
  corner = null;
  view.rubber = view.selected = null;
  renderTools();
  view.draw();
}

function moveCursor(dx, dy, key) {
  if (!image) return;
  const step = key.startsWith("shift+") ? 10 : 1;
  const [x, y] = view.cursor ?? [Math.round(image.width / 2), Math.round(image.height / 2)];
  view.cursor = view.clamp([x + dx * step, y + dy * step]);
  if (isGrabbing) Object.assign(view.marks[view.selected.number], { x: view.cursor[0], y: view.cursor[1] });
  if (corner) view.rubber = order(corner, view.cursor);
  view.reveal(view.cursor);
  view.draw();
  say(`Cursor at ${view.cursor.map(Math.round).join(", ")}.`);
}

function put() {
  if (!view.cursor) return moveCursor(0, 0, "");
  const point = view.cursor;
  if (isGrabbing) {
    isGrabbing = false;
    page.moveMark(view.selected.number, point);
  } else if (!page.isBoxTool()) {
    if (page.canMark()) page.putMark(point, false);
  } else if (!corner) {
    corner = point;
    say("First corner. Move the cursor and press Space again.");
  } else {
    const box = order(corner, point);
    view.rubber = corner = null;
    page.addBox(box);
  }
}

function step(way) {
  const what = page.isBoxTool() ? "box" : "mark";
  const all = what === "box" ? view.boxes : view.marks;
  if (!all.length) return say(what === "box" ? "There is no box." : "There is no point.");
  const now = view.selected?.what === what ? view.selected.number : way > 0 ? -1 : 0;
  const number = (now + way + all.length) % all.length;
  const chosen = all[number];
  view.cursor = what === "box" ? [chosen[0], chosen[1]] : [chosen.x, chosen.y];
  page.select(what, number);
  view.reveal(view.cursor);
  say(`${what === "box" ? "Box" : "Point"} ${number + 1} of ${all.length}, at ${view.cursor.map(Math.round).join(", ")}.`);
}

function remove() {
  const chosen = view.selected;
  view.selected = null;
  if (chosen?.what === "box") return act("unbox", { number: chosen.number });
  const number = chosen?.number ?? work().marks.length - 1;
  if (number >= 0) act("unmark", { number });
}

function slide(id, ways) {
  const input = find(id);
  input.valueAsNumber += ways * Number(input.step);
  adjust();
}

function adjust() {
  view.adjust(find("brightness").valueAsNumber, find("contrast").valueAsNumber / 100);
}

function toggle(id) {
  find(id).checked = !find(id).checked;
  find(id).dispatchEvent(new Event("change"));
}

function escape() {
  if (isGrabbing || corner || view.selected) {
    isGrabbing = false;
    view.rubber = corner = view.selected = null;
    render();
  } else {
    view.cursor = null;
    view.stop();
  }
  showList(false);
  alarm("");
}

/** Opens or closes the list where the screen is too narrow to have it beside the image. */
function showList(isOpen) {
  document.body.classList.toggle("with-list", isOpen);
  document.querySelector("[data-do=list]").setAttribute("aria-expanded", String(isOpen));
}

function setTheme(name) {
  document.documentElement.dataset.theme = name;
  localStorage.setItem("usrl-theme", name);
}

function isDark() {
  const { theme } = document.documentElement.dataset;
  return theme ? theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

const beside = (way) => {
  const name = image && list.beside(image.name, way);
  if (name) run(() => open(name));
};

const actions = {
  box: () => setTool("box"),
  border: () => setTool("border"),
  inside: () => setTool("inside"),
  outside: () => setTool("outside"),
  undo: () => work().can_undo && act("undo"),
  redo: () => work().can_redo && act("redo"),
  remove,
  clear: () => work().mask && act("clear"),
  "cursor-left": (key) => moveCursor(-1, 0, key),
  "cursor-right": (key) => moveCursor(1, 0, key),
  "cursor-up": (key) => moveCursor(0, -1, key),
  "cursor-down": (key) => moveCursor(0, 1, key),
  put,
  before: () => step(-1),
  after: () => step(1),
  grab() {
    if (view.selected?.what !== "mark") return say("Choose a point first, with [ or ].");
    isGrabbing = true;
    say("Move the point with the arrows; Space puts it down, Esc leaves it.");
  },
  escape,
  watch: () => work().mask && run(watch),
  larger: () => view.zoomBy(1.25),
  smaller: () => view.zoomBy(0.8),
  fit: () => view.fit(),
  "pan-left": () => view.panBy(PAN, 0),
  "pan-right": () => view.panBy(-PAN, 0),
  "pan-up": () => view.panBy(0, PAN),
  "pan-down": () => view.panBy(0, -PAN),
  hide: () => toggle("show-mask"),
  axes: () => toggle("show-axes"),
  follow: () => toggle("show-moves"),
  darker: () => slide("brightness", -1),
  brighter: () => slide("brightness", 1),
  softer: () => slide("contrast", -1),
  harder: () => slide("contrast", 1),
  reset() {
    find("brightness").value = 0;
    find("contrast").value = 100;
    adjust();
  },
  theme: () => setTheme(isDark() ? "light" : "dark"),
  accept: () => finish(false),
  empty: () => finish(true),
  next: () => beside(1),
  previous: () => beside(-1),
  list() {
    showList(!document.body.classList.contains("with-list"));
    list.focus();
  },
  structure: (key) => choose(Number(key) - 1),
  sheet: () => find("sheet").showModal(),
};
for (const origin of ORIGINS) actions[origin] = () => image?.origins.includes(origin) && act("mask", { origin });

for (const button of document.querySelectorAll("[data-do]")) {
  const action = button.dataset.do;
  const keys = keysOf(action);
  button.title = keys;
  button.addEventListener("click", (event) => {
    touch();
    if (image || ["list", "theme", "sheet"].includes(action)) actions[action]("");
    if (event.detail && action !== "list" && action !== "sheet") view.canvas.focus(); // Space is for the canvas again
  });
}

const guarded = Object.fromEntries(
  Object.entries(actions).map(([name, does]) => [
    name,
    (key) => {
      touch();
      if (image || ["list", "theme", "sheet", "escape"].includes(name)) does(key);
    },
  ]),
);

find("alert-close").addEventListener("click", () => alarm(""));
find("brightness").addEventListener("input", adjust);
find("contrast").addEventListener("input", adjust);
find("show-mask").addEventListener("change", (event) => {
  view.showsMasks = event.target.checked;
  view.draw();
});
find("show-axes").addEventListener("change", (event) => {
  view.showsAxes = event.target.checked;
  view.draw();
});
find("list").addEventListener("click", () => showList(false));

async function begin() {
  desk = await api.readDesk();
  list.set(desk.images);
  const { method } = desk;
  find("method").textContent = method.note || `Method: ${method.name}`;
  const asked = decodeURIComponent(location.hash.slice(1));
  const known = list.images.find((each) => each.name === asked && !each.fault);
  const name = known?.name ?? list.nextOpen(null) ?? list.images.find((each) => !each.fault)?.name;
  if (name === undefined) alarm("None of the images can be read.");
  else await open(name);
  view.canvas.focus();
}

const theme = localStorage.getItem("usrl-theme");
if (theme) document.documentElement.dataset.theme = theme;
writeSheet(find("keys"));
listenToHand(view, page);
listenToKeys(guarded);
run(begin);
