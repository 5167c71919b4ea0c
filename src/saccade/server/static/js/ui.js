// Small pieces that every page uses.
import { html, useEffect, useRef, useState } from "../vendor/htm-preact.js";

export { html, useEffect, useRef, useState };

// Loads something now and again every `every` milliseconds while the page is visible.
export function useLoad(load, needs = [], every = 0) {
  const [state, setState] = useState({ data: null, error: null, loading: true });
  const turn = useRef(0);
  const reload = async () => {
    const mine = ++turn.current;
    try {
      const data = await load();
      if (mine === turn.current) setState({ data, error: null, loading: false });
    } catch (error) {
      if (mine === turn.current) setState((old) => ({ data: old.data, error, loading: false }));
    }
  };
  useEffect(() => {
    reload();
    if (!every) return () => void turn.current++;
    const timer = setInterval(() => !document.hidden && reload(), every);
    return () => {
      turn.current++;
      clearInterval(timer);
    };
  }, needs);
  return { ...state, reload };
}

// Of a server that is gone the page's head tells, once for all that was asked.
export function Problem({ error }) {
  if (!error || error.status === 0 || error.status === 401) return null;
  const text = error.message ?? String(error);
  return html`<p class="problem" role="alert">${text[0].toUpperCase() + text.slice(1)}</p>`;
}

const FEW = 8; // rows that need no search

export function Search({ count, label, hint, value, onInput }) {
  if (count <= FEW) return null;
  return html`<input class="search" type="search" aria-label=${label} placeholder=${hint} value=${value} onInput=${(event) => onInput(event.target.value)} />`;
}

// Whether every word that is sought stands somewhere in the text.
export function holds(text, sought) {
  return sought.toLowerCase().split(/\s+/).every((word) => text.toLowerCase().includes(word));
}

export function Empty({ children }) {
  return html`<p class="empty">${children}</p>`;
}

export function State({ value }) {
  return html`<span class="state state-${value}">${value}</span>`;
}

export function Copy({ text, label = "Copy" }) {
  const [done, setDone] = useState("");
  const copy = async () => {
    setDone((await copied(text)) ? "Copied" : "Press Ctrl+C");
    setTimeout(() => setDone(""), 2000);
  };
  return html`<button type="button" class="quiet" onClick=${copy} aria-live="polite">${done || label}</button>`;
}

// Whether the text is in the clipboard. Browsers hide the clipboard from plain http pages; there the old way works.
async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = document.createElement("textarea");
    area.value = text;
    area.className = "hidden";
    // Inside an open dialog, as everything outside of it takes no focus.
    (document.querySelector("dialog[open]") ?? document.body).append(area);
    area.select();
    const worked = document.execCommand("copy");
    area.remove();
    return worked;
  }
}

// panel: the id of what the tabs change, where it is one thing.
export function Tabs({ names, value, onChange, label, panel = null }) {
  const move = (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const next = names[(names.indexOf(value) + step + names.length) % names.length];
    onChange(next);
    event.currentTarget.querySelector(`[data-name="${CSS.escape(next)}"]`)?.focus();
  };
  return html`<div class="tabs" role="tablist" aria-label=${label} onKeyDown=${move}>
    ${names.map(
      (name) => html`<button
        role="tab"
        type="button"
        data-name=${name}
        aria-controls=${panel}
        aria-selected=${name === value}
        tabindex=${name === value ? 0 : -1}
        onClick=${() => onChange(name)}
      >
        ${name}
      </button>`,
    )}
  </div>`;
}

// A modal question or form; Escape and the backdrop close it.
// kept: only its own buttons close it.
export function Dialog({ title, onClose, children, kept = false }) {
  const box = useRef();
  useEffect(() => {
    box.current.showModal();
    return () => box.current?.close();
  }, []);
  // A click that began inside (marking a text) and ends outside is none on the backdrop.
  const outside = (event) => event.target === box.current && !kept && onClose();
  const cancel = (event) => {
    event.preventDefault();
    if (!kept) onClose();
  };
  return html`<dialog ref=${box} aria-label=${title} onPointerDown=${outside} onCancel=${cancel}>
    <h2>${title}</h2>
    ${children}
  </dialog>`;
}

export function Confirm({ question, detail, action, onYes, onClose, waiting = "", kind = "danger" }) {
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(false);
  const yes = async (event) => {
    event.preventDefault();
    setBusy(true);
    setError(null);
    try {
      await onYes();
      onClose();
    } catch (problem) {
      setError(problem);
      setBusy(false);
    }
  };
  return html`<${Dialog} title=${question} onClose=${onClose}>
    <form onSubmit=${yes}>
      ${detail && html`<div class="detail">${detail}</div>`}
      <${Problem} error=${error} />
      ${busy && waiting && html`<p class="pulling" role="status"><progress aria-label=${waiting}></progress> ${waiting}</p>`}
      <div class="row end">
        <button type="button" class="quiet" onClick=${onClose}>Cancel</button>
        <button class=${kind} disabled=${busy}>${action}</button>
      </div>
    </form>
  <//>`;
}

export function bytes(value) {
  if (value == null) return "–";
  const units = ["B", "kB", "MB", "GB", "TB"];
  let step = 0;
  while (value >= 1000 && step < units.length - 1) {
    value /= 1000;
    step++;
  }
  return `${step ? value.toFixed(value < 10 ? 1 : 0) : value} ${units[step]}`;
}

// Made once: toLocaleString makes one for every date, which takes ten times as long.
const MOMENT = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

export function when(epochSeconds) {
  return epochSeconds ? MOMENT.format(epochSeconds * 1000) : "–";
}

// A row of a table; on narrow screens each cell bears the name of its column.
export function Row({ names, cells, label }) {
  return html`<tr role="row" aria-label=${label}>${cells.map((cell, index) => html`<td role="cell" data-label=${names[index].name} class=${names[index].kind ?? ""}>${cell}</td>`)}</tr>`;
}

export function Table({ label, names, children }) {
  return html`<div class="table-wrap" tabindex="0" role="region" aria-label=${label}>
    <table role="table" aria-label=${label}>
      <thead role="rowgroup"><tr role="row">${names.map(({ name, kind }) => html`<th role="columnheader" scope="col" class=${kind ?? ""}>${kind === "actions" ? html`<span class="hidden">${name}</span>` : name}</th>`)}</tr></thead>
      <tbody role="rowgroup">${children}</tbody>
    </table>
  </div>`;
}

export function many(count, one, several = `${one}s`) {
  return `${count.toLocaleString()} ${count === 1 ? one : several}`;
}
