"""A real headless Chromium for tests of pages, driven over the W3C WebDriver protocol with the standard library."""

import base64
import contextlib
import json
import re
import shutil
import subprocess
import time
import urllib.request

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)


class Page:
    """One open page."""

    def __init__(self, address):
        self.address = address

    def call(self, path, body):
        data = json.dumps(body).encode()
        request = urllib.request.Request(self.address + path, data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as reply:
            return json.load(reply)["value"]

    def open(self, path):
        self.call("/url", {"url": path.as_uri()})

    def visit(self, url):
        self.call("/url", {"url": url})

    def run(self, script, *args):
        return self.call("/execute/sync", {"script": script, "args": list(args)})

    def console(self):
        return self.call("/se/log", {"type": "browser"})

    def keys(self, text):
        r"""Press keys, one after the other, wherever the focus is; \ue004 is Tab, \ue00c Escape, \ue007 Enter."""
        presses = [{"type": kind, "value": key} for key in text for kind in ("keyDown", "keyUp")]
        self.call("/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": presses}]})

    def wait(self, script, *args, seconds=20.0):
        """Until a script returns something true."""
        deadline = time.monotonic() + seconds
        while not self.run(script, *args):
            assert time.monotonic() < deadline, script
            time.sleep(0.02)

    def picture(self, path):
        """Write what is seen as PNG."""
        with urllib.request.urlopen(f"{self.address}/screenshot", timeout=60) as reply:
            path.write_bytes(base64.b64decode(json.load(reply)["value"]))

    def dark(self):
        media = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
        self.call("/goog/cdp/execute", {"cmd": "Emulation.setEmulatedMedia", "params": media})


@contextlib.contextmanager
def page(profile, width=1280, height=900):
    """A page in a new browser with an empty profile folder, width and height in CSS pixels."""
    driver = subprocess.Popen([DRIVER, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        port = next(
            int(found[1]) for line in driver.stdout if (found := re.search(r"successfully on port (\d+)", line))
        )
        options = {
            "binary": CHROMIUM,
            "args": [*FLAGS, f"--user-data-dir={profile}"],
            "mobileEmulation": {"deviceMetrics": {"width": width, "height": height, "pixelRatio": 1, "mobile": False}},
        }
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        root = Page(f"http://127.0.0.1:{port}")
        session = root.call("/session", {"capabilities": {"alwaysMatch": wanted}})["sessionId"]
        opened = Page(f"{root.address}/session/{session}")
        try:
            yield opened
        finally:
            request = urllib.request.Request(opened.address, method="DELETE")
            urllib.request.urlopen(request, timeout=60).close()
    finally:
        driver.terminate()
        driver.wait(timeout=30)
        driver.stdout.close()
