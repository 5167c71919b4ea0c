// Ready-to-copy programs for each API, with this server's address and the chosen model.
import { html, useState, Copy, Tabs } from "./ui.js";
import { inPath, origin } from "./api.js";

const APIS = ["Hugging Face", "YOLO v1", "HUB", "Platform"];
const LANGUAGES = ["Python", "JavaScript", "cURL"];

// labels: what a zero-shot model is told to look for; null for other models.
export function Snippets({ model, url = origin, dedicated = false, labels = null }) {
  const [api, setApi] = useState(APIS[0]);
  const [language, setLanguage] = useState(LANGUAGES[0]);
  const apis = dedicated ? APIS.filter((name) => name !== "YOLO v1") : APIS;
  const text = program(api, language, model, url, dedicated, labels);
  return html`<section class="card snippets" aria-label="Ready-to-copy code">
    <div class="row between">
      <${Tabs} names=${apis} value=${api} onChange=${setApi} label="API" />
      <${Tabs} names=${LANGUAGES} value=${language} onChange=${setLanguage} label="Language" />
    </div>
    <div class="code">
      <pre tabindex="0"><code>${text}</code></pre>
      <${Copy} key=${text} text=${text} />
    </div>
  </section>`;
}

// How each API is addressed: where to post, what to send, and the header that carries the key.
export function program(api, language, model, url, dedicated, labels = null) {
  const wanted = labels === null ? "" : `?candidate_labels=${encodeURIComponent(labels)}`;
  const told = (fields) => (labels === null ? fields : { candidate_labels: labels });
  const face = {
    "Hugging Face": { url: (dedicated ? url : `${url}/models/${inPath(model)}`) + wanted, raw: true, auth: ["Authorization", "Bearer API_KEY"] },
    "YOLO v1": {
      url: `${url}/v1/predict/${inPath(model)}`,
      file: "image",
      fields: told({ size: 640, confidence: 0.25, iou: 0.45 }),
      auth: ["x-api-key", "API_KEY"],
    },
    HUB: {
      url,
      file: "file",
      fields: { ...(dedicated ? {} : { model }), ...told({ imgsz: 640, conf: 0.25, iou: 0.45 }) },
      auth: ["x-api-key", "API_KEY"],
    },
    Platform: {
      url: dedicated ? `${url}/predict` : `${url}/api/models/${inPath(model)}/predict`,
      file: "file",
      fields: told({ conf: 0.25, iou: 0.7 }),
      auth: ["Authorization", "Bearer API_KEY"],
    },
  }[api];
  return { Python: python, JavaScript: javascript, cURL: curl }[language](face);
}

function python({ url, raw, file, fields, auth }) {
  const start = `import requests\n\nurl = "${url}"\nheaders = {"${auth[0]}": "${auth[1]}"}\n`;
  if (raw)
    return `${start}
with open("photo.jpg", "rb") as f:
    response = requests.post(url, headers=headers, data=f.read())

print(response.json())`;
  return `${start}data = ${dictionary(fields)}

with open("photo.jpg", "rb") as image_file:
    files = {"${file}": image_file}
    response = requests.post(url, headers=headers, files=files, data=data)

print(response.json())`;
}

function dictionary(fields) {
  const pairs = Object.entries(fields).map(([name, value]) => `"${name}": ${JSON.stringify(value)}`);
  return `{${pairs.join(", ")}}`;
}

function javascript({ url, raw, file, fields, auth }) {
  const form = raw
    ? `const body = await (await import("node:fs/promises")).readFile("photo.jpg");`
    : [
        `import { openAsBlob } from "node:fs";\n`,
        `const body = new FormData();`,
        `body.append("${file}", await openAsBlob("photo.jpg"));`,
        ...Object.entries(fields).map(([name, value]) => `body.append("${name}", ${JSON.stringify(value)});`),
      ].join("\n");
  return `${form}

const response = await fetch("${url}", {
  method: "POST",
  headers: { "${auth[0]}": "${auth[1]}" },
  body,
});
console.log(JSON.stringify(await response.json(), null, 2));`;
}

function curl({ url, raw, file, fields, auth }) {
  const start = `curl -X POST ${quoted(url)} \\\n  -H "${auth[0]}: ${auth[1]}"`;
  if (raw) return `${start} \\\n  --data-binary @photo.jpg`;
  // In -F these signs say more than themselves.
  const parts = Object.entries(fields).map(([name, value]) => `  ${/[;"@<]/.test(value) ? "--form-string" : "-F"} ${quoted(`${name}=${value}`)}`);
  return [start, `  -F "${file}=@photo.jpg"`, ...parts].join(" \\\n");
}

// A word for a shell, which finds nothing to run in it.
function quoted(text) {
  return `"${text.replace(/["\\$`]/g, "\\$&")}"`;
}
