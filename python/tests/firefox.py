# SPDX-License-Identifier: Apache-2.0
"""Firefox without a window, spoken to in WebDriver BiDi, which it understands by itself: no driver stands between."""

import base64
import json
import re
import shutil
import subprocess
import tempfile

import pytest

websocket = pytest.importorskip("websocket")  # selenium brings it
from selenium.common.exceptions import JavascriptException  # noqa: E402

from browser import Page  # noqa: E402

FIREFOX = shutil.which("firefox-esr") or shutil.which("firefox")
needs_firefox = pytest.mark.skipif(not FIREFOX, reason="firefox is not installed")


class FirefoxReader(Page):
    """A Firefox with a page open; every check ends with `quiet`: no error on the console, no request."""

    def __init__(self, width=1280, height=800):
        self.profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        flags = ["--headless", "--no-remote", "--profile", self.profile.name, "--remote-debugging-port", "0"]
        self.process = subprocess.Popen(
            [FIREFOX, *flags], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        )
        said = []
        for line in self.process.stdout:
            said.append(line)
            if address := re.search(r"WebDriver BiDi listening on (ws://\S+)", line):
                break
        else:
            raise RuntimeError(f"Firefox ended before it listened: {''.join(said)}")
        self.socket = websocket.create_connection(f"{address[1]}/session", suppress_origin=True, timeout=90)
        self.events, self.sent = [], 0
        self.call("session.new", capabilities={})
        self.context = self.call("browsingContext.getTree")["contexts"][0]["context"]
        self.call("session.subscribe", events=["log.entryAdded", "network.beforeRequestSent"])
        self.call("browsingContext.setViewport", context=self.context, viewport={"width": width, "height": height})

    def call(self, method, **params):
        self.sent += 1
        self.socket.send(json.dumps({"id": self.sent, "method": method, "params": params}))
        while True:
            message = json.loads(self.socket.recv())
            if message.get("id") != self.sent:
                self.events.append(message)
            elif message["type"] == "error":
                raise RuntimeError(f"{method}: {message['error']}: {message['message']}")
            else:
                return message["result"]

    def open(self, path, link=""):
        self.call("browsingContext.navigate", context=self.context, url="about:blank", wait="complete")
        self.events.clear()
        url = f"file://{path}" + (f"#{link}" if link else "")
        self.call("browsingContext.navigate", context=self.context, url=url, wait="complete")
        return self.wait()

    def _value(self, expression):
        """The value of an expression that is JSON, or the promise of it."""
        said = self.call("script.evaluate", expression=expression, target={"context": self.context}, awaitPromise=True)
        if said["type"] == "exception":
            raise JavascriptException(said["exceptionDetails"]["text"])
        value = said["result"].get("value")
        return None if value is None else json.loads(value)

    def js(self, code, *arguments):
        return self._value(f"JSON.stringify((function() {{ {code} }}).apply(null, {json.dumps(arguments)}))")

    def wait_js(self, expression):
        """The value of a promise."""
        return self._value(f"Promise.resolve({expression}).then((value) => JSON.stringify(value))")

    def async_js(self, code, *arguments):
        """What `code` gives its last argument, a function."""
        work = f"(function() {{ {code} }}).apply(null, [...{json.dumps(arguments)}, done])"
        return self._value(f"new Promise((done) => {work}).then((value) => JSON.stringify(value))")

    def click(self, selector):
        """With the mouse, in the middle of what `selector` finds."""
        x, y = self.js(
            "const r = document.querySelector(arguments[0]).getBoundingClientRect();"
            "return [r.left + r.width / 2, r.top + r.height / 2].map(Math.round)",
            selector,
        )
        steps = [{"type": "pointerMove", "x": x, "y": y}, {"type": "pointerDown", "button": 0}]
        self._act({"type": "pointer", "id": "mouse", "actions": [*steps, {"type": "pointerUp", "button": 0}]})

    def press(self, keys):
        """Keys, one after the other, where the focus is."""
        steps = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self._act({"type": "key", "id": "keys", "actions": steps})

    def _act(self, source):
        self.call("input.performActions", context=self.context, actions=[source])

    def screenshot(self):
        return base64.b64decode(self.call("browsingContext.captureScreenshot", context=self.context)["data"])

    def quiet(self):
        for event in self.events:
            if event["method"] == "log.entryAdded":
                assert event["params"]["level"] not in ("error", "warn"), event["params"]["text"]
            elif event["method"] == "network.beforeRequestSent":
                url = event["params"]["request"]["url"]
                assert url.startswith(("file:", "blob:", "data:", "about:")), url

    def close(self):
        try:
            self.call("browser.close")
            self.process.wait(20)
        finally:
            self.process.kill()
            self.process.wait()
            self.socket.close()
            self.profile.cleanup()
