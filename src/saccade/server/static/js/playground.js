// Drop a photo, see what is in it. Scores are asked for from low upwards, so that the sliders re-filter at once.
import { html, useEffect, useRef, useState, Empty, Problem, Tabs, many, useLoad } from "./ui.js";
import { call, get, lines } from "./api.js";
import { colour, draw, hit, percent } from "./draw.js";
import { Snippets } from "./snippets.js";

const FLOOR = 0.05;
const SMALL_SCREEN = 1600;
const MOST_LABELS = 1000;

export function Playground({ session, chosen, onChoose }) {
  const models = useLoad(() => get("/v1/console/models"), [session]);
  const names = (models.data?.models ?? []).map((model) => model.name);
  const model = names.includes(chosen) ? chosen : (session?.default_model ?? names[0]);
  const told = (name) => models.data?.models.find((one) => one.name === name)?.task === "zero-shot-classify";
  const [shot, setShot] = useState(null);
  const [answer, setAnswer] = useState(null);
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(false);
  const [conf, setConf] = useState(0.25);
  const [iou, setIou] = useState(0.7);
  const [labels, setLabels] = useState("cat, dog, person, car");
  const [camera, setCamera] = useState(false);
  const turn = useRef(null);

  const look = async (file, name = model, overlap = iou, words = labels) => {
    turn.current?.abort();
    const mine = (turn.current = new AbortController());
    setError(null);
    setBusy(true);
    setAnswer(null);
    try {
      const body = form(file, overlap, told(name) ? words : null);
      if (file.type.startsWith("video/") || file.type === "image/gif") await film(body, name, mine, setAnswer);
      else setAnswer(await photo(body, name, mine));
    } catch (problem) {
      if (problem.name !== "AbortError") setError(problem);
    }
    if (turn.current === mine) setBusy(false);
  };
  const take = (file) => {
    if (!file) return;
    if (shot) URL.revokeObjectURL(shot.url);
    setShot({ file, url: URL.createObjectURL(file), video: file.type.startsWith("video/") });
    look(file);
  };
  useEffect(() => {
    const paste = (event) => take([...event.clipboardData.files][0]);
    window.addEventListener("paste", paste);
    return () => window.removeEventListener("paste", paste);
  });
  const choose = (name) => {
    onChoose(name);
    if (shot) look(shot.file, name);
  };
  return html`<div class="playground">
    <section class="card controls" aria-label="Model and thresholds">
      <label>Model
        <select value=${model} onChange=${(event) => choose(event.target.value)}>
          ${(models.data?.models ?? []).map(
            (one) => html`<option value=${one.name}>${one.name} · ${one.task}${one.fetched ? "" : " (will be fetched)"}</option>`,
          )}
        </select>
      </label>
      ${told(model)
        ? html`<${Labels} value=${labels} onInput=${setLabels} onChange=${(words) => shot && look(shot.file, model, iou, words)} />`
        : html`<${Slider} id="confidence" name="Confidence" low=${FLOOR} value=${conf} onInput=${setConf} />
            <${Slider} id="overlap" name="Overlap (IoU)" low=${0.1} value=${iou} onInput=${setIou} onChange=${(value) => shot && look(shot.file, model, value)} />`}
      <button onClick=${() => setCamera(!camera)} aria-pressed=${camera}>${camera ? "Close camera" : "Use camera"}</button>
    </section>
    <${Problem} error=${models.error ?? error} />
    ${camera && html`<${Camera} onShot=${take} />`}
    ${!shot && html`<${Drop} onFile=${take} />`}
    ${shot && html`<${Result} shot=${shot} answer=${answer} busy=${busy} conf=${conf} onFile=${take} />`}
    ${model && html`<${Snippets} model=${model} labels=${told(model) ? labels : null} />`}
  </div>`;
}

// What a model that knows no labels of its own looks for.
function Labels({ value, onInput, onChange }) {
  return html`<label class="wanted">Labels, with commas between
    <input type="text" value=${value} autocomplete="off" onInput=${(event) => onInput(event.target.value)}
      onChange=${(event) => onChange(event.target.value)} />
  </label>`;
}

function Slider({ id, name, low, value, onInput, onChange }) {
  const number = (event) => Number(event.target.value);
  return html`<div class="slider">
    <label for=${id}>${name}</label><output for=${id}>${percent(value)}</output>
    <input id=${id} type="range" min=${low} max="0.95" step="0.01" value=${value}
      onInput=${(event) => onInput(number(event))} onChange=${(event) => onChange?.(number(event))} />
  </div>`;
}

async function photo(body, model, { signal }) {
  const started = performance.now();
  const answer = await call(`/api/models/${encodeURIComponent(model).replaceAll("%2F", "/")}/predict`, {
    method: "POST",
    body,
    signal,
  });
  const said = await answer.json();
  return { frames: said.images, said, took: performance.now() - started, done: true };
}

// Entries arrive one per frame; the picture of the video is drawn from those that are here.
async function film(body, model, { signal }, show) {
  const started = performance.now();
  const frames = [];
  const path = `/api/models/${encodeURIComponent(model).replaceAll("%2F", "/")}/predict`;
  const headers = { accept: "application/x-ndjson" };
  for await (const line of lines(path, { method: "POST", body, headers, signal })) {
    if (line.error) throw new Error(line.error);
    const entry = line.images ? line.images[0] : line;
    if (!entry?.results) continue;
    frames.push(entry);
    if (frames.length % 4 === 1) show({ frames: [...frames], said: entry, took: performance.now() - started, done: false });
  }
  show({ frames, said: { images: frames.slice(0, 3) }, took: performance.now() - started, done: true });
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

function Drop({ onFile }) {
  const [over, setOver] = useState(false);
  const drop = (event) => {
    event.preventDefault();
    setOver(false);
    onFile(event.dataTransfer.files[0]);
  };
  return html`<label
    class="drop ${over ? "over" : ""}"
    onDragOver=${(event) => (event.preventDefault(), setOver(true))}
    onDragLeave=${() => setOver(false)}
    onDrop=${drop}
  >
    <input type="file" class="hidden-input" accept="image/*,video/*" onChange=${(e) => onFile(e.target.files[0])} />
    <span class="drop-icon" aria-hidden="true">⬒</span>
    <strong>Drop a photo or video here</strong>
    <span>or choose a file, paste from the clipboard, or use the camera. It stays on this server.</span>
  </label>`;
}

function Result({ shot, answer, busy, conf, onFile }) {
  const [active, setActive] = useState(null);
  const [view, setView] = useState("Objects");
  const [at, setAt] = useState(0);
  const frames = answer?.frames ?? [];
  const frame = frames[Math.min(at, frames.length - 1)];
  const items = (frame?.results ?? []).filter((item) => !item.box || item.confidence > conf);
  const drop = (event) => (event.preventDefault(), onFile(event.dataTransfer.files[0]));
  return html`<div class="result" onDragOver=${(event) => event.preventDefault()} onDrop=${drop}>
    <div class="card stage-card">
      <${Stage} shot=${shot} frame=${frame} frames=${frames} items=${items} active=${active} onActive=${setActive} onFrame=${setAt} />
      <div class="row between timing">
        <span role="status">${busy ? progress(frames) : summary(items, frame)}</span>
        <label class="button quiet">Another <input type="file" class="hidden-input" accept="image/*,video/*" onChange=${(e) => onFile(e.target.files[0])} /></label>
      </div>
      ${frame && html`<${Timing} frame=${frame} took=${answer.took} count=${frames.length} />`}
    </div>
    <div class="card found">
      <${Tabs} names=${["Objects", "JSON"]} value=${view} onChange=${setView} label="Result" />
      ${view === "JSON"
        ? html`<pre class="json" tabindex="0">${answer ? short(answer.said) : ""}</pre>`
        : html`<${List} items=${items} active=${active} onActive=${setActive} busy=${busy} />`}
    </div>
  </div>`;
}

function progress(frames) {
  return frames.length ? `Looking … ${many(frames.length, "frame")}` : "Looking …";
}

function summary(items, frame) {
  if (!frame) return "";
  if (frame.depth) return "Depth map: near is bright.";
  if (!items.length) return "Nothing above this confidence.";
  if (!items[0].box) return `${items[0].name} (${percent(items[0].confidence)})`;
  const counts = new Map();
  for (const { name } of items) counts.set(name, (counts.get(name) ?? 0) + 1);
  return [...counts].map(([name, count]) => `${count} ${name}`).join(", ");
}

function short(said) {
  const cut = (name, value) =>
    Array.isArray(value) && value.length > 24 && typeof value[0] === "number" ? [...value.slice(0, 12), `… ${value.length - 12} more`]
    : name === "data" && typeof value === "string" && value.length > 200 ? `${value.slice(0, 60)}… (${value.length} characters)`
    : value;
  return JSON.stringify(said, cut, 2);
}

function Stage({ shot, frame, frames, items, active, onActive, onFrame }) {
  const canvas = useRef();
  const video = useRef();
  const shape = frame?.shape;
  useEffect(() => {
    const paint = () => shape && canvas.current && draw(canvas.current, items, shape, active);
    paint();
    const watch = new ResizeObserver(paint);
    watch.observe(canvas.current);
    return () => watch.disconnect();
  });
  useEffect(() => {
    const film = video.current;
    if (!film || !frames.length) return undefined;
    let ask;
    const follow = () => {
      const index = Math.floor((film.currentTime / (film.duration || 1)) * frames.length);
      onFrame(Math.min(index, frames.length - 1));
      ask = requestAnimationFrame(follow);
    };
    follow();
    return () => cancelAnimationFrame(ask);
  }, [frames.length]);
  const over = (event) => {
    if (!shape) return;
    const where = canvas.current.getBoundingClientRect();
    const scale = shape[1] / where.width;
    onActive(hit(items, (event.clientX - where.left) * scale, (event.clientY - where.top) * scale));
  };
  const depth = frame?.depth?.data;
  return html`<div class="stage" onPointerMove=${over} onPointerLeave=${() => onActive(null)}>
    ${shot.video
      ? html`<video ref=${video} src=${shot.url} controls muted loop autoplay playsinline></video>`
      : html`<img src=${depth ? `data:image/png;base64,${depth}` : shot.url} alt="The picture that was looked at" />`}
    <canvas ref=${canvas} class=${shot.video ? "through" : ""} aria-hidden="true"></canvas>
  </div>`;
}

function Timing({ frame, took, count }) {
  const { preprocess, inference, postprocess } = frame.speed;
  const total = preprocess + inference + postprocess || 1;
  const parts = [["prepare", preprocess], ["network", inference], ["read", postprocess]];
  return html`<div class="spent">
    <div class="bar" aria-hidden="true">${parts.map(([name, ms]) => html`<i class="bar-${name}" style=${{ width: `${(100 * ms) / total}%` }}></i>`)}</div>
    <p>${parts.map(([name, ms]) => html`<span class="key key-${name}">${name} ${ms.toFixed(1)} ms</span> `)}
      <span>${count > 1 ? `${many(count, "frame")} in ${(took / 1000).toFixed(1)} s` : `answered in ${took.toFixed(0)} ms`}</span>
      <span>${frame.shape[1]} × ${frame.shape[0]}</span></p>
  </div>`;
}

function List({ items, active, onActive, busy }) {
  if (!items.length) return busy ? null : html`<${Empty}>No objects to list.<//>`;
  return html`<ul class="list">
    ${items.map(
      (item, index) => html`<li class=${active === index ? "active" : ""}>
        <button
          onPointerEnter=${() => onActive(index)}
          onPointerLeave=${() => onActive(null)}
          onFocus=${() => onActive(index)}
          onBlur=${() => onActive(null)}
        >
          <i class="swatch" style=${{ background: colour(item.class) }}></i>
          <span class="name">${item.track_id != null ? `#${item.track_id} ` : ""}${item.name}</span>
          <span class="meter" aria-hidden="true"><i style=${{ width: percent(item.confidence), background: colour(item.class) }}></i></span>
          <span class="score">${percent(item.confidence)}</span>
        </button>
      </li>`,
    )}
  </ul>`;
}

function Camera({ onShot }) {
  const view = useRef();
  const [error, setError] = useState(null);
  useEffect(() => {
    let stream;
    const open = async () => {
      try {
        stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment", width: SMALL_SCREEN } });
        view.current.srcObject = stream;
      } catch {
        setError(new Error("The camera cannot be used. Browsers allow it on https pages and on localhost, after you agree."));
      }
    };
    open();
    return () => stream?.getTracks().forEach((track) => track.stop());
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
    <video ref=${view} autoplay muted playsinline></video>
    <button class="primary" onClick=${shoot}>Take photo</button>
  </section>`;
}
