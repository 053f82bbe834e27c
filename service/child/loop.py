"""The life of one job in its child, from the order to the end of the process.

    fork server
      Job(order) ──fork──▶ child, main thread                             raw thread `_ship`
                            load the scenario (preloaded, or from source)
                            ready, started ─────────────────────────────▶ 20 to 320 ms: events, output, warnings
                            run(params, lab)                              `cancel` came: autopsy, lab.cancel()
                            result | error                                nobody can run on: autopsy, and no more
                            join threads that are no daemons              link closed: the service is gone,
                            at_exit endings, atexit callbacks                end the process group
                            bye, and end as a script's process does

Who runs it: a process forked by `server`, which has seen nothing of any other job. The main thread of that process is
the scenario's main thread. The shipper is a raw `_thread`: `threading.active_count()` does not see it, and it never
holds anything that a scenario's thread could wait for.
"""

from __future__ import annotations

# `signal.pthread_sigmask` turns numbers into enums
import _signal  # type: ignore[import-not-found]  # typeshed does not know it
import _thread
import atexit
import gc
import linecache
import marshal
import os
import select
import signal
import sys
import threading
import time
import traceback
from types import ModuleType
from typing import Any, Dict, List, Mapping, Optional, Tuple

from service.child import autopsy, cage, dump, pools, wire
from service.child.lab import Cancelled, Lab
from service.child.link import Link
from service.child.locks import Knots
from service.child.recorder import Recorder, Stream
from service.child.traced import pair_cost_ns

__all__ = ["Job", "load", "rehearse"]

_SHIP_EVERY_MS = 20  # often enough for a live view, rare enough to cost a computing scenario less than 0.1 %
_THREADS_WAIT_MS = 300  # for starts and ends of threads beside computing: what a drain costs that, 3 ms, is 1 % of this
_SHIP_IDLE_MS = 320  # where little happens: a thousand children that sleep would else wake 50,000 times a second
_SHIP_WATCHING_MS = 80  # where a scenario has locks with names: a deadlock is seen, twice, within 100 ms
_MAX_MESSAGE = 10_000  # characters of what an exception says, chosen: more is no message
_MAX_TRACEBACK = 100_000  # of its end, which says where it was raised
_NO_LOCK = (
    "No lock was traced, because the scenario took none from its lab. Its waits are not seen if they are for locks of "
    "another kind, semaphores, conditions, events, barriers or queues."
)
_REHEARSALS = 20  # CPython 3.11 specializes code that ran 8 times, 3.13 after 2 to 17


def load(name: str, source: str) -> ModuleType:
    """Return the scenario as a module made from its source, with a file name that tracebacks can show lines of.

    Raises:
        Exception: whatever executing the source raises.
    """
    filename = f"scenarios/{name}.py"
    sys.modules.setdefault("scenarios", ModuleType("scenarios"))  # pickle imports a module's package first
    module = ModuleType(f"scenarios.{name}")
    module.__file__ = filename
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    sys.modules[module.__name__] = module  # dataclasses look their module up here
    # Free-threaded 3.13 counts the references to the constants of what `compile` made, and threads that share them hold
    # each other up (0.56 times as fast with two, and not 1.97 times as in a script); what an import reads it does not.
    code = marshal.loads(marshal.dumps(compile(source, filename, "exec")))  # noqa: S302  our own, of a moment ago
    exec(code, module.__dict__)  # noqa: S102  running the order's source is the task
    pools.install()
    return module


_READY = wire.encode({"type": "ready", "protocol": wire.PROTOCOL})


class Job:
    """One job, made by the fork server just before the fork, and served by the child just after it.

    Args:
        order: the `fork` frame.
        preloaded: the scenario, if the fork server has it.
    """

    def __init__(self, order: wire.Frame, preloaded: Optional[ModuleType]) -> None:
        self._order = order
        self._module = preloaded
        self._recorder = Recorder(order["max_output_bytes"], order["max_events"], order["trace"])
        self._lab = Lab(self._recorder, order["timeout_s"])
        self._streams = Stream(self._recorder, 1), Stream(self._recorder, 2)
        self._shipping = _thread.allocate_lock()  # held from a drain to the end of its send, so that nothing overtakes
        self._show_thread_error = threading.excepthook
        self._returned: Optional[Dict[str, Any]] = None
        self._ending: Optional[Dict[str, Any]] = None
        self._warned = 0  # so many warnings have been told; guarded by _shipping
        self._knots: Knots = {}  # at the shipper's last look
        self._forked = False  # whether this is a process that the scenario forked

    def serve(self, link_descriptor: int) -> None:
        """Serve the job; returns when the process should end."""
        link = self._link = Link(link_descriptor)
        sys.stdout, sys.stderr = self._streams
        threading.excepthook = self._note_thread_error
        os.register_at_fork(after_in_child=self._leave_to_itself)
        try:
            module = self._module or load(self._order["scenario"], self._order["source"])
            self._params = module.Params(**{name: _as_param(value) for name, value in self._order["params"].items()})
            self._outcomes = {**module.outcomes(self._params)}
            started = _started(self._outcomes.pop("stuck", None))  # `run` cannot return it
        except BaseException as exc:  # noqa: BLE001  whatever a third party's file raises is that job's answer
            link.send(_READY + wire.encode(_error(exc)))
            return
        gc.enable()
        pools.record(self._recorder)
        _touch()  # whatever is traced: jobs that are compared begin alike
        self._recorder.begin()
        link.send(_READY + started)
        self._begin_to_ship()
        report = self._run(module)
        if threading.active_count() > 1:  # the end of the process may be long in coming: tell what is known
            self._send_news(report)
            report = b""
        threading._shutdown()  # type: ignore[attr-defined]  # as Py_FinalizeEx does: joins all that are no daemons
        report += self._end(module)
        self._shipping.acquire()  # for good: nothing follows `bye`
        link.send(self._news(last=True) + report + self._bye())

    def _send_news(self, then: bytes = b"") -> None:
        """Send what the recorder has, and then a frame."""
        with self._shipping:
            self._link.send(self._news() + then)

    def _news(self, last: bool = False) -> bytes:
        return _encoded(self._recorder.drain(last)) + self._new_warnings()

    def _new_warnings(self) -> bytes:
        """Tell all warnings so far, if there is a new one: a job that is killed does not come to its `bye`."""
        warnings = self._lab.warnings
        if len(warnings) == self._warned:
            return b""
        self._warned = len(warnings)
        return wire.encode({"type": "warnings", "warnings": warnings})

    def _run(self, module: ModuleType) -> bytes:
        """Run the scenario and return the frame that says what came of it."""
        cpu_ns = time.process_time_ns()
        begun_ns = time.perf_counter_ns()
        try:
            returned = module.run(self._params, self._lab)
            wall_ns = time.perf_counter_ns() - begun_ns
            report = {
                "type": "result",
                "wall_ns": wall_ns,
                "cpu_ns": time.process_time_ns() - cpu_ns,
                "active_threads": threading.active_count(),
                "switch_interval_s": sys.getswitchinterval(),
                **_judged(returned, self._outcomes, module),
            }
            data = _checked(report)
        except BaseException as exc:  # noqa: BLE001  SystemExit and KeyboardInterrupt are the scenario's own, too
            if self._forked:
                _end_as_script(exc)
            self._note_limit(exc)
            return wire.encode(_error(exc))
        if self._forked:
            _end_as_script(None)
        self._returned = returned
        return data

    def _note_limit(self, exc: BaseException) -> None:
        limit = cage.which_limit(exc)
        if limit is not None:
            self._lab.warn(limit)

    def _end(self, module: ModuleType) -> bytes:
        """Do what an interpreter does after it joined its threads; return an error frame if an ending failed."""
        failed = b""
        if self._returned is not None and self._lab.endings:
            try:
                for ending in reversed(self._lab.endings):  # the order of atexit
                    self._returned.update(ending())
                self._ending = _judged(self._returned, self._outcomes, module)
                _checked({"type": "bye", "ending": self._ending})
            except BaseException as exc:  # noqa: BLE001  as in `_run`: the scenario's fault, told in its answer
                self._ending = None
                failed = wire.encode(_error(exc))
        try:
            atexit._run_exitfuncs()
        except BaseException:  # noqa: BLE001  CPython 3.9 raises the last callback's exception again; a script prints it
            traceback.print_exc()
        cage.flush_streams()
        return failed

    def _bye(self) -> bytes:
        if self._lab.traces_locks and not self._lab.watch.locks:
            self._lab.warn(_NO_LOCK)
        bye = {
            "type": "bye",
            "warnings": self._lab.warnings,
            "dropped": self._recorder.dropped,
            "events_dropped": self._recorder.left_out,
            "trace_cost_ns": self._trace_cost_ns(),
        }
        return wire.encode(bye if self._ending is None else {**bye, "ending": self._ending})

    def _trace_cost_ns(self) -> Optional[int]:
        """About how much CPU time the tracing of locks took, over all threads; None where none was traced."""
        pairs = self._recorder.lock_acquires
        return int(pairs * pair_cost_ns()) if pairs else 0 if self._recorder.trace == "locks" else None

    def _leave_to_itself(self) -> None:
        """In a process that the scenario forks: what it prints is collected as C's output is; the link is not its."""
        sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
        if not self._forked:  # in one that such a process forks the number may be that of a file of its own
            os.close(self._link.descriptor)
        self._forked = True

    def _begin_to_ship(self) -> None:
        """Start the shipper, which takes no signal but ours: what a scenario sends to its process is for its threads.

        A SIGSEGV that a job sent to itself went to the shipper now and then, and the job had succeeded before it died.
        """
        before = _signal.pthread_sigmask(_signal.SIG_BLOCK, _signal.valid_signals() - {dump.EVERY_THREAD})
        _thread.start_new_thread(self._ship, ())  # inherits what is blocked
        _signal.pthread_sigmask(_signal.SIG_SETMASK, before)

    def _ship(self) -> None:
        """Send what is new and obey the service, until the process ends. Runs on a raw thread."""
        poll = select.poll()
        poll.register(self._link.descriptor, select.POLLIN)
        pause_ms = _SHIP_EVERY_MS
        waited_ms = 0  # since anything was sent, about
        asked = False
        while True:
            try:
                if poll.poll(pause_ms) and any(frame["type"] == "cancel" for frame in self._link.receive()):
                    self._cancel()
                    asked = True
                waited_ms += pause_ms
                lively = self._recorder.has_more_than_threads()
                if lively or not self._may_wait(waited_ms):
                    self._send_news()
                    waited_ms = 0
                if self._lab.watch.locks and not asked and self._look_for_deadlock():
                    return
                idle_ms = _SHIP_WATCHING_MS if self._lab.watch.locks else _SHIP_IDLE_MS
                pause_ms = _SHIP_EVERY_MS if lively or self._knots else min(4 * pause_ms, idle_ms)
            except (OSError, EOFError):  # nobody is left to serve
                os.killpg(0, signal.SIGKILL)

    def _may_wait(self, waited_ms: int) -> bool:
        """Whether starts and ends of threads may wait, because the scenario computes.

        What is done beside computing threads costs them more than the time that it takes: numbers that are made and let
        go of again change where CPython puts theirs. Counting in four threads took 1.5 % longer after a drain.
        """
        return (
            waited_ms < _THREADS_WAIT_MS
            and 2 * time.process_time_ns() > self._recorder.now_ns()
            and len(self._lab.warnings) == self._warned
        )

    def _cancel(self) -> None:
        """Ask the scenario to end, and tell where its threads were before they knew.

        What would give up the GIL comes last: beside busy threads it may be long until this one gets it back.
        """
        with self._shipping:  # from before the scenario knows, or its `bye` might come first
            found = self._autopsy()
            self._lab.cancel()
            self._link.send(self._news() + found)

    def _look_for_deadlock(self) -> bool:
        """Look at the watched locks; if this is the second look at a knot that nobody can untie, send the last word."""
        watch = self._lab.watch
        before, self._knots = self._knots, watch.knots() if watch.waits else {}
        if not before or before != self._knots:
            return False
        found = self._autopsy(deadlock=True)
        if found:
            self._shipping.acquire()  # for good: what a program that it started still prints comes too late
            self._link.send(self._news() + found)
        return bool(found)

    def _autopsy(self, deadlock: bool = False) -> bytes:
        """Tell where every thread stands, if it can be told; asked for a deadlock, nothing unless it is one."""
        try:
            knots = self._lab.watch.knots()
            if knots != self._lab.watch.knots():  # one look may mix two moments
                knots = {}
            if deadlock and not (knots and autopsy.nobody_runs(knots)):
                return b""
            return autopsy.make(self._lab.watch, knots, deadlock)
        except Exception:  # noqa: BLE001  a scenario may have changed anything in `threading`; the job must still end
            return b""

    def _note_thread_error(self, args: Any) -> None:
        """Take the place of `threading.excepthook`: print as it does, and say it in the answer."""
        if not issubclass(args.exc_type, (Cancelled, SystemExit)):  # of the latter `threading` says nothing, either
            name = args.thread.name if args.thread else "a thread"
            self._lab.warn(f"{name} ended with {args.exc_type.__name__}: {_said(args.exc_value)}")
            self._show_thread_error(args)


def _touch() -> None:
    """Do once, before there are threads, what is going to be done on them and beside them.

    Each page that a child writes to first is copied, and on a scenario's threads the first stamps took four times as
    long as the next. This takes 0.2 ms of a start, and 0.3 ms less go into the scenario's own time (3.11.7).
    """
    recorder = Recorder(max_output_bytes=0)
    recorder.close(recorder.open(threading.current_thread()))
    _encoded(recorder.drain())


def rehearse() -> None:
    """Do once, in the fork server, what every child does, as far as it leaves nothing behind.

    From 3.11 on CPython rewrites code as it runs, and every child would do that anew, in pages of its own. The threads
    have names, so that the first thread of a scenario is still Thread-1.
    """
    module = ModuleType("rehearsal")
    module.run = _rehearsal  # type: ignore[attr-defined]
    order = {"max_output_bytes": 1_000, "max_events": 1_000, "trace": "threads", "timeout_s": 1.0, "params": {}}
    for _ in range(_REHEARSALS):
        job = Job(order, module)
        job._params, job._outcomes = None, {"done": ("acceptable", "")}
        job._recorder.begin()
        job._run(module)
        job._news(last=True)
        job._bye()


def _rehearsal(_: Any, lab: Lab) -> Dict[str, Any]:
    threads = [lab.Thread(target=lab.time_left, name="rehearsal") for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"outcome": "done"}


def _end_as_script(exc: Optional[BaseException]) -> None:
    """End a process that the scenario forked and that came to the end of `run`, as a script's process would end."""
    code: Any = exc.code if isinstance(exc, SystemExit) else 0
    if exc is not None and not isinstance(exc, SystemExit):
        traceback.print_exception(type(exc), exc, _own_part(exc))
        code = 1
    if not isinstance(code, (int, type(None))):
        sys.stderr.write(f"{code}\n")
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    cage.flush_streams()
    os._exit((code or 0) & 0xFF)


def _encoded(frames: List[wire.Frame]) -> bytes:
    return b"".join([wire.encode(frame) for frame in frames])


def _started(stuck: Optional[Tuple[str, str]]) -> bytes:
    """The frame `started`, with what the scenario says of being stuck, if it does."""
    if stuck is None:
        return b'{"type":"started","active_threads":%d}\n' % threading.active_count()
    grade, meaning = stuck
    return wire.encode(
        {
            "type": "started",
            "active_threads": threading.active_count(),
            "stuck": {"grade": grade, "meaning": meaning},
        }
    )


def _as_param(value: Any) -> Any:
    """JSON has no tuples; parameters have no lists."""
    return tuple(_as_param(item) for item in value) if isinstance(value, list) else value


def _judged(returned: Any, outcomes: Mapping[str, Tuple[str, str]], module: ModuleType) -> Dict[str, Any]:
    """What `run` returned, with the grade and the meaning that the scenario gives to its outcome."""
    if not isinstance(returned, dict) or returned.get("outcome") not in outcomes:
        raise TypeError(
            f"{module.__name__}.run must return a dict whose `outcome` is one of {sorted(outcomes)}; it returned "
            f"{returned!r:.200}"
        )
    grade, meaning = outcomes[returned["outcome"]]
    values = {name: value for name, value in returned.items() if name != "outcome"}
    if wire.too_deep(values):
        raise ValueError(f"The values of the result are nested deeper than {wire.MAX_DEPTH}.")
    return {"outcome": returned["outcome"], "grade": grade, "meaning": meaning, "values": values}


def _error(exc: BaseException) -> wire.Frame:
    return {
        "type": "error",
        "error": type(exc).__name__,
        "message": _said(exc),
        "cancelled": isinstance(exc, Cancelled),
        "traceback": "".join(traceback.format_exception(type(exc), exc, _own_part(exc)))[-_MAX_TRACEBACK:],
    }


def _said(exc: Optional[BaseException]) -> str:
    """The exception's text, if it can give one."""
    try:
        return str(exc)[:_MAX_MESSAGE]
    except Exception:  # noqa: BLE001  its own __str__ is the scenario's code
        return "(its text could not be made)"


def _checked(frame: wire.Frame) -> bytes:
    """The frame as a line.

    Raises:
        ValueError, TypeError: it is no JSON, or too long to be sent.
    """
    data = wire.encode(frame)
    if len(data) > wire.MAX_FRAME_BYTES:
        raise ValueError(f"The result is {len(data)} bytes long; it can have {wire.MAX_FRAME_BYTES}.")
    return data


def _own_part(exc: BaseException) -> Any:
    """The traceback without our frames above the scenario's."""
    part = exc.__traceback__
    while part is not None and part.tb_frame.f_code.co_filename == __file__:
        part = part.tb_next
    return part
