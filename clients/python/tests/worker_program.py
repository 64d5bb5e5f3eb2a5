"""The program that the tests serve as a worker."""

from __future__ import annotations

import math
import os
import subprocess
import sys

import cerbas


@cerbas.function
def area(width: float, height: float = 1.0) -> float:
    return width * height


@cerbas.function
def whoami(call: cerbas.Call) -> dict:
    return {"id": call.id, "func": call.func, "user": call.user, "source": call.source, "timeout": call.timeout}


@cerbas.function("with-dash")
def renamed(**args: object) -> dict:
    return args


@cerbas.function
def noisy() -> str:
    print("to nobody")
    sys.__stdout__.write("neither\n")
    sys.__stdout__.flush()
    os.write(1, b"nor this\n")
    subprocess.run(["echo", "from a program"], check=True)
    # A program that reads its input must not eat the next call.
    subprocess.run(["cat"], check=True)
    return "quiet"


@cerbas.function
def broken() -> None:
    raise ValueError("no such picture")


@cerbas.function
def wordless() -> None:
    raise KeyError


@cerbas.function
def mistaken(width: int) -> int:
    return len(width)


@cerbas.function
def unprintable(kind: str) -> object:
    return {"set": {1}, "nan": math.nan, "surrogate": "\udcff", "endless": endless()}[kind]


def endless() -> list:
    itself: list = []
    itself.append(itself)
    return itself


@cerbas.function
def hopeless() -> None:
    raise cerbas.DoNotRetry("the picture is gone")


@cerbas.function
def chain(call: cerbas.Call) -> dict:
    return {"chain": list(call.chain), "deadline": call.deadline}


@cerbas.function
def onward(call: cerbas.Call, func: str, redis: str) -> object:
    with cerbas.Client(redis, source="test") as client:
        # On to itself is a circle.
        return client.call(func, {"redis": redis, "func": func} if func == "onward" else {}, timeout=30)


@cerbas.function
def badtext() -> None:
    raise RuntimeError("file \udcff")


print("said before serving", file=sys.stderr)
cerbas.serve()
