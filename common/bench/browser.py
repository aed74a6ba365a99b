"""Headless Chromium over the DevTools protocol, through two pipes: no driver, no port, no package.

With --remote-debugging-pipe Chromium reads commands from file descriptor 3 and writes answers to 4, each a JSON text
that ends with a NUL byte.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
    "--disable-extensions", "--remote-debugging-pipe",
)  # fmt: skip
PATIENCE = 240  # seconds that an answer may take: the machine may be busy


def find_chromium() -> str | None:
    """The browser's path: $CHROMIUM, or the first known name that is installed."""
    asked = os.environ.get("CHROMIUM")
    return asked or next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """One page in one browser, with a profile of its own. Used in a `with` statement."""

    def __init__(self, profile: Path, program: str | None = None):
        ours_in, theirs_out = os.pipe()
        theirs_in, ours_out = os.pipe()
        # bash moves the pipes to where Chromium looks for them.
        script = f'exec 3<&{theirs_in} 4>&{theirs_out}; exec "$0" "$@"'
        command = [
            "bash",
            "-c",
            script,
            program or find_chromium(),
            *FLAGS,
            f"--user-data-dir={profile}",
            "about:blank",
        ]
        self.process = subprocess.Popen(command, pass_fds=(theirs_in, theirs_out), stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL)  # fmt: skip
        os.close(theirs_in)
        os.close(theirs_out)
        self._read_end, self._write_end = ours_in, ours_out
        self._number, self._buffer, self._session = 0, b"", None
        self.events: list[dict[str, Any]] = []
        targets = self.call("Target.getTargets")["targetInfos"]
        page = next(target["targetId"] for target in targets if target["type"] == "page")
        self._session = self.call("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._session = None
            self.call("Browser.close")
        except (OSError, RuntimeError):
            self.process.kill()
        finally:
            os.close(self._read_end)
            os.close(self._write_end)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def _message(self, until: float) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read_end], [], [], max(0, until - time.monotonic()))
            data = os.read(self._read_end, 1 << 20) if ready else b""
            if not data:
                raise RuntimeError("Chromium does not answer" if not ready else "Chromium ended")
            self._buffer += data
        text, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(text)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and wait for its result; events that come in between are kept. RuntimeError on an error."""
        self._number += 1
        command: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            command["sessionId"] = self._session
        os.write(self._write_end, json.dumps(command).encode() + b"\0")
        until = time.monotonic() + PATIENCE
        while (message := self._message(until)).get("id") != self._number:
            self.events.append(message)
        if "error" in message:
            raise RuntimeError(f"{method}: {message['error']['message']}")
        return message["result"]

    def wait_for(self, event: str) -> None:
        """Until an event of this name was seen."""
        until = time.monotonic() + PATIENCE
        while not any(message.get("method") == event for message in self.events):
            self.events.append(self._message(until))

    def open(self, path: Path) -> None:
        """Load a file from disk, with everything on it."""
        self.events.clear()
        self.call("Page.navigate", url=path.resolve().as_uri())
        self.wait_for("Page.loadEventFired")

    def run(self, expression: str) -> Any:
        """The value of a JavaScript expression; a promise is waited for. RuntimeError when it throws."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(json.dumps(answer["exceptionDetails"]))
        return answer["result"].get("value")

    def errors(self) -> list[str]:
        """What the page complained of since it was opened: exceptions, console errors, the log's errors."""
        self.run("new Promise(done => requestAnimationFrame(() => setTimeout(done, 50)))")
        found = []
        for message in self.events:
            method, given = message.get("method"), message.get("params", {})
            if method == "Runtime.exceptionThrown":
                found.append(given["exceptionDetails"].get("exception", {}).get("description") or str(given))
            if method == "Runtime.consoleAPICalled" and given["type"] in ("error", "warning", "assert"):
                found.append(str([argument.get("value") for argument in given["args"]]))
            if method == "Log.entryAdded" and given["entry"]["level"] in ("error", "warning"):
                found.append(given["entry"]["text"])
        return found

    def fetched(self) -> list[str]:
        """The addresses that were asked for since the page was opened, pictures inside the page left out."""
        asked = [message["params"]["request"]["url"] for message in self.events
                 if message.get("method") == "Network.requestWillBeSent"]  # fmt: skip
        return [url for url in asked if not url.startswith("data:")]

    def size(self, width: int, height: int = 900, phone: bool = False) -> None:
        """The window's size in CSS pixels."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)

    def prefer(self, media: str = "", **features: str) -> None:
        """Emulate a medium ("print") or what the user prefers (prefers_color_scheme="dark")."""
        listed = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self.call("Emulation.setEmulatedMedia", media=media, features=listed)

    def key(self, name: str) -> None:
        """Press and release a key: Tab, Enter, Escape or a letter."""
        codes = {"Tab": (9, ""), "Enter": (13, "\r"), "Escape": (27, ""), " ": (32, " ")}
        code, text = codes.get(name, (ord(name[0].upper()), name))
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=name, code=name, windowsVirtualKeyCode=code,
                      **({"text": text} if text and kind == "keyDown" else {}))  # fmt: skip

    def picture(self, path: Path, whole: bool = False) -> None:
        """A PNG of the window, or of the whole page."""
        answer = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(answer["data"]))

    def pdf(self, path: Path) -> None:
        """The page as it is printed."""
        path.write_bytes(base64.b64decode(self.call("Page.printToPDF", printBackground=True)["data"]))
