"""The client and a private Redis: it finds the way in when the daemon is the same user's."""

from __future__ import annotations

import contextlib
import json
import socket
import time

import pytest
import redis
from conftest import daemon_program, running, wait_until

import cerbas
from cerbas import entrance, legacy

CONFIGURATION = """
[redis]
url = "{url}"
server = "managed"
[functions.hello]
builtin = "hello"
"""


@pytest.fixture
def home(folder, monkeypatch):
    """The home of a user who has nothing yet."""
    # Short, as the path of a socket may have about 100 characters.
    path = folder / f"home{time.monotonic_ns()}"
    path.mkdir()
    monkeypatch.setenv("HOME", str(path))
    return path


@pytest.fixture
def port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def leave_note(home, port, path, password="secret"):
    notes = home / ".local/state/cerbas"
    notes.mkdir(parents=True)
    (notes / f"redis-{port}.json").write_text(json.dumps({"socket": str(path), "password": password}))


def test_a_client_gets_into_the_closed_redis_of_its_user(home, port):
    url = f"redis://127.0.0.1:{port}/3"
    configuration = home / "cerbas.toml"
    configuration.write_text(CONFIGURATION.format(url=url))
    with running([daemon_program(), "run", "--config", str(configuration)], home / "log") as daemon:

        def is_ready():
            assert daemon.poll() is None, (home / "log").read_text()
            return "functions are ready" in (home / "log").read_text()

        wait_until(is_ready, "the daemon is ready")
        with pytest.raises(redis.AuthenticationError):
            redis.Redis.from_url(url).ping()
        for msgpack in (False, True):
            with cerbas.Client(url, msgpack=msgpack) as client:
                assert client.call("hello", timeout=10) == "hello world!"
        with contextlib.closing(legacy.Link(url)) as link:
            assert link.database == 3


def test_a_note_holds_for_this_machine_and_for_who_brings_no_password(home, port):
    leave_note(home, port, home / "socket")
    way = {"unix_socket_path": str(home / "socket"), "password": "secret"}
    # The server is away, and will be back.
    for host in ("127.0.0.1", "localhost", "[::1]"):
        assert entrance.find(f"redis://{host}:{port}/1") == way
    for url in (f"redis://:own@127.0.0.1:{port}/1", f"redis://10.0.0.1:{port}/1", f"redis://127.0.0.1:{port + 1}/1"):
        assert entrance.find(url) is None
    assert entrance.find("unix:///run/redis.sock?db=1") is None


def test_another_server_at_the_port_is_not_taken_for_that_of_the_note(home, port):
    leave_note(home, port, home / "socket")
    with socket.create_server(("127.0.0.1", port)):
        assert entrance.find(f"redis://127.0.0.1:{port}/1") is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"socket": "/a"}', "\0"])
def test_a_broken_note_is_none(home, port, text):
    leave_note(home, port, home / "socket")
    (home / f".local/state/cerbas/redis-{port}.json").write_text(text)
    assert entrance.find(f"redis://127.0.0.1:{port}/1") is None
