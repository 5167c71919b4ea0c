"""What a graph file says of itself before it is opened: inputs, outputs, metadata. No runtime, no weights read.

ONNX files are protobuf messages (onnx.proto3 of the ONNX project); the few fields that matter are walked over here,
and everything else is stepped over by its length, so that a file of gigabytes costs a few pages. OpenVINO IR is XML.
"""

from __future__ import annotations

import ast
import mmap
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

from saccade.errors import CorruptFiles

Buffer = mmap.mmap | bytes

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5

MODEL_GRAPH, MODEL_METADATA = 7, 14
GRAPH_NODE, GRAPH_INITIALIZER, GRAPH_INPUT, GRAPH_OUTPUT = 1, 5, 11, 12
TENSOR_NAME, TENSOR_EXTERNAL = 8, 13
"""Field numbers of onnx.proto3."""

LEADING: Mapping[str, Mapping[int, str]] = {
    "model": {MODEL_GRAPH: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {GRAPH_NODE: "node", GRAPH_INITIALIZER: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {TENSOR_EXTERNAL: "entry"},
}
"""By kind of message: the fields in which tensors lie, or messages with tensors, and of which kind these are."""
LOCATION, GLANCE = b"location", 4096
"""What stands before the name of a file, and how long a message may be to be looked through for it at once, which is
faster than to walk over its fields: about a page, so that no weights are read that need not be."""
DEEPEST = 100
"""Messages within one another; protobuf itself reads no more."""

YAML = "metadata.yaml"
"""Where ultralytics writes the metadata of exports that cannot hold it."""

IR_TYPES = {"f32": "float32", "f16": "float16", "u8": "uint8", "i64": "int64", "i32": "int32", "FP32": "float32"}
ONNX_TYPES = {1: "float32", 2: "uint8", 6: "int32", 7: "int64", 10: "float16", 11: "float64", 16: "bfloat16"}


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output: None in ``shape`` is a size that is known only when the graph runs."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str = ""

    def __str__(self) -> str:
        return f"{self.name or '?'} [{','.join('?' if size is None else str(size) for size in self.shape)}]"


@dataclass(frozen=True, slots=True)
class Header:
    """``metadata`` are the exporter's own strings; ``external`` names files beside the graph that hold weights."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    metadata: dict[str, str] = field(default_factory=dict)
    external: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"inputs {', '.join(map(str, self.inputs))}; outputs {', '.join(map(str, self.outputs))}"


def onnx(path: Path) -> Header:
    """The header of an ONNX file.

    Raises:
        CorruptFiles: the file is empty, cut off or something else than ONNX.
    """
    if path.stat().st_size == 0:
        raise CorruptFiles(f"'{path.name}' is empty (0 bytes). Copy the file again.")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as buffer:
        try:
            header = onnx_model(buffer)
        except (ValueError, IndexError) as error:
            raise CorruptFiles(
                f"'{path.name}' is not a whole ONNX model: {error}. Copy or export the file again."
            ) from error
    return header


def weights(path: Path, location: str) -> Path:
    """The file beside an ONNX graph that holds weights; it must lie in the graph's own folder.

    Raises:
        CorruptFiles: it lies elsewhere, or nowhere.
    """
    found = path.parent / location
    if str(PurePosixPath(location)) != found.name:  # "./weights" is the same as "weights"
        raise CorruptFiles(f"'{path.name}' keeps weights outside its folder, which is not allowed.")
    if not found.is_file():
        raise CorruptFiles(f"'{path.name}' needs its weights '{found.name}' beside it, which are missing.")
    return found


def onnx_model(buffer: Buffer) -> Header:
    """ModelProto → Header. Raises ValueError or IndexError where the bytes make no sense."""
    metadata: dict[str, str] = {}
    graph: tuple[int, int] | None = None
    for number, start, end in blocks(buffer, 0, len(buffer)):
        if number == MODEL_GRAPH:
            graph = (start, end)
        elif number == MODEL_METADATA:
            entry = strings(buffer, start, end)
            metadata[entry.get(1, "")] = entry.get(2, "")
    if graph is None:
        raise ValueError("it holds no graph")
    external = dict.fromkeys(onnx_external(buffer, "model", 0, len(buffer)))
    return onnx_graph(buffer, *graph, metadata, tuple(external))


def onnx_external(buffer: Buffer, kind: str, begin: int, end: int, depth: int = 0) -> Iterator[str]:
    """The files that hold the numbers of tensors, also of those in functions, branches and loops."""
    if depth > DEEPEST:
        raise ValueError(f"it holds more than {DEEPEST} graphs within graphs")
    leading = LEADING[kind]
    for number, start, stop in blocks(buffer, begin, end):
        inner = leading.get(number)
        if inner == "entry":
            entry = strings(buffer, start, stop)
            if entry.get(1) == LOCATION.decode():
                yield entry.get(2, "")
        elif inner is not None and (stop - start > GLANCE or buffer.find(LOCATION, start, stop) >= 0):
            yield from onnx_external(buffer, inner, start, stop, depth + 1)


def onnx_graph(
    buffer: Buffer, begin: int, end: int, metadata: dict[str, str], external: tuple[str, ...] = ()
) -> Header:
    """GraphProto → Header; weights that old exporters list among the inputs are left out."""
    inputs: list[Port] = []
    outputs: list[Port] = []
    weights: set[str] = set()
    for number, start, stop in blocks(buffer, begin, end):
        if number == GRAPH_INPUT:
            inputs.append(onnx_port(buffer, start, stop))
        elif number == GRAPH_OUTPUT:
            outputs.append(onnx_port(buffer, start, stop))
        elif number == GRAPH_INITIALIZER:
            named = (field for field in blocks(buffer, start, stop) if field[0] == TENSOR_NAME)
            weights.update(text(buffer, first, last) for _, first, last in named)
    if not outputs:
        raise ValueError("its graph has no outputs")
    return Header(tuple(port for port in inputs if port.name not in weights), tuple(outputs), metadata, external)


def onnx_port(buffer: Buffer, begin: int, end: int) -> Port:
    """ValueInfoProto: name = 1, type = 2 → tensor_type = 1 → elem_type = 1, shape = 2 → dim = 1."""
    name, kind, shape = "", "", list[int | None]()
    for number, start, stop in blocks(buffer, begin, end):
        if number == 1:
            name = text(buffer, start, stop)
        elif number == 2:
            for inner, first, last in blocks(buffer, start, stop):
                if inner == 1:
                    kind, shape = onnx_tensor_type(buffer, first, last)
    return Port(name, tuple(shape), kind)


def onnx_tensor_type(buffer: Buffer, begin: int, end: int) -> tuple[str, list[int | None]]:
    kind, shape = "", list[int | None]()
    for number, wire, start, stop in fields(buffer, begin, end):
        if number == 1 and wire == VARINT:
            kind = ONNX_TYPES.get(varint(buffer, start, stop)[0], "other")
        elif number == 2 and wire == BYTES:
            shape = [onnx_dimension(buffer, first, last) for inner, first, last in blocks(buffer, start, stop) if inner]
    return kind, shape


def onnx_dimension(buffer: Buffer, begin: int, end: int) -> int | None:
    """dim_value = 1 (0 and below mean unknown), dim_param = 2 (a symbol)."""
    for number, wire, start, stop in fields(buffer, begin, end):
        if number == 1 and wire == VARINT:
            size = varint(buffer, start, stop)[0]
            return size if 0 < size < 1 << 63 else None
    return None


def fields(buffer: Buffer, begin: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """(field number, wire type, start, stop) of every field of one protobuf message."""
    at = begin
    while at < end:
        key, at = varint(buffer, at, end)
        number, wire = key >> 3, key & 7
        if number == 0 or number > 536_870_911:
            raise ValueError(f"byte {at} makes no sense there")
        start = at
        if wire == BYTES:
            length, start = varint(buffer, at, end)
            at = start + length
        elif wire == VARINT:
            at = varint(buffer, at, end)[1]
        elif wire in (FIXED64, FIXED32):
            at += 8 if wire == FIXED64 else 4
        else:
            raise ValueError(f"byte {at} makes no sense there")
        if at > end:
            raise ValueError(f"it ends at byte {len(buffer)}, but byte {at} is still needed")
        yield number, wire, start, at


def blocks(buffer: Buffer, begin: int, end: int) -> Iterator[tuple[int, int, int]]:
    """(field number, start, stop) of the fields that hold bytes: messages and strings."""
    return ((number, start, stop) for number, wire, start, stop in fields(buffer, begin, end) if wire == BYTES)


def varint(buffer: Buffer, at: int, end: int) -> tuple[int, int]:
    """A base-128 number and the position behind it."""
    value = shift = 0
    while at < end:
        byte = buffer[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError(f"byte {at} makes no sense there")
    raise ValueError(f"it ends at byte {len(buffer)} inside a number")


def strings(buffer: Buffer, begin: int, end: int) -> dict[int, str]:
    return {number: text(buffer, start, stop) for number, start, stop in blocks(buffer, begin, end)}


def text(buffer: Buffer, start: int, stop: int) -> str:
    return bytes(buffer[start:stop]).decode("utf-8", "replace")


def openvino(path: Path) -> Header:
    """The header of an OpenVINO IR file (.xml); its metadata are the leaves of ``rt_info``, the outer ones first.

    Raises:
        CorruptFiles: the file is not an OpenVINO graph, or its weights (.bin) are missing.
    """
    weights = path.with_suffix(".bin")
    if not weights.is_file():
        raise CorruptFiles(f"'{path.name}' needs its weights '{weights.name}' beside it, which are missing.")
    try:
        root = ElementTree.parse(path).getroot()  # noqa: S314 (a file of this machine's owner; expat bounds expansion)
        if root.tag != "net":
            raise ValueError(f"its root is <{root.tag}>, not <net>")
        layers = root.findall("./layers/layer")
        inputs = tuple(ir_input(layer) for layer in layers if layer.get("type") == "Parameter")
        outputs = tuple(ir_output(layer) for layer in layers if layer.get("type") == "Result")
        if not outputs:
            raise ValueError("its graph has no outputs")
    except (ElementTree.ParseError, ValueError) as error:
        raise CorruptFiles(
            f"'{path.name}' is not a whole OpenVINO model: {error}. Copy or export the file again."
        ) from error
    notes = path.with_name(YAML)
    written = yaml_metadata(notes.read_text("utf-8", "replace")) if notes.is_file() else {}
    return Header(inputs, outputs, {**ir_metadata(root), **written})


def ir_input(layer: ElementTree.Element) -> Port:
    data = layer.find("data")
    shape = data.get("shape", "") if data is not None else ""
    kind = data.get("element_type", "") if data is not None else ""
    port = layer.find("./output/port")
    named = (port.get("names", "") if port is not None else "") or layer.get("name", "")
    sizes = tuple(size(part) for part in shape.split(",") if part.strip())
    return Port(named.split(",")[0], sizes, IR_TYPES.get(kind, kind))


def ir_output(layer: ElementTree.Element) -> Port:
    port = layer.find("./input/port")
    sizes = tuple(size(dim.text or "") for dim in port.findall("dim")) if port is not None else ()
    return Port(layer.get("name", "").removesuffix("/sink_port_0"), sizes)


def size(written: str) -> int | None:
    return int(written) if written.strip().isdecimal() else None


def ir_metadata(root: ElementTree.Element) -> dict[str, str]:
    """``<rt_info><framework><names value="…"/></framework></rt_info>`` → {"names": "…"}."""
    information = root.find("rt_info")
    found: dict[str, str] = {}
    for element in information.iter() if information is not None else ():
        value = element.get("value")
        if value is not None:
            found.setdefault(element.tag, value)
    return found


def yaml_metadata(written: str) -> dict[str, str]:
    """The flat YAML of ultralytics exports, its lists and tables turned into the literals that ONNX exports carry.

    Not a YAML reader: one level of nesting, scalars without anchors, flow style ("{0: cat, 1: dog}", as old writers
    have it) without quotes but those of Python's literals; what is indented further than its block goes on with the
    line above, as long text does.
    """
    values: dict[str, str] = {}
    nested: dict[str, list[str]] = {}
    key, depth = "", 0
    for line in written.splitlines():
        bare = line.strip()
        if not bare or bare.startswith("#"):
            continue
        if not line.startswith((" ", "-")) and ":" in line:
            key, _, value = bare.partition(":")
            values[key] = unquoted(value.strip())
            continue
        if values.get(key, "").startswith(("[", "{")):
            values[key] += " " + bare
            continue
        indent, lines = len(line) - len(line.lstrip()), nested.setdefault(key, [])
        if lines and indent > depth:
            lines[-1] += " " + bare
        else:
            lines.append(bare)
            depth = indent
    flows = {key: yaml_flow(value) for key, value in values.items() if value.startswith(("[", "{"))}
    return {**values, **flows, **{key: yaml_block(lines) for key, lines in nested.items()}}


def yaml_flow(written: str) -> str:
    """ "[a, …]" and "{key: value, …}" as literals; what is one already, or is quoted, stays."""
    ends = {"[": "]", "{": "}"}
    if not written.endswith(ends[written[0]]) or "'" in written or '"' in written:
        return written
    parts = [part.strip() for part in written[1:-1].split(",") if part.strip()]
    return yaml_block([f"- {part}" for part in parts] if written[0] == "[" else parts)


def yaml_block(lines: list[str]) -> str:
    """``- a`` lines → "[a, …]"; ``key: value`` lines → "{key: value, …}"."""
    if all(line.startswith("-") for line in lines):
        return repr([yaml_scalar(line[1:].strip()) for line in lines])
    pairs = (line.partition(":") for line in lines)
    return repr({yaml_scalar(key.strip()): yaml_scalar(value.strip()) for key, _, value in pairs})


def yaml_scalar(written: str) -> bool | int | str | None:
    if written in ("true", "false"):
        return written == "true"
    if written in ("null", "~", ""):
        return None
    return int(written) if re.fullmatch(r"-?[0-9]+", written) else unquoted(written)


def unquoted(written: str) -> str:
    """The text of a scalar, its quotes and what they escape undone."""
    if len(written) > 1 and written[0] == written[-1] == "'":
        return written[1:-1].replace("''", "'")
    if len(written) > 1 and written[0] == written[-1] == '"':
        try:
            return str(ast.literal_eval(written))  # escapes as Python's, but for a few that no one writes
        except (ValueError, SyntaxError):
            return written[1:-1]
    return written
