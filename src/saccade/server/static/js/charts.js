// Plots over time with uPlot, in the page's colours.
import uPlot from "../vendor/uplot.js";
import { html, useEffect, useRef } from "./ui.js";

const ROOM = 1.1; // above the highest value

// Seen well on light and dark paper; neighbours are far apart (the golden angle).
export function tint(index) {
  return `hsl(${((174 + index * 137.508) % 360).toFixed(1)} 58% 46%)`;
}

// series: [{label, points: [[epoch seconds, value or null], …], colour}]; span: [first, last] second of the axis.
export function Plot({ title, series, span, unit = "", bars = false, stacked = false, height = 180 }) {
  const box = useRef();
  const chart = useRef();
  const now = useRef();
  now.current = table(series, stacked);
  const limits = useRef();
  limits.current = span;
  useEffect(() => {
    const { color: ink, outlineColor: faint } = getComputedStyle(box.current);
    const axis = { stroke: ink, grid: { stroke: faint, width: 1 }, ticks: { stroke: faint, width: 1 } };
    const told = (row) => (plot, _, __, index) => (index == null || now.current.raw[row][index] == null ? "–" : `${round(now.current.raw[row][index])}${unit}`);
    const drawn = new uPlot(
      {
        width: box.current.clientWidth,
        height,
        legend: { show: stacked || series.length > 1 },
        cursor: { points: { size: 6 } },
        scales: {
          x: { range: (_, low, high) => limits.current ?? [low, high] },
          y: { range: (_, low, high) => [0, Math.max(1, (high ?? 1) * ROOM)] },
        },
        axes: [axis, { ...axis, size: room, values: (_, ticks) => ticks.map((tick) => (Number.isInteger(tick) || unit ? `${tick.toLocaleString()}${unit}` : "")) }],
        series: [
          { value: (_, time) => (time == null ? "–" : new Date(time * 1000).toLocaleString(undefined, { dateStyle: "medium", ...(bars && stacked ? {} : { timeStyle: "short" }) })) },
          ...series.map((one, row) => ({
            label: one.label,
            stroke: one.colour,
            width: bars ? 0 : 2,
            fill: bars ? one.colour : undefined,
            paths: bars ? uPlot.paths.bars({ size: [0.7, 40] }) : undefined,
            points: { show: !bars, size: 5, fill: one.colour },
            value: told(row),
          })),
        ],
      },
      now.current.columns,
      box.current,
    );
    chart.current = drawn;
    const watch = new ResizeObserver(() => drawn.setSize({ width: box.current.clientWidth, height }));
    watch.observe(box.current);
    return () => {
      watch.disconnect();
      drawn.destroy();
      chart.current = null;
    };
  }, [series.map((one) => one.label + one.colour).join(), unit, bars, stacked]);
  useEffect(() => chart.current?.setData(now.current.columns), [JSON.stringify([now.current.columns, span])]);
  const latest = series.map((one) => `${one.label}: ${round(one.points.at(-1)?.[1] ?? 0)}${unit}`).join(", ");
  return html`<figure class="plot"><figcaption>${title}</figcaption><div class="plot-area" ref=${box} role="img" aria-label="${title}. Latest: ${latest}"></div></figure>`;
}

// The columns that uPlot draws, and the numbers they stand for. Stacked bars are sums of what stands below them; the
// first series is the highest and is drawn first, so that the others leave its own part of it to be seen.
function table(series, stacked) {
  const times = [...new Set(series.flatMap((one) => one.points.map(([time]) => time)))].sort((a, b) => a - b);
  const raw = series.map((one) => {
    const at = new Map(one.points);
    return times.map((time) => at.get(time) ?? null);
  });
  if (!stacked) return { raw, columns: [times, ...raw] };
  const sums = times.map(() => 0);
  const columns = raw.toReversed().map((row) => row.map((value, index) => (sums[index] += value ?? 0)));
  return { raw, columns: [times, ...columns.toReversed()] };
}

// Pixels that the numbers beside a plot need.
function room(_, texts) {
  return Math.max(54, 22 + 7 * Math.max(0, ...(texts ?? []).map((text) => text.length)));
}

function round(value) {
  return value >= 100 || Number.isInteger(value) ? Math.round(value).toLocaleString() : value.toFixed(1);
}
