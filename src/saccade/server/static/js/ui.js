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

export function Problem({ error }) {
  if (!error) return null;
  return html`<p class="problem" role="alert">${error.message ?? String(error)}</p>`;
}

export function Empty({ children }) {
  return html`<p class="empty">${children}</p>`;
}

export function State({ value }) {
  return html`<span class="state state-${value}">${value}</span>`;
}

export function Copy({ text, label = "Copy" }) {
  const [done, setDone] = useState(false);
  const copy = async () => {
    await navigator.clipboard?.writeText(text);
    setDone(true);
    setTimeout(() => setDone(false), 1500);
  };
  return html`<button class="quiet" onClick=${copy} aria-live="polite">${done ? "Copied" : label}</button>`;
}

export function Tabs({ names, value, onChange, label }) {
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
        data-name=${name}
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
export function Dialog({ title, onClose, children }) {
  const box = useRef();
  useEffect(() => {
    box.current.showModal();
    return () => box.current?.close();
  }, []);
  const outside = (event) => event.target === box.current && onClose();
  return html`<dialog ref=${box} aria-label=${title} onClick=${outside} onCancel=${onClose}>
    <h2>${title}</h2>
    ${children}
  </dialog>`;
}

export function Confirm({ question, detail, action, onYes, onClose }) {
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(false);
  const yes = async () => {
    setBusy(true);
    try {
      await onYes();
      onClose();
    } catch (problem) {
      setError(problem);
      setBusy(false);
    }
  };
  return html`<${Dialog} title=${question} onClose=${onClose}>
    ${detail && html`<p>${detail}</p>`}
    <${Problem} error=${error} />
    <div class="row end">
      <button class="quiet" onClick=${onClose}>Cancel</button>
      <button class="danger" disabled=${busy} onClick=${yes}>${action}</button>
    </div>
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

export function when(epochSeconds) {
  if (!epochSeconds) return "–";
  return new Date(epochSeconds * 1000).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
}

export function many(count, one, several = `${one}s`) {
  return `${count.toLocaleString()} ${count === 1 ? one : several}`;
}
