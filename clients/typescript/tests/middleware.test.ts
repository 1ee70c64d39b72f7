import { createServer, request as send, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';

import express from 'express';
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';

import { run } from '../src/chain.js';
import {
  chain,
  safeReturnTo,
  toExpress,
  toNext,
  withPrivateRoutes,
  withRefresh,
  withRequestId,
  withSession,
  type Handler,
  type Middleware,
} from '../src/middleware.js';
import { createPropusk, type Propusk } from '../src/server.js';
import { login, logout } from '../src/tokens.js';
import { Proxy } from './support/proxy.js';
import { PASSWORD } from './support/server.js';
import { newUser } from './support/users.js';

const issuer = inject('issuer');
const app = 'http://app.example.com';
const page = { accept: 'text/html,application/xhtml+xml', 'sec-fetch-mode': 'navigate' };
const ok: Handler = () => new Response('inner');

let proxy: Proxy;
let propusk: Propusk;
beforeAll(async () => {
  proxy = await Proxy.before(issuer);
  propusk = createPropusk({ issuer, url: proxy.url });
});
afterAll(() => proxy.close());

async function answer(
  middlewares: Middleware[],
  request: Request,
  last: Handler = ok,
): Promise<Response> {
  return (await run(chain(middlewares), last, request, propusk)).response;
}

describe('a chain', () => {
  test('runs in the order of its list, inwards and outwards', async () => {
    const order: string[] = [];
    const named =
      (name: string): Middleware =>
      (next) =>
      async (request, context) => {
        order.push(`${name} in`);
        const response = await next(request, context);
        order.push(`${name} out`);
        return response;
      };
    await answer([named('a'), named('b'), named('c')], new Request(app));
    expect(order).toEqual(['a in', 'b in', 'c in', 'c out', 'b out', 'a out']);
    expect(await (await answer([], new Request(app))).text()).toBe('inner');
  });

  test('ends where a middleware answers by itself', async () => {
    const early: Middleware = () => () => new Response('early', { status: 418 });
    const never: Middleware = () => () => expect.fail('it was called');
    const response = await answer([withRequestId, early, never], new Request(app));
    expect(response.status).toBe(418);
    expect(response.headers.get('x-request-id')).toMatch(/^[0-9a-f-]{36}$/);
  });

  test('cookies of an inner middleware reach the response that an outer one returns', async () => {
    const outer: Middleware = (next) => async (request, context) => {
      const inner = await next(request, context);
      expect(inner.status).toBe(200);
      context.cookies.push('outer=1; Path=/');
      return Response.redirect(`${app}/elsewhere`);
    };
    const inner: Middleware = (next) => async (request, context) => {
      context.cookies.push('inner=1; Path=/', 'changed=1; Path=/');
      const response = await next(request, context);
      response.headers.append('set-cookie', 'response=1; Path=/');
      response.headers.append('set-cookie', 'changed=2; Path=/');
      response.headers.append('set-cookie', 'changed=3; Path=/other');
      return response;
    };
    const response = await answer([outer, inner], new Request(app));
    expect(response.status).toBe(302);
    const expected = [
      'inner=1; Path=/',
      'changed=2; Path=/',
      'response=1; Path=/',
      'changed=3; Path=/other',
      'outer=1; Path=/',
    ];
    expect(response.headers.getSetCookie().sort()).toEqual(expected.sort());
  });

  test('an inner middleware sees the request id, and one that is no id is replaced', async () => {
    const seen: Handler = (request, { requestId }) =>
      new Response(`${request.headers.get('x-request-id')} ${requestId}`);
    const given = new Request(app, { headers: { 'x-request-id': 'abc-1' } });
    expect(await (await answer([withRequestId], given, seen)).text()).toBe('abc-1 abc-1');
    const odd = new Request(app, { headers: { 'x-request-id': 'a b' } });
    expect((await answer([withRequestId], odd, seen)).headers.get('x-request-id')).toMatch(
      /^[0-9a-f-]{36}$/,
    );
  });
});

describe('private routes', () => {
  const middlewares = [
    withRequestId,
    withSession,
    withPrivateRoutes({ match: '/account', loginUrl: '/login' }),
    withPrivateRoutes({
      match: ['/crm', '/sales'],
      loginUrl: '/login',
      modules: ['crm'],
      scopes: ['crm:read'],
    }),
    withRefresh,
  ];
  const who: Handler = (request, { session }) =>
    new Response(`${session?.username} ${request.headers.get('cookie')}`);
  const visit = (
    path: string,
    headers: Record<string, string> = page,
    last = who,
  ): Promise<Response> => answer(middlewares, new Request(app + path, { headers }), last);
  const cookies = (access: string, refresh: string): string =>
    `propusk_access=${access}; propusk_refresh=${refresh}`;

  test('a page is redirected to the login and back, a fetch gets 401', async () => {
    const response = await visit('/account/orders?id=1&x=/a');
    expect(response.status).toBe(303);
    expect(response.headers.get('location')).toBe(
      '/login?return_to=%2Faccount%2Forders%3Fid%3D1%26x%3D%2Fa',
    );
    const fetched = await visit('/account', {
      accept: 'application/json',
      'sec-fetch-mode': 'cors',
    });
    expect(fetched.status).toBe(401);
    expect(fetched.headers.get('www-authenticate')).toBe('Bearer');
    expect(await fetched.json()).toMatchObject({ statusCode: 401, errorCode: 'INVALID_TOKEN' });
    // A bearer token that is not valid: no page of a browser.
    expect((await visit('/account', { ...page, authorization: 'Bearer x' })).status).toBe(401);
    expect((await visit('/accounts')).status).toBe(200);
  });

  test('the login may be that of the server, which gets the whole URL', async () => {
    const routes = withPrivateRoutes({
      match: '/',
      loginUrl: `${issuer}/session/start?max_age=300`,
    });
    const response = await answer([routes], new Request(`${app}/a?b`, { headers: page }));
    const location = new URL(response.headers.get('location') ?? '');
    expect(location.origin + location.pathname).toBe(`${issuer}/session/start`);
    expect(Object.fromEntries(location.searchParams)).toEqual({
      max_age: '300',
      return_to: `${app}/a?b`,
    });
  });

  test('a user passes, and without the module gets 403', async () => {
    const ann = await newUser(issuer);
    const cookie = cookies(ann.access, ann.refresh);
    const response = await visit('/account', { ...page, cookie });
    expect(await response.text()).toBe(`${ann.name} ${cookie}`);
    expect(response.headers.getSetCookie()).toEqual([]);
    for (const path of ['/crm', '/sales/1']) {
      const refused = await visit(path, { accept: '*/*', cookie });
      expect(refused.status).toBe(403);
      expect(await refused.json()).toMatchObject({ errorCode: 'INSUFFICIENT_SCOPE' });
    }
    const headers = { authorization: `Bearer ${ann.access}` };
    await fetch(`${issuer}/api/v1/modules/crm/enable`, { method: 'POST', headers });
    const { accessToken } = await login(
      { login: ann.name, password: PASSWORD },
      { baseUrl: issuer },
    );
    expect(
      (await visit('/crm', { ...page, cookie: cookies(accessToken!, ann.refresh) })).status,
    ).toBe(200);
  });

  test.each([['/account'], ['/']])(
    'an expired access cookie is renewed once, at %s',
    async (path) => {
      const ann = await newUser(issuer);
      const before = proxy.count('/api/v1/auth/token/refresh');
      // Browsers drop a cookie that has expired.
      const headers = { ...page, cookie: `a=b; propusk_refresh=${ann.refresh}` };
      const responses = await Promise.all(Array.from({ length: 10 }, () => visit(path, headers)));
      expect(proxy.count('/api/v1/auth/token/refresh') - before).toBe(1);
      for (const response of responses) {
        const [access, refresh] = response.headers
          .getSetCookie()
          .map((cookie) => cookie.split(';')[0]);
        // What comes after sees the new tokens.
        expect(await response.text()).toBe(`${ann.name} a=b; ${access}; ${refresh}`);
        expect(refresh).not.toContain(ann.refresh);
        const next = await visit('/account', { ...page, cookie: `${access}; ${refresh}` });
        expect(next.status).toBe(200);
      }
    },
  );

  test('the cookies of a revoked session are removed', async () => {
    const ann = await newUser(issuer);
    await logout({}, { baseUrl: issuer, accessToken: ann.access });
    const response = await visit('/account', {
      ...page,
      cookie: cookies(ann.access, ann.refresh),
    });
    expect(response.status).toBe(303);
    expect(response.headers.getSetCookie()).toEqual(propusk.cookies.clear());
  });

  test('an outage is 503, never a redirect to the login, and public pages are served', async () => {
    const ann = await newUser(issuer);
    proxy.isDown = true;
    try {
      for (const cookie of [cookies(ann.access, ann.refresh), `propusk_refresh=${ann.refresh}`]) {
        const response = await visit('/account', { ...page, cookie });
        expect(response.status).toBe(503);
        expect(response.headers.get('retry-after')).not.toBeNull();
        expect(response.headers.getSetCookie()).toEqual([]);
        expect((await visit('/public', { ...page, cookie })).status).toBe(200);
      }
    } finally {
      proxy.isDown = false;
    }
    expect(
      (await visit('/account', { ...page, cookie: cookies(ann.access, ann.refresh) })).status,
    ).toBe(200);
  });

  test('T173: a cross-site request with cookies is refused', async () => {
    const ann = await newUser(issuer);
    const headers = { cookie: cookies(ann.access, ann.refresh), 'sec-fetch-site': 'same-site' };
    const response = await answer(
      middlewares,
      new Request(`${app}/account`, { method: 'POST', headers }),
      who,
    );
    expect(response.status).toBe(403);
    expect(await response.json()).toMatchObject({ errorCode: 'CROSS_SITE_REQUEST' });
  });

  test('T171: another spelling of a private path is as private', async () => {
    const spelled = [
      '/Account',
      '/ACCOUNT/x',
      '/%61ccount',
      '//account',
      '/./account',
      '/a/../account',
      '/a/%2e%2e/account',
    ];
    const ambiguous = [
      '/account%2Fx',
      '/a%2f..%2faccount',
      '/x%5c..%5caccount',
      '/a;/account',
      '/%2561ccount',
      '/%ff',
      '/account;x',
    ];
    for (const path of [...spelled, ...ambiguous]) {
      expect((await visit(path, { accept: '*/*' })).status, path).toBe(401);
    }
    for (const path of ['/', '/public', '/about%20us', '/публично', '/accounting']) {
      expect((await visit(path, { accept: '*/*' })).status, path).toBe(200);
    }
  });

  test('a pattern that means something else than it seems is refused', () => {
    for (const match of ['account', '/account/*', '/:id', '/a(b)']) {
      expect(() => withPrivateRoutes({ match, loginUrl: '/login' })).toThrow(TypeError);
    }
  });
});

test('T170: return_to leads to a path of the application only', () => {
  const refused = [
    'https://evil.example',
    '//evil.example',
    '///evil.example',
    '/\\evil.example',
    '\\\\evil.example',
    '/\t/evil.example',
    '/\n/evil.example',
    '\t//evil.example',
    ' //evil.example',
    '/.//evil.example',
    '/a/..//evil.example',
    '/%2e//evil.example',
    'javascript:alert(1)',
    'data:text/html,x',
    'account',
    '',
    '.',
    '@evil.example',
    '/\u0000/evil',
    null,
    undefined,
  ];
  for (const value of refused) expect(safeReturnTo(value, '/home'), String(value)).toBe('/home');
  for (const value of [
    '/',
    '/account?a=b&c=//d#e',
    '/a/b',
    '/%2F%2Fevil.example',
    '/@evil.example',
    '/a:b',
    '/?next=https://evil.example',
  ]) {
    expect(safeReturnTo(value, '/home')).toBe(value);
  }
  // Whatever passes stays at this origin when a browser follows it.
  for (const value of ['/a/./b', '/a/../b', '/%2e%2e/b']) {
    expect(new URL(safeReturnTo(value), app).origin).toBe(app);
  }
});

test('T170: a redirect to the login never carries another origin', async () => {
  const routes = withPrivateRoutes({ match: '/', loginUrl: '/login' });
  for (const path of ['//evil.example', '//evil.example/%2e%2e', '/\\evil.example']) {
    const response = await answer([routes], new Request(app + path, { headers: page }));
    const location = response.headers.get('location') ?? '';
    expect(new URL(location, app).origin).toBe(app);
    const returnTo = new URL(location, app).searchParams.get('return_to');
    expect(new URL(safeReturnTo(returnTo), app).origin).toBe(app);
  }
});

describe('Express', () => {
  const middlewares = [
    withRequestId,
    withSession,
    withPrivateRoutes({ match: '/account', loginUrl: '/login' }),
    withRefresh,
  ];

  async function serve(
    act: (base: string) => Promise<void>,
    extra: Middleware[] = [],
  ): Promise<void> {
    const application = express();
    application.use(toExpress(propusk, chain([...middlewares, ...extra])));
    application.use((request, response) => {
      response.cookie('own', '1').json({
        path: request.path,
        session: response.locals.session,
        cookie: request.headers.cookie,
      });
    });
    const server = createServer(application);
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    try {
      await act(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
    } finally {
      server.close();
    }
  }

  /** A request as it is written, whose path and Host no client library has corrected. */
  function raw(
    base: string,
    path: string,
    headers: Record<string, string>,
  ): Promise<IncomingMessage & { body: string }> {
    const { hostname, port } = new URL(base);
    return new Promise((resolve, reject) => {
      const done = (response: IncomingMessage): void => {
        let body = '';
        response.on('data', (chunk: Buffer) => (body += chunk.toString()));
        response.on('end', () => resolve(Object.assign(response, { body })));
      };
      send({ hostname, port, path, headers, agent: false }, done).on('error', reject).end();
    });
  }

  test('handlers find the session, and renewed cookies reach the browser beside their own', async () => {
    const ann = await newUser(issuer);
    const custom: Middleware = (next) => async (request, context) => {
      const response = await next(request, context);
      response.headers.set('x-custom', context.session?.username ?? 'nobody');
      return response;
    };
    await serve(
      async (base) => {
        const response = await fetch(`${base}/account`, {
          headers: { cookie: `propusk_refresh=${ann.refresh}` },
        });
        expect(response.status).toBe(200);
        const { session, cookie } = (await response.json()) as {
          session: { email: string };
          cookie: string;
        };
        expect(session.email).toBe(ann.email);
        const set = response.headers.getSetCookie();
        expect(set.map((one) => one.split('=')[0]).sort()).toEqual([
          'own',
          'propusk_access',
          'propusk_refresh',
        ]);
        expect(cookie).toContain(
          set.find((one) => one.startsWith('propusk_refresh'))?.split(';')[0],
        );
        expect(response.headers.get('x-custom')).toBe(ann.name);
        expect(response.headers.get('x-request-id')).not.toBeNull();
        const nobody = await raw(base, '/account', page);
        expect([nobody.statusCode, nobody.headers.location]).toEqual([
          303,
          '/login?return_to=%2Faccount',
        ]);
      },
      [custom],
    );
  });

  test('T171: a Host header or an absolute target does not hide a private path', async () => {
    await serve(async (base) => {
      const { host } = new URL(base);
      expect((await raw(base, '/public', { host })).statusCode).toBe(200);
      for (const odd of ['a/b', 'a?b', 'a#b', 'a\\b', 'user@a', 'a b', '[']) {
        expect((await raw(base, '/account', { host: odd })).statusCode, odd).toBe(401);
      }
      const targets = [
        'http://evil.example/account',
        'http://a?b/account',
        'http://a/x/../account',
        '//a/../account',
        '/ACCOUNT/',
      ];
      for (const target of [
        ...targets,
        'http:/account',
        'http:account',
        '/public#/../account',
        '/account#x',
        '/account?x',
      ]) {
        const { statusCode, body } = await raw(base, target, { host });
        // What is let through is not what Express takes for the private path.
        if (statusCode === 200)
          expect((JSON.parse(body) as { path: string }).path, target).not.toMatch(/^\/account/i);
        else expect([400, 401, 500], target).toContain(statusCode);
      }
    });
  });
});

describe('Next.js', () => {
  /** As Next's own: the headers for what comes after are in the response. */
  const NextResponse = {
    next: (init?: { request?: { headers?: Headers } }) =>
      new Response(null, {
        headers: {
          'x-middleware-next': '1',
          'x-cookie': init?.request?.headers?.get('cookie') ?? '',
        },
      }),
  };
  const proxyOf = toNext(
    NextResponse,
    createPropusk({ issuer }),
    chain([withPrivateRoutes({ match: '/account', loginUrl: '/login' })]),
  );
  const visit = (
    path: string,
    headers: Record<string, string>,
    basePath = '',
  ): Promise<Response> => {
    const request = new Request(`${app}${basePath}${path}`, { headers });
    const { pathname, search } = new URL(app + path);
    return proxyOf(Object.assign(request, { nextUrl: { pathname, search, basePath } }));
  };

  test('pages see renewed cookies, and so does the browser', async () => {
    const ann = await newUser(issuer);
    const response = await visit('/account', {
      ...page,
      cookie: `propusk_refresh=${ann.refresh}`,
    });
    expect(response.headers.get('x-middleware-next')).toBe('1');
    const set = response.headers.getSetCookie().map((cookie) => cookie.split(';')[0]);
    expect(response.headers.get('x-cookie')).toBe(set.join('; '));
  });

  test('paths are those below the base path', async () => {
    const response = await visit('/account?a=b', page, '/app');
    expect(response.headers.get('location')).toBe(`${app}/app/login?return_to=%2Faccount%3Fa%3Db`);
  });
});
