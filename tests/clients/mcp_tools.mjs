// A tool server written with the MCP SDK.

import { InvalidTokenError } from '@modelcontextprotocol/sdk/server/auth/errors.js';
import { requireBearerAuth } from '@modelcontextprotocol/sdk/server/auth/middleware/bearerAuth.js';
import { createMcpExpressApp } from '@modelcontextprotocol/sdk/server/express.js';
import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js';
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js';
import { createRemoteJWKSet, jwtVerify } from 'jose';

/**
 * A server with one tool, which returns the caller. Its URL is `resource`, which is registered with the authorization
 * server; tokens are verified with the keys of `issuer` alone.
 */
export class Tools {
  constructor(issuer, resource) {
    this.resource = new URL(resource);
    this.issuer = issuer.href.replace(/\/$/, '');
    this.keys = createRemoteJWKSet(new URL('/oauth2/jwks', issuer));
    this.metadata = { resource, authorization_servers: [this.issuer] };
    this.refused = new Set();
  }

  async listen() {
    const described = new URL('/.well-known/oauth-protected-resource/mcp', this.resource);
    const app = createMcpExpressApp();
    app.get(described.pathname, (_, response) => response.json(this.metadata));
    const authentication = requireBearerAuth({
      verifier: this,
      resourceMetadataUrl: described.href,
      expectedResource: this.resource,
    });
    app.all(this.resource.pathname, authentication, (request, response) => this.serve(request, response));
    await new Promise((done, failed) => {
      this.listener = app.listen(Number(this.resource.port), this.resource.hostname, (error) =>
        error ? failed(error) : done(),
      );
    });
  }

  async verifyAccessToken(token) {
    if (this.refused.has(token)) throw new InvalidTokenError('revoked by the tool server');
    const checks = { issuer: this.issuer, audience: this.resource.href, typ: 'at+jwt' };
    const { payload } = await jwtVerify(token, this.keys, checks).catch((error) => {
      this.reason = error.message;
      throw new InvalidTokenError(error.message);
    });
    const { client_id: clientId, scope = '', exp: expiresAt, aud, sub } = payload;
    return { token, clientId, scopes: scope.split(' '), expiresAt, resource: new URL(aud), extra: { sub } };
  }

  async serve(request, response) {
    const server = new McpServer({ name: 'tools', version: '1.0.0' });
    server.registerTool('whoami', { description: 'Returns the caller' }, ({ authInfo }) => {
      const result = { client: authInfo.clientId, scopes: authInfo.scopes, sub: authInfo.extra.sub };
      return { content: [{ type: 'text', text: JSON.stringify(result) }] };
    });
    const transport = new StreamableHTTPServerTransport({ sessionIdGenerator: undefined, enableJsonResponse: true });
    response.on('close', () => server.close());
    await server.connect(transport);
    await transport.handleRequest(request, response, request.body);
  }

  close() {
    this.listener?.closeAllConnections();
    this.listener?.close();
  }
}
