// A server of the revocation feed that does what the real one does rarely: gaps, resets, unknown
// kinds, silence.

import {
  SignJWT,
  exportJWK,
  generateKeyPair,
  createLocalJWKSet,
  type CryptoKey,
  type JWTVerifyGetKey,
} from 'jose';

import type { Entry } from '../../src/revocation-list.js';

export const ISSUER = 'https://id.example.com';

export class FakeFeed {
  number = 0;
  entries: unknown[] = [];
  /** Requests, as `token`, `list`, `delta SINCE`, `stream SINCE`. */
  readonly requests: string[] = [];
  /** Whether requests fail. */
  isDown = false;
  /** Which status the next request for a delta or a stream gets. */
  nextStatus: number | undefined;
  typ = 'revocations+jwt';
  signer: CryptoKey;
  #streams: ReadableStreamDefaultController<Uint8Array>[] = [];

  private constructor(
    readonly key: CryptoKey,
    readonly jwks: JWTVerifyGetKey,
  ) {
    this.signer = key;
  }

  static async create(): Promise<FakeFeed> {
    const { privateKey, publicKey } = await generateKeyPair('ES256');
    const jwk = { ...(await exportJWK(publicKey)), kid: 'k', alg: 'ES256', use: 'sig' };
    return new FakeFeed(privateKey, createLocalJWKSet({ keys: [jwk] }));
  }

  readonly fetch: typeof fetch = async (input, init) => {
    const url = new URL(String(input));
    if (this.isDown) throw new TypeError('fetch failed');
    if (url.pathname === '/oauth2/token') {
      this.requests.push('token');
      return Response.json({ access_token: 'a token', expires_in: 900 });
    }
    const since = url.searchParams.get('since');
    const isStream = new Headers(init?.headers).get('accept') === 'text/event-stream';
    this.requests.push(since === null ? 'list' : `${isStream ? 'stream' : 'delta'} ${since}`);
    if (since !== null && this.nextStatus !== undefined) {
      const status = this.nextStatus;
      this.nextStatus = undefined;
      return Response.json({ error: 'snapshot_required' }, { status });
    }
    if (since === null) return new Response(await this.list());
    if (!isStream)
      return Response.json({ from: Number(since), to: this.number, entries: this.entries });
    const body = new ReadableStream<Uint8Array>({
      start: (controller) => void this.#streams.push(controller),
    });
    init?.signal?.addEventListener('abort', () =>
      this.#fail(new DOMException('aborted', 'AbortError')),
    );
    return new Response(body);
  };

  async list(): Promise<string> {
    const claims = { number: this.number, entries: this.entries };
    const header = { alg: 'ES256', kid: 'k', typ: this.typ };
    return new SignJWT(claims)
      .setIssuer(ISSUER)
      .setIssuedAt()
      .setProtectedHeader(header)
      .sign(this.signer);
  }

  /** Sends text on the newest stream. */
  send(text: string): void {
    this.#streams.at(-1)?.enqueue(new TextEncoder().encode(text));
  }

  delta(from: number, to: number, entries: (Entry | object)[]): void {
    this.send(`event: delta\nid: ${to}\ndata: ${JSON.stringify({ from, to, entries })}\n\n`);
  }

  /** Ends the streams, as a server that shuts down. */
  end(): void {
    for (const stream of this.#streams.splice(0)) stream.close();
  }

  /** Breaks the streams off, as a network that is gone. */
  break(): void {
    this.#fail(new TypeError('terminated'));
  }

  #fail(error: unknown): void {
    for (const stream of this.#streams.splice(0)) stream.error(error);
  }
}
