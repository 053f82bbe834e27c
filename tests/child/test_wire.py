"""The words of the link."""

from __future__ import annotations

import json
import math
from itertools import chain, pairwise
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from service.child import wire

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=10)
FRAMES = st.builds(lambda fields, kind: {**fields, "type": kind}, st.dictionaries(st.text(), JSON), st.text())


@settings(deadline=None)
@given(FRAMES)
@example({"type": "output", "lines": [[1, None, "a\nb\r\x00\x1b\u2028\U0001f40d"]]})
def test_round_trip(frame: wire.Frame) -> None:
    """What is encoded is decoded to the same, and is one line."""
    data = wire.encode(frame)
    assert (1, b"\n") == (data.count(b"\n"), data[-1:])
    assert frame == wire.decode(data[:-1])


@settings(deadline=None)
@given(st.lists(FRAMES, max_size=5), st.data())
def test_however_the_bytes_are_dealt_out(frames: list[wire.Frame], data: st.DataObject) -> None:
    """A stream gives the same frames in the same order wherever it is cut."""
    stream = b"".join(wire.encode(frame) for frame in frames)
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=20).map(sorted))
    buffer = wire.FrameBuffer()
    fed = [frame for start, end in pairwise([0, *cuts, len(stream)]) for frame in feed(buffer, stream[start:end])]
    assert frames == fed


@pytest.mark.parametrize("text", [json.dumps("🐍"), r"\ud83d", r"\\uDFFF", r"\\\ud83d" + "\n", r"\ud83d\ude00\""])
def test_text_that_looks_like_an_escape(text: str) -> None:
    """A scenario may print backslashes, a `u` and hex digits; on the link they are text and no surrogate."""
    frame = {"type": "output", text: [text]}
    assert frame == wire.decode(wire.encode(frame)[:-1])


def feed(buffer: wire.FrameBuffer, data: bytes) -> list[wire.Frame]:
    """Return all frames that the data completes."""
    return list(buffer.feed(data))


def test_every_single_cut() -> None:
    """Each of the two-part and the byte-by-byte cuts gives the frames, those through a character's bytes too."""
    frames = [{"type": "a", "text": "größer 🐍"}, {"type": "b"}]
    stream = b"".join(wire.encode(frame) for frame in frames)
    for cut in range(len(stream) + 1):
        buffer = wire.FrameBuffer()
        assert frames == feed(buffer, stream[:cut]) + feed(buffer, stream[cut:])
    buffer = wire.FrameBuffer()
    assert frames == [frame for byte in stream for frame in feed(buffer, bytes([byte]))]


def test_a_frame_without_its_line_end_is_not_given_up() -> None:
    """A frame comes only when its line end has come."""
    buffer = wire.FrameBuffer()
    assert [] == feed(buffer, b'{"type":"a"}')
    assert [{"type": "a"}] == feed(buffer, b"\n")


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_encode_refuses_numbers_that_json_has_no_word_for(number: float) -> None:
    """NaN and infinity are a ValueError at the sender."""
    with pytest.raises(ValueError, match="JSON"):
        wire.encode({"type": "result", "values": {"x": [number]}})


@pytest.mark.parametrize("thing", [{1}, b"bytes", object(), 1j])
def test_encode_refuses_what_is_no_json(thing: Any) -> None:
    """An object that JSON has no word for is a TypeError at the sender."""
    with pytest.raises(TypeError):
        wire.encode({"type": "result", "values": thing})


@pytest.mark.parametrize("text", [chr(0xD800), f"a{chr(0xDFFF)}b", chr(0xDC41)])
def test_encode_writes_text_that_cannot_be_utf8(text: str) -> None:
    """A lone surrogate in what a scenario printed does not stop the frame."""
    frame = wire.decode(wire.encode({"type": "output", "text": text})[:-1])
    assert frame == json.loads(json.dumps(frame).encode("utf-8"))
    assert text.encode("utf-8", "replace").decode() == frame["text"]


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b" ",
        b"hello",
        b"{",
        b'{"type":"a"}{"type":"b"}',
        b"[]",
        b"1",
        b"null",
        b'"type"',
        b"{}",
        b'{"kind":"a"}',
        b'{"type":null}',
        b'{"type":1}',
        b'{"type":["a"]}',
        b'{"type":"a","x":NaN}',
        b'{"type":"a","x":Infinity}',
        b'{"type":"a","x":[-Infinity]}',
        b'{"type":"a","x":1e999}',
        b'{"type":"a","x":[-1e999]}',
        b'{"type":"a","x":' + b"9" * 5000 + b"}",
        rb'{"type":"a","x":"\ud800"}',
        rb'{"type":"a","x":"\uDFFF"}',
        rb'{"type":"a","x":{"\udc00":1}}',
        b'{"type":"a","x":"\xff"}',
        b'{"type":"a","x":"\xed\xa0\x80"}',
        b'{"type":"a","x":"\xc3',
        b"\xff\xfe\x00\x01",
        b'{"type":"a","x":"\x00"}',
        b"[" * 100_000,
        b'{"type":"a","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"type":' * 100_000,
    ],
    ids=lambda line: repr(line[:24]),
)
def test_decode_refuses_what_is_no_frame(line: bytes) -> None:
    """A line that is no JSON object with a `type`, or that could not be written again, is a BadFrame."""
    with pytest.raises(wire.BadFrame):
        wire.decode(line)
    with pytest.raises(wire.BadFrame):
        feed(wire.FrameBuffer(), line + b"\n")


@settings(deadline=None)
@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_decode_raises_nothing_else(line: bytes) -> None:
    """Any bytes are a frame that can be encoded again, or a BadFrame."""
    try:
        frame = wire.decode(line)
    except wire.BadFrame:
        return
    assert frame == wire.decode(wire.encode(frame)[:-1])


def test_the_longest_line() -> None:
    """A line of MAX_FRAME_BYTES is taken, in one piece and in several."""
    frame = {"type": "a", "x": "x" * (wire.MAX_FRAME_BYTES - len(wire.encode({"type": "a", "x": ""})) + 1)}
    line = wire.encode(frame)
    assert wire.MAX_FRAME_BYTES == len(line) - 1
    assert [frame] == feed(wire.FrameBuffer(), line)
    buffer = wire.FrameBuffer()
    assert [frame] == feed(buffer, line[:1000]) + feed(buffer, line[1000:-1]) + feed(buffer, line[-1:])


@pytest.mark.parametrize("end", [b"", b'"}\n'], ids=["no end", "end too late"])
@pytest.mark.parametrize("piece", [1024**2, 2 * wire.MAX_FRAME_BYTES], ids=["pieces", "whole"])
def test_no_line_end_within_the_limit(end: bytes, piece: int) -> None:
    """More bytes than MAX_FRAME_BYTES without a line end are a BadFrame, however they were dealt out."""
    stream = b'{"type":"' + b"a" * wire.MAX_FRAME_BYTES + end
    buffer = wire.FrameBuffer()
    pieces = [stream[start : start + piece] for start in range(0, len(stream), piece)]
    with pytest.raises(wire.BadFrame):
        list(chain.from_iterable(map(buffer.feed, pieces)))
