"""The call that this program is serving just now: who waits for it, and until when.

A function that calls others hands both on. So a call that nobody waits for any more is not started, and functions that
wait for each other in a circle are refused at once.
"""

from __future__ import annotations

import contextvars
import json
import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Context:
    """What goes along with each call that is made while another one is served."""

    #: The functions that wait, the first one first; the last is the one that is served here.
    chain: tuple[str, ...]
    #: When the time of this one is over, in milliseconds since 1970.
    deadline: int | None


_served: contextvars.ContextVar[Context | None] = contextvars.ContextVar("cerbas_call", default=None)


def serving(context: Context) -> contextvars.Token[Context | None]:
    """From now on calls are made for the one that `context` tells; :func:`served` ends that."""
    return _served.set(context)


def served(token: contextvars.Token[Context | None]) -> None:
    """Ends what :func:`serving` began."""
    _served.reset(token)


def current() -> Context | None:
    """The call that is served: a worker's, or that of the command that this program is."""
    return _served.get() or _of_command()


def _of_command() -> Context | None:
    """What the daemon has put into the environment of a command."""
    try:
        chain = json.loads(os.environ.get("CERBAS_CHAIN", ""))
        deadline = os.environ.get("CERBAS_DEADLINE")
        return Context(tuple(str(func) for func in chain), int(deadline) if deadline else None) if chain else None
    except (TypeError, ValueError):
        return None
