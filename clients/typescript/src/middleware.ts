/**
 * A chain of middleware over the Fetch API's `Request` and `Response`, with adapters for Next.js
 * and Express.
 *
 * @module
 */
import { isPageRequest, mutable, problem, type Context, type Middleware } from './chain.js';
import { header, withTokens } from './cookies.js';
import { ErrorCode, PropuskError } from './errors.js';
import { matcher, type Match } from './match.js';
import { bearerToken, type Tokens } from './server.js';

export { chain, type Context, type Handler, type Middleware } from './chain.js';
export { ErrorCode, PropuskError } from './errors.js';
export { toExpress, type ExpressMiddleware } from './express.js';
export type { Match } from './match.js';
export { toNext, type NextMiddleware } from './next.js';
export { safeReturnTo } from './return-to.js';
export type { Session } from './server.js';

/** Gives every request an id, that of its `X-Request-Id` if there is one, and returns it. */
export const withRequestId: Middleware = (next) => async (request, context) => {
  const given = header(request, 'x-request-id');
  const id = /^[\w.:-]{1,128}$/.test(given) ? given : crypto.randomUUID();
  context.requestId = id;
  const response = mutable(await next(withHeader(request, 'x-request-id', id), context));
  response.headers.set('x-request-id', id);
  return response;
};

/** Determines the session. It renews nothing. */
export const withSession: Middleware = (next) => async (request, context) => {
  await determine(request, context);
  return next(request, context);
};

/**
 * Renews an expired session, so that public pages know their user too. The new cookies are in the
 * response, and in the request for what comes after.
 */
export const withRefresh: Middleware = (next) => async (request, context) => {
  return next(await renewed(request, context), context);
};

export interface PrivateRoutes {
  /** The private paths: `/account` and everything below it; or a test of the path. */
  match: Match;
  /** The login page: a path of this application, or a URL such as `{issuer}/session/start`. */
  loginUrl: string;
  /** Scopes that are all required. */
  scopes?: readonly string[];
  /** Modules that are all required. */
  modules?: readonly string[];
}

/**
 * Lets requests for private paths through with a valid session only, which is renewed if it has
 * expired. Pages are redirected to the login with `return_to`; other requests get 401, those that
 * lack a scope or module 403. If it cannot be decided: 503.
 */
export function withPrivateRoutes(routes: PrivateRoutes): Middleware {
  const { match, loginUrl, scopes = [], modules = [] } = routes;
  const isPrivate = matcher(match);
  return (next) => async (request, context) => {
    if (!isPrivate(new URL(request.url))) return next(request, context);
    await determine(request, context);
    const current = await renewed(request, context);
    if (context.problem) return problem(request, context, context.problem);
    const { session } = context;
    if (!session)
      return isPageRequest(request)
        ? redirect(request, context, loginUrl)
        : refused(request, context, 401);
    const isSufficient =
      scopes.every((scope) => session.scopes.includes(scope)) &&
      modules.every((module) => session.modules.includes(module));
    return isSufficient ? next(current, context) : refused(request, context, 403);
  };
}

async function determine(request: Request, context: Context): Promise<void> {
  if (context.session !== undefined || context.problem) return;
  await attempt(context, async () => {
    context.session = await context.propusk.getSession(request);
  });
}

/** The request with the tokens of a renewed session, if there is none and it can be renewed. */
async function renewed(request: Request, context: Context): Promise<Request> {
  if (context.session || context.problem || bearerToken(request) !== undefined) return request;
  const { cookies } = context.propusk;
  if (cookies.read(request).refresh.length === 0) return request;
  let tokens: Tokens | null | undefined;
  await attempt(context, async () => {
    tokens = await context.propusk.refresh(request);
    if (tokens)
      context.session = await context.propusk.getSession(withTokens(request, cookies, tokens));
  });
  if (tokens === undefined) return request;
  // Also if the session could not be read: a refresh token that is lost cannot be used again.
  context.cookies.push(...(tokens === null ? cookies.clear() : cookies.set(tokens)));
  return withHeader(request, 'cookie', withTokens(request, cookies, tokens));
}

async function attempt(context: Context, act: () => Promise<void>): Promise<void> {
  try {
    await act();
  } catch (error) {
    if (!(error instanceof PropuskError)) throw error;
    context.problem = error;
  }
}

function withHeader(request: Request, name: string, value: string): Request {
  const headers = new Headers(request.headers);
  headers.set(name, value);
  return new Request(request, { headers });
}

function redirect(request: Request, context: Context, loginUrl: string): Response {
  const here = new URL(request.url);
  const login = new URL(loginUrl, here);
  const isOwn = login.origin === here.origin;
  login.searchParams.set(
    'return_to',
    isOwn ? here.pathname + here.search : publicUrl(here, context),
  );
  // A relative reference: behind a proxy, this process does not know the public origin.
  const location = isOwn ? context.basePath + login.pathname + login.search : login.href;
  return new Response(null, { status: 303, headers: { location, 'cache-control': 'no-store' } });
}

function publicUrl(here: URL, { basePath }: Context): string {
  return here.origin + basePath + here.pathname + here.search;
}

function refused(request: Request, context: Context, status: 401 | 403): Response {
  const isUnknown = status === 401;
  const error = new PropuskError({
    statusCode: status,
    errorCode: isUnknown ? ErrorCode.INVALID_TOKEN : ErrorCode.INSUFFICIENT_SCOPE,
    message: isUnknown ? 'log in first' : 'this user lacks a scope or module that is required here',
  });
  return problem(request, context, error);
}
