"""The interface of the first client."""

from __future__ import annotations

import json

import pytest
from fake_daemon import in_background

import cerbas
from cerbas import legacy


@pytest.fixture
def started(scratch_url, monkeypatch):
    monkeypatch.setenv("CERBAS_REDIS_URL", scratch_url)
    monkeypatch.setattr(legacy, "_link", None)
    cerbas.start(prod=False, local=True)
    yield
    legacy._link.close()


@pytest.mark.parametrize("msgpack", [False, True])
def test_a_request_is_numbered_and_its_answer_is_json_text(started, scratch, fake, msgpack):
    scratch.set("CERBAS-COUNTER", 41)
    requests = []

    def answer():
        requests.append(fake.take())
        fake.answer(requests[0], 77)

    with in_background(answer):
        answered = cerbas.request(func="sum", source="web", user="tom", arguments={"a": 23, "b": 54}, msgpack=msgpack)
    assert json.loads(answered) == {"status": "ok", "data": 77}
    assert (answered["status"], answered["data"], answered[0]) == ("ok", 77, "{")
    (request,) = requests
    assert request.pop("sent_at") and request.pop("expires") == 70_000
    assert request == {
        "id": "0000000042",
        "func": "sum",
        "source": "web",
        "user": "tom",
        "args": {"a": 23, "b": 54},
    }


def test_an_error_is_an_answer_too(started, fake):
    def answer():
        fake.answer(fake.take(), "Undefined function", status="error", verdict="rejected")

    with in_background(answer):
        answered = cerbas.request("nosuch")
    assert (answered["status"], answered["data"]) == ("error", "Undefined function")


def test_without_a_daemon_the_answer_is_timeout_and_nothing_is_left_behind(started, scratch):
    answered = cerbas.request("hello", timeout=0.2)
    assert json.loads(answered) == {"status": "error", "data": "timeout"}
    assert scratch.keys() == [b"CERBAS-COUNTER"]


def test_a_request_without_response_is_only_sent(started, scratch, fake):
    assert cerbas.request_without_response("hello", "web", "tom", {"a": 1}) is None
    assert scratch.lrange("CERBAS-QUEUE", 0, -1) == [b"1"]
    request = fake.take()
    assert request == {
        "id": "0000000001",
        "func": "hello",
        "source": "web",
        "user": "tom",
        "args": {"a": 1},
        "reply": False,
    }


@pytest.mark.parametrize(
    ("prod", "local", "environment", "url"),
    [
        (False, True, {"CERBAS_HOST": "elsewhere"}, "redis://127.0.0.1:6379/1"),
        (True, True, {}, "redis://127.0.0.1:6379/8"),
        (True, False, {"CERBAS_HOST": "elsewhere"}, "redis://elsewhere:6379/8"),
        (False, False, {}, "redis://localhost:6379/1"),
        (True, False, {"CERBAS_REDIS_URL": "redis://there/3"}, "redis://there/3"),
    ],
)
def test_start_chooses_the_redis(monkeypatch, prod, local, environment, url):
    for name in ("CERBAS_HOST", "CERBAS_REDIS_URL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(legacy, "_link", None)
    cerbas.start(prod, local)
    assert legacy._link.url == url


def test_a_request_before_start_says_what_is_missing(monkeypatch):
    monkeypatch.setattr(legacy, "_link", None)
    with pytest.raises(cerbas.CerbasError, match="start"):
        cerbas.request("hello")
