// Access keys: made once, shown once, limited, renamed, deleted.
import { html, useState, Confirm, Copy, Dialog, Empty, many, Problem, Row, Search, Table, holds, useLoad, when } from "./ui.js";
import { get, send } from "./api.js";

const NAMES = [{ name: "Name" }, { name: "Starts with" }, { name: "May" }, { name: "Limit", kind: "num" }, { name: "Created" }, { name: "Last used" }, { name: "Expires" }, { name: "Actions", kind: "actions" }];
const MEANING = { models: "call models", endpoints: "call dedicated endpoints", admin: "change everything" };
const MOST = 200; // rows that are shown unasked: thousands take seconds
const WINDOWS = { 60: "a minute", 3600: "an hour", 86400: "a day" };

export function Keys({ session, onKey }) {
  const admin = session?.admin && session.auth !== "off";
  const list = useLoad(() => (admin ? get("/v1/keys") : Promise.resolve(null)), [session]);
  const [making, setMaking] = useState(false);
  const [editing, setEditing] = useState(null);
  const [deleting, setDeleting] = useState(null);
  const [sought, setSought] = useState("");
  const [all, setAll] = useState(false);
  const keys = list.data?.keys ?? [];
  const found = keys.filter((key) => holds([key.name, key.id, key.prefix, ...key.scopes, ...key.models, ...key.endpoints].join(" "), sought));
  const shown = all ? found : found.slice(0, MOST);
  // The first key closes the open door: this tab goes on with it, or it could no longer change anything.
  const made = (key) => {
    setMaking(false);
    if (key && session?.auth === "open") onKey(key);
    else list.reload();
  };
  return html`<section>
    <div class="row between"><h1>Keys</h1>${admin && html`<button class="primary" onClick=${() => setMaking(true)}>Create key</button>`}</div>
    <div class="row between">
      <p class="lead">${told(session)}</p>
      <${Search} count=${keys.length} label="Find a key" hint="Name, start, scope or model" value=${sought} onInput=${setSought} />
    </div>
    <${Problem} error=${list.error} />
    ${shown.length > 0 && html`<${Table} label="Keys" names=${NAMES}>${shown.map((key) => html`<${Row} key=${key.id} names=${NAMES} cells=${cells(key, setEditing, setDeleting)} />`)}<//>`}
    ${shown.length < found.length && html`<p class="hint">${shown.length} of ${many(found.length, "key")} are shown. <button class="quiet" onClick=${() => setAll(true)}>Show all</button></p>`}
    ${list.data && !keys.length && html`<${Empty}>No keys yet.<//>`}
    ${keys.length > 0 && !found.length && html`<${Empty}>No key is called so.<//>`}
    ${making && html`<${Make} first=${session?.auth === "open" && !keys.length} onClose=${made} />`}
    ${editing && html`<${Edit} key=${editing.id} item=${editing} onClose=${() => (setEditing(null), list.reload())} />`}
    ${deleting && html`<${Confirm} question="Are you sure you want to delete this access key?" detail="Programs that use “${deleting.name}” stop working at once." action="Delete" onYes=${() => send("DELETE", `/v1/keys/${deleting.id}`).then(list.reload)} onClose=${() => setDeleting(null)} />`}
  </section>`;
}

function told(session) {
  if (session?.auth === "off") return "This server was started with --no-auth: it asks for no keys and keeps none.";
  if (session?.auth === "open") return "No key is asked for on this address yet. As soon as one exists, every call needs one.";
  if (!session?.admin) return "Every call needs a key, in x-api-key or as a bearer token. Yours may not manage keys; that needs one with admin rights.";
  return "Every call needs a key, in x-api-key or as a bearer token.";
}

function cells(key, edit, remove) {
  const scopes = key.scopes.map((scope) => {
    const patterns = { models: key.models, endpoints: key.endpoints }[scope] ?? ["*"];
    return patterns.includes("*") ? scope : `${scope} (${patterns.join(", ")})`;
  });
  return [
    key.name,
    html`<code>${key.prefix}…</code>`,
    scopes.join(", "),
    key.limit === 0 ? "none" : key.limit ? html`<span>${key.limit.toLocaleString()} <span class="per">${per(key.window_s)}</span></span>` : "default",
    when(key.created),
    when(key.last_used),
    !key.expires ? "never" : key.expires * 1000 > Date.now() ? when(key.expires) : html`<span><strong class="warn">expired</strong> ${when(key.expires)}</span>`,
    html`<button class="quiet" aria-label="Edit ${key.name}" onClick=${() => edit(key)}>Edit</button>
      <button class="quiet" aria-label="Delete ${key.name}" onClick=${() => remove(key)}>Delete</button>`,
  ];
}

function per(seconds) {
  if (!seconds) return "an hour";
  return WINDOWS[seconds] ?? (seconds % 3600 ? `in ${seconds} s` : `in ${seconds / 3600} hours`);
}

function Make({ first, onClose }) {
  const [made, setMade] = useState(null);
  const [error, setError] = useState(null);
  const make = async (fields) => {
    try {
      setMade(await send("POST", "/v1/keys", fields));
    } catch (problem) {
      setError(problem);
    }
  };
  if (made)
    return html`<${Dialog} title="Your new key" onClose=${() => onClose(made.key)} kept=${true}>
      <p>Copy it now: it is shown only this once.</p>
      <div class="code"><pre tabindex="0"><code>${made.key}</code></pre><${Copy} text=${made.key} /></div>
      <div class="row end"><button class="primary" onClick=${() => onClose(made.key)}>I have copied it</button></div>
    <//>`;
  const scopes = first ? ["models", "endpoints", "admin"] : ["models"];
  return html`<${Dialog} title="Create a key" onClose=${() => onClose(null)}>
    ${first && html`<p class="hint">From this first key on, every call needs one. Let it change everything, or only the command line can make more.</p>`}
    <${Fields} item=${{ name: "", scopes, models: ["*"], endpoints: ["*"], limit: null, window_s: null }} action="Create" error=${error} onSave=${make} onClose=${() => onClose(null)} fresh=${true} />
  <//>`;
}

function Edit({ item, onClose }) {
  const [error, setError] = useState(null);
  const save = (fields) => send("PATCH", `/v1/keys/${item.id}`, fields).then(onClose, setError);
  return html`<${Dialog} title="Edit ${item.name}" onClose=${onClose}>
    <${Fields} item=${item} action="Save" error=${error} onSave=${save} onClose=${onClose} />
  <//>`;
}

function Fields({ item, action, error, onSave, onClose, fresh = false }) {
  const [name, setName] = useState(item.name);
  const [limit, setLimit] = useState(item.limit ?? "");
  const [window_s, setWindow] = useState(item.window_s ?? "");
  const [scopes, setScopes] = useState(item.scopes);
  const [models, setModels] = useState(item.models.join(", "));
  const [endpoints, setEndpoints] = useState(item.endpoints.join(", "));
  const [days, setDays] = useState("");
  const toggle = (scope) => setScopes(scopes.includes(scope) ? scopes.filter((one) => one !== scope) : [...scopes, scope]);
  const save = (event) => {
    event.preventDefault();
    const fields = { name, scopes, models: patterns(models), endpoints: patterns(endpoints), limit: limit === "" ? null : Number(limit) };
    fields.window_s = limit === "" || window_s === "" ? null : Number(window_s);
    if (fresh && days) fields.expires_days = Number(days);
    onSave(fields);
  };
  const windows = Object.entries(WINDOWS).map(([seconds, word]) => [Number(seconds), word]);
  const odd = item.window_s && !WINDOWS[item.window_s];
  return html`<form onSubmit=${save}>
    <label>Name <input required maxlength="80" autofocus value=${name} onInput=${(e) => setName(e.target.value)} /></label>
    <fieldset><legend>May</legend>
      ${Object.keys(MEANING).map((scope) => html`<label class="check"><input type="checkbox" checked=${scopes.includes(scope)} onChange=${() => toggle(scope)} /> ${MEANING[scope]}</label>`)}
    </fieldset>
    <div class="fields">
      <label>Calls <input type="number" min="0" value=${limit} placeholder="default" onInput=${(e) => setLimit(e.target.value)} /></label>
      <label>in <select value=${window_s} onChange=${(e) => setWindow(e.target.value)}>
        <option value="" selected=${window_s === ""}>the server's window</option>
        ${odd && html`<option value=${item.window_s} selected=${window_s === item.window_s}>${per(item.window_s).replace(/^in /, "")}</option>`}
        ${windows.map(([seconds, word]) => html`<option value=${seconds} selected=${Number(window_s) === seconds}>${word}</option>`)}
      </select></label>
      ${fresh && html`<label>Expires after days <input type="number" min="1" value=${days} placeholder="never" onInput=${(e) => setDays(e.target.value)} /></label>`}
    </div>
    <p class="hint">Nothing: the server's default. 0: no limit. Calls of dedicated endpoints do not count.</p>
    ${(scopes.includes("models") || scopes.includes("endpoints")) && html`<details open=${models !== "*" || endpoints !== "*"}><summary>Only some models or endpoints</summary>
      ${scopes.includes("models") && html`<label>Models <input value=${models} placeholder="*" onInput=${(e) => setModels(e.target.value)} /></label>`}
      ${scopes.includes("endpoints") && html`<label>Endpoints <input value=${endpoints} placeholder="*" onInput=${(e) => setEndpoints(e.target.value)} /></label>`}
      <p class="hint">Names with commas between; <code>yolo*</code> means all that begin so.</p>
    </details>`}
    <${Problem} error=${error} />
    <div class="row end"><button type="button" class="quiet" onClick=${onClose}>Cancel</button><button class="primary" disabled=${!scopes.length}>${action}</button></div>
  </form>`;
}

function patterns(text) {
  const found = text.split(",").map((one) => one.trim()).filter(Boolean);
  return found.length ? found : ["*"];
}
