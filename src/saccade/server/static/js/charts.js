// Plots over time with uPlot, in the page's colours.
import uPlot from "../vendor/uplot.js";
import { html, useEffect, useRef } from "./ui.js";

// series: [{label, points: [[epoch seconds, value], …], colour}]
export function Plot({ title, series, unit = "", bars = false, height = 180 }) {
  const box = useRef();
  useEffect(() => {
    const times = [...new Set(series.flatMap((one) => one.points.map(([time]) => time)))].sort((a, b) => a - b);
    const columns = series.map((one) => {
      const at = new Map(one.points);
      return times.map((time) => at.get(time) ?? null);
    });
    const { color: ink, outlineColor: faint } = getComputedStyle(box.current);
    const axis = { stroke: ink, grid: { stroke: faint, width: 1 }, ticks: { stroke: faint, width: 1 } };
    const chart = new uPlot(
      {
        width: box.current.clientWidth,
        height,
        legend: { show: series.length > 1 },
        cursor: { points: { size: 6 } },
        scales: { y: { range: (_, low, high) => [Math.min(0, low ?? 0), Math.max(1, (high ?? 1) * 1.1)] } },
        axes: [axis, { ...axis, size: 54, values: (_, ticks) => ticks.map((tick) => `${tick}${unit}`) }],
        series: [
          {},
          ...series.map((one) => ({
            label: one.label,
            stroke: one.colour,
            width: 2,
            fill: bars ? one.colour : undefined,
            paths: bars ? uPlot.paths.bars({ size: [0.7, 40] }) : undefined,
            points: { show: times.length < 2 },
          })),
        ],
      },
      [times, ...columns],
      box.current,
    );
    const watch = new ResizeObserver(() => chart.setSize({ width: box.current.clientWidth, height }));
    watch.observe(box.current);
    return () => {
      watch.disconnect();
      chart.destroy();
    };
  }, [JSON.stringify(series)]);
  const total = series.map((one) => `${one.label}: ${one.points.length ? one.points.at(-1)[1] : 0}${unit}`).join(", ");
  return html`<figure class="plot"><figcaption>${title}</figcaption><div class="plot-area" ref=${box} role="img" aria-label="${title}. Latest: ${total}"></div></figure>`;
}
