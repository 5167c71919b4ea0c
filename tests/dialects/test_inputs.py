"""What dialects read from requests: forms, JSON, base64, switches and numbers."""

from __future__ import annotations

import base64
import contextlib
import json
import random
import time
import tracemalloc
from email.mime.image import MIMEImage
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from urllib.parse import parse_qsl, unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saccade.dialects import inputs
from saccade.errors import BadInput, BadOptions, TooLarge

FORM = {"content-type": "multipart/form-data; boundary=xYzZY"}


def form_body(*parts: tuple[str, bytes], end: bytes = b"--xYzZY--\r\n") -> bytes:
    body = b"".join(b"--xYzZY\r\n" + head.encode() + b"\r\n\r\n" + data + b"\r\n" for head, data in parts)
    return body + end


def test_a_form_gives_its_files_in_order_and_its_fields_by_name() -> None:
    picture = bytes(range(256)) * 40 + b"\r\n--xYzZ not the boundary\r\n"
    form = inputs.multipart(
        FORM,
        form_body(
            ('Content-Disposition: form-data; name="file"; filename="../../etc/x.jpg"', picture),
            ('Content-Disposition: form-data; name="conf"', b"0.3"),
            ('Content-Disposition: form-data; name="conf"', b"0.4"),
            ('Content-Disposition: form-data; name="raw"', b"\xff\xd8\xff"),
        ),
    )
    assert [(upload.name, upload.data) for upload in form.files] == [("file", picture), ("raw", b"\xff\xd8\xff")]
    assert form.fields == {"conf": "0.4"}
    assert form.file("image", "file") == picture
    assert form.file("image") is None


def test_a_file_field_that_was_left_empty_in_a_browser_is_none() -> None:
    head = 'Content-Disposition: form-data; name="{}"; filename="{}"\r\nContent-Type: application/octet-stream'
    form = inputs.multipart(
        FORM,
        form_body((head.format("file", ""), b""), (head.format("image", ""), b"x"), (head.format("img", "a"), b"")),
    )
    assert [(upload.name, upload.data) for upload in form.files] == [("image", b"x"), ("img", b"")]


@pytest.mark.parametrize("before", [b"", b"\r\n", b"This is a form.\r\nOf two lines, --xYzZY\r\n--xYzZYandmore\r\n"])
def test_what_stands_before_the_first_boundary_says_nothing(before: bytes) -> None:
    form = inputs.multipart(FORM, before + form_body(('Content-Disposition: form-data; name="conf"', b"0.3")))
    assert form.fields == {"conf": "0.3"}


PICTURE = b"\xff\xd8 \n\r\n--xYzZ\n\r--xYzZYandmore\n \r"


@pytest.mark.parametrize("before", [b"", b"a preamble\n"])
@pytest.mark.parametrize("blanks", [b"", b" ", b" \t "])
@pytest.mark.parametrize("line", [b"\n", b"\r\n"])
def test_forms_whose_lines_end_alone_or_behind_blanks_are_read(line: bytes, blanks: bytes, before: bytes) -> None:
    parts = (
        (
            b'Content-Disposition: form-data; name="file"; filename="x.jpg"' + line + b"Content-Type: image/jpeg",
            PICTURE,
        ),
        (b'Content-Disposition: form-data; name="conf"', b"0.3"),
    )
    body = b"".join(b"--xYzZY" + blanks + line + head + line + line + data + line for head, data in parts)
    form = inputs.multipart(FORM, before.replace(b"\n", line) + body + b"--xYzZY--" + blanks + line + b"an epilogue")
    assert form.fields == {"conf": "0.3"}
    assert form.file("file") == PICTURE


def test_a_form_of_pythons_email_package_is_read() -> None:
    form = MIMEMultipart("form-data", boundary="xYzZY")
    for part, name in ((MIMEText("0.3"), "conf"), (MIMEImage(PICTURE, "jpeg"), "file")):
        part.add_header("Content-Disposition", "form-data", name=name, filename=f"{'long name ' * 9}.txt")
        form.attach(part)
    body = form.as_bytes().partition(b"\n\n")[2]
    assert b'";\n filename=' in body
    assert PICTURE not in body
    read = inputs.multipart({"content-type": form["content-type"]}, body)
    assert [(upload.name, upload.data) for upload in read.files] == [("conf", b"0.3"), ("file", PICTURE)]


def test_quoted_printable_parts_are_read() -> None:
    """Delphi's Indy encodes texts so unless it is told otherwise; of a photo it is only said."""
    head = "Content-Disposition: form-data; name={}\r\nContent-Transfer-Encoding: Quoted-Printable"
    page, photo = b"https://hub.ultralytics.com/mod=\r\nels/ID?tab=3Ddeploy", b"\xff\xd8=3D\x00"
    body = form_body((head.format("model"), page), (head.format("conf"), b"0.25"), (head.format("file"), photo))
    form = inputs.multipart(FORM, body)
    assert form.fields == {"model": "https://hub.ultralytics.com/models/ID?tab=deploy", "conf": "0.25"}
    assert form.file("file") == photo


def test_bytes_that_are_only_said_to_be_base64_are_taken_as_they_are() -> None:
    head = 'Content-Disposition: form-data; name="file"; filename="x"\r\nContent-Transfer-Encoding: base64'
    assert inputs.multipart(FORM, form_body((head, PICTURE))).file("file") == PICTURE


@pytest.mark.parametrize("kind", ["multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data;"])
def test_a_form_without_a_boundary_is_refused_by_that_name(kind: str) -> None:
    assert inputs.is_multipart({"content-type": kind})
    with pytest.raises(BadInput, match="names no boundary"):
        inputs.multipart({"content-type": kind}, form_body())


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no form at all",
        b"--other\r\n\r\n\r\n--other--",
        form_body(('Content-Disposition: form-data; name="a"', b"1"), end=b""),
        form_body(("X: " + "a" * 10_000, b"1")),
        form_body(("\r\n".join(f"X-{i}: 1" for i in range(100)), b"1")),
        form_body(*[('Content-Disposition: form-data; name="a"', b"1")] * (inputs.MAX_PARTS + 1)),
    ],
)
def test_a_garbled_form_is_bad_input(body: bytes) -> None:
    with pytest.raises(BadInput, match="multipart form"):
        inputs.multipart(FORM, body)


@pytest.mark.parametrize(
    "text",
    [
        base64.b64encode(b"\xfb\xff\xfe picture").decode(),
        base64.urlsafe_b64encode(b"\xfb\xff\xfe picture").decode().rstrip("="),
        "  " + base64.encodebytes(b"\xfb\xff\xfe picture").decode(),
        "data:image/png;base64," + base64.b64encode(b"\xfb\xff\xfe picture").decode(),
        "DATA:application/octet-stream;base64," + base64.b64encode(b"\xfb\xff\xfe picture").decode(),
        "data:image/jpeg;base64," + base64.b64encode(b"\xfb\xff\xfe picture").decode().replace("/", "%2F"),
    ],
)
def test_every_spelling_of_base64_is_read(text: str) -> None:
    assert inputs.image_string(text) == b"\xfb\xff\xfe picture"
    assert inputs.image_string(text.encode()) == b"\xfb\xff\xfe picture"


@pytest.mark.parametrize(
    "text", ["", "   ", "data:image/png;base64,", "data:", "/etc/hostname", "not base64!", "ü", "A"]
)
def test_a_string_that_is_not_base64_is_bad_input(text: str) -> None:
    with pytest.raises(BadInput):
        inputs.image_string(text)


@pytest.mark.parametrize("text", [str(base64.b64encode(b"photo")), f"data:image/png;base64,{base64.b64encode(b'x')!r}"])
def test_base64_that_python_printed_as_bytes_is_told_how_to_mend_it(text: str) -> None:
    with pytest.raises(BadInput, match=r"begins with b', as Python prints bytes.*\.decode\(\)"):
        inputs.image_string(text)


@pytest.mark.parametrize("text", ["[object Object]", "[object File]"])
def test_an_object_that_javascript_sent_as_text_is_told_how_to_mend_it(text: str) -> None:
    for read in (inputs.image_string, inputs.json_value):
        with pytest.raises(BadInput, match=r"as JavaScript writes an object .* JSON\.stringify\(object\)"):
            read(text.encode())


def test_base64_may_be_wrapped_into_lines() -> None:
    data = bytes(range(256))
    for line_break in (b"\n", b"\r\n", b" \t\n"):
        assert inputs.image_string(base64.encodebytes(data).replace(b"\n", line_break)) == data
        assert inputs.image_string(base64.encodebytes(data).rstrip(b"=\n").replace(b"\n", line_break)) == data


@given(st.text(alphabet="%aF09g+&= é", max_size=40))
def test_url_encoded_forms_are_read_as_the_standard_library_reads_them(text: str) -> None:
    assert list(inputs.urlencoded(text.encode(), ())) == parse_qsl(text, keep_blank_values=True)
    for many in (1, 6001):  # long ones are decoded piece by piece
        assert inputs.percent_decoded(text.encode() * many) == unquote_to_bytes(text * many)


@pytest.mark.parametrize("before", range(4))
def test_no_percent_code_is_cut_in_two_where_a_long_text_is_decoded_piece_by_piece(before: int) -> None:
    text = b"A" * (inputs.DECODED_AT_ONCE - before) + b"%2B/%2b%3D"
    assert inputs.percent_decoded(text) == text[: -len(b"%2B/%2b%3D")] + b"+/+="


def test_a_body_full_of_percent_signs_costs_little() -> None:
    """It took 12 s for 60 MB, and where it was refused also the time of everybody else."""
    body = b"inputs=" + b"%41" * 5_000_000
    begun = time.process_time()
    ((_, value),) = inputs.urlencoded(body, {"inputs"})
    assert inputs.image_string(b"data:;base64," + body[7:]) == bytes(3_750_000)
    assert value == "A" * 5_000_000
    assert time.process_time() - begun < 2


def test_addresses_are_told_from_images() -> None:
    assert inputs.image_url(" HTTPS://example.org/a.jpg ") == "HTTPS://example.org/a.jpg"
    assert inputs.image_url(b"http://example.org/a.jpg") == "http://example.org/a.jpg"
    assert inputs.image_url("file:///etc/hostname") is None
    assert inputs.image_url("aHR0cDovL2E=") is None


def test_a_long_first_string_stays_bytes_and_the_rest_is_as_any_json() -> None:
    text = base64.b64encode(random.Random(1).randbytes(30_000)).decode()
    for sent in (
        {"inputs": text, "parameters": {"top_k": 2}},
        {"inputs": {"image": text, "x": [1]}, "parameters": {}},
        {"options": {}, "inputs": text},
        {"inputs": [text]},
        {"inputs": "é" + text},
        {"inputs": "\n" + text},
    ):
        found = inputs.json_object(json.dumps(sent).encode())
        assert json.loads(json.dumps(found, default=bytes.decode)) == sent
    found = inputs.json_object(json.dumps({"inputs": text}).encode())
    assert found["inputs"] == text.encode()
    assert inputs.json_object(b'{"a":"' + text.encode() + b'","a":"short"}') == {"a": "short"}
    assert inputs.json_object(b'{"a":{"b":"' + text.encode() + b'"},"a":"short"}') == {"a": "short"}


def test_a_fault_behind_a_long_string_is_told_with_its_place_in_what_was_sent() -> None:
    body = b'{"inputs":"' + b"A" * 30_000 + b'","parameters":{"threshold":NaN}}'
    with pytest.raises(BadInput, match=rf"\(byte {body.index(b'NaN')}\)"):
        inputs.json_object(body)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"a":NaN}',
        b"1e999",
        b"9" * 5000,
        b'{"a":"\xff"}',
        b"[" * 300_000,
        b'{"a":' * 50_000,
        b"\x00",
        b"{}x",
    ],
)
def test_what_is_not_json_is_bad_input(body: bytes) -> None:
    with pytest.raises(BadInput):
        inputs.json_value(body)


@pytest.mark.parametrize("value", [b"[],", b'"a",', b"1,", b'{"a":1},', b"[[[[]]]],"])
def test_json_of_more_values_than_anybody_needs_is_refused_before_any_is_made(value: bytes) -> None:
    """They take thirty times the bytes of the body, and nothing else is done meanwhile."""
    body = b'{"inputs":[' + value * (2_000_000 // len(value)) + b"0]}"
    tracemalloc.start()
    try:
        with pytest.raises(TooLarge, match="more than 100000 values"):
            inputs.json_value(body)
        assert tracemalloc.get_traced_memory()[1] < len(body)
    finally:
        tracemalloc.stop()
    assert inputs.json_members(body) is None
    assert inputs.json_value(json.dumps(["," * 50_000, [0] * 40_000]).encode()) == ["," * 50_000, [0] * 40_000]


def test_names_of_more_values_than_anybody_needs_are_not_looked_at() -> None:
    assert inputs.json_members(b"{" + b",".join(b'"%x":1' % number for number in range(100_002)) + b"}") is None


def test_a_json_list_is_no_object() -> None:
    with pytest.raises(BadInput, match="must be an object"):
        inputs.json_object(b"[1]")
    assert inputs.json_object(b'\xef\xbb\xbf{"a":1}') == {"a": 1}


def test_switches_are_read_in_every_spelling() -> None:
    assert [inputs.boolean(v, False) for v in (True, "1", "TRUE", "yes", " on ", 1, b"true", 1.0)] == [True] * 8
    assert [inputs.boolean(v, True) for v in (False, "0", "false", "No", "off", 0)] == [False] * 6
    assert [inputs.boolean(v, True) for v in ("maybe", "", None, [], 7, 0.5)] == [True] * 6
    with pytest.raises(BadOptions, match="`track` must be true or false, but the text 'maybe' was given"):
        inputs.boolean("maybe", name="track")


def test_numbers_are_read_from_text_and_kept_in_range() -> None:
    assert inputs.integer("imgsz", "640") == 640
    assert inputs.integer("imgsz", 640.0, low=32, high=1280) == 640
    assert inputs.number("conf", "0.25", low=0, high=1) == 0.25
    assert inputs.number("conf", -1) == -1.0


@pytest.mark.parametrize("value", [2**31, 2**64, 10**30, 1e300, "9" * 20, "1e300"])
def test_a_whole_number_without_a_bound_is_cut_to_what_everything_can_hold(value: object) -> None:
    assert inputs.integer("top_k", value, low=1) == 2**31 - 1
    with pytest.raises(BadOptions):
        inputs.integer("imgsz", value, low=32, high=1280)
    assert inputs.integer("memory_bytes", 2**40, low=0, high=2**50) == 2**40


@pytest.mark.parametrize(
    "value", [None, "x", "", "nan", "inf", "1_0", True, [], {}, 2.5, 0, 10**400, "9" * 100, float("nan")]
)
def test_what_is_no_whole_number_in_range_is_a_bad_option(value: object) -> None:
    with pytest.raises(BadOptions, match="`top_k` must be a whole number of at least 1"):
        inputs.integer("top_k", value, low=1)


@given(st.binary(max_size=300), st.binary(max_size=60))
def test_garbage_raises_only_bad_input(body: bytes, boundary: bytes) -> None:
    for read in (
        lambda: inputs.json_value(body),
        lambda: inputs.image_string(body),
        lambda: inputs.multipart({"content-type": "multipart/form-data; boundary=" + boundary.decode("latin-1")}, body),
        lambda: inputs.multipart(FORM, b"--xYzZY\r\n" + body),
    ):
        with contextlib.suppress(BadInput):
            read()


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists))
def test_any_value_as_an_option_is_read_or_refused(value: object) -> None:
    inputs.boolean(value, True)
    for read in (inputs.number, inputs.integer):
        with contextlib.suppress(BadOptions):
            read("name", value)
