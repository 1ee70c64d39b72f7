// Verifications of access tokens per second on one core: by jose alone, and by this package with
// the revocation feed, against a running server. Prints a table.
//
//   PROPUSK_BIN=…/target/release/propusk node scripts/bench.mjs [SECONDS]

import { execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';

import { createRemoteJWKSet, jwtVerify } from 'jose';

import { RevocationFeed } from '../dist/feed.js';
import { createPropusk } from '../dist/server.js';
import { logout, register } from '../dist/tokens.js';
import { createVerifier } from '../dist/verifier.js';

const binary = process.env.PROPUSK_BIN;
if (!binary) throw new Error('PROPUSK_BIN names no binary');
const seconds = Number(process.argv[2] ?? 5);
const TOKENS = 2_000;
const folder = mkdtempSync(join(tmpdir(), 'propusk-bench-'));
const address = `127.0.0.1:${20_000 + Math.floor(Math.random() * 12_000)}`;
const issuer = `http://${address}`;
const others = Object.entries(process.env).filter(([name]) => !name.startsWith('PROPUSK_'));
const env = {
  ...Object.fromEntries(others),
  PROPUSK_SERVER__LISTEN: address,
  PROPUSK_SERVER__ISSUER: issuer,
  PROPUSK_DATA_DIR: folder,
  PROPUSK_GRPC__LISTEN: '',
  PROPUSK_METRICS__LISTEN: '',
  PROPUSK_LIMITS__ENABLED: 'false',
  PROPUSK_PASSWORDS__MEMORY_KIB: '64',
  PROPUSK_PASSWORDS__ITERATIONS: '1',
};
const server = spawn(binary, ['serve'], { cwd: folder, env, stdio: 'ignore' });

/** Calls `verify` for one token after another; prints how often in a second of processor time. */
async function measure(name, tokens, verify) {
  for (const token of tokens.slice(0, 200)) await verify(token);
  const began = performance.now();
  const cpu = process.cpuUsage();
  let count = 0;
  while (performance.now() - began < seconds * 1000) {
    for (let turn = 0; turn < 50; turn += 1) await verify(tokens[(count + turn) % tokens.length]);
    count += 50;
  }
  const elapsed = (performance.now() - began) / 1000;
  const { user, system } = process.cpuUsage(cpu);
  const busy = (user + system) / 1e6;
  console.log(
    `${name.padEnd(48)} ${Math.round(count / busy)
      .toString()
      .padStart(9)} /s and core  (${(busy / elapsed).toFixed(2)} cores)`,
  );
}

try {
  for (;;) {
    if (server.exitCode !== null) throw new Error('the server has exited');
    const ready = await fetch(`${issuer}/api/v1/auth/health/ready`).catch(() => undefined);
    if (ready?.ok) break;
    await pause(50);
  }
  const printed = execFileSync(
    binary,
    ['client', 'add', 'gateway', '--scope', 'propusk:revocations'],
    { cwd: folder, env },
  );
  const clientSecret = /^secret \(shown once\): (\S+)$/m.exec(printed.toString())[1];
  const tokens = [];
  while (tokens.length < TOKENS) {
    const one = (n) =>
      register(
        { email: `u${n}@example.org`, password: 'seven blue herons at dawn' },
        { baseUrl: issuer },
      );
    const batch = await Promise.all(Array.from({ length: 50 }, (_, n) => one(tokens.length + n)));
    tokens.push(...batch.map(({ accessToken }) => accessToken));
  }
  const feedOptions = { clientId: 'gateway', clientSecret };
  const feed = new RevocationFeed({ issuer, ...feedOptions });
  await feed.ready();
  const propusk = createPropusk({ issuer, feed: feedOptions });
  // A list as long as that of a busy server: logouts within the lifetime of an access token.
  for (const accessToken of tokens.splice(0, TOKENS / 2))
    await logout({}, { baseUrl: issuer, accessToken });
  await pause(500);

  const jwks = createRemoteJWKSet(new URL(`${issuer}/oauth2/jwks`));
  const options = { issuer, audience: issuer, typ: 'at+jwt' };
  const uncached = createVerifier({ issuer, feed, jwks, cacheSize: 0 });
  console.log(
    `${process.version}, ${seconds} s each, ${tokens.length} tokens, ${TOKENS / 2} revocations`,
  );
  await measure('jose alone', tokens, (token) => jwtVerify(token, jwks, options));
  await measure('with the feed, every signature checked', tokens, uncached);
  await measure('with the feed, tokens seen before', tokens, (token) => propusk.verify(token));
  await measure('jose alone, again', tokens, (token) => jwtVerify(token, jwks, options));
  feed.close();
  propusk.close();
} finally {
  server.kill();
  rmSync(folder, { recursive: true, force: true });
}
