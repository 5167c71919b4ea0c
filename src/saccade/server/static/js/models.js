// The models of this server: what they are, where they stand, and how to bring more.
import { html, useState, Confirm, Dialog, Empty, Problem, State, bytes, many, useLoad } from "./ui.js";
import { call, get, lines, send } from "./api.js";

const path = (name) => `/v1/console/models/${name.split("/").map(encodeURIComponent).join("/")}`;

export function Models({ session }) {
  const list = useLoad(() => get("/v1/console/models"), [session], 4000);
  const [adding, setAdding] = useState(false);
  const [removing, setRemoving] = useState(null);
  const [pulls, setPulls] = useState({});
  const [error, setError] = useState(null);
  const admin = session?.admin;
  const pull = async (name) => {
    setError(null);
    try {
      for await (const step of lines(`${path(name)}/pull`, { method: "POST" })) {
        if (step.error) throw new Error(step.error);
        setPulls((old) => ({ ...old, [name]: step }));
      }
    } catch (problem) {
      setError(problem);
    }
    setPulls(({ [name]: _, ...rest }) => rest);
    list.reload();
  };
  const act = (name, verb) => send("POST", `${path(name)}/${verb}`).then(list.reload, setError);
  const models = list.data?.models ?? [];
  return html`<section>
    <div class="row between">
      <h1>Models</h1>
      ${admin && html`<button class="primary" onClick=${() => setAdding(true)}>Add a model</button>`}
    </div>
    ${list.data && html`<p class="lead">${many(models.filter((m) => m.fetched).length, "model")} here, ${bytes(list.data.memory_bytes)} in memory.</p>`}
    <${Problem} error=${list.error ?? error} />
    <div class="table-wrap" tabindex="0" role="region" aria-label="Models">
      <table>
        <thead><tr><th>Name</th><th>Task</th><th>Licence</th><th class="num">Size</th><th>State</th><th class="num">Memory</th><th><span class="hidden">Actions</span></th></tr></thead>
        <tbody>
          ${models.map(
            (model) => html`<tr>
              <td><a href="#/models/${model.name}">${model.name}</a></td>
              <td>${model.task}</td>
              <td>${model.licence.includes("AGPL") ? html`<strong class="warn">${model.licence}</strong>` : model.licence}</td>
              <td class="num">${bytes(model.size_bytes)}</td>
              <td>${pulls[model.name] ? html`<${Pulling} step=${pulls[model.name]} />` : html`<${State} value=${model.fetched ? model.state : "not fetched"} />`}</td>
              <td class="num">${model.memory_bytes ? bytes(model.memory_bytes) : "–"}</td>
              <td class="actions">${admin && html`<${Actions} model=${model} pull=${pull} act=${act} remove=${setRemoving} />`}</td>
            </tr>`,
          )}
        </tbody>
      </table>
    </div>
    ${list.data && !models.length && html`<${Empty}>No models yet. Add one, or start the server with --models.<//>`}
    ${adding && html`<${Adding} onClose=${() => setAdding(false)} onAdded=${list.reload} onPull=${pull} />`}
    ${removing && html`<${Confirm} question="Remove ${removing}?" detail="Its files are deleted from this server's store." action="Remove" onYes=${() => send("DELETE", path(removing)).then(list.reload)} onClose=${() => setRemoving(null)} />`}
  </section>`;
}

function Actions({ model, pull, act, remove }) {
  if (!model.fetched) return html`<button class="quiet" onClick=${() => pull(model.name)}>Fetch</button>`;
  return html`
    ${model.state === "warm"
      ? html`<button class="quiet" onClick=${() => act(model.name, "unload")}>Unload</button>`
      : html`<button class="quiet" disabled=${model.state === "loading"} onClick=${() => act(model.name, "load")}>Load</button>`}
    ${model.removable && html`<button class="quiet" aria-label="Remove ${model.name}" onClick=${() => remove(model.name)}>Remove</button>`}
  `;
}

function Pulling({ step }) {
  const share = step.total ? step.done / step.total : null;
  return html`<span class="pulling"><progress value=${share} max="1" aria-label=${step.what}></progress> ${share == null ? step.what : `${Math.round(share * 100)}%`}</span>`;
}

function Adding({ onClose, onAdded, onPull }) {
  const [name, setName] = useState("");
  const [file, setFile] = useState(null);
  const [ref, setRef] = useState("");
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(false);
  const upload = async (event) => {
    event.preventDefault();
    setBusy(true);
    setError(null);
    try {
      await call(path(name || file.name.replace(/\.[^.]+$/, "")), { method: "PUT", body: file, headers: { "x-filename": encodeURIComponent(file.name) } });
      onAdded();
      onClose();
    } catch (problem) {
      setError(problem);
      setBusy(false);
    }
  };
  const fetchIt = (event) => {
    event.preventDefault();
    onPull(ref.trim());
    onClose();
  };
  return html`<${Dialog} title="Add a model" onClose=${onClose}>
    <form onSubmit=${upload}>
      <h3>From a file</h3>
      <p>An exported graph (<code>.onnx</code>), or a zip of an OpenVINO or Hugging Face folder.</p>
      <label>File <input type="file" required accept=".onnx,.zip,.tflite" onChange=${(e) => setFile(e.target.files[0])} /></label>
      <label>Name <input value=${name} placeholder=${file?.name.replace(/\.[^.]+$/, "") ?? "the file's name"} onInput=${(e) => setName(e.target.value)} /></label>
      <${Problem} error=${error} />
      <button class="primary" disabled=${busy || !file}>${busy ? "Uploading …" : "Upload"}</button>
    </form>
    <form onSubmit=${fetchIt}>
      <h3>By name</h3>
      <label>Catalogue name or Hub id <input required value=${ref} placeholder="facebook/detr-resnet-50" onInput=${(e) => setRef(e.target.value)} /></label>
      <div class="row end"><button type="button" class="quiet" onClick=${onClose}>Cancel</button><button class="primary">Fetch</button></div>
    </form>
  <//>`;
}
