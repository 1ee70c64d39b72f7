/**
 * A follower of the revocation feed, for gateways and APIs that verify access tokens themselves: it
 * holds the list of revoked tokens and receives every change within milliseconds, without a call
 * per request. Specified in docs/revocation-feed.md.
 *
 * @module
 */
import { jwtVerify, type JWTVerifyGetKey } from 'jose';

import { PropuskError, unavailable } from './errors.js';
import { trimmed } from './http.js';
import { ALGORITHMS, serverKeys } from './keys.js';
import { RevocationList, type Delta } from './revocation-list.js';
import { events } from './sse.js';

export { PropuskError } from './errors.js';

/** A token that an exchanged one comes from (`derived_from`). */
export interface TokenOrigin {
  readonly jti: string;
  readonly kid: string;
  readonly client_id: string;
  readonly iat: number;
}

/** What is looked up: the key id of a token's header, and its claims. */
export interface TokenIdentity {
  readonly kid: string;
  readonly jti: string;
  readonly sub: string;
  readonly client_id: string;
  readonly iat: number;
  readonly sid?: string | undefined;
  readonly scope?: string | undefined;
  readonly derived_from?: readonly TokenOrigin[] | undefined;
}

/**
 * `valid`: not revoked. `revoked`. `unknown`: the list is too old, or has an entry that this
 * version cannot read; the token must be refused.
 */
export type RevocationStatus = 'valid' | 'revoked' | 'unknown';

export interface FeedOptions {
  /** The server's issuer. */
  issuer: string;
  /** Where the server is reached, if not at its issuer. */
  url?: string | undefined;
  /** A client with the scope `propusk:revocations` (`propusk client add gateway --scope …`). */
  clientId: string;
  clientSecret: string;
  /**
   * Milliseconds for which the list is trusted after the connection was lost. 0 trusts only a
   * live stream. Default: 10,000.
   */
  maxStale?: number | undefined;
  /** Told why the list could not be updated; the follower tries again by itself. */
  onError?: ((error: unknown) => void) | undefined;
  fetch?: typeof fetch | undefined;
  /** The server's keys. Default: fetched from its JWKS. */
  jwks?: JWTVerifyGetKey | undefined;
}

/** Milliseconds without a byte after which a stream is dead; the server sends one every 15 s. */
const SILENCE = 45_000;
/** Milliseconds until a request other than the stream counts as lost. */
const REQUEST_TIMEOUT = 10_000;
const FIRST_DELAY = 100;
const LONGEST_DELAY = 5_000;
/** Milliseconds between two searches for expired entries. */
const PRUNE_INTERVAL = 30_000;

/** The whole list must be fetched. */
class SnapshotRequired extends Error {}

/** Nothing was read from a stream for longer than the server is ever silent. */
function silent(milliseconds: number, cause?: unknown): PropuskError {
  const seconds = Math.round(milliseconds / 1000);
  return unavailable(`the revocation feed was silent for ${seconds} s`, cause);
}

/** Starts to follow the feed. Call `close` to stop: until then it keeps the process alive. */
export function followRevocations(options: FeedOptions): RevocationFeed {
  return new RevocationFeed(options);
}

/** A follower. */
export class RevocationFeed {
  readonly #options: FeedOptions;
  readonly #url: string;
  readonly #fetch: typeof fetch;
  readonly #maxStale: number;
  readonly #jwks: JWTVerifyGetKey;
  readonly #closed = new AbortController();
  readonly #list = new RevocationList();
  readonly #waiting = new Set<() => void>();
  readonly #prune: ReturnType<typeof setInterval>;
  #token: { value: string; until: number } | undefined;
  /** Whether a stream is open. */
  #live = false;
  /** Whether changes were missed, so that a delta is not enough. */
  #needsSnapshot = true;
  /** When the list was last known to be complete: by a byte of the stream or by an answer. */
  #heard = Instant.never();

  constructor(options: FeedOptions) {
    this.#options = options;
    this.#url = trimmed(options.url ?? options.issuer);
    this.#fetch = options.fetch ?? fetch;
    this.#maxStale = options.maxStale ?? 10_000;
    this.#jwks = options.jwks ?? serverKeys(this.#url, options.fetch);
    this.#prune = setInterval(() => this.#list.prune(Date.now() / 1000), PRUNE_INTERVAL);
    void this.#run();
  }

  /** The number of the list: everything up to it is applied. -1 before the first list. */
  get number(): number {
    return this.#list.number;
  }

  /** Whether the list is trusted now. */
  get isCurrent(): boolean {
    if (this.#list.number < 0 || this.#closed.signal.aborted) return false;
    return this.#heard.age() <= (this.#live ? SILENCE : this.#maxStale);
  }

  /** Waits until the list is trusted, for so many milliseconds at most; whether it is. */
  async ready(within = 10_000): Promise<boolean> {
    if (!this.isCurrent) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(done, within);
        const waiting = this.#waiting;
        waiting.add(done);
        function done(): void {
          clearTimeout(timer);
          waiting.delete(done);
          resolve();
        }
      });
    }
    return this.isCurrent;
  }

  /** What the list says about a token, whose signature and claims were verified before. */
  check(token: TokenIdentity): RevocationStatus {
    if (!this.isCurrent || this.#list.hasUnknownEntry) return 'unknown';
    return this.#list.revokes(token) ? 'revoked' : 'valid';
  }

  /** Stops following. Every token is `unknown` from then on. */
  close(): void {
    this.#closed.abort();
    clearInterval(this.#prune);
    this.#wake();
  }

  async #run(): Promise<void> {
    let delay = FIRST_DELAY;
    const { signal } = this.#closed;
    while (!signal.aborted) {
      try {
        await this.#synchronize();
        this.#wake();
        await this.#stream(() => (delay = FIRST_DELAY));
      } catch (error) {
        if (signal.aborted) return;
        this.#report(error);
      }
      this.#live = false;
      // Full delay at most, half of it at least.
      await sleep(delay * (0.5 + Math.random() / 2), signal);
      delay = Math.min(delay * 2, LONGEST_DELAY);
    }
  }

  #wake(): void {
    if (!this.isCurrent && !this.#closed.signal.aborted) return;
    for (const done of [...this.#waiting]) done();
  }

  #report(error: unknown): void {
    try {
      this.#options.onError?.(error);
    } catch {
      // An error of the caller's must not end the follower.
    }
  }

  /** Brings the list up to date: by a delta, or where that is impossible as a whole. */
  async #synchronize(): Promise<void> {
    const asked = Instant.now();
    if (!this.#needsSnapshot) {
      try {
        const response = await this.#get(
          `?since=${this.#list.number}`,
          'application/json',
          REQUEST_TIMEOUT,
        );
        this.#apply(parsed(await response.text()));
        this.#heard = asked;
        return;
      } catch (error) {
        if (!(error instanceof SnapshotRequired)) throw error;
        this.#report(error);
      }
    }
    const response = await this.#get('', 'application/revocations+jwt', REQUEST_TIMEOUT);
    const { payload } = await jwtVerify(await response.text(), this.#jwks, {
      issuer: this.#options.issuer,
      typ: 'revocations+jwt',
      algorithms: ALGORITHMS,
    });
    this.#list.replace(payload as { number?: unknown; entries?: unknown });
    this.#needsSnapshot = false;
    this.#heard = asked;
  }

  /** Applies events until the stream ends or is silent for too long. */
  async #stream(works: () => void): Promise<void> {
    const silence = new AbortController();
    const { signal } = silence;
    // When something was read, or was asked for, for the last time.
    let read = Instant.now();
    // Timers do not run while the machine sleeps, and what is read after that may have been sent
    // before it: only a new answer tells what has changed meanwhile.
    const received = (): void => {
      const age = read.age();
      read = Instant.now();
      if (age > SILENCE) silence.abort(silent(age));
      signal.throwIfAborted();
    };
    const response = await this.#get(
      `?since=${this.#list.number}`,
      'text/event-stream',
      REQUEST_TIMEOUT,
      signal,
    );
    if (response.body === null) throw unavailable('the revocation feed has no body');
    // The list was brought up to date a moment ago; what has changed since is in the first
    // event.
    this.#live = true;
    this.#wake();
    const giveUp = (): void => silence.abort(silent(SILENCE));
    let timer = setTimeout(giveUp, SILENCE);
    // After the events: what was received counts once it is applied.
    const applied = (): void => {
      this.#heard = Instant.now();
      clearTimeout(timer);
      timer = setTimeout(giveUp, SILENCE);
      works();
    };
    try {
      for await (const { event, data } of events(response.body, received, applied)) {
        if (event === 'delta') this.#apply(parsed(data));
        else if (event === 'reset' || event === 'snapshot') throw this.#missed();
      }
      this.#heard = Instant.now();
    } catch (error) {
      if (error instanceof SnapshotRequired) throw error;
      received();
      // The peer has closed the connection: until then it was there, and the list complete.
      this.#heard = Instant.now();
      throw error;
    } finally {
      clearTimeout(timer);
      this.#live = false;
      silence.abort();
    }
  }

  #apply(delta: Delta | undefined): void {
    if (delta === undefined || !this.#list.apply(delta)) throw this.#missed();
  }

  /** The list is as old as the last answer that was applied, until it is replaced as a whole. */
  #missed(): SnapshotRequired {
    this.#needsSnapshot = true;
    return new SnapshotRequired('changes were missed: the whole revocation list is needed');
  }

  /** A request to the feed; its answer must begin within `timeout` milliseconds. */
  async #get(
    query: string,
    accept: string,
    timeout: number,
    signal?: AbortSignal,
  ): Promise<Response> {
    const answer = new AbortController();
    const isStream = signal !== undefined;
    const timer = setTimeout(() => answer.abort(), timeout);
    const signals = [this.#closed.signal, answer.signal, ...(isStream ? [signal] : [])];
    try {
      const token = await this.#accessToken();
      const response = await this.#fetch(`${this.#url}/oauth2/revocations${query}`, {
        headers: { accept, authorization: `Bearer ${token}` },
        cache: 'no-store',
        redirect: 'error',
        signal: AbortSignal.any(signals),
      });
      if (response.ok) return isStream ? response : await buffered(response);
      await response.body?.cancel();
      if (response.status === 410) throw this.#missed();
      if (response.status === 401) this.#token = undefined;
      throw refused('the revocation feed', response);
    } finally {
      clearTimeout(timer);
    }
  }

  async #accessToken(): Promise<string> {
    if (this.#token !== undefined && Date.now() < this.#token.until) return this.#token.value;
    const { clientId, clientSecret } = this.#options;
    const form = { grant_type: 'client_credentials', scope: 'propusk:revocations' };
    const response = await this.#fetch(`${this.#url}/oauth2/token`, {
      method: 'POST',
      // RFC 6749 §2.3.1: both are form-encoded first.
      headers: {
        authorization: `Basic ${btoa(`${encoded(clientId)}:${encoded(clientSecret)}`)}`,
      },
      body: new URLSearchParams(form),
      redirect: 'error',
      signal: AbortSignal.any([this.#closed.signal, AbortSignal.timeout(REQUEST_TIMEOUT)]),
    });
    if (!response.ok) throw refused('the token endpoint', response, await response.text());
    const { access_token, expires_in } = (await response.json()) as {
      access_token: string;
      expires_in: number;
    };
    // Half of its lifetime: a stream ends with its token.
    this.#token = { value: access_token, until: Date.now() + expires_in * 500 };
    return access_token;
  }
}

/** A moment, by the clock that is never set and by the one that runs while the machine sleeps. */
class Instant {
  private constructor(
    private readonly monotonic: number,
    private readonly wall: number,
  ) {}

  static now(): Instant {
    return new Instant(performance.now(), Date.now());
  }

  static never(): Instant {
    return new Instant(Number.NEGATIVE_INFINITY, Number.NEGATIVE_INFINITY);
  }

  /** Milliseconds since then: the longer of both. */
  age(): number {
    return Math.max(performance.now() - this.monotonic, Date.now() - this.wall);
  }
}

/** The response with its body read: within the time limit of the request. */
async function buffered(response: Response): Promise<Response> {
  return new Response(await response.text(), {
    status: response.status,
    headers: response.headers,
  });
}

function parsed(json: string): Delta | undefined {
  try {
    const value: unknown = JSON.parse(json);
    return typeof value === 'object' && value !== null ? (value as Delta) : undefined;
  } catch {
    return undefined;
  }
}

function encoded(text: string): string {
  return new URLSearchParams({ '': text }).toString().slice(1);
}

function refused(who: string, response: Response, text = ''): PropuskError {
  const description = /"error_description":"([^"]*)"/.exec(text)?.[1];
  const hint = description ?? 'see the server log for the request';
  return new PropuskError({
    statusCode: response.status,
    errorCode: response.status === 401 ? 'INVALID_CLIENT' : 'UNEXPECTED_RESPONSE',
    message: `${who} answered ${response.status}: ${hint}`,
    requestId: response.headers.get('x-request-id') ?? undefined,
  });
}

function sleep(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(done, milliseconds);
    signal.addEventListener('abort', done, { once: true });
    function done(): void {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      resolve();
    }
  });
}
