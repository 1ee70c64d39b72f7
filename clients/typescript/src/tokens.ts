/**
 * The JSON API: register, log in, refresh, log out, verify. In browsers, with the page's own origin
 * (`delivery: 'cookie'`); on servers, with `baseUrl`.
 *
 * @module
 */
import { ErrorCode, PropuskError } from './errors.js';
import { call, type RequestOptions } from './http.js';
import type { components } from './openapi.js';

export { ErrorCode, PropuskError, type AnyErrorCode, type Detail } from './errors.js';
export type { RequestOptions } from './http.js';

type Schemas = components['schemas'];
/** The tokens and the user of a session. */
export type Tokens = Schemas['Tokens'];
/** A user. */
export type User = Schemas['User'];
/** The current session. */
export type Session = Schemas['Session'];
/** A valid access token. */
export type Verified = Schemas['Verified'];
export type RegisterRequest = Schemas['RegisterRequest'];
export type LoginRequest = Schemas['LoginRequest'];
export type RefreshRequest = Schemas['RefreshRequest'];
export type LogoutRequest = Schemas['LogoutRequest'];

/** Options of a request for a session. */
export interface SessionOptions extends RequestOptions {
  /** Instead of the cookies. */
  accessToken?: string | undefined;
}

/** Where the JSON API is, below the server's URL. */
const API = '/api/v1/auth';

/**
 * Creates an account and logs its user in.
 *
 * Where the deployment confirms registrations by mail (`registration.confirm_email`), the answer
 * has no tokens: the user follows the link of the mail, and logs in.
 *
 * @throws {PropuskError} such as `EMAIL_ALREADY_EXISTS`; `VALIDATION_ERROR` with the fields in
 * `details`.
 */
export function register(request: RegisterRequest, options: RequestOptions = {}): Promise<Tokens> {
  return call({
    ...options,
    method: 'POST',
    path: `${API}/register`,
    body: request,
    idempotent: false,
  });
}

/**
 * Logs a user in.
 *
 * @throws {PropuskError} such as `INVALID_CREDENTIALS`.
 */
export function login(request: LoginRequest, options: RequestOptions = {}): Promise<Tokens> {
  return call({
    ...options,
    method: 'POST',
    path: `${API}/login`,
    body: request,
    idempotent: false,
  });
}

/**
 * Exchanges a refresh token, by default that of the cookie, for new tokens. If the answer is lost,
 * the request is sent again within the server's replay window: it yields the same successor.
 *
 * @throws {PropuskError} `INVALID_REFRESH_TOKEN`: the user must log in again.
 */
export function refresh(
  request: RefreshRequest = {},
  options: RequestOptions = {},
): Promise<Tokens> {
  return call({
    ...options,
    method: 'POST',
    path: `${API}/token/refresh`,
    body: request,
    idempotent: true,
  });
}

/**
 * Revokes the session and all of its tokens. Resolves if it is revoked or expired already.
 *
 * @throws {PropuskError} if the server could not be asked: the user is still logged in.
 */
export async function logout(
  request: LogoutRequest = {},
  options: SessionOptions = {},
): Promise<void> {
  try {
    await call({
      ...options,
      method: 'POST',
      path: `${API}/logout`,
      body: request,
      idempotent: true,
    });
  } catch (error) {
    // RFC 7009 §2.2: the purpose of revoking an invalid token is achieved already.
    if (!isRefused(error)) throw error;
  }
}

/**
 * Asks the server whether an access token is valid now.
 *
 * @throws {PropuskError} `INVALID_TOKEN`.
 */
export function verify(
  accessToken: string | undefined,
  options: RequestOptions = {},
): Promise<Verified> {
  return call({ ...options, accessToken, path: `${API}/verify`, idempotent: true });
}

/**
 * The session of the access token, by default that of the cookie; null if nobody is logged in.
 *
 * @throws {PropuskError} if the server could not be asked.
 */
export function currentSession(options: SessionOptions = {}): Promise<Session | null> {
  return call({ ...options, path: `${API}/session`, idempotent: true });
}

/** Whether the server has decided that the credentials are not valid. */
export function isRefused(error: unknown): boolean {
  const refused: string[] = [ErrorCode.INVALID_TOKEN, ErrorCode.INVALID_REFRESH_TOKEN];
  return (
    error instanceof PropuskError && error.statusCode === 401 && refused.includes(error.errorCode)
  );
}
