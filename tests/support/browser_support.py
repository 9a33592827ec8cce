"""Headless Chromium over its own protocol: a page is opened, asked, pressed and photographed. Needs no driver."""

import base64
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, open_websocket_url

START_SECONDS = 120.0
FIRST_PAGE_SECONDS = 20.0  # for an empty one: half a second on an idle machine; where it takes longer, nothing is told
WAIT_SECONDS = 120.0  # on a loaded machine a browser gets little of it
POLL_SECONDS = 0.05
FLAGS = (
    "--headless", "--remote-debugging-port=0", "--no-first-run", "--disable-gpu", "--disable-dev-shm-usage",
    "--disable-extensions", "--disable-background-networking", "--disable-component-update", "--hide-scrollbars",
    "--force-color-profile=srgb", "--lang=en",
)  # fmt: skip
NAVIGATED = "Inspected target navigated or closed"  # DevTools' words to who asks while a page begins anew
KEYS = {"Tab": 9, "Enter": 13, "Escape": 27, " ": 32}


def find_browser() -> str:
    """Skips the test, with the reason, where none is named: on a machine that is busy a browser starves for minutes."""
    found = shutil.which(os.environ.get("FLOCK_BROWSER", ""))
    if found is None:
        pytest.skip("no browser is named: FLOCK_BROWSER=chromium-headless-shell (a package of Debian) runs these")
    return found


class Navigated(Exception):
    """The page that was asked has gone, and another one is being loaded in its place."""


class Page:
    """One tab. `errors` are what its console said of errors, refused loads and what nobody caught."""

    def __init__(self, socket: WebSocketConnection) -> None:
        self._socket, self._ids = socket, itertools.count(1)
        self._answers: dict[int, Any] = {}
        self._news = trio.Condition()
        self._session: str | None = None
        self.errors: list[str] = []
        self.requested: list[str] = []

    async def listen(self) -> None:
        try:
            while True:
                message = json.loads(await self._socket.get_message())
                if "id" in message:
                    self._answers[message["id"]] = message
                    async with self._news:
                        self._news.notify_all()
                else:
                    self._note(message["method"], message.get("params", {}))
        except ConnectionClosed:
            return

    def _note(self, method: str, params: dict[str, Any]) -> None:
        if method == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(params["exceptionDetails"])[:500])
        elif method == "Runtime.consoleAPICalled" and params["type"] == "error":
            self.errors.append(json.dumps(params["args"])[:500])
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.errors.append(params["entry"]["text"] + " " + params["entry"].get("url", ""))
        elif method == "Network.requestWillBeSent":
            self.requested.append(params["request"]["url"])

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self._ids)
        session = {} if self._session is None else {"sessionId": self._session}
        await self._socket.send_message(json.dumps({"id": number, "method": method, "params": params, **session}))
        with trio.fail_after(WAIT_SECONDS):
            async with self._news:
                while number not in self._answers:
                    await self._news.wait()
        answer = self._answers.pop(number)
        if answer.get("error", {}).get("message") == NAVIGATED:
            raise Navigated
        assert "error" not in answer, (method, answer)
        return dict(answer["result"])

    async def attach(self) -> None:
        self._context = (await self.call("Target.createBrowserContext"))["browserContextId"]
        target = (
            await self.call("Target.createTarget", url="about:blank", browserContextId=self._context)
        )["targetId"]  # fmt: skip
        self._session = (await self.call("Target.attachToTarget", targetId=target, flatten=True))["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self.call(f"{domain}.enable")

    async def close(self) -> None:
        self._session = None
        await self.call("Target.disposeBrowserContext", browserContextId=self._context)

    async def goto(self, url: str) -> None:
        await self.call("Page.navigate", url=url)
        await self.wait("document.readyState === 'complete'")

    async def ask(self, expression: str) -> Any:
        """What it is worth, in the page, promises awaited."""
        found = await self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, (expression, found["exceptionDetails"])
        return found["result"].get("value")

    async def wait(self, expression: str, seconds: float = WAIT_SECONDS) -> Any:
        """Until it is true; with what the page shows, where it never is. The page may begin anew in between."""
        with trio.move_on_after(seconds):
            while True:
                try:
                    if value := await self.ask(expression):
                        return value
                except Navigated:
                    pass
                await trio.sleep(POLL_SECONDS)
        shown = await self.ask("document.body ? document.body.innerText.slice(0, 1500) : ''")
        raise AssertionError(f"never true within {seconds:.0f} s: {expression}\n{shown}\n{self.errors}")

    async def text(self, selector: str) -> str:
        return str(await self.ask(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''"))

    async def resize(self, width: int, height: int, *, scale: float = 1) -> None:
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=width < 500,
        )

    async def prefer(self, **features: str) -> None:
        """Such as prefers_color_scheme="dark"."""
        rows = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        await self.call("Emulation.setEmulatedMedia", features=rows)

    async def press(self, key: str) -> None:
        text = {"text": "\r"} if key == "Enter" else {"text": key} if len(key) == 1 else {}
        values = {"key": key, "code": key, "windowsVirtualKeyCode": KEYS[key], **text}
        await self.call("Input.dispatchKeyEvent", type="keyDown", **values)
        await self.call("Input.dispatchKeyEvent", type="keyUp", key=key, code=key, windowsVirtualKeyCode=KEYS[key])

    async def photograph(self, path: Path, *, whole: bool = False) -> None:
        found = await self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole, **(
            {"clip": {**(await self.call("Page.getLayoutMetrics"))["cssContentSize"], "scale": 1}} if whole else {}
        ))  # fmt: skip
        path.write_bytes(base64.b64decode(found["data"]))


@contextmanager
def run_browser() -> Iterator[str]:
    """The address of one, which ends with all its processes; no profile is kept. Skips the test where there is none."""
    browser = find_browser()
    with tempfile.TemporaryDirectory(prefix="flock-browser-", ignore_cleanup_errors=True) as folder:
        root = ["--no-sandbox"] if os.getuid() == 0 else []  # Chromium refuses to run as root with one
        command = [browser, *FLAGS, *root, f"--user-data-dir={folder}", "about:blank"]
        said = Path(folder) / "said.txt"
        with said.open("wb") as output:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        try:
            yield _wait_for_address(process, said)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait_for_address(process: "subprocess.Popen[bytes]", said: Path) -> str:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        found = re.search(r"DevTools listening on (ws://\S+)\s", said.read_text(errors="replace"))
        if found:
            return found[1]
        time.sleep(POLL_SECONDS)
    raise AssertionError(f"the browser did not start: {said.read_text(errors='replace')[-500:]}")


def skip_where_it_starves(address: str) -> None:
    """A browser is six processes: on a machine with ten times the work that it has cores, it misses every deadline."""

    async def look() -> None:
        with trio.fail_after(FIRST_PAGE_SECONDS):
            async with open_page(address) as page:
                assert await page.ask("1 + 1") == 2

    try:
        trio.run(look)
    except trio.TooSlowError:
        pytest.skip(f"an empty page took this browser more than {FIRST_PAGE_SECONDS:.0f} s: the machine is too busy")


@asynccontextmanager
async def open_page(address: str) -> AsyncIterator[Page]:
    """A tab without another one's storage."""
    async with trio.open_nursery() as nursery, open_websocket_url(address, max_message_size=1 << 26) as socket:
        page = Page(socket)
        nursery.start_soon(page.listen)
        await page.attach()
        yield page
        await page.close()
        nursery.cancel_scope.cancel()
