import {
  SignJWT,
  UnsecuredJWT,
  decodeJwt,
  decodeProtectedHeader,
  exportJWK,
  generateKeyPair,
} from 'jose';
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';

import { ErrorCode } from '../src/errors.js';
import { createPropusk, type Propusk } from '../src/server.js';
import { currentSession, login, logout } from '../src/tokens.js';
import { Proxy } from './support/proxy.js';
import { PASSWORD } from './support/server.js';
import { eventually, newUser, type Person } from './support/users.js';

const issuer = inject('issuer');
const feed = { clientId: 'gateway', clientSecret: inject('secret') };
const cookie = ({ access, refresh }: Person): string =>
  `a=b; propusk_access=${access}; propusk_refresh=${refresh}`;

let proxy: Proxy;
let local: Propusk;
let remote: Propusk;
beforeAll(async () => {
  proxy = await Proxy.before(issuer);
  local = createPropusk({ issuer, url: proxy.url, feed });
  remote = createPropusk({ issuer, url: proxy.url });
});
afterAll(() => {
  local.close();
  proxy.close();
});

describe.each([
  ['locally', (): Propusk => local],
  ['by the server', (): Propusk => remote],
])('verified %s', (_, kit) => {
  test('a session has the fields that the server returns, from a cookie or a bearer token', async () => {
    const ann = await newUser(issuer);
    const expected = await currentSession({ baseUrl: issuer, accessToken: ann.access });
    expect(expected?.username).toBe(ann.name);
    expect(await kit().getSession(cookie(ann))).toEqual(expected);
    expect(await kit().getSession({ headers: { authorization: `Bearer ${ann.access}` } })).toEqual(
      expected,
    );
    expect(
      await kit().getSession({
        getAll: () => [{ name: 'propusk_access', value: ann.access }],
      }),
    ).toEqual(expected);
    expect((await kit().verify(ann.access)).sub).toBe(expected?.userId);
  });

  test('a module that is switched on is in the next session', async () => {
    const ann = await newUser(issuer);
    const headers = { authorization: `Bearer ${ann.access}` };
    const added = await fetch(`${issuer}/api/v1/modules/crm/enable`, {
      method: 'POST',
      headers,
    });
    expect(added.status, await added.text()).toBe(200);
    const again = await login({ login: ann.name, password: PASSWORD }, { baseUrl: issuer });
    const session = await kit().getSession({
      headers: { authorization: `Bearer ${again.accessToken}` },
    });
    expect(session?.modules).toEqual(['crm']);
    expect(session?.scopes).toContain('crm:read');
  });

  test('nobody is logged in without a token, with a foreign one in front, or after a logout', async () => {
    const ann = await newUser(issuer);
    expect(await kit().getSession('')).toBeNull();
    expect(await kit().getSession('propusk_access=nonsense')).toBeNull();
    // Another program on this host has set a cookie of the same name.
    expect(await kit().getSession(`propusk_access=nonsense; ${cookie(ann)}`)).not.toBeNull();
    await logout({}, { baseUrl: issuer, accessToken: ann.access });
    await eventually('nobody', async () => (await kit().getSession(cookie(ann))) === null, 1_000);
    await expect(kit().verify(ann.access)).rejects.toMatchObject({
      errorCode: ErrorCode.INVALID_TOKEN,
    });
  });

  test('an outage logs nobody out', async () => {
    const ann = await newUser(issuer);
    proxy.isDown = true;
    try {
      await expect(kit().getSession(cookie(ann))).rejects.toMatchObject({
        isTemporary: true,
      });
      await expect(kit().refresh(cookie(ann))).rejects.toMatchObject({ isTemporary: true });
    } finally {
      proxy.isDown = false;
    }
    expect(await kit().getSession(cookie(ann))).not.toBeNull();
  });

  test('parallel renewals of one session share an exchange, and its lost answer costs nothing', async () => {
    const ann = await newUser(issuer);
    const before = proxy.count('/api/v1/auth/token/refresh');
    proxy.lose.push('/api/v1/auth/token/refresh');
    const all = await Promise.all(Array.from({ length: 20 }, () => kit().refresh(cookie(ann))));
    expect(proxy.count('/api/v1/auth/token/refresh') - before, 'the lost one and its retry').toBe(
      2,
    );
    expect(new Set(all.map((tokens) => tokens?.refreshToken)).size).toBe(1);
    expect(
      await kit().getSession({ headers: { authorization: `Bearer ${all[0]?.accessToken}` } }),
    ).not.toBeNull();
  });

  test('a refresh token that is not valid renews nothing', async () => {
    const ann = await newUser(issuer);
    await logout({}, { baseUrl: issuer, accessToken: ann.access });
    expect(await kit().refresh(cookie(ann))).toBeNull();
    expect(await kit().refresh('a=b')).toBeNull();
  });

  test('T173: cookies are not accepted with a request that another site made the browser send', async () => {
    const ann = await newUser(issuer);
    const request = (headers: Record<string, string>, method = 'POST'): Request =>
      new Request('http://app.example.com/transfer', {
        method,
        headers: { cookie: cookie(ann), ...headers },
      });
    const foreign = [
      request({ 'sec-fetch-site': 'same-site', origin: 'http://evil.example.com' }),
      request({ 'sec-fetch-site': 'cross-site' }, 'DELETE'),
      request({ origin: 'http://evil.example.com' }),
      request({ origin: 'null' }, 'PUT'),
      request({ origin: 'http://app.example.com:8080' }),
    ];
    for (const one of foreign) {
      const refused = { statusCode: 403, errorCode: ErrorCode.CROSS_SITE_REQUEST };
      await expect(kit().getSession(one)).rejects.toMatchObject(refused);
      await expect(kit().refresh(one)).rejects.toMatchObject(refused);
    }
    const own = [
      request({ 'sec-fetch-site': 'same-origin', origin: 'http://app.example.com' }),
      request({ origin: 'http://app.example.com' }),
      request({}),
      request({ 'sec-fetch-site': 'cross-site' }, 'GET'),
    ];
    for (const one of own) expect(await kit().getSession(one)).not.toBeNull();
  });

  test('T174: a token that is forged, expired or meant for something else opens no session', async () => {
    const ann = await newUser(issuer);
    const claims = decodeJwt(ann.access);
    const header = decodeProtectedHeader(ann.access) as {
      alg: string;
      kid: string;
      typ: string;
    };
    const { privateKey } = await generateKeyPair('ES256');
    const [head, body, signature] = ann.access.split('.') as [string, string, string];
    const changed = btoa(JSON.stringify({ ...claims, role: 'admin' })).replaceAll('=', '');
    const hmac = new TextEncoder().encode(
      JSON.stringify(await (await fetch(`${issuer}/oauth2/jwks`)).json()),
    );
    const forged = [
      new UnsecuredJWT(claims).encode(),
      `${head}.${body}.`,
      `${head}.${changed}.${signature}`,
      await new SignJWT(claims).setProtectedHeader(header).sign(privateKey),
      await new SignJWT(claims).setProtectedHeader({ ...header, kid: 'unknown' }).sign(privateKey),
      await new SignJWT(claims)
        .setProtectedHeader({ alg: 'ES256', typ: 'at+jwt' })
        .sign(privateKey),
      // With the public key as a secret.
      await new SignJWT(claims).setProtectedHeader({ ...header, alg: 'HS256' }).sign(hmac),
      'a.b.c',
      `${ann.access}.`,
      'x'.repeat(10_000),
    ];
    for (const token of forged) {
      expect(
        await kit().getSession({ headers: { authorization: `Bearer ${token}` } }),
        token,
      ).toBeNull();
      await expect(kit().verify(token)).rejects.toMatchObject({
        errorCode: ErrorCode.INVALID_TOKEN,
      });
    }
    // A client's own token for the same API: valid, but nobody's session.
    const basic = btoa(`${feed.clientId}:${encodeURIComponent(feed.clientSecret)}`);
    const ownToken = async (headers = {}): Promise<string> => {
      const response = await fetch(`${issuer}/oauth2/token`, {
        method: 'POST',
        headers: { authorization: `Basic ${basic}`, ...headers },
        body: new URLSearchParams({ grant_type: 'client_credentials' }),
      });
      return ((await response.json()) as { access_token: string }).access_token;
    };
    const token = await ownToken();
    expect((await kit().verify(token)).client_id).toBe('gateway');
    expect(await kit().getSession(`propusk_access=${token}`)).toBeNull();
    // One that is bound to a key (RFC 9449) is no bearer token.
    const pair = await generateKeyPair('ES256');
    const jwk = await exportJWK(pair.publicKey);
    const proof = new SignJWT({ htm: 'POST', htu: `${issuer}/oauth2/token`, jti: crypto.randomUUID() })
      .setProtectedHeader({ alg: 'ES256', typ: 'dpop+jwt', jwk })
      .setIssuedAt();
    const bound = await ownToken({ dpop: await proof.sign(pair.privateKey) });
    expect(decodeJwt(bound).cnf).toBeDefined();
    await expect(kit().verify(bound)).rejects.toMatchObject({
      errorCode: ErrorCode.INVALID_TOKEN,
    });
  });
});

test('a renewal names the browser, whose address the server limits', async () => {
  const ann = await newUser(issuer);
  const seen: unknown[] = [];
  proxy.intercept = ({ headers }) => {
    seen.push(headers['x-forwarded-for']);
    return false;
  };
  const clientAddress = (): string => '192.0.2.7';
  expect(
    await createPropusk({ issuer, url: proxy.url, clientAddress }).refresh(cookie(ann)),
  ).not.toBeNull();
  proxy.intercept = () => false;
  expect(seen).toEqual(['192.0.2.7']);
});

test('T172: a revoked token is refused within a second, without a call per request', async () => {
  const ann = await newUser(issuer);
  expect(await local.getSession(cookie(ann))).not.toBeNull();
  const calls = (): number => proxy.requests.length;
  const before = calls();
  for (let turn = 0; turn < 1_000; turn += 1) await local.verify(ann.access);
  expect(await local.getSession(cookie(ann))).not.toBeNull();
  expect(calls() - before, 'the keys and the list are there').toBe(0);
  await logout({}, { baseUrl: issuer, accessToken: ann.access });
  const refused = (): Promise<boolean> =>
    local.verify(ann.access).then(
      () => false,
      () => true,
    );
  await eventually('refused', refused, 1_000);
  expect(await local.getSession(cookie(ann))).toBeNull();
  expect(calls() - before).toBe(0);
});

test('T172: without a current list no token passes, and nobody is logged out', async () => {
  const ann = await newUser(issuer);
  const cut = await Proxy.before(issuer);
  const kit = createPropusk({ issuer, url: cut.url, feed: { ...feed, maxStale: 200 } });
  try {
    expect(await kit.getSession(cookie(ann))).not.toBeNull();
    cut.isDown = true;
    cut.cut();
    const outcome = (): Promise<unknown> =>
      kit.getSession(cookie(ann)).catch((error: unknown) => error);
    await eventually(
      'not decided',
      async () => ((await outcome()) as { statusCode?: number }).statusCode === 503,
      3_000,
    );
    await expect(kit.verify(ann.access)).rejects.toMatchObject({
      statusCode: 503,
      isTemporary: true,
    });
    cut.isDown = false;
    await eventually(
      'decided again',
      async () => (await outcome()) !== null && !((await outcome()) instanceof Error),
    );
  } finally {
    kit.close();
    cut.close();
  }
});

test('T174: a token is for its own issuer and resource only', async () => {
  const ann = await newUser(issuer);
  const elsewhere = createPropusk({
    issuer: 'https://id.example.com',
    url: issuer,
    feed: { ...feed },
  });
  const resource = createPropusk({ issuer, feed, audience: 'https://api.example.com' });
  try {
    await expect(resource.verify(ann.access)).rejects.toMatchObject({
      errorCode: ErrorCode.INVALID_TOKEN,
    });
    expect(await resource.getSession(cookie(ann)), 'sessions are of the issuer').not.toBeNull();
    // The list of another issuer is not believed either.
    await expect(elsewhere.verify(ann.access)).rejects.toMatchObject({
      errorCode: ErrorCode.INVALID_TOKEN,
    });
  } finally {
    elsewhere.close();
    resource.close();
  }
});
