"""The servers that the tests run against: a private Redis, and the real daemon beside it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from fake_daemon import FakeDaemon

import cerbas

PACKAGE = Path(__file__).resolve().parents[1]
REPOSITORY = PACKAGE.parents[1]

# The real daemon serves database 1, the fake one database 2.
REAL, FAKE = 1, 2

CONFIGURATION = """
[redis]
url = "redis+unix://{socket}?db={database}"
server = "external"

[server]
workers = 4
state_dir = "{folder}/state"

[auth]
sources = ["python", "cerbastest", "test"]

[functions.hello]
builtin = "hello"
[functions.echo]
builtin = "echo"
[functions.sum]
builtin = "sum"
[functions.slow]
builtin = "slow"
[functions.withargs]
builtin = "withargs"
params = ["foo"]
[functions.witherror]
builtin = "witherror"
[functions.asyncfunc]
builtin = "asyncfunc"
[functions.halt]
builtin = "halt"
[functions.area]
worker = ["{python}", "{tests}/worker_program.py"]
[functions.whoami]
worker = ["{python}", "{tests}/worker_program.py"]
[functions.onward]
worker = ["{python}", "{tests}/worker_program.py"]
processes = 2
[functions.chain]
worker = ["{python}", "{tests}/worker_program.py"]
[functions.hopeless]
worker = ["{python}", "{tests}/worker_program.py"]
retries = 5
"""


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds:g} s in vain: {what}"
        time.sleep(0.005)


@contextlib.contextmanager
def running(command: list[str], log: Path, environment: dict[str, str] | None = None) -> Iterator[subprocess.Popen]:
    """A program in a process group of its own, of which nothing is left afterwards."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            env={**os.environ, **(environment or {})},
        )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=5)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    # The path of a socket may have about 100 characters, so pytest's own folders are too deep.
    path = Path(tempfile.mkdtemp(prefix="cerbas-python-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def redis_socket(folder: Path) -> Iterator[Path]:
    program = shutil.which("redis-server") or pytest.fail("redis-server is not installed")
    socket, log = folder / "redis.sock", folder / "redis.log"
    settings = ["--port", "0", "--unixsocket", str(socket), "--save", "", "--appendonly", "no", "--dir", str(folder)]
    with running([program, *settings], log) as process:
        client = redis.Redis(unix_socket_path=str(socket))

        def answers() -> bool:
            assert process.poll() is None, f"redis-server ended: {log.read_text()}"
            with contextlib.suppress(redis.ConnectionError):
                return bool(client.ping())
            return False

        wait_until(answers, "redis-server answers")
        yield socket


def daemon_program() -> str:
    named = os.environ.get("CERBAS_BIN")
    candidates = [named] if named else [str(REPOSITORY / "target" / kind / "cerbas") for kind in ("release", "debug")]
    for candidate in candidates:
        if os.access(candidate, os.X_OK):
            return candidate
    pytest.fail(f"no daemon: none of {candidates} is a program; build it or set CERBAS_BIN")


@contextlib.contextmanager
def real_daemon(socket: Path, folder: Path, database: int = REAL) -> Iterator[subprocess.Popen]:
    configuration, log = folder / "cerbas.toml", folder / "cerbas.log"
    configuration.write_text(
        CONFIGURATION.format(
            socket=socket, database=database, folder=folder, python=sys.executable, tests=PACKAGE / "tests"
        )
    )
    environment = {"PYTHONPATH": str(PACKAGE / "src")}
    with running([daemon_program(), "run", "--config", str(configuration)], log, environment) as process:
        with cerbas.Client(f"unix://{socket}?db={database}") as client:

            def answers() -> bool:
                assert process.poll() is None, f"cerbas ended: {log.read_text()}"
                with contextlib.suppress(cerbas.NoAnswer):
                    return client.call("hello", timeout=0.5) == "hello world!"
                return False

            wait_until(answers, f"cerbas answers; see {log}")
        yield process


@pytest.fixture(scope="session")
def _daemon(redis_socket: Path, folder: Path) -> Iterator[None]:
    with real_daemon(redis_socket, folder):
        yield


@pytest.fixture
def url(redis_socket: Path, _daemon: None) -> str:
    """Where the real daemon answers."""
    return f"unix://{redis_socket}?db={REAL}"


@pytest.fixture
def client(url: str) -> Iterator[cerbas.Client]:
    """A client of the real daemon."""
    with cerbas.Client(url) as client:
        yield client


@pytest.fixture
def scratch(redis_socket: Path) -> Iterator[redis.Redis]:
    """An empty database that no real daemon serves."""
    database = redis.Redis(unix_socket_path=str(redis_socket), db=FAKE)
    database.flushdb()
    yield database
    database.close()


@pytest.fixture
def scratch_url(redis_socket: Path, scratch: redis.Redis) -> str:
    return f"unix://{redis_socket}?db={FAKE}"


@pytest.fixture
def lonely(scratch_url: str) -> Iterator[cerbas.Client]:
    """A client of the empty database."""
    with cerbas.Client(scratch_url) as client:
        yield client


@pytest.fixture
def fake(scratch: redis.Redis) -> FakeDaemon:
    """A daemon on the empty database that does what the test tells it, step by step."""
    return FakeDaemon(scratch, FAKE)
