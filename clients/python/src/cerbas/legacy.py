"""The module-level functions of the first cerbas client, for programs that were written for it.

They send requests in the numbered form. New programs use :class:`cerbas.Client`.

Two faults of the first client are gone: it sent the request before it subscribed, so that a quick answer was
missed, and then it waited for ever.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any

from .client import encode
from .errors import CerbasError, NoAnswer
from .link import Link
from .pending import PendingAnswer

_link: Link | None = None


class Answer(str):
    """The JSON text of an answer, ``{"status": ..., "data": ...}``: that is what the first client returned.

    Its fields can also be read straight: ``json.loads(answer)["data"]`` is ``answer["data"]``.
    """

    def __getitem__(self, key: Any) -> Any:
        return json.loads(self)[key] if isinstance(key, str) else super().__getitem__(key)


def start(prod: bool = False, local: bool = False) -> None:
    """Chooses the Redis: database 8 if `prod`, else 1, on this machine if `local`, else on ``CERBAS_HOST``.

    The environment variable ``CERBAS_HOST`` is ``localhost`` when missing. ``CERBAS_REDIS_URL`` overrides all of
    this. Nothing is connected before the first request.
    """
    global _link
    host = "127.0.0.1" if local else os.environ.get("CERBAS_HOST", "localhost")
    url = os.environ.get("CERBAS_REDIS_URL") or f"redis://{host}:6379/{8 if prod else 1}"
    previous, _link = _link, Link(url)
    if previous is not None:
        previous.close()


def request(
    func: str = "dummy",
    source: str = "test",
    user: str = "test",
    arguments: dict[str, Any] | None = None,
    msgpack: bool = False,
    timeout: float = 70.0,
) -> Answer:
    """Calls a function and returns its :class:`Answer`, errors of the function included.

    After `timeout` seconds the answer is ``{"status": "error", "data": "timeout"}``. Raises
    :class:`cerbas.ConnectionFailed` when Redis is away, also as a built-in ``ConnectionError``.
    """
    link = _started()
    number = link.next_number()
    id = f"{number:010d}"
    fields = {"expires": max(1, round(timeout * 1000)), "sent_at": round(time.time() * 1000)}
    body = _body(func, source, user, arguments, **fields)
    deadline = time.monotonic() + timeout
    letter = link.open(id, msgpack, deadline)
    pending = PendingAnswer(
        link,
        letter,
        id=id,
        func=func,
        element=str(number),
        msgpack=msgpack,
        deadline=deadline,
        forget=lambda: link.drop_body(id),
    )
    with pending:
        link.keep_body(id, body)
        link.push(str(number), id)
        try:
            answer = pending.answer()
        except NoAnswer:
            answer = {"status": "error", "data": "timeout"}
        return Answer(json.dumps(answer))


def request_without_response(
    func: str = "dummy",
    source: str = "test",
    user: str = "test",
    arguments: dict[str, Any] | None = None,
) -> None:
    """Asks for a call that nobody waits for."""
    link = _started()
    body = _body(func, source, user, arguments, reply=False)
    number = link.next_number()
    id = f"{number:010d}"
    link.keep_body(id, body)
    link.push(str(number), id)


def _body(func: str, source: str, user: str, arguments: dict[str, Any] | None, **fields: Any) -> str:
    body: dict[str, Any] = {"func": func, "source": source, "user": user, **fields}
    if arguments and isinstance(arguments, dict):
        body["args"] = arguments
    return encode(body)


def _started() -> Link:
    if _link is None:
        raise CerbasError("start() comes first: no Redis has been chosen")
    return _link
