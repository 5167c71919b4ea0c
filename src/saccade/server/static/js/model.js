// One model: what it is, and its Deploy tab with the shared and the dedicated API.
import { html, useState, Confirm, Empty, Problem, State, Tabs, bytes, many, useLoad, when } from "./ui.js";
import { get, origin, send } from "./api.js";
import { Snippets } from "./snippets.js";
import { Plot } from "./charts.js";

const path = (name) => name.split("/").map(encodeURIComponent).join("/");
const RANGES = ["1h", "6h", "24h", "7d", "30d"];

export function Model({ session, name, tab, onTab }) {
  const model = useLoad(() => get(`/v1/console/models/${path(name)}`), [session, name], 4000);
  const facts = model.data;
  return html`<section>
    <nav class="crumbs"><a href="#/models">Models</a> / ${name}</nav>
    <div class="row between"><h1>${name}</h1>${facts && html`<${State} value=${facts.fetched ? facts.state : "not fetched"} />`}</div>
    <${Problem} error=${model.error} />
    <${Tabs} names=${["About", "Deploy"]} value=${tab} onChange=${onTab} label="Model page" />
    ${facts && (tab === "Deploy" ? html`<${Deploy} session=${session} model=${facts} />` : html`<${About} model=${facts} />`)}
  </section>`;
}

function About({ model }) {
  const rows = [
    ["Task", model.task],
    ["Family", model.family],
    ["Runs on", model.runtime],
    ["Licence", model.licence],
    ["Size", bytes(model.size_bytes)],
    ["Memory", model.memory_bytes ? bytes(model.memory_bytes) : "not loaded"],
    ["Input", model.input_hw ? `${model.input_hw[1]} × ${model.input_hw[0]}${model.dynamic ? ", any size" : ""}` : "any size"],
    ["Source", model.source || "–"],
    ["Revision", model.revision || "–"],
    ["Also called", (model.aliases ?? []).join(", ") || "–"],
  ];
  return html`<div class="card">
      <dl class="facts">${rows.map(([term, value]) => html`<div><dt>${term}</dt><dd>${value}</dd></div>`)}</dl>
      <p><a class="button" href="#/play/${model.name}">Try it in the playground</a></p>
    </div>
    <details class="card"><summary>${many((model.labels ?? []).length, "class", "classes")}</summary>
      <p class="labels">${(model.labels ?? []).slice(0, 1000).map((label) => html`<span>${label}</span> `)}</p>
    </details>
    <${Snippets} model=${model.name} labels=${looked(model)} />`;
}

// What a zero-shot model is told to look for in an example; other models know their labels.
function looked(model) {
  return model.task === "zero-shot-classify" ? "cat, dog, person, car" : null;
}

function Deploy({ session, model }) {
  const usage = useLoad(() => get("/v1/usage"), [session], 15000);
  const endpoints = useLoad(() => get("/v1/endpoints"), [session], 3000);
  const mine = (endpoints.data?.endpoints ?? []).filter((one) => one.model === model.name);
  return html`<div class="cards">
    <article class="card">
      <h2>Shared Inference API</h2>
      <p>One URL for all models, under the limit of your key.</p>
      <p class="url"><code tabindex="0">${origin}</code></p>
      <${Limit} usage=${usage.data} />
      <${Problem} error=${usage.error} />
    </article>
    <article class="card">
      <h2>Dedicated Inference API</h2>
      <p>A URL of its own for this model, with reserved replicas and without the shared limit.</p>
      <${Problem} error=${endpoints.error} />
      ${mine.map((one) => html`<${Endpoint} key=${one.name} session=${session} endpoint=${one} labels=${looked(model)} reload=${endpoints.reload} />`)}
      ${!mine.length && endpoints.data && html`<${Empty}>No dedicated endpoint runs this model.<//>`}
      ${session?.admin ? html`<${Start} model=${model} reload=${endpoints.reload} />` : html`<p class="hint">An admin key may start one.</p>`}
    </article>
  </div>`;
}

function Limit({ usage }) {
  if (!usage) return null;
  if (!usage.limit) return html`<p class="limit">No limit for you. ${many(usage.used ?? 0, "call")} counted.</p>`;
  return html`<div class="limit">
    <progress max=${usage.limit} value=${usage.used} aria-label="Calls used"></progress>
    <p>${usage.used.toLocaleString()} of ${many(usage.limit, "call")} in ${Math.round((usage.window_s ?? 3600) / 60)} minutes. ${usage.remaining} left.</p>
  </div>`;
}

function Start({ model, reload }) {
  const regions = useLoad(() => get("/v1/regions"), []);
  const [name, setName] = useState("");
  const [most, setMost] = useState(1);
  const [least, setLeast] = useState(0);
  const [idle, setIdle] = useState(600);
  const [region, setRegion] = useState("");
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(false);
  const proposed = model.name.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "");
  const start = async (event) => {
    event.preventDefault();
    setBusy(true);
    setError(null);
    try {
      await send("POST", "/v1/endpoints", { name: name || proposed, model: model.name, replicas: `${least}:${most}`, idle_stop_s: Number(idle), region: region || null });
      reload();
    } catch (problem) {
      setError(problem);
    }
    setBusy(false);
  };
  const places = regions.data?.regions ?? [];
  return html`<form class="start" onSubmit=${start}>
    <h3>Start an endpoint</h3>
    <div class="fields">
      <label>Name <input value=${name} placeholder=${proposed} pattern="[a-z0-9]+(-[a-z0-9]+)*" onInput=${(e) => setName(e.target.value)} /></label>
      <label>Replicas at least <input type="number" min="0" max="16" value=${least} onInput=${(e) => setLeast(Number(e.target.value))} /></label>
      <label>at most <input type="number" min="1" max="16" value=${most} onInput=${(e) => setMost(Number(e.target.value))} /></label>
      <label>Sleep after idle seconds <input type="number" min="0" value=${idle} onInput=${(e) => setIdle(e.target.value)} /></label>
    </div>
    ${places.length > 0 && html`<${Regions} places=${places} value=${region} onChange=${setRegion} />`}
    <${Problem} error=${error} />
    <button class="primary" disabled=${busy}>${busy ? "Starting …" : "Start endpoint"}</button>
  </form>`;
}

function Regions({ places, value, onChange }) {
  return html`<table class="regions">
    <caption>Region, nearest first</caption>
    <thead><tr><th>Region</th><th>Place</th><th class="num">Latency</th></tr></thead>
    <tbody>${places.map(
      (place) => html`<tr>
        <td><label><input type="radio" name="region" checked=${value === place.name || (!value && place.here)} onChange=${() => onChange(place.here ? "" : place.name)} /> ${place.name}</label></td>
        <td>${place.place || "–"}</td>
        <td class="num">${place.here ? "here" : place.mean_ms == null ? "unreachable" : `${place.mean_ms.toFixed(1)} ± ${place.sd_ms.toFixed(1)} ms (${place.min_ms.toFixed(1)}–${place.max_ms.toFixed(1)})`}</td>
      </tr>`,
    )}</tbody>
  </table>`;
}

export function Endpoint({ session, endpoint, labels, reload }) {
  const [open, setOpen] = useState(false);
  const [asking, setAsking] = useState(null);
  const [error, setError] = useState(null);
  const at = `/v1/endpoints/${path(endpoint.name)}`;
  const act = (action) => send("PATCH", at, { action }).then(reload, setError);
  const running = ["ready", "deploying", "creating"].includes(endpoint.state);
  return html`<div class="endpoint">
    <div class="row between"><h3>${endpoint.name}</h3><${State} value=${endpoint.state} /></div>
    <p class="url"><code tabindex="0">${endpoint.url}</code></p>
    ${endpoint.reason && html`<p class="problem">${endpoint.reason}</p>`}
    <p class="hint">${many(endpoint.replicas_now ?? 0, "replica")} now, ${endpoint.replicas} allowed${endpoint.region ? `, in ${endpoint.region}` : ""}. Started ${when(endpoint.started)}.</p>
    <${Problem} error=${error} />
    <div class="row">
      ${session?.admin && (running
        ? html`<button onClick=${() => setAsking("stop")}>Stop endpoint</button>`
        : html`<button class="primary" onClick=${() => act("start")}>Start endpoint</button>`)}
      ${session?.admin && html`<button class="quiet" onClick=${() => setAsking("replace")}>Replace model</button>`}
      ${session?.admin && html`<button class="quiet" onClick=${() => setAsking("delete")}>Delete</button>`}
      <button class="quiet" aria-expanded=${open} onClick=${() => setOpen(!open)}>${open ? "Hide" : "Metrics, logs and code"}</button>
    </div>
    ${open && html`<${Metrics} at=${at} /><${Logs} at=${at} /><${Snippets} model=${endpoint.model} url=${endpoint.url} dedicated=${true} labels=${labels} />`}
    ${asking === "stop" && html`<${Confirm} question="Stop ${endpoint.name}?" detail="Its URL answers 503 until it is started again." action="Stop" onYes=${() => send("PATCH", at, { action: "stop" }).then(reload)} onClose=${() => setAsking(null)} />`}
    ${asking === "delete" && html`<${Confirm} question="Delete ${endpoint.name}?" detail="Its URL and settings are gone for good." action="Delete" onYes=${() => send("DELETE", at).then(reload)} onClose=${() => setAsking(null)} />`}
    ${asking === "replace" && html`<${Replace} at=${at} endpoint=${endpoint} reload=${reload} onClose=${() => setAsking(null)} />`}
  </div>`;
}

function Replace({ at, endpoint, reload, onClose }) {
  const models = useLoad(() => get("/v1/console/models"), []);
  const [model, setModel] = useState(endpoint.model);
  return html`<${Confirm}
    question="Replace the model of ${endpoint.name}?"
    detail=${html`<label>New model <select value=${model} onChange=${(e) => setModel(e.target.value)}>${(models.data?.models ?? []).map((one) => html`<option value=${one.name}>${one.name}</option>`)}</select></label>
      The URL and the keys stay. The old model serves until the new one is healthy.`}
    action="Replace"
    onYes=${() => send("PATCH", at, { action: "replace", model }).then(reload)}
    onClose=${onClose}
  />`;
}

function Metrics({ at }) {
  const [range, setRange] = useState("1h");
  const metrics = useLoad(() => get(`${at}/metrics?range=${range}`), [range], 5000);
  const series = metrics.data?.timeSeries ?? {};
  const points = (name) => (series[name] ?? []).map(({ timestamp, value }) => [Date.parse(timestamp) / 1000, value]);
  const total = metrics.data?.summary;
  return html`<div class="metrics">
    <${Tabs} names=${RANGES} value=${range} onChange=${setRange} label="Time range" />
    <${Problem} error=${metrics.error} />
    ${total && html`<div class="tiles">
      <div><b>${total.totalRequests}</b>requests</div>
      <div class=${total.errorRate > 0.05 ? "bad" : ""}><b>${(100 * total.errorRate).toFixed(1)}%</b>errors</div>
      <div><b>${Math.round(total.p50LatencyMs ?? 0)} ms</b>p50</div>
      <div><b>${Math.round(total.p95LatencyMs ?? 0)} ms</b>p95</div>
    </div>`}
    <${Plot} title="Requests and errors" bars=${true} series=${[{ label: "requests", points: points("requests"), colour: "#0d9488" }, { label: "errors", points: points("errors"), colour: "#dc2626" }]} />
    <${Plot} title="Latency" unit=" ms" series=${[{ label: "p50", points: points("latencyP50"), colour: "#2563eb" }, { label: "p95", points: points("latencyP95"), colour: "#9333ea" }]} />
  </div>`;
}

function Logs({ at }) {
  const logs = useLoad(() => get(`${at}/logs?limit=50`), [], 5000);
  const entries = logs.data?.entries ?? [];
  return html`<div class="logs" tabindex="0" role="log" aria-label="Latest calls">
    <${Problem} error=${logs.error} />
    ${!entries.length && html`<${Empty}>No calls yet.<//>`}
    ${entries.map(
      (entry) => html`<p class="log log-${entry.severity.toLowerCase()}"><time>${new Date(entry.timestamp).toLocaleTimeString()}</time> ${entry.severity} ${entry.message}
        ${entry.httpRequest && html` · ${entry.httpRequest.status} in ${Math.round(entry.httpRequest.latencyMs)} ms`}</p>`,
    )}
  </div>`;
}
