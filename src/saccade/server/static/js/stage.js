// The picture or video that was looked at, with what was found drawn over it.
import { html, useEffect, useRef, useState } from "./ui.js";
import { draw, hit } from "./draw.js";
import { Classes, useClasses } from "./classes.js";

const MOST_ENLARGED = 3; // small pictures are shown larger, up to so many times
const FRAME_S = 0.1; // of a still film that tells no time
const MOST_STEP_S = 1; // what is longer is a jump

// A shot has a stage of its own: give it shot.url as its key.
// shot: {file, url, kind: "photo" | "film" | "gif", plain?: url of the picture as the server decoded it, or ""}
export function Stage({ shot, frame, frames, whole, items, active, failed: refused, onActive, onFrame, onUnseen }) {
  const canvas = useRef();
  const [size, setSize] = useState(null);
  const [unseen, setUnseen] = useState(false);
  const shape = frame?.shape;
  const classes = useClasses(frame?.semantic_mask);
  useEffect(() => {
    const paint = () => {
      if (!canvas.current) return;
      if (shape) draw(canvas.current, items, shape, active);
      else canvas.current.getContext("2d").clearRect(0, 0, canvas.current.width, canvas.current.height);
    };
    paint();
    const watch = new ResizeObserver(paint);
    watch.observe(canvas.current);
    return () => watch.disconnect();
  });
  const over = (event) => {
    if (!shape) return;
    const where = canvas.current.getBoundingClientRect();
    const scale = shape[1] / where.width;
    const [x, y] = [(event.clientX - where.left) * scale, (event.clientY - where.top) * scale];
    onActive(classes ? classes.hit(items, x, y) : hit(items, x, y));
  };
  const seen = (width, height) => {
    if (width && height) setSize([height, width]);
  };
  const failed = () => {
    setUnseen(true);
    onUnseen();
  };
  // What the browser shows must be what the server saw: some formats it cannot draw, of some it ignores the rotation.
  const turned = shot.kind === "photo" && size && shape && !shot.plain && Math.abs(size[1] / size[0] - shape[1] / shape[0]) > 0.02 * (shape[1] / shape[0]);
  useEffect(() => void (turned && failed()), [turned]);
  const [height, width] = shape ?? size ?? [0, 0];
  const source = frame?.depth?.data ? `data:image/png;base64,${frame.depth.data}` : (shot.plain ?? shot.url);
  const style = width ? { "--wide": width, "--ratio": width / height, "--most": MOST_ENLARGED } : {};
  return html`<div class="stage ${width ? "sized" : ""}" style=${style} onPointerMove=${over} onPointerLeave=${() => onActive(null)}>
    ${shot.kind === "film" && !unseen && html`<${Film} url=${shot.url} count=${frames.length} whole=${whole} onFrame=${onFrame} onSize=${seen} onFail=${failed} />`}
    ${shot.kind === "gif" && !unseen && html`<${Gif} file=${shot.file} count=${frames.length} whole=${whole} onFrame=${onFrame} onSize=${seen} onFail=${failed} />`}
    ${shot.kind === "photo" && source && !(unseen && !shot.plain) && html`<img src=${source} alt="The picture that was looked at" onLoad=${(event) => seen(event.target.naturalWidth, event.target.naturalHeight)} onError=${failed} />`}
    ${classes && html`<${Classes} classes=${classes} active=${items[active]?.class} />`}
    <canvas ref=${canvas} class="overlay ${shot.kind === "film" ? "through" : ""}" aria-hidden="true"></canvas>
    ${unseen && !shot.plain && !refused && html`<p class="unseen">${shot.kind === "photo" && shot.plain === undefined ? "Waiting for the server's view of it …" : "This browser cannot show the file. What was found in it is drawn all the same."}</p>`}
  </div>
  ${shot.kind !== "photo" && unseen && frames.length > 1 && html`<${Scrub} frames=${frames} onFrame=${onFrame} />`}`;
}

// A video that the browser plays; the frame that is told follows its time.
// whole: whether all frames are here; before that nothing tells how many there will be, and the pace of those that the
// browser shows says which one it is.
function Film({ url, count, whole, onFrame, onSize, onFail }) {
  const video = useRef();
  const pace = usePace(video);
  useEffect(() => {
    const film = video.current;
    if (!film || !count) return undefined;
    let ask;
    const follow = () => {
      const timed = whole && Number.isFinite(film.duration) && film.duration > 0;
      const index = Math.floor(timed ? (film.currentTime / film.duration) * count : film.currentTime / pace() + 0.5);
      onFrame(known(index, count, whole));
      ask = requestAnimationFrame(follow);
    };
    follow();
    return () => cancelAnimationFrame(ask);
  }, [count, whole]);
  const sized = () => (video.current.videoWidth ? onSize(video.current.videoWidth, video.current.videoHeight) : onFail());
  return html`<video ref=${video} src=${url} controls muted loop autoplay playsinline onLoadedMetadata=${sized} onError=${onFail}></video>`;
}

// The frame that an index means; -1: one that has not come yet.
function known(index, count, whole) {
  return index < count ? index : whole ? Math.max(0, count - 1) : -1;
}

// Seconds from one frame of a playing video to the next: the mean, where the shortest tells how many one was left out.
function usePace(video) {
  const seen = useRef({ last: null, least: Infinity, frames: 0, time: 0 });
  useEffect(() => {
    const film = video.current;
    if (!film?.requestVideoFrameCallback) return undefined;
    let ask;
    const note = (_, { mediaTime }) => {
      const now = seen.current;
      const step = mediaTime - (now.last ?? mediaTime);
      now.last = mediaTime;
      if (step > 0 && step < MOST_STEP_S) {
        now.least = Math.min(now.least, step);
        now.frames += Math.round(step / now.least);
        now.time += step;
      }
      ask = film.requestVideoFrameCallback(note);
    };
    ask = film.requestVideoFrameCallback(note);
    return () => film.cancelVideoFrameCallback(ask);
  }, []);
  return () => (seen.current.frames ? seen.current.time / seen.current.frames : FRAME_S);
}

// A GIF, drawn frame by frame, because nobody can ask an <img> which frame it shows.
function Gif({ file, count, whole, onFrame, onSize, onFail }) {
  const canvas = useRef();
  const now = useRef();
  now.current = (index) => onFrame(known(index, count, whole));
  useEffect(() => {
    let gone = false;
    const play = async () => {
      const paint = (image, width, height) => {
        canvas.current.width = width;
        canvas.current.height = height;
        canvas.current.getContext("2d").drawImage(image, 0, 0);
        onSize(width, height);
      };
      if (!window.ImageDecoder) {
        const still = await createImageBitmap(file);
        return gone || paint(still, still.width, still.height);
      }
      const decoder = new ImageDecoder({ data: await file.arrayBuffer(), type: "image/gif" });
      await Promise.all([decoder.completed, decoder.tracks.ready]);
      const total = decoder.tracks.selectedTrack.frameCount;
      for (let index = 0; !gone; index = (index + 1) % total) {
        const { image } = await decoder.decode({ frameIndex: index });
        if (gone) return image.close();
        paint(image, image.displayWidth, image.displayHeight);
        now.current(index);
        const pause = (image.duration ?? FRAME_S * 1e6) / 1e3;
        image.close();
        if (total === 1) return undefined;
        await new Promise((wake) => setTimeout(wake, pause));
      }
      return undefined;
    };
    play().catch(onFail);
    return () => {
      gone = true;
    };
  }, [file]);
  return html`<canvas ref=${canvas} class="picture" role="img" aria-label="The animation that was looked at"></canvas>`;
}

function Scrub({ frames, onFrame }) {
  const [at, setAt] = useState(0);
  const move = (event) => {
    setAt(Number(event.target.value));
    onFrame(Number(event.target.value));
  };
  return html`<label class="scrub">Frame ${at + 1} of ${frames.length}
    <input type="range" min="0" max=${frames.length - 1} value=${at} onInput=${move} /></label>`;
}
