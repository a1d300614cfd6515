// The list of images with their states.

const SIGNS = { new: "○", begun: "◐", accepted: "●", changed: "◑", unreadable: "!" };
export const STATES = {
  new: "not begun",
  begun: "begun",
  accepted: "accepted",
  changed: "accepted, then changed",
  unreadable: "cannot be read",
};

export class List {
  /** Calls `open(name)` when an image is chosen. */
  constructor(parent, filter, open) {
    this.parent = parent;
    this.filter = filter;
    this.open = open;
    this.images = [];
    this.items = new Map();
    filter.addEventListener("change", () => this.sift());
  }

  set(images) {
    this.images = images;
    this.items.clear();
    this.parent.replaceChildren(...images.map((image) => this.make(image)));
    this.sift();
  }

  make(image) {
    const item = document.createElement("li");
    const button = document.createElement("button");
    const [sign, name, state] = ["span", "span", "span"].map((kind) => document.createElement(kind));
    button.type = "button";
    sign.className = "sign";
    sign.setAttribute("aria-hidden", "true");
    name.className = "name";
    name.textContent = image.name;
    state.className = "unseen";
    button.append(sign, name, state);
    button.addEventListener("click", () => this.open(image.name));
    item.append(button);
    this.items.set(image.name, { item, button, sign, state });
    this.show(image);
    return item;
  }

  show(image) {
    const { item, button, sign, state } = this.items.get(image.name);
    item.dataset.state = image.state;
    sign.textContent = SIGNS[image.state];
    state.textContent = `, ${STATES[image.state]}`;
    button.title = image.fault || `${image.name}: ${STATES[image.state]}`;
  }

  /** Takes over the state of an image. */
  update({ name, state, fault }) {
    const image = this.images.find((each) => each.name === name);
    if (!image) return;
    Object.assign(image, { state, fault });
    this.show(image);
    this.sift();
  }

  mark(name) {
    this.current = name;
    for (const [each, { button }] of this.items) {
      if (each === name) {
        button.setAttribute("aria-current", "true");
        button.scrollIntoView({ block: "nearest" });
      } else button.removeAttribute("aria-current");
    }
    this.sift();
  }

  sift() {
    const wanted = this.filter.value;
    for (const { name, state } of this.images) {
      const isShown = wanted === "all" || (wanted === "accepted") === (state === "accepted") || name === this.current;
      this.items.get(name).item.hidden = !isShown;
    }
  }

  focus() {
    (this.items.get(this.current) ?? this.items.values().next().value)?.button.focus();
  }

  /** Returns the name of the image some places on, or null at the end. */
  beside(name, way) {
    const place = this.images.findIndex((each) => each.name === name);
    return this.images[place + way]?.name ?? null;
  }

  /** Returns the next image that is not accepted, from the start again after the end; null if there is none. */
  nextOpen(name) {
    const place = this.images.findIndex((each) => each.name === name);
    const later = [...this.images.slice(place + 1), ...this.images.slice(0, place)];
    return later.find((each) => !["accepted", "unreadable"].includes(each.state))?.name ?? null;
  }

  get accepted() {
    return this.images.filter((each) => each.state === "accepted").length;
  }
}
