"""A daemon that does one step at a time, for moments that a real daemon does not stop at."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from typing import Any

import msgpack
import redis


class FakeDaemon:
    def __init__(self, database: redis.Redis, number: int) -> None:
        self.redis = database
        self.number = number

    def take(self, seconds: float = 5.0) -> dict[str, Any]:
        """The next request, with its id; numbered ones lose their body as they should."""
        taken = self.redis.blpop(["CERBAS-QUEUE"], timeout=seconds)
        assert taken is not None, "no request came"
        request = json.loads(taken[1])
        if isinstance(request, int):
            id = f"{request:010d}"
            body = self.redis.getdel(f"CERBAS-REQUEST-{id}")
            assert body is not None, "a numbered request without a body"
            request = {**json.loads(body), "id": id}
        return request

    def answer(self, request: dict[str, Any], data: Any = None, *, keep: bool = True, tell: bool = True, **more: Any):
        """Stores (`keep`) and publishes (`tell`) an answer."""
        answer = {"status": "ok", "data": data, **more}
        channel = f"CERBAS-RESPONSE-{self.number}-{request['id']}"
        if keep:
            self.redis.set(f"CERBAS-RESULT-{request['id']}", json.dumps(answer), ex=60)
        if tell:
            self.redis.publish(channel, json.dumps(answer))
            self.redis.publish(f"MSGPACK:{channel}", msgpack.packb(answer))

    def subscribers(self) -> int:
        return len(self.redis.pubsub_channels("*CERBAS-RESPONSE-*"))

    @contextlib.contextmanager
    def serving(self, data: Any = None) -> Iterator[None]:
        """Answers whatever comes: with `data`, or, without, with the arguments."""
        stop = threading.Event()

        def serve() -> None:
            while not stop.is_set():
                with contextlib.suppress(AssertionError):
                    request = self.take(0.1)
                    self.answer(request, request.get("args") if data is None else data)

        with in_background(serve):
            try:
                yield
            finally:
                stop.set()


@contextlib.contextmanager
def in_background(work: Any) -> Iterator[None]:
    """Runs `work` in a thread that has ended when the block ends; its errors are the test's errors."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        thread.join(timeout=20)
    assert not thread.is_alive(), "the background work did not end"
    if errors:
        raise errors[0]
