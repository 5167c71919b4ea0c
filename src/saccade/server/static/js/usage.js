// Calls per key, model and day, from the same counts that limits are enforced with.
import { html, useState, Empty, Problem, Row, Table, Tabs, many, useLoad } from "./ui.js";
import { get } from "./api.js";
import { Plot, tint } from "./charts.js";

const SPANS = { "7 days": 7, "30 days": 30, "90 days": 90 };
const DAY_S = 86400;
const MOST_SERIES = 8; // the rest are drawn together
const MOST = 200; // rows that are shown unasked: thousands take seconds
const NAMES = [{ name: "Day", kind: "day" }, { name: "Key" }, { name: "Model", kind: "broad" }, { name: "Calls", kind: "num" }, { name: "Errors", kind: "num" }];

export function Usage({ session }) {
  const [span, setSpan] = useState("30 days");
  const [by, setBy] = useState("By model");
  const [all, setAll] = useState(false);
  const days = SPANS[span];
  const usage = useLoad(() => get(`/v1/usage?days=${days}${session?.admin ? "&all=true" : ""}`), [session, span], 30000);
  const rows = usage.data?.days ?? [];
  const calls = rows.reduce((sum, row) => sum + row.calls, 0);
  const errors = rows.reduce((sum, row) => sum + (row.errors ?? 0), 0);
  const noon = (Math.floor(Date.now() / 1000 / DAY_S) + 0.5) * DAY_S;
  const latest = [...rows].sort((a, b) => (a.day < b.day ? 1 : a.day > b.day ? -1 : b.calls - a.calls));
  const shown = all ? latest : latest.slice(0, MOST);
  const limits = [noon - (days - 0.5) * DAY_S, noon + 0.5 * DAY_S];
  return html`<section>
    <h1>Usage</h1>
    <div class="row between">
      <${Tabs} names=${Object.keys(SPANS)} value=${span} onChange=${setSpan} label="Span" />
      <${Tabs} names=${["By model", "By key"]} value=${by} onChange=${setBy} label="Grouping" />
    </div>
    <${Problem} error=${usage.error} />
    ${usage.data && html`<div class="tiles">
      <div><b>${calls.toLocaleString()}</b>${calls === 1 ? "call" : "calls"} in ${span}</div>
      <div class=${errors ? "bad" : ""}><b>${errors.toLocaleString()}</b>failed</div>
      ${usage.data.limit ? html`<div><b>${usage.data.used.toLocaleString()} of ${usage.data.limit.toLocaleString()}</b>used by your key, ${usage.data.remaining.toLocaleString()} left</div>` : null}
    </div>`}
    ${rows.length > 0 && html`<div class="card"><${Plot} key=${by} title="Calls a day" bars=${true} stacked=${true} span=${limits} series=${stacks(rows, by === "By model" ? "model" : "key", noon, days)} height=${260} /></div>`}
    ${usage.data && !rows.length && html`<${Empty}>No calls in ${span}.<//>`}
    ${rows.length > 0 && html`<${Table} label="Calls" names=${NAMES}>
      ${shown.map((row) => html`<${Row} names=${NAMES} cells=${[row.day, row.key, row.model, row.calls.toLocaleString(), row.errors ?? 0]} />`)}
    <//>`}
    ${shown.length < rows.length && html`<p class="hint">${shown.length} of ${many(rows.length, "row")} are shown, the latest days first. <button class="quiet" onClick=${() => setAll(true)}>Show all</button></p>`}
    ${usage.data && html`<p class="hint">Days are counted in UTC. ${many(new Set(rows.map((row) => row.key_id)).size, "key")}, ${many(new Set(rows.map((row) => row.model)).size, "model")}.</p>`}
  </section>`;
}

// A series for each of the busiest names, with a point for every day, also for those without a call.
function stacks(rows, field, noon, days) {
  const totals = new Map();
  for (const row of rows) totals.set(row[field], (totals.get(row[field]) ?? 0) + row.calls);
  const names = [...totals].sort((a, b) => b[1] - a[1]).map(([name]) => name);
  const shown = names.length > MOST_SERIES ? names.slice(0, MOST_SERIES - 1) : names;
  const every = names.length > shown.length ? [...shown, "others"] : shown;
  const times = Array.from({ length: days }, (_, back) => noon - (days - 1 - back) * DAY_S);
  const place = new Map(shown.map((name, index) => [name, index]));
  const when = new Map(times.map((time, index) => [new Date(time * 1000).toISOString().slice(0, 10), index]));
  const sums = every.map(() => times.map(() => 0));
  for (const row of rows) if (when.has(row.day)) sums[place.get(row[field]) ?? shown.length][when.get(row.day)] += row.calls;
  return every.map((label, index) => ({ label, colour: tint(index), points: times.map((time, day) => [time, sums[index][day]]) }));
}
