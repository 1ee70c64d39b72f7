// Chromium over WebDriver (W3C), with several tabs.

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const ELEMENT = 'element-6066-11e4-a52e-4f735466cecf'; // WebDriver §12.1

export class Browser {
  private constructor(
    private readonly session: string,
    private readonly profile: string,
  ) {}

  /** A window with a profile of its own. */
  static async open(): Promise<Browser> {
    const driver = process.env.PROPUSK_TEST_WEBDRIVER_URL;
    if (driver === undefined) throw new Error('PROPUSK_TEST_WEBDRIVER_URL names no chromedriver');
    const profile = await mkdtemp(join(tmpdir(), 'propusk-profile-'));
    const args = [
      '--headless',
      '--no-sandbox',
      '--disable-gpu',
      '--no-first-run',
      '--disable-background-networking',
    ];
    const options = {
      args: [...args, `--user-data-dir=${profile}`],
      prefs: { 'intl.accept_languages': 'en' },
    };
    const body = { capabilities: { alwaysMatch: { 'goog:chromeOptions': options } } };
    const { sessionId } = (await ask('POST', `${driver}/session`, body)) as {
      sessionId: string;
    };
    return new Browser(`${driver}/session/${sessionId}`, profile);
  }

  async close(): Promise<void> {
    await ask('DELETE', this.session);
    await rm(this.profile, { recursive: true, force: true });
  }

  /** A new tab at a URL, which is the current one then. */
  async tab(url: string): Promise<string> {
    const { handle } = (await this.#do('window/new', { type: 'tab' })) as { handle: string };
    await this.use(handle);
    await this.go(url);
    return handle;
  }

  async handle(): Promise<string> {
    return (await ask('GET', `${this.session}/window`)) as string;
  }

  async use(handle: string): Promise<void> {
    await this.#do('window', { handle });
  }

  async go(url: string): Promise<void> {
    await this.#do('url', { url });
  }

  url(): Promise<string> {
    return this.run('return location.href');
  }

  /** What the page shows. */
  text(): Promise<string> {
    return this.run('return document.body.innerText');
  }

  async run<T>(script: string, ...args: unknown[]): Promise<T> {
    return (await this.#do('execute/sync', { script, args })) as T;
  }

  async click(selector: string): Promise<void> {
    await this.#do(`element/${await this.#find(selector)}/click`, {});
  }

  async type(selector: string, text: string): Promise<void> {
    await this.#do(`element/${await this.#find(selector)}/value`, { text });
  }

  async deleteCookie(name: string): Promise<void> {
    await ask('DELETE', `${this.session}/cookie/${name}`);
  }

  async cookies(): Promise<string[]> {
    const all = (await ask('GET', `${this.session}/cookie`)) as { name: string }[];
    return all.map(({ name }) => name).sort();
  }

  async #find(selector: string): Promise<string> {
    const found = (await this.#do('element', {
      using: 'css selector',
      value: selector,
    })) as Record<string, string>;
    return found[ELEMENT] ?? '';
  }

  #do(command: string, body: object): Promise<unknown> {
    return ask('POST', `${this.session}/${command}`, body);
  }
}

async function ask(method: string, url: string, body?: object): Promise<unknown> {
  const response = await fetch(url, {
    method,
    body: body === undefined ? null : JSON.stringify(body),
  });
  const { value } = (await response.json()) as {
    value: { error?: string; message?: string } | null;
  };
  if (!response.ok) throw new Error(`the browser: ${value?.error}: ${value?.message}`);
  return value;
}
