"""A folder in the layout of a Hugging Face repository → Card: config.json, weights, preprocessor_config.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from saccade import imageprocessor
from saccade.card import MASK, Json
from saccade.errors import CorruptFiles, UnsupportedModel
from saccade.stores import architectures, graph, recognise
from saccade.stores import labels as shared

GRAPHS: tuple[str, ...] = ("openvino_model.xml", "onnx/model.onnx", "model.onnx")
"""Ready graphs, best first; they open faster than weights that must be converted."""
PLAIN = "model.safetensors"
SHARDED = "model.safetensors.index.json"
WEIGHTS = (*GRAPHS, SHARDED, PLAIN)
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json", "model.pt", "pytorch_model.pt")
CONFIG, PREPROCESSOR, PROCESSOR = "config.json", "preprocessor_config.json", "processor_config.json"
ADAPTER = "adapter_config.json"
"""What PEFT writes beside weights that only change another model's."""
TELLING = ("architectures", "model_type", "pretrained_cfg")
"""Keys of which every config.json of the Hub has one."""
OTHER_WEIGHTS = ("*.safetensors", "*.onnx", "onnx/*.onnx", "*.h5", "*.msgpack", "*.gguf")
"""Where other programs look for weights."""
TOKENIZER = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.json", "merges.txt", "spiece.model", "tokenizer.model"),
)
"""Files of which a tokenizer is made; a repository has some of them."""
HEADER_LIMIT = 100_000_000
"""The safetensors format allows no longer header."""


class Repository(msgspec.Struct, frozen=True, kw_only=True):
    """What the folder holds, in a Card's words; ``files`` starts with the graph or the weights."""

    architecture: architectures.Architecture
    runtime: str
    files: tuple[Path, ...]
    labels: dict[int, str]
    config: dict[str, Json]


def read(folder: Path, name: str) -> Repository:
    """The facts of the repository in ``folder``.

    Raises:
        CorruptFiles: a file is missing, damaged or cut off.
        UnsupportedModel: no family reads its architecture, or its weights are pickles.
    """
    is_whole = (folder / CONFIG).is_file() and any((folder / file).is_file() for file in WEIGHTS)
    if (folder / ADAPTER).is_file() and not is_whole:
        raise adapter(name)
    config = document(folder / CONFIG, name)
    known = architecture(config, name)
    runtime, files, header = weights(folder, name, () if known.words else GRAPHS)
    extra, preprocessor = processor(folder, name, config)
    tokens = [folder / file for file in TOKENIZER if known.words and (folder / file).is_file()]
    names: list[Json] = [*architectures.named(config)]
    if header is not None and preprocessor is not None:
        check_size(header, files[0].name, preprocessor, name)
        check_mask(header, files[0].name, preprocessor, name)
    return Repository(
        architecture=known,
        runtime=runtime,
        files=(*files, folder / CONFIG, *extra, *tokens),
        labels={} if known.task == "zero-shot-classify" else labels(config),
        config={"config": {**config, "architectures": names}, "preprocessor": preprocessor},
    )


def architecture(config: Mapping[str, Any], name: str) -> architectures.Architecture:
    """Of the classes that the configuration names, the first that a family reads. Raises UnsupportedModel."""
    names = architectures.named(config)
    if not names:
        raise UnsupportedModel(
            f"The {CONFIG} of '{name}' names no class. Write under \"architectures\" the one that the weights are of, "
            'such as ["ViTForImageClassification"].'
        )
    known = next((found for item in names if (found := architectures.find(item)) is not None), None)
    if known is not None:
        return known
    what = ", ".join(names)
    why = next((f"which {architectures.REFUSED[item]}" for item in names if item in architectures.REFUSED), None)
    raise UnsupportedModel(f"'{name}' is of the architecture {what}, {why or 'which no family reads'}.")


def processor(folder: Path, name: str, config: Mapping[str, Any]) -> tuple[tuple[Path, ...], dict[str, Any] | None]:
    """How pictures are prepared, and the file that says so: of its own, or the one of pictures and texts together;
    timm says it in the configuration."""
    path = folder / PREPROCESSOR
    if path.is_file():
        written = document(path, name)
        usual = PREPARED.get(str(config.get("model_type")))
        if usual and imageprocessor.kind_of(written) is None:
            written["image_processor_type"] = f"{usual}ImageProcessor"
        return (path,), written
    path = folder / PROCESSOR
    found = document(path, name).get("image_processor") if path.is_file() else None
    if isinstance(found, dict):
        return (path,), found
    return (), {"pretrained_cfg": config["pretrained_cfg"]} if "pretrained_cfg" in config else None


PREPARED: Mapping[str, str] = {
    **{kind.lower(): kind for kind in ("Beit", "Bit", "ConvNext", "DeiT", "EfficientNet", "GLPN", "Levit")},
    **{kind.lower(): kind for kind in ("MaskFormer", "MobileViT", "Perceiver", "PoolFormer", "Pvt", "TextNet")},
    "yolos": "Yolos",
    **dict.fromkeys(("convnextv2", "cvt", "regnet", "resnet"), "ConvNext"),
    **dict.fromkeys(("dinov2", "focalnet", "hiera", "pixio"), "Bit"),
    "conditional_detr": "ConditionalDetr",
    "data2vec-vision": "Beit",
    "deformable_detr": "DeformableDetr",
    "detr": "Detr",
    "dpt": "DPT",
    "lw_detr": "DeformableDetr",
    "mobilenet_v1": "MobileNetV1",
    "mobilenet_v2": "MobileNetV2",
    "mobilevitv2": "MobileViT",
    "pp_lcnet": "PPLCNet",
    "pvt_v2": "Pvt",
    "sapiens2": "Sapiens2",
    "tipsv2_dpt": "Tipsv2Dpt",
}
"""By ``model_type``: the class of processor, where the file names none and the family's usual one is another."""


def adapter(name: str) -> UnsupportedModel:
    return UnsupportedModel(
        f"'{name}' holds an adapter (PEFT), which only changes another model. Merge the two with "
        "merge_and_unload(), save what comes of it with save_pretrained(), and the image processor beside it."
    )


def unprepared(name: str) -> CorruptFiles:
    """Nothing says how the pictures of a checkpoint are prepared: a guess would be answered, and be wrong for most."""
    return CorruptFiles(
        f"'{name}' has no {PREPROCESSOR}, which says how its pictures are prepared. Save that of the model that it was "
        "trained from beside its config.json: AutoImageProcessor.from_pretrained(MODEL).save_pretrained(FOLDER)."
    )


def weights(
    folder: Path, name: str, graphs: tuple[str, ...] = GRAPHS
) -> tuple[str, tuple[Path, ...], graph.Header | None]:
    """The runtime and its files, checked for completeness, and what an ONNX graph among them tells; ``graphs`` are the
    ready ones that can be used."""
    for ready in graphs:
        path = folder / ready
        if path.is_file() and path.suffix == ".xml":
            partner = path.with_suffix(".bin")
            return "openvino", (path, *((partner,) if partner.is_file() else ())), None
        if path.is_file():
            header = graph.onnx(path)
            return "openvino", (path, *(graph.weights(path, location) for location in header.external)), header
    if (folder / SHARDED).is_file():
        table = document(folder / SHARDED, name).get("weight_map")
        shards = sorted({Path(str(shard)).name for shard in table.values()}) if isinstance(table, dict) else []
        if shards:
            return "torch", tuple(whole(folder / shard, name) for shard in shards), None
    if (folder / PLAIN).is_file():
        return "torch", (whole(folder / PLAIN, name),), None
    if any((folder / pickle).is_file() for pickle in PICKLES):
        raise UnsupportedModel(
            f"'{name}' holds its weights as a pickle only, which can run any code when it is opened, so saccade never "
            f"opens it. Get a revision with {PLAIN}, or save one with save_pretrained(safe_serialization=True)."
        )
    if any((folder / ready).is_file() for ready in GRAPHS):
        raise UnsupportedModel(
            f"'{name}' holds ready graphs only; a model of its kind is made of {PLAIN}. Get that file."
        )
    others = sorted(str(path.relative_to(folder)) for form in OTHER_WEIGHTS for path in folder.glob(form))
    instead = f", and cannot use its {', '.join(others[:5])}" if others else ""
    raise CorruptFiles(
        f"'{name}' has a {CONFIG} but no weights{instead}; expected {PLAIN} or {GRAPHS[0]} or {GRAPHS[2]}. "
        "Fetch one of them, or give that name to the .onnx or .safetensors file that is to be used."
    )


def check_size(header: graph.Header, file: str, preprocessor: Mapping[str, Any], name: str) -> None:
    """Raises UnsupportedModel if a ready graph takes pictures of one size, and no picture is brought to it: then every
    call would fail, as it does in the pipelines of transformers."""
    port, hw = recognise.image_input(header), recognise.image_hw(header)
    if hw is None or port is None or None in port.shape[1:]:
        return
    if imageprocessor.kind_of(preprocessor) not in imageprocessor.KINDS:  # its family tells, or knows better
        return
    try:
        made = imageprocessor.of(preprocessor).prepared_hw(hw)
    except UnsupportedModel:  # likewise
        return
    if made != hw:
        raise UnsupportedModel(
            f"The graph {file} of '{name}' takes pictures of {hw[0]}×{hw[1]} pixels, and its {PREPROCESSOR} makes "
            f"them {made[0]}×{made[1]}. Write the graph's size there, or export the graph anew for this or any size."
        )


def check_mask(header: graph.Header, file: str, preprocessor: Mapping[str, Any], name: str) -> None:
    """Raises UnsupportedModel if pictures are padded and a ready graph cannot be told where: boxes would be off."""
    if MASK in [port.name for port in header.inputs]:
        return
    try:
        masks = imageprocessor.of(preprocessor).masks
    except UnsupportedModel:  # its family tells, or knows better
        return
    if masks:
        raise UnsupportedModel(
            f"The {PREPROCESSOR} of '{name}' pads pictures (pad_size), and its graph {file} has no input {MASK} that "
            f"tells where. Leave it out, so that a graph is made of {PLAIN}, or export it anew with that input."
        )


def whole(path: Path, name: str) -> Path:
    """The safetensors file itself, if its length is what its header says."""
    if not path.is_file():
        raise CorruptFiles(f"'{name}' lacks its file {path.name}. Fetch it again.")
    found = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(HEADER_LIMIT, found):
            raise CorruptFiles(f"{path.name} of '{name}' is not a safetensors file, or is cut off. Fetch it again.")
        header = file.read(length)
    try:
        entries = json.loads(header)
        ends = [entry["data_offsets"][1] for key, entry in entries.items() if key != "__metadata__"]
        expected = 8 + length + max(ends, default=0)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        raise CorruptFiles(f"The header of {path.name} of '{name}' is damaged. Fetch it again.") from error
    if found != expected:
        raise CorruptFiles(
            f"{path.name} of '{name}' has {found} bytes, but its header describes {expected}. Fetch it again."
        )
    return path


def document(path: Path, name: str) -> dict[str, Any]:
    """A JSON object out of a file."""
    try:
        found = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise CorruptFiles(f"{path.name} of '{name}' is not JSON. Fetch it again.") from error
    if not isinstance(found, dict):
        raise CorruptFiles(f"{path.name} of '{name}' is not a JSON object. Fetch it again.")
    return found


def labels(config: dict[str, Any]) -> dict[int, str]:
    """``id2label``, or timm's ``label_names``; without them, transformers counts LABEL_0, LABEL_1, …"""
    written = config.get("id2label")
    names = config.get("label_names") if "pretrained_cfg" in config else None
    if isinstance(names, list) and names:
        return {number: str(label) for number, label in enumerate(names)}
    if written:
        try:
            return {int(number): str(label) for number, label in written.items()}
        except (ValueError, AttributeError):
            raise CorruptFiles(
                'id2label in config.json does not lead from class numbers to names, as in {"0": "cat", "1": "dog"}.'
            ) from None
    count = config.get("num_labels") or config.get("num_classes") or 2
    return shared.numbered("LABEL_", count if isinstance(count, int) else 2)
