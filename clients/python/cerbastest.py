#!/usr/bin/env python3
"""Calls the functions that every cerbas has for a test, and says whether they answer as they should.

    python3 cerbastest.py [--redis URL] [--keep]

The last call stops the daemon, except with --keep. Exit status: 0 if all answers were as expected, else 1.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any, Callable

# So that it runs from a checkout where the package is not installed.
sys.path.insert(0, str(Path(__file__).resolve().parent / "src"))

import cerbas

_PATIENCE = 15.0  # seconds; more than the 5 that the daemon gives to `slow`


def main() -> int:
    description, _, more = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(description=description, epilog=more.strip().splitlines()[-1])
    parser.add_argument("--redis", metavar="URL", default=default_url(), help="where the daemon listens: %(default)s")
    parser.add_argument("--keep", action="store_true", help="do not stop the daemon")
    options = parser.parse_args()
    with connect(options.redis, msgpack=False) as raw, connect(options.redis, msgpack=True) as packed:
        passed = [
            check("hello", lambda: raw.call("hello", timeout=_PATIENCE), "hello world!"),
            check("hello (msgpack)", lambda: packed.call("hello", timeout=_PATIENCE), "hello world!"),
            check("sum", lambda: raw.call("sum", a=23, b=54, timeout=_PATIENCE), 77),
            check("slow", lambda: raw.call("slow", timeout=_PATIENCE), "timeout"),
        ]
        if not options.keep:
            passed.append(check("halt", lambda: raw.call("halt", delay=1000, timeout=_PATIENCE)))
    return 0 if all(passed) else 1


def default_url() -> str:
    return os.environ.get("CERBAS_REDIS_URL") or "redis://127.0.0.1:6379/1"


def connect(url: str, msgpack: bool) -> cerbas.Client:
    return cerbas.Client(url, user="foo", source="cerbastest", msgpack=msgpack)


def check(name: str, call: Callable[[], Any], *expected: Any) -> bool:
    """Prints what a call gave and how long it took; without `expected`, any value will do."""
    start = time.monotonic()
    try:
        result = call()
    except cerbas.CallTimeout as timeout:
        result = timeout.reason
        passed = result in expected
    except cerbas.CerbasError as error:
        result = f"{type(error).__name__}: {error}"
        passed = False
    else:
        passed = not expected or result in expected
    mark = "ok  " if passed else "FAIL"
    print(f"{mark} {name:16} {time.monotonic() - start:6.3f} s  {result!r}", flush=True)
    return passed


if __name__ == "__main__":
    sys.exit(main())
