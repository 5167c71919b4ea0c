"""Checkpoints become graphs once, are checked, kept, and refused in words."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import msgspec
import pytest
from tests.convert.graphs import Graphs, python

import saccade
from saccade.card import Card
from saccade.convert import START, Converter
from saccade.errors import BadSettings, CorruptFiles, MissingExtra, RunFailed, SetupError
from saccade.stores.local import Local
from saccade.stores.store import silent


class Steps:
    """A Progress that remembers."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def __call__(self, what: str, done: int, total: int | None) -> None:
        self.told.append(what)


def test_a_converting_process_does_not_outlive_whoever_started_it() -> None:
    command = [sys.executable, "-c", START, str(Path(saccade.__file__).parent), "0"]  # by now another is its parent
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=20)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@pytest.mark.heavy
def test_a_graph_is_made_once_with_progress_and_a_report(data: Path, graphs: Graphs, tmp_path: Path) -> None:
    card = graphs.card(data / "models" / "hf-tiny" / "yolos")
    converter, steps, others = Converter(tmp_path, python=str(python()), threads=2), Steps(), Steps()
    with ThreadPoolExecutor() as pool:
        made, same = pool.map(lambda mine: converter.convert(card, mine), (steps, others))
    assert same == made
    assert made.runtime == "openvino"
    assert not (steps.told and others.told), "it was made twice"
    steps.told += others.told
    assert any("checking" in told for told in steps.told)
    report = made.config["certificate"]
    assert isinstance(report, dict)
    assert report["f32"]["share"] > 0.99
    assert (Path(made.files[0]).parent / "report.json").is_file()
    again = Steps()
    assert converter.convert(card, again) == made
    assert again.told == []


@pytest.mark.heavy
def test_a_checkpoint_with_missing_weights_is_refused(data: Path, graphs: Graphs, tmp_path: Path) -> None:
    folder = tmp_path / "halved"
    shutil.copytree(data / "models" / "hf-tiny" / "vit", folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": config["num_hidden_layers"] + 1}))
    with pytest.raises(CorruptFiles, match=r"lacks [0-9]+ weights"):
        graphs.converted(folder)


@pytest.mark.heavy
def test_weights_that_do_not_fit_their_configuration_are_named(data: Path, graphs: Graphs, tmp_path: Path) -> None:
    folder = tmp_path / "vit"
    shutil.copytree(data / "models" / "hf-tiny" / "vit", folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "id2label": {"0": "cat"}, "label2id": {"cat": 0}}))
    with pytest.raises(
        CorruptFiles, match=r"classifier\.bias has the shape \[10\], and would have \[1\] by the config"
    ):
        graphs.converted(folder)


@pytest.mark.heavy
@pytest.mark.parametrize(("backbone", "timm"), [("owner/backbone", False), ("hf-hub:owner/backbone", True)])
def test_a_backbone_that_lies_on_the_hub_is_asked_of_nobody(
    backbone: str, timm: bool, data: Path, graphs: Graphs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "detr"
    shutil.copytree(data / "models" / "hf-tiny" / "detr", folder)
    config = json.loads((folder / "config.json").read_text())
    told = {"backbone": backbone, "use_timm_backbone": timm, "use_pretrained_backbone": True}
    (folder / "config.json").write_text(json.dumps({**config, "backbone_config": None, **told}))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    asked: list[str] = []

    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        do_GET = do_HEAD

    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as hub:
        threading.Thread(target=hub.serve_forever, daemon=True).start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{hub.server_port}")
        with pytest.raises(CorruptFiles) as caught:
            graphs.converted(folder)
        hub.shutdown()
    assert asked == []
    assert "owner/backbone" in caught.value.message
    assert "saccade does not ask of its own accord" in caught.value.message


@pytest.mark.heavy
def test_what_does_not_convert_stays_a_checkpoint_with_the_reason(data: Path, graphs: Graphs, tmp_path: Path) -> None:
    folder = tmp_path / "unheard-of"
    shutil.copytree(data / "models" / "hf-tiny" / "vit", folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "architectures": ["GrenadineForImageClassification"]}))
    card = graphs.converted(folder)
    assert card.runtime == "torch"
    assert "GrenadineForImageClassification" in str(card.config["unconverted"])


def test_without_the_extra_the_message_names_it(data: Path, tmp_path: Path) -> None:
    card = Local([data / "models" / "hf-tiny" / "vit"]).find("vit")
    assert card is not None
    try:
        import torch  # noqa: F401
    except ImportError:
        with pytest.raises(MissingExtra, match=r"saccade\[transformers\]"):
            Converter(tmp_path).convert(card)
    else:
        pytest.skip("torch is installed here")


@pytest.mark.parametrize(
    ("ends", "says"),
    [
        ("sys.exit(\"ModuleNotFoundError: No module named 'msgspec'\")", "has not all that converting 'vit' needs"),
        ('print(\'{"outcome": {"error": "MissingExtra", "extra": "timm"}}\')', r".*\[timm\]'"),
        ("", "cannot be started: No such file or directory"),
    ],
)
def test_another_python_that_cannot_convert_is_told_as_such(data: Path, tmp_path: Path, ends: str, says: str) -> None:
    card = Local([data / "models" / "hf-tiny" / "vit"]).find("vit")
    assert card is not None
    other = tmp_path / "python"
    if ends:
        other.write_text(f"#!{sys.executable}\nimport sys\nsys.stdin.read()\n{ends}\n")
        other.chmod(0o755)
    with pytest.raises(SetupError, match=f"'converter_python' {says}"):
        Converter(tmp_path, python=str(other)).convert(card)


def test_a_process_that_dies_is_reported_with_its_last_words(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "saccade")
    card = Local([data / "models" / "hf-tiny" / "vit"]).find("vit")
    assert card is not None
    broken = tmp_path / "python"
    broken.write_text(f"#!{sys.executable}\nimport sys\nsys.stdin.read()\nsys.exit('the dog ate it')\n")
    broken.chmod(0o755)
    with pytest.raises(RunFailed, match="the dog ate it"):
        Converter(tmp_path, python=str(broken)).convert(card)
    assert list((tmp_path / "graphs").iterdir()) == []
    assert "the checkpoint 'vit'" in caplog.text  # what takes minutes is told before it begins


TOLD = """
import json, os, sys
job = json.load(sys.stdin)
"""


def told(tmp_path: Path, script: str) -> Path:
    """A program in the place of the converting Python."""
    made = tmp_path / "python"
    made.write_text(f"#!{sys.executable}\n{TOLD}{script}")
    made.chmod(0o755)
    return made


def vit(data: Path) -> Card:
    card = Local([data / "models" / "hf-tiny" / "vit"]).find("vit")
    assert card is not None
    return card


def test_a_way_of_converting_that_crashes_is_left_out_the_next_time(data: Path, tmp_path: Path) -> None:
    crashing = told(
        tmp_path,
        """
way = job["ways"][0]
print(json.dumps({"what": f"converting ({way})", "way": way}), flush=True)
os.kill(os.getpid(), {"openvino": 8, "onnx": 11}[way])
""",
    )
    steps = Steps()
    card = Converter(tmp_path, python=str(crashing)).convert(vit(data), steps)
    assert steps.told == ["converting (openvino)", "converting (onnx)"]
    assert card.runtime == "torch"
    reason = str(card.config["unconverted"])
    assert "openvino: the process crashed (SIGFPE); onnx: the process crashed (SIGSEGV)" in reason


def test_a_crash_before_any_way_is_tried_is_an_error(data: Path, tmp_path: Path) -> None:
    crashing = told(tmp_path, "os.kill(os.getpid(), 11)")
    with pytest.raises(RunFailed, match="ended early"):
        Converter(tmp_path, python=str(crashing)).convert(vit(data))


def test_what_does_not_take_the_pictures_of_its_family_is_left_to_its_own_processor(data: Path, tmp_path: Path) -> None:
    refusing = told(tmp_path, 'print(json.dumps({"outcome": {"error": "UnsupportedModel", "unfed": True}}))')
    card = Converter(tmp_path, python=str(refusing)).convert(vit(data))
    assert (card.runtime, card.family) == ("torch", "transformers")


def test_the_graph_of_a_checkpoint_that_was_written_over_is_deleted(data: Path, tmp_path: Path) -> None:
    refusing = told(tmp_path, 'print(json.dumps({"outcome": {"error": "UnsupportedModel"}}))')
    converter, card = Converter(tmp_path, python=str(refusing)), vit(data)
    larger = msgspec.structs.replace(card, name="vit-large")
    written_over = msgspec.structs.replace(card, revision="0123456789ab")
    noted = msgspec.structs.replace(card, revision="v1")
    for one in (card, larger, noted, written_over):
        converter.convert(one)
    elsewhere = msgspec.structs.replace(card, revision="ba9876543210", files=("/other/vit/model.safetensors",))
    converter.convert(elsewhere)
    kept = {converter.folder(one) for one in (larger, noted, written_over, elsewhere)}
    assert set((tmp_path / "graphs").iterdir()) == kept


def test_labels_that_only_the_checkpoint_knows_come_with_its_graph(data: Path, tmp_path: Path) -> None:
    knowing = told(
        tmp_path,
        """
for name in ("model.xml", "model.bin"):
    open(os.path.join(job["folder"], name), "w").close()
same = {"share": 1.0, "score": 0.0, "compared": 1}
print(json.dumps({"outcome": {"report": {
    "way": "openvino", "dynamic": False, "images": 4, "input_hw": [64, 64], "f32": same, "auto": same,
    "numbers": {"largest_error": 0.0, "largest_value": 1.0}, "precision": "auto", "torch": "2", "transformers": "5",
    "seconds": 1.0, "labels": {"0": "tench", "1": "goldfish"},
}}}))
""",
    )
    assert Converter(tmp_path, python=str(knowing)).convert(vit(data)).labels == {0: "tench", 1: "goldfish"}


@pytest.mark.heavy
def test_pictures_that_need_no_padding_do_not_make_a_graph_that_cannot_pad(
    data: Path, graphs: Graphs, tmp_path: Path
) -> None:
    folder = tmp_path / "maskformer"
    shutil.copytree(data / "models" / "hf-tiny" / "maskformer-swin", folder)
    preprocessor = json.loads((folder / "preprocessor_config.json").read_text())
    size = {"shortest_edge": 128, "longest_edge": 256}
    (folder / "preprocessor_config.json").write_text(json.dumps({**preprocessor, "size": size}))
    images = [str(data / "images" / "tiny" / name) for name in ("c.png", "a.png", "b.png")]
    converter = Converter(tmp_path, graphs.converter.python, images, threads=2)
    card = converter.convert(graphs.card(folder))
    assert card.runtime == "openvino", card.config.get("unconverted")
    report = card.config["certificate"]
    assert isinstance(report, dict)
    assert (report["way"], report["images"]) == ("openvino", 3)


@pytest.mark.heavy
def test_a_picture_that_is_none_is_named(data: Path, graphs: Graphs, tmp_path: Path) -> None:
    (tmp_path / "notes.jpg").write_text("no picture")
    converter = Converter(tmp_path, graphs.converter.python, [str(tmp_path / "notes.jpg")])
    with pytest.raises(BadSettings, match=r"'notes\.jpg' of the setting 'converter_images'"):
        converter.convert(vit(data))


def test_what_is_no_checkpoint_needs_no_conversion(data: Path, tmp_path: Path) -> None:
    card = Local([data / "models" / "hf-tiny" / "vit"]).find("vit")
    assert card is not None
    graph = msgspec.structs.replace(card, runtime="openvino")
    assert Converter(tmp_path).convert(graph, silent) is graph


def test_what_a_killed_conversion_left_is_deleted_by_the_next(data: Path, tmp_path: Path) -> None:
    killing = told(tmp_path, "import signal; os.kill(os.getppid(), signal.SIGKILL)")
    program = (
        "import sys; from pathlib import Path; from saccade.convert import Converter; from saccade.stores.local import "
        "Local; Converter(Path(sys.argv[1]), python=sys.argv[2]).convert(Local([Path(sys.argv[3])]).find('vit'))"
    )
    where = data / "models" / "hf-tiny" / "vit"
    killed = subprocess.run([sys.executable, "-c", program, str(tmp_path), str(killing), str(where)], check=False)
    assert killed.returncode == -9
    assert list((tmp_path / "graphs").iterdir())
    refusing = told(tmp_path, 'print(json.dumps({"outcome": {"error": "UnsupportedModel"}}))')
    converter = Converter(tmp_path, python=str(refusing))
    converter.convert(vit(data))
    assert list((tmp_path / "graphs").iterdir()) == [converter.folder(vit(data))]
