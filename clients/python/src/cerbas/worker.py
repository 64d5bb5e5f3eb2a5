"""Serves functions of the kind ``worker``: one call per line on standard input, one answer per line on output.

    import cerbas

    @cerbas.function
    def resize(width: int) -> dict:
        return {"height": width * 3 // 4}

    cerbas.serve()

While it serves, standard output belongs to the protocol: what functions print, and the programs that they start,
goes to standard error, which is the daemon's log; their standard input is empty.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, Callable, TypeVar, overload

from . import context

_Body = TypeVar("_Body", bound=Callable[..., Any])


class DoNotRetry(Exception):
    """Raised by a function: it failed, and to try it again is pointless, whatever ``retries`` say."""


@dataclass(frozen=True)
class Call:
    """What is known about a call besides its arguments.

    A function gets it in the parameter that is annotated with this class: ``def resize(call: cerbas.Call, width)``.
    """

    id: str
    func: str
    user: str | None
    source: str | None
    #: How many seconds the function may run; after that the daemon kills this process.
    timeout: float | None
    #: When that is, in seconds since 1970.
    deadline: float | None = None
    #: The functions that wait for this call, the first one first; the last is this one.
    chain: tuple[str, ...] = ()


class _Function:
    def __init__(self, body: Callable[..., Any]) -> None:
        self.body = body
        self.signature = inspect.signature(body)
        self.call_parameter: str | None = None
        for parameter in self.signature.parameters.values():
            if _is_call(parameter.annotation):
                self.call_parameter = parameter.name
            if parameter.kind is parameter.POSITIONAL_ONLY and parameter.default is parameter.empty:
                raise TypeError(f"{parameter.name}: a positional-only parameter cannot get an argument by name")

    def bind(self, call: Call, args: Mapping[str, Any]) -> inspect.BoundArguments:
        """The arguments in their places; ``TypeError`` where they do not fit."""
        if self.call_parameter is None:
            return self.signature.bind(**args)
        if self.call_parameter in args:
            raise TypeError(f"got an unexpected keyword argument {self.call_parameter!r}")
        return self.signature.bind(**{self.call_parameter: call, **args})


_functions: dict[str, _Function] = {}


@overload
def function(name: _Body) -> _Body: ...
@overload
def function(name: str | None = None) -> Callable[[_Body], _Body]: ...
def function(name: _Body | str | None = None) -> _Body | Callable[[_Body], _Body]:
    """Registers a function under its own name, or under another one: ``@cerbas.function("make-thumb")``.

    It is called with the arguments of the request, by name, and returns a JSON value. What it raises is the error of the
    call; a :class:`DoNotRetry` is one that is not tried again.
    """
    if callable(name):
        return _register(name, name.__name__)

    def register(body: _Body) -> _Body:
        return _register(body, name or body.__name__)

    return register


def _register(body: _Body, name: str) -> _Body:
    if name in _functions:
        raise ValueError(f"{name}: registered already")
    _functions[name] = _Function(body)
    return body


def serve() -> None:
    """Answers calls until the input ends; SIGTERM ends it, too.

    A program that registered one function serves it under whatever name it is called, because the name is
    chosen in the daemon's configuration. Where there are several, the name decides.
    """
    if not _functions:
        raise RuntimeError("nothing to serve: no function is registered")
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    calls, answers = _take_standard_streams()
    # Where the daemon has gone, or wants us to, nobody needs to read about it.
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError), calls, answers:
        for line in calls:
            if line.strip():
                answers.write(_answer(line))
                answers.flush()


def _take_standard_streams() -> tuple[BinaryIO, BinaryIO]:
    """Input and output for the protocol alone, out of reach of functions and of the programs they start."""
    calls = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb")
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return calls, answers


def _answer(line: bytes) -> bytes:
    """The answer to one line of input, as a line."""
    id: Any = None
    try:
        fields = json.loads(line)
        id = fields["id"]
        call, args = _read(fields)
    except Exception as error:
        return _line(id, "error", f"bad call: {error!r}")
    try:
        served = _find(call.func)
    except LookupError as error:
        return _line(id, "error", str(error))
    try:
        bound = served.bind(call, args)
    except TypeError as error:
        print(f"{call.func}: invalid arguments: {error}", file=sys.stderr)
        return _line(id, "error", "invalid arguments")
    deadline = None if call.deadline is None else round(call.deadline * 1000)
    token = context.serving(context.Context(call.chain or (call.func,), deadline))
    try:
        value = served.body(*bound.args, **bound.kwargs)
    except DoNotRetry as error:
        return _line(id, "error", str(error) or "failed for good", retry=False)
    except Exception as error:
        traceback.print_exc()
        return _line(id, "error", str(error) or type(error).__name__)
    finally:
        context.served(token)
    try:
        return _line(id, "ok", value)
    except (TypeError, ValueError, RecursionError) as error:
        return _line(id, "error", f"{call.func}: its value is not JSON: {error}")


def _read(fields: Mapping[str, Any]) -> tuple[Call, Mapping[str, Any]]:
    timeout, deadline = fields.get("timeout"), fields.get("deadline")
    call = Call(
        id=fields["id"],
        func=fields["func"],
        user=fields.get("user"),
        source=fields.get("source"),
        timeout=None if timeout is None else timeout / 1000,
        deadline=None if deadline is None else deadline / 1000,
        chain=tuple(fields.get("chain") or ()),
    )
    args = fields.get("args") or {}
    if not isinstance(args, dict):
        raise TypeError("args is not an object")
    return call, args


def _find(name: str) -> _Function:
    if name in _functions:
        return _functions[name]
    if len(_functions) == 1:
        return next(iter(_functions.values()))
    raise LookupError(f"undefined function: {name}; known: {', '.join(sorted(_functions))}")


def _line(id: Any, status: str, data: Any, **more: Any) -> bytes:
    if status == "error":
        # The text of an exception can hold broken Unicode, and the caller needs it all the same.
        data = data.encode("utf-8", "replace").decode()
    answer = {"id": id, "status": status, "data": data, **more}
    return json.dumps(answer, allow_nan=False, ensure_ascii=False).encode() + b"\n"


def _is_call(annotation: Any) -> bool:
    # With `from __future__ import annotations`, annotations are texts.
    if isinstance(annotation, str):
        return annotation.rpartition(".")[2] == "Call"
    return annotation is Call
