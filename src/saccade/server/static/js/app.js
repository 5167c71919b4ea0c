// The frame around the pages: address, navigation, key, theme.
import { html, useEffect, useRef, useState, Dialog, Problem, useLoad } from "./ui.js";
import { render } from "../vendor/htm-preact.js";
import { alive, get, inPath, key, listen, setKey } from "./api.js";
import { Playground } from "./playground.js";
import { Models } from "./models.js";
import { Model } from "./model.js";
import { Keys } from "./keys.js";
import { Usage } from "./usage.js";

const PAGES = [["play", "Playground"], ["models", "Models"], ["keys", "Keys"], ["usage", "Usage"]];
const THEMES = ["auto", "light", "dark"];
const AGAIN_MS = 2000; // between looks whether a lost server is back

function App() {
  const [page, rest] = useAddress();
  const [theme, setTheme] = useState(localStorage.getItem("saccade-theme") ?? "auto");
  const [asking, setAsking] = useState(false);
  const [turn, setTurn] = useState(0);
  const [lost, setLost] = useState(false);
  const arrived = useRef(false);
  const refused = useRef(false);
  const { data: session, error, reload } = useLoad(() => get("/v1/session"), [turn]);
  useEffect(() => {
    document.documentElement.dataset.theme = theme;
    localStorage.setItem("saccade-theme", theme);
  }, [theme]);
  const model = page === "models" ? rest.replace(/\/deploy$/, "") : "";
  useEffect(() => {
    document.title = `${model || PAGES.find(([name]) => name === page)[1]} · saccade`;
    if (arrived.current) document.querySelector("main")?.focus({ preventScroll: true });
    arrived.current = true;
  }, [page, model]);
  // Who was let in goes on in the page, as the form is gone.
  useEffect(() => {
    if (session && !error && refused.current) document.querySelector("main").focus({ preventScroll: true });
    refused.current = error?.status === 401;
  }, [session, error]);
  useEffect(() => listen((what) => (what === "lost" ? setLost(true) : setTurn((old) => old + 1))), []);
  useEffect(() => {
    if (!lost) return undefined;
    const timer = setInterval(async () => {
      if (!(await alive())) return;
      setLost(false);
      setTurn((old) => old + 1);
    }, AGAIN_MS);
    return () => clearInterval(timer);
  }, [lost]);
  const signedIn = (value) => {
    setKey(value);
    setAsking(false);
    setTurn((old) => old + 1);
  };
  const next = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
  return html`
    <a class="skip" href="#main" onClick=${(event) => (event.preventDefault(), document.querySelector("main").focus())}>Skip to content</a>
    <header>
      <a class="brand" href="#/play"><img src="static/icon.svg" alt="" width="28" height="28" /> saccade</a>
      <nav aria-label="Pages">${PAGES.map(([name, title]) => html`<a href="#/${name}" aria-current=${name === page ? "page" : null}>${title}</a>`)}
        <a href="docs">API<span class="wide"> reference</span></a></nav>
      <div class="row">
        <button class="quiet theme" onClick=${() => setTheme(next)} aria-label="Theme: ${theme}" title="Theme: ${theme}. Click for ${next}."><${Lamp} theme=${theme} /></button>
        ${(session?.auth ?? "key") === "key" && html`<button class="quiet whose" title="Access key" onClick=${() => setAsking(true)}>${session?.key ? session.key.name : "Enter key"}</button>`}
      </div>
    </header>
    ${lost && html`<p class="lost" role="alert">The server does not answer. Trying again until it does …</p>`}
    <main id="main" tabindex="-1">
      ${error && error.status !== 401 && html`<${Problem} error=${error} />`}
      ${error?.status === 401
        ? html`<${SignIn} onKey=${signedIn} wrong=${Boolean(key())} page=${true} />`
        : session && html`<${Page} page=${page} rest=${rest} session=${session} onKey=${signedIn} />`}
    </main>
    <footer>${["saccade", session?.version, session?.device].filter(Boolean).join(" · ")} · your images stay on this server</footer>
    ${asking && html`<${Dialog} title="Access key" onClose=${() => setAsking(false)}><${SignIn} onKey=${signedIn} /><//>`}
  `;
}

// Half full: as the system has it; a sun; a moon.
function Lamp({ theme }) {
  const shape = {
    auto: html`<circle cx="12" cy="12" r="8" /><path class="full" d="M12 4a8 8 0 0 1 0 16z" />`,
    light: html`<circle cx="12" cy="12" r="4.5" /><path d="M12 2v3m0 14v3M2 12h3m14 0h3M5 5l2 2m10 10 2 2M5 19l2-2M17 7l2-2" />`,
    dark: html`<path d="M20 14.5A8.5 8.5 0 0 1 9.5 4 8.5 8.5 0 1 0 20 14.5z" />`,
  }[theme];
  return html`<svg viewBox="0 0 24 24" width="22" height="22" aria-hidden="true">${shape}</svg>`;
}

function Page({ page, rest, session, onKey }) {
  const go = (...parts) => (location.hash = `#/${parts.join("/")}`);
  if (page === "models" && rest) {
    const [name, tab] = rest.endsWith("/deploy") ? [rest.slice(0, -7), "Deploy"] : [rest, "About"];
    return html`<${Model} key=${name} session=${session} name=${name} tab=${tab} onTab=${(to) => go("models", inPath(name) + (to === "Deploy" ? "/deploy" : ""))} />`;
  }
  if (page === "models") return html`<${Models} session=${session} />`;
  if (page === "keys") return html`<${Keys} session=${session} onKey=${onKey} />`;
  if (page === "usage") return html`<${Usage} session=${session} />`;
  return html`<${Playground} session=${session} chosen=${rest} onChoose=${(name) => go("play", inPath(name))} />`;
}

function SignIn({ onKey, wrong = false, page = false }) {
  const [value, setValue] = useState("");
  const box = useRef(null);
  useEffect(() => box.current.focus(), []);
  const enter = (event) => {
    event.preventDefault();
    onKey(value.trim());
  };
  return html`<form class="card sign-in" onSubmit=${enter}>
    ${page && html`<h1>This server asks for a key</h1>`}
    <label>Access key <input ref=${box} type="password" autocomplete="off" required value=${value} onInput=${(e) => setValue(e.target.value)} /></label>
    ${wrong && html`<p class="problem" role="alert">This key is not known here, or it was revoked or has expired.</p>`}
    <p class="hint">It is kept in this browser tab only. Make one with <code>saccade keys create NAME</code>.</p>
    <div class="row end">${key() && html`<button key="forget" type="button" class="quiet" onClick=${() => onKey("")}>Forget it</button>`}<button key="use" class="primary">Use key</button></div>
  </form>`;
}

// ["models", "owner/name/deploy"] for #/models/owner/name/deploy
function useAddress() {
  const read = () => {
    const [page, ...rest] = location.hash.replace(/^#\/?/, "").split("/");
    try {
      return [PAGES.some(([name]) => name === page) ? page : "play", rest.map(decodeURIComponent).join("/")];
    } catch {
      return ["play", ""];
    }
  };
  const [address, setAddress] = useState(read);
  useEffect(() => {
    const change = () => setAddress(read());
    window.addEventListener("hashchange", change);
    return () => window.removeEventListener("hashchange", change);
  }, []);
  return address;
}

const root = document.getElementById("app");
root.replaceChildren();
render(html`<${App} />`, root);
