// A person before a real browser: Chromium over WebDriver (W3C), and the application's own address, which the browser
// comes back to.

import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';

const ELEMENT = 'element-6066-11e4-a52e-4f735466cecf'; // WebDriver §12.1
const PATIENCE = 30_000; // ms until something that was to happen counts as never

/** What the pages that ask something are known by, and what a person does there. */
const PAGES = {
  login: '/login',
  consent: '/consent',
  logout: '/oauth2/logout',
};

export class Browser {
  /** A window of its own, with cookies of its own. */
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
    const made = await ask(`${driver}/session`, { capabilities: { alwaysMatch: wanted } });
    return new Browser(`${driver}/session/${made.sessionId}`, profile);
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

  /** What the body of a function, run in the page, returns. */
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

/** The application's own address: it notes what the browser brings there. */
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

export class Person {
  constructor(browser, application, name, password) {
    Object.assign(this, { browser, application, name, password });
  }

  /**
   * Opens an address of the server and does what its pages ask, until the browser is back at the application. Gives what
   * was brought there, and in `pages` the names of the pages on the way: each was there once.
   */
  async follow(address, { consent = 'allow' } = {}) {
    const pages = [];
    const began = Date.now();
    await this.browser.go(address);
    for (;;) {
      const arrival = this.application.arrivals.shift();
      if (arrival) return { ...arrival, pages };
      const page = await this.seen();
      if (page) {
        if (pages.includes(page)) throw new Error(`the ${page} page came again: ${await this.text()}`);
        pages.push(page);
        await this.act(page, consent);
      } else if (Date.now() - began > PATIENCE) {
        throw new Error(`the browser did not come back, but shows: ${await this.text()}`);
      } else {
        await pause(20);
      }
    }
  }

  /** Opens an address and gives the text of the page there, which asks nothing. */
  async read(address) {
    await this.browser.go(address);
    return this.text();
  }

  async act(page, consent) {
    if (page === 'login') {
      await this.browser.type('[name=login]', this.name);
      await this.browser.type('[name=password]', this.password);
      await this.browser.click(`form[action="${PAGES.login}"] button[type=submit]`);
    } else {
      const decision = page === 'consent' ? consent : 'logout';
      await this.browser.click(`form[action="${PAGES[page]}"] [name=decision][value=${decision}]`);
    }
  }

  /** The page that stands there, unless it was seen before and is about to go. */
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
