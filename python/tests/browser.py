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

# Whoever looks for the only edge in an empty part of the map: turn the wheel over what is lit, look again, until there
# is room for words. Gives the turns, or null where the part shows nothing.
FIND_LONELY = """
const [[q0, q1, k0, k1], done] = arguments, {map} = attngraphViewer;
const pause = () => new Promise((resolve) => setTimeout(resolve, 10));
const drawn = async () => { do await pause(); while (!attngraphViewer.idle() || !map.last); };
const send = (type, kind, [x, y], more = {}) => {
  const box = map.box.getBoundingClientRect();
  map.box.dispatchEvent(new kind(type, {clientX: box.left + x, clientY: box.top + y, cancelable: true, ...more}));
};
const lit = () => {
  const {canvas, grid} = map.last, {plot, view} = map, {width, height} = canvas;
  const copy = new OffscreenCanvas(width, height).getContext('2d', {willReadFrequently: true});
  copy.drawImage(canvas, 0, 0);
  const pixels = copy.getImageData(0, 0, width, height).data;
  for (let y = 0; y < height; ++y) {
    for (let x = 0; x < width; ++x) {
      const q = grid.q0 + (y + 0.5) * (grid.q1 - grid.q0) / height, k = grid.k0 + (x + 0.5) * (grid.k1 - grid.k0) / width;
      if (!pixels[4 * (y * width + x) + 3] || q < q0 || q >= q1 || k < k0 || k >= k1) continue;
      return [plot.x + (k - view.k0) / (view.k1 - view.k0) * plot.w, plot.y + (q - view.q0) / (view.q1 - view.q0) * plot.h];
    }
  }
  return null;
};
(async () => {
  await drawn();
  for (let turns = 0; turns < 60; ++turns) {
    const at = lit();
    if (!at) return done(null);
    if (map.view.q1 - map.view.q0 < 30) {
      send('pointermove', PointerEvent, at);
      return done(turns);
    }
    send('wheel', WheelEvent, at, {deltaY: -200});
    await drawn();
  }
  done(null);
})();
"""


class Page:
    """What a reader of the page does, in any browser; those know js, wait_js, async_js, open, screenshot, quiet, close."""

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

    def text(self, selector):
        return self.js("return document.querySelector(arguments[0])?.innerText ?? ''", selector)

    def state(self, **values):
        self.js("attngraphViewer.state.set(arguments[0])", values)
        return self.wait()

    def find_lonely(self, part):
        """Zoom to the only edge in `part`, (q0, q1, k0, k1) of the map, and point at it: turns of the wheel, and the tip."""
        turns = self.async_js(FIND_LONELY, part)
        assert turns is not None, f"nothing is lit in {part}"
        self.until("!document.getElementById('tip').hidden")
        return turns, self.text("#tip")


class Reader(Page):
    """Chromium with a page open; every check ends with `quiet`: no error on the console, no request."""

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

    def js(self, code, *arguments):
        return self.driver.execute_script(code, *arguments)

    def wait_js(self, expression):
        """The value of a promise."""
        code = f"const done = arguments[arguments.length - 1]; Promise.resolve({expression}).then(done, (e) => done(String(e)))"
        return self.async_js(code)

    def async_js(self, code, *arguments):
        """What `code` gives its last argument, a function."""
        return self.driver.execute_async_script(code, *arguments)

    def one(self, selector):
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector):
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

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
