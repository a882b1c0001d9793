# SPDX-License-Identifier: Apache-2.0
"""Chromium without a window, driven through chromedriver: what a reader of the page sees, does and gets."""

import base64
import json
import shutil
import time

import pytest

webdriver = pytest.importorskip("selenium.webdriver")
from selenium.common.exceptions import JavascriptException  # noqa: E402
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")


class Reader:
    """A browser with a page open; every check ends with `quiet`: no error on the console, no request."""

    def __init__(self, width=1440, height=900):
        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM
        flags = ["headless=new", "no-sandbox", "disable-gpu", "hide-scrollbars", "disable-dev-shm-usage"]
        flags += ["force-color-profile=srgb", "font-render-hinting=none", f"window-size={width},{height}"]
        for flag in flags:
            options.add_argument(f"--{flag}")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service(DRIVER))
        self.driver.set_script_timeout(60)
        self.size(width, height)
        self.theme("light")

    def size(self, width, height):
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def theme(self, name):
        features = [{"name": "prefers-color-scheme", "value": name}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def open(self, path, link=""):
        self.driver.get("about:blank")  # the same file with another link would not be loaded again
        self.driver.get_log("browser"), self.driver.get_log("performance")
        self.driver.get(f"file://{path}" + (f"#{link}" if link else ""))
        return self.wait()

    def wait(self, timeout=30):
        """Until the page has drawn what was asked for last."""
        return self.until("document.documentElement.dataset.ready && attngraphViewer.idle() && document.documentElement.dataset.ready"
                          " || (document.documentElement.dataset.ready === 'failed' && 'failed')", timeout)  # fmt: skip

    def until(self, expression, timeout=30):
        end = time.monotonic() + timeout
        while True:
            try:
                value = self.js(f"return {expression}")
            except JavascriptException:  # not there yet
                value = None
            if value:
                return value
            if time.monotonic() > end:
                raise AssertionError(f"{expression} is still {value!r}; the page says: {self.text('#problem')!r}")
            time.sleep(0.02)

    def js(self, code, *arguments):
        return self.driver.execute_script(code, *arguments)

    def wait_js(self, expression):
        """The value of a promise."""
        code = f"const done = arguments[arguments.length - 1]; Promise.resolve({expression}).then(done, (e) => done(String(e)))"
        return self.driver.execute_async_script(code)

    def one(self, selector):
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector):
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def text(self, selector):
        return self.js("return document.querySelector(arguments[0])?.innerText ?? ''", selector)

    def state(self, **values):
        self.js("attngraphViewer.state.set(arguments[0])", values)
        return self.wait()

    def screenshot(self):
        return base64.b64decode(self.driver.get_screenshot_as_base64())

    def quiet(self):
        messages = [entry for entry in self.driver.get_log("browser")]
        assert not messages, messages
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                url = message["params"]["request"]["url"]
                assert url.startswith(("file:", "blob:", "data:", "about:")), url

    def shrunk(self, image, width=480, height=300):
        """A PNG made smaller."""
        return base64.b64decode(self._drawn([image], width, height, "canvases[0].toDataURL('image/png').split(',')[1]"))

    def difference(self, one, other):
        """Mean difference of two PNGs, 0 to 255, each shrunk to 96 x 60: fonts may differ, pictures may not."""
        compare = (
            "((a, b) => a.reduce((sum, value, i) => sum + Math.abs(value - b[i]), 0) / (96 * 60 * 3))"
            "(...canvases.map((c) => c.getContext('2d').getImageData(0, 0, 96, 60).data))"
        )
        return self._drawn([one, other], 96, 60, compare)

    def _drawn(self, images, width, height, expression):
        self.driver.get("about:blank")
        urls = [f"data:image/png;base64,{base64.b64encode(image).decode()}" for image in images]
        code = f"""
        const [urls, width, height, done] = arguments;
        Promise.all(urls.map(async (url) => {{
          const image = new Image();
          image.src = url;
          await image.decode();
          const canvas = document.createElement('canvas');
          [canvas.width, canvas.height] = [width, height];
          const context = canvas.getContext('2d');
          context.imageSmoothingQuality = 'high';
          context.drawImage(image, 0, 0, width, height);
          return canvas;
        }})).then((canvases) => done({expression}));
        """
        return self.driver.execute_async_script(code, urls, width, height)

    def close(self):
        self.driver.quit()


needs_browser = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="chromium and chromedriver are not installed")
