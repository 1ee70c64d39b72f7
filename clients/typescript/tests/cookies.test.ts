import { expect, inject, test } from 'vitest';

import { tokenCookies } from '../src/cookies.js';
import { PASSWORD } from './support/server.js';
import { newUser } from './support/users.js';

const issuer = inject('issuer');
const tokens = {
  accessToken: 'a.b.c',
  refreshToken: 'prt_x',
  expiresIn: 900,
  refreshExpiresIn: 604_800,
};

test('the cookies are those that the server sets', async () => {
  const ann = await newUser(issuer);
  const response = await fetch(`${issuer}/api/v1/auth/login`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ login: ann.name, password: PASSWORD, delivery: 'cookie' }),
  });
  const theirs = response.headers.getSetCookie();
  const cookies = tokenCookies({ issuer });
  const { access, refresh } = cookies.read(theirs.map((cookie) => cookie.split(';')[0]).join('; '));
  const { data } = (await response.json()) as {
    data: { expiresIn: number; refreshExpiresIn: number };
  };
  const ours = cookies.set({ ...data, accessToken: access[0]!, refreshToken: refresh[0]! });
  expect(ours).toEqual(theirs);

  const out = await fetch(`${issuer}/api/v1/auth/logout`, {
    method: 'POST',
    headers: { cookie: ours.map((cookie) => cookie.split(';')[0]).join('; ') },
  });
  expect(out.headers.getSetCookie()).toEqual(cookies.clear());
});

test('at https the names bind the cookies to the host, or to https where hosts share them', () => {
  const own = tokenCookies({ issuer: 'https://id.example.com' });
  expect(own.names).toEqual({
    access: '__Host-propusk_access',
    refresh: '__Host-propusk_refresh',
  });
  expect(own.set(tokens)[0]).toBe(
    '__Host-propusk_access=a.b.c; Path=/; Max-Age=900; HttpOnly; SameSite=Lax; Secure',
  );
  const shared = tokenCookies({ issuer: 'https://id.example.com', domain: 'example.com' });
  expect(shared.names.refresh).toBe('__Secure-propusk_refresh');
  expect(shared.clear()[1]).toBe(
    '__Secure-propusk_refresh=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax; Secure; Domain=example.com',
  );
});

test('cookies are read from what frameworks have', () => {
  const cookies = tokenCookies({ issuer: 'http://127.0.0.1' });
  const text =
    'a=1; propusk_access=x; propusk_access=; propusk_refresh=z;xpropusk_access=n; propusk_access=y';
  const expected = { access: ['x', 'y'], refresh: ['z'] };
  expect(cookies.read(text)).toEqual(expected);
  expect(cookies.read(new Headers({ cookie: text }))).toEqual(expected);
  expect(cookies.read(new Request('http://a', { headers: { cookie: text } }))).toEqual(expected);
  expect(cookies.read({ headers: { cookie: text } })).toEqual(expected);
  const store = { getAll: () => [{ name: 'propusk_access', value: 'x' }] };
  expect(cookies.read(store)).toEqual({ access: ['x'], refresh: [] });
});

test('a value that would end the cookie is refused', () => {
  const cookies = tokenCookies({ issuer: 'https://id.example.com' });
  expect(() => cookies.set({ ...tokens, accessToken: 'a; Domain=evil.example' })).toThrow(
    TypeError,
  );
  expect(() => cookies.set({ expiresIn: 1, refreshExpiresIn: 1 })).toThrow(/delivery/);
});
