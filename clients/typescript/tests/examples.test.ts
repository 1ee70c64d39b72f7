// The examples, set up as their quickstarts say, in Chromium.

import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { afterEach, beforeEach, expect, test } from 'vitest';

import { Browser } from './support/browser.js';
import { blocks, commands } from './support/quickstart.js';
import { PASSWORD, Server, SOURCE, freePort } from './support/server.js';
import { eventually, newUser } from './support/users.js';

const KIT = fileURLToPath(new URL('..', import.meta.url));
/** What the quickstarts name, and is another address here. */
const APPLICATION = 'http://127.0.0.1:3000';
const ISSUER = 'http://127.0.0.1:8080';

let folder: string;
let browser: Browser;
let server: Server;
let child: ChildProcess | undefined;
let printed = '';

beforeEach(async () => {
  if (!existsSync(join(KIT, 'dist'))) throw new Error('the package is not built: npm run build');
  // Below the package: an example imports it by its name.
  folder = await mkdtemp(join(KIT, '.example-'));
  browser = await Browser.open();
  printed = '';
});
afterEach(async () => {
  child?.kill();
  await browser.close();
  await server.stop();
  await rm(folder, { recursive: true, force: true });
});

/** A server that was set up by the commands of a quickstart, with the application at `base`. */
async function setUp(block: string, base: string): Promise<string> {
  const here = (text: string): string => text.replaceAll(APPLICATION, base);
  const { settings, commands: all } = commands(here(block));
  server = await Server.start(settings);
  let output = '';
  for (const command of all) if (command[0] !== 'serve') output += await server.run(...command);
  return output;
}

async function logIn(name: string): Promise<void> {
  await eventually('the login page', async () => (await browser.url()).includes('/login'));
  await browser.type('#login', name);
  await browser.type('[name=password]', PASSWORD);
  await browser.click('form[action="/login"] button[type=submit]');
}

const shows = (text: string): Promise<number> =>
  eventually(`the page shows ${text}`, async () => (await browser.text()).includes(text));

/** Starts a program and waits until it has printed a line. */
async function start(
  program: string,
  args: string[],
  environment: Record<string, string>,
  line: string,
): Promise<void> {
  const started = spawn(program, args, {
    cwd: folder,
    env: { ...process.env, ...environment },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  child = started;
  for (const stream of [started.stdout, started.stderr])
    stream.on('data', (chunk: Buffer) => (printed += chunk.toString()));
  await eventually(line, () => {
    if (started.exitCode !== null) throw new Error(printed);
    return printed.includes(line);
  });
}

test('Express: login at the pages, a private route, a module, sign-out', async () => {
  const page = await blocks('docs/quickstarts/express.md');
  const code = page.get('server.mjs')!;
  expect(code).toBe(await readFile(join(SOURCE, 'examples/express/server.mjs'), 'utf8'));
  const port = String(await freePort());
  const base = `http://127.0.0.1:${port}`;
  const output = await setUp(page.get('propusk')!, base);
  const secret = /^secret \(shown once\): (\S+)$/m.exec(output)![1]!;
  await server.run(
    'module',
    'add',
    'crm',
    '--name',
    'en=CRM',
    '--name',
    'ru=CRM',
    '--description',
    'en=CRM',
    '--description',
    'ru=CRM',
    '--scope',
    'crm:read',
  );
  const ann = await newUser(server.issuer);
  await writeFile(join(folder, 'server.mjs'), code);
  await start(
    process.execPath,
    ['server.mjs'],
    { PORT: port, PROPUSK_URL: server.issuer, PROPUSK_FEED_SECRET: secret },
    base,
  );

  await browser.go(`${base}/account`);
  await logIn(ann.name);
  await shows('Account');
  expect(await browser.url()).toBe(`${base}/account`);
  await browser.go(`${base}/`);
  await shows(ann.email);
  await browser.go(`${base}/crm`);
  await shows('lacks a scope or module');
  await server.run('module', 'grant', ann.name, 'crm');
  // The browser drops the access token when it expires; the next one has the module.
  await browser.deleteCookie('propusk_access');
  await browser.go(`${base}/crm`);
  await shows('crm');
  expect(await browser.text()).toContain('"modules":["crm"]');
  await browser.go(`${base}/account`);
  await browser.click('button');
  await shows('"user":null');
  expect(await browser.cookies()).not.toContain('propusk_access');
  await browser.go(`${base}/account`);
  await eventually('the login page', async () => (await browser.url()).includes('/login'));
});

test('a single-page application: code and PKCE, a login without a password, logout', async () => {
  const page = await blocks('docs/quickstarts/spa.md');
  const html = page.get('index.html')!;
  expect(html).toBe(await readFile(join(SOURCE, 'examples/spa/index.html'), 'utf8'));
  await symlink(join(KIT, 'node_modules'), join(folder, 'node_modules'));
  const web = createServer((request, response) => {
    const path = new URL(request.url ?? '', APPLICATION).pathname;
    if (path === '/') {
      response.setHeader('content-type', 'text/html');
      response.end(html.replaceAll(ISSUER, server.issuer));
    } else {
      response.setHeader('content-type', 'text/javascript');
      readFile(join(folder, path)).then(
        (file) => response.end(file),
        () => response.writeHead(404).end(),
      );
    }
  });
  const port = await freePort();
  await new Promise<void>((resolve) => web.listen(port, '127.0.0.1', resolve));
  const base = `http://127.0.0.1:${port}`;
  try {
    await setUp(page.get('propusk')!, base);
    const ann = await newUser(server.issuer);
    await browser.go(`${base}/`);
    await shows('Logged out');
    await browser.click('#log-in');
    await logIn(ann.name);
    await eventually('the consent page', async () =>
      (await browser.url()).includes('/oauth2/authorize'),
    );
    await browser.click('[name=decision][value=allow]');
    await shows(`Logged in: ${ann.email}`);
    expect(await browser.url()).toBe(`${base}/`);
    expect(await browser.run('return Object.keys(localStorage).length')).toBe(0);
    // A reload forgets the tokens, and the login needs no password.
    await browser.go(`${base}/`);
    await shows('Logged out');
    await browser.click('#log-in');
    await shows(`Logged in: ${ann.email}`);
    await browser.click('#log-out');
    await shows('Logged out');
    await browser.click('#log-in');
    await eventually('the login page', async () => (await browser.url()).includes('/login'));
  } finally {
    web.closeAllConnections();
    web.close();
  }
});
