// One model: what it is, and its Deploy tab with the shared and the dedicated API.
import { html, useState, Confirm, Copy, Empty, Problem, State, Tabs, bytes, many, useLoad, when } from "./ui.js";
import { get, inPath, origin, send } from "./api.js";
import { Snippets } from "./snippets.js";
import { Plot } from "./charts.js";
import { asleep } from "./models.js";

const LONGEST = 100; // of proposed names, with room for a number
const RANGES = ["1h", "6h", "24h", "7d", "30d"];

export function Model({ session, name, tab, onTab }) {
  const model = useLoad(() => get(`/v1/console/models/${inPath(name)}`), [session, name], 4000);
  const facts = model.data;
  return html`<section>
    <nav class="crumbs"><a href="#/models">Models</a> / ${name}</nav>
    <div class="row between"><h1>${name}</h1>${facts && html`<${State} value=${facts.fetched ? facts.state : "not fetched"} />`}</div>
    <${Problem} error=${model.error} />
    ${facts?.reason && html`<p class="problem">${facts.reason}</p>`}
    ${(facts || !model.error) && html`<${Tabs} names=${["About", "Deploy"]} value=${tab} onChange=${onTab} label="Model page" />`}
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
      <p><a class="button" href="#/play/${inPath(model.name)}">Try it in the playground</a></p>
    </div>
    ${model.labels?.length > 0 && html`<details class="card"><summary>${many(model.labels.length, "class", "classes")}</summary>
      <p class="labels">${model.labels.slice(0, 1000).map((label) => html`<span>${label}</span> `)}</p>
    </details>`}
    <${Snippets} model=${model.name} labels=${looked(model)} />`;
}

// What a zero-shot model is told to look for in an example; other models know their labels.
function looked(model) {
  return model.task === "zero-shot-classify" ? "cat, dog, person, car" : null;
}

function Deploy({ session, model }) {
  const usage = useLoad(() => get("/v1/usage"), [session], 15000);
  const endpoints = useLoad(() => get("/v1/endpoints"), [session], 3000);
  const [moved, setMoved] = useState(null);
  const [open, setOpen] = useState("");
  const mine = (endpoints.data?.endpoints ?? []).filter((one) => one.model === model.name);
  const shown = mine.find((one) => one.name === open);
  return html`<div class="cards">
      <article class="card">
        <h2>Shared Inference API</h2>
        <p>One URL for all models, under the limit of your key.</p>
        <${Address} url=${origin} />
        <${Limit} usage=${usage.data} />
        <${Problem} error=${usage.error} />
      </article>
      <article class="card">
        <h2>Dedicated Inference API</h2>
        <p>A URL of its own for this model, with reserved replicas and without the shared limit.</p>
        <${Problem} error=${endpoints.error} />
        ${moved && html`<p class="note" role="status">“${moved.name}” now runs <a href="#/models/${inPath(moved.model)}/deploy">${moved.model}</a>, at the same URL.</p>`}
        ${mine.map((one) => html`<${Endpoint} key=${one.name} session=${session} endpoint=${one} open=${one === shown} onOpen=${setOpen} reload=${endpoints.reload} onMoved=${setMoved} />`)}
        ${!mine.length && endpoints.data && html`<${Empty}>No dedicated endpoint runs this model.<//>`}
        ${session?.admin ? html`<${Start} model=${model} taken=${(endpoints.data?.endpoints ?? []).map((one) => one.name)} reload=${endpoints.reload} />` : html`<p class="hint">A key with admin rights may start one.</p>`}
      </article>
    </div>
    ${shown && html`<${Details} key=${shown.name} endpoint=${shown} labels=${looked(model)} />`}
    <h2 class="next">Call the shared API</h2>
    <${Snippets} model=${model.name} labels=${looked(model)} />`;
}

function Address({ url }) {
  return html`<p class="url"><code tabindex="0">${url}</code><${Copy} text=${url} label="Copy URL" /></p>`;
}

function Limit({ usage }) {
  if (!usage) return null;
  if (!usage.limit) return html`<p class="limit">No limit for you. ${many(usage.used ?? 0, "call")} counted.</p>`;
  return html`<div class="limit">
    <progress max=${usage.limit} value=${usage.used} aria-label="Calls used"></progress>
    <p>${usage.used.toLocaleString()} of ${many(usage.limit, "call")} in ${span(usage.window_s ?? 3600)}. ${usage.remaining.toLocaleString()} left${usage.remaining ? "" : `; the next one comes back ${new Date(usage.reset).toLocaleTimeString()}`}.</p>
  </div>`;
}

function span(seconds) {
  return seconds % 3600 ? many(Math.round(seconds / 60), "minute") : many(seconds / 3600, "hour");
}

// How large an endpoint is: what may be changed while it runs.
function useSize(plan = {}) {
  const [least, most] = (plan.replicas ?? "0:1").split(":");
  const [size, setSize] = useState({ least, most: most ?? least, idle: String(plan.idle_stop_s ?? 600), memory: plan.memory_bytes ? String(plan.memory_bytes / 1e6) : "", limit: plan.calls_per_hour ? String(plan.calls_per_hour) : "" });
  const wish = { replicas: `${size.least}:${size.most}`, idle_stop_s: Number(size.idle), memory_bytes: Math.round(Number(size.memory || 0) * 1e6), calls_per_hour: Number(size.limit || 0) };
  return [size, (name, value) => setSize((old) => ({ ...old, [name]: value })), wish];
}

function Size({ size, set }) {
  const field = (name, label, rest) => html`<label>${label} <input type="number" value=${size[name]} onInput=${(e) => set(name, e.target.value)} ...${rest} /></label>`;
  return html`<div class="fields">
    ${field("least", "Replicas at least", { min: 0, max: 64, required: true })}
    ${field("most", "at most", { min: Math.max(1, Number(size.least)), max: 64, required: true })}
    ${size.least === "0" && field("idle", "Sleep after idle seconds", { min: 0, required: true, title: "0: never. The next call wakes it." })}
    ${field("memory", "Memory of a replica, MB", { min: 1, placeholder: "as it needs" })}
    ${field("limit", "Calls an hour", { min: 0, placeholder: "no limit" })}
  </div>`;
}

function Start({ model, taken, reload }) {
  const regions = useLoad(() => get("/v1/regions"), []);
  const [name, setName] = useState("");
  const [size, set, wish] = useSize();
  const [place, setPlace] = useState({ port: "", hostname: "" });
  const [region, setRegion] = useState("");
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(false);
  const proposed = free(plain(model.name), taken);
  const start = async (event) => {
    event.preventDefault();
    setBusy(true);
    setError(null);
    try {
      await send("POST", "/v1/endpoints", { name: name || proposed, model: model.name, ...wish, region: region || null, port: Number(place.port || 0), hostname: place.hostname });
      setName("");
      await reload();
    } catch (problem) {
      setError(problem);
    }
    setBusy(false);
  };
  const places = regions.data?.regions ?? [];
  return html`<form class="start" onSubmit=${start}>
    <h3>Start an endpoint</h3>
    <label>Name <input value=${name} placeholder=${proposed} maxlength="128" pattern="[a-z0-9]+(-[a-z0-9]+)*" title="Lower-case letters and digits, with single hyphens between them" onInput=${(e) => setName(e.target.value)} /></label>
    <details><summary>Size, limit and address</summary>
      <${Size} size=${size} set=${set} />
      <div class="fields">
        <label>Port of its own <input type="number" min="1" max="65535" value=${place.port} placeholder="none" onInput=${(e) => setPlace({ ...place, port: e.target.value })} /></label>
        <label>Host name of its own <input value=${place.hostname} placeholder="none" onInput=${(e) => setPlace({ ...place, hostname: e.target.value })} /></label>
      </div>
    </details>
    ${places.length > 0 && html`<${Regions} places=${places} value=${region} onChange=${setRegion} />`}
    <${Problem} error=${error} />
    <button class="primary" disabled=${busy}>${busy ? "Starting …" : "Start endpoint"}</button>
  </form>`;
}

// A model's name as an endpoint may have it.
function plain(name) {
  const words = name.toLowerCase().match(/[a-z0-9]+/g) ?? ["endpoint"];
  return words.join("-").slice(0, LONGEST).replace(/-$/, "");
}

// A name that nobody has: yolo11n, else yolo11n-2 …
function free(name, taken) {
  for (let number = 1; ; number++) {
    const proposed = number === 1 ? name : `${name}-${number}`;
    if (!taken.includes(proposed)) return proposed;
  }
}

function Regions({ places, value, onChange }) {
  return html`<div class="table-wrap"><table class="regions">
    <caption>Region, nearest first</caption>
    <thead><tr><th scope="col">Region</th><th scope="col">Place</th><th scope="col" class="num">Latency</th></tr></thead>
    <tbody>${places.map(
      (place) => html`<tr>
        <td><label class="check"><input type="radio" name="region" disabled=${!place.here && place.mean_ms == null} checked=${value === place.name || (!value && place.here)} onChange=${() => onChange(place.here ? "" : place.name)} /> ${place.name}</label></td>
        <td>${place.place || "–"}</td>
        <td class="num">${place.here ? "here" : place.mean_ms == null ? "unreachable" : html`${place.mean_ms.toFixed(1)} ± ${place.sd_ms.toFixed(1)} ms <span class="per">(${place.min_ms.toFixed(1)}–${place.max_ms.toFixed(1)})</span>`}</td>
      </tr>`,
    )}</tbody>
  </table></div>`;
}

// How an endpoint does, what it was asked lately, and how it is called.
function Details({ endpoint, labels }) {
  const at = `/v1/endpoints/${inPath(endpoint.name)}`;
  return html`<article class="details" aria-label="Metrics, logs and code of ${endpoint.name}">
    <h2 class="next">${endpoint.name}: metrics, logs and code</h2>
    <div class="card"><${Metrics} at=${at} /></div>
    <div class="card"><${Logs} at=${at} /></div>
    <${Snippets} model=${endpoint.model} url=${endpoint.url} dedicated=${true} labels=${labels} />
  </article>`;
}

export function Endpoint({ session, endpoint, open, onOpen, reload, onMoved }) {
  const [asking, setAsking] = useState(null);
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(false);
  const at = `/v1/endpoints/${inPath(endpoint.name)}`;
  const start = async () => {
    setBusy(true);
    setError(null);
    await send("PATCH", at, { action: "start" }).catch(setError);
    await reload();
    setBusy(false);
  };
  const running = ["ready", "deploying", "creating"].includes(endpoint.state);
  const close = () => setAsking(null);
  return html`<div class="endpoint" role="group" aria-label="Endpoint ${endpoint.name}">
    <div class="row between"><h3>${endpoint.name}</h3><${State} value=${asleep(endpoint) ? "asleep" : endpoint.state} /></div>
    <${Address} url=${endpoint.url} />
    ${endpoint.reason && html`<p class="problem">${endpoint.reason}</p>`}
    <p class="hint">${facts(endpoint)}</p>
    <${Problem} error=${error} />
    <div class="row">
      ${session?.admin && html`
        ${running
          ? html`<button onClick=${() => setAsking("stop")}>Stop endpoint</button>`
          : html`<button class="primary" disabled=${busy || endpoint.state === "stopping"} onClick=${start}>Start endpoint</button>`}
        <button class="quiet" onClick=${() => setAsking("replace")}>Replace model</button>
        <button class="quiet" onClick=${() => setAsking("resize")}>Resize</button>
        <button class="quiet" onClick=${() => setAsking("delete")}>Delete</button>`}
      <button class="quiet" aria-expanded=${open} onClick=${() => onOpen(open ? "" : endpoint.name)}>${open ? "Hide metrics, logs and code" : "Metrics, logs and code"}</button>
    </div>
    ${asking === "stop" && html`<${Confirm} question="Stop ${endpoint.name}?" detail="Accepted calls are answered; then its URL answers 503 until it is started again." action="Stop" onYes=${() => send("PATCH", at, { action: "stop" }).then(reload)} onClose=${close} />`}
    ${asking === "delete" && html`<${Confirm} question="Delete ${endpoint.name}?" detail="Its URL and settings are gone for good." action="Delete" onYes=${() => send("DELETE", at).then(reload)} onClose=${close} />`}
    ${asking === "replace" && html`<${Replace} at=${at} endpoint=${endpoint} reload=${reload} onMoved=${onMoved} onClose=${close} />`}
    ${asking === "resize" && html`<${Resize} at=${at} endpoint=${endpoint} reload=${reload} onClose=${close} />`}
  </div>`;
}

function facts(endpoint) {
  const [least, most] = endpoint.replicas.split(":");
  const told = [`${many(endpoint.replicas_now ?? 0, "replica")} now, ${least === most ? `always ${most}` : `${least} to ${most}`}`];
  if (least === "0") told.push(endpoint.idle_stop_s ? `sleeps after ${endpoint.idle_stop_s} s without a call` : "never sleeps");
  if (endpoint.memory_bytes) told.push(`${bytes(endpoint.memory_bytes)} each`);
  if (endpoint.calls_per_hour) told.push(`${many(endpoint.calls_per_hour, "call")} an hour`);
  if (endpoint.region) told.push(`in ${endpoint.region}`);
  if (endpoint.started) told.push(`started ${when(endpoint.started)}`);
  return `${told.join(" · ")}.`;
}

function Replace({ at, endpoint, reload, onMoved, onClose }) {
  const models = useLoad(() => get("/v1/console/models"), []);
  const others = (models.data?.models ?? []).filter((one) => one.name !== endpoint.model);
  const [model, setModel] = useState("");
  const chosen = model || others[0]?.name;
  const replace = async () => {
    await send("PATCH", at, { action: "replace", model: chosen });
    onMoved({ name: endpoint.name, model: chosen });
    await reload();
  };
  return html`<${Confirm}
    question="Replace the model of ${endpoint.name}?"
    detail=${html`<label>New model <select value=${chosen} onChange=${(e) => setModel(e.target.value)}>${others.map((one) => html`<option value=${one.name}>${one.name} · ${one.task}${one.fetched ? "" : " (will be fetched)"}</option>`)}</select></label>
      The URL and the keys stay. ${endpoint.model} serves until the new model has answered.`}
    action="Replace"
    waiting="The new model comes up …"
    onYes=${replace}
    onClose=${onClose}
  />`;
}

function Resize({ at, endpoint, reload, onClose }) {
  const [size, set, wish] = useSize(endpoint);
  return html`<${Confirm}
    question="Resize ${endpoint.name}"
    detail=${html`<${Size} size=${size} set=${set} />Calls go on meanwhile.`}
    action="Resize"
    waiting="The new replicas come up …"
    kind="primary"
    onYes=${() => send("PATCH", at, { action: "resize", ...wish }).then(reload)}
    onClose=${onClose}
  />`;
}

function Metrics({ at }) {
  const [range, setRange] = useState("1h");
  const metrics = useLoad(() => get(`${at}/metrics?range=${range}`), [range], 5000);
  const series = metrics.data?.timeSeries ?? {};
  const moment = (text) => Date.parse(text) / 1000;
  const points = (name) => (series[name] ?? []).map(({ timestamp, value }) => [moment(timestamp), value]);
  // A minute without a call has no latency.
  const called = new Set((series.requests ?? []).filter((one) => one.value).map((one) => moment(one.timestamp)));
  const latency = (name) => points(name).map(([time, value]) => [time, called.has(time) ? value : null]);
  const total = metrics.data?.summary;
  const limits = metrics.data && [moment(metrics.data.timeRange.start), moment(metrics.data.timeRange.end)];
  return html`<div class="metrics">
    <${Tabs} names=${RANGES} value=${range} onChange=${setRange} label="Time range" />
    <${Problem} error=${metrics.error} />
    ${total && html`<div class="tiles">
      <div><b>${total.totalRequests.toLocaleString()}</b>${total.totalRequests === 1 ? "request" : "requests"}</div>
      <div class=${total.errorRate > 0.05 ? "bad" : ""}><b>${(100 * total.errorRate).toFixed(1)}%</b>errors</div>
      <div><b>${Math.round(total.p50LatencyMs ?? 0)} ms</b>p50</div>
      <div><b>${Math.round(total.p95LatencyMs ?? 0)} ms</b>p95</div>
    </div>
    <div class="plots"><${Plot} title="Requests and errors" bars=${true} span=${limits} series=${[{ label: "requests", points: points("requests"), colour: "#0d9488" }, { label: "errors", points: points("errors"), colour: "#dc2626" }]} />
    <${Plot} title="Latency" unit=" ms" span=${limits} series=${[{ label: "p50", points: latency("latencyP50"), colour: "#3b82f6" }, { label: "p95", points: latency("latencyP95"), colour: "#a855f7" }]} /></div>`}
  </div>`;
}

function Logs({ at }) {
  const logs = useLoad(() => get(`${at}/logs?limit=50`), [], 5000);
  const entries = logs.data?.entries ?? [];
  return html`<h3>Latest calls and events</h3><div class="logs" tabindex="0" role="log" aria-label="Latest calls and events">
    <${Problem} error=${logs.error} />
    ${logs.data && !entries.length && html`<${Empty}>No calls yet.<//>`}
    ${entries.map(
      ({ timestamp, severity, message, httpRequest: asked }) => html`<p class="log log-${severity.toLowerCase()}" title=${asked?.userAgent}><time datetime=${timestamp}>${new Date(timestamp).toLocaleTimeString()}</time> <b>${asked ? asked.status : severity}</b> ${asked && `${Math.round(asked.latencyMs)} ms `}${message}</p>`,
    )}
  </div>`;
}
