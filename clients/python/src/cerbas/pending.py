"""The answer that has not come yet."""

from __future__ import annotations

import threading
import time
from typing import Any, Callable

import redis

from .errors import CerbasError, ConnectionFailed, NoAnswer, error_of_verdict
from .link import Link, decode
from .mailbox import Letter

#: Seconds after which a waiting client looks for the stored answer, in case its subscription died in silence.
_PATIENCE = 5.0
#: Seconds that a daemon which has taken the request gets beyond the time limit, to tell its verdict.
_GRACE = 0.5
#: Seconds between two attempts to reach a Redis that is away.
_PAUSE = 0.1


class PendingAnswer:
    """What :meth:`cerbas.Client.submit` returns: a request that was sent, and its answer once it is there.

    Ask it with :meth:`result`, or end it with :meth:`close`; it also closes itself as a context manager. It may
    be handed to another thread. ``id`` is the id of the request.
    """

    def __init__(
        self,
        link: Link,
        letter: Letter,
        *,
        id: str,
        func: str,
        element: str,
        queue: str | None = None,
        msgpack: bool,
        deadline: float,
        forget: Callable[[], None] | None = None,
    ) -> None:
        self.id = id
        self.func = func
        self._link = link
        self._letter = letter
        self._element = element
        self._queue = queue
        self._msgpack = msgpack
        self._deadline = deadline
        self._forget = forget
        self._lock = threading.Lock()
        self._answer: dict[str, Any] | None = None
        self._error: CerbasError | None = None
        self._is_open = True

    def result(self, timeout: float | None = None) -> Any:
        """The value of the function.

        Waits for at most `timeout` seconds, without one until the time limit of the request is over. Raises the
        error of the verdict; :class:`~cerbas.NoAnswer` when the time limit is over;
        :class:`~cerbas.ConnectionFailed` when Redis is away at that moment; ``TimeoutError`` when only `timeout`
        is over: the answer may still come, so ask again.
        """
        answer = self.answer(timeout)
        verdict = str(answer.get("verdict") or answer["status"])
        data = answer.get("data")
        if verdict == "ok":
            return data
        raise error_of_verdict(verdict, data, id=self.id, func=self.func, detail=answer.get("reason"))

    def answer(self, timeout: float | None = None) -> dict[str, Any]:
        """Like :meth:`result`, but the whole answer (``status``, ``data``, ``verdict``) whatever the verdict."""
        until = self._deadline if timeout is None else min(self._deadline, time.monotonic() + timeout)
        if not self._lock.acquire(timeout=max(0.0, until - time.monotonic()) + _GRACE):
            raise TimeoutError(f"{self.func}: no answer yet")
        try:
            if not self._is_settled():
                self._settle(until)
            if self._error is not None:
                raise self._error
            if self._answer is None:
                raise TimeoutError(f"{self.func}: no answer yet")
            return self._answer
        finally:
            self._lock.release()

    def done(self) -> bool:
        """Whether :meth:`result` would not wait. Looks, and does not wait itself."""
        if not self._lock.acquire(blocking=False):
            return False
        try:
            if not self._is_settled():
                self._settle(time.monotonic())
            return self._is_settled()
        finally:
            self._lock.release()

    def close(self) -> None:
        """Gives up: withdraws the request if no daemon has taken it, and ends the subscription.

        Does nothing once there is a result. Raises no error: where Redis is away, the request expires by itself.
        """
        with self._lock:
            if self._is_settled():
                return
            taken = True
            try:
                if not self._link.mailbox.is_shut:
                    taken = not self._withdraw()
            except ConnectionFailed:
                pass
            finally:
                why = f"{self.func}: closed before it had an answer"
                self._fail(NoAnswer(why, id=self.id, func=self.func, taken=taken))

    def __enter__(self) -> PendingAnswer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        # Only where __init__ has come to its end.
        if getattr(self, "_is_open", False):
            self._link.mailbox.abandon(self._letter)

    # What follows is called with the lock held.

    def _is_settled(self) -> bool:
        return self._answer is not None or self._error is not None

    def _settle(self, until: float) -> None:
        """Waits for the answer up to `until`, and where that is the time limit, brings the request to its end."""
        try:
            if self._wait(until) or until < self._deadline:
                pass
            elif self._withdraw():
                self._fail(self._no_answer(taken=False))
            elif not self._wait(time.monotonic() + _GRACE):
                self._fail(self._no_answer(taken=True))
        except ConnectionFailed as error:
            error.id, error.func = self.id, self.func
            self._fail(error)

    def _wait(self, until: float) -> bool:
        """Waits for the message; looks for the stored answer where that could have been missed."""
        while True:
            now = time.monotonic()
            failure: ConnectionFailed | None = None
            try:
                if self._letter.broken is not None and self._letter.message is None:
                    self._link.mailbox.subscribe(self._letter, max(until, now + _PAUSE))
                    message = None
                else:
                    message = self._link.mailbox.wait(self._letter, min(until, now + _PATIENCE))
                if message is not None:
                    return self._take(message, self._msgpack)
                stored = self._link.stored(self.id)
                if stored is not None:
                    return self._take(stored, False)
            except ConnectionFailed as error:
                failure = error
            except (redis.RedisError, OSError) as error:
                failure = self._link.failure(error, self.id)
            now = time.monotonic()
            if now < until and not self._link.mailbox.is_shut:
                if failure is not None:
                    time.sleep(min(_PAUSE, until - now))
                continue
            if failure is not None and (until >= self._deadline or self._link.mailbox.is_shut):
                raise failure
            return False

    def _take(self, message: bytes, msgpack: bool) -> bool:
        try:
            self._answer = decode(message, msgpack)
        except Exception as error:
            # msgpack has errors of many kinds; all of them mean that nobody can read this.
            self._error = CerbasError(f"{self.func}: the answer cannot be read: {error}", id=self.id, func=self.func)
        self._end()
        return True

    def _withdraw(self) -> bool:
        is_withdrawn = self._link.withdraw(self._element, self.id, self._queue)
        if is_withdrawn and self._forget is not None:
            self._forget()
        return is_withdrawn

    def _no_answer(self, taken: bool) -> NoAnswer:
        why = "a daemon has taken the request" if taken else "no daemon has taken the request; it is withdrawn"
        return NoAnswer(f"{self.func}: no answer in time: {why}", id=self.id, func=self.func, taken=taken)

    def _fail(self, error: CerbasError) -> None:
        self._error = error
        self._end()

    def _end(self) -> None:
        self._is_open = False
        self._link.mailbox.close(self._letter)
