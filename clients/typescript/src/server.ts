/**
 * Sessions on the server: in server components, handlers, gateways and APIs.
 *
 * @module
 */
import {
  header,
  tokenCookies,
  type CookieOptions,
  type CookieSource,
  type TokenCookies,
} from './cookies.js';
import { ErrorCode, PropuskError, invalidToken } from './errors.js';
import { RevocationFeed, type FeedOptions } from './feed.js';
import type { RequestOptions } from './http.js';
import { serverKeys } from './keys.js';
import { currentSession, isRefused, refresh, verify, type Session, type Tokens } from './tokens.js';
import { LastUsed, createVerifier, type AccessClaims, type Verifier } from './verifier.js';

export type { AccessClaims } from './verifier.js';
export type { CookieSource } from './cookies.js';
export type { Session, Tokens } from './tokens.js';
export { ErrorCode, PropuskError } from './errors.js';

export interface PropuskOptions {
  /** The server's issuer, such as `https://id.example.com`. */
  issuer: string;
  /** Where the server is reached from here, if not at its issuer. */
  url?: string | undefined;
  /** `gateway.cookie_domain` of the server, if it is set. */
  cookieDomain?: string | undefined;
  /**
   * A client with the scope `propusk:revocations`: tokens are then verified locally, by the keys
   * of the issuer and the revocation feed. Without it, the server is asked about each.
   */
  feed?: Omit<FeedOptions, 'issuer' | 'url' | 'fetch'> | undefined;
  /** What `verify` requires in `aud`. Default: the issuer, the server's own API. */
  audience?: string | undefined;
  /**
   * Origins, besides the request's own, whose pages may send requests with the session's cookies.
   */
  origins?: readonly string[] | undefined;
  /**
   * The browser's address of a request, as the proxy in front has written it. It is sent with
   * renewals as `X-Forwarded-For`: the server limits them per address, and must list this
   * application in `server.trusted_proxies`.
   */
  clientAddress?: ((source: CookieSource) => string | undefined) | undefined;
  fetch?: typeof fetch | undefined;
}

/** Where the credentials of a request are. */
export type RequestSource = CookieSource & { readonly method?: string | undefined };

/** A server, as seen by one application. */
export interface Propusk {
  readonly issuer: string;
  /** Where the server is reached. */
  readonly url: string;
  readonly cookies: TokenCookies;
  /**
   * The session of a request: of its bearer token, else of its cookies. Null if nobody is logged
   * in.
   *
   * @throws {PropuskError} if it cannot be decided; `CROSS_SITE_REQUEST` for a request with
   * cookies, other than GET and HEAD, that a page of another origin has sent.
   */
  getSession(source: CookieSource): Promise<Session | null>;
  /**
   * Verifies an access token: locally with a feed, else by asking the server.
   *
   * @throws {PropuskError} `INVALID_TOKEN`; another one if it cannot be decided.
   */
  verify(accessToken: string): Promise<AccessClaims>;
  /**
   * Exchanges the refresh token of a request's cookies. Parallel calls for one token share an
   * exchange. Null if there is none or if it is not valid: the user must log in.
   *
   * @throws {PropuskError} if the server could not be asked: the session may be valid.
   */
  refresh(source: CookieSource): Promise<Tokens | null>;
  /** Stops following the feed. */
  close(): void;
}

/** Sessions that are remembered, so that the server is asked once for each access token. */
const SESSIONS = 5_000;
/** Milliseconds for which an exchange is remembered: less than the server's replay window, 10 s. */
const SHARED = 5_000;
const BUILT_IN_CLIENTS = ['propusk', 'propusk-docs'];
const SAFE_METHODS = ['GET', 'HEAD', 'OPTIONS'];

/** Sessions and tokens of a server. Create one for each process, and share it. */
export function createPropusk(options: PropuskOptions): Propusk {
  const { issuer, cookieDomain, origins = [] } = options;
  const url = options.url ?? issuer;
  const request: RequestOptions = { baseUrl: url, fetch: options.fetch };
  const cookieOptions: CookieOptions = { issuer, domain: cookieDomain };
  const cookies = tokenCookies(cookieOptions);
  const jwks = options.feed?.jwks ?? serverKeys(url, options.fetch);
  const feed =
    options.feed &&
    new RevocationFeed({ ...options.feed, issuer, url, jwks, fetch: options.fetch });
  const local = (audience: string): Verifier | undefined =>
    feed && createVerifier({ issuer, audience, feed, jwks });
  const verifyResource = local(options.audience ?? issuer);
  const verifyOwn = options.audience === undefined ? verifyResource : local(issuer);
  const sessions = new LastUsed<Session>(SESSIONS);
  const exchanges = new Map<string, Promise<Tokens | null>>();

  /** The session of a token; null if it is not valid. */
  const sessionOf = async (accessToken: string): Promise<Session | null> => {
    if (verifyOwn === undefined) return currentSession({ ...request, accessToken });
    let claims: AccessClaims;
    try {
      claims = await verifyOwn(accessToken);
    } catch (error) {
      if (isRefused(error)) return null;
      throw error;
    }
    if (!BUILT_IN_CLIENTS.includes(claims.client_id)) return null;
    // The username is in no token: the server is asked once for each token.
    const known = sessions.get(claims.jti);
    if (known !== undefined) return known;
    const session = await currentSession({ ...request, accessToken });
    if (session !== null) sessions.set(claims.jti, session);
    return session;
  };

  const exchange = async (cookie: string, address?: string): Promise<Tokens | null> => {
    const forwarded: Record<string, string> = address ? { 'x-forwarded-for': address } : {};
    try {
      // As cookies: of several tokens the server takes the newest one.
      const headers = { cookie, ...forwarded };
      return await refresh({ delivery: 'body' }, { ...request, headers });
    } catch (error) {
      if (isRefused(error)) return null;
      throw error;
    }
  };

  const shared = (cookie: string, address?: string): Promise<Tokens | null> => {
    const known = exchanges.get(cookie);
    if (known !== undefined) return known;
    const exchanged = exchange(cookie, address);
    exchanges.set(cookie, exchanged);
    const forget = (): boolean => exchanges.delete(cookie);
    exchanged.then(() => unref(setTimeout(forget, SHARED)), forget);
    return exchanged;
  };

  return {
    issuer,
    url,
    cookies,
    async getSession(source) {
      const bearer = bearerToken(source);
      if (bearer !== undefined) return sessionOf(bearer);
      const { access } = cookies.read(source);
      if (access.length > 0) requireSameOrigin(source, origins);
      for (const token of access) {
        const session = await sessionOf(token);
        if (session !== null) return session;
      }
      return null;
    },
    async verify(accessToken) {
      if (verifyResource !== undefined) return verifyResource(accessToken);
      if (options.audience !== undefined && options.audience !== issuer) {
        throw new TypeError('tokens of another audience can only be verified with a `feed`');
      }
      await verify(accessToken, request);
      return claimsOf(accessToken);
    },
    async refresh(source) {
      const tokens = cookies.read(source).refresh;
      if (tokens.length === 0) return null;
      requireSameOrigin(source, origins);
      const cookie = tokens.map((token) => `${cookies.names.refresh}=${token}`).join('; ');
      return shared(cookie, options.clientAddress?.(source));
    },
    close: () => feed?.close(),
  };
}

/** The token of `Authorization: Bearer …`. Cookies are not looked at where there is one. */
export function bearerToken(source: CookieSource): string | undefined {
  const value = header(source, 'authorization');
  return /^bearer +(\S+) *$/i.exec(value)?.[1];
}

/**
 * Refuses a request with cookies that another site made the browser send (CSRF). SameSite=Lax does
 * the same, but not between subdomains of one site.
 *
 * @throws {PropuskError} `CROSS_SITE_REQUEST`.
 */
export function requireSameOrigin(source: RequestSource, origins: readonly string[] = []): void {
  const { method } = source as { method?: string };
  if (method === undefined || SAFE_METHODS.includes(method.toUpperCase())) return;
  const origin = header(source, 'origin');
  if (origin !== '' && origins.includes(origin)) return;
  const site = header(source, 'sec-fetch-site');
  const isOwn =
    site === ''
      ? origin === '' || hostOf(origin) === requestHost(source)
      : site === 'same-origin' || site === 'none';
  if (isOwn) return;
  throw new PropuskError({
    statusCode: 403,
    errorCode: ErrorCode.CROSS_SITE_REQUEST,
    message:
      'cookies are accepted from pages of this origin only: send the tokens in the request instead',
  });
}

function requestHost(source: CookieSource): string | undefined {
  const host = header(source, 'host');
  if (host !== '') return host;
  return typeof source === 'object' && 'url' in source ? hostOf(String(source.url)) : undefined;
}

function hostOf(url: string): string | undefined {
  return URL.canParse(url) ? new URL(url).host : undefined;
}

/** Lets a Node.js process end before the timer does. */
function unref(timer: unknown): void {
  if (typeof timer === 'object' && timer !== null && 'unref' in timer)
    (timer as { unref(): void }).unref();
}

/** The claims of a token that the server has verified. */
function claimsOf(accessToken: string): AccessClaims {
  const payload = accessToken.split('.')[1];
  if (payload === undefined) throw invalidToken('the token is not a JWT');
  const bytes = Uint8Array.from(atob(payload.replaceAll('-', '+').replaceAll('_', '/')), (char) =>
    char.charCodeAt(0),
  );
  return JSON.parse(new TextDecoder().decode(bytes)) as AccessClaims;
}
