// A web client of the older auth service, with what its documentation says and nothing else: it registers and logs in
// with an email or a username and a password, never says how it wants its tokens, keeps the cookies it is given
// without knowing their names, and reads `statusCode`, `message` and `data`.
//
//     node older_service_client.mjs http://127.0.0.1:8080

import assert from 'node:assert/strict';

const base = process.argv[2];
let passed = 0;

const step = async (name, work) => {
  const result = await work();
  passed += 1;
  console.log(`ok: ${name}`);
  return result;
};

/** The cookies of a browser: by name; scripts of pages see those that are not HttpOnly. */
class Browser {
  cookies = new Map();

  async call(method, path, body) {
    const headers = { origin: new URL(base).origin };
    if (this.cookies.size > 0) {
      headers.cookie = [...this.cookies].map(([name, { value }]) => `${name}=${value}`).join('; ');
    }
    if (body !== undefined) headers['content-type'] = 'application/json';
    const response = await fetch(new URL(path, base), { method, headers, body: body && JSON.stringify(body) });
    for (const line of response.headers.getSetCookie()) {
      const [pair, ...attributes] = line.split('; ');
      const at = pair.indexOf('=');
      const named = (name) => attributes.find((one) => one.toLowerCase().startsWith(name));
      if (named('max-age=')?.split('=')[1] === '0') {
        this.cookies.delete(pair.slice(0, at));
      } else {
        const hidden = named('httponly') !== undefined && named('samesite=lax') !== undefined;
        this.cookies.set(pair.slice(0, at), { value: pair.slice(at + 1), hidden });
      }
    }
    const json = await response.json();
    assert.equal(json.statusCode, response.status);
    assert.equal(typeof json.message, 'string');
    return { status: response.status, json };
  }
}

const account = { username: `older${Date.now()}`, password: 'four slow trains at midnight' };
account.email = `${account.username}@example.org`;
const { email, username, password } = account;

await step('health: HealthCheckResponse', async () => {
  const { status, json } = await new Browser().call('GET', '/auth/health');
  assert.deepEqual([status, json.status], [200, 200]);
  assert.ok(!Number.isNaN(Date.parse(json.timestamp)) && json.uptime >= 0 && json.service && json.version);
});

await step('register: cookies, which no script can read, and no token in the response', async () => {
  const browser = new Browser();
  const { status, json } = await browser.call('POST', '/auth/register', account);
  assert.equal(status, 201);
  assert.equal(json.data.user.email, email);
  assert.ok(browser.cookies.size > 0 && [...browser.cookies.values()].every((cookie) => cookie.hidden));
  for (const { value } of browser.cookies.values()) assert.ok(!JSON.stringify(json).includes(value));
});

await step('register: a second time is a conflict', async () => {
  const { status, json } = await new Browser().call('POST', '/auth/register', account);
  assert.deepEqual([status, json.errorCode], [409, 'EMAIL_ALREADY_EXISTS']);
});

await step('log in: a wrong password', async () => {
  const browser = new Browser();
  const { status, json } = await browser.call('POST', '/auth/login', { email, password: `${password}?` });
  assert.deepEqual([status, json.errorCode, browser.cookies.size], [401, 'INVALID_CREDENTIALS', 0]);
});

// Forms of the older clients send every field they have.
const bodies = [
  { email, password },
  { username, password },
  { email, username, password },
  { email: '', username, password },
];
for (const body of bodies) {
  const fields = Object.keys(body).filter((name) => body[name] && name !== 'password');
  const browser = new Browser();
  await step(`log in by ${fields.join(' and ')}, call, refresh, call, log out`, async () => {
    assert.equal((await browser.call('POST', '/auth/login', body)).status, 200);
    const first = [...browser.cookies.values()].map((cookie) => cookie.value);
    const verified = await browser.call('GET', '/api/v1/auth/verify');
    assert.deepEqual([verified.status, verified.json.data.user.email], [200, email]);

    assert.equal((await browser.call('POST', '/api/v1/auth/token/refresh')).status, 200);
    const second = [...browser.cookies.values()].map((cookie) => cookie.value);
    assert.equal(second.length, first.length);
    assert.ok(second.every((value) => !first.includes(value)), 'every cookie is new');
    assert.equal((await browser.call('GET', '/api/v1/auth/verify')).status, 200);

    const kept = new Map(browser.cookies);
    assert.equal((await browser.call('DELETE', '/auth/logout')).status, 200);
    assert.equal(browser.cookies.size, 0);
    assert.equal((await browser.call('GET', '/api/v1/auth/verify')).status, 401);

    // Logging out again: no session, and what a browser had kept is gone.
    browser.cookies = kept;
    assert.equal((await browser.call('GET', '/api/v1/auth/verify')).status, 401);
    assert.equal((await browser.call('DELETE', '/auth/logout')).status, 401);
    assert.equal(browser.cookies.size, 0);
  });
}

console.log(`${passed} steps passed`);
