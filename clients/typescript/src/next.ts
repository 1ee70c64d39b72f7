import { mutable, run, type Handler, type Middleware } from './chain.js';
import type { Propusk } from './server.js';

/** What is used of Next's `NextResponse`. */
export interface NextResponseStatic {
  next(init?: { request?: { headers?: Headers } }): Response;
}

/** What is used of Next's `NextRequest`: its path is without the `basePath` of the application. */
export type NextRequestLike = Request & {
  readonly nextUrl: {
    readonly pathname: string;
    readonly search: string;
    readonly basePath: string;
  };
};

/** What Next calls for each request: `proxy`, before Next 16 `middleware`. */
export type NextMiddleware = (request: NextRequestLike) => Promise<Response>;

/**
 * A middleware for Next.js:
 *
 *     export const proxy = toNext(NextResponse, propusk, chain([…]));
 *
 * Pages and handlers see the request as the last middleware has passed it on: with renewed cookies.
 */
export function toNext(
  NextResponse: NextResponseStatic,
  propusk: Propusk,
  middleware: Middleware,
): NextMiddleware {
  const last: Handler = (request) =>
    NextResponse.next({ request: { headers: new Headers(request.headers) } });
  return async ({ method, headers, url, nextUrl }) => {
    const { pathname, search, basePath } = nextUrl;
    // Without its body, which Next passes on by itself.
    const request = new Request(new URL(url).origin + pathname + search, { method, headers });
    const { response } = await run(middleware, last, request, propusk, basePath);
    const location = response.headers.get('location');
    if (location === null) return response;
    // Next reads absolute URLs only, and sends those of this origin as paths again.
    const absolute = mutable(response);
    absolute.headers.set('location', new URL(location, url).href);
    return absolute;
  };
}
