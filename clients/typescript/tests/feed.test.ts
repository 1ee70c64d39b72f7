import { generateKeyPair } from 'jose';
import { afterEach, beforeEach, describe, expect, inject, test, vi } from 'vitest';

import {
  followRevocations,
  type FeedOptions,
  type RevocationFeed,
  type TokenIdentity,
} from '../src/feed.js';
import { logout } from '../src/tokens.js';
import { FakeFeed, ISSUER } from './support/fake-feed.js';
import { Proxy } from './support/proxy.js';
import { Server } from './support/server.js';
import { eventually, newUser } from './support/users.js';

/** What a feed looks up, of a token as the server issues it. */
function identity(token: string): TokenIdentity {
  const [header, claims] = token
    .split('.')
    .slice(0, 2)
    .map((part) => JSON.parse(atob(part.replaceAll('-', '+').replaceAll('_', '/'))));
  return { ...claims, kid: header.kid };
}

describe('with the server', () => {
  test('every logout is known within a second, and after a restart of the server', async () => {
    const server = await Server.start();
    const secret = await server.addGateway('gateway');
    const errors: unknown[] = [];
    const options = { issuer: server.issuer, clientId: 'gateway', clientSecret: secret };
    const feed = followRevocations({ ...options, onError: (error) => errors.push(error) });
    try {
      expect(await feed.ready()).toBe(true);
      const before = await newUser(server.issuer);
      const token = identity(before.access);
      expect(feed.check(token)).toBe('valid');
      await logout({}, { baseUrl: server.issuer, accessToken: before.access });
      await eventually('revoked', () => feed.check(token) === 'revoked', 1_000);

      // While the server is down the list is trusted for a while; then the feed catches up.
      await server.kill();
      await eventually('the loss is noticed', () => errors.length > 0);
      expect(feed.check(token)).toBe('revoked');
      await server.serve();
      const after = await newUser(server.issuer);
      await logout({}, { baseUrl: server.issuer, accessToken: after.access });
      await eventually('revoked', () => feed.check(identity(after.access)) === 'revoked');
      expect(feed.check(token)).toBe('revoked');
    } finally {
      feed.close();
      await server.stop();
    }
    expect(feed.check(identity((await newUser(inject('issuer'))).access))).toBe('unknown');
  });

  test('changes made while the connection was cut are caught up with', async () => {
    const issuer = inject('issuer');
    const proxy = await Proxy.before(issuer);
    const options = {
      issuer,
      url: proxy.url,
      clientId: 'gateway',
      clientSecret: inject('secret'),
    };
    const feed = followRevocations({ ...options, maxStale: 0 });
    try {
      expect(await feed.ready()).toBe(true);
      const ann = await newUser(issuer);
      const token = identity(ann.access);
      await eventually('a stream is open', () => feed.check(token) === 'valid');
      proxy.isDown = true;
      proxy.cut();
      await logout({}, { baseUrl: issuer, accessToken: ann.access });
      // 0 trusts only a live stream.
      await eventually('not trusted', () => feed.check(token) === 'unknown');
      proxy.isDown = false;
      await eventually('revoked', () => feed.check(token) === 'revoked');
    } finally {
      feed.close();
      proxy.close();
    }
  });

  test('a wrong secret is reported, and no token passes', async () => {
    const errors: unknown[] = [];
    const options = { issuer: inject('issuer'), clientId: 'gateway', clientSecret: 'wrong' };
    const feed = followRevocations({ ...options, onError: (error) => errors.push(error) });
    expect(await feed.ready(300)).toBe(false);
    expect(errors[0]).toMatchObject({ statusCode: 401, errorCode: 'INVALID_CLIENT' });
    expect(feed.check(identity((await newUser(inject('issuer'))).access))).toBe('unknown');
    feed.close();
  });
});

describe('T172: what a feed may not miss', () => {
  const token = {
    kid: 'k',
    jti: 'j',
    sub: 's',
    client_id: 'c',
    sid: 'i',
    scope: 'openid crm:read',
    iat: 1_000,
  };
  const expires_at = 4_000_000_000;
  let fake: FakeFeed;
  let feed: RevocationFeed;
  let errors: unknown[];

  const follow = (options: Partial<FeedOptions> = {}): RevocationFeed => {
    const { fetch, jwks } = fake;
    const onError = (error: unknown): number => errors.push(error);
    return followRevocations({
      issuer: ISSUER,
      clientId: 'g',
      clientSecret: 's',
      fetch,
      jwks,
      onError,
      ...options,
    });
  };
  const streaming = (since: number): Promise<number> =>
    eventually(`a stream from ${since}`, () => fake.requests.at(-1) === `stream ${since}`);

  beforeEach(async () => {
    fake = await FakeFeed.create();
    errors = [];
  });
  afterEach(() => {
    feed.close();
    vi.useRealTimers();
  });

  test('each kind of entry revokes the tokens it names, and no others', async () => {
    feed = follow();
    const cases: [object, Partial<typeof token>][] = [
      [{ kind: 'token', id: 'j' }, { jti: 'other' }],
      [{ kind: 'session', id: 'i' }, { sid: 'other' }],
      [{ kind: 'key', id: 'k' }, { kid: 'other' }],
      [{ kind: 'subject', id: 's', issued_until: 1_000 }, { iat: 1_001 }],
      [{ kind: 'client', id: 'c', issued_until: 1_000 }, { iat: 1_001 }],
      [
        { kind: 'scope', id: 's', scope: 'crm:read', issued_until: 1_000 },
        { scope: 'openid crm:reader' },
      ],
    ];
    for (const [entry, other] of cases) {
      fake.entries = [{ ...entry, expires_at }];
      const one = follow();
      await one.ready();
      expect(one.check(token), JSON.stringify(entry)).toBe('revoked');
      expect(one.check({ ...token, ...other }), JSON.stringify(other)).toBe('valid');
      one.close();
    }
  });

  test('a token is revoked with each one that it was exchanged for', async () => {
    const origin = { jti: 'dj', kid: 'dk', client_id: 'dc', iat: 900 };
    const exchanged = { ...token, derived_from: [origin] };
    const cases: [object, 'revoked' | 'valid'][] = [
      [{ kind: 'token', id: 'dj' }, 'revoked'],
      [{ kind: 'key', id: 'dk' }, 'revoked'],
      [{ kind: 'client', id: 'dc', issued_until: 900 }, 'revoked'],
      [{ kind: 'client', id: 'dc', issued_until: 899 }, 'valid'],
      // Its user's entries count from the first of them.
      [{ kind: 'subject', id: 's', issued_until: 900 }, 'revoked'],
      [{ kind: 'scope', id: 's', scope: 'crm:read', issued_until: 900 }, 'revoked'],
      [{ kind: 'subject', id: 's', issued_until: 899 }, 'valid'],
    ];
    feed = follow();
    for (const [entry, expected] of cases) {
      fake.entries = [{ ...entry, expires_at }];
      const one = follow();
      await one.ready();
      expect(one.check(exchanged), JSON.stringify(entry)).toBe(expected);
      expect(one.check({ ...token, iat: 1_001 }), JSON.stringify(entry)).toBe('valid');
      one.close();
    }
  });

  test('of two entries for one target the later counts, and a delta twice changes nothing', async () => {
    feed = follow();
    await feed.ready();
    await streaming(0);
    const until = (issued_until: number): object => ({
      kind: 'subject',
      id: 's',
      issued_until,
      expires_at,
    });
    fake.delta(0, 1, [until(1_000)]);
    fake.delta(1, 2, [until(999)]);
    await eventually('both are applied', () => feed.number === 2);
    expect(feed.check(token)).toBe('revoked');
    expect(feed.check({ ...token, iat: 1_001 })).toBe('valid');
  });

  test('after a gap the whole list is fetched, and replaces the entries', async () => {
    fake.entries = [{ kind: 'session', id: 'old', expires_at }];
    feed = follow();
    await feed.ready();
    await streaming(0);
    expect(feed.check({ ...token, sid: 'old' })).toBe('revoked');
    fake.number = 7;
    fake.entries = [{ kind: 'session', id: 'i', expires_at }];
    fake.delta(5, 7, []);
    await streaming(7);
    expect(fake.requests.filter((request) => request === 'list')).toHaveLength(2);
    expect(feed.check(token)).toBe('revoked');
    expect(feed.check({ ...token, sid: 'old' })).toBe('valid');
  });

  test.each([
    ['a reset', () => fake.send('event: reset\ndata: {}\n\n')],
    ['a delta that is not JSON', () => fake.send('event: delta\ndata: {"from":0\n\n')],
    ['a delta that is null', () => fake.send('event: delta\ndata: null\n\n')],
  ])('%s leads to the whole list', async (_, act) => {
    feed = follow();
    await feed.ready();
    await streaming(0);
    fake.number = 3;
    act();
    await streaming(3);
    expect(fake.requests.filter((request) => request === 'list')).toHaveLength(2);
  });

  test('410 leads to the whole list, even if its number is smaller', async () => {
    fake.number = 9;
    feed = follow();
    await feed.ready();
    await streaming(9);
    fake.number = 4;
    fake.entries = [{ kind: 'session', id: 'i', expires_at }];
    fake.nextStatus = 410;
    fake.end();
    await streaming(4);
    expect(feed.number).toBe(4);
    expect(feed.check(token)).toBe('revoked');
  });

  test('an unknown or unreadable entry revokes every token until it expires', async () => {
    feed = follow();
    await feed.ready();
    await streaming(0);
    const now = Math.floor(Date.now() / 1000);
    fake.delta(0, 1, [{ kind: 'galaxy', id: 'x', expires_at: now + 1 }]);
    await eventually('it is applied', () => feed.number === 1);
    expect(feed.check(token)).toBe('unknown');
    await eventually('it has expired', () => feed.check(token) === 'valid', 3_000);
    fake.delta(1, 2, [{ kind: 'subject', id: 's' }]);
    await eventually('it is applied', () => feed.number === 2);
    expect(feed.check(token)).toBe('unknown');
  });

  test('a list with another signature, type or issuer is not used', async () => {
    fake.signer = (await generateKeyPair('ES256')).privateKey;
    feed = follow();
    expect(await feed.ready(200)).toBe(false);
    fake.signer = fake.key;
    fake.typ = 'at+jwt';
    expect(await feed.ready(400)).toBe(false);
    expect(feed.number).toBe(-1);
    const other = follow({ issuer: 'https://evil.example.com', fetch: fake.fetch });
    fake.typ = 'revocations+jwt';
    expect(await other.ready(200)).toBe(false);
    other.close();
    expect(await feed.ready()).toBe(true);
  });

  test('a list that cannot be updated is trusted for maxStale, then no token passes', async () => {
    feed = follow({ maxStale: 400 });
    await feed.ready();
    await streaming(0);
    const began = Date.now();
    fake.isDown = true;
    fake.end();
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(feed.check(token)).toBe('valid');
    await eventually('it is too old', () => feed.check(token) === 'unknown', 2_000);
    expect(Date.now() - began).toBeGreaterThanOrEqual(400);
    fake.isDown = false;
    await eventually('it is current again', () => feed.check(token) === 'valid');
  });

  test('a silent stream is given up after 45 s; comments keep it alive', async () => {
    vi.useFakeTimers({
      toFake: ['setTimeout', 'clearTimeout', 'setInterval', 'clearInterval', 'Date', 'performance'],
    });
    feed = follow();
    for (let turn = 0; fake.requests.at(-1) !== 'stream 0'; turn += 1) {
      expect(turn).toBeLessThan(1_000);
      await new Promise((resolve) => setImmediate(resolve));
    }
    for (let beat = 0; beat < 4; beat += 1) {
      await vi.advanceTimersByTimeAsync(30_000);
      fake.send(': keep-alive\n\n');
      await new Promise((resolve) => setImmediate(resolve));
      expect(feed.check(token)).toBe('valid');
    }
    expect(fake.requests.filter((request) => request === 'stream 0')).toHaveLength(1);
    fake.isDown = true;
    await vi.advanceTimersByTimeAsync(44_000);
    expect(feed.check(token)).toBe('valid');
    await vi.advanceTimersByTimeAsync(2_000);
    expect(feed.check(token), 'nothing was heard for longer than maxStale').toBe('unknown');
    expect(String(errors[0])).toContain('silent');
  });

  test('a process that slept trusts nothing it held', async () => {
    feed = follow();
    await feed.ready();
    await streaming(0);
    const now = Date.now();
    expect(feed.check(token)).toBe('valid');
    const clock = vi.spyOn(Date, 'now').mockReturnValue(now + 3_600_000);
    expect(feed.check(token)).toBe('unknown');
    clock.mockRestore();
  });

  test.each([
    ['a comment', () => fake.send(': keep-alive\n\n')],
    ['a change', () => fake.delta(0, 1, [])],
    ['the end of the stream', () => fake.end()],
    ['a broken connection', () => fake.break()],
  ])('%s that is read after a sleep does not make the list current', async (_, read) => {
    feed = follow();
    await feed.ready();
    await streaming(0);
    const now = Date.now();
    const clock = vi.spyOn(Date, 'now').mockReturnValue(now + 3_600_000);
    // It was sent before the sleep; since then nothing is known.
    fake.isDown = true;
    read();
    await eventually('it was read', () => errors.length > 0);
    expect(String(errors[0])).toContain('silent for 3600 s');
    expect(feed.check(token)).toBe('unknown');
    expect(feed.number, 'it is not applied either').toBe(0);
    fake.isDown = false;
    await eventually('a new answer', () => feed.check(token) === 'valid');
    expect(fake.requests.filter((request) => request === 'delta 0')).toHaveLength(1);
    clock.mockRestore();
  });

  test('reconnects wait 100 ms, 200 ms, … up to 5 s, with jitter', async () => {
    vi.useFakeTimers({
      toFake: ['setTimeout', 'clearTimeout', 'setInterval', 'clearInterval', 'Date', 'performance'],
    });
    const attempts: number[] = [];
    const failing: typeof fetch = async () => {
      attempts.push(Date.now());
      throw new TypeError('fetch failed');
    };
    feed = follow({ fetch: failing });
    await vi.advanceTimersByTimeAsync(60_000);
    const waits = attempts.slice(1).map((at, index) => at - attempts[index]!);
    for (const [index, wait] of waits.entries()) {
      const full = Math.min(100 * 2 ** index, 5_000);
      expect(wait).toBeGreaterThanOrEqual(full / 2 - 1);
      expect(wait).toBeLessThanOrEqual(full + 1);
    }
    expect(waits.length).toBeGreaterThan(12);
  });
});
