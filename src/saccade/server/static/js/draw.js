// Draws what a model found over the picture, crisp at any zoom, and tells which object lies under the pointer.
const CROWD = 12; // with more objects than this, small ones get their label only when they are pointed at
const LIMBS = [
  [15, 13], [13, 11], [16, 14], [14, 12], [11, 12], [5, 11], [6, 12], [5, 6], [5, 7], [6, 8],
  [7, 9], [8, 10], [1, 2], [0, 1], [0, 2], [1, 3], [2, 4], [3, 5], [4, 6],
];

// Neighbouring class ids get hues far apart (the golden angle); dark enough for white text on top.
export function colour(classId, alpha = 1) {
  const hue = (174 + classId * 137.508) % 360;
  return `hsl(${hue.toFixed(1)} 78% 36% / ${alpha})`;
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
    pen.globalAlpha = active == null || active === index ? 1 : 0.25;
    pen.lineWidth = active === index ? line * 1.5 : line;
    shapeOf(pen, item, scale, active === index);
  });
  items.forEach((item, index) => {
    pen.globalAlpha = active == null || active === index ? 1 : 0.25;
    const crowded = items.length > CROWD && width(item) * scale < 60 * ratio;
    if (item.box && (active === index || (active == null && !crowded))) label(pen, item, scale, ratio, canvas.width);
  });
  pen.globalAlpha = 1;
}

function width({ box }) {
  if (!box) return 0;
  const xs = [box.x1, box.x2, box.x3 ?? box.x1, box.x4 ?? box.x2];
  return Math.max(...xs) - Math.min(...xs);
}

function shapeOf(pen, item, scale, strong) {
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
  if (item.keypoints) skeleton(pen, item, scale);
}

function path(pen, xs, ys, scale) {
  pen.beginPath();
  xs.forEach((x, i) => (i ? pen.lineTo(x * scale, ys[i] * scale) : pen.moveTo(x * scale, ys[i] * scale)));
  pen.closePath();
}

function skeleton(pen, { keypoints: { x, y, visible }, class: id }, scale) {
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
    pen.arc(x[i] * scale, y[i] * scale, pen.lineWidth * 1.4, 0, 7);
    pen.fillStyle = "#fff";
    pen.fill();
    pen.strokeStyle = colour(id);
    pen.stroke();
  });
}

function label(pen, item, scale, ratio, right) {
  const { x, y } = topLeft(item);
  const text = `${item.track_id != null ? `#${item.track_id} ` : ""}${item.name} ${percent(item.confidence)}`;
  pen.font = `600 ${12 * ratio}px system-ui, sans-serif`;
  const wide = pen.measureText(text).width + 10 * ratio;
  const high = 18 * ratio;
  const left = Math.max(0, Math.min(x * scale, right - wide));
  const top = Math.max(0, y * scale - high);
  pen.fillStyle = colour(item.class);
  pen.fillRect(left, top, wide, high);
  pen.fillStyle = "#fff";
  pen.textBaseline = "middle";
  pen.shadowColor = "rgb(0 0 0 / .55)";
  pen.shadowBlur = 3 * ratio;
  pen.fillText(text, left + 5 * ratio, top + high / 2);
  pen.shadowBlur = 0;
}

function topLeft({ box }) {
  if (box.x3 === undefined) return { x: box.x1, y: box.y1 };
  const corners = [[box.x1, box.y1], [box.x2, box.y2], [box.x3, box.y3], [box.x4, box.y4]];
  const [x, y] = corners.reduce((best, corner) => (corner[1] < best[1] ? corner : best));
  return { x, y };
}

// The smallest object under a point of the picture, or null.
export function hit(items, x, y) {
  let best = null;
  let least = Infinity;
  items.forEach((item, index) => {
    if (!item.box) return;
    const xs = [item.box.x1, item.box.x2, item.box.x3, item.box.x4].filter((v) => v !== undefined);
    const ys = [item.box.y1, item.box.y2, item.box.y3, item.box.y4].filter((v) => v !== undefined);
    const [x1, x2, y1, y2] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
    const area = (x2 - x1) * (y2 - y1);
    if (x >= x1 && x <= x2 && y >= y1 && y <= y2 && area < least) [best, least] = [index, area];
  });
  return best;
}

export function percent(score) {
  return `${Math.round(score * 100)}%`;
}
