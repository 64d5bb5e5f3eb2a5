"""The worker helper, as the daemon sees it: a process with pipes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("worker_program.py")
SOURCES = Path(__file__).resolve().parents[1] / "src"


class Worker:
    def __init__(self, *command: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(SOURCES)},
            start_new_session=True,
        )

    def call(self, func: str, **args: object) -> dict:
        return self.tell({"id": "7", "func": func, "args": args, "user": None, "source": "web", "timeout": 5000})

    def tell(self, line: object) -> dict:
        text = line if isinstance(line, bytes) else json.dumps(line).encode()
        self.process.stdin.write(text + b"\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def end(self) -> tuple[bytes, str]:
        """Ends the input; what was still written to output and, over the whole life, to the log."""
        output, log = self.process.communicate(timeout=10)
        return output, log.decode()


@pytest.fixture
def worker() -> Iterator[Worker]:
    worker = Worker(str(PROGRAM))
    yield worker
    worker.process.kill()
    worker.process.wait()
    for stream in (worker.process.stdin, worker.process.stdout, worker.process.stderr):
        stream.close()


def error(text: str) -> dict:
    return {"id": "7", "status": "error", "data": text}


def ok(value: object) -> dict:
    return {"id": "7", "status": "ok", "data": value}


def test_a_function_gets_its_arguments_by_name_and_its_value_is_the_answer(worker):
    assert worker.call("area", width=3, height=4) == ok(12)
    assert worker.call("area", width=3) == ok(3)


def test_a_function_can_have_another_name_than_in_python(worker):
    assert worker.call("with-dash", a=1) == ok({"a": 1})
    assert worker.call("renamed")["status"] == "error"


def test_a_parameter_annotated_with_call_gets_what_is_known_about_the_call(worker):
    known = {"id": "7", "func": "whoami", "user": None, "source": "web", "timeout": 5.0}
    assert worker.call("whoami") == ok(known)


def test_nobody_can_pass_a_call_as_an_argument(worker):
    assert worker.call("whoami", call={"user": "root"}) == error("invalid arguments")


@pytest.mark.parametrize("args", [{}, {"width": 1, "depth": 2}])
def test_arguments_that_do_not_fit_are_invalid_arguments(worker, args):
    assert worker.call("area", **args) == error("invalid arguments")


def test_a_type_error_of_the_function_itself_is_its_own_error(worker):
    assert "has no len()" in worker.call("mistaken", width=3)["data"]


def test_an_exception_is_an_error_with_its_text_and_the_traceback_goes_to_the_log(worker):
    assert worker.call("broken") == error("no such picture")
    assert worker.call("wordless") == error("KeyError")
    output, log = worker.end()
    assert output == b""
    assert 'raise ValueError("no such picture")' in log


@pytest.mark.parametrize("kind", ["set", "nan", "surrogate", "endless"])
def test_a_value_that_is_not_json_is_an_error_and_the_next_call_works(worker, kind):
    answer = worker.call("unprintable", kind=kind)
    assert answer["status"] == "error"
    assert "its value is not JSON" in answer["data"]
    assert worker.call("area", width=2) == ok(2)


def test_an_error_text_with_broken_unicode_still_reaches_the_caller(worker):
    assert worker.call("badtext") == error("file ?")


def test_what_a_function_prints_or_starts_cannot_disturb_the_protocol(worker):
    assert worker.call("noisy") == ok("quiet")
    assert worker.call("area", width=2) == ok(2)
    output, log = worker.end()
    assert output == b""
    for line in ("to nobody", "neither", "nor this", "from a program"):
        assert line in log


def test_an_unknown_name_is_an_error_that_lists_the_known_ones(worker):
    text = worker.call("resize")["data"]
    assert text.startswith("undefined function: resize; known: area, badtext, ")


@pytest.mark.parametrize("line", [b"nonsense", b"[]", b'{"id": "7"}', b'{"id": "7", "func": "area", "args": 3}'])
def test_a_line_that_is_no_call_is_an_error_and_the_next_call_works(worker, line):
    answer = worker.tell(line)
    assert answer["status"] == "error"
    assert answer["data"].startswith("bad call")
    assert worker.call("area", width=2) == ok(2)


def test_at_the_end_of_its_input_a_worker_ends_quietly(worker):
    assert worker.call("area", width=2) == ok(2)
    output, log = worker.end()
    assert worker.process.returncode == 0
    assert (output, log) == (b"", "said before serving\n")


def test_sigterm_ends_a_worker(worker):
    assert worker.call("area", width=2) == ok(2)
    worker.process.send_signal(signal.SIGTERM)
    assert worker.process.wait(timeout=10) == 0


def test_a_worker_whose_daemon_has_gone_ends_quietly(worker):
    worker.process.stdout.close()
    worker.process.stdin.write(b'{"id": "7", "func": "area", "args": {"width": 1}}\n')
    worker.process.stdin.close()
    assert worker.process.wait(timeout=10) == 0
    assert worker.process.stderr.read() == b"said before serving\n"


def test_a_single_function_serves_under_any_name():
    program = "import cerbas\n@cerbas.function\ndef only(a): return a\ncerbas.serve()"
    worker = Worker("-c", program)
    assert worker.call("thumbnail", a=5) == ok(5)
    worker.end()


@pytest.mark.parametrize(
    ("program", "why"),
    [
        ("cerbas.serve()", "nothing to serve"),
        ("f = cerbas.function('f'); f(len.__class__); f(print)", "f: registered already"),
        (
            """
            @cerbas.function
            def f(a, /): return a
            """,
            "a: a positional-only parameter cannot get an argument by name",
        ),
    ],
)
def test_a_program_that_could_not_serve_says_why_at_its_start(program, why):
    worker = Worker("-c", "import cerbas\n" + textwrap.dedent(program))
    _, log = worker.end()
    assert worker.process.returncode == 1
    assert why in log


def test_what_is_hopeless_says_so(worker):
    assert worker.call("hopeless") == {**error("the picture is gone"), "retry": False}
    worker.process.stdin.close()
    assert "Traceback" not in worker.process.stderr.read().decode()


def test_a_call_knows_who_waits_for_it_and_until_when(worker):
    line = {"id": "7", "func": "chain", "args": {}, "deadline": 1700000000500, "chain": ["first", "chain"]}
    assert worker.tell(line) == ok({"chain": ["first", "chain"], "deadline": 1700000000.5})
    assert worker.call("chain") == ok({"chain": [], "deadline": None})
