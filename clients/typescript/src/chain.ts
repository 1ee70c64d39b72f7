import { header } from './cookies.js';
import { PropuskError } from './errors.js';
import type { Propusk, Session } from './server.js';

/** What the middleware of one request share. */
export interface Context {
  readonly propusk: Propusk;
  /** Set by `withRequestId`. */
  requestId?: string;
  /** Set by `withSession`, and anew after a renewal: null if nobody is logged in. */
  session?: Session | null;
  /** Why the session could not be determined. */
  problem?: PropuskError;
  /** `Set-Cookie` values that reach the response, whichever middleware returns it. */
  readonly cookies: string[];
  /** The path under which the application is, which is no part of the request's path. */
  readonly basePath: string;
  /** For middleware of the application's own. */
  readonly state: Record<string, unknown>;
}

/** Answers a request. */
export type Handler = (request: Request, context: Context) => Response | Promise<Response>;
/** Wraps a handler. It may answer by itself, and change the request or the response. */
export type Middleware = (next: Handler) => Handler;

/** One middleware of several: the first in the list is the outermost. */
export function chain(middlewares: readonly Middleware[]): Middleware {
  return (last) =>
    middlewares.reduceRight<Handler>((next, middleware) => middleware(collecting(next)), last);
}

/** Keeps the cookies of a response, which an outer middleware may replace by another. */
function collecting(next: Handler): Handler {
  return async (request, context) => {
    const response = await next(request, context);
    context.cookies.push(...response.headers.getSetCookie());
    return response;
  };
}

/** Answers a request by a middleware and what it wraps; errors become responses. */
export async function run(
  middleware: Middleware,
  last: Handler,
  request: Request,
  propusk: Propusk,
  basePath = '',
): Promise<{ response: Response; context: Context }> {
  const context: Context = { propusk, cookies: [], basePath, state: {} };
  let response: Response;
  try {
    response = await middleware(last)(request, context);
  } catch (error) {
    if (!(error instanceof PropuskError)) throw error;
    response = problem(request, context, error);
  }
  return { response: withCookies(response, context.cookies), context };
}

/** The response with these cookies and its own; of one name the last counts. */
function withCookies(response: Response, cookies: readonly string[]): Response {
  if (cookies.length === 0) return response;
  const all = [...cookies, ...response.headers.getSetCookie()];
  const last = new Map(all.map((cookie) => [cookieIdentity(cookie), cookie]));
  const changed = mutable(response);
  changed.headers.delete('set-cookie');
  for (const cookie of last.values()) changed.headers.append('set-cookie', cookie);
  return changed;
}

/** A cookie is identified by its name, domain and path (RFC 6265 §5.3). */
function cookieIdentity(cookie: string): string {
  const [pair = '', ...attributes] = cookie.split(';');
  const scope = attributes
    .map((attribute) => attribute.trim())
    .filter((attribute) => /^(path|domain)=/i.test(attribute));
  return [pair.slice(0, pair.indexOf('=')), ...scope.sort()].join(';');
}

/** The response, or a copy where its headers cannot be changed (`Response.redirect`). */
export function mutable(response: Response): Response {
  try {
    response.headers.delete('x-propusk-mutable');
    return response;
  } catch {
    return new Response(response.body, response);
  }
}

/** Whether a browser loads a page, as the server's own gateway decides it. */
export function isPageRequest(request: Request): boolean {
  const mode = header(request, 'sec-fetch-mode');
  return (
    (request.method === 'GET' || request.method === 'HEAD') &&
    header(request, 'accept').includes('text/html') &&
    header(request, 'authorization') === '' &&
    (mode === '' || mode === 'navigate')
  );
}

export function problem(request: Request, context: Context, error: PropuskError): Response {
  const status =
    error.statusCode >= 400 && error.statusCode < 500 && !error.isTemporary
      ? error.statusCode
      : 503;
  const headers = new Headers({ 'cache-control': 'no-store' });
  if (status === 401) headers.set('www-authenticate', 'Bearer');
  if (status === 503) headers.set('retry-after', String(error.retryAfter ?? 2));
  if (isPageRequest(request)) {
    headers.set('content-type', 'text/plain; charset=utf-8');
    return new Response(`${error.message}\n`, { status, headers });
  }
  headers.set('content-type', 'application/json');
  const { message, errorCode } = error;
  const requestId = context.requestId ?? error.requestId ?? '';
  return new Response(JSON.stringify({ statusCode: status, message, errorCode, requestId }), {
    status,
    headers,
  });
}
