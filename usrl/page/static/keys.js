// What every key does: one table, from which the sheet is made too.

/** Groups of [action, keys, what it does]. An action is a name that `listen` gets a function for. */
export const KEYS = [
  ["Mark", [
    ["box", ["b"], "draw a box around a lesion"],
    ["border", ["p"], "put points on the true border"],
    ["inside", ["i"], "click inside the lesion"],
    ["outside", ["o"], "click outside the lesion (or Shift and click)"],
    ["network", ["n"], "start from the network's mask"],
    ["existing", ["e"], "start from the mask that exists"],
    ["accepted", ["r"], "start from the mask that was accepted"],
    ["undo", ["z", "ctrl+z"], "undo"],
    ["redo", ["y", "ctrl+y", "ctrl+shift+z"], "redo"],
    ["remove", ["delete", "backspace"], "remove the chosen point or box, else the last point"],
    ["clear", ["c"], "begin anew"],
  ]],
  ["Without a mouse", [
    ["cursor-left", ["arrowleft"], "move the cursor left by a pixel, with Shift by ten"],
    ["cursor-right", ["arrowright"], "move it right"],
    ["cursor-up", ["arrowup"], "move it up"],
    ["cursor-down", ["arrowdown"], "move it down"],
    ["put", ["space"], "put down a point or a corner of a box at the cursor"],
    ["before", ["["], "choose the point or box before"],
    ["after", ["]"], "choose the point or box after"],
    ["grab", ["g"], "take the chosen point along; Space puts it down"],
    ["escape", ["escape"], "leave off"],
  ]],
  ["Look", [
    ["watch", ["v"], "watch the moves to this mask"],
    ["larger", ["+", "="], "zoom in"],
    ["smaller", ["-"], "zoom out"],
    ["fit", ["f"], "fit the image"],
    ["pan-left", ["a"], "pan left"],
    ["pan-right", ["d"], "pan right"],
    ["pan-up", ["w"], "pan up"],
    ["pan-down", ["s"], "pan down"],
    ["hide", ["h"], "hide or show masks"],
    ["axes", ["x"], "hide or show axes"],
    ["darker", [","], "darker"],
    ["brighter", ["."], "brighter"],
    ["softer", [";"], "less contrast"],
    ["harder", ["'"], "more contrast"],
    ["reset", ["0"], "reset brightness and contrast"],
    ["follow", ["m"], "watch every answer's moves, or not"],
    ["theme", ["t"], "light or dark"],
  ]],
  ["Images", [
    ["accept", ["enter"], "accept and go on to the next open image"],
    ["empty", ["shift+enter"], "accept that there is nothing here, and go on"],
    ["next", ["pagedown", "j"], "next image"],
    ["previous", ["pageup", "k"], "previous image"],
    ["list", ["l"], "go to the list of images"],
    ["structure", ["1", "2", "3", "4", "5", "6", "7", "8", "9"], "choose a structure"],
    ["sheet", ["?"], "show this sheet"],
  ]],
];

const NAMES = {
  arrowleft: "←", arrowright: "→", arrowup: "↑", arrowdown: "↓", space: "Space", escape: "Esc", delete: "Delete",
  backspace: "Backspace", enter: "Enter", pagedown: "Page Down", pageup: "Page Up", ctrl: "Ctrl", shift: "Shift",
};

const nameOf = (key) => (key.length > 1 ? key.split("+").map((part) => NAMES[part] ?? part.toUpperCase()).join(" ") : key.toUpperCase());

/** Returns the keys of an action as people read them, such as "Z or Ctrl Z". */
export function keysOf(action) {
  for (const [, rows] of KEYS) for (const [name, keys] of rows) if (name === action) return keys.map(nameOf).join(" or ");
  return "";
}

/** Calls the function of an action, with the key, wherever the focus is on nothing that needs the key itself. */
export function listen(actions) {
  const table = new Map();
  for (const [, rows] of KEYS) for (const [action, keys] of rows) for (const key of keys) table.set(key, action);
  document.addEventListener("keydown", (event) => {
    const key = readKey(event);
    const action = table.get(key) ?? table.get(key.replace(/^shift\+(?=arrow)/, ""));
    if (!action || isTaken(event.target, key)) return;
    event.preventDefault();
    actions[action](key);
  });
}

function readKey(event) {
  const isThird = event.getModifierState("AltGraph"); // some keyboards have [ and ] on a third level
  if (event.isComposing || (event.altKey && !isThird)) return "";
  const key = event.key === " " ? "space" : event.key.toLowerCase();
  const ctrl = (event.ctrlKey || event.metaKey) && !isThird ? "ctrl+" : "";
  // Shift is part of a sign such as "?", but not of a letter.
  const shift = event.shiftKey && (key.length > 1 || key !== key.toUpperCase()) ? "shift+" : "";
  return ctrl + shift + key;
}

function isTaken(target, key) {
  if (!(target instanceof Element)) return false;
  if (target.closest("dialog")) return true;
  const plain = key.replace("shift+", "");
  if (target.matches("button")) return plain === "space" || plain === "enter";
  if (target.matches("select")) return true;
  if (target.matches("input[type=range]")) return /^(arrow|page)/.test(plain);
  return target.matches("input") && plain === "space";
}

/** Fills an element with a table of all keys. */
export function writeSheet(parent) {
  for (const [group, rows] of KEYS) {
    const table = document.createElement("table");
    const caption = table.createCaption();
    caption.textContent = group;
    for (const [action, keys, does] of rows) {
      const row = table.insertRow();
      row.dataset.action = action;
      const head = document.createElement("th");
      head.scope = "row";
      const shown = keys.length > 4 ? [keys[0], keys.at(-1)] : keys;
      shown.forEach((key, number) => {
        if (number) head.append(keys.length > 4 ? " to " : " ");
        const cap = document.createElement("kbd");
        cap.textContent = nameOf(key);
        head.append(cap);
      });
      row.append(head);
      row.insertCell().textContent = does;
    }
    parent.append(table);
  }
}
