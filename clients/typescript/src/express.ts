import { run, type Handler, type Middleware } from './chain.js';
import type { Propusk, Session } from './server.js';

/** What is used of Express' request. */
interface ExpressRequest {
  readonly method: string;
  readonly originalUrl: string;
  readonly protocol: string;
  readonly headers: Record<string, string | string[] | undefined>;
}

/** What is used of Express' response. */
interface ExpressResponse {
  locals: { session?: Session | null; requestId?: string };
  status(code: number): unknown;
  appendHeader(name: string, value: string): unknown;
  setHeader(name: string, value: string): unknown;
  end(body?: Uint8Array): unknown;
}

/** A middleware of Express, versions 4 and 5. */
export type ExpressMiddleware = (
  request: ExpressRequest,
  response: ExpressResponse,
  next: (error?: unknown) => void,
) => void;

/**
 * A middleware for Express. Handlers find the session in `response.locals.session`, and the
 * request's id in `response.locals.requestId`.
 */
export function toExpress(propusk: Propusk, middleware: Middleware): ExpressMiddleware {
  return (request, response, next) => {
    handle(request, response, propusk, middleware).then((goOn) => {
      if (goOn) next();
    }, next);
  };
}

/** Whether the request goes on to the next middleware of Express. */
async function handle(
  request: ExpressRequest,
  response: ExpressResponse,
  propusk: Propusk,
  middleware: Middleware,
): Promise<boolean> {
  const original = fetchRequest(request);
  const last: Handler = (current) => {
    // What Express does next sees the headers that the last middleware has passed on.
    for (const [name, value] of current.headers) {
      if (original.headers.get(name) !== value) request.headers[name] = value;
    }
    return new Response(null, { headers: { [GOES_ON]: '1' } });
  };
  const { response: answer, context } = await run(middleware, last, original, propusk);
  if (context.session !== undefined) response.locals.session = context.session;
  if (context.requestId !== undefined) response.locals.requestId = context.requestId;
  const goesOn = answer.headers.has(GOES_ON);
  for (const [name, value] of answer.headers) {
    if (name === 'set-cookie') response.appendHeader(name, value);
    else if (name !== GOES_ON) response.setHeader(name, value);
  }
  if (goesOn) return true;
  response.status(answer.status);
  response.end(new Uint8Array(await answer.arrayBuffer()));
  return false;
}

/** Marks the response that stands for what Express does next; it survives being copied. */
const GOES_ON = 'x-propusk-goes-on';

/** The request without its body, which Express' own handlers read. */
function fetchRequest(request: ExpressRequest): Request {
  const headers = new Headers();
  for (const [name, value] of Object.entries(request.headers)) {
    // Pseudo-headers of HTTP/2.
    if (value === undefined || name.startsWith(':')) continue;
    headers.set(name, typeof value === 'string' ? value : value.join(', '));
  }
  return new Request(requestUrl(request), { method: request.method, headers });
}

/**
 * The URL of a request, whose path is what Express routes by. Nothing that the client sends as a
 * host may become part of the path: `Host: a/b?c`.
 */
function requestUrl({ protocol, originalUrl, headers: { host } }: ExpressRequest): string {
  const isHost = typeof host === 'string' && /^[\w.-]+(:\d+)?$|^\[[\da-f:.]+\](:\d+)?$/i.test(host);
  const origin = `${protocol === 'https' ? 'https' : 'http'}://${isHost ? host : 'localhost'}`;
  if (originalUrl.startsWith('/')) return origin + originalUrl;
  // The absolute form, or `OPTIONS *` (RFC 9112 §3.2).
  const { pathname, search } = new URL(originalUrl, origin);
  return origin + pathname + search;
}
