"""The subscriptions of one client: one connection to Redis for any number of waiting threads.

There is no thread of its own here. Of the threads that wait, one reads from the connection and hands out what
comes; when it has what it waits for, it passes the reading on to another. So a lone caller reads its answer
straight from the socket.

Invariants:

* ``_lock`` is held for everything but reading; ``_reader`` is the connection that somebody is reading.
* When a connection breaks, every letter on it gets ``broken``, and its waiter must :meth:`Mailbox.subscribe`
  again and then look for the stored answer: a message may have passed in between.
* No wait is without an end.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import deque
from typing import Any, Callable

import redis

#: Seconds after which a subscription that Redis does not confirm is tried on a new connection.
_CONFIRMATION = 2.0


class Letter:
    """One awaited message, on a channel of its own."""

    def __init__(self, channel: bytes, lock: threading.Lock) -> None:
        self.channel = channel
        self.message: bytes | None = None
        self.broken: Exception | None = None
        self._confirmed = False
        self._changed = threading.Condition(lock)

    def _has_message(self) -> bool:
        return self.message is not None

    def _is_confirmed(self) -> bool:
        return self._confirmed


class Mailbox:
    """Opens letters and waits for them. All times are those of ``time.monotonic``.

    ``make_connection`` gives a new ``redis.Connection`` that speaks RESP2 and has socket timeouts.
    """

    def __init__(self, make_connection: Callable[[], Any]) -> None:
        self._make_connection = make_connection
        self._lock = threading.Lock()
        self._letters: dict[bytes, Letter] = {}
        # The letters whose threads wait for the reader, in the order in which they came (a dict as ordered set).
        self._waiting: dict[Letter, None] = {}
        # The channels of letters that nobody holds any more; filled by finalizers, which must not take the lock.
        self._abandoned: deque[bytes] = deque()
        self._connection: Any = None
        self._reader: Any = None
        self._process = os.getpid()
        self.is_shut = False

    def open(self, channel: str, deadline: float) -> Letter:
        """Subscribes to `channel`; on return Redis has confirmed it. Raises redis-py's errors."""
        letter = Letter(channel.encode(), self._lock)
        with self._lock:
            self._letters[letter.channel] = letter
        try:
            self.subscribe(letter, deadline)
        except BaseException:
            self.close(letter)
            raise
        return letter

    def subscribe(self, letter: Letter, deadline: float) -> None:
        """Subscribes, also once more after a break, and waits for the confirmation."""
        with self._lock:
            try:
                self._subscribe(letter, min(deadline, time.monotonic() + _CONFIRMATION))
            except (redis.ConnectionError, redis.TimeoutError):
                # A connection that was idle for long can turn out to be dead. Subscribing twice does no harm.
                self._subscribe(letter, deadline)

    def wait(self, letter: Letter, deadline: float) -> bytes | None:
        """The message, or ``None`` when the time is over. Raises what broke the subscription."""
        with self._lock:
            self._wait(letter, letter._has_message, deadline)
            return letter.message

    def close(self, letter: Letter) -> None:
        """Ends the subscription; may be called twice."""
        with self._lock:
            self._forget(letter.channel)

    def abandon(self, letter: Letter) -> None:
        """Lets the next call end the subscription. Safe in a finalizer, at any moment of any thread."""
        self._abandoned.append(letter.channel)

    def shut(self) -> None:
        """Closes the connection; waiting threads get an error."""
        with self._lock:
            self.is_shut = True
            self._break(redis.ConnectionError("the client is closed"))

    # What follows is called with the lock held.

    def _subscribe(self, letter: Letter, deadline: float) -> None:
        connection = self._connected()
        letter.broken = None
        letter._confirmed = False
        self._send(connection, "SUBSCRIBE", letter.channel)
        if not self._wait(letter, letter._is_confirmed, deadline):
            error = redis.TimeoutError("no confirmation of the subscription in time")
            self._break(error)
            raise error

    def _connected(self) -> Any:
        if self.is_shut:
            raise redis.ConnectionError("the client is closed")
        if self._process != os.getpid():
            self._process = os.getpid()
            self._break(redis.ConnectionError("the connection belongs to the parent process"))
        while self._abandoned:
            self._forget(self._abandoned.popleft())
        if self._connection is None:
            connection = self._make_connection()
            connection.connect()
            connection.register_connect_callback(self._refuse)
            self._connection = connection
        return self._connection

    def _refuse(self, connection: Any) -> None:
        # redis-py connects again by itself where a connection is closed under its reader. The new one would have
        # no subscriptions, and the reader would wait in vain.
        connection.disconnect()
        raise redis.ConnectionError("the connection broke")

    def _forget(self, channel: bytes) -> None:
        letter = self._letters.pop(channel, None)
        if letter is None or letter.broken is not None or self._connection is None:
            return
        # Where it breaks here, those who wait have been told.
        with contextlib.suppress(redis.RedisError, OSError):
            self._send(self._connection, "UNSUBSCRIBE", channel)

    def _send(self, connection: Any, *command: Any) -> None:
        try:
            connection.send_command(*command, check_health=False)
        except (redis.RedisError, OSError) as error:
            self._break(error)
            raise

    def _is_read(self) -> bool:
        return self._reader is not None and self._reader is self._connection

    def _break(self, error: Exception) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.disconnect()
        for letter in self._letters.values():
            letter.broken = error
            letter._changed.notify_all()

    def _wait(self, letter: Letter, is_over: Callable[[], bool], deadline: float) -> bool:
        tried = False
        try:
            while not is_over():
                if letter.broken is not None:
                    raise letter.broken
                remaining = deadline - time.monotonic()
                if remaining <= 0 and tried:
                    return False
                tried = True
                if self._is_read():
                    self._waiting[letter] = None
                    try:
                        letter._changed.wait(max(remaining, 0))
                    finally:
                        del self._waiting[letter]
                else:
                    self._read(max(remaining, 0))
            return True
        finally:
            # Somebody has to read for those who still wait.
            if self._waiting and not self._is_read():
                next(iter(self._waiting))._changed.notify()

    def _read(self, timeout: float) -> None:
        """Reads for all, without the lock, until something comes or `timeout` is over."""
        connection = self._connection
        self._reader = connection
        replies: list[Any] = []
        failure: BaseException | None = None
        self._lock.release()
        try:
            while connection.can_read(timeout=0 if replies else timeout):
                replies.append(connection.read_response())
        except BaseException as error:
            # Also an interrupt: half an answer may have been read. And any error at all: a connection that
            # another thread closes just now fails in many ways.
            failure = error
        finally:
            self._lock.acquire()
            if self._reader is connection:
                self._reader = None
        for kind, channel, content in replies:
            self._deliver(kind, channel, content)
        if failure is not None and self._connection is connection:
            self._break(redis.ConnectionError(f"the subscription broke: {failure}"))
        if failure is not None and not isinstance(failure, Exception):
            raise failure

    def _deliver(self, kind: bytes, channel: bytes, content: Any) -> None:
        letter = self._letters.get(channel)
        if letter is None:
            return  # the end of a subscription, or an answer that nobody waits for any more
        if kind == b"subscribe":
            letter._confirmed = True
        elif kind == b"message":
            letter.message = content
        letter._changed.notify_all()
