import { PropuskError, type Detail } from './errors.js';

/** How requests reach the server. */
export interface RequestOptions {
  /**
   * The server's URL, such as `https://id.example.com`. Default, in browsers: the page's origin.
   */
  baseUrl?: string | undefined;
  /** Default: the global `fetch`. */
  fetch?: typeof fetch | undefined;
  /** Headers of every request, such as `X-Forwarded-For` or `X-Correlation-Id`. */
  headers?: Record<string, string> | undefined;
  signal?: AbortSignal | undefined;
}

export interface Call extends RequestOptions {
  method?: 'GET' | 'POST';
  path: string;
  body?: object | undefined;
  accessToken?: string | undefined;
  /** Whether a request whose answer was lost may be sent again. */
  idempotent: boolean;
}

/** Milliseconds until an attempt counts as lost. */
const ATTEMPT_TIMEOUT = 3_000;
/** As above, of a request that must not be sent again: passwords take their time to hash. */
const ONLY_TIMEOUT = 30_000;
/**
 * Milliseconds after the first attempt within which another one may begin. A refresh token may be
 * presented again for `tokens.replay_window`, 10 s; a later retry would count as reuse and revoke
 * the session.
 */
const RETRY_WITHIN = 6_000;
const RETRY_DELAYS = [150, 500, 1_500];
const GATEWAY_ERRORS = [502, 503, 504];

/**
 * Sends a request to the JSON API and returns the `data` of the answer. An idempotent request whose
 * answer was lost is sent again.
 *
 * @throws {PropuskError}
 */
export async function call<T>(request: Call): Promise<T> {
  const began = Date.now();
  for (let attempt = 0; ; attempt += 1) {
    try {
      return await once<T>(request);
    } catch (error) {
      const delay = RETRY_DELAYS[attempt];
      const retry = request.idempotent && error instanceof PropuskError && isLost(error);
      if (!retry || delay === undefined || request.signal?.aborted === true) throw error;
      const wait = delay * (0.5 + Math.random());
      if (Date.now() + wait - began > RETRY_WITHIN) throw error;
      await new Promise((resolve) => setTimeout(resolve, wait));
    }
  }
}

function isLost(error: PropuskError): boolean {
  return error.statusCode === 0 || GATEWAY_ERRORS.includes(error.statusCode);
}

async function once<T>(request: Call): Promise<T> {
  const { method = 'GET', path, body, accessToken } = request;
  const send = request.fetch ?? fetch;
  const headers: Record<string, string> = { accept: 'application/json', ...request.headers };
  if (body !== undefined) headers['content-type'] = 'application/json';
  if (accessToken !== undefined) headers.authorization = `Bearer ${accessToken}`;
  const timeout = AbortSignal.timeout(request.idempotent ? ATTEMPT_TIMEOUT : ONLY_TIMEOUT);
  let response: Response;
  let text: string;
  try {
    response = await send(trimmed(request.baseUrl ?? '') + path, {
      method,
      headers,
      body: body === undefined ? null : JSON.stringify(body),
      cache: 'no-store',
      credentials: 'same-origin',
      redirect: 'error',
      signal: request.signal ? AbortSignal.any([request.signal, timeout]) : timeout,
    });
    text = await response.text();
  } catch (cause) {
    const message = `no answer to ${method} ${path}: check the network and the URL of the server`;
    throw new PropuskError({ statusCode: 0, errorCode: 'NETWORK_ERROR', message, cause });
  }
  const envelope = parsed(text);
  if (response.ok && envelope !== undefined && 'data' in envelope) return envelope.data as T;
  throw failure(response, envelope);
}

/** The URL without a slash at its end. */
export function trimmed(url: string): string {
  return url.endsWith('/') ? url.slice(0, -1) : url;
}

function parsed(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null
      ? (value as Record<string, unknown>)
      : undefined;
  } catch {
    return undefined;
  }
}

function failure(response: Response, envelope: Record<string, unknown> | undefined): PropuskError {
  const retryAfter = Number(response.headers.get('retry-after') ?? Number.NaN);
  const { errorCode, message, details, requestId } = envelope ?? {};
  const isOurs = typeof errorCode === 'string' && !response.ok;
  return new PropuskError({
    // An answer without the envelope is not the server's, such as a proxy's page with status
    // 200.
    statusCode: response.ok ? 502 : response.status,
    errorCode: isOurs ? errorCode : 'UNEXPECTED_RESPONSE',
    message:
      isOurs && typeof message === 'string'
        ? message
        : `unexpected response, status ${response.status}`,
    details: Array.isArray(details) ? (details as Detail[]) : [],
    requestId:
      typeof requestId === 'string'
        ? requestId
        : (response.headers.get('x-request-id') ?? undefined),
    retryAfter: Number.isFinite(retryAfter) ? retryAfter : undefined,
  });
}
