// Calls per key, model and day, from the same counts that limits are enforced with.
import { html, useState, Empty, Problem, Tabs, many, useLoad } from "./ui.js";
import { get } from "./api.js";
import { Plot } from "./charts.js";
import { colour } from "./draw.js";

const SPANS = { "7 days": 7, "30 days": 30, "90 days": 90 };

export function Usage({ session }) {
  const [span, setSpan] = useState("30 days");
  const [by, setBy] = useState("By model");
  const usage = useLoad(() => get(`/v1/usage?days=${SPANS[span]}${session?.admin ? "&all=true" : ""}`), [session, span], 30000);
  const rows = usage.data?.days ?? [];
  const field = by === "By model" ? "model" : "key";
  const names = [...new Set(rows.map((row) => row[field]))].sort();
  const series = names.map((name, index) => ({ label: name, colour: colour(index), points: daily(rows.filter((row) => row[field] === name)) }));
  const calls = rows.reduce((sum, row) => sum + row.calls, 0);
  return html`<section>
    <h1>Usage</h1>
    <div class="row between">
      <${Tabs} names=${Object.keys(SPANS)} value=${span} onChange=${setSpan} label="Span" />
      <${Tabs} names=${["By model", "By key"]} value=${by} onChange=${setBy} label="Grouping" />
    </div>
    <${Problem} error=${usage.error} />
    ${usage.data && html`<p class="lead">${many(calls, "call")}. ${usage.data.limit ? `Your key: ${usage.data.used} of ${usage.data.limit} used, ${usage.data.remaining} left.` : ""}</p>`}
    ${rows.length > 0 && html`<div class="card"><${Plot} title="Calls a day" bars=${series.length === 1} series=${series} height=${240} /></div>`}
    ${usage.data && !rows.length && html`<${Empty}>No calls in this span.<//>`}
    ${rows.length > 0 && html`<div class="table-wrap" tabindex="0" role="region" aria-label="Calls"><table>
      <thead><tr><th>Day</th><th>Key</th><th>Model</th><th class="num">Calls</th><th class="num">Errors</th></tr></thead>
      <tbody>${[...rows].sort((a, b) => (a.day < b.day ? 1 : -1)).map((row) => html`<tr><td>${row.day}</td><td>${row.key}</td><td>${row.model}</td><td class="num">${row.calls.toLocaleString()}</td><td class="num">${row.errors ?? 0}</td></tr>`)}</tbody>
    </table></div>`}
  </section>`;
}

function daily(rows) {
  const sums = new Map();
  for (const row of rows) {
    const day = Date.parse(`${row.day}T12:00:00Z`) / 1000;
    sums.set(day, (sums.get(day) ?? 0) + row.calls);
  }
  return [...sums].sort((a, b) => a[0] - b[0]);
}
