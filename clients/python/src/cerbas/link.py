"""One program's link to Redis: the names of the keys, the commands that a call takes, and the errors.

Every error of redis-py that leaves this module is a :class:`~cerbas.errors.ConnectionFailed`.
"""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Iterator
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from . import entrance
from .errors import ConnectionFailed, NoSuchQueue
from .mailbox import Letter, Mailbox

#: Seconds that one exchange with Redis may take.
SOCKET_TIMEOUT = 5.0


class Link:
    """The connections of one client; safe to share between threads."""

    def __init__(self, url: str, prefix: str = "CERBAS") -> None:
        self.prefix = prefix
        self.url = _without_password(url)
        self._redis = _connect(url)
        pool = self._redis.connection_pool
        self.database = int(pool.connection_kwargs.get("db") or 0)
        self.mailbox = Mailbox(pool.make_connection)
        self.queue = f"{prefix}-QUEUE"
        #: The further queues that are known to be served.
        self._served: set[str] = set()

    def close(self) -> None:
        """Closes all connections."""
        self.mailbox.shut()
        self._redis.close()
        self._redis.connection_pool.disconnect()

    def open(self, id: str, msgpack: bool, deadline: float) -> Letter:
        """Subscribes to the answer of request `id`, before it is pushed."""
        channel = f"{self.prefix}-RESPONSE-{self.database}-{id}"
        with self.errors():
            return self.mailbox.open(
                f"MSGPACK:{channel}" if msgpack else channel,
                min(deadline, time.monotonic() + SOCKET_TIMEOUT),
            )

    def push(self, element: str, id: str, queue: str | None = None) -> None:
        """Puts an element at the end of a queue. Not tried twice: twice in the queue is run twice."""
        if queue is not None:
            self._check(queue)
        with self.errors(id):
            self._redis.rpush(self._queue(queue), element)

    def _check(self, queue: str) -> None:
        """Raises :class:`~cerbas.errors.NoSuchQueue` for a queue in which a request would wait for ever.

        Where nobody can tell, as no daemon has come yet or Redis does not let us ask, it is taken for served.
        """
        if queue == "default" or queue in self._served:
            return
        try:
            last_served: Any = self._redis.zscore(f"{self.prefix}-QUEUES", queue)
            has_daemons = last_served is not None or bool(self._redis.exists(f"{self.prefix}-NODES"))
        except redis.ResponseError:
            return
        except (redis.RedisError, OSError) as error:
            raise self.failure(error) from error
        if last_served is not None and last_served >= 0:
            self._served.add(queue)
        elif has_daemons:
            raise NoSuchQueue(
                f"no daemon serves the queue {queue!r}; a section [queues.{queue}] in the configuration lets one",
                verdict="rejected",
                reason="no such queue",
            )

    def withdraw(self, element: str, id: str, queue: str | None = None) -> bool:
        """Takes the element out of its queue; false where a daemon has taken it already."""
        with self.errors(id):
            removed: Any = self._redis.lrem(self._queue(queue), 1, element)
            return bool(removed)

    def _queue(self, name: str | None) -> str:
        """The key of a further queue, or of the usual one, which can also be called ``default``."""
        return self.queue if name in (None, "default") else f"{self.queue}-{name}"

    def stored(self, id: str) -> bytes | None:
        """The stored answer, as JSON, or ``None``."""
        with self.errors(id):
            answer: Any = self._redis.get(f"{self.prefix}-RESULT-{id}")
            return answer if answer is None else bytes(answer)

    def next_number(self) -> int:
        """A number for a request in the numbered form."""
        with self.errors():
            number: Any = self._redis.incr(f"{self.prefix}-COUNTER")
            return int(number)

    def keep_body(self, id: str, body: str) -> None:
        """Stores the body of a numbered request."""
        with self.errors(id):
            self._redis.set(self._body(id), body)

    def drop_body(self, id: str) -> None:
        """Deletes the body of a numbered request."""
        with self.errors(id):
            self._redis.delete(self._body(id))

    def _body(self, id: str) -> str:
        return f"{self.prefix}-REQUEST-{id}"

    @contextlib.contextmanager
    def errors(self, id: str | None = None) -> Iterator[None]:
        """Turns the errors of redis-py into ours; `id` where the request may have been sent."""
        try:
            yield
        except (redis.RedisError, OSError) as error:
            raise self.failure(error, id) from error

    def failure(self, error: Exception, id: str | None = None) -> ConnectionFailed:
        """Our error for one of redis-py."""
        reason = str(error) or type(error).__name__
        return ConnectionFailed(f"{self.url}: {reason}", id=id, reason=reason)


#: The extension in which MessagePack carries a number that it has no form for, as the text that JSON has for it.
_NUMBER = ord("N")


def _number(kind: int, text: bytes) -> Any:
    if kind != _NUMBER:
        raise ValueError(f"an extension of type {kind}")
    return json.loads(text)


def decode(message: bytes, msgpack: bool) -> dict[str, Any]:
    """The answer in a message; ``ValueError`` where it is none."""
    if msgpack:
        import msgpack as messagepack

        answer = messagepack.unpackb(message, raw=False, strict_map_key=False, ext_hook=_number)
    else:
        answer = json.loads(message)
    if not isinstance(answer, dict) or "status" not in answer:
        raise ValueError("not an object with a status")
    return answer


def _connect(url: str) -> redis.Redis:
    if url.startswith("redis+unix:"):
        url = url[len("redis+") :]
    options: dict[str, Any] = {
        "socket_connect_timeout": SOCKET_TIMEOUT,
        "socket_timeout": SOCKET_TIMEOUT,
        # redis-py would push again when an answer of Redis is lost, and the function would run twice.
        "retry": Retry(NoBackoff(), 0),
        # The mailbox reads the messages of this version.
        "protocol": 2,
    }
    way = entrance.find(url)
    if way is not None and "unix_socket_path" in way:
        # Of the URL the number of the database is left.
        database = int(redis.connection.parse_url(url).get("db") or 0)
        return redis.Redis(db=database, **way, **options)
    if not url.startswith("unix:"):
        options["socket_keepalive"] = True
    client: redis.Redis = redis.Redis.from_url(url, **{**options, **(way or {})})
    return client


def _without_password(url: str) -> str:
    url = re.sub(r"(?<=://)([^/@:]*):.*@", r"\1:***@", url)
    return re.sub(r"([?&]password=)[^&]*", r"\1***", url)
