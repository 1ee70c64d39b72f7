// The five steps of the README, as examples/next has them, built by Next.js and used in Chromium.

import { spawn, type ChildProcess } from 'node:child_process';
import { cp, mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { afterAll, beforeAll, expect, test } from 'vitest';

import { Browser } from './support/browser.js';
import { Proxy } from './support/proxy.js';
import { blocks } from './support/quickstart.js';
import { PASSWORD, Server, SOURCE, freePort } from './support/server.js';
import { eventually } from './support/users.js';

const KIT = fileURLToPath(new URL('..', import.meta.url));
/** A copy of examples/next with what its lock file pins. */
const folder = process.env.PROPUSK_TEST_NEXT_EXAMPLE_DIR ?? '';
const REFRESH = '/api/v1/auth/token/refresh';

let server: Server;
let proxy: Proxy;
let base: string;
let browser: Browser;
let next: ChildProcess;
let printed = '';

function run(...args: string[]): ChildProcess {
  const others = Object.entries(process.env).filter(([name]) => !/^(NODE_ENV|VITEST)/.test(name));
  const environment = {
    ...Object.fromEntries(others),
    PROPUSK_URL: proxy.url,
    NODE_ENV: 'production',
  };
  const command = [join(folder, 'node_modules/next/dist/bin/next'), ...args];
  const child = spawn(process.execPath, command, {
    cwd: folder,
    env: environment as NodeJS.ProcessEnv,
  });
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk: Buffer) => (printed += chunk.toString()));
  }
  return child;
}

beforeAll(async () => {
  // The package as it is published; a link would lead out of the project.
  const installed = join(folder, 'node_modules/@propusk/client');
  await mkdir(installed, { recursive: true });
  for (const part of ['package.json', 'dist']) {
    await cp(join(KIT, part), join(installed, part), { recursive: true });
  }
  await cp(join(KIT, 'node_modules/jose'), join(folder, 'node_modules/jose'), { recursive: true });
  server = await Server.start();
  const texts = [
    '--name',
    'en=CRM',
    '--name',
    'ru=CRM',
    '--description',
    'en=C',
    '--description',
    'ru=C',
  ];
  await server.run('module', 'add', 'crm', ...texts, '--scope', 'crm:read');
  proxy = await Proxy.before(server.issuer);
  const build = run('build');
  const status = await new Promise((resolve) => build.once('exit', resolve));
  if (status !== 0) throw new Error(printed);
  const port = String(await freePort());
  base = `http://127.0.0.1:${port}`;
  next = run('start', '-H', '127.0.0.1', '-p', port);
  await eventually('Next.js listens', () => printed.includes('Ready'), 60_000);
  browser = await Browser.open();
}, 300_000);

afterAll(async () => {
  await browser?.close();
  next?.kill();
  proxy?.close();
  await server?.stop();
});

const shows = (text: string): Promise<number> =>
  eventually(`the page shows ${text}: ${printed}`, async () =>
    (await browser.text()).includes(text),
  );

test('the example consists of the steps of the README', async () => {
  const steps = await blocks('clients/typescript/README.md');
  expect(steps.size).toBe(6);
  for (const [file, code] of steps) {
    expect(await readFile(join(SOURCE, 'examples/next', file), 'utf8'), file).toBe(code);
  }
});

test('registration, a private page, a module, renewal, two tabs, sign-out and login', async () => {
  // A private page leads to the login, and the registration leads back.
  await browser.go(`${base}/account?tab=1`);
  expect(await browser.url()).toBe(`${base}/login?return_to=%2Faccount%3Ftab%3D1`);
  await browser.type('[name=email]', 'ann@example.org');
  await browser.type('[name=password]', 'short');
  await browser.click('button[value=register]');
  await shows('password:');
  await browser.run('document.querySelector("[name=password]").value = ""');
  await browser.type('[name=password]', PASSWORD);
  await browser.click('button[value=register]');
  await shows('Hello, ann@example.org.');
  expect(await browser.url()).toBe(`${base}/account?tab=1`);
  expect(await browser.run('return document.cookie')).toBe('');

  // The module is in the session after the next renewal.
  await browser.go(`${base}/crm`);
  await shows('lacks a scope or module');
  await server.run('module', 'grant', 'ann@example.org', 'crm');
  await browser.deleteCookie('propusk_access');
  const before = proxy.count(REFRESH);
  await browser.go(`${base}/crm`);
  await shows('Customers');
  expect(proxy.count(REFRESH) - before, 'renewed once; the page saw the new cookies').toBe(1);
  expect(await browser.cookies()).toEqual(['propusk_access', 'propusk_refresh']);
  await browser.deleteCookie('propusk_access');
  await browser.go(base);
  await shows('ann@example.org is logged in.');

  // Signing out in one tab reaches the other.
  await browser.go(`${base}/account`);
  const first = await browser.handle();
  await browser.tab(`${base}/account`);
  await shows('Hello, ann@example.org.');
  await browser.click('button');
  await shows('Log in');
  await browser.use(first);
  await shows('Log in');
  expect(await browser.cookies()).toEqual([]);

  // A login with a return URL of another origin stays here.
  await browser.go(`${base}/login?return_to=//evil.example/`);
  await browser.type('[name=email]', 'ann@example.org');
  await browser.type('[name=password]', 'wrong');
  await browser.click('button[value=login]');
  await eventually('an error', () =>
    browser.run('return document.querySelector("[role=alert]").innerText !== ""'),
  );
  await browser.run('document.querySelector("[name=password]").value = ""');
  await browser.type('[name=password]', PASSWORD);
  await browser.click('button[value=login]');
  await shows('Hello, ann@example.org.');
  expect(await browser.url()).toBe(`${base}/account`);
}, 120_000);
