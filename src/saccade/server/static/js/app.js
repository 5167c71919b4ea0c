// The frame around the pages: address, navigation, key, theme.
import { html, useEffect, useRef, useState, Dialog, Problem, useLoad } from "./ui.js";
import { render } from "../vendor/htm-preact.js";
import { get, key, setKey } from "./api.js";
import { Playground } from "./playground.js";
import { Models } from "./models.js";
import { Model } from "./model.js";
import { Keys } from "./keys.js";
import { Usage } from "./usage.js";

const PAGES = [["play", "Playground"], ["models", "Models"], ["keys", "Keys"], ["usage", "Usage"]];
const THEMES = ["auto", "light", "dark"];

function App() {
  const [page, rest] = useAddress();
  const [theme, setTheme] = useState(localStorage.getItem("saccade-theme") ?? "auto");
  const [asking, setAsking] = useState(false);
  const [turn, setTurn] = useState(0);
  const arrived = useRef(false);
  const { data: session, error, reload } = useLoad(() => get("/v1/session"), [turn]);
  useEffect(() => {
    document.documentElement.dataset.theme = theme;
    localStorage.setItem("saccade-theme", theme);
  }, [theme]);
  useEffect(() => {
    document.title = `${PAGES.find(([name]) => name === page)?.[1] ?? "Models"} · saccade`;
    if (arrived.current) document.querySelector("main")?.focus({ preventScroll: true });
    arrived.current = true;
  }, [page]);
  const signedIn = (value) => {
    setKey(value);
    setAsking(false);
    setTurn(turn + 1);
  };
  return html`
    <a class="skip" href="#main" onClick=${(event) => (event.preventDefault(), document.querySelector("main").focus())}>Skip to content</a>
    <header>
      <a class="brand" href="#/play"><img src="static/icon.svg" alt="" width="28" height="28" /> saccade</a>
      <nav aria-label="Pages">${PAGES.map(([name, title]) => html`<a href="#/${name}" aria-current=${name === page ? "page" : null}>${title}</a>`)}
        <a href="docs">API reference</a></nav>
      <div class="row">
        <button class="quiet" onClick=${() => setTheme(THEMES[(THEMES.indexOf(theme) + 1) % 3])} aria-label="Theme: ${theme}">${{ auto: "◐", light: "☀", dark: "☾" }[theme]}</button>
        ${session?.auth !== "open" && html`<button class="quiet" onClick=${() => setAsking(true)}>${session?.key ? session.key.name : "Enter key"}</button>`}
      </div>
    </header>
    <main id="main" tabindex="-1">
      ${error && error.status !== 401 && html`<${Problem} error=${error} />`}
      ${error?.status === 401
        ? html`<${SignIn} onKey=${signedIn} wrong=${Boolean(key())} />`
        : session && html`<${Page} page=${page} rest=${rest} session=${session} onKey=${signedIn} />`}
    </main>
    <footer>saccade ${session?.version ?? ""} · ${session?.device ?? ""} · your images stay on this server</footer>
    ${asking && html`<${Dialog} title="Access key" onClose=${() => setAsking(false)}><${SignIn} onKey=${signedIn} /><//>`}
  `;
}

function Page({ page, rest, session, onKey }) {
  const go = (...parts) => (location.hash = `#/${parts.join("/")}`);
  if (page === "models" && rest) {
    const [name, tab] = rest.endsWith("/deploy") ? [rest.slice(0, -7), "Deploy"] : [rest, "About"];
    return html`<${Model} key=${name} session=${session} name=${name} tab=${tab} onTab=${(to) => go("models", name + (to === "Deploy" ? "/deploy" : ""))} />`;
  }
  if (page === "models") return html`<${Models} session=${session} />`;
  if (page === "keys") return html`<${Keys} session=${session} onKey=${onKey} />`;
  if (page === "usage") return html`<${Usage} session=${session} />`;
  return html`<${Playground} session=${session} chosen=${rest} onChoose=${(name) => go("play", name)} />`;
}

function SignIn({ onKey, wrong = false }) {
  const [value, setValue] = useState("");
  const enter = (event) => {
    event.preventDefault();
    onKey(value.trim());
  };
  return html`<form class="card sign-in" onSubmit=${enter}>
    <label>Access key <input type="password" autocomplete="off" required value=${value} onInput=${(e) => setValue(e.target.value)} /></label>
    ${wrong && html`<p class="problem" role="alert">This key is not known here, or it was revoked.</p>`}
    <p class="hint">It is kept in this browser tab only. Make one with <code>saccade keys create NAME</code>.</p>
    <div class="row end">${key() && html`<button type="button" class="quiet" onClick=${() => onKey("")}>Forget it</button>`}<button class="primary">Use key</button></div>
  </form>`;
}

// ["models", "owner/name/deploy"] for #/models/owner/name/deploy
function useAddress() {
  const read = () => {
    const [page, ...rest] = location.hash.replace(/^#\/?/, "").split("/");
    return [PAGES.some(([name]) => name === page) ? page : "play", rest.map(decodeURIComponent).join("/")];
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
