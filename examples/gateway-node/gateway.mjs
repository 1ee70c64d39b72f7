// A gateway of one's own: every request is checked by Propusk over gRPC (Envoy's
// Authorization/Check) and then forwarded to one application. Propusk renews the browser's tokens
// meanwhile: the new cookies are in `response_headers_to_add`.

import { Agent, createServer, request as forward } from 'node:http';

import grpc from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';

const {
  PROPUSK = 'http://127.0.0.1:8080', // the issuer
  PROPUSK_GRPC = '127.0.0.1:50051',
  PROTO = '../../proto',
  CLIENT_ID = 'gateway', // a client with the scope propusk:check
  CLIENT_SECRET,
  APPLICATION = 'http://127.0.0.1:3000',
  LISTEN = '127.0.0.1:9000',
} = process.env;

const files = loadSync('envoy/service/auth/v3/external_auth.proto', {
  includeDirs: [PROTO],
  keepCase: true,
  defaults: true,
});
const { Authorization } = grpc.loadPackageDefinition(files).envoy.service.auth.v3;
// Beyond loopback use TLS, and a client certificate instead of the token: see docs/grpc.md.
const propusk = new Authorization(PROPUSK_GRPC, grpc.credentials.createInsecure());
const application = new URL(APPLICATION);
const agent = new Agent({ keepAlive: true });

let token = { value: '', until: 0 };

/** An access token of the gateway itself, renewed a minute before it expires. */
async function ownToken() {
  if (Date.now() < token.until) return token.value;
  const basic = Buffer.from(`${CLIENT_ID}:${CLIENT_SECRET}`).toString('base64');
  const response = await fetch(`${PROPUSK}/oauth2/token`, {
    method: 'POST',
    headers: { authorization: `Basic ${basic}` },
    body: new URLSearchParams({ grant_type: 'client_credentials', scope: 'propusk:check' }),
  });
  if (!response.ok) throw new Error(`no token: ${response.status} ${await response.text()}`);
  const { access_token, expires_in } = await response.json();
  token = { value: access_token, until: Date.now() + (expires_in - 60) * 1000 };
  return token.value;
}

/**
 * Propusk's decision about a request. `requirements` are those of docs/gateways.md, such as
 * `{ module: 'crm' }`.
 */
async function check(request, requirements = {}) {
  const metadata = new grpc.Metadata();
  metadata.set('authorization', `Bearer ${await ownToken()}`);
  // Node joins repeated headers of a name by the rules of HTTP.
  const pairs = Object.entries(request.headers).map(([name, value]) => [name, String(value)]);
  const headers = Object.fromEntries(pairs);
  const { method, url: path } = request;
  const attributes = {
    source: { address: { socket_address: { address: request.socket.remoteAddress } } },
    request: { http: { method, headers, path, host: headers.host, scheme: 'http' } },
    context_extensions: requirements,
  };
  return new Promise((resolve, reject) => {
    const deadline = Date.now() + 1000;
    propusk.Check({ attributes }, metadata, { deadline }, (error, answer) =>
      error ? reject(error) : resolve(answer),
    );
  });
}

/** Headers as Node writes them: pairs in a flat list, so that `set-cookie` may occur twice. */
const flat = (options) => options.flatMap(({ header }) => [header.key, header.value]);

/**
 * What is not forwarded: identity headers of the client in any spelling, and those of one
 * connection only.
 */
const isDropped = (name) =>
  name.replaceAll('_', '-').startsWith('x-propusk-') ||
  ['connection', 'keep-alive', 'upgrade', 'cookie'].includes(name);

/** The application gets no cookie of Propusk's. */
const ownCookies = /^(__Host-|__Secure-)?propusk_/;
const withoutOwn = (cookie) =>
  cookie
    .split(';')
    .filter((pair) => !ownCookies.test(pair.trim()))
    .join(';')
    .trim();

createServer(async (incoming, outgoing) => {
  let answer;
  try {
    answer = await check(incoming);
  } catch (error) {
    // Nobody passes without a decision.
    console.error(String(error));
    outgoing.writeHead(503, { 'retry-after': 2 }).end();
    return;
  }
  if (answer.status?.code !== 0) {
    const { status, headers, body } = answer.denied_response;
    outgoing.writeHead(status.code, flat(headers)).end(body);
    return;
  }
  const { headers, response_headers_to_add: added } = answer.ok_response;
  const cookie = withoutOwn(incoming.headers.cookie ?? '');
  const kept = Object.entries(incoming.headers).filter(([name]) => !isDropped(name));
  const sent = { ...Object.fromEntries(kept), ...(cookie && { cookie }) };
  for (const { header } of headers) sent[header.key] = header.value;
  const { hostname, port } = application;
  const { method, url: path } = incoming;
  const onward = forward({ agent, hostname, port, method, path, headers: sent }, (response) => {
    // Renewed cookies, even of an error: a refresh token can be used once.
    outgoing.writeHead(response.statusCode, [...response.rawHeaders, ...flat(added)]);
    response.pipe(outgoing);
  });
  onward.on('error', () => {
    if (outgoing.headersSent) outgoing.destroy();
    else outgoing.writeHead(502, flat(added)).end();
  });
  incoming.pipe(onward);
}).listen(Number(LISTEN.split(':').at(-1)), LISTEN.slice(0, LISTEN.lastIndexOf(':')), () =>
  console.log(`listening on ${LISTEN}`),
);
