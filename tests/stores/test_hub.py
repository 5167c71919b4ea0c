"""Fetching from a Hugging Face Hub that runs on this machine."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import pytest

from saccade.errors import CorruptFiles, UnknownModel, Unreachable, UnsupportedModel
from saccade.library import Library
from saccade.stores.hub import Hub
from stores.toy import DETECTOR, hub_folder, onnx_file

pytest.importorskip("huggingface_hub", reason="pip install 'saccade[hub]'")

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LARGE = (".safetensors", ".onnx", ".bin")


class Fake:
    """Repositories by id; ``asked`` lists the files that were asked for, ``proposals`` whose files a pull request to a
    repository has; None: it takes no discussions."""

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.lies: dict[str, bytes] = {}
        self.private: set[str] = set()
        self.proposals: dict[str, str | None] = {}
        self.asked: list[str] = []
        self.url = ""

    def information(self, repo: str) -> dict[str, object]:
        siblings = []
        for name, content in self.repositories[repo].items():
            entry: dict[str, object] = {"rfilename": name, "size": len(content)}
            entry["blobId"] = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            if name.endswith(LARGE):
                sha256 = hashlib.sha256(content).hexdigest()
                entry["lfs"] = {"sha256": sha256, "size": len(content), "pointerSize": 130}
            siblings.append(entry)
        return {"id": repo, "sha": COMMIT, "siblings": siblings, "cardData": {"license": "apache-2.0"}, "tags": []}

    def discussions(self, repo: str) -> dict[str, object]:
        """One pull request by the Hub's converter where there is a proposal."""
        one = {
            "num": 7,
            "title": "Adding `safetensors` variant of this model",
            "author": {"name": "SFconvertbot"},
            "status": "open",
            "isPullRequest": True,
            "createdAt": "2023-03-01T00:00:00.000Z",
            "repo": {"name": repo, "type": "model"},
        }
        found = [one] if repo in self.proposals else []
        return {"discussions": found, "count": len(found), "start": 0}

    def handler(fake) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *words: object) -> None: ...

            def do_HEAD(self) -> None:
                self.do_GET()

            def do_GET(self) -> None:
                path = self.path.partition("?")[0].strip("/").split("/")
                repo = "/".join(path[2:4] if path[0] == "api" else path[:2])
                if repo in fake.private and self.headers.get("Authorization") != "Bearer hf_right":
                    return self.answer(401, b"{}", {"X-Error-Code": "RepoNotFound"})
                if repo not in fake.repositories:
                    return self.answer(401, b"{}", {"X-Error-Code": "RepoNotFound"})
                if path[0] == "api" and path[4:5] == ["discussions"] and fake.proposals.get(repo, "") is None:
                    return self.answer(403, b"{}")
                if path[0] == "api" and path[4:5] == ["discussions"]:
                    return self.answer(200, json.dumps(fake.discussions(repo)).encode())
                if path[0] == "api" and unquote(path[-1]) == "refs/pr/7":
                    return self.answer(200, json.dumps(fake.information(fake.proposals[repo] or "")).encode())
                if path[0] == "api":
                    if len(path) > 5 and path[5] not in ("main", COMMIT):
                        return self.answer(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
                    return self.answer(200, json.dumps(fake.information(repo)).encode())
                name = "/".join(path[4:])
                content = fake.repositories[repo].get(name)
                if content is None:
                    return self.answer(404, b"", {"X-Error-Code": "EntryNotFound"})
                if self.command == "GET":
                    fake.asked.append(name)
                etag = hashlib.sha256(content).hexdigest()
                return self.answer(200, fake.lies.get(name, content), {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT})

            def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
                self.send_response(status)
                for name, value in (headers or {}).items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

        return Handler


@pytest.fixture
def fake() -> Iterator[Fake]:
    made = Fake()
    server = ThreadingHTTPServer(("127.0.0.1", 0), made.handler())
    made.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield made
    server.shutdown()
    server.server_close()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_repository_arrives_with_its_facts_and_without_its_pickles_and_code(tmp_path: Path, fake: Fake) -> None:
    source = hub_folder(tmp_path / "source")
    fake.repositories["google/vit"] = {
        **contents(source),
        "pytorch_model.bin": b"pickle",
        "modeling_evil.py": b"raise SystemExit",
        "README.md": b"# hello",
    }
    seen: list[tuple[str, int, int | None]] = []
    hub = Hub(tmp_path / "home" / "models", endpoint=fake.url)
    library = Library(tmp_path / "home", sources=[hub])
    card = hub.pull("google/vit", lambda *facts: seen.append(facts))
    assert (card.name, card.task, card.licence, card.revision) == ("google/vit", "classify", "apache-2.0", COMMIT[:12])
    assert sorted(fake.asked) == ["config.json", "model.safetensors", "preprocessor_config.json"]
    assert card.labels == {0: "cat", 1: "dog"}
    assert seen[-1][:2] == ("model.safetensors", len(contents(source)["model.safetensors"]))
    assert library.card("google/vit") == card
    kept = {path.name for path in (tmp_path / "home" / "models" / "google").rglob("*")}
    assert kept == {"vit", "vit.json", "config.json", "model.safetensors", "preprocessor_config.json"}
    library.remove("google/vit")
    assert library.cards() == []


def test_a_ready_graph_is_preferred_to_weights(tmp_path: Path, fake: Fake) -> None:
    source = hub_folder(tmp_path / "source")
    onnx_file(source / "onnx" / "model.onnx", [(1, 2)])
    fake.repositories["me/vit"] = contents(source)
    card = Hub(tmp_path / "home", endpoint=fake.url).pull("me/vit")
    assert (card.runtime, Path(card.files[0]).name) == ("openvino", "model.onnx")
    assert "model.safetensors" not in fake.asked


@pytest.mark.parametrize("names", [("_data",), (".data",), ("_data", "_data_1")])
def test_a_graphs_weights_arrive_with_it(tmp_path: Path, fake: Fake, names: tuple[str, ...]) -> None:
    source = hub_folder(tmp_path / "source")
    onnx_file(source / "onnx" / "model.onnx", [(1, 2)])
    beside = [f"model.onnx{name}" for name in names]
    for file in (*beside, "model_fp16.onnx_data"):
        (source / "onnx" / file).write_bytes(b"weights")
    fake.repositories["me/vit"] = contents(source)
    card = Hub(tmp_path / "home", endpoint=fake.url).pull("me/vit")
    here = Path(card.files[0]).parent
    assert sorted(path.name for path in here.iterdir()) == ["model.onnx", *beside]


def test_a_segmenter_that_is_told_its_task_in_words_arrives_with_its_tokenizer(tmp_path: Path, fake: Fake) -> None:
    source = hub_folder(tmp_path / "source", "OneFormerForUniversalSegmentation")
    onnx_file(source / "onnx" / "model.onnx", [(1, 2)])
    words = {"vocab.json": b"{}", "merges.txt": b"#version: 0.2"}
    fake.repositories["me/oneformer"] = {**contents(source), **words}
    card = Hub(tmp_path / "home", endpoint=fake.url).pull("me/oneformer")
    assert (card.task, card.family, card.runtime) == ("segment", "oneformer", "torch")
    assert set(words) <= {Path(file).name for file in card.files}


def test_a_lone_exported_graph_without_configuration_is_taken_as_a_file(tmp_path: Path, fake: Fake) -> None:
    graph = onnx_file(tmp_path / "best.onnx", metadata=DETECTOR).read_bytes()
    fake.repositories["me/helmets"] = {"best.onnx": graph, "best.pt": b"pickle", "README.md": b"x"}
    card = Hub(tmp_path / "home", endpoint=fake.url).pull("me/helmets")
    assert (card.name, card.family) == ("me/helmets", "yolo")
    assert fake.asked == ["best.onnx"]


def test_shards_are_fetched_by_their_table_and_only_from_the_repositorys_root(tmp_path: Path, fake: Fake) -> None:
    source = contents(hub_folder(tmp_path / "source"))
    shard = source.pop("model.safetensors")
    name = "model-00001-of-00001.safetensors"
    table = json.dumps({"weight_map": {"w": name}}).encode()
    fake.repositories["me/large"] = {**source, name: shard, "model.safetensors.index.json": table}
    assert name in [Path(file).name for file in Hub(tmp_path / "home", endpoint=fake.url).pull("me/large").files]
    evil = json.dumps({"weight_map": {"w": "../../evil.safetensors"}}).encode()
    fake.repositories["me/evil"] = {**source, name: shard, "model.safetensors.index.json": evil}
    with pytest.raises(CorruptFiles, match="does not have"):
        Hub(tmp_path / "home", endpoint=fake.url).pull("me/evil")


def test_pickles_and_unknown_architectures_are_refused_before_weights_travel(tmp_path: Path, fake: Fake) -> None:
    source = contents(hub_folder(tmp_path / "source"))
    weights = source.pop("model.safetensors")
    fake.repositories["me/pickled"] = {**source, "pytorch_model.bin": b"x"}
    llama = contents(hub_folder(tmp_path / "llama", "LlamaForCausalLM"))
    fake.repositories["me/llama"] = {**llama, "model.safetensors": weights}
    fake.repositories["me/empty"] = {"README.md": b"x"}
    fake.repositories["me/adapter"] = {**source, "adapter_config.json": b"{}", "adapter_model.safetensors": weights}
    hub = Hub(tmp_path / "home", endpoint=fake.url)
    for name, words in (
        ("me/pickled", "any code"),
        ("me/llama", "LlamaForCausalLM"),
        ("me/empty", r"no config\.json"),
        ("me/adapter", r"holds an adapter \(PEFT\)"),
    ):
        with pytest.raises(UnsupportedModel, match=words):
            hub.pull(name)
    assert "model.safetensors" not in fake.asked
    assert "pytorch_model.bin" not in fake.asked


def test_a_checkpoint_without_its_processor_is_refused_before_weights_travel(tmp_path: Path, fake: Fake) -> None:
    files = contents(hub_folder(tmp_path / "source"))
    del files["preprocessor_config.json"]
    fake.repositories["owner/vit"] = files
    hub = Hub(tmp_path / "home", endpoint=fake.url)
    with pytest.raises(CorruptFiles, match="'owner/vit' has no preprocessor_config"):
        hub.pull("owner/vit")
    assert fake.asked == ["config.json"]
    assert hub.find("owner/vit") is None
    config = json.loads(files["config.json"])
    for name, beside in {
        "timm": {"config.json": json.dumps({**config, "pretrained_cfg": {}}).encode()},
        "ready": {"model.onnx": onnx_file(tmp_path / "model.onnx").read_bytes()},
    }.items():
        fake.repositories[f"owner/{name}"] = {**files, **beside}
        assert hub.pull(f"owner/{name}").name == f"owner/{name}"


def test_bytes_that_differ_from_the_listed_hash_are_refused(tmp_path: Path, fake: Fake) -> None:
    source = contents(hub_folder(tmp_path / "source"))
    fake.repositories["me/vit"] = source
    whole = source["model.safetensors"]
    fake.lies["model.safetensors"] = whole[:-1] + bytes([whole[-1] ^ 1])
    hub = Hub(tmp_path / "home", endpoint=fake.url)
    with pytest.raises(CorruptFiles, match="not what the Hub lists"):
        hub.pull("me/vit")
    assert hub.find("me/vit") is None
    fake.lies.clear()
    assert hub.pull("me/vit").name == "me/vit"


def test_private_models_need_the_right_token(tmp_path: Path, fake: Fake) -> None:
    fake.repositories["me/secret"] = contents(hub_folder(tmp_path / "source"))
    fake.private.add("me/secret")
    with pytest.raises(UnknownModel, match="set HF_TOKEN"):
        Hub(tmp_path / "home", endpoint=fake.url).pull("me/secret")
    with pytest.raises(UnknownModel, match="no access") as caught:
        Hub(tmp_path / "home", token="hf_wrong", endpoint=fake.url).pull("me/secret")
    assert "hf_wrong" not in str(caught.value)
    assert Hub(tmp_path / "home", token="hf_right", endpoint=fake.url).pull("me/secret").name == "me/secret"


def test_revisions_are_models_of_their_own(tmp_path: Path, fake: Fake) -> None:
    fake.repositories["me/vit"] = contents(hub_folder(tmp_path / "source"))
    hub = Hub(tmp_path / "home", endpoint=fake.url)
    assert hub.pull(f"me/vit@{COMMIT}").name == f"me/vit@{COMMIT}"
    with pytest.raises(UnknownModel, match="revision"):
        hub.pull("me/vit@v9")
    assert hub.find("me/vit") is None


def test_a_hub_that_does_not_answer_is_said_to_be_unreachable(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match=r"does not answer.*--models"):
        Hub(tmp_path, endpoint="http://127.0.0.1:9").pull("google/vit")


def test_the_hub_is_asked_only_when_a_person_pulls(tmp_path: Path, fake: Fake) -> None:
    library = Library(tmp_path, sources=[Hub(tmp_path / "models", endpoint=fake.url)])
    with pytest.raises(UnknownModel, match="saccade pull google/vit"):
        library.card("google/vit", fetch=True)
    for name in ("google", "a/b/c", "../x", "a/../b", "https://x/y", "a/b@c@d"):
        with pytest.raises(UnknownModel):
            library.pull(name)
    assert not fake.asked


def test_a_model_of_pictures_and_texts_comes_as_weights_with_its_tokenizer(tmp_path: Path, fake: Fake) -> None:
    source = contents(hub_folder(tmp_path / "source", "CLIPModel"))
    source.pop("preprocessor_config.json", None)
    together = json.dumps({"image_processor": {"image_processor_type": "CLIPImageProcessor"}}).encode()
    words = {"tokenizer.json": b"{}", "vocab.json": b"{}", "merges.txt": b"#", "processor_config.json": together}
    fake.repositories["openai/clip"] = {**source, **words, "onnx/model.onnx": b"graph", "tf_model.h5": b"x"}
    card = Hub(tmp_path / "home", endpoint=fake.url).pull("openai/clip")
    assert sorted(fake.asked) == ["config.json", "merges.txt", "model.safetensors", *sorted(words)[1:]]
    assert (card.task, card.family, card.runtime) == ("zero-shot-classify", "clip", "torch")
    assert card.config["preprocessor"] == {"image_processor_type": "CLIPImageProcessor"}
    assert {Path(file).name for file in card.files} >= {"tokenizer.json", "vocab.json", "merges.txt"}
    assert card.labels == {}


def test_ready_graphs_alone_are_not_enough_for_a_model_of_pictures_and_texts(tmp_path: Path, fake: Fake) -> None:
    source = contents(hub_folder(tmp_path / "source", "SiglipModel"))
    del source["model.safetensors"]
    fake.repositories["me/graphs"] = {**source, "onnx/model.onnx": b"graph"}
    with pytest.raises(UnsupportedModel, match=r"holds ready graphs only; a model of its kind is made of model\.safe"):
        Hub(tmp_path / "home", endpoint=fake.url).pull("me/graphs")
    assert "onnx/model.onnx" not in fake.asked


def test_a_conversion_that_waits_in_a_pull_request_is_named_and_can_be_pulled(tmp_path: Path, fake: Fake) -> None:
    source = contents(hub_folder(tmp_path / "source"))
    whole = source.pop("model.safetensors")
    fake.repositories |= {
        "me/old": {**source, "pytorch_model.bin": b"x"},
        "the/proposal": {**source, "model.safetensors": whole},
    }
    hub = Hub(tmp_path / "home", endpoint=fake.url)
    for fake.proposals in ({}, {"me/old": None}):
        with pytest.raises(UnsupportedModel, match="Pickles can run any code"):
            hub.pull("me/old")
    fake.proposals["me/old"] = "the/proposal"
    with pytest.raises(UnsupportedModel, match=f"fetch: saccade pull me/old@{COMMIT}"):
        hub.pull("me/old")
    assert "pytorch_model.bin" not in fake.asked
    fake.repositories["me/old"]["model.safetensors"] = whole
    assert hub.pull(f"me/old@{COMMIT}").runtime == "torch"


def test_who_pulls_a_model_that_somebody_else_is_fetching_waits_for_it(tmp_path: Path, fake: Fake) -> None:
    """As the starts of two servers on one home do; the second used to delete what the first one had brought."""
    fake.repositories["me/vit"] = contents(hub_folder(tmp_path / "source"))
    begun, go_on = threading.Event(), threading.Event()

    def slow(what: str, done: int, total: int | None) -> None:
        if what == "model.safetensors":
            begun.set()
            go_on.wait(20)

    with ThreadPoolExecutor() as pool:
        first = pool.submit(Hub(tmp_path / "home" / "models", endpoint=fake.url).pull, "me/vit", slow)
        assert begun.wait(20)
        second = pool.submit(Hub(tmp_path / "home" / "models", endpoint=fake.url).pull, "me/vit")
        with contextlib.suppress(TimeoutError):
            second.exception(1.0)  # a second is enough to come as far as the first
        go_on.set()
        assert first.result(30) == second.result(30)
    assert fake.asked.count("config.json") == 1
    assert Hub(tmp_path / "home" / "models").find("me/vit") == first.result()


def test_what_was_begun_of_an_older_commit_is_deleted_when_a_newer_one_is_fetched(tmp_path: Path, fake: Fake) -> None:
    fake.repositories["me/vit"] = contents(hub_folder(tmp_path / "source"))
    drafts = tmp_path / "home" / "models" / ".drafts"
    former, others = drafts / f"me--vit-{COMMIT[::-1]}", drafts / f"me--vit-large-{COMMIT[::-1]}"
    for draft in (former, others):
        draft.mkdir(parents=True)
        (draft / "model.safetensors").write_bytes(b"half of it")
    Hub(tmp_path / "home" / "models", endpoint=fake.url).pull("me/vit")
    assert [draft.name for draft in drafts.iterdir()] == [others.name]
