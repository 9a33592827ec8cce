"""The page's own files, shipped in the package and read once: nothing is built, fetched or looked up by a path."""

from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable

from flock_p2p.web.messages import Request, Response, Route

INDEX, PREFIX = "index.html", "/page/"
KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}  # what is of another kind is not served, such as a licence


def make_policy(port: int) -> str:
    """What the page may load and run: files of this server, and nothing that is made of text at run time."""
    sockets = f"ws://127.0.0.1:{port} ws://localhost:{port}"  # older browsers do not take them for 'self'
    return (
        f"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self' {sockets}; "
        "frame-ancestors 'none'; base-uri 'none'; form-action 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    )


@cache
def load_assets() -> Mapping[str, tuple[bytes, str]]:
    """Bytes and kind, by path."""
    found = {}
    for name, file in _walk(resources.files("flock_p2p.page") / "static", ""):
        kind = next((kind for end, kind in KINDS.items() if name.endswith(end)), None)
        if kind is not None:
            found["/" if name == INDEX else PREFIX + name] = (file.read_bytes(), kind)
    return found


def _walk(folder: Traversable, prefix: str) -> Iterator[tuple[str, Traversable]]:
    for each in folder.iterdir():
        if each.is_dir():
            yield from _walk(each, f"{prefix}{each.name}/")
        else:
            yield prefix + each.name, each


def make_assets(port: int) -> dict[str, Route]:
    return {path: _make_route(data, kind, port) for path, (data, kind) in load_assets().items()}


def _make_route(data: bytes, kind: str, port: int) -> Route:
    response = Response(200, data, kind, {"content-security-policy": make_policy(port)})

    async def answer(_request: Request) -> Response:
        return response

    return Route({"GET": answer})
