"""The server of the page: routes, and what keeps other people and other sites out.

Nothing is served without the token, a random part of the address. A page of another site cannot know it, and
what it posts is refused by its origin besides. A name that points at this machine is refused too: another
site could have made it do so (DNS rebinding). Files of the folder are asked for by the names in its list, so
no path comes from outside.
"""

import importlib.resources
import ipaddress
import os
import secrets
import socket
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn import Config, Server

from usrl.errors import UserError
from usrl.page.sessions import Acceptance, Act, Desk, StaleError
from usrl.page.storage import encode_png

MAX_BODY = 16 * 1024
"""Bytes of a request. A point takes a hundred."""
MAX_ADDRESS = 4 * 1024
MAX_REQUESTS = 64
"""Requests at once, from all tabs."""
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
        "trusted-types 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_LOCAL = ("localhost", "localhost.localdomain")
T = TypeVar("T")


class Guard:
    """Lets pass what the page itself asks for; an ASGI application around another.

    Args:
        app: What is guarded.
        token: First part of every path.
        host: Name or address that the server was told to listen on. If it is every address of this machine,
            the machine's name is known too.
    """

    def __init__(self, app: ASGIApp, token: str, host: str) -> None:
        self._app, self._token = app, token.encode()
        own = socket.gethostname() if _is_every(host) else host
        self._names = (*_LOCAL, own.casefold())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            raise ValueError(f"only HTTP is served, got {scope['type']}")

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
                message = {**message, "headers": [*message.get("headers", ()), *own]}
            await send(message)

        refused = self._refuse(scope)
        body = b""
        if refused is None and scope["method"] == "POST":
            body, refused = await _read_body(receive)
        if refused is not None:
            status, told = refused
            await JSONResponse({"error": told}, status)(scope, receive, send_guarded)
            return
        path = scope["path"].removeprefix(f"/{self._token.decode()}")
        inner = {**scope, "path": path or "/", "root_path": ""}
        if scope["method"] == "POST":
            receive = _replay(body)
        await self._app(inner, receive, send_guarded)

    def _refuse(self, scope: Scope) -> tuple[int, str] | None:
        """Return status and reason if a request is refused for its head."""
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._is_own_name(host):
            return 421, f"this server is not called {host[:100]!r}"
        token = scope["path"][1:].partition("/")[0].encode()
        if not secrets.compare_digest(token, self._token):
            return 404, "not found; open the address that usrl annotate printed"
        if len(scope.get("raw_path") or b"") > MAX_ADDRESS:
            return 414, "the address is too long"
        if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return 403, "only the page itself may ask for this"
        if scope["method"] not in ("GET", "HEAD", "POST"):
            return 405, f"{scope['method']} is not understood"
        if scope["method"] == "POST":
            if headers.get("origin", "").partition("://")[2].casefold() != host.casefold():
                return 403, "only the page itself may post"
            if headers.get("content-type", "").partition(";")[0].strip() != "application/json":
                return 415, "post application/json"
            length = headers.get("content-length", "0")
            if not (length.isascii() and length.isdigit() and len(length) < 10 and int(length) <= MAX_BODY):
                return 413, f"at most {MAX_BODY} bytes are taken"
        return None

    def _is_own_name(self, host: str) -> bool:
        """Return whether a Host header names this server by an address, or by a name that is its own."""
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        name = name.strip("[]").casefold()
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in self._names
        return True


async def _read_body(receive: Receive) -> tuple[bytes, tuple[int, str] | None]:
    """Return the body of a request; without one that is too long, whatever its head has said."""
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return b"", (400, "the request ended early")
        body += message.get("body", b"")
        if len(body) > MAX_BODY:
            return b"", (413, f"at most {MAX_BODY} bytes are taken")
        if not message.get("more_body", False):
            return body, None


def _replay(body: bytes) -> Receive:
    """Return what hands a body that was read to the application."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        return messages.pop() if messages else {"type": "http.disconnect"}

    return receive


def build_app(desk: Desk, token: str, host: str = "127.0.0.1") -> Guard:
    """Return the guarded application of a desk; ``token`` and ``host`` are those of `Guard`."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.include_router(_route_files())
    app.include_router(_route_desk(desk))
    app.add_exception_handler(UserError, lambda _, error: _tell(error, 422))
    app.add_exception_handler(RequestValidationError, lambda _, error: _tell(_first(error), 422))
    app.add_exception_handler(HTTPException, _tell_wrong)
    app.add_exception_handler(Exception, _tell_bug)
    return Guard(app, token, host)


def _route_files() -> APIRouter:
    """Return routes to the page's own files, which are read once."""
    router, folder = APIRouter(), importlib.resources.files("usrl.page") / "static"
    files = {each.name: each.read_bytes() for each in folder.iterdir() if each.is_file()}

    def send(name: str) -> Response:
        if name not in files:
            return JSONResponse({"error": f"there is no file {name!r}"}, 404)
        return Response(files[name], media_type=_TYPES[name.rpartition(".")[2]])

    router.add_api_route("/", lambda: send("index.html"), response_model=None)
    router.add_api_route("/static/{name}", send, response_model=None)
    return router


def _route_desk(desk: Desk) -> APIRouter:
    """Return routes to images, marks and masks."""
    router = APIRouter(prefix="/api")

    @router.get("/desk")
    def describe() -> dict[str, Any]:
        return desk.describe()

    @router.get("/images/{name}")
    def view(name: str) -> dict[str, Any]:
        return desk.view(name)

    @router.get("/images/{name}/pixels")
    def pixels(name: str) -> Response:
        return Response(encode_png(desk.pixels(name)), media_type="image/png")

    @router.get("/images/{name}/moves")
    def moves(name: str, structure: str) -> list[Any]:
        return desk.moves(name, structure)

    @router.post("/images/{name}/act", response_model=None)
    def act(name: str, act: Act) -> Response | dict[str, Any]:
        return _unless_stale(desk, name, lambda: desk.act(name, act))

    @router.post("/images/{name}/accept", response_model=None)
    def accept(name: str, acceptance: Acceptance) -> Response | dict[str, Any]:
        return _unless_stale(desk, name, lambda: desk.accept(name, acceptance))

    return router


def _unless_stale(desk: Desk, name: str, change: Callable[[], T]) -> T | JSONResponse:
    """Return what a change returns, or what the image has become elsewhere, with status 409."""
    try:
        return change()
    except StaleError:
        told = "This image was changed in another tab. That state is shown now, without your last step."
        return JSONResponse({"error": told, "view": desk.view(name)}, 409)


def _first(error: Exception) -> str:
    """Return what is wrong with a request, in a line."""
    assert isinstance(error, RequestValidationError)
    wrong = error.errors()[0]
    return f"the request is not understood: {'.'.join(map(str, wrong['loc']))}: {wrong['msg']}"


def _tell(error: Exception | str, status: int) -> JSONResponse:
    return JSONResponse({"error": str(error)}, status)


def _tell_wrong(request: Request, error: Exception) -> JSONResponse:
    """Return what the framework refuses, such as an address that leads nowhere."""
    assert isinstance(error, HTTPException)
    return _tell(f"the request is not understood: {error.detail}", error.status_code)


def _tell_bug(request: Request, error: Exception) -> JSONResponse:
    """Return that something went wrong, and print what; the page goes on."""
    traceback.print_exception(error, file=sys.stderr)
    return _tell("something went wrong; the terminal of usrl annotate says what. Nothing was changed", 500)


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens; port 0 is any free one.

    Raises:
        UserError: If this machine has no such address, or the port is taken.
    """
    try:
        family, kind, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        # With its protocol named, asyncio sends at once what it is given. Else each answer waits for 40 ms.
        own = socket.socket(family, kind, socket.IPPROTO_TCP)
        try:
            own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, os.name == "posix")
            own.bind(place)
            own.listen()
        except OSError:
            own.close()
            raise
        return own
    except OSError as error:
        told = error.strerror or error
        raise UserError(
            f"cannot listen on {host} port {port} ({told}); choose another --host or --port"
        ) from None


def address_of(own: socket.socket, token: str) -> str:
    """Return the address of the page."""
    host, port = own.getsockname()[:2]
    host = socket.gethostname() if _is_every(host) else host
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{port}/{token}/"


def _is_every(host: str) -> bool:
    """Return whether a host is every address of this machine, such as 0.0.0.0."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return not host


def is_loopback(own: socket.socket) -> bool:
    """Return whether only this machine can reach a socket."""
    return ipaddress.ip_address(own.getsockname()[0]).is_loopback


def make_server(app: Guard) -> Server:
    """Return a server of the page. It logs no requests: they would show the token and names of images."""
    return Server(
        Config(
            app,
            access_log=False,
            log_level="warning",
            server_header=False,
            proxy_headers=False,
            lifespan="off",
            ws="none",
            limit_concurrency=MAX_REQUESTS,
        )
    )


def serve(app: Guard, own: socket.socket) -> None:
    """Answer requests until the process is told to stop."""
    with suppress(KeyboardInterrupt):  # which uvicorn raises again after it has ended in order
        make_server(app).run(sockets=[own])
