"""Everything that can go wrong with a call. All of it is a :class:`CerbasError`.

Each verdict of the daemon other than ``ok`` has its own class; two more are made here, in the client:
:class:`NoAnswer` and :class:`ConnectionFailed`.
"""

from __future__ import annotations

from typing import Any


class CerbasError(Exception):
    """The base of all errors of this package.

    ``id``: the id of the request, ``None`` where there is none yet.
    ``func``: the name of the function that was called.
    ``verdict``: the verdict of the daemon (``"error"``, ``"timeout"``...), ``None`` where it gave none.
    ``reason``: the text of the daemon, without the name of the function.
    """

    def __init__(
        self,
        message: str,
        *,
        id: str | None = None,
        func: str | None = None,
        verdict: str | None = None,
        reason: str | None = None,
    ) -> None:
        super().__init__(message)
        self.id = id
        self.func = func
        self.verdict = verdict
        self.reason = message if reason is None else reason


class FunctionError(CerbasError):
    """The function ran and failed; ``reason`` is what it said."""


class CallTimeout(CerbasError, TimeoutError):
    """The function ran longer than its limit, and the daemon ended it."""


class Expired(CerbasError):
    """The request waited so long that the function was not started."""


class Cancelled(CerbasError):
    """Somebody cancelled the request."""


class Lost(CerbasError):
    """The daemon that ran the function died, or its answer could not be made. It may have run."""


class Rejected(CerbasError):
    """The request was refused; the function did not run. Most refusals have a class of their own."""


class UndefinedFunction(Rejected):
    """No function has that name."""


class InvalidArguments(Rejected):
    """A required argument is missing, or one has the wrong type."""


class NotAuthorized(Rejected):
    """The source or the user may not call this function."""


class BadCall(Rejected):
    """The daemon could not read the request: too large, too deep, or a field that it does not take."""


class Overload(Rejected):
    """Too much is waiting already; try later."""


class Duplicate(Rejected):
    """Another call of the function with the same unique key waits or runs."""


class NoSuchNode(Rejected):
    """No daemon has the name that the request is for."""


class NoSuchQueue(Rejected):
    """No daemon serves the queue that the request is for, nor has in the last week.

    Most often this is said before the request is sent.
    """


class CallCycle(Rejected):
    """The function waits, through others, for this very call; ``reason`` names the chain."""


class NoAnswer(CerbasError, TimeoutError):
    """Nothing came in time.

    ``taken``: false where the request was still in the queue and has been withdrawn, so that the function
    will never run for it (is a daemon running?); true where a daemon had taken it: the function may have run.
    """

    def __init__(self, message: str, *, id: str | None = None, func: str | None = None, taken: bool = False) -> None:
        super().__init__(message, id=id, func=func)
        self.taken = taken


class ConnectionFailed(CerbasError, ConnectionError):
    """Redis could not be reached, or refused what was asked; ``__cause__`` is the error of redis-py.

    Where ``id`` is set, the request may have been sent.
    """


_VERDICTS: dict[str, type[CerbasError]] = {
    "error": FunctionError,
    "timeout": CallTimeout,
    "expired": Expired,
    "cancelled": Cancelled,
    "rejected": Rejected,
    "lost": Lost,
}

_REJECTIONS: dict[str, type[Rejected]] = {
    "Undefined function": UndefinedFunction,
    "invalid arguments": InvalidArguments,
    "cerbas authorization - invalid source": NotAuthorized,
    "cerbas authorization - invalid user": NotAuthorized,
    "cerbas authorization - only cron may send this": NotAuthorized,
    "bad call": BadCall,
    "overload": Overload,
    "duplicate": Duplicate,
    "no such node": NoSuchNode,
    "no such queue": NoSuchQueue,
}


def error_of_verdict(verdict: str, data: Any, *, id: str, func: str, detail: Any = None) -> CerbasError:
    """The error for an answer whose verdict is not ``ok``; `detail` is what the daemon says besides its text."""
    reason = data if isinstance(data, str) else repr(data)
    # A verdict that this version does not know is still an error, of the base class.
    kind = _VERDICTS.get(verdict, CerbasError)
    if kind is Rejected:
        kind = CallCycle if reason.startswith("cycle: ") else _REJECTIONS.get(reason, Rejected)
    message = f"{func}: {reason}: {detail}" if isinstance(detail, str) else f"{func}: {reason}"
    return kind(message, id=id, func=func, verdict=verdict, reason=reason)
