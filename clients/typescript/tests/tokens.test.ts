import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

import { afterAll, beforeAll, expect, inject, test } from 'vitest';

import {
  ErrorCode,
  PropuskError,
  currentSession,
  login,
  logout,
  refresh,
  register,
  verify,
} from '../src/tokens.js';
import { Proxy } from './support/proxy.js';
import { PASSWORD, SOURCE } from './support/server.js';
import { newUser } from './support/users.js';

const issuer = inject('issuer');
let proxy: Proxy;
beforeAll(async () => {
  proxy = await Proxy.before(issuer);
});
afterAll(() => proxy.close());

test('a user registers, logs in, is verified, refreshes and logs out', async () => {
  const options = { baseUrl: issuer };
  const ann = await newUser(issuer);
  const { accessToken, refreshToken, user } = await login(
    { login: ann.name, password: PASSWORD },
    options,
  );
  expect(user.email).toBe(ann.email);
  const verified = await verify(accessToken, options);
  expect(verified.user.id).toBe(user.id);
  const session = await currentSession({ ...options, accessToken });
  expect(session).toMatchObject({
    userId: user.id,
    username: ann.name,
    role: 'user',
    modules: [],
  });
  const renewed = await refresh({ refreshToken: refreshToken! }, options);
  expect(renewed.refreshToken).not.toBe(refreshToken);
  await logout({}, { ...options, accessToken: renewed.accessToken });
  await expect(verify(renewed.accessToken, options)).rejects.toMatchObject({
    errorCode: ErrorCode.INVALID_TOKEN,
  });
  await expect(refresh({ refreshToken: renewed.refreshToken! }, options)).rejects.toMatchObject({
    statusCode: 401,
    errorCode: ErrorCode.INVALID_REFRESH_TOKEN,
  });
  // The purpose is achieved: there is nobody to log out.
  await logout(
    { refreshToken: renewed.refreshToken! },
    { ...options, accessToken: renewed.accessToken },
  );
});

test('an error has the code, the fields at fault and the request id', async () => {
  const weak = register({ email: 'not an address', password: '' }, { baseUrl: issuer });
  const error: unknown = await weak.catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(PropuskError);
  const { statusCode, errorCode, details, requestId } = error as PropuskError;
  expect({ statusCode, errorCode }).toEqual({
    statusCode: 400,
    errorCode: ErrorCode.VALIDATION_ERROR,
  });
  expect(new Set(details.map(({ field }) => field))).toEqual(new Set(['email', 'password']));
  expect(requestId).toMatch(/^[0-9a-f-]{36}$/);
});

test('a refresh whose answer is lost is sent again and yields the same successor', async () => {
  const ann = await newUser(issuer);
  proxy.lose.push('/api/v1/auth/token/refresh', '/api/v1/auth/token/refresh');
  const before = proxy.count('/api/v1/auth/token/refresh');
  const renewed = await refresh({ refreshToken: ann.refresh }, { baseUrl: proxy.url });
  expect(proxy.count('/api/v1/auth/token/refresh') - before).toBe(3);
  expect(proxy.lose).toEqual([]);
  // Not reuse: the session lives on.
  await verify(renewed.accessToken, { baseUrl: issuer });
  await refresh({ refreshToken: renewed.refreshToken! }, { baseUrl: issuer });
});

test('a registration whose answer is lost is not sent again', async () => {
  proxy.lose.push('/api/v1/auth/register');
  const before = proxy.count('/api/v1/auth/register');
  const lost = newUser(proxy.url);
  await expect(lost).rejects.toMatchObject({
    statusCode: 0,
    errorCode: 'NETWORK_ERROR',
    isTemporary: true,
  });
  expect(proxy.count('/api/v1/auth/register') - before).toBe(1);
});

test('a page of a proxy is no answer of the server', async () => {
  proxy.intercept = (_, response) => {
    response.writeHead(200, { 'content-type': 'text/html' }).end('<p>Welcome to this network');
    return true;
  };
  const session = currentSession({ baseUrl: proxy.url });
  await expect(session).rejects.toMatchObject({
    errorCode: 'UNEXPECTED_RESPONSE',
    isTemporary: true,
  });
  proxy.intercept = () => false;
});

test('the generated types are current, and the error codes are those of the document', async () => {
  const document = join(SOURCE, 'openapi/propusk.yaml');
  const script = new URL('../scripts/generate.mjs', import.meta.url).pathname;
  await promisify(execFile)(process.execPath, [script, document, '--check']);
  const text = await readFile(document, 'utf8');
  for (const code of Object.values(ErrorCode)) expect(text).toContain(`- ${code}\n`);
  expect(Object.keys(ErrorCode).length).toBeGreaterThan(20);
});
