// The five steps of the README, as examples/next has them, built by Next.js, and in an empty project;
// both are used in Chromium.

import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

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

/** The environment of Next.js, without what Vitest has added. */
function environment(more: Record<string, string>): NodeJS.ProcessEnv {
  const others = Object.entries(process.env).filter(([name]) => !/^(NODE_ENV|VITEST)/.test(name));
  return { ...Object.fromEntries(others), ...more } as NodeJS.ProcessEnv;
}

function run(...args: string[]): ChildProcess {
  const command = [join(folder, 'node_modules/next/dist/bin/next'), ...args];
  const child = spawn(process.execPath, command, {
    cwd: folder,
    env: environment({ PROPUSK_URL: proxy.url, NODE_ENV: 'production' }),
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

test('an empty project with the steps of the README: registration, sign-out, login', async () => {
  const page = await blocks('docs/quickstarts/nextjs.md');
  const [create = '', enter = ''] = page.get('create')!.split('\n');
  const [, version, args = ''] = /^npx create-next-app@(\S+) (.*)$/.exec(create)!;
  const tool = join(KIT, 'node_modules/create-next-app');
  const { version: installed } = JSON.parse(await readFile(join(tool, 'package.json'), 'utf8'));
  expect(version).toBe(installed);
  // Below the example, whose packages it finds.
  const parent = await mkdtemp(join(folder, '.empty-'));
  const without = ['--skip-install', '--disable-git'];
  await promisify(execFile)(
    process.execPath,
    [join(tool, 'dist/index.js'), ...args.split(' '), ...without],
    { cwd: parent, env: environment({}) },
  );
  const project = join(parent, enter.replace('cd ', ''));
  for (const [file, code] of await blocks('clients/typescript/README.md')) {
    await mkdir(dirname(join(project, file)), { recursive: true });
    await writeFile(join(project, file), code);
  }
  const port = String(await freePort());
  const started = spawn('sh', ['-ec', page.get('run')!], {
    cwd: project,
    env: environment({ PROPUSK_URL: server.issuer, PORT: port }),
    detached: true, // a group of its own: npm starts others
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  for (const stream of [started.stdout, started.stderr])
    stream.on('data', (chunk: Buffer) => (output += chunk.toString()));
  const window = await Browser.open();
  const sees = (text: string): Promise<number> =>
    eventually(
      `the page shows ${text}: ${output}`,
      async () => (await window.text()).includes(text),
      60_000,
    );
  /** Sends the form as soon as React has it: the first request compiles the page. */
  const send = async (button: string): Promise<void> => {
    const script = `const form = document.querySelector('form') ?? {};
      return Object.keys(form).some((key) => key.startsWith('__reactProps'))`;
    await eventually(`the form: ${output}`, () => window.run<boolean>(script), 60_000);
    await window.type('[name=email]', 'eve@example.org');
    await window.type('[name=password]', PASSWORD);
    await window.click(`button[value=${button}]`);
    await sees('Hello, eve@example.org.');
    expect(await window.url()).toBe(`http://127.0.0.1:${port}/account`);
  };
  try {
    await eventually('Next.js listens', () => output.includes('Ready'), 60_000);
    await window.go(`http://127.0.0.1:${port}/account`);
    expect(await window.url()).toContain('/login?return_to=%2Faccount');
    await send('register');
    await window.click('button');
    await sees('Log in');
    expect(await window.cookies()).toEqual([]);
    await window.click('a[href="/login"]');
    await send('login');
  } finally {
    process.kill(-started.pid!, 'SIGKILL');
    await window.close();
    await rm(parent, { recursive: true, force: true });
  }
}, 180_000);
