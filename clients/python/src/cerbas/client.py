"""Calls the functions of a cerbas daemon."""

from __future__ import annotations

import copy
import json
import time
import uuid
from collections.abc import Mapping
from typing import Any

from . import context
from .link import Link
from .pending import PendingAnswer

_MOST_DELAY = 366 * 24 * 3600.0


class Client:
    """Calls functions through Redis. Threads may share one client.

    ``url``: ``redis://[user:password@]host:port/db``, ``rediss://...`` or ``unix:///path?db=1``. The daemon must
    use the same database. Nothing is connected before the first call.
    ``user``, ``source``: who asks, and which program; the daemon may require them.
    ``prefix``: the first part of all keys, as configured in the daemon.
    ``msgpack``: answers travel as MessagePack instead of JSON.

    All times are in seconds. A client keeps one connection for all its answers, and one for each thread that is
    sending just now; :meth:`close` (or ``with``) ends them. After a fork, make a new client.
    """

    def __init__(
        self,
        url: str = "redis://127.0.0.1:6379/1",
        user: str | None = None,
        source: str | None = "python",
        prefix: str = "CERBAS",
        msgpack: bool = False,
    ) -> None:
        self._link = Link(url, prefix)
        self._user = user
        self._source = source
        self._msgpack = msgpack
        self._delay = 0.0
        self._queue: str | None = None
        self._options: dict[str, Any] = {}

    def call(self, func: str, given: Mapping[str, Any] | None = None, /, *, timeout: float = 5.0, **args: Any) -> Any:
        """Calls a function and returns its value.

        Arguments are given by name, or as a mapping, or both: ``call("sum", a=1, b=2)`` is
        ``call("sum", {"a": 1, "b": 2})``. An argument that is itself called ``timeout`` needs the mapping.

        `timeout`: how long to wait. After that time a function that has not started never will. Raises the error
        of the verdict (:class:`~cerbas.FunctionError`, :class:`~cerbas.Rejected`...),
        :class:`~cerbas.NoAnswer` half a second after `timeout` at the latest, and
        :class:`~cerbas.ConnectionFailed`; ``TypeError`` or ``ValueError`` where the arguments are not JSON.
        """
        with self.submit(func, given, timeout=timeout, **args) as pending:
            return pending.result()

    def submit(
        self, func: str, given: Mapping[str, Any] | None = None, /, *, timeout: float = 5.0, **args: Any
    ) -> PendingAnswer:
        """Like :meth:`call`, but does not wait: the result is asked for later."""
        if not timeout > 0:
            raise ValueError(f"timeout: must be more than 0 seconds, not {timeout!r}")
        id = uuid.uuid4().hex
        fields: dict[str, Any] = {}
        served = context.current()
        if served is not None:
            now = time.time() * 1000
            end = now + (self._delay + timeout) * 1000
            if served.deadline is not None:
                # Nobody waits longer for the function that asks.
                end = min(end, served.deadline)
                timeout = max(0.001, (end - now) / 1000 - self._delay)
            fields = {"chain": list(served.chain), "deadline": round(end)}
        expires = max(1, round(timeout * 1000))
        element = self._request(func, given, args, id=id, expires=expires, **fields)
        deadline = time.monotonic() + self._delay + timeout
        letter = self._link.open(id, self._msgpack, deadline)
        pending = PendingAnswer(
            self._link,
            letter,
            id=id,
            func=func,
            element=element,
            queue=self._queue,
            msgpack=self._msgpack,
            deadline=deadline,
        )
        try:
            self._link.push(element, id, self._queue)
        except BaseException:
            # It may have arrived all the same; nobody will wait for it.
            pending.close()
            raise
        return pending

    def send(self, func: str, given: Mapping[str, Any] | None = None, /, **args: Any) -> str:
        """Asks for a call that nobody waits for, and returns the id of the request. It never expires."""
        id = uuid.uuid4().hex
        self._link.push(self._request(func, given, args, id=id, reply=False), id, self._queue)
        return id

    def later(self, seconds: float) -> Client:
        """This client, but its functions start `seconds` from now: ``client.later(60).send("remind", to="ann")``.

        The waiting is done by the daemon. A `timeout` counts from the end of the delay. Both clients share their
        connections: closing one closes both.
        """
        if not 0 <= seconds <= _MOST_DELAY:
            raise ValueError(f"delay: must be 0 to 366 days, not {seconds!r} seconds")
        client = copy.copy(self)
        client._delay = float(seconds)
        return client

    def with_options(
        self,
        *,
        queue: str | None = None,
        node: str | None = None,
        retries: int | None = None,
        unique: str | None = None,
        replace: bool = False,
    ) -> Client:
        """This client with other options: ``client.with_options(queue="reports", retries=3).send("report")``.

        `queue`: one of the further queues that the daemons serve.
        `node`: the name of the daemon that runs it; ``"*"``: all of them, and the value has the answer of each under its
        name.
        `retries`: how often a call that fails runs again, whatever its function says.
        `unique`: a key. While another call of the same function with this key waits or runs, the call is a
        :class:`~cerbas.Duplicate`; with `replace` it takes the place of that one, which is cancelled.

        What is not given stays as it is. Both clients share their connections: closing one closes both.
        """
        if replace and unique is None:
            raise ValueError("replace: only a request with a unique key can replace another")
        client = copy.copy(self)
        if queue is not None:
            client._queue = queue
        options: dict[str, Any] = {"node": node, "retries": retries, "unique": unique}
        if unique is not None:
            options["on_duplicate"] = "replace" if replace else "reject"
        given = {name: value for name, value in options.items() if value is not None}
        client._options = {**self._options, **given}
        return client

    def close(self) -> None:
        """Closes the connections; calls that still wait get a :class:`~cerbas.ConnectionFailed`."""
        self._link.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client({self._link.url!r})"

    def _request(self, func: str, given: Mapping[str, Any] | None, args: Mapping[str, Any], **fields: Any) -> str:
        request: dict[str, Any] = {"func": func, "sent_at": round(time.time() * 1000), **fields, **self._options}
        arguments = {**(given or {}), **args}
        if arguments:
            request["args"] = arguments
        if self._user is not None:
            request["user"] = self._user
        if self._source is not None:
            request["source"] = self._source
        if self._delay:
            request["delay"] = round(self._delay * 1000)
        return encode(request)


def encode(request: Mapping[str, Any]) -> str:
    """The JSON text of a request. NaN and broken Unicode are refused here, where the caller can see why."""
    text = json.dumps(request, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    text.encode()
    return text
