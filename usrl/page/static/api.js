// Talks to the server. Addresses are relative to that of the page, which holds the token.

/** What the server refused. `view` is the image's state if another tab has changed it. */
export class Refused extends Error {
  constructor(message, status, view) {
    super(message);
    this.status = status;
    this.view = view;
  }
}

const GONE =
  "The server does not answer. All that it has confirmed is kept. Run the same command again, and open the address " +
  "that it prints.";

async function ask(path, options) {
  let response;
  try {
    response = await fetch(path, { cache: "no-store", ...options });
  } catch {
    throw new Refused(GONE, 0);
  }
  if (response.ok) return response;
  const told = await response.json().catch(() => ({}));
  throw new Refused(told.error ?? `The server answered with status ${response.status}.`, response.status, told.view);
}

const pathOf = (name) => `api/images/${encodeURIComponent(name)}`;

async function post(path, body) {
  const headers = { "Content-Type": "application/json" };
  return (await ask(path, { method: "POST", headers, body: JSON.stringify(body) })).json();
}

export const readDesk = async () => (await ask("api/desk")).json();
export const readView = async (name) => (await ask(pathOf(name))).json();
export const act = (name, body) => post(`${pathOf(name)}/act`, body);
export const accept = (name, body) => post(`${pathOf(name)}/accept`, body);

export async function readMoves(name, structure) {
  return (await ask(`${pathOf(name)}/moves?structure=${encodeURIComponent(structure)}`)).json();
}

/** Returns the pixels of an image as {width, height, levels}, a byte each. */
export async function readPixels(name) {
  return levelsOf(await (await ask(`${pathOf(name)}/pixels`)).blob());
}

/** Returns a mask, which comes as the text of a PNG, as {width, height, levels}. */
export function readMask(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return levelsOf(new Blob([bytes], { type: "image/png" }));
}

async function levelsOf(blob) {
  const bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none" });
  const { width, height } = bitmap;
  const canvas = new OffscreenCanvas(width, height);
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  pen.drawImage(bitmap, 0, 0);
  bitmap.close();
  const { data } = pen.getImageData(0, 0, width, height);
  const levels = new Uint8Array(width * height);
  for (let place = 0; place < levels.length; place++) levels[place] = data[4 * place];
  return { width, height, levels };
}
