"""Calls the functions of a cerbas daemon."""

from __future__ import annotations

import copy
import json
import time
import uuid
from collections.abc import Mapping
from typing import Any

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
        expires = max(1, round(timeout * 1000))
        element = self._request(func, given, args, id=id, expires=expires)
        deadline = time.monotonic() + self._delay + timeout
        letter = self._link.open(id, self._msgpack, deadline)
        pending = PendingAnswer(
            self._link, letter, id=id, func=func, element=element, msgpack=self._msgpack, deadline=deadline
        )
        try:
            self._link.push(element, id)
        except BaseException:
            # It may have arrived all the same; nobody will wait for it.
            pending.close()
            raise
        return pending

    def send(self, func: str, given: Mapping[str, Any] | None = None, /, **args: Any) -> str:
        """Asks for a call that nobody waits for, and returns the id of the request. It never expires."""
        id = uuid.uuid4().hex
        self._link.push(self._request(func, given, args, id=id, reply=False), id)
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
        request: dict[str, Any] = {"func": func, "sent_at": round(time.time() * 1000), **fields}
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
