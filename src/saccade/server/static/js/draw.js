// Draws what a model found over the picture, crisp at any zoom, and tells which object lies under the pointer.
const SMALL = 520; // on pictures narrower than this, labels are smaller
const DIM = 0.25; // how much is seen of the others while one is pointed at
const LIMBS = [
  [15, 13], [13, 11], [16, 14], [14, 12], [11, 12], [5, 11], [6, 12], [5, 6], [5, 7], [6, 8],
  [7, 9], [8, 10], [1, 2], [0, 1], [0, 2], [1, 3], [2, 4], [3, 5], [4, 6],
];

const [SATURATION, LIGHTNESS] = [0.78, 0.36];
const MIDDLE = 0.179; // on what is lighter than this, black is easier to read than white

// Neighbouring class ids get hues far apart (the golden angle).
export function colour(classId, alpha = 1) {
  return `hsl(${hue(classId).toFixed(1)} ${100 * SATURATION}% ${100 * LIGHTNESS}% / ${alpha})`;
}

function hue(classId) {
  return (174 + classId * 137.508) % 360;
}

// Black or white, whichever is easier to read on a class's colour.
export function ink(classId) {
  const [red, green, blue] = [0, 8, 4].map((step) => {
    const turn = (step + hue(classId) / 30) % 12;
    const value = LIGHTNESS - SATURATION * LIGHTNESS * Math.max(-1, Math.min(turn - 3, 9 - turn, 1));
    return ((value + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue > MIDDLE ? "#000" : "#fff";
}

// A name between other words: one that is written from right to left would pull their numbers along.
export function apart(name) {
  return `\u2068${name}\u2069`;
}

// canvas covers the picture; items are in picture pixels; shape is [height, width].
export function draw(canvas, items, shape, active) {
  const ratio = window.devicePixelRatio || 1;
  const { clientWidth, clientHeight } = canvas;
  canvas.width = Math.round(clientWidth * ratio);
  canvas.height = Math.round(clientHeight * ratio);
  const scale = canvas.width / shape[1];
  const pen = canvas.getContext("2d");
  pen.clearRect(0, 0, canvas.width, canvas.height);
  pen.lineJoin = "round";
  const line = Math.max(2, Math.min(4, clientWidth / 260)) * ratio;
  items.forEach((item, index) => {
    pen.globalAlpha = active == null || active === index ? 1 : DIM;
    pen.lineWidth = active === index ? line * 1.5 : line;
    shapeOf(pen, item, scale, ratio, active === index);
  });
  pen.globalAlpha = 1;
  labels(pen, active == null ? items : items.slice(active, active + 1), scale, ratio);
}

function shapeOf(pen, item, scale, ratio, strong) {
  pen.strokeStyle = colour(item.class);
  if (item.segments) {
    pen.fillStyle = colour(item.class, strong ? 0.5 : 0.35);
    path(pen, item.segments.x, item.segments.y, scale);
    pen.fill("evenodd");
    pen.stroke();
  }
  if (item.box && item.box.x3 !== undefined) {
    const { x1, x2, x3, x4, y1, y2, y3, y4 } = item.box;
    path(pen, [x1, x2, x3, x4], [y1, y2, y3, y4], scale);
    pen.stroke();
  } else if (item.box && !item.segments) {
    const { x1, y1, x2, y2 } = item.box;
    pen.strokeRect(x1 * scale, y1 * scale, (x2 - x1) * scale, (y2 - y1) * scale);
  }
  if (item.keypoints) skeleton(pen, item, scale, ratio);
}

function path(pen, xs, ys, scale) {
  pen.beginPath();
  xs.forEach((x, i) => (i ? pen.lineTo(x * scale, ys[i] * scale) : pen.moveTo(x * scale, ys[i] * scale)));
  pen.closePath();
}

function skeleton(pen, { keypoints: { x, y, visible }, class: id, box }, scale, ratio) {
  // Small people get small dots, or nothing would be seen of them.
  const tall = box ? (box.y2 - box.y1) * scale : 200 * ratio;
  const dot = Math.max(1.5 * ratio, Math.min(5 * ratio, tall / 45));
  pen.lineWidth = Math.min(pen.lineWidth, dot);
  const seen = (i) => (visible ? visible[i] >= 0.3 : true) && (x[i] !== 0 || y[i] !== 0);
  if (x.length === 17)
    for (const [a, b] of LIMBS) {
      if (!seen(a) || !seen(b)) continue;
      pen.beginPath();
      pen.moveTo(x[a] * scale, y[a] * scale);
      pen.lineTo(x[b] * scale, y[b] * scale);
      pen.stroke();
    }
  x.forEach((_, i) => {
    if (!seen(i)) return;
    pen.beginPath();
    pen.arc(x[i] * scale, y[i] * scale, dot, 0, 7);
    pen.fillStyle = "#fff";
    pen.fill();
    pen.strokeStyle = colour(id);
    pen.stroke();
  });
}

// The surest first; a label that would cover another finds a place at another corner, or is left out.
function labels(pen, items, scale, ratio) {
  const small = pen.canvas.width / ratio < SMALL ? 0.85 : 1;
  pen.font = `600 ${12 * ratio * small}px system-ui, sans-serif`;
  pen.textBaseline = "middle";
  const taken = [];
  for (const item of items) {
    if (!item.box) continue;
    const text = `${item.track_id != null ? `#${item.track_id} ` : ""}${apart(item.name)} ${percent(item.confidence)}`;
    const wide = pen.measureText(text).width + 10 * ratio * small;
    const high = 18 * ratio * small;
    const place = corners(item.box, scale, wide, high)
      .map(([left, top]) => [clamp(left, pen.canvas.width - wide), clamp(top, pen.canvas.height - high)])
      .find(([left, top]) => !taken.some((other) => left < other[0] + other[2] && other[0] < left + wide && top < other[1] + high && other[1] < top + high));
    if (!place) continue;
    taken.push([...place, wide]);
    pen.fillStyle = colour(item.class);
    pen.fillRect(...place, wide, high);
    pen.fillStyle = ink(item.class);
    pen.fillText(text, place[0] + 5 * ratio * small, place[1] + high / 2);
  }
}

// Where a label may stand: over the box, under it, at its other end, and only then inside it.
function corners(box, scale, wide, high) {
  const [left, top, right, bottom] = bounds(box).map((value) => value * scale);
  return [[left, top - high], [left, bottom], [right - wide, top - high], [right - wide, bottom], [left, top]];
}

function clamp(value, most) {
  return Math.max(0, Math.min(value, most));
}

// [left, top, right, bottom] of a box, also of one that is turned.
function bounds({ x1, x2, x3, x4, y1, y2, y3, y4 }) {
  if (x3 === undefined) return [x1, y1, x2, y2];
  return [Math.min(x1, x2, x3, x4), Math.min(y1, y2, y3, y4), Math.max(x1, x2, x3, x4), Math.max(y1, y2, y3, y4)];
}

// The smallest object under a point of the picture, or null.
export function hit(items, x, y) {
  let best = null;
  let least = Infinity;
  items.forEach((item, index) => {
    if (!item.box) return;
    const [x1, y1, x2, y2] = bounds(item.box);
    const area = (x2 - x1) * (y2 - y1);
    if (x >= x1 && x <= x2 && y >= y1 && y <= y2 && area < least) [best, least] = [index, area];
  });
  return best;
}

export function percent(score) {
  return `${Math.round(score * 100)}%`;
}
