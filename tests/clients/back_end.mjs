// openid-client and jose: a back end that keeps its own users gets their tokens by the JWT bearer grant.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';

import { SignJWT, importPKCS8 } from 'jose';
import * as client from 'openid-client';

import { refused } from './scenario.mjs';

const GRANT = 'urn:ietf:params:oauth:grant-type:jwt-bearer';

const [issuer, id, secret, file] = process.argv.slice(2);
const key = await importPKCS8(await readFile(file, 'utf8'), 'ES256');
const config = await client.discovery(new URL(issuer), id, secret, undefined, {
  execute: [client.allowInsecureRequests],
});
assert.ok(config.serverMetadata().grant_types_supported.includes(GRANT));

/** An assertion about the user 42 of the back end. */
const assertion = (claims = {}) =>
  new SignJWT({ email: 'vera@example.org', role: 'buyer', ...claims })
    .setProtectedHeader({ alg: 'ES256', typ: 'JWT' })
    .setIssuer(id)
    .setSubject('42')
    .setAudience(config.serverMetadata().issuer)
    .setIssuedAt()
    .setExpirationTime('1m')
    .setJti(crypto.randomUUID())
    .sign(key);

const once = await assertion();
const first = await client.genericGrantRequest(config, GRANT, { assertion: once, scope: 'orders:read' });
assert.equal(first.scope, 'orders:read');
const claims = await client.tokenIntrospection(config, first.access_token);
assert.deepEqual(
  [claims.active, claims.sub, claims.user_id, claims.email, claims.role],
  [true, 'mp1:42', '42', 'vera@example.org', 'buyer'],
);
console.log('ok  tokens by an assertion');

await refused('invalid_grant', client.genericGrantRequest(config, GRANT, { assertion: once }));
await refused('invalid_grant', client.genericGrantRequest(config, GRANT, { assertion: await assertion({ role: 'admin' }) }));
await refused('invalid_scope', client.genericGrantRequest(config, GRANT, { assertion: await assertion(), scope: 'orders:delete' }));
console.log('ok  refused: used before, an administrator, a wider scope');

const second = await client.refreshTokenGrant(config, first.refresh_token);
assert.notEqual(second.refresh_token, first.refresh_token);
await client.tokenRevocation(config, second.refresh_token);
assert.deepEqual(await client.tokenIntrospection(config, second.access_token), { active: false });
await refused('invalid_grant', client.refreshTokenGrant(config, second.refresh_token));
console.log('ok  refresh and revocation');
console.log('all steps passed');
