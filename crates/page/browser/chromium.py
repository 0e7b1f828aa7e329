"""A headless Chromium, and what the tests ask of the page in it."""

import json
import os
import time
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains

# A test that waits this long has failed, on any machine.
PATIENCE = 30
SCREENSHOTS = os.environ.get("PAGE_SCREENSHOTS")
TOOLS = (Path(__file__).parent / "tools.js").read_text()


def wait_for(what, condition, seconds=PATIENCE):
    """Waits until `condition` returns something true, and returns it. Fails with what was seen last."""
    deadline = time.monotonic() + seconds
    while True:
        seen = condition()
        if seen:
            return seen
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}; seen: {seen!r}")
        time.sleep(0.05)


class Chromium:
    """One browser. Each test begins with one blank tab."""

    def __init__(self):
        options = Options()
        options.binary_location = "/usr/bin/chromium"
        for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--no-first-run",
                     "--disable-background-networking", "--window-size=1280,800"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))
        self.driver.set_script_timeout(PATIENCE)

    def quit(self):
        self.driver.quit()

    def reset(self):
        """Leaves one blank tab of the usual size, and forgets what was logged."""
        first, *others = self.driver.window_handles
        for handle in others:
            self.driver.switch_to.window(handle)
            self.driver.close()
        self.driver.switch_to.window(first)
        self.driver.get("about:blank")
        self.resize(1280, 800)
        self.emulate()
        self.console()
        self.requests()

    def resize(self, width, height):
        self.command("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500)

    def emulate(self, scheme="light", motion="no-preference"):
        features = [{"name": "prefers-color-scheme", "value": scheme}, {"name": "prefers-reduced-motion", "value": motion}]
        self.command("Emulation.setEmulatedMedia", features=features)

    def hide(self, hidden):
        """Minimizes the window, or shows it again."""
        window = self.command("Browser.getWindowForTarget")["windowId"]
        self.command("Browser.setWindowBounds", windowId=window, bounds={"windowState": "minimized" if hidden else "normal"})
        self.wait(f"hidden: {hidden}", "return document.hidden === arguments[0]", hidden)

    def command(self, name, **parameters):
        return self.driver.execute_cdp_cmd(name, parameters)

    def open(self, address):
        """Opens the page and waits until it shows a frame."""
        self.driver.get(address)
        self.wait("a frame", "return document.getElementById('view').dataset.frame")

    def run(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def tool(self, call, *arguments):
        """Calls a function of tools.js."""
        return self.driver.execute_script(f"{TOOLS}; return {call}(...arguments)", *arguments)

    def wait(self, what, script, *arguments, seconds=PATIENCE):
        return wait_for(what, lambda: self.run(script, *arguments), seconds)

    def wait_text(self, selector, part, seconds=PATIENCE):
        """Waits until an element that the selector finds has this text in it, and returns all of its text."""
        script = "return [...document.querySelectorAll(arguments[0])].map((found) => found.textContent).find((text) => text.includes(arguments[1]))"
        return self.wait(f"{part!r} in {selector}", script, selector, part, seconds=seconds)

    def texts(self, selector):
        return self.run("return [...document.querySelectorAll(arguments[0])].map((found) => found.textContent)", selector)

    def click(self, selector):
        self.run("document.querySelector(arguments[0]).click()", selector)

    def press(self, *keys):
        ActionChains(self.driver).send_keys(*keys).perform()

    def console(self):
        """What the console has got since the last call."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self):
        """The addresses that were asked for since the last call."""
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        return [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]

    def screenshot(self, name, whole=False):
        """Writes NAME.png into the folder that PAGE_SCREENSHOTS names, if it does."""
        if not SCREENSHOTS:
            return
        Path(SCREENSHOTS).mkdir(parents=True, exist_ok=True)
        if whole:
            width, height = self.run("return [innerWidth, document.documentElement.scrollHeight]")
            self.resize(width, height)
            self.run("return new Promise((done) => requestAnimationFrame(() => setTimeout(done, 700)))")
        self.driver.save_screenshot(str(Path(SCREENSHOTS) / f"{name}.png"))
