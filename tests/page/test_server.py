"""Who may ask the server for what."""

import re
import socket

import pytest

from usrl.errors import UserError
from usrl.page.server import MAX_BODY, address_of, is_loopback, listen

ACT = {"revision": 0, "structure": "lesion", "verb": "box", "box": [10, 10, 40, 40]}


@pytest.fixture
def caller(toy, make_images, open_desk):
    with toy.serving(open_desk(make_images(2))) as address:
        yield toy.Caller(address)


def test_the_page_its_files_and_its_images_are_served(caller):
    page = caller.get("")
    assert page.status == 200
    names = set(re.findall(rb'(?:src|href)="([^"]+)"', page.body))
    assert names == {b"static/main.js", b"static/page.css", b"static/icon.svg"}
    modules = [
        b"static/" + name for name in re.findall(rb'from "./([\w.]+)"', caller.get("static/main.js").body)
    ]
    for name in (*names, *modules):
        assert caller.get(name.decode()).status == 200
    assert caller.get("static/main.js").headers["Content-Type"].startswith("text/javascript")
    assert [each["name"] for each in caller.get("api/desk").body["images"]] == ["scan 0", "scan 1"]
    assert caller.get("api/images/scan%200/pixels").body.startswith(b"\x89PNG")


def test_the_page_loads_nothing_from_elsewhere(caller):
    policy = caller.get("").headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
    assert "unsafe" not in policy
    for name in ("", "static/main.js", "static/view.js", "static/page.css"):
        assert not re.search(rb"https?://(?!www\.w3\.org/2000/svg)", caller.get(name).body)


def test_every_answer_has_the_headers_that_keep_others_out(caller):
    for answer in (
        caller.get(""),
        caller.get("api/desk"),
        caller.ask("GET", "/wrong/"),
        caller.post("api/no", {}),
    ):
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["Cache-Control"] == "no-store"
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
        assert "Server" not in answer.headers
        assert not any(name.lower().startswith("access-control") for name in answer.headers)


@pytest.mark.parametrize(
    "path", ["/", "/api/desk", "/secret-tokeN/api/desk", "/secret-token2/", "//secret-token/"]
)
def test_without_the_token_there_is_nothing(caller, path):
    answer = caller.ask("GET", path)
    assert (answer.status, list(answer.body)) == (404, ["error"])


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": None}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Origin": "http://127.0.0.1"}, 403),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Sec_Fetch_Site": "same-site"}, 403),
        ({"Sec_Fetch_Site": "same-origin"}, 200),
        ({"Content_Type": "text/plain"}, 415),
        ({"Content_Type": None}, 415),
    ],
)
def test_only_the_page_itself_may_post(caller, headers, status):
    answer = caller.post("api/images/scan%200/act", ACT, **headers)
    assert answer.status == status
    assert caller.get("api/images/scan%200").body["revision"] == (1 if status == 200 else 0)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("evil.example", 421),
        ("evil.example:80", 421),
        ("127.0.0.1.evil.example", 421),
        ("", 421),
        ("localhost:9", 200),
        ("[::1]:9", 200),
        ("127.0.0.1", 200),
    ],
)
def test_a_name_that_another_site_points_here_is_refused(caller, host, status):
    assert caller.get("api/desk", Host=host).status == status


def test_other_sites_may_not_read_either(caller):
    assert caller.get("api/images/scan%200/pixels", Sec_Fetch_Site="cross-site").status == 403
    assert caller.get("api/desk", Sec_Fetch_Site="none").status == 200


def test_requests_that_are_too_long_are_refused_whatever_their_head_says(caller):
    path = "api/images/scan%200/act"
    assert caller.post(path, b" " * (MAX_BODY + 1)).status == 413
    assert caller.get("api/images/" + "a" * 5000).status == 414
    pieces = (
        f"POST /{caller.token}/{path} HTTP/1.1\r\nHost: {caller.host}\r\nOrigin: http://{caller.host}\r\n"
    ).encode()
    pieces += b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"1000\r\n" + b" " * 0x1000 + b"\r\n"
    name, port = caller.host.split(":")
    with socket.create_connection((name, int(port)), timeout=30) as connection:
        connection.sendall(pieces + 5 * chunk + b"0\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 413")
    assert caller.get("api/images/scan%200").body["revision"] == 0


@pytest.mark.parametrize(
    "path",
    [
        "static/../server.py",
        "static/..%2Fserver.py",
        "static/%2e%2e/server.py",
        "static/main.js%00",
        "api/images/..%2F..%2Fetc%2Fpasswd",
        "api/images/%2e%2e/pixels",
        "api/images/..%5C..%5Cx/pixels",
    ],
)
def test_no_path_leads_out_of_the_folder(caller, path):
    answer = caller.get(path)
    assert answer.status in (404, 422)
    assert list(answer.body) == ["error"]


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"])
def test_other_methods_are_refused(caller, method):
    assert caller.ask(method, f"/{caller.token}/api/desk").status == 405


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"\xff\xfe",
        b"[" * 5000,
        b'{"revision": 0, "structure": "lesion", "verb": "box", "box": [NaN, 0, 1, 1]}',
        b'{"revision": 0, "structure": "lesion", "verb": "box", "box": [1e999, 0, 1, 1]}',
        b'{"revision": "0", "structure": "lesion", "verb": "undo"}',
        b'{"revision": 0, "structure": "lesion", "verb": "eval"}',
        b'{"revision": 0, "structure": "lesion", "verb": "undo", "path": "/etc"}',
        b'{"revision": 0, "structure": "lesion", "verb": "undo", "seconds": Infinity}',
        b'{"revision": 0, "structure": 7, "verb": "undo"}',
    ],
)
def test_a_request_that_makes_no_sense_is_told_so_and_changes_nothing(caller, body):
    answer = caller.post("api/images/scan%200/act", body)
    assert answer.status in (400, 422)
    assert list(answer.body) == ["error"]
    assert caller.get("api/images/scan%200").body["revision"] == 0


def test_a_web_socket_is_not_opened(caller):
    head = f"GET /{caller.token}/api/desk HTTP/1.1\r\nHost: {caller.host}\r\nUpgrade: websocket\r\n"
    head += "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    head += "Sec-WebSocket-Version: 13\r\n\r\n"
    name, port = caller.host.split(":")
    with socket.create_connection((name, int(port)), timeout=30) as connection:
        connection.sendall(head.encode())
        assert b" 101 " not in connection.recv(200)


def test_a_stale_request_gets_the_present_state_and_a_message(caller):
    assert caller.post("api/images/scan%200/act", ACT).status == 200
    answer = caller.post("api/images/scan%200/act", ACT)
    assert answer.status == 409
    assert "changed in another tab" in answer.body["error"]
    assert answer.body["view"] == caller.get("api/images/scan%200").body
    assert answer.body["view"]["revision"] == 1


def test_a_bug_is_told_without_its_details_and_the_page_goes_on(toy, make_images, open_desk, capfd):
    class Broken(toy.Painter):
        def correct(self, state, marks):
            raise RuntimeError("of a secret kind")

    with toy.serving(open_desk(make_images(1), Broken())) as address:
        caller = toy.Caller(address)
        assert caller.post("api/images/scan%200/act", ACT).status == 200
        mark = {"revision": 1, "structure": "lesion", "verb": "mark", "kind": "border", "point": [5, 5]}
        answer = caller.post("api/images/scan%200/act", mark)
        assert answer.status == 500
        assert "secret" not in answer.body["error"]
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert caller.get("api/images/scan%200").body["revision"] == 1
    assert "of a secret kind" in capfd.readouterr().err


def test_a_taken_port_and_a_strange_address_are_named():
    with listen("127.0.0.1", 0) as own:
        assert is_loopback(own)
        assert own.proto == socket.IPPROTO_TCP  # or asyncio lets each answer wait for 40 ms
        port = own.getsockname()[1]
        assert address_of(own, "t") == f"http://127.0.0.1:{port}/t/"
        with pytest.raises(UserError, match="choose another --host or --port"):
            listen("127.0.0.1", port)
    with pytest.raises(UserError, match="cannot listen on"):
        listen("203.0.113.7", 0)
    with listen("0.0.0.0", 0) as own:
        assert not is_loopback(own)
        assert "0.0.0.0" not in address_of(own, "t")
