// The MCP SDK's cross-app access (enterprise-managed authorization): a client exchanges its user's ID token for an
// ID-JAG at the identity provider, and that for an access token at the tool server's authorization server.

import assert from 'node:assert/strict';

import {
  Client,
  CrossAppAccessProvider,
  discoverAndRequestJwtAuthGrant,
  exchangeJwtAuthGrant,
  StreamableHTTPClientTransport,
} from '@modelcontextprotocol/client';
import { decodeJwt, decodeProtectedHeader } from 'jose';

import { Tools } from './mcp_tools.mjs';

const [idpUrl, idToken, clientId, clientSecret, authority, toolClientId, toolClientSecret, resource] =
  process.argv.slice(2);
const tools = new Tools(new URL(authority), resource);
tools.metadata.scopes_supported = ['notes:read'];
await tools.listen();
let passed = 0;
const step = async (what, act) => {
  const result = await act();
  passed += 1;
  console.log(`ok  ${what}`);
  return result;
};
try {
  const request = (more) =>
    discoverAndRequestJwtAuthGrant({ idpUrl, idToken, clientId, clientSecret, ...more });
  const connect = async (assertion) => {
    const provider = new CrossAppAccessProvider({
      assertion,
      clientId: toolClientId,
      clientSecret: toolClientSecret,
      expectedIssuer: authority,
    });
    const client = new Client({ name: 'an enterprise host', version: '1.0.0' });
    await client.connect(new StreamableHTTPClientTransport(tools.resource, { authProvider: provider }));
    return client;
  };

  let grant;
  const client = await step('the provider of the SDK connects without a login page', () =>
    connect(async ({ authorizationServerUrl, resourceUrl, scope }) => {
      const issued = await request({ audience: authorizationServerUrl, resource: resourceUrl, scope });
      assert.equal(issued.scope, 'notes:read');
      assert.ok(issued.expiresIn <= 300);
      grant = issued.jwtAuthGrant;
      return grant;
    }),
  );
  await step('the grant is a typed JWT for the other server and its client', () => {
    assert.equal(decodeProtectedHeader(grant).typ, 'oauth-id-jag+jwt');
    const { iss, aud, client_id: known, resource: named } = decodeJwt(grant);
    assert.deepEqual([iss, aud, known, named], [idpUrl, authority, toolClientId, resource]);
  });
  await step('the tool server sees the subject of the identity provider', async () => {
    const { content } = await client.callTool({ name: 'whoami' });
    const seen = JSON.parse(content[0].text);
    assert.deepEqual([seen.client, seen.scopes], [toolClientId, ['notes:read']]);
    assert.equal(seen.sub, `@acme:${decodeJwt(idToken).sub}`);
  });
  await client.close();
  await step('a used grant is refused', async () => {
    const tokenEndpoint = `${authority}/oauth2/token`;
    const again = { tokenEndpoint, jwtAuthGrant: grant, clientId: toolClientId, clientSecret: toolClientSecret };
    await assert.rejects(exchangeJwtAuthGrant(again), /invalid_grant/);
    const fresh = await request({ audience: authority, resource });
    const tokens = await exchangeJwtAuthGrant({ ...again, jwtAuthGrant: fresh.jwtAuthGrant });
    assert.equal(tokens.token_type.toLowerCase(), 'bearer');
    assert.equal(tokens.refresh_token, undefined);
  });
  await step('the identity provider refuses what its policy does not name', async () => {
    await assert.rejects(request({ audience: 'https://other.example', resource }), /invalid_target/);
    await assert.rejects(request({ audience: authority, resource: 'https://other.example' }), /invalid_target/);
    await assert.rejects(request({ audience: authority, resource, scope: 'notes:write' }), /invalid_scope/);
    await assert.rejects(request({ audience: authority, resource, idToken: grant }), /invalid_grant/);
  });
  console.log(`all ${passed} steps passed`);
} catch (error) {
  console.log(error);
  process.exitCode = 1;
} finally {
  tools.close();
}
