// A user with a real browser: Chromium over WebDriver (W3C), and the application's redirect URI, which the browser
// comes back to.

import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';

const ELEMENT = 'element-6066-11e4-a52e-4f735466cecf'; // WebDriver §12.1
const TIMEOUT = 30_000; // ms until a step fails

/** The form action of each page that needs input. */
const PAGES = {
  login: '/login',
  consent: '/consent',
  logout: '/oauth2/logout',
};

export class Browser {
  /** A window with a profile of its own. */
  static async open(driver) {
    const profile = await mkdtemp(join(tmpdir(), 'propusk-profile-'));
    const args = [
      '--headless',
      '--no-sandbox',
      '--disable-gpu',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
      `--user-data-dir=${profile}`,
    ];
    const wanted = { 'goog:chromeOptions': { args, prefs: { 'intl.accept_languages': 'en' } } };
    const created = await ask(`${driver}/session`, { capabilities: { alwaysMatch: wanted } });
    return new Browser(`${driver}/session/${created.sessionId}`, profile);
  }

  constructor(session, profile) {
    this.session = session;
    this.profile = profile;
  }

  async close() {
    await fetch(this.session, { method: 'DELETE' });
    await rm(this.profile, { recursive: true, force: true });
  }

  go(url) {
    return ask(`${this.session}/url`, { url: String(url) });
  }

  /** What the body of a function returns when it runs in the page. */
  run(script, ...args) {
    return ask(`${this.session}/execute/sync`, { script, args });
  }

  async find(selector) {
    const found = await ask(`${this.session}/element`, { using: 'css selector', value: selector });
    return `${this.session}/element/${found[ELEMENT]}`;
  }

  async type(selector, text) {
    const field = await this.find(selector);
    await ask(`${field}/clear`, {});
    await ask(`${field}/value`, { text });
  }

  async click(selector) {
    await ask(`${await this.find(selector)}/click`, {});
  }
}

/** A WebDriver command. */
async function ask(url, body) {
  const response = await fetch(url, { method: 'POST', body: JSON.stringify(body) });
  const { value } = await response.json();
  if (!response.ok) throw new Error(`the browser: ${value.error}: ${value.message}`);
  return value;
}

/** The application's redirect URI: it records the requests of the browser. */
export class Application {
  static async listen() {
    const application = new Application();
    application.server = createServer((request, response) => application.answer(request, response));
    await new Promise((done) => application.server.listen(0, '127.0.0.1', done));
    application.base = `http://127.0.0.1:${application.server.address().port}`;
    return application;
  }

  arrivals = [];

  async answer(request, response) {
    let body = '';
    for await (const part of request) body += part;
    response.setHeader('content-type', 'text/html; charset=utf-8');
    response.end('<!doctype html><title>the application</title><p>Here you are.');
    const url = new URL(request.url, this.base);
    if (['/callback', '/goodbye'].includes(url.pathname)) {
      this.arrivals.push({ url, method: request.method, type: request.headers['content-type'], body });
    }
  }

  get callback() {
    return `${this.base}/callback`;
  }

  get goodbye() {
    return `${this.base}/goodbye`;
  }

  close() {
    this.server.closeAllConnections();
    this.server.close();
  }
}

export class User {
  constructor(browser, application, name, password) {
    Object.assign(this, { browser, application, name, password });
  }

  /**
   * Opens a URL of the server and fills in its pages until the browser is back at the application. Returns the request
   * that arrived there, and in `pages` the names of the pages on the way, each shown once.
   */
  async follow(address, { consent = 'allow' } = {}) {
    const pages = [];
    const started = Date.now();
    await this.browser.go(address);
    for (;;) {
      const arrival = this.application.arrivals.shift();
      if (arrival) return { ...arrival, pages };
      const page = await this.seen();
      if (page) {
        if (pages.includes(page)) throw new Error(`the ${page} page came again: ${await this.text()}`);
        pages.push(page);
        await this.act(page, consent);
      } else if (Date.now() - started > TIMEOUT) {
        throw new Error(`the browser did not come back, but shows: ${await this.text()}`);
      } else {
        await pause(20);
      }
    }
  }

  /** Opens the `verification_uri_complete` of a device, submits its code, and allows or denies what it asks for. */
  async decide(address, decision) {
    await ask(`${this.browser.session}/timeouts`, { implicit: TIMEOUT });
    await this.browser.go(address);
    await this.browser.click('form[action="/device"] button[type=submit]');
    await this.browser.click(`form[action="/device/confirm"] [name=decision][value=${decision}]`);
    await ask(`${this.browser.session}/timeouts`, { implicit: 0 });
  }

  /** Opens a URL and returns the text of the page. */
  async read(address) {
    await this.browser.go(address);
    return this.text();
  }

  async act(page, consent) {
    if (page === 'login') {
      // The page that asks a logged-in user again has no field for the login.
      if (await this.browser.run('return document.querySelector("#login") !== null')) {
        await this.browser.type('#login', this.name);
      }
      await this.browser.type('[name=password]', this.password);
      await this.browser.click(`form[action="${PAGES.login}"] button[type=submit]`);
    } else {
      const decision = page === 'consent' ? consent : 'logout';
      await this.browser.click(`form[action="${PAGES[page]}"] [name=decision][value=${decision}]`);
    }
  }

  /** The current page, unless it was seen before and is being left. */
  seen() {
    const script = `
      for (const [page, action] of Object.entries(arguments[0])) {
        const form = document.querySelector('form[action="' + action + '"]');
        if (form && document.readyState === 'complete' && !form.dataset.seen) {
          form.dataset.seen = 'yes';
          return page;
        }
      }
      return null;`;
    return this.browser.run(script, PAGES);
  }

  text() {
    return this.browser.run('return location.href + " " + (document.querySelector("main") ?? document.body).innerText');
  }
}
