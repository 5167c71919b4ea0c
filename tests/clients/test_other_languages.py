"""Programs in other languages, with the HTTP libraries that people use there, against one server.

Each sends the same: a form to HUB, a photo in chunks to the Hugging Face API, the latter with an object without members
as its language writes it, an upload that is too large and whose length is not announced, and the photo again.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.clients.environments import environment, node_folder, run, run_node
from tests.clients.houses import Served, canned

pytestmark = pytest.mark.heavy

LIMIT = 4 << 20

JAVA = r"""
import java.io.*; import java.net.*; import java.net.http.*; import java.nio.file.*; import java.util.*;
public class Program {
  static String url; static HttpClient client = HttpClient.newHttpClient();
  static String sent(String path, String type, HttpRequest.BodyPublisher body) throws Exception {
    var asked = HttpRequest.newBuilder(URI.create(url + path)).header("Content-Type", type).POST(body).build();
    var answer = client.send(asked, HttpResponse.BodyHandlers.ofString());
    return "[" + answer.statusCode() + "," + answer.body() + "]";
  }
  static HttpRequest.BodyPublisher stream(byte[] bytes) {
    return HttpRequest.BodyPublishers.ofInputStream(() -> new ByteArrayInputStream(bytes));
  }
  public static void main(String[] given) throws Exception {
    url = given[0];
    byte[] photo = Files.readAllBytes(Path.of(given[1]));
    String text = Base64.getMimeEncoder().encodeToString(photo).replace("\r\n", "\\r\\n"), edge = "--edge\r\n";
    String named = "Content-Disposition: form-data; name=\"";
    var form = new ByteArrayOutputStream();
    form.write((edge + named + "model\"\r\n\r\nyolo11n\r\n" + edge + named + "conf\"\r\n\r\n0.5\r\n").getBytes());
    form.write((edge + named + "file\"; filename=\"é.jpg\"\r\nContent-Type: image/jpeg\r\n\r\n").getBytes());
    form.write(photo);
    form.write("\r\n--edge--\r\n".getBytes());
    var whole = HttpRequest.BodyPublishers.ofByteArray(form.toByteArray());
    System.out.println("[" + String.join(",",
      sent("/", "multipart/form-data; boundary=\"edge\"", whole),
      sent("/models/yolo11n", "image/jpeg", stream(photo)),
      sent("/models/yolo11n", "application/json", HttpRequest.BodyPublishers.ofString(
        "{\"inputs\":\"" + text + "\",\"parameters\":{}}")),
      sent("/models/yolo11n", "image/jpeg", stream(new byte[8 << 20])),
      sent("/models/yolo11n", "image/jpeg", stream(photo))) + "]");
  }
}
"""

PERL = r"""
use HTTP::Tiny; use JSON::PP; use MIME::Base64;
my ($url, $file) = @ARGV;
open my $handle, '<:raw', $file; my $photo = do { local $/; <$handle> };
my $client = HTTP::Tiny->new;
sub sent { my ($path, $type, $body) = @_;
  my $answer = $client->post($url . $path, { headers => { 'Content-Type' => $type }, content => $body });
  return [ int($answer->{status}), decode_json($answer->{content}) ]; }
sub pieces { my ($bytes, $at) = (shift, 0);
  return sub { my $piece = substr($bytes, $at, 65536) // ''; $at += length $piece; return $piece } }
my $named = "--edge\r\nContent-Disposition: form-data; name=";
my $form = qq($named"model"\r\n\r\nyolo11n\r\n$named"conf"\r\n\r\n0.5\r\n);
$form .= qq($named"file"; filename="a.jpg"\r\n\r\n$photo\r\n--edge--);
print encode_json([
  sent('/', 'multipart/form-data; boundary=edge', $form),
  sent('/models/yolo11n', 'image/jpeg', pieces($photo)),
  sent('/models/yolo11n', 'application/json', encode_json({ inputs => encode_base64($photo), parameters => {} })),
  sent('/models/yolo11n', 'image/jpeg', pieces("\0" x (8 << 20))),
  sent('/models/yolo11n', 'image/jpeg', pieces($photo))]);
"""

PHP = r"""<?php
[, $url, $file] = $argv;
$client = curl_init();
function sent($path, $body, $more = []) {
  global $url, $client;
  curl_reset($client);
  curl_setopt_array($client, [CURLOPT_URL => $url . $path, CURLOPT_RETURNTRANSFER => true, CURLOPT_POST => true]);
  curl_setopt_array($client, $more);
  if ($body !== null) curl_setopt($client, CURLOPT_POSTFIELDS, $body);
  $answer = curl_exec($client);
  return [curl_getinfo($client, CURLINFO_HTTP_CODE), json_decode($answer, true)];
}
function pieces($bytes) {
  $stream = fopen('php://memory', 'r+b'); fwrite($stream, $bytes); rewind($stream);
  return [CURLOPT_HTTPHEADER => ['Transfer-Encoding: chunked'],
    CURLOPT_READFUNCTION => fn($client, $unused, $size) => (string) fread($stream, $size)];
}
$photo = file_get_contents($file);
$json = json_encode(['inputs' => chunk_split(base64_encode($photo)), 'parameters' => [], 'options' => []]);
echo json_encode([
  sent('/', ['file' => new CURLFile($file, 'image/jpeg', 'a.jpg'), 'model' => 'yolo11n', 'conf' => 0.5]),
  sent('/models/yolo11n', null, pieces($photo)),
  sent('/models/yolo11n', $json, [CURLOPT_HTTPHEADER => ['Content-Type: application/json']]),
  sent('/models/yolo11n', null, pieces(str_repeat("\0", 8 << 20))),
  sent('/models/yolo11n', null, pieces($photo))]);
"""

RUBY = r"""
require 'net/http'; require 'json'; require 'base64'; require 'stringio'
url, file = URI(ARGV[0]), ARGV[1]
photo = File.binread(file)
client = Net::HTTP.start(url.host, url.port)
sent = lambda do |path, type = nil, &made|
  asked = Net::HTTP::Post.new(path, type ? { 'Content-Type' => type } : {})
  made.call(asked)
  answer = client.request(asked)
  [answer.code.to_i, JSON.parse(answer.body)]
end
pieces = ->(bytes) { ->(asked) { asked['Transfer-Encoding'] = 'chunked'; asked.body_stream = StringIO.new(bytes) } }
form = [['file', File.open(file, 'rb')], ['model', 'yolo11n'], ['conf', '0.5']]
puts JSON.generate([
  sent.('/') { |asked| asked.set_form(form, 'multipart/form-data') },
  sent.('/models/yolo11n', 'image/jpeg', &pieces.(photo)),
  sent.('/models/yolo11n', 'application/json') do |asked|
    asked.body = { inputs: Base64.encode64(photo), parameters: {} }.to_json
  end,
  sent.('/models/yolo11n', 'image/jpeg', &pieces.("\0" * (8 << 20))),
  sent.('/models/yolo11n', 'image/jpeg', &pieces.(photo))])
"""

AXIOS = r"""
import axios from "axios";
import { createReadStream, readFileSync } from "node:fs";
import { Readable } from "node:stream";
const [url, file] = process.argv.slice(1);
const client = axios.create({ baseURL: url, validateStatus: null, maxRedirects: 0 });
const sent = async (path, body, type) => {
  const answer = await client.post(path, body, { headers: type ? { "content-type": type } : {} });
  return [answer.status, answer.data];
};
const form = { file: createReadStream(file), model: "yolo11n", conf: 0.5 };
const pieces = (bytes) => Readable.from((function* () {
  for (let at = 0; at < bytes.length; at += 65536) yield bytes.subarray(at, at + 65536);
})());
console.log(JSON.stringify([
  await sent("/", form, "multipart/form-data"),
  await sent("/models/yolo11n", createReadStream(file), "image/jpeg"),
  await sent("/models/yolo11n", { inputs: readFileSync(file, "base64"), parameters: {} }),
  await sent("/models/yolo11n", pieces(Buffer.alloc(8 << 20)), "image/jpeg"),
  await sent("/models/yolo11n", createReadStream(file), "image/jpeg"),
]));
"""

AIOHTTP = """
import aiohttp, asyncio, base64, json, sys
async def main(url, file):
    photo = open(file, "rb").read()
    async def pieces(data):
        for at in range(0, len(data), 65536):
            yield data[at : at + 65536]
    async with aiohttp.ClientSession(url) as client:
        async def sent(path, **body):
            async with client.post(path, **body) as answer:
                return [answer.status, await answer.json()]
        form = aiohttp.FormData({"model": "yolo11n", "conf": "0.5"})
        form.add_field("file", photo, filename="é.jpg")
        print(json.dumps([
            await sent("/", data=form, compress="deflate"),
            await sent("/models/yolo11n", data=pieces(photo), expect100=True),
            await sent("/models/yolo11n", json={"inputs": base64.encodebytes(photo).decode(), "parameters": {}}),
            await sent("/models/yolo11n", data=pieces(bytes(8 << 20))),
            await sent("/models/yolo11n", data=pieces(photo)),
        ]))
asyncio.run(main(*sys.argv[1:]))
"""

INSTALLED = {
    "java": (("java",), "Program.java", JAVA, ("java", "-version")),
    "perl": (("perl",), "program.pl", PERL, ("perl", "-MHTTP::Tiny", "-MJSON::PP", "-e1")),
    "php": (("php",), "program.php", PHP, ("php", "-r", "exit(function_exists('curl_init') ? 0 : 1);")),
    "ruby": (("ruby",), "program.rb", RUBY, ("ruby", "-v")),
}
"""How each is run, its file and its text, and what succeeds where it can be run."""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with canned(tmp_path_factory.mktemp("house"), max_body_bytes=LIMIT) as served:
        yield served


def check(answers: Any) -> None:
    """What every program gets."""
    form, whole, written, refused, again = answers
    assert (form[0], len(form[1]["images"][0]["results"])) == (200, 2)
    assert (whole[0], [row["label"] for row in whole[1]]) == (200, ["cat", "couch"])
    assert whole == written == again
    assert refused[0] == 413
    assert f"> limit {LIMIT}" in refused[1]["error"]


@pytest.mark.parametrize("language", INSTALLED)
def test_a_program_with_what_its_language_brings(house: Served, picture: Path, tmp_path: Path, language: str) -> None:
    command, name, text, probe = INSTALLED[language]
    if shutil.which(probe[0]) is None or subprocess.run(probe, capture_output=True).returncode:
        pytest.skip(f"{language} is not installed here, or not with what the program needs")
    (tmp_path / name).write_text(text)
    done = subprocess.run(
        [*command, str(tmp_path / name), house.url, str(picture)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "NO_PROXY": "*", "no_proxy": "*"},
    )
    assert done.returncode == 0, done.stderr[-4000:]
    check(json.loads(done.stdout))


def test_a_program_with_axios(house: Served, picture: Path) -> None:
    check(json.loads(run_node(node_folder("axios-1.21.1", "axios@1.21.1"), AXIOS, house.url, str(picture))))


def test_a_program_with_aiohttp(house: Served, picture: Path) -> None:
    check(json.loads(run(environment("aiohttp", "aiohttp==3.14.5"), AIOHTTP, house.url, str(picture))))
