"""The client against a daemon that stops at each step: what a real daemon cannot show on demand."""

from __future__ import annotations

import gc
import json
import os
import pickle
import signal
import threading
import time

import pytest
import redis
from conftest import running, wait_until
from fake_daemon import in_background

import cerbas
from cerbas.link import Link


def test_a_request_carries_what_the_daemon_needs(lonely, fake):
    before = time.time() * 1000
    with lonely.submit("sum", a=1, b=2, timeout=3) as pending:
        request = fake.take()
    assert before - 1 <= request.pop("sent_at") <= time.time() * 1000 + 1
    assert request == {"id": pending.id, "func": "sum", "args": {"a": 1, "b": 2}, "source": "python", "expires": 3000}


def test_user_source_prefix_and_database_are_the_clients(scratch_url, scratch):
    with cerbas.Client(scratch_url, user="ann", source=None, prefix="{OTHER}") as client:
        id = client.send("hello")
    request = json.loads(scratch.lpop("{OTHER}-QUEUE"))
    assert request.pop("sent_at")
    assert request == {"id": id, "func": "hello", "user": "ann", "reply": False}


def test_arguments_can_have_any_name(lonely, fake):
    lonely.send("f", {"timeout": 1, "func": 2, "self": 3}, args=4)
    assert fake.take()["args"] == {"timeout": 1, "func": 2, "self": 3, "args": 4}


def test_options_go_into_the_request(lonely, fake, scratch):
    lonely.with_options(node="web-1", retries=3, unique="report").send("f")
    request = fake.take()
    expected = {"node": "web-1", "retries": 3, "unique": "report", "on_duplicate": "reject"}
    assert {name: request.get(name) for name in expected} == expected
    lonely.with_options(unique="report", replace=True).with_options(retries=0).later(1).send("f")
    request = fake.take()
    assert (request["on_duplicate"], request["retries"], request["delay"]) == ("replace", 0, 1000)
    assert "node" not in request
    lonely.send("f")
    assert not {"node", "retries", "unique", "on_duplicate", "chain", "deadline"} & fake.take().keys()


def test_a_request_goes_into_the_queue_that_was_named_and_is_withdrawn_from_there(lonely, scratch):
    lonely.with_options(queue="reports").send("f")
    assert scratch.llen("CERBAS-QUEUE-reports") == 1
    with pytest.raises(cerbas.NoAnswer) as caught:
        lonely.with_options(queue="reports").call("f", timeout=0.05)
    assert not caught.value.taken
    assert scratch.llen("CERBAS-QUEUE-reports") == 1
    lonely.with_options(queue="default").send("f")
    assert scratch.llen("CERBAS-QUEUE") == 1


def test_only_a_unique_request_can_replace_another(lonely):
    with pytest.raises(ValueError, match=r"^replace: "):
        lonely.with_options(replace=True)


def test_what_a_command_calls_knows_who_waits_and_until_when(lonely, fake, monkeypatch):
    deadline = round(time.time() * 1000) + 1000
    monkeypatch.setenv("CERBAS_CHAIN", '["first", "second"]')
    monkeypatch.setenv("CERBAS_DEADLINE", str(deadline))
    with lonely.submit("f", timeout=60):
        request = fake.take()
    assert (request["chain"], request["deadline"]) == (["first", "second"], deadline)
    assert 0 < request["expires"] <= 1000
    with lonely.submit("f", timeout=0.2):
        request = fake.take()
    assert request["deadline"] < deadline and request["expires"] == 200
    # Nobody waits for this one, so it may take its time.
    lonely.send("f")
    assert not {"chain", "deadline"} & fake.take().keys()


@pytest.mark.parametrize("chain", ["", "[]", "no list", "7", "null"])
def test_an_environment_that_makes_no_sense_is_nobodys_chain(lonely, fake, monkeypatch, chain):
    monkeypatch.setenv("CERBAS_CHAIN", chain)
    monkeypatch.setenv("CERBAS_DEADLINE", "soon")
    with lonely.submit("f"):
        assert "chain" not in fake.take()


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("duplicate", cerbas.Duplicate),
        ("no such node", cerbas.NoSuchNode),
        ("no such queue", cerbas.NoSuchQueue),
        ("cycle: a -> b -> a", cerbas.CallCycle),
        ("something new", cerbas.Rejected),
    ],
)
def test_each_refusal_is_an_error_of_its_own(lonely, fake, reason, kind):
    with lonely.submit("f") as pending:
        fake.answer(fake.take(), reason, status="error", verdict="rejected")
        with pytest.raises(kind) as caught:
            pending.result()
    assert (type(caught.value), caught.value.reason) == (kind, reason)


def test_a_later_call_carries_its_delay_and_waits_that_much_longer(lonely, fake):
    with lonely.later(0.3).submit("hello", timeout=0.2) as pending:
        request = fake.take()
        assert (request["delay"], request["expires"]) == (300, 200)
        with pytest.raises(TimeoutError) as caught:
            pending.result(0.3)
        assert not isinstance(caught.value, cerbas.NoAnswer)
        fake.answer(request, "late")
        assert pending.result() == "late"


@pytest.mark.parametrize("msgpack", [False, True])
def test_an_answer_that_was_published_before_the_client_looked_is_not_missed(scratch_url, fake, msgpack):
    with cerbas.Client(scratch_url, msgpack=msgpack) as client, client.submit("hello") as pending:
        fake.answer(fake.take(), {"a": [1, None, "ä"]}, keep=False)
        assert pending.result() == {"a": [1, None, "ä"]}


def test_an_answer_that_was_stored_but_never_reached_the_subscription_is_found(lonely, fake):
    with lonely.submit("hello", timeout=0.3) as pending:
        fake.answer(fake.take(), "stored", tell=False)
        assert pending.result() == "stored"


@pytest.mark.parametrize("msgpack", [False, True])
def test_an_answer_that_came_while_the_subscription_was_broken_is_found_at_once(scratch_url, scratch, fake, msgpack):
    with cerbas.Client(scratch_url, msgpack=msgpack) as client, client.submit("hello", timeout=20) as pending:
        request = fake.take()
        assert scratch.execute_command("CLIENT", "KILL", "TYPE", "pubsub") == 1
        fake.answer(request, "kept")
        start = time.monotonic()
        assert pending.result() == "kept"
        assert time.monotonic() - start < 2


def test_a_broken_subscription_is_made_again_while_a_thread_waits(lonely, scratch, fake):
    def answer_after_break():
        request = fake.take()
        scratch.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        wait_until(lambda: fake.subscribers() == 1, "the client has subscribed again")
        fake.answer(request, "heard", keep=False)

    with in_background(answer_after_break):
        assert lonely.call("hello", timeout=20) == "heard"


def test_a_connection_that_died_while_idle_costs_no_call(lonely, scratch, fake):
    with fake.serving():
        assert lonely.call("echo", n=1) == {"n": 1}
    # Both of its connections: without a channel, that of the answers counts as a normal one.
    assert scratch.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes") >= 2
    with fake.serving():
        assert lonely.call("echo", n=2) == {"n": 2}


def test_without_a_daemon_the_request_is_withdrawn(lonely, scratch):
    start = time.monotonic()
    with pytest.raises(cerbas.NoAnswer, match="hello: no answer in time: no daemon has taken") as caught:
        lonely.call("hello", timeout=0.2)
    assert 0.2 <= time.monotonic() - start < 2
    assert (caught.value.taken, caught.value.verdict, caught.value.func) == (False, None, "hello")
    assert scratch.dbsize() == 0


def test_a_request_that_was_taken_and_never_answered_is_told_apart(lonely, fake):
    with lonely.submit("hello", timeout=0.2) as pending:
        assert fake.take()["id"] == pending.id
        with pytest.raises(cerbas.NoAnswer, match="a daemon has taken the request") as caught:
            pending.result()
    assert (caught.value.taken, caught.value.id) == (True, pending.id)


def test_a_verdict_that_comes_just_after_the_time_limit_is_still_heard(lonely, fake):
    with lonely.submit("slow", timeout=0.1) as pending:
        request = fake.take()

        def too_late():
            time.sleep(0.2)
            fake.answer(request, "timeout", status="error", verdict="timeout")

        with in_background(too_late), pytest.raises(cerbas.CallTimeout):
            pending.result()


@pytest.mark.parametrize(
    ("verdict", "text", "kind"),
    [
        (None, "no such picture", cerbas.FunctionError),
        ("timeout", "timeout", cerbas.CallTimeout),
        ("expired", "expired", cerbas.Expired),
        ("cancelled", "cancelled", cerbas.Cancelled),
        ("lost", "lost", cerbas.Lost),
        ("rejected", "Undefined function", cerbas.UndefinedFunction),
        ("rejected", "invalid arguments", cerbas.InvalidArguments),
        ("rejected", "cerbas authorization - invalid source", cerbas.NotAuthorized),
        ("rejected", "cerbas authorization - invalid user", cerbas.NotAuthorized),
        ("rejected", "cerbas authorization - only cron may send this", cerbas.NotAuthorized),
        ("rejected", "bad call", cerbas.BadCall),
        ("rejected", "overload", cerbas.Overload),
        ("rejected", "a reason of tomorrow", cerbas.Rejected),
        ("a verdict of tomorrow", "why", cerbas.CerbasError),
    ],
)
def test_each_verdict_has_its_error(lonely, fake, verdict, text, kind):
    with lonely.submit("resize") as pending:
        more = {} if verdict is None else {"verdict": verdict}
        fake.answer(fake.take(), text, status="error", **more)
        with pytest.raises(cerbas.CerbasError) as caught:
            pending.result()
    error = caught.value
    assert type(error) is kind
    assert str(error) == f"resize: {text}"
    assert (error.id, error.verdict, error.reason) == (pending.id, verdict or "error", text)
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), copy.__dict__) == (kind, str(error), error.__dict__)


@pytest.mark.parametrize("content", [b"nonsense", b"[]", b"\xff", b"{}"])
def test_an_answer_that_cannot_be_read_is_an_error(lonely, scratch, fake, content):
    with lonely.submit("hello") as pending:
        scratch.publish(f"CERBAS-RESPONSE-2-{fake.take()['id']}", content)
        with pytest.raises(cerbas.CerbasError, match="hello: the answer cannot be read"):
            pending.result()


def test_a_pending_answer_can_be_asked_again_and_again(lonely, fake):
    with lonely.submit("hello") as pending:
        assert not pending.done()
        fake.answer(fake.take(), "hi")
        wait_until(pending.done, "the answer is there")
        assert [pending.result(), pending.result(0)] == ["hi", "hi"]


def test_closing_a_pending_answer_withdraws_the_request_and_ends_the_subscription(lonely, scratch, fake):
    pending = lonely.submit("hello")
    assert (scratch.llen("CERBAS-QUEUE"), fake.subscribers()) == (1, 1)
    pending.close()
    pending.close()
    assert scratch.llen("CERBAS-QUEUE") == 0
    wait_until(lambda: fake.subscribers() == 0, "no subscription is left")
    with pytest.raises(cerbas.NoAnswer, match="closed"):
        pending.result()


def test_a_forgotten_pending_answer_leaves_no_subscription_behind(lonely, fake):
    lonely.submit("forgotten")
    gc.collect()
    with fake.serving("hi"):
        assert lonely.call("hello") == "hi"
    wait_until(lambda: fake.subscribers() == 0, "no subscription is left")


def test_many_threads_share_one_client_and_each_gets_its_own_answer(lonely, scratch, fake):
    wrong = []

    def calls(thread):
        for n in range(50):
            args = {"thread": thread, "n": n}
            if lonely.call("echo", args, timeout=20) != args:
                wrong.append(args)

    threads = [threading.Thread(target=calls, args=(n,)) for n in range(16)]
    with fake.serving():
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=60)
    assert not any(thread.is_alive() for thread in threads)
    assert wrong == []
    wait_until(lambda: fake.subscribers() == 0, "no subscription is left")


def test_threads_survive_breaks_of_their_common_subscription(lonely, scratch, fake):
    wrong = []
    is_over = threading.Event()

    def calls(thread):
        for n in range(30):
            args = {"thread": thread, "n": n}
            if lonely.call("echo", args, timeout=20) != args:
                wrong.append(args)

    def breaks():
        while not is_over.wait(0.02):
            scratch.execute_command("CLIENT", "KILL", "TYPE", "pubsub")

    threads = [threading.Thread(target=calls, args=(n,)) for n in range(8)]
    with fake.serving(), in_background(breaks):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=60)
        is_over.set()
    assert not any(thread.is_alive() for thread in threads)
    assert wrong == []


def test_calls_reuse_their_connections(lonely, scratch, fake):
    with fake.serving():
        lonely.call("echo", n=0)
        before = scratch.info("stats")["total_connections_received"]
        for n in range(100):
            lonely.call("echo", n=n)
        assert scratch.info("stats")["total_connections_received"] == before


def test_many_pending_answers_share_one_connection(lonely, scratch, fake):
    pendings = [lonely.submit("echo", n=n) for n in range(200)]
    assert len(scratch.client_list(_type="pubsub")) == 1
    with fake.serving():
        assert [pending.result() for pending in reversed(pendings)] == [{"n": n} for n in reversed(range(200))]


def test_a_child_process_can_use_the_client_of_its_parent(lonely, fake):
    with fake.serving("hi"):
        assert lonely.call("hello") == "hi"
        child = os.fork()
        if child == 0:
            os._exit(0 if lonely.call("hello") == "hi" else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert lonely.call("hello") == "hi"


def test_arguments_that_are_not_json_are_refused_and_nothing_is_sent(lonely, scratch):
    for value in (object(), float("nan"), "\udcff"):
        with pytest.raises((TypeError, ValueError)):
            lonely.call("echo", message=value)
    for timeout in (0, -1, float("nan")):
        with pytest.raises(ValueError, match="timeout"):
            lonely.call("echo", timeout=timeout)
    with pytest.raises(ValueError, match="delay"):
        lonely.later(-1)
    assert scratch.dbsize() == 0


def test_a_closed_client_says_so_and_wakes_who_still_waits(scratch_url, fake):
    client = cerbas.Client(scratch_url)
    pending = client.submit("hello", timeout=20)
    with in_background(lambda: (fake.take(), client.close())), pytest.raises(cerbas.ConnectionFailed, match="closed"):
        pending.result()
    with pytest.raises(cerbas.ConnectionFailed, match="closed"):
        client.call("hello")


def test_where_no_redis_is_the_error_names_the_place_and_the_cause(folder):
    nowhere = folder / "nowhere.sock"
    with cerbas.Client(f"unix://{nowhere}?db=1") as client, pytest.raises(cerbas.ConnectionFailed) as caught:
        client.call("hello")
    assert str(caught.value).startswith(f"unix://{nowhere}?db=1: ")
    assert isinstance(caught.value, ConnectionError)
    assert isinstance(caught.value.__cause__, redis.ConnectionError)


def test_when_redis_ends_while_a_call_waits_the_call_ends_with_its_time_limit(tmp_path, folder):
    socket = folder / "short-lived.sock"
    command = ["redis-server", "--port", "0", "--unixsocket", str(socket), "--save", "", "--dir", str(tmp_path)]
    with cerbas.Client(f"unix://{socket}") as client:
        with running(command, tmp_path / "log"):
            wait_until(socket.exists, "redis-server listens")
            pending = client.submit("hello", timeout=1)
        with pytest.raises(cerbas.ConnectionFailed) as caught:
            pending.result()
        assert caught.value.id == pending.id


def test_a_redis_that_hangs_does_not_hang_the_caller(tmp_path, folder, monkeypatch):
    monkeypatch.setattr("cerbas.link.SOCKET_TIMEOUT", 0.3)
    socket = folder / "hanging.sock"
    command = ["redis-server", "--port", "0", "--unixsocket", str(socket), "--save", "", "--dir", str(tmp_path)]
    with running(command, tmp_path / "log") as process:
        wait_until(socket.exists, "redis-server listens")
        with cerbas.Client(f"unix://{socket}") as client:
            pending = client.submit("hello", timeout=1)
            os.kill(process.pid, signal.SIGSTOP)
            try:
                start = time.monotonic()
                with pytest.raises(cerbas.ConnectionFailed):
                    pending.result()
                with pytest.raises(cerbas.ConnectionFailed):
                    client.call("hello", timeout=1)
                assert time.monotonic() - start < 6
            finally:
                os.kill(process.pid, signal.SIGCONT)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://127.0.0.1:6379/1", "redis://127.0.0.1:6379/1"),
        ("redis://:secret@host:1/8", "redis://:***@host:1/8"),
        ("rediss://ann:se%40cret@host/8", "rediss://ann:***@host/8"),
        ("unix://ann:secret@/run/redis.sock?db=1", "unix://ann:***@/run/redis.sock?db=1"),
        ("unix:///run/redis.sock?db=1&password=secret", "unix:///run/redis.sock?db=1&password=***"),
        ("redis+unix:///run/redis.sock?db=3", "redis+unix:///run/redis.sock?db=3"),
    ],
)
def test_the_password_is_never_shown(url, shown):
    assert Link(url).url == shown
    assert "secret" not in repr(cerbas.Client(url))
