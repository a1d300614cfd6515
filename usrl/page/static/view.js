// Draws an image, masks, boxes and points on a canvas, with zoom and pan.
//
// Points are in pixels of the image, whose centres are at whole numbers: its corner is at (-0.5, -0.5).

const LEAST_ZOOM = 0.05;
const MOST_ZOOM = 60;
const RIM = "rgba(0, 0, 0, 0.65)"; // keeps lines visible on bright tissue
const WHITE = "#ffffff";
const POINT = "#f0e442";
const START = "#e69f00";
const STEP_MS = 60;
const LONGEST_FILM_MS = 1500;

export class View {
  constructor(canvas) {
    this.canvas = canvas;
    this.pen = canvas.getContext("2d");
    this.pixels = null;
    this.layers = []; // {fill, outline, colour, isActive}
    this.boxes = [];
    this.marks = [];
    this.axes = [];
    this.selected = null; // {what: "mark" or "box", number}
    this.rubber = null; // the box that is being drawn
    this.cursor = null; // of the keyboard, (x, y)
    this.film = null; // outlines of a step
    this.brightness = 0;
    this.contrast = 1;
    this.showsMasks = true;
    this.showsAxes = false;
    this.zoom = 1;
    this.left = 0;
    this.top = 0;
    this.isFitted = true;
    this.isAsked = false;
    this.filmed = 0;
    new ResizeObserver(() => this.resize()).observe(canvas);
  }

  setImage(pixels) {
    this.pixels = pixels;
    this.layers = [];
    this.gray = new OffscreenCanvas(pixels.width, pixels.height);
    this.cursor = null;
    this.adjust(this.brightness, this.contrast);
    this.fit();
  }

  adjust(brightness, contrast) {
    this.brightness = brightness;
    this.contrast = contrast;
    if (!this.pixels) return;
    const { width, height, levels } = this.pixels;
    const table = Uint8ClampedArray.from({ length: 256 }, (_, level) => (level - 128) * contrast + 128 + brightness);
    const shown = new ImageData(width, height);
    const words = new Uint32Array(shown.data.buffer);
    for (let place = 0; place < levels.length; place++) words[place] = 0xff000000 | (table[levels[place]] * 0x010101);
    this.gray.getContext("2d").putImageData(shown, 0, 0);
    this.draw();
  }

  /** Sets the masks: {mask: {width, height, levels}, colour: [r, g, b], isActive}. */
  setLayers(layers) {
    this.layers = layers.map(({ mask, colour, isActive }) => ({
      fill: paint(mask, colour),
      outline: trace(mask),
      colour: `rgb(${colour.join(" ")})`,
      isActive,
    }));
    this.draw();
  }

  resize() {
    const { clientWidth, clientHeight } = this.canvas;
    const scale = window.devicePixelRatio || 1;
    this.canvas.width = Math.max(1, Math.round(clientWidth * scale));
    this.canvas.height = Math.max(1, Math.round(clientHeight * scale));
    if (this.isFitted) this.fit();
    this.draw();
  }

  fit() {
    if (!this.pixels) return;
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const zoom = Math.min(width / this.pixels.width, height / this.pixels.height) * 0.96;
    this.zoom = Math.min(Math.max(zoom, LEAST_ZOOM), MOST_ZOOM);
    this.left = (width - this.pixels.width * this.zoom) / 2;
    this.top = (height - this.pixels.height * this.zoom) / 2;
    this.isFitted = true;
    this.draw();
  }

  /** Zooms by a factor around a point of the canvas, its middle if none is given. */
  zoomBy(factor, x = this.canvas.clientWidth / 2, y = this.canvas.clientHeight / 2) {
    const zoom = Math.min(Math.max(this.zoom * factor, LEAST_ZOOM), MOST_ZOOM);
    this.left = x - ((x - this.left) * zoom) / this.zoom;
    this.top = y - ((y - this.top) * zoom) / this.zoom;
    this.zoom = zoom;
    this.isFitted = false;
    this.draw();
  }

  panBy(dx, dy) {
    const { clientWidth, clientHeight } = this.canvas;
    const keep = 40; // of the image stays in sight
    const { width, height } = this.pixels ?? { width: 0, height: 0 };
    this.left = Math.min(Math.max(this.left + dx, keep - width * this.zoom), clientWidth - keep);
    this.top = Math.min(Math.max(this.top + dy, keep - height * this.zoom), clientHeight - keep);
    this.isFitted = false;
    this.draw();
  }

  toImage(x, y) {
    return [(x - this.left) / this.zoom - 0.5, (y - this.top) / this.zoom - 0.5];
  }

  toCanvas([x, y]) {
    return [this.left + (x + 0.5) * this.zoom, this.top + (y + 0.5) * this.zoom];
  }

  /** Returns a point that is inside the image and has two decimals. */
  clamp([x, y]) {
    const { width, height } = this.pixels;
    const within = (value, length) => Math.round(Math.min(Math.max(value, -0.5), length - 0.5) * 100) / 100;
    return [within(x, width), within(y, height)];
  }

  /** Returns the number of the mark at a place of the canvas, the last one on top; -1 if there is none. */
  pickMark(x, y, reach) {
    const away = this.marks.map((mark) => {
      const [ownX, ownY] = this.toCanvas([mark.x, mark.y]);
      return Math.hypot(ownX - x, ownY - y);
    });
    const least = Math.min(...away);
    return least <= reach ? away.lastIndexOf(least) : -1;
  }

  /** Returns the number of the box whose side is at a place of the canvas; -1 if there is none. */
  pickBox(x, y, reach) {
    return this.boxes.findIndex(([x0, y0, x1, y1]) => {
      const [left, top] = this.toCanvas([x0, y0]);
      const [right, bottom] = this.toCanvas([x1, y1]);
      const outside = Math.max(left - x, x - right, top - y, y - bottom);
      return Math.abs(outside) <= reach;
    });
  }

  /** Moves the view so that a point of the image is in sight. */
  reveal(point) {
    const [x, y] = this.toCanvas(point);
    const { clientWidth, clientHeight } = this.canvas;
    const edge = 30;
    const push = (value, length) => Math.max(edge - value, 0) - Math.max(value - (length - edge), 0);
    const dx = push(x, clientWidth);
    const dy = push(y, clientHeight);
    if (dx || dy) this.panBy(dx, dy);
  }

  /** Shows the outlines of each step of an agent, one after the other. A later film ends an earlier one. */
  async play(steps) {
    const own = ++this.filmed;
    const pause = Math.min(STEP_MS, LONGEST_FILM_MS / steps.length);
    for (const step of steps) {
      this.film = { start: steps[0], step };
      this.draw();
      await new Promise((resume) => setTimeout(resume, pause));
      if (this.filmed !== own) return;
    }
    this.film = null;
    this.draw();
  }

  stop() {
    this.filmed++;
    this.film = null;
    this.draw();
  }

  draw() {
    if (this.isAsked) return;
    this.isAsked = true;
    requestAnimationFrame(() => {
      this.isAsked = false;
      this.drawNow();
    });
  }

  drawNow() {
    const { pen, canvas } = this;
    const scale = window.devicePixelRatio || 1;
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.clearRect(0, 0, canvas.clientWidth, canvas.clientHeight);
    if (!this.pixels) return;
    const { width, height } = this.pixels;
    const place = [this.left, this.top, width * this.zoom, height * this.zoom];
    pen.imageSmoothingEnabled = this.zoom < 3;
    pen.imageSmoothingQuality = "high";
    pen.drawImage(this.gray, ...place);
    pen.imageSmoothingEnabled = false;
    if (this.film) this.drawFilm();
    else if (this.showsMasks) for (const layer of this.layers) this.drawLayer(layer, place);
    for (const [number, box] of this.boxes.entries()) this.drawBox(box, this.isSelected("box", number));
    if (this.rubber) this.drawBox(this.rubber, true);
    if (this.showsAxes) for (const ends of this.axes) this.drawLine(ends, [6, 4], POINT);
    for (const [number, mark] of this.marks.entries()) this.drawMark(mark, this.isSelected("mark", number));
    if (this.cursor) this.drawCursor();
    Object.assign(canvas.dataset, { zoom: this.zoom, left: this.left, top: this.top });
  }

  isSelected(what, number) {
    return this.selected?.what === what && this.selected.number === number;
  }

  drawLayer({ fill, outline, colour, isActive }, place) {
    const { pen } = this;
    if (isActive) pen.drawImage(fill, ...place);
    pen.save();
    pen.translate(this.left, this.top);
    pen.scale(this.zoom, this.zoom);
    this.stroke(outline, colour, (isActive ? 2 : 1.5) / this.zoom);
    pen.restore();
  }

  drawFilm() {
    const line = (outlines) => {
      const path = new Path2D();
      for (const outline of outlines) {
        outline.forEach((point, number) => path[number ? "lineTo" : "moveTo"](...this.toCanvas(point)));
        path.closePath();
      }
      return path;
    };
    this.pen.setLineDash([6, 5]);
    this.stroke(line(this.film.start), START, 1.5);
    this.pen.setLineDash([]);
    this.stroke(line(this.film.step), this.layers.find((layer) => layer.isActive)?.colour ?? POINT, 2);
  }

  drawBox([x0, y0, x1, y1], isSelected) {
    const [left, top] = this.toCanvas([x0, y0]);
    const [right, bottom] = this.toCanvas([x1, y1]);
    const path = new Path2D();
    path.rect(left, top, right - left, bottom - top);
    this.pen.setLineDash(isSelected ? [] : [6, 4]);
    this.stroke(path, isSelected ? POINT : WHITE, 1.5);
    this.pen.setLineDash([]);
  }

  drawLine(ends, dash, colour) {
    const path = new Path2D();
    path.moveTo(...this.toCanvas(ends[0]));
    path.lineTo(...this.toCanvas(ends[1]));
    this.pen.setLineDash(dash);
    this.stroke(path, colour, 1.5);
    this.pen.setLineDash([]);
  }

  /** A dot on the border, a plus inside, a minus outside: the shape tells them apart, not the colour alone. */
  drawMark(mark, isSelected) {
    const { pen } = this;
    const [x, y] = this.toCanvas([mark.x, mark.y]);
    const path = new Path2D();
    if (mark.kind === "border") {
      path.arc(x, y, 3.5, 0, 2 * Math.PI);
      this.stroke(path, POINT, 2);
      pen.fillStyle = POINT;
      pen.fill(path);
    } else {
      path.moveTo(x - 6, y);
      path.lineTo(x + 6, y);
      if (mark.kind === "inside") {
        path.moveTo(x, y - 6);
        path.lineTo(x, y + 6);
      }
      this.stroke(path, mark.kind === "inside" ? POINT : "#ff9ecb", 3);
    }
    if (!isSelected) return;
    const ring = new Path2D();
    ring.arc(x, y, 10, 0, 2 * Math.PI);
    this.stroke(ring, WHITE, 1.5);
  }

  drawCursor() {
    const [x, y] = this.toCanvas(this.cursor);
    const path = new Path2D();
    for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
      path.moveTo(x + 4 * dx, y + 4 * dy);
      path.lineTo(x + 14 * dx, y + 14 * dy);
    }
    this.stroke(path, WHITE, 1.5);
  }

  stroke(path, colour, width) {
    const { pen } = this;
    pen.lineJoin = pen.lineCap = "round";
    pen.strokeStyle = RIM;
    pen.lineWidth = 2 * width;
    pen.stroke(path);
    pen.strokeStyle = colour;
    pen.lineWidth = width;
    pen.stroke(path);
  }
}

/** Returns a mask as a see-through picture. */
function paint({ width, height, levels }, [red, green, blue]) {
  const shown = new ImageData(width, height);
  const words = new Uint32Array(shown.data.buffer);
  const word = ((36 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
  for (let place = 0; place < levels.length; place++) if (levels[place]) words[place] = word;
  const canvas = new OffscreenCanvas(width, height);
  canvas.getContext("2d").putImageData(shown, 0, 0);
  return canvas;
}

/** Returns the sides of pixels between a mask and its background, counted from the image's corner. */
function trace({ width, height, levels }) {
  const path = new Path2D();
  const at = (x, y) => x >= 0 && y >= 0 && x < width && y < height && levels[y * width + x] > 0;
  for (let y = 0; y <= height; y++) {
    for (let x = 0, start = -1; x <= width; x++) {
      const differs = x < width && at(x, y) !== at(x, y - 1);
      if (differs && start < 0) start = x;
      if (!differs && start >= 0) {
        path.moveTo(start, y);
        path.lineTo(x, y);
        start = -1;
      }
    }
  }
  for (let x = 0; x <= width; x++) {
    for (let y = 0, start = -1; y <= height; y++) {
      const differs = y < height && at(x, y) !== at(x - 1, y);
      if (differs && start < 0) start = y;
      if (!differs && start >= 0) {
        path.moveTo(x, start);
        path.lineTo(x, y);
        start = -1;
      }
    }
  }
  return path;
}
