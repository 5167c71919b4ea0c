// Drop a photo, see what is in it. Scores are asked for from low upwards, so that the slider re-filters at once.
import { html, useEffect, useRef, useState, Empty, Problem, Tabs, many, useLoad } from "./ui.js";
import { call, cut, get, inPath, key, lines, whole } from "./api.js";
import { apart, colour, percent } from "./draw.js";
import { Snippets } from "./snippets.js";
import { Stage } from "./stage.js";

const FLOOR = 0.05;
const SMALL_SCREEN = 1600;
const MOST_LABELS = 1000;
const MOST_KINDS = 8; // of objects that are named below the picture; the list has all
const PATIENCE_MS = 1500; // before and between looks whether a model is still being loaded
const CALM_MS = 150; // a slider that asks the server again waits until it rests
const BOXLESS = ["classify", "zero-shot-classify", "depth"];
const FILMS = /\.(asf|avi|m4v|mkv|mov|mp4|mpe?g|ts|wmv|webm)$/i;

// What was looked at when the playground was left, for whoever comes back with the same key: in this tab's memory alone.
let kept = null;

function remembered() {
  const mine = kept?.key === key() ? kept : null;
  kept = null;
  return mine;
}

export function Playground({ session, chosen, onChoose }) {
  const [back] = useState(remembered);
  const models = useLoad(() => get("/v1/console/models"), [session]);
  const known = models.data?.models ?? [];
  const fact = (name) => known.find((one) => one.name === name);
  const usual = session?.default_model;
  const wished = chosen || back?.model;
  const model = models.data ? (fact(wished) ?? first(known, usual))?.name : wished || usual;
  const told = (name) => fact(name)?.task === "zero-shot-classify";
  const [shot, setShot] = useState(() => back && shotOf(back.file, back.kind));
  const [answer, setAnswer] = useState(() => (wished === back?.model ? back?.answer : null) ?? null);
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState("");
  const [conf, setConf] = useState(back?.conf ?? 0.25);
  const [iou, setIou] = useState(back?.iou ?? 0.7);
  const [labels, setLabels] = useState(back?.labels ?? "cat, dog, person, car");
  const [camera, setCamera] = useState(false);
  const [over, setOver] = useState(false);
  const [hidden, setHidden] = useState(back?.hidden ?? false);
  const [left, setLeft] = useState(0);
  const boxes = !BOXLESS.includes(fact(model)?.task) && !answer?.frames[0]?.semantic_mask;
  const turn = useRef(null);
  const calm = useRef(null);
  const asked = useRef(answer && back?.model);
  const now = useRef(null);
  now.current = shot && { key: key(), file: shot.file, kind: shot.kind, answer: busy ? null : answer, model, conf, iou, labels, hidden };

  const look = async (target, name = model, overlap = iou, words = labels) => {
    turn.current?.abort();
    const mine = (turn.current = new AbortController());
    const late = () => turn.current !== mine;
    asked.current = name;
    setError(null);
    setBusy("Looking …");
    let enough = () => {};
    try {
      if (fact(name)?.fetched === false && session?.admin) {
        await fetchModel(name, mine, setBusy);
        models.reload();
      }
      enough = whileLoading(name, (text) => !late() && setBusy(text));
      const body = form(target.file, overlap, told(name) ? words : null);
      if (target.kind === "photo") {
        const found = await photo(body, name, mine);
        if (!late()) setAnswer(found);
      } else await film(body, name, mine, (part) => !late() && setAnswer(part));
    } catch (problem) {
      if (problem.name === "AbortError" || late()) return;
      setAnswer(null);
      setError(problem);
    } finally {
      enough();
    }
    if (!late()) setBusy("");
  };
  const stop = () => {
    turn.current.abort();
    turn.current = null;
    setBusy("");
    setAnswer((old) => old ?? { frames: [], said: {} });
  };
  const take = async (file, count = 1) => {
    setLeft(count - 1);
    if (!file) return setError(new Error("That was no file. Drop a photo or a video; a picture of another page must be saved first."));
    const kind = kindOf(file);
    const unsure = await mayBeTurned(file);
    const fresh = shotOf(file, kind);
    setShot(fresh);
    setHidden(unsure);
    setAnswer(null);
    setCamera(false);
    return look(fresh);
  };
  // The server's own view of a picture that the browser cannot show; nothing is drawn on it, as nothing is that certain.
  const unseen = async () => {
    const body = form(shot.file, iou, told(model) ? labels : null);
    body.set("conf", 1);
    body.set("annotated", true);
    try {
      const picture = await (await call(path(model), { method: "POST", body })).blob();
      setShot((now) => (now?.file === shot.file ? { ...now, plain: URL.createObjectURL(picture) } : now));
    } catch {
      setShot((now) => (now?.file === shot.file ? { ...now, plain: "" } : now));
    }
  };
  useEffect(() => {
    const paste = (event) => event.clipboardData.files.length && take(event.clipboardData.files[0], event.clipboardData.files.length);
    // A photo that misses the drop zone must not replace the page.
    const hover = (event) => {
      event.preventDefault();
      setOver(true);
    };
    const leave = (event) => event.relatedTarget === null && setOver(false);
    const drop = (event) => {
      event.preventDefault();
      setOver(false);
      take(event.dataTransfer.files[0], event.dataTransfer.files.length);
    };
    const heard = { paste, dragover: hover, dragleave: leave, drop };
    for (const [name, listener] of Object.entries(heard)) window.addEventListener(name, listener);
    return () => {
      for (const [name, listener] of Object.entries(heard)) window.removeEventListener(name, listener);
    };
  });
  useEffect(() => () => {
    turn.current?.abort();
    kept = now.current;
  }, []);
  // A browser keeps what such addresses stand for until it is told.
  useEffect(() => () => void (shot && URL.revokeObjectURL(shot.url)), [shot?.url]);
  useEffect(() => () => void (shot?.plain && URL.revokeObjectURL(shot.plain)), [shot?.plain]);
  const wanted = hidden && answer?.ended && shot.kind === "photo" && shot.plain === undefined;
  useEffect(() => void (wanted && unseen()), [wanted]);
  const choose = (name) => {
    onChoose(name);
    setAnswer(null);
    if (shot) look(shot, name);
  };
  // The browser's own buttons change the model, too, and so may whoever comes back.
  useEffect(() => {
    if (!shot || !model || !models.data || asked.current === model) return;
    setAnswer(null);
    look(shot, model);
  }, [model, Boolean(models.data)]);
  const overlap = (value) => {
    setIou(value);
    clearTimeout(calm.current);
    if (shot) calm.current = setTimeout(() => look(shot, model, value), CALM_MS);
  };
  const useless = !shot || (error && hidden && !passing(error));
  return html`<div class="playground ${over ? "over" : ""}">
    <h1 class="hidden">Playground</h1>
    <section class="card controls" aria-label="Model and thresholds">
      <label>Model
        <select value=${model} onChange=${(event) => choose(event.target.value)}>
          ${known.map((one) => html`<option value=${one.name} selected=${one.name === model}>${one.name} · ${one.task}${one.fetched ? "" : " (will be fetched)"}</option>`)}
        </select>
      </label>
      ${told(model)
        ? html`<${Labels} value=${labels} onInput=${setLabels} onChange=${(words) => shot && look(shot, model, iou, words)} />`
        : html`<${Slider} id="confidence" name="Confidence" low=${FLOOR} value=${conf} onInput=${setConf} disabled=${!boxes} />
            <${Slider} id="overlap" name="Overlap (IoU)" low=${0.1} value=${iou} onInput=${overlap} disabled=${!boxes} />`}
      <${CameraButton} open=${camera} onOpen=${setCamera} onShot=${take} />
    </section>
    <${Problem} error=${models.error ?? error} />
    ${left > 0 && html`<p class="note" role="status">One at a time: this is the first of ${left + 1} files.</p>`}
    ${camera && html`<${Camera} onShot=${take} />`}
    ${useless && html`<${Drop} over=${over} onFile=${take} />`}
    ${!useless && html`<${Result} shot=${shot} answer=${answer} busy=${busy} error=${error} conf=${conf} onFile=${take} onAgain=${() => look(shot)} onStop=${stop} onUnseen=${() => setHidden(true)} />`}
    ${model && html`<${Snippets} model=${model} labels=${told(model) ? labels : null} />`}
  </div>`;
}

// The model of who chose none: the server's own choice, unless only others need no fetching.
function first(known, usual) {
  const here = known.filter((one) => one.fetched);
  return [here.filter((one) => one.state !== "failed"), here, known].map((some) => some.find((one) => one.name === usual) ?? some[0]).find(Boolean);
}

// What a model that knows no labels of its own looks for.
function Labels({ value, onInput, onChange }) {
  return html`<label class="wanted">Labels, with commas between
    <input type="text" value=${value} autocomplete="off" onInput=${(event) => onInput(event.target.value)}
      onChange=${(event) => onChange(event.target.value)} />
  </label>`;
}

function Slider({ id, name, low, value, onInput, disabled }) {
  return html`<div class="slider">
    <label for=${id}>${name}</label><output for=${id}>${disabled ? "–" : percent(value)}</output>
    <input id=${id} type="range" min=${low} max="0.95" step="0.01" value=${value} disabled=${disabled}
      onInput=${(event) => onInput(Number(event.target.value))} />
  </div>`;
}

function path(model) {
  return `/api/models/${inPath(model)}/predict`;
}

function shotOf(file, kind) {
  return { file, url: URL.createObjectURL(file), kind };
}

function kindOf(file) {
  if (file.type === "image/gif") return "gif";
  return file.type.startsWith("video/") || FILMS.test(file.name) ? "film" : "photo";
}

// Whether a file is a WebP with EXIF: browsers ignore its rotation, which the server heeds.
async function mayBeTurned(file) {
  const head = new Uint8Array(await file.slice(0, 21).arrayBuffer().catch(() => new ArrayBuffer(0)));
  return String.fromCharCode(...head.subarray(8, 16)) === "WEBPVP8X" && (head[20] & 8) > 0;
}

// Brings a model of the catalogue here before it is asked, telling how far it is.
async function fetchModel(name, { signal }, tell) {
  const address = `/v1/console/models/${inPath(name)}/pull`;
  for await (const step of lines(address, { method: "POST", signal })) {
    if (step.error) throw new Error(step.error);
    tell(`Fetching ${name} …${step.total ? ` ${Math.round((100 * step.done) / step.total)}%` : ""}`);
  }
  tell("Looking …");
}

// A model may take minutes to come into memory: who waits for it is told, until it is there or the function that this
// returns is called.
function whileLoading(name, tell) {
  let over = false;
  const look = async () => {
    const { state } = await get(`/v1/console/models/${inPath(name)}`).catch(() => ({}));
    if (over) return;
    tell(state === "loading" ? "Loading the model …" : "Looking …");
    if (state === "loading") timer = setTimeout(look, PATIENCE_MS);
  };
  let timer = setTimeout(look, PATIENCE_MS);
  return () => {
    over = true;
    clearTimeout(timer);
  };
}

async function photo(body, model, { signal }) {
  const started = performance.now();
  const answer = await call(path(model), { method: "POST", body, signal });
  const said = await whole(answer.json());
  const stages = Object.fromEntries((answer.headers.get("server-timing") ?? "").split(", ").map((part) => part.split(";dur=")));
  return { frames: said.images, said, stages, took: performance.now() - started, ended: true };
}

// Entries arrive one per frame; the picture of the video is drawn from those that are here.
async function film(body, model, { signal }, show) {
  const started = performance.now();
  const frames = [];
  let ended = false;
  const headers = { accept: "application/x-ndjson" };
  for await (const line of lines(path(model), { method: "POST", body, headers, signal })) {
    if (line.error) throw new Error(line.error);
    ended ||= Boolean(line.metadata);
    const entry = line.images ? line.images[0] : line;
    if (!entry?.results) continue;
    frames.push(entry);
    if (frames.length % 4 === 1) show({ frames: [...frames], said: entry, took: performance.now() - started });
  }
  if (!ended) throw cut();
  show({ frames, said: { images: frames.slice(0, 3), more: Math.max(0, frames.length - 3) }, took: performance.now() - started, ended });
}

function form(file, iou, labels) {
  const body = new FormData();
  body.append("file", file, file.name || "photo");
  body.append("conf", FLOOR);
  body.append("iou", iou);
  body.append("decimals", 3);
  if (labels !== null) {
    body.append("candidate_labels", labels);
    body.append("topk", MOST_LABELS);
  }
  return body;
}

// The same file may be chosen again.
function picked(take) {
  return ({ target }) => {
    const [file] = target.files;
    target.value = "";
    if (file) take(file);
  };
}

function Drop({ over, onFile }) {
  return html`<label class="drop ${over ? "over" : ""}">
    <input type="file" class="hidden-input" accept="image/*,video/*,.heic,.heif,.avif,.jp2,.mkv" onChange=${picked(onFile)} />
    <svg class="drop-icon" viewBox="0 0 48 48" aria-hidden="true"><rect x="4" y="8" width="40" height="32" rx="5" /><circle cx="16" cy="19" r="4" /><path d="m5 36 12-11 8 7 9-10 10 10" /></svg>
    <strong>Drop a photo or video here</strong>
    <span>or choose a file, paste from the clipboard, or use the camera. It stays on this server.</span>
  </label>`;
}

function Result({ shot, answer, busy, error, conf, onFile, onAgain, onStop, onUnseen }) {
  const [active, setActive] = useState(null);
  const [view, setView] = useState("Objects");
  const [at, setAt] = useState(0);
  useEffect(() => setAt(0), [shot.url]);
  const frames = answer?.frames ?? [];
  const stopped = answer && !answer.ended && !busy;
  const frame = frames[Math.min(at, frames.length - 1)];
  const items = (frame?.results ?? []).filter((item) => !item.box || item.confidence > conf);
  if (frame?.semantic_mask) items.sort((a, b) => b.pixel_ratio - a.pixel_ratio);
  return html`<div class="result" aria-busy=${Boolean(busy)}>
    <div class="card stage-card">
      <${Stage} key=${shot.url} shot=${shot} frame=${frame} frames=${frames} whole=${Boolean(answer?.ended)} items=${items} active=${active} failed=${Boolean(error)} onActive=${setActive} onFrame=${setAt} onUnseen=${onUnseen} />
      <div class="row between timing">
        <span role="status">${busy ? `${busy}${frames.length > 1 ? ` ${many(frames.length, "frame")}` : ""}` : error ? "Not looked at." : stopped ? `Stopped${frames.length ? ` after ${many(frames.length, "frame")}` : ""}.` : summary(items, frame)}</span>
        ${busy && html`<button key="stop" class="quiet" onClick=${onStop}>Stop</button>`}
        ${!busy && (stopped || (error && passing(error))) && html`<button key="again" class="quiet" onClick=${onAgain}>Try again</button>`}
        <label class="button quiet">Another photo <input type="file" class="hidden-input" accept="image/*,video/*,.heic,.heif,.avif,.jp2,.mkv" onChange=${picked(onFile)} /></label>
      </div>
      ${frames.length > 0 && html`<${Timing} frame=${frame ?? frames[0]} answer=${answer} />`}
    </div>
    <div class="card found">
      <${Tabs} names=${["Objects", "JSON"]} value=${view} onChange=${setView} label="Result" panel="found" />
      <div id="found" role="tabpanel" aria-label=${view}>
      ${view === "JSON"
        ? html`<pre class="json" tabindex="0" aria-label="The answer">${answer ? short(answer.said) : ""}</pre>`
        : html`<${List} items=${items} active=${active} onActive=${setActive} quiet=${Boolean(busy || error || !frame)} />`}
      </div>
    </div>
  </div>`;
}

// Whether the same call may fare better later: the server is gone or busy, the limit used up.
function passing({ status = 0 }) {
  return status < 400 || status === 429 || status >= 500;
}

function summary(items, frame) {
  if (!frame) return "";
  // Some models tell distances, others nearness.
  if (frame.depth) return `Depth map: ${frame.depth.min.toPrecision(3)} to ${frame.depth.max.toPrecision(3)} (white), as the model measures.`;
  if (!items.length) return (frame.results ?? []).length ? "Nothing above this confidence." : "Nothing found.";
  if (frame.semantic_mask) return `${many(items.length, "class", "classes")}, most of it ${apart(items[0].name)} (${percent(items[0].pixel_ratio)}).`;
  if (!items[0].box) return `${apart(items[0].name)} (${percent(items[0].confidence)})`;
  const counts = new Map();
  for (const { name } of items) counts.set(name, (counts.get(name) ?? 0) + 1);
  const kinds = [...counts].map(([name, count]) => (count === 1 ? apart(name) : `${count} × ${apart(name)}`));
  const rest = kinds.splice(MOST_KINDS).length;
  return kinds.join(", ") + (rest ? ` and ${many(rest, "other class", "other classes")}` : "");
}

// Long arrays would hide the answer.
function short(said) {
  const cut = (name, value) =>
    Array.isArray(value) && value.length > 24 && typeof value[0] === "number" ? [...value.slice(0, 12), `… ${value.length - 12} more`]
    : name === "data" && typeof value === "string" && value.length > 200 ? `${value.slice(0, 60)}… (${value.length} characters)`
    : value;
  return JSON.stringify(said, cut, 2);
}

// Where the time went: in the server by its own account, and on the way there and back.
function Timing({ frame, answer }) {
  const { preprocess, inference, postprocess } = frame.speed;
  const { stages, took, frames } = answer;
  const told = (name) => Number(stages?.[name] ?? 0);
  const way = stages?.total ? Math.max(0, took - told("total")) : 0;
  const parts = [["wait", told("load") + told("queue")], ["prepare", preprocess + told("decode")], ["network", inference], ["read", postprocess], ["way", way]]
    .filter(([name, ms]) => ms >= 1 || !["wait", "way"].includes(name));
  const total = parts.reduce((sum, [, ms]) => sum + ms, 0) || 1;
  return html`<div class="spent">
    <div class="bar" aria-hidden="true">${parts.map(([name, ms]) => html`<i class="bar-${name}" style=${{ width: `${(100 * ms) / total}%` }}></i>`)}</div>
    <p>${parts.map(([name, ms]) => html`<span class="key key-${name}" title=${MEANING[name]}>${name === "way" ? "there and back" : name} ${ms.toFixed(1)} ms</span> `)}
      <span>${frames.length > 1 ? `${many(frames.length, "frame")} in ${(took / 1000).toFixed(1)} s` : `answered in ${took.toFixed(0)} ms`}</span>
      <span>${frame.shape[1]} × ${frame.shape[0]}</span></p>
  </div>`;
}

const MEANING = {
  wait: "Loading the model, and other calls before this one",
  prepare: "Decoding the picture and bringing it to the network's size",
  network: "The neural network itself",
  read: "Making sense of its output",
  way: "From this browser to the server and back",
};

function List({ items, active, onActive, quiet }) {
  const list = useRef();
  const inside = useRef(false);
  useEffect(() => {
    // What is pointed at in the picture comes into view in the list, not the other way round.
    if (active !== null && !inside.current) list.current?.children[active]?.scrollIntoView({ block: "nearest" });
  }, [active]);
  const point = (index) => {
    inside.current = index !== null;
    onActive(index);
  };
  if (!items.length) return quiet ? null : html`<${Empty}>No objects to list.<//>`;
  return html`<ul class="list" ref=${list}>
    ${items.map(
      (item, index) => html`<li class=${active === index ? "active" : ""}>
        <button onPointerEnter=${() => point(index)} onPointerLeave=${() => point(null)} onFocus=${() => point(index)} onBlur=${() => point(null)}>
          <i class="swatch" style=${{ background: colour(item.class) }}></i>
          <span class="name">${item.track_id != null ? `#${item.track_id} ` : ""}${item.name}</span>
          <span class="meter" aria-hidden="true"><i style=${{ width: percent(item.confidence ?? item.pixel_ratio), background: colour(item.class) }}></i></span>
          <span class="score">${percent(item.confidence ?? item.pixel_ratio)}</span>
        </button>
      </li>`,
    )}
  </ul>`;
}

// Browsers give pages the camera only on https and localhost; elsewhere a phone's own camera app takes the photo.
function CameraButton({ open, onOpen, onShot }) {
  if (navigator.mediaDevices?.getUserMedia)
    return html`<button onClick=${() => onOpen(!open)} aria-expanded=${open}>${open ? "Close camera" : "Use camera"}</button>`;
  return html`<label class="button">Use camera <input type="file" class="hidden-input" accept="image/*" capture="environment" onChange=${picked(onShot)} /></label>`;
}

function Camera({ onShot }) {
  const view = useRef();
  const [error, setError] = useState(null);
  const [ready, setReady] = useState(false);
  useEffect(() => {
    let stream;
    let closed = false;
    const open = async () => {
      try {
        stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment", width: SMALL_SCREEN } });
        if (closed) stream.getTracks().forEach((track) => track.stop());
        else view.current.srcObject = stream;
      } catch (problem) {
        setError(new Error(problem.name === "NotAllowedError" ? "The camera is not allowed for this page. Allow it in the browser's address bar." : "There is no camera that can be used."));
      }
    };
    open();
    return () => {
      closed = true;
      stream?.getTracks().forEach((track) => track.stop());
    };
  }, []);
  const shoot = () => {
    const still = document.createElement("canvas");
    still.width = view.current.videoWidth;
    still.height = view.current.videoHeight;
    still.getContext("2d").drawImage(view.current, 0, 0);
    still.toBlob((blob) => onShot(new File([blob], "camera.jpg", { type: "image/jpeg" })), "image/jpeg", 0.92);
  };
  return html`<section class="card camera" aria-label="Camera">
    <${Problem} error=${error} />
    ${!error && html`<video ref=${view} autoplay muted playsinline aria-label="What the camera sees" onPlaying=${() => setReady(true)}></video>
      <button class="primary" disabled=${!ready} onClick=${shoot}>Take photo</button>`}
  </section>`;
}
