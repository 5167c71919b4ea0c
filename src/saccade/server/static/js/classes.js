// A picture in which every pixel has a class, drawn over the one that was looked at.
import { html, useEffect, useRef, useState } from "./ui.js";
import { colour } from "./draw.js";

const NO_CLASS = 255; // pixels of none, as the server writes them
const [SEEN, STRONG, FAINT] = [0.55, 0.8, 0.12];

// The class of every pixel of an answer's semantic_mask, or null; pixels of two bytes hold more than a browser reads.
// Those of the last one stay until the next are read, or films would flicker.
export function useClasses(mask) {
  const [found, setFound] = useState(null);
  useEffect(() => {
    if (!mask) return setFound(null);
    let gone = false;
    read(mask).then((classes) => gone || setFound(classes), () => gone || setFound(null));
    return () => {
      gone = true;
    };
  }, [mask]);
  return mask ? found : null;
}

async function read({ data }) {
  const bytes = Uint8Array.from(atob(data), (sign) => sign.charCodeAt(0));
  if (bytes[24] !== 8) return null; // the depth of a PNG's pixels
  const image = await createImageBitmap(new Blob([bytes], { type: "image/png" }), { colorSpaceConversion: "none" });
  const { width, height } = image;
  const pen = new OffscreenCanvas(width, height).getContext("2d");
  pen.drawImage(image, 0, 0);
  image.close();
  const { data: pixels } = pen.getImageData(0, 0, width, height);
  const ids = new Uint8Array(width * height);
  for (let at = 0; at < ids.length; at++) ids[at] = pixels[4 * at];
  const hit = (items, x, y) => {
    const id = ids[Math.floor(y) * width + Math.floor(x)];
    const index = items.findIndex((item) => item.class === id);
    return index < 0 ? null : index;
  };
  return { ids, width, height, hit };
}

// active: the class that is pointed at, if any.
export function Classes({ classes, active }) {
  const canvas = useRef();
  useEffect(() => {
    const { ids, width, height } = classes;
    const tints = palette(active);
    const picture = new ImageData(width, height);
    const pixels = new Uint32Array(picture.data.buffer);
    for (let at = 0; at < ids.length; at++) pixels[at] = tints[ids[at]];
    [canvas.current.width, canvas.current.height] = [width, height];
    canvas.current.getContext("2d").putImageData(picture, 0, 0);
  }, [classes, active]);
  return html`<canvas ref=${canvas} class="overlay classes" aria-hidden="true"></canvas>`;
}

// What colour() says, as pixels.
function palette(active) {
  const pen = new OffscreenCanvas(NO_CLASS + 1, 1).getContext("2d");
  for (let id = 0; id < NO_CLASS; id++) {
    pen.fillStyle = colour(id, active == null ? SEEN : active === id ? STRONG : FAINT);
    pen.fillRect(id, 0, 1, 1);
  }
  return new Uint32Array(pen.getImageData(0, 0, NO_CLASS + 1, 1).data.buffer);
}
