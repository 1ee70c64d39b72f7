// A proxy between the kit and the server: it counts requests, and loses what it is told to lose.

import {
  createServer,
  request as send,
  type IncomingMessage,
  type Server,
  type ServerResponse,
} from 'node:http';
import type { AddressInfo } from 'node:net';

export class Proxy {
  /** The requests so far, as `POST /path`. */
  readonly requests: string[] = [];
  /** The next requests for these paths reach the server, and their answers are lost. */
  readonly lose: string[] = [];
  /** Whether every request is answered 503, as by a load balancer without a server. */
  isDown = false;
  /** Answers a request instead of the server, if it returns true. */
  intercept: (request: IncomingMessage, response: ServerResponse) => boolean = () => false;
  /** What a request waits for before it reaches the server. */
  hold: (request: IncomingMessage) => Promise<unknown> = () => Promise.resolve();
  readonly #server: Server;

  private constructor(private readonly target: string) {
    this.#server = createServer((request, response) => void this.#answer(request, response));
  }

  static async before(target: string): Promise<Proxy> {
    const proxy = new Proxy(target);
    await new Promise<void>((resolve) => proxy.#server.listen(0, '127.0.0.1', resolve));
    return proxy;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** How many requests there were for a path. */
  count(path: string): number {
    return this.requests.filter((request) => request.endsWith(` ${path}`)).length;
  }

  /** Ends every connection. */
  cut(): void {
    this.#server.closeAllConnections();
  }

  close(): void {
    this.cut();
    this.#server.close();
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = (request.url ?? '').split('?')[0] ?? '';
    this.requests.push(`${request.method} ${path}`);
    if (this.isDown) {
      response.writeHead(503).end();
      return;
    }
    if (this.intercept(request, response)) return;
    await this.hold(request);
    const lost = this.lose.indexOf(path);
    if (lost >= 0) this.lose.splice(lost, 1);
    const upstream = send(
      this.target + request.url,
      { method: request.method, headers: request.headers },
      (answer) => {
        if (lost >= 0) {
          answer.resume();
          answer.on('end', () => response.destroy());
          return;
        }
        response.writeHead(answer.statusCode ?? 502, answer.rawHeaders);
        // Node holds the header section back until there is a body.
        response.flushHeaders();
        answer.pipe(response);
        answer.on('error', () => response.destroy());
      },
    );
    upstream.on('error', () => response.destroy());
    response.on('close', () => upstream.destroy());
    request.pipe(upstream);
  }
}
