"""A user with a real browser: Chromium over WebDriver (W3C). The counterpart of browser.mjs."""

import shutil
import tempfile
import time

import requests

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # WebDriver §12.1
TIMEOUT = 30  # seconds until a step fails

# The form action of each page that needs input.
PAGES = {"login": "/login", "consent": "/consent", "logout": "/oauth2/logout"}

SEEN = """
for (const [page, action] of Object.entries(arguments[0])) {
  const form = document.querySelector('form[action="' + action + '"]');
  if (form && document.readyState === 'complete' && !form.dataset.seen) {
    form.dataset.seen = 'yes';
    return page;
  }
}
return null;
"""


class Browser:
    """A window with a profile of its own."""

    def __init__(self, driver):
        self.profile = tempfile.mkdtemp(prefix="propusk-profile-")
        args = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            f"--user-data-dir={self.profile}",
        ]
        options = {"args": args, "prefs": {"intl.accept_languages": "en"}}
        wanted = {"alwaysMatch": {"goog:chromeOptions": options}}
        created = _ask(f"{driver}/session", {"capabilities": wanted})
        self.session = f"{driver}/session/{created['sessionId']}"

    def close(self):
        requests.delete(self.session, timeout=TIMEOUT)
        shutil.rmtree(self.profile, ignore_errors=True)

    def go(self, url):
        _ask(f"{self.session}/url", {"url": url})

    def run(self, script, *args):
        """What the body of a function returns when it runs in the page."""
        return _ask(f"{self.session}/execute/sync", {"script": script, "args": args})

    def type(self, selector, text):
        field = self._find(selector)
        _ask(f"{field}/clear", {})
        _ask(f"{field}/value", {"text": text})

    def click(self, selector):
        _ask(f"{self._find(selector)}/click", {})

    def _find(self, selector):
        found = _ask(f"{self.session}/element", {"using": "css selector", "value": selector})
        return f"{self.session}/element/{found[ELEMENT]}"


def _ask(url, body):
    """A WebDriver command."""
    response = requests.post(url, json=body, timeout=TIMEOUT)
    value = response.json()["value"]
    if not response.ok:
        raise RuntimeError(f"the browser: {value['error']}: {value['message']}")
    return value


class User:
    def __init__(self, browser, home, name, password):
        """`home` is the URL of the application, which the browser comes back to."""
        self.browser, self.home, self.name, self.password = browser, home, name, password

    def follow(self, address):
        """Opens a URL and fills in the server's pages until the browser is back at the application.

        Returns the names of the pages on the way, each shown once, and the text of the application's page.
        """
        pages = []
        started = time.monotonic()
        self.browser.go(address)
        while True:
            page = self.browser.run(SEEN, PAGES)
            if page:
                assert page not in pages, f"the {page} page came again: {self.text()}"
                pages.append(page)
                self._act(page)
            elif self.browser.run("return location.href").startswith(self.home):
                return pages, self.browser.run("return document.body.innerText")
            else:
                late = time.monotonic() - started > TIMEOUT
                assert not late, f"the browser did not come back, but shows: {self.text()}"
                time.sleep(0.02)

    def _act(self, page):
        form = f'form[action="{PAGES[page]}"]'
        if page == "login":
            # The page that asks a logged-in user again has no field for the login.
            if self.browser.run('return document.querySelector("#login") !== null'):
                self.browser.type("#login", self.name)
            self.browser.type("[name=password]", self.password)
            self.browser.click(f"{form} button[type=submit]")
        else:
            decision = "allow" if page == "consent" else "logout"
            self.browser.click(f"{form} [name=decision][value={decision}]")

    def text(self):
        return self.browser.run('return location.href + " " + document.body.innerText')
