"""The client, the worker helper and the test client against the real daemon."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time

import pytest
import redis
from conftest import PACKAGE, real_daemon, wait_until

import cerbas
from cerbas import legacy


def test_hello_answers(client):
    assert client.call("hello") == "hello world!"


@pytest.mark.parametrize("msgpack", [False, True])
@pytest.mark.parametrize(
    "value",
    [
        [None],
        True,
        -1,
        2**53,
        2**64 - 1,
        2**64,
        2**64 + 1,
        -(2**63),
        -(2**63) - 1,
        10**400,
        0.1,
        1.0,
        -0.0,
        117.63331139400017,
        5e-324,
        1.7976931348623157e308,
        "",
        "äöü \u2028 \n 😀",
        [],
        {},
        {"z": 1, "a": [1, {"y": [None, "c"], "b": 2**70}]},
    ],
    ids=repr,
)
def test_values_come_back_as_they_were_sent(url, value, msgpack):
    with cerbas.Client(url, msgpack=msgpack) as client:
        # As a text: 1.0 is not 1, and the order of keys counts.
        assert repr(client.call("echo", message=value)) == repr(value)


def test_arguments_reach_the_function(client):
    assert client.call("sum", a=23, b=54) == 77
    assert client.call("withargs", foo="bar") == "bar"


def test_an_error_of_the_function_is_a_function_error(client):
    with pytest.raises(cerbas.FunctionError, match=r"^witherror: unexpected error$"):
        client.call("witherror")
    with pytest.raises(cerbas.FunctionError, match=r"^sum: bad arguments$"):
        client.call("sum", a="x", b="y")


def test_refusals_have_their_own_errors(client, url):
    with pytest.raises(cerbas.UndefinedFunction, match="nosuch"):
        client.call("nosuch")
    with pytest.raises(cerbas.InvalidArguments):
        client.call("withargs")
    with cerbas.Client(url, source="stranger") as stranger, pytest.raises(cerbas.NotAuthorized, match="source"):
        stranger.call("hello")


def test_a_function_that_runs_too_long_is_a_call_timeout(client):
    start = time.monotonic()
    with pytest.raises(cerbas.CallTimeout, match=r"^slow: timeout$"):
        client.call("slow", timeout=15)
    assert 4.5 <= time.monotonic() - start < 7


def test_an_async_function_answers_at_once(client):
    start = time.monotonic()
    assert client.call("asyncfunc") == ""
    assert time.monotonic() - start < 1


def test_a_later_call_starts_after_its_delay(client):
    start = time.monotonic()
    assert client.later(0.5).call("echo", message="later") == "later"
    assert time.monotonic() - start >= 0.5


def test_calls_can_be_under_way_at_the_same_time(client):
    pendings = [client.submit("sum", a=n, b=1, timeout=20) for n in range(100)]
    assert [pending.result() for pending in pendings] == list(range(1, 101))


def test_threads_share_a_client(client):
    results: dict[int, list] = {}

    def calls(thread: int) -> None:
        results[thread] = [client.call("echo", message=[thread, n], timeout=20) for n in range(50)]

    threads = [threading.Thread(target=calls, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert results == {thread: [[thread, n] for n in range(50)] for thread in range(8)}


def test_a_request_that_is_only_sent_leaves_no_answer(client, redis_socket):
    database = redis.Redis(unix_socket_path=str(redis_socket), db=1)
    id = client.send("hello")
    wait_until(lambda: database.llen("CERBAS-QUEUE") == 0, "the request is taken")
    assert client.call("echo", message=1) == 1
    assert database.exists(f"CERBAS-RESULT-{id}") == 0


def test_a_python_worker_serves_calls(client):
    assert client.call("area", width=3, height=4) == 12
    assert client.call("whoami")["source"] == "python"
    with pytest.raises(cerbas.CerbasError, match="invalid arguments"):
        client.call("area", depth=1)


@pytest.mark.parametrize("msgpack", [False, True])
def test_programs_of_the_first_client_work(url, monkeypatch, msgpack):
    monkeypatch.setenv("CERBAS_REDIS_URL", url)
    monkeypatch.setattr(legacy, "_link", None)
    cerbas.start(False, True)
    answer = cerbas.request(func="sum", source="test", user="foo", arguments={"a": 1, "b": 2}, msgpack=msgpack)
    assert json.loads(answer) == {"status": "ok", "data": 3}
    cerbas.request_without_response("hello")
    legacy._link.close()


def test_the_test_client_passes_and_halts_the_daemon(redis_socket, tmp_path):
    # A daemon of its own, on another database, because it is stopped.
    database = 3
    with real_daemon(redis_socket, tmp_path, database) as daemon:
        finished = subprocess.run(
            [sys.executable, str(PACKAGE / "cerbastest.py"), "--redis", f"unix://{redis_socket}?db={database}"],
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, "PYTHONPATH": str(PACKAGE / "src")},
        )
        assert finished.returncode == 0, finished.stdout + finished.stderr
        assert len(finished.stdout.splitlines()) == 5
        wait_until(lambda: daemon.poll() is not None, "the daemon has stopped", seconds=30)


def test_a_function_that_calls_others_hands_chain_and_time_on(client, url):
    answer = client.call("onward", {"func": "chain", "redis": url}, timeout=10)
    assert answer["chain"] == ["onward", "chain"]
    assert time.time() < answer["deadline"] < time.time() + 6


def test_functions_that_wait_for_each_other_are_refused_at_once(client, url):
    start = time.monotonic()
    with pytest.raises(cerbas.FunctionError, match=r"cycle: onward -> onward"):
        client.call("onward", {"func": "onward", "redis": url}, timeout=10)
    assert time.monotonic() - start < 4


def test_what_is_hopeless_is_not_tried_again(client):
    with pytest.raises(cerbas.FunctionError, match="the picture is gone"):
        client.call("hopeless")


def test_a_request_for_a_node_that_is_not_there_is_refused(client):
    with pytest.raises(cerbas.NoSuchNode):
        client.with_options(node="nobody").call("hello")


def test_a_request_for_a_queue_that_nobody_serves_is_not_sent(client, redis_socket):
    unserved = client.with_options(queue="reprots")
    for ask in (unserved.send, unserved.call, unserved.submit):
        with pytest.raises(cerbas.NoSuchQueue, match="no daemon serves the queue 'reprots'"):
            ask("hello")
    assert not redis.Redis(unix_socket_path=str(redis_socket), db=1).exists("CERBAS-QUEUE-reprots")


def test_a_request_for_all_nodes_is_answered_by_each(client):
    answers = client.with_options(node="*").call("hello")
    assert [answer["data"] for answer in answers.values()] == ["hello world!"]


def test_the_second_of_two_that_are_unique_is_a_duplicate(client):
    one = client.with_options(unique="one")
    with one.later(3600).submit("hello"), pytest.raises(cerbas.Duplicate):
        wait_until(lambda: _is_refused(one), "the first one waits")
        one.call("hello")


def _is_refused(client):
    try:
        client.call("hello")
    except cerbas.Duplicate:
        return True
    return False
