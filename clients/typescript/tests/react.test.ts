// The hooks in Chromium, with the tabs, locks and cookies of a real browser.

import { fileURLToPath } from 'node:url';

import { build } from 'esbuild';
import { afterAll, afterEach, beforeAll, beforeEach, expect, inject, test } from 'vitest';

import { Browser } from './support/browser.js';
import { Proxy } from './support/proxy.js';
import { PASSWORD } from './support/server.js';
import { eventually, newUser, type Person } from './support/users.js';

const issuer = inject('issuer');
const SESSION = '/api/v1/auth/session';
const REFRESH = '/api/v1/auth/token/refresh';

let script: string;
let proxy: Proxy;
let browser: Browser;
let ann: Person;

beforeAll(async () => {
  const { outputFiles } = await build({
    entryPoints: [fileURLToPath(new URL('./support/page.ts', import.meta.url))],
    bundle: true,
    write: false,
    format: 'iife',
    define: { 'process.env.NODE_ENV': '"development"' },
  });
  script = outputFiles[0]!.text;
  // The application: its page, and the server's API at the same origin.
  proxy = await Proxy.before(issuer);
  proxy.intercept = ({ url }, response) => {
    if (url === '/page') {
      response.setHeader('content-type', 'text/html');
      response.end(
        '<!doctype html><title>page</title><div id="root"></div><script src="/page.js"></script>',
      );
    } else if (url === '/page.js') {
      response.setHeader('content-type', 'text/javascript').end(script);
    } else {
      return url === '/favicon.ico' && Boolean(response.writeHead(404).end());
    }
    return true;
  };
});
afterAll(() => proxy.close());

beforeEach(async () => {
  browser = await Browser.open();
  ann = await newUser(issuer);
  await browser.go(`${proxy.url}/page`);
  // Its first lookup, which may renew a session, must not overlap with what the test does.
  await shows('unauthenticated nobody');
});
afterEach(async () => {
  proxy.isDown = false;
  proxy.hold = () => Promise.resolve();
  await browser.close();
});

const shows = (text: string): Promise<number> =>
  eventually(`the page shows "${text}"`, async () => (await name()) === text);
const name = (): Promise<string> =>
  browser.run('return document.getElementById("name")?.textContent ?? ""');
/** Calls an action of the page's hooks; returns what it resolves to, or the code of its error. */
const act = (action: string, ...args: string[]): Promise<unknown> =>
  browser.run(
    'return kit[arguments[0]](...arguments[1]).then((value) => value ?? null, (error) => error.errorCode)',
    action,
    args,
  );
const logIn = (): Promise<unknown> => act('login', ann.name, PASSWORD);

test('all hooks of a page share one request', async () => {
  await shows('unauthenticated nobody');
  await logIn();
  await shows(`authenticated ${ann.name}`);
  const before = proxy.count(SESSION);
  await browser.go(`${proxy.url}/page`);
  await shows(`authenticated ${ann.name}`);
  // In React's strict mode, which mounts everything twice.
  expect(proxy.count(SESSION) - before).toBe(1);
  expect(await browser.run('return document.cookie'), 'no script reads the tokens').toBe('');
});

test('two tabs whose access cookie has expired renew it once', async () => {
  await logIn();
  const first = await browser.handle();
  await browser.tab(`${proxy.url}/page`);
  await shows(`authenticated ${ann.name}`);
  await browser.deleteCookie('propusk_access');
  const before = proxy.count(REFRESH);
  // While the renewal of one tab is under way, the other learns that there is no session.
  const lookups = proxy.count(SESSION);
  proxy.hold = async ({ url }) => {
    if (url === REFRESH) {
      await eventually('the other tab asks', () => proxy.count(SESSION) - lookups >= 3);
    }
  };
  await browser.run('window.renewal = kit.update()');
  await eventually('it renews', () => proxy.count(REFRESH) > before);
  await browser.use(first);
  expect(await act('update')).toMatchObject({ username: ann.name });
  expect(proxy.count(REFRESH) - before).toBe(1);
  expect(await browser.cookies()).toEqual(['propusk_access', 'propusk_refresh']);
});

test('tabs that are opened at once with an expired access cookie cause one refresh', async () => {
  await logIn();
  await browser.deleteCookie('propusk_access');
  const before = proxy.count(REFRESH);
  await browser.run('window.others = [0, 1, 2].map(() => open(location.href))');
  const names = (): Promise<(string | undefined)[]> =>
    browser.run('return others.map((tab) => tab.document.getElementById("name")?.textContent)');
  await eventually('all know the session', async () =>
    (await names()).every((one) => one === `authenticated ${ann.name}`),
  );
  expect(proxy.count(REFRESH) - before).toBe(1);
});

test('a refresh whose answer is lost is sent again, and the user stays logged in', async () => {
  await logIn();
  await browser.deleteCookie('propusk_access');
  proxy.lose.push(REFRESH);
  await browser.go(`${proxy.url}/page`);
  await shows(`authenticated ${ann.name}`);
  expect(proxy.lose).toEqual([]);
  expect(await act('update')).toMatchObject({ username: ann.name });
});

test('a logout in one tab reaches the other, and so does a login', async () => {
  await logIn();
  const first = await browser.handle();
  const second = await browser.tab(`${proxy.url}/page`);
  await shows(`authenticated ${ann.name}`);
  const before = proxy.requests.length;
  await act('signOut');
  await shows('unauthenticated nobody');
  await browser.use(first);
  await shows('unauthenticated nobody');
  expect(proxy.requests.slice(before), 'it was told, and asked nobody').toEqual([
    'POST /api/v1/auth/logout',
  ]);
  expect(await browser.cookies()).toEqual([]);
  await logIn();
  await browser.use(second);
  await shows(`authenticated ${ann.name}`);
});

test('an answer from before a logout does not log in again', async () => {
  await logIn();
  // The lookup reaches the server before the logout, and its answer the page after it.
  let release = (): void => undefined;
  const intercept = proxy.intercept;
  proxy.intercept = (request, response) => {
    if (request.url !== SESSION) return intercept(request, response);
    const headers = { cookie: request.headers.cookie ?? '' };
    void fetch(issuer + SESSION, { headers }).then(async (answer) => {
      const body = await answer.text();
      release = () => response.writeHead(200, { 'content-type': 'application/json' }).end(body);
    });
    return true;
  };
  await browser.run('window.late = kit.update()');
  await eventually(
    'it was answered',
    () => release.length === 0 && String(release).includes('writeHead'),
  );
  proxy.intercept = intercept;
  await act('signOut');
  await shows('unauthenticated nobody');
  release();
  await browser.run('return late.then(() => null)');
  expect(await name()).toBe('unauthenticated nobody');
});

test('an outage logs nobody out, and the session is looked up again', async () => {
  await logIn();
  proxy.isDown = true;
  expect(await act('update')).toBe('UNEXPECTED_RESPONSE');
  expect(await act('signOut'), 'still logged in, and told so').toBe('UNEXPECTED_RESPONSE');
  expect(await name()).toBe(`authenticated ${ann.name}`);
  // A page that is loaded now does not know yet.
  const intercept = proxy.intercept;
  proxy.isDown = false;
  proxy.intercept = (request, response) =>
    request.url?.startsWith('/page') === true
      ? intercept(request, response)
      : Boolean(response.writeHead(503).end());
  await browser.go(`${proxy.url}/page`);
  await shows('loading nobody');
  await eventually(
    'it has asked',
    () => proxy.requests.filter((one) => one.endsWith(SESSION)).length > 3,
  );
  expect(await name()).toBe('loading nobody');
  proxy.intercept = intercept;
  await shows(`authenticated ${ann.name}`);
  expect(await browser.run<string[]>('return seen')).not.toContain('unauthenticated nobody');
});
