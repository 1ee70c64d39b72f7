// The MCP SDK's client: it knows nothing of a tool server but its URL, discovers the authorization server, registers
// there and comes back with a token (MCP authorization: RFC 9728, 8414, 7591, 8707).

import assert from 'node:assert/strict';

import {
  ClientCredentialsProvider,
  PrivateKeyJwtProvider,
} from '@modelcontextprotocol/sdk/client/auth-extensions.js';
import { discoverOAuthServerInfo, registerClient, UnauthorizedError } from '@modelcontextprotocol/sdk/client/auth.js';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { exportPKCS8 } from 'jose';

import { Tools } from './mcp_tools.mjs';
import { keys, scenario } from './scenario.mjs';

/** What an MCP host stores for one tool server. */
class Host {
  constructor(callback, clientMetadataUrl) {
    this.clientMetadataUrl = clientMetadataUrl;
    this.redirectUrl = callback;
    this.clientMetadata = {
      client_name: 'An MCP host',
      redirect_uris: [callback],
      grant_types: ['authorization_code', 'refresh_token'],
      response_types: ['code'],
      token_endpoint_auth_method: 'none',
    };
  }

  state() {
    this.expectedState = crypto.randomUUID();
    return this.expectedState;
  }

  clientInformation() {
    return this.client;
  }

  saveClientInformation(client) {
    this.client = client;
  }

  tokens() {
    return this.kept;
  }

  saveTokens(tokens) {
    this.kept = tokens;
  }

  redirectToAuthorization(address) {
    this.address = address;
  }

  saveCodeVerifier(verifier) {
    this.verifier = verifier;
  }

  codeVerifier() {
    return this.verifier;
  }
}

await scenario(async ({ issuer, user, application, step, rest: [resource, document] }) => {
  const tools = new Tools(issuer, resource);
  await tools.listen();
  try {
    const connect = async (authProvider) => {
      const transport = new StreamableHTTPClientTransport(tools.resource, { authProvider });
      const client = new Client({ name: 'a host', version: '1.0.0' });
      await client.connect(transport);
      return client;
    };
    const whoami = async (client) => {
      const { content } = await client.callTool({ name: 'whoami' });
      return JSON.parse(content[0].text);
    };
    /** The first connection is refused; the user logs in; then the code is exchanged. */
    const authorize = async (host) => {
      await assert.rejects(connect(host), UnauthorizedError);
      const { url, pages } = await user.follow(host.address);
      assert.ok(url.searchParams.get('code'), `no code: ${url}`);
      assert.equal(url.searchParams.get('state'), host.expectedState);
      const transport = new StreamableHTTPClientTransport(tools.resource, { authProvider: host });
      await transport.finishAuth(url.searchParams.get('code'));
      return pages;
    };

    const host = new Host(application.callback);
    await step('a host that knows only the URL of the tool server gets a token', async () => {
      const pages = await authorize(host);
      assert.deepEqual(pages, ['login', 'consent']);
      assert.equal(host.address.origin, issuer.origin);
      assert.equal(host.address.searchParams.get('resource'), resource);
      assert.equal(host.address.searchParams.get('scope'), null);
    });
    const client = await step('the token is accepted, with the default scopes of the resource', async () => {
      const connected = await connect(host);
      const result = await whoami(connected);
      assert.deepEqual([result.client, result.scopes], [host.client.client_id, ['notes:read']]);
      return connected;
    });
    await step('a refused token is refreshed automatically', async () => {
      const before = host.kept;
      tools.refused.add(before.access_token);
      assert.deepEqual((await whoami(client)).scopes, ['notes:read']);
      assert.notEqual(host.kept.access_token, before.access_token);
      assert.notEqual(host.kept.refresh_token, before.refresh_token);
    });
    await client.close();

    await step('advertised scopes are requested and granted', async () => {
      tools.metadata.scopes_supported = ['notes:read', 'notes:write'];
      const other = new Host(application.callback);
      const pages = await authorize(other);
      assert.deepEqual(pages, ['consent']);
      const connected = await connect(other);
      assert.deepEqual((await whoami(connected)).scopes, ['notes:read', 'notes:write']);
      await connected.close();
    });
    await step('a host with a client ID metadata document does not register', async () => {
      delete tools.metadata.scopes_supported;
      const known = new Host(application.callback, document);
      assert.deepEqual(await authorize(known), ['consent']);
      const connected = await connect(known);
      const result = await whoami(connected);
      assert.deepEqual([result.client, result.scopes], [document, ['notes:read']]);
      await connected.close();
    });
    await step('a token with another audience is refused', async () => {
      const other = new Host(application.callback);
      other.validateResourceURL = async () => undefined;
      other.clientMetadata.scope = 'openid';
      await authorize(other);
      other.redirectToAuthorization = () => {};
      delete other.kept.refresh_token;
      await assert.rejects(connect(other), UnauthorizedError);
      assert.match(tools.reason, /"aud"/);
    });

    const { authorizationServerMetadata: metadata } = await discoverOAuthServerInfo(tools.resource);
    const register = (clientMetadata) => registerClient(issuer, { metadata, clientMetadata });
    const machine = { redirect_uris: [], grant_types: ['client_credentials'], response_types: [] };
    await step('client credentials with a secret', async () => {
      const created = await register({ ...machine, token_endpoint_auth_method: 'client_secret_basic' });
      const provider = new ClientCredentialsProvider({
        clientId: created.client_id,
        clientSecret: created.client_secret,
        expectedIssuer: metadata.issuer,
        scope: 'notes:read',
      });
      const connected = await connect(provider);
      assert.equal((await whoami(connected)).client, created.client_id);
      await connected.close();
    });
    await step('client credentials with a key', async () => {
      const { key, jwks } = await keys('ES256');
      const created = await register({ ...machine, token_endpoint_auth_method: 'private_key_jwt', jwks });
      const provider = new PrivateKeyJwtProvider({
        clientId: created.client_id,
        privateKey: await exportPKCS8(key.key),
        algorithm: 'ES256',
        expectedIssuer: metadata.issuer,
        scope: 'notes:read',
      });
      const connected = await connect(provider);
      assert.equal((await whoami(connected)).client, created.client_id);
      await connected.close();
    });
    await step('an unregistered redirect URI is refused before the login', async () => {
      const elsewhere = { ...host.clientMetadata, redirect_uris: ['http://example.org/callback'] };
      await assert.rejects(register(elsewhere), /redirect_uris/);
      const address = new URL(host.address);
      address.searchParams.set('redirect_uri', `${application.base}/elsewhere`);
      assert.match(await user.read(address), /redirect_uri/);
    });
  } finally {
    tools.close();
  }
});
