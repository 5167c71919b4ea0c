// The models of this server: what they are, where they stand, and how to bring more.
import { html, useRef, useState, Confirm, Copy, Dialog, Empty, Problem, Row, Search, State, Table, bytes, holds, many, useLoad } from "./ui.js";
import { call, get, inPath, lines, send } from "./api.js";

const NAMES = [{ name: "Name" }, { name: "Task" }, { name: "Licence" }, { name: "Size", kind: "num" }, { name: "State" }, { name: "Memory", kind: "num" }, { name: "Actions", kind: "actions" }];
const ENDPOINTS = [{ name: "Endpoint" }, { name: "Model" }, { name: "State" }, { name: "Replicas", kind: "num" }, { name: "Address", kind: "broad" }];
const UNSERVED = [{ name: "Name", kind: "called" }, { name: "Reason", kind: "broad" }, { name: "Actions", kind: "actions" }];
const path = (name) => `/v1/console/models/${inPath(name)}`;

export function Models({ session }) {
  const list = useLoad(() => get("/v1/console/models"), [session], 4000);
  const endpoints = useLoad(() => get("/v1/endpoints"), [session], 4000);
  const [adding, setAdding] = useState(false);
  const [removing, setRemoving] = useState(null);
  const [pulls, setPulls] = useState({});
  const [waiting, setWaiting] = useState({});
  const [error, setError] = useState(null);
  const [sought, setSought] = useState("");
  const admin = session?.admin;
  const pull = async (name) => {
    setError(null);
    setPulls((old) => ({ ...old, [name]: { what: "starting", done: 0, total: null } }));
    try {
      for await (const step of lines(`${path(name)}/pull`, { method: "POST" })) {
        if (step.error) throw new Error(`${name}: ${step.error}`);
        setPulls((old) => ({ ...old, [name]: step }));
      }
    } catch (problem) {
      setError(problem);
    }
    setPulls(({ [name]: _, ...rest }) => rest);
    list.reload();
  };
  const act = async (name, verb) => {
    setError(null);
    setWaiting((old) => ({ ...old, [name]: { load: "loading", unload: "unloading" }[verb] }));
    await send("POST", `${path(name)}/${verb}`).catch(setError);
    await list.reload();
    setWaiting(({ [name]: _, ...rest }) => rest);
  };
  const models = list.data?.models ?? [];
  const strange = Object.keys(pulls).filter((name) => !models.some((model) => model.name === name));
  const shown = models.filter((model) => holds(`${model.name} ${model.task} ${model.licence}`, sought));
  const unserved = list.data?.unserved ?? [];
  const running = endpoints.data?.endpoints ?? [];
  return html`<section>
    <div class="row between">
      <h1>Models</h1>
      ${admin && html`<button class="primary" onClick=${() => setAdding(true)}>Add a model</button>`}
    </div>
    <div class="row between">
      <p class="lead">${list.data ? `${many(models.filter((m) => m.fetched).length, "model")} here, ${bytes(list.data.memory_bytes)} in memory${unserved.length ? `, ${unserved.length} that cannot be served` : ""}.` : "…"}</p>
      <${Search} count=${models.length} label="Find a model" hint="Name, task or licence" value=${sought} onInput=${setSought} />
    </div>
    <${Problem} error=${error ?? list.error} />
    ${strange.map((name) => html`<p class="card pulling-new">Fetching ${name} <${Pulling} step=${pulls[name]} /></p>`)}
    ${shown.length > 0 && html`<${Table} label="Models" names=${NAMES}>
      ${shown.map((model) => html`<${Row} key=${model.name} names=${NAMES} cells=${[
        html`<a href="#/models/${inPath(model.name)}">${model.name}</a>`,
        model.task,
        model.licence.includes("AGPL") ? html`<strong class="warn">${model.licence}</strong>` : model.licence,
        bytes(model.size_bytes),
        pulls[model.name] ? html`<${Pulling} step=${pulls[model.name]} />` : html`<div><${State} value=${waiting[model.name] ?? (model.fetched ? model.state : "not fetched")} />${model.reason && html`<p class="reason">${model.reason}</p>`}</div>`,
        model.memory_bytes ? bytes(model.memory_bytes) : "–",
        admin && html`<${Actions} model=${model} busy=${pulls[model.name] || waiting[model.name]} pull=${pull} act=${act} remove=${setRemoving} />`,
      ]} />`)}
    <//>`}
    ${unserved.length > 0 && html`<h2 class="next">Not served</h2>
      <${Table} label="Not served" names=${UNSERVED}>${unserved.map((one) => html`<${Row} key=${one.name} names=${UNSERVED} cells=${[
        one.name,
        html`<span class="reason">${one.reason}</span>`,
        admin && one.removable && html`<button class="quiet" aria-label="Remove ${one.name}" onClick=${() => setRemoving(one.name)}>Remove</button>`,
      ]} />`)}<//>`}
    ${list.data && !models.length && !unserved.length && html`<${Empty}>No models yet. Add one, or start the server with --models.<//>`}
    ${models.length > 0 && !shown.length && html`<${Empty}>No model is called so.<//>`}
    ${running.length > 0 && html`<h2 class="next">Dedicated endpoints</h2>
      <${Table} label="Dedicated endpoints" names=${ENDPOINTS}>${running.map((one) => html`<${Row} key=${one.name} names=${ENDPOINTS} cells=${[
        html`<a href="#/models/${inPath(one.model)}/deploy">${one.name}</a>`,
        one.model,
        html`<${State} value=${asleep(one) ? "asleep" : one.state} />`,
        `${one.replicas_now} of ${one.replicas}`,
        html`<code>${one.url}</code> <${Copy} text=${one.url} />`,
      ]} />`)}<//>`}
    ${adding && html`<${Adding} onClose=${() => setAdding(false)} onAdded=${list.reload} onPull=${pull} />`}
    ${removing && html`<${Confirm} question="Remove ${removing}?" detail="Its files are deleted from this server's store." action="Remove" onYes=${() => send("DELETE", path(removing)).then(list.reload)} onClose=${() => setRemoving(null)} />`}
  </section>`;
}

export function asleep(endpoint) {
  return endpoint.state === "ready" && !endpoint.replicas_now && !endpoint.region;
}

function Actions({ model, busy, pull, act, remove }) {
  if (!model.fetched) return html`<button class="quiet" disabled=${busy} aria-label="Fetch ${model.name}" onClick=${() => pull(model.name)}>Fetch</button>`;
  return html`
    ${model.state === "warm"
      ? html`<button class="quiet" disabled=${busy} aria-label="Unload ${model.name}" onClick=${() => act(model.name, "unload")}>Unload</button>`
      : html`<button class="quiet" disabled=${busy || model.state === "loading"} aria-label="Load ${model.name}" onClick=${() => act(model.name, "load")}>Load</button>`}
    ${model.removable && html`<button class="quiet" disabled=${busy} aria-label="Remove ${model.name}" onClick=${() => remove(model.name)}>Remove</button>`}
  `;
}

function Pulling({ step }) {
  const share = step.total ? step.done / step.total : null;
  const far = share == null ? step.what : `${Math.round(share * 100)}% of ${bytes(step.total)}`;
  return html`<span class="pulling"><progress ...${share == null ? {} : { value: share }} max="1" aria-label=${step.what}></progress> ${far}</span>`;
}

function Adding({ onClose, onAdded, onPull }) {
  const [name, setName] = useState("");
  const [file, setFile] = useState(null);
  const [ref, setRef] = useState("");
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(false);
  const sending = useRef(null);
  const close = () => {
    sending.current?.abort();
    onClose();
  };
  const upload = async (event) => {
    event.preventDefault();
    setError(null);
    setBusy(true);
    try {
      sending.current = new AbortController();
      await call(path(name || bare(file)), { method: "PUT", body: file, headers: { "x-filename": encodeURIComponent(file.name) }, signal: sending.current.signal });
      onAdded();
      onClose();
    } catch (problem) {
      if (problem.name !== "AbortError") setError(problem);
      setBusy(false);
    }
  };
  const fetchIt = (event) => {
    event.preventDefault();
    onPull(ref.trim());
    onClose();
  };
  return html`<${Dialog} title="Add a model" onClose=${close}>
    <form onSubmit=${upload}>
      <h3>From a file</h3>
      <p>An exported graph (<code>.onnx</code>, <code>.tflite</code>), or a zip of an OpenVINO or Hugging Face folder.</p>
      <label>File <input type="file" required accept=".onnx,.zip,.tflite" onChange=${(e) => setFile(e.target.files[0])} /></label>
      <label>Name <input value=${name} placeholder=${file ? bare(file) : "the file's name"} onInput=${(e) => setName(e.target.value)} /></label>
      <${Problem} error=${error} />
      ${busy && html`<p class="pulling" role="status"><progress aria-label="Uploading"></progress> Uploading ${bytes(file.size)} …</p>`}
      <button class="primary" disabled=${busy || !file}>Upload</button>
    </form>
    <form class="next" onSubmit=${fetchIt}>
      <h3>By name</h3>
      <label>Catalogue name or Hub id <input required value=${ref} placeholder="facebook/detr-resnet-50" onInput=${(e) => setRef(e.target.value)} /></label>
      <div class="row end"><button type="button" class="quiet" onClick=${close}>Cancel</button><button class="primary">Fetch</button></div>
    </form>
  <//>`;
}

// A file's name as a model may have it: "best (1).onnx" is best-1.
function bare(file) {
  const words = file.name.replace(/\.[^.]+$/, "").match(/[A-Za-z0-9._-]+/g) ?? ["model"];
  return words.join("-").replace(/^[._-]+/, "") || "model";
}
