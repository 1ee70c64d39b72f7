// A program on the user's device that calls a tool of an MCP server, whose URL is its argument. It
// registers at the authorization server and sends its user to the login. See
// docs/quickstarts/mcp.md. A program of one's own keeps the registration and the tokens in a file.

import { Client, StreamableHTTPClientTransport, UnauthorizedError } from '@modelcontextprotocol/client';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';

const serverUrl = new URL(process.argv[2]);
const kept = { state: randomUUID() };

// Where the browser comes back: any free port of the loopback interface (RFC 8252 §7.3).
let resolve;
const callback = new Promise((done) => (resolve = done));
const listener = createServer((request, response) => {
  const { pathname, searchParams } = new URL(request.url, redirectUrl);
  if (pathname !== '/callback' || searchParams.get('state') !== kept.state) {
    response.writeHead(404).end();
    return;
  }
  response.end('You are logged in, and can close this window.');
  resolve(searchParams);
}).listen(0, '127.0.0.1');
await once(listener, 'listening');
const redirectUrl = `http://127.0.0.1:${listener.address().port}/callback`;

const authProvider = {
  redirectUrl,
  clientMetadata: {
    client_name: 'Notes on the command line',
    redirect_uris: [redirectUrl],
    grant_types: ['authorization_code', 'refresh_token'],
    token_endpoint_auth_method: 'none',
  },
  state: () => kept.state,
  clientInformation: () => kept.client,
  saveClientInformation: (client) => void (kept.client = client),
  tokens: () => kept.tokens,
  saveTokens: (tokens) => void (kept.tokens = tokens),
  codeVerifier: () => kept.verifier,
  saveCodeVerifier: (verifier) => void (kept.verifier = verifier),
  discoveryState: () => kept.discovery,
  saveDiscoveryState: (discovery) => void (kept.discovery = discovery),
  redirectToAuthorization: (url) => console.log(`Open ${url}`),
};
const client = new Client({ name: 'notes-client', version: '1.0.0' });
const transport = () => new StreamableHTTPClientTransport(serverUrl, { authProvider });

const login = transport();
try {
  await client.connect(login);
} catch (error) {
  if (!(error instanceof UnauthorizedError)) throw error;
  await login.finishAuth(await callback);
  await client.connect(transport());
}
listener.close();
const { content } = await client.callTool({ name: 'notes', arguments: {} });
console.log(content[0].text);
await client.close();
