// A customer service with its token server and its API, for tests/it/services: https on loopback,
// only what Node.js has itself. GET and POST /control say what was requested, and change how it
// answers: `{ token: {…}, api: {…}, revocation: {…} }`, each with `mode`: ok, slow, html, huge, redirect, drop, or a
// status.

import assert from 'node:assert/strict';
import crypto from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:https';

const settings = JSON.parse(process.argv[2]);
const { certificate, key, clientId, clientSecret, publicKey } = settings;
let base = '';

const state = {
  token: { mode: 'ok', expiresIn: 3600, rotates: true, type: 'Bearer', delay: 50 },
  api: { mode: 'ok' },
  revocation: { mode: 'ok' },
  // Seconds by which this machine's clock is ahead.
  skew: 0,
  tokenRequests: [],
  apiRequests: [],
  revocationRequests: [],
  running: 0,
  mostRunning: 0,
};
/** Valid access tokens, and whose they are. */
const accessTokens = new Map();
/** Refresh tokens: whose, and whether they were used. */
const refreshTokens = new Map([['first', { subject: 'propusk', family: 'first', used: false }]]);
const revokedFamilies = new Set();
const codes = new Map();

const now = () => Math.floor(Date.now() / 1000) + state.skew;
const random = () => crypto.randomBytes(16).toString('base64url');
// RFC 6749 appendix B
const formDecoded = (text) => decodeURIComponent(text.replaceAll('+', ' '));

class OAuthError extends Error {}
const refuse = (code) => {
  throw new OAuthError(code);
};

/** The claims of an assertion, without leeway: the sender has to allow for the clocks. */
function assertion(jwt) {
  const [head, body, signature] = jwt.split('.');
  const verified = crypto.verify(
    'sha256',
    Buffer.from(`${head}.${body}`),
    { key: publicKey, dsaEncoding: 'ieee-p1363' },
    Buffer.from(signature, 'base64url'),
  );
  const claims = JSON.parse(Buffer.from(body, 'base64url').toString());
  const fits = claims.aud === `${base}/token` && claims.iat <= now() && claims.exp > now() && claims.jti;
  return verified && fits && claims.iss === clientId ? claims : null;
}

function authenticate(request, form) {
  const basic = request.headers.authorization?.match(/^Basic (.+)$/)?.[1];
  if (basic) {
    const [id, secret] = Buffer.from(basic, 'base64').toString().split(':').map(formDecoded);
    return id === clientId && secret === clientSecret ? 'basic' : refuse('invalid_client');
  }
  if (form.get('client_assertion')) {
    const claims = assertion(form.get('client_assertion'));
    return claims?.sub === clientId ? 'private_key_jwt' : refuse('invalid_client');
  }
  const right = form.get('client_id') === clientId && form.get('client_secret') === clientSecret;
  return right ? 'post' : refuse('invalid_client');
}

function grant(form) {
  const issue = (subject, family = null) => {
    const access = `at-${subject.replace(/[^a-z0-9]/gi, '_')}-${random()}`;
    accessTokens.set(access, subject);
    const answer = { access_token: access, token_type: state.token.type };
    if (state.token.expiresIn !== null) answer.expires_in = state.token.expiresIn;
    if (family && state.token.rotates) {
      answer.refresh_token = `rt-${random()}`;
      refreshTokens.set(answer.refresh_token, { subject, family, used: false });
    }
    return answer;
  };
  switch (form.get('grant_type')) {
    case 'client_credentials':
      return issue('propusk');
    case 'password':
      return form.get('username') === 'tech' && form.get('password') === 'p&ss wörd'
        ? issue('tech')
        : refuse('invalid_grant');
    case 'urn:ietf:params:oauth:grant-type:jwt-bearer': {
      const claims = assertion(form.get('assertion') ?? '..');
      return claims ? issue(claims.sub) : refuse('invalid_grant');
    }
    case 'urn:ietf:params:oauth:grant-type:token-exchange': {
      assert.equal(form.get('subject_token_type'), 'urn:ietf:params:oauth:token-type:jwt');
      const claims = assertion(form.get('subject_token') ?? '..');
      return claims ? issue(claims.sub) : refuse('invalid_grant');
    }
    case 'refresh_token': {
      const known = refreshTokens.get(form.get('refresh_token'));
      if (!known || revokedFamilies.has(known.family)) return refuse('invalid_grant');
      if (!state.token.rotates) return issue(known.subject);
      if (known.used) {
        revokedFamilies.add(known.family);
        return refuse('invalid_grant');
      }
      known.used = true;
      return issue(known.subject, known.family);
    }
    case 'authorization_code': {
      const known = codes.get(form.get('code'));
      codes.delete(form.get('code'));
      const verifier = form.get('code_verifier') ?? '';
      const challenge = crypto.createHash('sha256').update(verifier).digest('base64url');
      const fits = known && known.challenge === challenge && known.redirectUri === form.get('redirect_uri');
      return fits ? issue(known.subject, random()) : refuse('invalid_grant');
    }
    default:
      return refuse('unsupported_grant_type');
  }
}

/** Answers as the mode says; false where it is ok. */
function misbehaves(mode, response) {
  const say = (status, headers, body) => {
    response.writeHead(status, headers).end(body);
    return true;
  };
  switch (mode) {
    case 'ok':
      return false;
    case 'slow':
      return true; // never answered
    case 'drop':
      response.destroy();
      return true;
    case 'html':
      return say(200, { 'content-type': 'text/html' }, '<h1>canary-body</h1>');
    case 'huge':
      return say(200, { 'content-type': 'application/json' }, `{"x":"${'x'.repeat(10 << 20)}"}`);
    case 'redirect':
      return say(302, { location: `${base}/token` }, '');
    case 429:
      return say(429, { 'retry-after': '17' }, 'canary-body');
    default:
      return say(mode, { 'content-type': 'application/json' }, '{"error":"canary-body!"}');
  }
}

const json = (response, status, body) =>
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));

async function answer(request, response) {
  const url = new URL(request.url, base);
  let body = '';
  for await (const chunk of request) body += chunk;
  if (url.pathname === '/control') {
    if (body) {
      const { token, api, revocation, revoke, ...rest } = JSON.parse(body);
      Object.assign(state.token, token);
      Object.assign(state.api, api);
      Object.assign(state.revocation, revocation);
      Object.assign(state, rest);
      if (revoke) accessTokens.clear();
    }
    const { skew, ...shown } = state;
    return json(response, 200, { ...shown, accessTokens: [...accessTokens.keys()], refreshTokens: [...refreshTokens.keys()], revokedFamilies: revokedFamilies.size });
  }
  if (url.pathname === '/token') {
    const form = new URLSearchParams(body);
    state.tokenRequests.push(form.get('grant_type'));
    state.mostRunning = Math.max(state.mostRunning, (state.running += 1));
    response.on('close', () => (state.running -= 1));
    // So that others can come meanwhile.
    await new Promise((resolve) => setTimeout(resolve, state.token.delay));
    if (misbehaves(state.token.mode, response)) return undefined;
    try {
      state.auth = authenticate(request, form);
      state.parameters = Object.fromEntries([...form].filter(([name]) => ['scope', 'audience'].includes(name)));
      return json(response, 200, grant(form));
    } catch (error) {
      if (!(error instanceof OAuthError)) throw error;
      return json(response, error.message === 'invalid_client' ? 401 : 400, { error: error.message });
    }
  }
  if (url.pathname === '/revoke') {
    const form = new URLSearchParams(body);
    state.revocationRequests.push(form.get('token_type_hint'));
    if (misbehaves(state.revocation.mode, response)) return undefined;
    try {
      authenticate(request, form);
    } catch {
      return json(response, 401, { error: 'invalid_client' });
    }
    // RFC 7009 §2.2: also a token that it does not know.
    const known = refreshTokens.get(form.get('token'));
    if (known) revokedFamilies.add(known.family);
    accessTokens.delete(form.get('token'));
    return response.writeHead(200).end();
  }
  if (url.pathname === '/authorize') {
    const parameters = Object.fromEntries(url.searchParams);
    assert.equal(parameters.response_type, 'code');
    assert.equal(parameters.client_id, clientId);
    assert.equal(parameters.code_challenge_method, 'S256');
    const leave = (answer) => {
      const to = new URL(parameters.redirect_uri);
      Object.entries({ ...answer, state: parameters.state }).forEach(([name, value]) => to.searchParams.set(name, value));
      return to.href.replaceAll('&', '&amp;');
    };
    const code = random();
    codes.set(code, { subject: 'vera', challenge: parameters.code_challenge, redirectUri: parameters.redirect_uri });
    const page = `<!doctype html><html lang="en"><title>CRM</title><link rel="icon" href="data:,">
      <a id="allow" href="${leave({ code })}">Allow</a> <a id="deny" href="${leave({ error: 'access_denied' })}">Deny</a>`;
    return response.writeHead(200, { 'content-type': 'text/html' }).end(page);
  }
  state.apiRequests.push(`${request.method} ${request.url}`);
  if (misbehaves(state.api.mode, response)) return undefined;
  const subject = accessTokens.get(request.headers.authorization?.replace('Bearer ', ''));
  if (!subject) return json(response, 401, { error: 'invalid_token' });
  return json(response, 200, {
    name: 'Vera',
    subject,
    path: decodeURIComponent(url.pathname),
    customer: url.searchParams.get('customer'),
    secret: 'canary-body',
    contracts: [{ number: 'A-17', sum: 'canary-body' }, { sum: 1 }],
    nested: { secret: 'canary-body' },
  });
}

const server = createServer({ cert: readFileSync(certificate), key: readFileSync(key) }, (request, response) => {
  answer(request, response).catch((error) => {
    console.error(error);
    response.writeHead(500).end();
  });
});
server.listen(settings.port ?? 0, '127.0.0.1', () => {
  base = `https://127.0.0.1:${server.address().port}`;
  console.log(JSON.stringify({ base }));
});
