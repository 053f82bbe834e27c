"""What threads did and printed, kept by the recorder."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from service.child.lab import Lab
from service.child.recorder import Recorder, Stream
from service.child.wire import LEAST_LINE, MAX_FRAME_BYTES, MAX_NAME, encode


@pytest.fixture
def recorder() -> Recorder:
    """A recorder with room enough."""
    made = Recorder(1_000_000)
    made.begin()
    return made


def texts(recorder: Recorder, *, last: bool = False) -> list[tuple[str | None, str]]:
    """Drain, and return the lines with the names of their threads."""
    return [(thread, text) for _, thread, _, text in lines(recorder, last=last)]


def lines(recorder: Recorder, *, last: bool = False) -> list[Any]:
    """Drain, and return the lines."""
    return [line for frame in recorder.drain(last) if frame["type"] == "output" for line in frame["lines"]]


@contextmanager
def printed_file() -> Iterator[int]:
    """Point descriptor 1 to a file of its own, as in a child. pytest does the like before each phase of a test."""
    before, file = os.dup(1), os.memfd_create("output")
    os.dup2(file, 1)
    try:
        yield file
    finally:
        os.dup2(before, 1)
        os.close(before)
        os.close(file)


def events(recorder: Recorder) -> list[Any]:
    """Drain, and return the events."""
    return [event for frame in recorder.drain() if frame["type"] == "events" for event in frame["events"]]


def on_thread(recorder: Recorder, target: Callable[[], object], name: str, *, from_lab: bool = True) -> None:
    """Run something to its end on a thread of its own."""
    make: Callable[..., threading.Thread] = Lab(recorder, 60.0).Thread if from_lab else threading.Thread
    thread = make(target=target, name=name)
    thread.start()
    thread.join()


def test_nothing_happened(recorder: Recorder) -> None:
    """A drain with nothing new gives no frames."""
    assert [] == recorder.drain()
    assert [] == recorder.drain(last=True)


def test_lines_are_cut_per_thread(recorder: Recorder) -> None:
    """Threads that print at the same time do not tear each other's lines, although print writes text and end apart."""
    stream = Stream(recorder, 1)
    turns = threading.Barrier(2)

    def talk(text: str) -> None:
        for _ in range(3):
            stream.write(text)
            turns.wait()  # now both have written a text, and neither has ended its line
            stream.write("\n")
            turns.wait()

    threads = [Lab(recorder, 60.0).Thread(target=talk, args=(name * 3,), name=name) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [("a", "aaa")] * 3 + [("b", "bbb")] * 3 == sorted(texts(recorder))


def test_print_and_its_arguments(recorder: Recorder) -> None:
    """What print puts together from several arguments is one line; line ends inside a text make several."""
    print("one", 2, 3.5, sep="-", file=Stream(recorder, 1))
    print("up\ndown\n", end="", file=Stream(recorder, 2))
    print(file=Stream(recorder, 2))
    assert ["one-2-3.5", "up", "down", ""] == [text for _, text in texts(recorder)]


def test_a_line_keeps_the_time_of_its_first_character(recorder: Recorder) -> None:
    """A line that is written piece by piece, over several drains, happened when it began."""
    recorder.write("be")
    begun_ns = recorder.now_ns()
    assert [] == lines(recorder)
    recorder.write("gin\nnext")
    second_ns = recorder.now_ns()
    recorder.write("\n")
    (first, second) = lines(recorder)
    assert ["begin", "next"] == [first[3], second[3]]
    assert 0 <= first[0] <= begun_ns <= second[0] <= second_ns


def test_a_partial_line_is_given_up_only_at_the_last(recorder: Recorder) -> None:
    """What has no line end yet waits for it, and comes without it at the end."""
    recorder.write("no end")
    assert [] == texts(recorder)
    assert ["no end"] == [text for _, text in texts(recorder, last=True)]
    assert [] == texts(recorder, last=True)


def test_an_endless_line_is_cut(recorder: Recorder) -> None:
    """A text without line ends is given up in pieces, so that nothing grows without bound, and loses nothing."""
    for _ in range(100):
        recorder.write("x" * 1000)
    pieces = [text for _, text in texts(recorder)]
    assert len(pieces) >= 2
    pieces += [text for _, text in texts(recorder, last=True)]
    assert "x" * 100_000 == "".join(pieces)


def test_what_does_not_fit_is_counted() -> None:
    """Lines beyond the room are dropped and counted; the line end counts as a byte."""
    recorder = Recorder(40)
    recorder.write("a" * 19 + "\n" + "b" * 19 + "\ne\nf\n")
    assert ["a" * 19, "b" * 19] == [text for _, text in texts(recorder)]
    assert 2 == recorder.dropped


def test_short_lines_count_as_more() -> None:
    """A line takes up room for the time and the thread beside it, too: of empty ones there is an end as well."""
    recorder = Recorder(2 * LEAST_LINE)
    recorder.write("\n\n\n")
    assert ["", ""] == [text for _, text in texts(recorder)]
    assert 1 == recorder.dropped


def test_what_one_thread_may_hold_back() -> None:
    """However slowly it is drained, all that fits is kept; what cannot fit is not even held."""
    recorder = Recorder(100_000, 1_000)
    for number in range(6_000):  # prints of two parts each, as of `print`
        recorder.write(f"{number}")
        recorder.write("\n")
    for number in range(1_010):
        recorder.note(f"note {number}")
    assert 1_000 == len(recorder.log().facts) - 12_000
    assert 6_000 == len(texts(recorder))
    assert (0, 10) == (recorder.dropped, recorder.left_out)
    for _ in range(200_000):
        recorder.write("x")
        recorder.write("")
    assert len(recorder.log().facts) < 100_000


def test_a_drain_is_cut_into_frames_that_can_be_sent() -> None:
    """Whatever was told since the last drain, no frame of it is longer than the link takes, and nothing gets lost."""
    recorder = Recorder(8_000_000, 20_000)
    recorder.write("\n" * 100_000 + "\0" * 6_000_000 + "\n")
    for _ in range(19_000):
        recorder.note("\0" * 500)
    frames = recorder.drain()
    assert max(len(encode(frame)) for frame in frames) < MAX_FRAME_BYTES
    assert 100_006 == sum(len(frame["lines"]) for frame in frames if frame["type"] == "output")
    assert 19_000 == sum(len(frame["events"]) for frame in frames if frame["type"] == "events")


def test_a_name_stands_beside_all_that_is_told(recorder: Recorder) -> None:
    """Of the name of a thread or a lock as much is told as people read."""
    lab = Lab(recorder, 60.0)
    on_thread(recorder, lambda: recorder.write("hello\n"), "n" * 1_000)
    assert [("n" * MAX_NAME, "hello")] == texts(recorder)
    assert MAX_NAME == len(lab.Lock("l" * 1_000).name)  # type: ignore[attr-defined]


def test_room_is_in_bytes() -> None:
    """Room is counted in bytes of UTF-8, not in characters."""
    recorder = Recorder(38)
    recorder.write("ä" * 11 + "\n🐍\n")
    assert ["ä" * 11] == [text for _, text in texts(recorder)]
    assert 1 == recorder.dropped


def test_the_kept_output_has_no_holes() -> None:
    """After the first line that does not fit no other is kept, even if it would fit, on any thread, in any drain."""
    recorder = Recorder(48)
    recorder.write("ab\n" + "long" * 10 + "\ncd\n")
    assert ["ab"] == [text for _, text in texts(recorder)]
    on_thread(recorder, lambda: recorder.write("e\n"), "other")
    recorder.write("f")
    assert [] == texts(recorder, last=True)
    assert 3 == recorder.dropped  # lines that ended; "f" never did


def test_a_line_whose_end_comes_too_late_is_counted_once() -> None:
    """`print` writes a text and its end apart: where the room is used up between the two, that is one line."""
    recorder = Recorder(20)
    recorder.write("a\ntoo long\n")
    on_thread(recorder, lambda: print("b", file=_Late(recorder)), "other")
    assert [] == texts(recorder, last=True)
    assert 2 == recorder.dropped


class _Late(Stream):
    """A stream that is drained between a line and its end."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__(recorder, 1)

    def write(self, text: str) -> int:
        """Write, and let the shipper come by just then."""
        written = super().write(text)
        assert self._recorder.drain() or text == "\n"
        return written


def test_no_room_at_all() -> None:
    """With room for nothing, everything is counted and nothing kept."""
    recorder = Recorder(0)
    recorder.write("a\n\n")
    assert [] == texts(recorder)
    assert 2 == recorder.dropped


def test_text_that_cannot_be_utf8(recorder: Recorder) -> None:
    """A lone surrogate costs the line nothing but itself."""
    print("a\ud800b", file=Stream(recorder, 1))
    (only,) = texts(recorder)
    assert ("a", "b") == (only[1][0], only[1][-1])
    assert 0 == recorder.dropped


def test_a_thread_that_did_not_come_from_the_lab(recorder: Recorder) -> None:
    """What any thread prints has that thread's name; events come from the lab's threads only."""
    recorder.write("here\n")
    on_thread(recorder, lambda: recorder.write("there\n"), "library", from_lab=False)
    assert [(threading.current_thread().name, "here"), ("library", "there")] == texts(recorder)
    assert [] == events(recorder)


@pytest.mark.parametrize("from_lab", [True, False])
def test_one_thread_after_another(recorder: Recorder, from_lab: bool) -> None:
    """A thread's lines have its own name, though the system gives it the ident of one that has ended."""
    for number in range(5):
        on_thread(recorder, lambda: recorder.write("first "), f"lab-{number}", from_lab=from_lab)
        on_thread(recorder, lambda: recorder.write("second\n"), f"plain-{number}", from_lab=False)
    expected = [(f"lab-{number}", "first ") for number in range(5)]
    expected += [(f"plain-{number}", "second") for number in range(5)]
    assert expected == sorted(texts(recorder, last=True))


def test_a_raw_thread(recorder: Recorder) -> None:
    """What a thread without a `threading.Thread` prints is kept, too."""
    import _thread  # noqa: PLC0415  to have no name is the point

    done = threading.Event()

    def talk() -> None:
        recorder.write("raw\n")
        done.set()

    _thread.start_new_thread(talk, ())
    assert done.wait(10)
    assert ["raw"] == [text for _, text in texts(recorder)]


def test_output_from_c(recorder: Recorder) -> None:
    """What is written to the descriptor has no thread's name, and a character may come in two pieces."""
    snake = "🐍".encode()
    with printed_file() as printed:
        os.write(printed, b"from C " + snake[:2])
        assert [] == texts(recorder)
        os.write(printed, snake[2:] + b"\n\xff\n")
        assert [(None, "from C 🐍"), (None, "\ufffd")] == texts(recorder)


def test_a_lot_of_output_from_c(recorder: Recorder) -> None:
    """All that is in the file comes with the next drain."""
    with printed_file() as printed:
        os.write(printed, b"0123456789abcde\n" * 50_000)
        assert [(None, "0123456789abcde")] * 50_000 == texts(recorder)


def test_events_of_a_thread(recorder: Recorder) -> None:
    """A lab's thread is stamped at its start and at its end, in order, with what the system says of it."""
    on_thread(recorder, lambda: None, "one")
    (start, end) = events(recorder)
    assert [("one", 1, "start"), ("one", 1, "end")] == [tuple(event[1:4]) for event in (start, end)]
    assert 0 <= start[0] <= end[0] <= recorder.now_ns()
    assert False is start[4]["daemon"]
    assert threading.active_count() + 1 == start[4]["active_threads"]
    assert end[4]["usage"]["cpu_ns"] >= start[4]["usage"]["cpu_ns"]


def test_what_is_more_than_starts_and_ends(recorder: Recorder) -> None:
    """Starts and ends of threads may wait a little, and nothing else that has come since the last drain."""
    with printed_file() as descriptor:
        assert not recorder.has_more_than_threads()
        on_thread(recorder, lambda: None, "Quiet")
        assert not recorder.has_more_than_threads()
        on_thread(recorder, lambda: recorder.write("Look here.\n"), "Loud")
        assert recorder.has_more_than_threads()
        assert [("Loud", "Look here.")] == texts(recorder)
        assert not recorder.has_more_than_threads()
        os.write(descriptor, b"from C")
        assert recorder.has_more_than_threads()


def test_a_thread_that_raises_has_an_end(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread whose target raises is stamped at its end, too."""
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    on_thread(recorder, lambda: 1 // 0, "one")
    assert ["start", "end"] == [kind for _, _, _, kind, _ in events(recorder)]


def test_drain_while_threads_write(recorder: Recorder) -> None:
    """Whatever is drained while threads write comes once, and in each thread's own order."""
    stop = threading.Event()

    def count() -> None:
        for number in range(2000):
            recorder.write(f"{number}\n")

    threads = [Lab(recorder, 60.0).Thread(target=count, name=f"w{n}") for n in range(3)]
    drained: list[tuple[str | None, str]] = []

    def ship() -> None:
        while not stop.is_set():
            drained.extend(texts(recorder))

    shipper = threading.Thread(target=ship)
    shipper.start()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stop.set()
    shipper.join()
    drained += texts(recorder, last=True)
    for name in ("w0", "w1", "w2"):
        assert [str(n) for n in range(2000)] == [text for thread, text in drained if thread == name]
    assert 6000 == len(drained)


def test_a_stream_is_like_the_real_one(recorder: Recorder) -> None:
    """A stream takes text only, says how much it took, and has the descriptor of the one it stands for."""
    stream = Stream(recorder, 2)
    assert 3 == stream.write("abc")
    assert 2 == stream.fileno()
    assert (True, False, False) == (stream.writable(), stream.readable(), stream.isatty())
    stream.flush()
    stream.writelines(["d\n", "e\n"])
    with pytest.raises(TypeError, match="must be str"):
        stream.write(b"bytes")  # type: ignore[arg-type]
    assert ["abcd", "e"] == [text for _, text in texts(recorder)]
