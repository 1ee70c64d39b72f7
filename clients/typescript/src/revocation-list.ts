import type { TokenIdentity } from './feed.js';

/** An entry of the list, as the server sends it. Times are seconds since the epoch. */
export interface Entry {
  kind: string;
  id: string;
  scope?: string;
  issued_until?: number;
  expires_at: number;
}

/** The changes between two numbers of the list. */
export interface Delta {
  from: number;
  to: number;
  entries: Entry[];
}

/** Until when an entry counts, and which tokens it revokes: those with an `iat` up to `until`. */
interface Mark {
  until: number;
  expires: number;
}

/** The revocation list at a number. */
export class RevocationList {
  #number = -1;
  /** Marks by kind and id. The kinds `token`, `session` and `key` revoke whatever the `iat`. */
  #marks = new Map<string, Mark>();
  /** When the last entry that cannot be read expires. */
  #unknownUntil = 0;

  /** Everything up to it is applied; -1 without a list. */
  get number(): number {
    return this.#number;
  }

  /**
   * Whether an entry is of a kind that a newer server has: every token counts as revoked then.
   */
  get hasUnknownEntry(): boolean {
    return this.#unknownUntil > Date.now() / 1000;
  }

  /** Replaces the list. */
  replace(list: { number?: unknown; entries?: unknown }): void {
    if (typeof list.number !== 'number' || !Array.isArray(list.entries)) {
      throw new TypeError('the revocation list has no `number` or no `entries`');
    }
    this.#marks = new Map();
    this.#unknownUntil = 0;
    for (const entry of list.entries as Entry[]) this.#add(entry);
    this.#number = list.number;
  }

  /** Applies a delta; false if changes were missed before it. */
  apply(delta: Delta): boolean {
    const { from, to, entries } = delta;
    if (from !== this.#number || !Number.isSafeInteger(to) || to < from || !Array.isArray(entries))
      return false;
    for (const entry of entries) this.#add(entry);
    this.#number = to;
    return true;
  }

  /** Drops entries that revoke nothing any longer. `now` in seconds. */
  prune(now: number): void {
    for (const [key, mark] of this.#marks) if (mark.expires <= now) this.#marks.delete(key);
  }

  /** Whether an entry revokes the token, or one that it was exchanged for. */
  revokes(token: TokenIdentity): boolean {
    const has = (kind: string, id: string, iat: number): boolean => {
      const mark = this.#marks.get(`${kind} ${id}`);
      return mark !== undefined && iat <= mark.until;
    };
    const origins = token.derived_from ?? [];
    const first = Math.min(token.iat, ...origins.map((origin) => origin.iat));
    return (
      (token.sid !== undefined && has('session', token.sid, token.iat)) ||
      has('subject', token.sub, first) ||
      (token.scope ?? '')
        .split(' ')
        .some((scope) => has('scope', `${token.sub} ${scope}`, first)) ||
      [token, ...origins].some(
        ({ jti, kid, client_id, iat }) =>
          has('token', jti, iat) || has('key', kid, iat) || has('client', client_id, iat),
      )
    );
  }

  #add(entry: Partial<Entry> | null): void {
    const { kind, id, scope, issued_until, expires_at: expires = Number.NaN } = entry ?? {};
    const isDated = kind === 'subject' || kind === 'scope' || kind === 'client';
    const isKnown = isDated || kind === 'token' || kind === 'session' || kind === 'key';
    const until = isDated ? issued_until : Number.POSITIVE_INFINITY;
    const hasScope = kind !== 'scope' || typeof scope === 'string';
    if (
      !isKnown ||
      typeof id !== 'string' ||
      typeof until !== 'number' ||
      !Number.isFinite(expires) ||
      !hasScope
    ) {
      this.#unknownUntil = Math.max(
        this.#unknownUntil,
        Number.isFinite(expires) ? expires : Number.POSITIVE_INFINITY,
      );
      return;
    }
    const key = kind === 'scope' ? `scope ${id} ${scope}` : `${kind} ${id}`;
    const known = this.#marks.get(key);
    // Of two entries for the same target the later one counts.
    const mark = {
      until: Math.max(until, known?.until ?? until),
      expires: Math.max(expires, known?.expires ?? expires),
    };
    this.#marks.set(key, mark);
  }
}
