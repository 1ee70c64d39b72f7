import { currentSession, isRefused, logout, refresh, type Session } from './tokens.js';

/** What the hooks see. */
export interface SessionState {
  /** Null if nobody is logged in, or while that is not known. */
  readonly data: Session | null;
  readonly status: 'loading' | 'authenticated' | 'unauthenticated';
}

export interface StoreOptions {
  /** The URL below which `/api/v1/auth` is reached. Default: the page's origin. */
  baseUrl?: string | undefined;
  /** A session that the server has determined: it is not asked for again. */
  session?: Session | null | undefined;
  fetch?: typeof fetch | undefined;
}

/** What tabs tell each other. `at`: when the request was sent whose answer this is. */
interface Message {
  session: Session | null;
  at: number;
}

/** Milliseconds before the access token expires at which it is renewed. */
const EARLY = 30_000;
/** Milliseconds between two renewals at least, whatever the clock of this device says. */
const RENEWAL_INTERVAL = 60_000;
/** Milliseconds until a lookup that has failed is repeated; doubled each time. */
const FIRST_RETRY = 1_000;
const LONGEST_RETRY = 30_000;
const NAME = 'propusk-session';

/** The session of this browser, shared by all tabs of the origin. */
export class SessionStore {
  #state: SessionState;
  /** When the request was sent whose answer is the state: older answers change nothing. */
  #at = 0;
  #loading: Promise<Session | null> | undefined;
  #channel: BroadcastChannel | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #retryDelay = FIRST_RETRY;
  readonly #listeners = new Set<() => void>();
  readonly #request: { baseUrl: string | undefined; fetch: typeof fetch | undefined };

  constructor({ baseUrl, session, fetch }: StoreOptions = {}) {
    this.#request = { baseUrl, fetch };
    this.#state = session === undefined ? { data: null, status: 'loading' } : stateOf(session);
  }

  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  readonly getState = (): SessionState => this.#state;

  /**
   * Begins to listen to other tabs, and looks the session up unless it is known. Returns how to
   * stop.
   */
  start(): () => void {
    this.#channel = new BroadcastChannel(NAME);
    this.#channel.onmessage = ({ data }: MessageEvent<Message>) =>
      this.#apply(data.session, data.at);
    const seen = (): void => {
      if (document.visibilityState === 'visible' && this.#isDue()) void this.#reload();
    };
    document.addEventListener('visibilitychange', seen);
    addEventListener('online', seen);
    if (this.#state.status === 'loading') void this.#reload();
    else this.#schedule();
    return () => {
      document.removeEventListener('visibilitychange', seen);
      removeEventListener('online', seen);
      clearTimeout(this.#timer);
      this.#channel?.close();
      this.#channel = undefined;
    };
  }

  /**
   * Looks the session up, after a login for example.
   *
   * @throws {PropuskError} if the server could not be asked; the state remains as it was.
   */
  async update(): Promise<Session | null> {
    let at = this.#now();
    let session = await currentSession(this.#request);
    if (session === null || isExpiring(session)) {
      ({ session, at } = await exclusively(() => this.#renew()));
    }
    this.#publish(session, at);
    return this.#state.data;
  }

  /**
   * Logs out, in all tabs.
   *
   * @throws {PropuskError} if the server could not be asked: the user is still logged in.
   */
  async signOut(): Promise<void> {
    // Not during a renewal, whose answer would set cookies again.
    await exclusively(() => logout({}, this.#request));
    this.#publish(null, this.#now());
  }

  /** Renews the session, unless another tab has done so meanwhile. */
  async #renew(): Promise<{ session: Session | null; at: number }> {
    let at = this.#now();
    const session = await currentSession(this.#request);
    if (session !== null && !isExpiring(session)) return { session, at };
    try {
      await refresh({ delivery: 'cookie' }, this.#request);
    } catch (error) {
      if (isRefused(error)) return { session: null, at };
      throw error;
    }
    at = this.#now();
    return { session: await currentSession(this.#request), at };
  }

  /** As `update`, once for all callers; it is repeated until the server answers. */
  async #reload(): Promise<void> {
    try {
      this.#loading ??= this.update();
      await this.#loading;
      this.#retryDelay = FIRST_RETRY;
    } catch {
      // The server's trouble logs nobody out.
      this.#wake(this.#retryDelay);
      this.#retryDelay = Math.min(this.#retryDelay * 2, LONGEST_RETRY);
    } finally {
      this.#loading = undefined;
    }
  }

  #publish(session: Session | null, at: number): void {
    if (this.#apply(session, at)) this.#channel?.postMessage({ session, at } satisfies Message);
  }

  /** Takes an answer over, unless the state is newer. */
  #apply(session: Session | null, at: number): boolean {
    if (at < this.#at) return false;
    this.#at = at;
    this.#state = stateOf(session);
    this.#schedule();
    for (const listener of [...this.#listeners]) listener();
    return true;
  }

  #isDue(): boolean {
    const { data, status } = this.#state;
    return status === 'loading' || (data !== null && isExpiring(data));
  }

  #schedule(): void {
    clearTimeout(this.#timer);
    const { data } = this.#state;
    if (data === null) return;
    const until = Date.parse(data.expiresAt) - Date.now() - EARLY;
    this.#wake(Math.max(until, RENEWAL_INTERVAL));
  }

  /** Looks the session up later; a hidden tab does so when it is shown. */
  #wake(delay: number): void {
    clearTimeout(this.#timer);
    if (this.#channel === undefined) return;
    this.#timer = setTimeout(() => {
      if (document.visibilityState === 'visible') void this.#reload();
    }, delay);
  }

  /** The time, which never repeats. */
  #now(): number {
    return Math.max(Date.now(), this.#at + 1);
  }
}

function stateOf(session: Session | null): SessionState {
  return { data: session, status: session === null ? 'unauthenticated' : 'authenticated' };
}

function isExpiring({ expiresAt }: Session): boolean {
  return Date.parse(expiresAt) - Date.now() < EARLY;
}

/** Runs an action in one tab at a time. Browsers have locks at https and on loopback only. */
async function exclusively<T>(act: () => Promise<T>): Promise<T> {
  const { locks } = navigator as { locks?: LockManager };
  if (locks === undefined) return act();
  let result: T | undefined;
  await locks.request(NAME, async () => {
    result = await act();
  });
  return result as T;
}
