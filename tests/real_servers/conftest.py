"""A daemon with a gateway for one test, in a folder of its own; all that a test starts ends with it."""

import os
import re
import signal
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest

PATIENCE = 20


def wait_for(what, condition):
    """Waits until `condition` gives something."""
    until = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < until, f"this was waited for in vain: {what}"
        time.sleep(0.01)
    return found


class Processes:
    def __init__(self, folder):
        self.folder = folder
        self.running = []

    def start(self, *command, **options):
        number = len(self.running)
        log = open(self.folder / f"log-{number}", "wb")
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=self.folder, **options)
        self.running.append(process)
        process.log = self.folder / f"log-{number}"
        return process

    def end(self):
        for process in reversed(self.running):
            process.terminate()
        for process in self.running:
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@pytest.fixture
def processes(tmp_path):
    processes = Processes(tmp_path)
    yield processes
    processes.end()


class Gateway:
    def __init__(self, processes, configuration):
        self.folder = processes.folder
        self.write(configuration)
        program = os.environ["CERBAS_BIN"]
        self.process = processes.start(program, "run", "--config", "cerbas.toml")
        found = wait_for("the gateway listens", lambda: re.search(r"listens at (http://\S+)", self.log()))
        self.url = found[1]

    def write(self, configuration):
        text = '[redis]\nserver = "none"\n[http]\nlisten = ["127.0.0.1:0"]\n' + configuration
        Path(self.folder / "cerbas.toml").write_text(text)

    def log(self):
        return self.process.log.read_text()

    def reload(self, configuration):
        before = self.log().count("reload: ")
        self.write(configuration)
        self.process.send_signal(signal.SIGHUP)
        wait_for("the configuration is read again", lambda: self.log().count("reload: ") > before)

    def get(self, path, **headers):
        request = urllib.request.Request(self.url + path, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                return answer.status, dict(answer.headers), answer.read()
        except urllib.error.HTTPError as answer:
            return answer.code, dict(answer.headers), answer.read()


@pytest.fixture
def gateway(processes):
    return lambda configuration: Gateway(processes, configuration)
