import { createRemoteJWKSet, customFetch, type JWTVerifyGetKey } from 'jose';

import { trimmed } from './http.js';

/** The signature algorithms of the server. */
export const ALGORITHMS = ['ES256', 'RS256', 'PS256', 'EdDSA', 'Ed25519'];

/** The keys of a server, fetched when they are needed and again when a token names another one. */
export function serverKeys(url: string, send: typeof fetch | undefined): JWTVerifyGetKey {
  const options = send === undefined ? {} : { [customFetch]: send };
  return createRemoteJWKSet(new URL(`${trimmed(url)}/oauth2/jwks`), options);
}
