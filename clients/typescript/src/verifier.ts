import { decodeProtectedHeader, errors, jwtVerify, type JWTVerifyGetKey } from 'jose';

import { PropuskError, invalidToken, unavailable } from './errors.js';
import type { RevocationFeed, TokenOrigin } from './feed.js';
import { ALGORITHMS } from './keys.js';

/** The claims of an access token (RFC 9068 §2.2). Dates are seconds since the epoch. */
export interface AccessClaims {
  readonly iss: string;
  /** The user; of a client's own token the client. */
  readonly sub: string;
  readonly aud: string | readonly string[];
  readonly iat: number;
  readonly exp: number;
  readonly jti: string;
  readonly client_id: string;
  readonly scope?: string;
  readonly sid?: string;
  readonly auth_time?: number;
  readonly email?: string;
  readonly email_verified?: boolean;
  readonly role?: string;
  readonly modules?: readonly string[];
  /** The tokens that this one was exchanged for. */
  readonly derived_from?: readonly TokenOrigin[];
  readonly [claim: string]: unknown;
}

export interface VerifierOptions {
  issuer: string;
  /** Which resource the tokens must be for (`aud`). Default: the issuer, the server's own API. */
  audience?: string | undefined;
  feed: RevocationFeed;
  jwks: JWTVerifyGetKey;
  /**
   * How many verified tokens are remembered, so that their signature is not checked again.
   * Default: 5,000.
   */
  cacheSize?: number | undefined;
}

/** As the server's own limit. */
const MAX_LENGTH = 8 * 1024;
/** Milliseconds for which a first request waits for the list. */
const FIRST_LIST = 5_000;
/** What jose reports where it could not get the keys; everything else is the token's fault. */
const KEYS_UNAVAILABLE = ['ERR_JWKS_TIMEOUT', 'ERR_JWKS_INVALID', 'ERR_JOSE_GENERIC'];

/** Verifies an access token. @throws {PropuskError} `INVALID_TOKEN` or `SERVICE_UNAVAILABLE`. */
export type Verifier = (token: string) => Promise<AccessClaims>;

/** A verifier that needs no call per token: signature and claims, then the revocation list. */
export function createVerifier(options: VerifierOptions): Verifier {
  const { issuer, feed, jwks, audience = issuer, cacheSize = 5_000 } = options;
  const verified = new LastUsed<{ claims: AccessClaims; kid: string }>(cacheSize);

  const verifySignature = async (token: string): Promise<{ claims: AccessClaims; kid: string }> => {
    if (token.length > MAX_LENGTH) throw invalidToken('the token is too long');
    const kid = keyId(token);
    try {
      const { payload } = await jwtVerify(token, jwks, {
        issuer,
        audience,
        typ: 'at+jwt',
        algorithms: ALGORITHMS,
        requiredClaims: ['sub', 'iat', 'exp', 'jti', 'client_id'],
      });
      const { sub, jti, client_id } = payload;
      if (!sub || !jti || typeof client_id !== 'string')
        throw invalidToken('`sub`, `jti` and `client_id` are required');
      if (!areOrigins(payload.derived_from)) throw invalidToken('`derived_from` cannot be read');
      // RFC 9449 §7.2: its sender would have to prove that it has the key.
      if (payload.cnf !== undefined)
        throw invalidToken('it is bound to a key (DPoP) and no bearer token');
      return { claims: payload as unknown as AccessClaims, kid };
    } catch (error) {
      throw classified(error);
    }
  };

  return async (token) => {
    const known = verified.get(token);
    const { claims, kid } = known ?? (await verifySignature(token));
    if (claims.exp <= Date.now() / 1000) throw invalidToken('the token has expired');
    if (feed.number < 0) await feed.ready(FIRST_LIST);
    const status = feed.check({ ...identity(claims), kid });
    if (status === 'unknown')
      throw unavailable('the revocation list is not current: tokens cannot be verified');
    if (status === 'revoked') throw invalidToken('the token was revoked');
    if (known === undefined) verified.set(token, { claims, kid });
    return claims;
  };
}

function identity(claims: AccessClaims): Omit<Parameters<RevocationFeed['check']>[0], 'kid'> {
  const { jti, sub, client_id, iat, sid, scope, derived_from } = claims;
  return { jti, sub, client_id, iat, sid, scope, derived_from };
}

/** Whether the claim is absent or names tokens, with each of which this one is revoked. */
function areOrigins(claim: unknown): boolean {
  const isOrigin = ({ jti, kid, client_id, iat }: Partial<TokenOrigin>): boolean =>
    [jti, kid, client_id].every((id) => typeof id === 'string') && typeof iat === 'number';
  return (
    claim === undefined ||
    (Array.isArray(claim) &&
      claim.every((one) => typeof one === 'object' && one !== null && isOrigin(one)))
  );
}

/** The key that has signed the token, as it says. */
function keyId(token: string): string {
  let kid: unknown;
  try {
    ({ kid } = decodeProtectedHeader(token));
  } catch (error) {
    throw invalidToken('the token is not a JWT', error);
  }
  if (typeof kid !== 'string') throw invalidToken('the token names no key (`kid`)');
  return kid;
}

/** Whether the token is at fault, or the keys could not be had. */
function classified(error: unknown): unknown {
  if (error instanceof PropuskError) return error;
  if (error instanceof errors.JOSEError && !KEYS_UNAVAILABLE.includes(error.code)) {
    return invalidToken(`the token is not valid: ${error.message}`, error);
  }
  return unavailable('the keys of the issuer cannot be had: tokens cannot be verified', error);
}

/** A map of a bounded size, which forgets what was not used for the longest time. */
export class LastUsed<V> {
  readonly #map = new Map<string, V>();

  constructor(private readonly size: number) {}

  get(key: string): V | undefined {
    const value = this.#map.get(key);
    if (value !== undefined) {
      this.#map.delete(key);
      this.#map.set(key, value);
    }
    return value;
  }

  set(key: string, value: V): void {
    this.#map.delete(key);
    this.#map.set(key, value);
    if (this.#map.size > this.size) {
      const { value: oldest } = this.#map.keys().next();
      if (oldest !== undefined) this.#map.delete(oldest);
    }
  }
}
