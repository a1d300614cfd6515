// Mouse, pen and fingers on the canvas. One finger or the left button marks; two fingers, the middle or the right
// button move the view, and so does the left button with Alt.

const SLIP = 4; // px: a shorter way is a click

/** Calls what the page does: `isBoxTool()`, `canMark()`, `addBox(box)`, `putMark(point, isOther)`, `moveMark(number,
 * point)`, `select(what, number)`, `touch()`. */
export function listen(view, page) {
  const { canvas } = view;
  const pointers = new Map();
  let gesture = null; // {kind, ...}: box, drag, press, pan or pinch

  const placeOf = (event) => {
    const frame = canvas.getBoundingClientRect();
    return [event.clientX - frame.left, event.clientY - frame.top];
  };

  const begin = (event) => {
    const [x, y] = placeOf(event);
    const reach = event.pointerType === "mouse" ? 9 : 22;
    if (event.button === 1 || event.button === 2 || event.altKey) return { kind: "pan", x, y };
    if (page.isBoxTool()) {
      const number = view.pickBox(x, y, reach / 2);
      if (number >= 0) return { kind: "choose", number };
      return { kind: "box", from: view.clamp(view.toImage(x, y)), x, y };
    }
    const number = view.pickMark(x, y, reach);
    if (number >= 0) return { kind: "drag", number, x, y, was: { ...view.marks[number] } };
    return { kind: page.canMark() ? "press" : "pan", x, y };
  };

  const pinch = () => {
    const [first, second] = [...pointers.values()];
    return {
      kind: "pinch",
      x: (first[0] + second[0]) / 2,
      y: (first[1] + second[1]) / 2,
      apart: Math.max(1, Math.hypot(first[0] - second[0], first[1] - second[1])),
    };
  };

  const cancel = () => {
    if (gesture?.kind === "drag") view.marks[gesture.number] = gesture.was;
    view.rubber = null;
    gesture = null;
    view.draw();
  };

  canvas.addEventListener("pointerdown", (event) => {
    if (!view.pixels) return;
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, placeOf(event));
    page.touch();
    view.stop();
    view.cursor = null;
    if (pointers.size === 1) gesture = begin(event);
    else if (pointers.size === 2) {
      cancel();
      gesture = pinch();
    }
  });

  canvas.addEventListener("pointermove", (event) => {
    if (!pointers.has(event.pointerId) || !gesture) return;
    const [x, y] = placeOf(event);
    pointers.set(event.pointerId, [x, y]);
    page.touch();
    if (gesture.kind === "pinch") {
      const now = pinch();
      view.zoomBy(now.apart / gesture.apart, now.x, now.y);
      view.panBy(now.x - gesture.x, now.y - gesture.y);
      gesture = now;
    } else if (gesture.kind === "pan") {
      view.panBy(x - gesture.x, y - gesture.y);
      Object.assign(gesture, { x, y });
    } else if (gesture.kind === "box") {
      const to = view.clamp(view.toImage(x, y));
      view.rubber = order(gesture.from, to);
    } else if (gesture.kind === "drag") {
      const [ownX, ownY] = view.clamp(view.toImage(x, y));
      Object.assign(view.marks[gesture.number], { x: ownX, y: ownY });
    }
    view.draw();
  });

  canvas.addEventListener("pointerup", (event) => {
    if (!pointers.delete(event.pointerId) || !gesture) return;
    const [x, y] = placeOf(event);
    const done = gesture;
    const isFar = Math.hypot(x - done.x, y - done.y) > SLIP;
    const point = view.clamp(view.toImage(x, y));
    if (done.kind === "pinch") gesture = null;
    else {
      cancel();
      if (done.kind === "box" && isFar) page.addBox(order(done.from, point));
      if (done.kind === "press" && !isFar) page.putMark(point, event.shiftKey);
      if (done.kind === "choose") page.select("box", done.number);
      if (done.kind === "drag") isFar ? page.moveMark(done.number, point) : page.select("mark", done.number);
    }
  });

  canvas.addEventListener("pointercancel", (event) => {
    pointers.delete(event.pointerId);
    cancel();
  });
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      page.touch();
      view.zoomBy(Math.exp(-event.deltaY / (event.ctrlKey ? 100 : 400)), ...placeOf(event));
    },
    { passive: false },
  );
}

export function order([x0, y0], [x1, y1]) {
  return [Math.min(x0, x1), Math.min(y0, y1), Math.max(x0, x1), Math.max(y0, y1)];
}
