"""The proxy in front of servers as they are in the world."""

import asyncio
import http.client
import json
import re
import shutil
import subprocess
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import websockets
from conftest import PATIENCE, wait_for

HERE = Path(__file__).parent


@pytest.fixture
def nginx(processes, tmp_path):
    """nginx with files, at a socket of this machine."""
    files = tmp_path / "files"
    files.mkdir()
    (files / "text.txt").write_text("hello world\n" * 1000)
    (files / "big").write_bytes(bytes(range(256)) * 20_000)
    tmp_path.chmod(0o755)
    places = " ".join(f"{kind}_temp_path {tmp_path}/{kind};" for kind in ("proxy", "fastcgi", "uwsgi", "scgi"))
    (tmp_path / "nginx.conf").write_text(f"""
        daemon off; master_process off; pid {tmp_path}/nginx.pid; error_log {tmp_path}/nginx.log;
        events {{ }}
        http {{
            access_log off; client_body_temp_path {tmp_path}/body; {places}
            gzip on; gzip_types text/plain; default_type text/plain; client_max_body_size 0;
            server {{ listen unix:{tmp_path}/nginx.sock; root {files}; }}
        }}""")
    processes.start(shutil.which("nginx") or "/usr/sbin/nginx", "-c", str(tmp_path / "nginx.conf"))
    wait_for("nginx listens", lambda: (tmp_path / "nginx.sock").exists())
    return f"unix:{tmp_path}/nginx.sock"


def test_nginx_behind_it_serves_files_ranges_and_what_has_not_changed(gateway, nginx):
    proxy = gateway(f'[proxy.files]\nstrip = true\ntarget = "{nginx}"\n')
    status, headers, body = proxy.get("/files/text.txt")
    assert (status, body) == (200, b"hello world\n" * 1000)
    etag = headers["ETag"]
    assert proxy.get("/files/text.txt", **{"If-None-Match": etag})[0] == 304
    status, headers, body = proxy.get("/files/text.txt", Range="bytes=6-10")
    assert (status, body, headers["Content-Range"]) == (206, b"world", "bytes 6-10/12000")
    status, headers, body = proxy.get("/files/text.txt", **{"Accept-Encoding": "gzip"})
    assert (status, headers["Content-Encoding"], headers["Transfer-Encoding"]) == (200, "gzip", "chunked")
    assert proxy.get("/files/big")[2] == bytes(range(256)) * 20_000
    assert proxy.get("/files/nothing")[0] == 404
    connection = http.client.HTTPConnection(urllib.parse.urlparse(proxy.url).netloc, timeout=PATIENCE)
    connection.request("HEAD", "/files/text.txt")
    answer = connection.getresponse()
    assert (answer.status, answer.getheader("Content-Length"), answer.read()) == (200, "12000", b"")
    # The connection goes on.
    connection.request("GET", "/api/nothing")
    assert connection.getresponse().status == 404


@pytest.fixture
def app():
    """An application in Python."""

    class App(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            if self.headers.get("Transfer-Encoding") == "chunked":
                body = b""
                while size := int(self.rfile.readline(), 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
            else:
                body = self.rfile.read(int(self.headers["Content-Length"]))
            answer = json.dumps({"path": self.path, "length": len(body), "headers": dict(self.headers)}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def do_GET(self):
            # Without a length, as many small servers do.
            self.protocol_version = "HTTP/1.0"
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"to the end")
            self.close_connection = True

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), App)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_application_in_python_gets_bodies_with_a_length_and_in_chunks(gateway, app):
    proxy = gateway(f'[proxy.app]\ntarget = "{app}"\n')
    connection = http.client.HTTPConnection(urllib.parse.urlparse(proxy.url).netloc, timeout=PATIENCE)
    for body, length in [(b"x" * 300_000, 300_000), (iter([b"a" * 1000] * 70), 70_000)]:
        connection.request("POST", "/app/x?y=z", body=body, headers={"X-Forwarded-For": "6.6.6.6"})
        answer = json.load(connection.getresponse())
        assert (answer["path"], answer["length"]) == ("/app/x?y=z", length)
        assert answer["headers"]["X-Forwarded-For"] == "127.0.0.1"
    assert proxy.get("/app/x")[2] == b"to the end"


def test_an_application_in_node_sends_events_as_they_happen_and_echoes(gateway, processes):
    node = processes.start("node", str(HERE / "app.js"))
    port = wait_for("node listens", lambda: re.search(r"listens at (\d+)", node.log.read_text()))[1]
    proxy = gateway(f'[proxy.node]\ntarget = "http://127.0.0.1:{port}"\n')
    connection = http.client.HTTPConnection(urllib.parse.urlparse(proxy.url).netloc, timeout=PATIENCE)
    connection.request("GET", "/node/events")
    answer = connection.getresponse()
    events = [answer.readline() for _ in range(10)]
    assert [event for event in events if event.strip()] == [f"data: {number}\n".encode() for number in range(5)]
    answer.read()
    for method in ("PUT", "PATCH", "DELETE"):
        connection.request(method, "/node/echo", body=b"body of " + method.encode())
        answer = connection.getresponse()
        assert (answer.getheader("X-Method"), answer.read()) == (method, b"body of " + method.encode())


def test_a_websocket_goes_through_and_on_over_a_reload(gateway):
    async def talk():
        async def echo(connection):
            async for message in connection:
                await connection.send(message)

        async with websockets.serve(echo, "127.0.0.1", 0, max_size=None) as server:
            port = server.sockets[0].getsockname()[1]
            proxy = gateway(f'[proxy.echo]\ntarget = "http://127.0.0.1:{port}"\n')
            url = proxy.url.replace("http", "ws") + "/echo"
            async with websockets.connect(url, max_size=None) as connection:
                for message in ["hello", b"\x00\xff" * 500_000, ""]:
                    await connection.send(message)
                    assert await asyncio.wait_for(connection.recv(), PATIENCE) == message
                await asyncio.wait_for(await connection.ping(), PATIENCE)
                await asyncio.get_running_loop().run_in_executor(None, proxy.reload, "")
                await connection.send("still here")
                assert await asyncio.wait_for(connection.recv(), PATIENCE) == "still here"
            assert proxy.get("/echo")[0] == 404

    asyncio.run(talk())


def test_curl_does_what_a_user_does(gateway):
    proxy = gateway('[functions.hello]\nbuiltin = "hello"\n[functions.sum]\nbuiltin = "sum"\n')

    def curl(*arguments):
        done = subprocess.run(["curl", "-sS", *arguments], capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert json.loads(curl(f"{proxy.url}/api/hello")) == {"status": "ok", "data": "hello world!"}
    assert json.loads(curl(f"{proxy.url}/api/sum?a=1&b=2"))["data"] == 3
    assert json.loads(curl("-d", '{"a": 1, "b": 2}', f"{proxy.url}/api/sum"))["data"] == 3
    assert json.loads(curl("-d", "a=1", "-d", "b=2", f"{proxy.url}/api/sum"))["data"] == 3
    assert json.loads(curl("--json", '{"a": 1, "b": 2}', "-H", "Transfer-Encoding: chunked", f"{proxy.url}/api/sum"))["data"] == 3
    assert curl("-I", f"{proxy.url}/api/hello").startswith("HTTP/1.1 200 OK")
    accepted = curl("-i", "-d", "data=hello", f"{proxy.url}/api/work")
    assert accepted.startswith("HTTP/1.1 202 Accepted") and "Location: /api/status/" in accepted
    both = curl(f"{proxy.url}/api/hello", f"{proxy.url}/livez")
    assert both.count('"status"') == 2
