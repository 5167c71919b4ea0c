// Access keys: made once, shown once, limited, renamed, deleted.
import { html, useState, Confirm, Copy, Dialog, Empty, Problem, useLoad, when } from "./ui.js";
import { get, send } from "./api.js";

export function Keys({ session, onKey }) {
  const list = useLoad(() => get("/v1/keys"), [session]);
  const [making, setMaking] = useState(false);
  const [editing, setEditing] = useState(null);
  const [deleting, setDeleting] = useState(null);
  const keys = list.data?.keys ?? [];
  // The first key closes the open door: this tab goes on with it, or it could no longer change anything.
  const made = (key) => {
    setMaking(false);
    if (key && session?.auth === "open") onKey(key);
    else list.reload();
  };
  return html`<section>
    <div class="row between"><h1>Keys</h1><button class="primary" onClick=${() => setMaking(true)}>Create key</button></div>
    <p class="lead">${session?.auth === "open" ? "No key is asked for on this address yet. As soon as one exists, every call needs one." : "Every call needs a key, in x-api-key or as a bearer token."}</p>
    <${Problem} error=${list.error} />
    <div class="table-wrap" tabindex="0" role="region" aria-label="Keys">
      <table>
        <thead><tr><th>Name</th><th>Starts with</th><th>May</th><th class="num">Limit an hour</th><th>Created</th><th>Last used</th><th>Expires</th><th><span class="hidden">Actions</span></th></tr></thead>
        <tbody>${keys.map(
          (key) => html`<tr>
            <td>${key.name}</td>
            <td><code>${key.prefix}…</code></td>
            <td>${key.scopes.join(", ")}</td>
            <td class="num">${key.limit ? key.limit.toLocaleString() : key.limit === 0 ? "none" : "default"}</td>
            <td>${when(key.created)}</td>
            <td>${when(key.last_used)}</td>
            <td>${key.expires ? when(key.expires) : "never"}</td>
            <td class="actions">
              <button class="quiet" aria-label="Edit ${key.name}" onClick=${() => setEditing(key)}>Edit</button>
              <button class="quiet" aria-label="Delete ${key.name}" onClick=${() => setDeleting(key)}>Delete</button>
            </td>
          </tr>`,
        )}</tbody>
      </table>
    </div>
    ${list.data && !keys.length && html`<${Empty}>No keys yet.<//>`}
    ${making && html`<${Make} first=${session?.auth === "open" && !keys.length} onClose=${made} />`}
    ${editing && html`<${Edit} key=${editing.id} item=${editing} onClose=${() => (setEditing(null), list.reload())} />`}
    ${deleting && html`<${Confirm} question="Are you sure you want to delete this access key?" detail="Programs that use “${deleting.name}” stop working at once." action="Delete" onYes=${() => send("DELETE", `/v1/keys/${deleting.id}`).then(list.reload)} onClose=${() => setDeleting(null)} />`}
  </section>`;
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
    return html`<${Dialog} title="Your new key" onClose=${() => onClose(made.key)}>
      <p>Copy it now: it is shown only this once.</p>
      <div class="code"><pre tabindex="0"><code>${made.key}</code></pre><${Copy} text=${made.key} /></div>
      <div class="row end"><button class="primary" onClick=${() => onClose(made.key)}>I have copied it</button></div>
    <//>`;
  const scopes = first ? ["models", "endpoints", "admin"] : ["models"];
  return html`<${Dialog} title="Create a key" onClose=${() => onClose(null)}>
    ${first && html`<p class="hint">From this first key on, every call needs one. Let it change everything, or only the command line can make more.</p>`}
    <${Fields} item=${{ name: "", scopes, limit: null }} action="Create" error=${error} onSave=${make} onClose=${() => onClose(null)} fresh=${true} />
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
  const [scopes, setScopes] = useState(item.scopes);
  const [days, setDays] = useState("");
  const toggle = (scope) => setScopes(scopes.includes(scope) ? scopes.filter((one) => one !== scope) : [...scopes, scope]);
  const save = (event) => {
    event.preventDefault();
    const fields = { name, scopes, limit: limit === "" ? null : Number(limit) };
    if (fresh && days) fields.expires_days = Number(days);
    onSave(fields);
  };
  return html`<form onSubmit=${save}>
    <label>Name <input required maxlength="80" value=${name} onInput=${(e) => setName(e.target.value)} /></label>
    <fieldset><legend>May</legend>
      ${["models", "endpoints", "admin"].map((scope) => html`<label class="check"><input type="checkbox" checked=${scopes.includes(scope)} onChange=${() => toggle(scope)} /> ${MEANING[scope]}</label>`)}
    </fieldset>
    <label>Calls an hour <input type="number" min="0" value=${limit} placeholder="the server's default; 0 for no limit" onInput=${(e) => setLimit(e.target.value)} /></label>
    ${fresh && html`<label>Expires after days <input type="number" min="1" value=${days} placeholder="never" onInput=${(e) => setDays(e.target.value)} /></label>`}
    <${Problem} error=${error} />
    <div class="row end"><button type="button" class="quiet" onClick=${onClose}>Cancel</button><button class="primary">${action}</button></div>
  </form>`;
}

const MEANING = { models: "call models", endpoints: "call dedicated endpoints", admin: "change everything" };
