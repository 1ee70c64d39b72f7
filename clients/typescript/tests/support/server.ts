// The binary of the server in a process of its own, on SQLite in a temporary folder.

import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const execute = promisify(execFile);

/** The root of the repository: `./dev/test` runs a copy of the kit. */
export const SOURCE =
  process.env.PROPUSK_SOURCE ?? fileURLToPath(new URL('../../../..', import.meta.url));

export const PASSWORD = 'seven blue herons at dawn';

/** The binary that is tested. */
function binary(): string {
  const path = process.env.PROPUSK_BIN;
  if (path === undefined)
    throw new Error('PROPUSK_BIN names no binary: PROPUSK_BIN=…/target/debug/propusk npm test');
  return path;
}

/** A port that was free a moment ago, below those of outgoing connections. */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = 20_000 + Math.floor(Math.random() * 12_000);
    const server = createServer();
    const isFree = await new Promise<boolean>((resolve) => {
      server.once('error', () => resolve(false));
      server.listen(port, '127.0.0.1', () => resolve(true));
    });
    if (isFree) {
      await new Promise((resolve) => server.close(resolve));
      return port;
    }
  }
}

export class Server {
  #child: ChildProcess | undefined;
  #log = '';

  private constructor(
    readonly issuer: string,
    readonly folder: string,
    private readonly environment: NodeJS.ProcessEnv,
  ) {}

  /** Starts a server at its issuer's URL. */
  static async start(settings: Record<string, string> = {}): Promise<Server> {
    const folder = await mkdtemp(join(tmpdir(), 'propusk-kit-'));
    const address = `127.0.0.1:${await freePort()}`;
    const others = Object.entries(process.env).filter(([name]) => !name.startsWith('PROPUSK_'));
    const server = new Server(`http://${address}`, folder, {
      ...Object.fromEntries(others),
      PROPUSK_SERVER__LISTEN: address,
      PROPUSK_SERVER__ISSUER: `http://${address}`,
      PROPUSK_DATA_DIR: folder,
      PROPUSK_GRPC__LISTEN: '',
      PROPUSK_METRICS__LISTEN: '',
      PROPUSK_LIMITS__ENABLED: 'false',
      PROPUSK_PASSWORDS__MEMORY_KIB: '64',
      PROPUSK_PASSWORDS__ITERATIONS: '1',
      PROPUSK_SERVER__SHUTDOWN_GRACE: '1s',
      ...settings,
    });
    await server.serve();
    return server;
  }

  /** Starts the process, again at the same address and on the same database. */
  async serve(): Promise<void> {
    const child = spawn(binary(), ['serve'], {
      cwd: this.folder,
      env: this.environment,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#child = child;
    for (const stream of [child.stdout, child.stderr])
      stream.on('data', (chunk: Buffer) => (this.#log += chunk.toString()));
    for (let attempt = 0; attempt < 600; attempt += 1) {
      if (child.exitCode !== null) throw new Error(`the server exited: ${this.#log}`);
      const ready = await fetch(`${this.issuer}/api/v1/auth/health/ready`).catch(() => undefined);
      if (ready?.ok === true) return;
      await pause(25);
    }
    throw new Error(`the server is not ready after 15 s: ${this.#log}`);
  }

  /** kill -9 */
  async kill(): Promise<void> {
    const child = this.#child;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const gone = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGKILL');
    await gone;
  }

  async stop(): Promise<void> {
    await this.kill();
    await rm(this.folder, { recursive: true, force: true });
  }

  /** Runs a command of the binary; returns what it printed. */
  async run(...command: string[]): Promise<string> {
    return (await execute(binary(), command, { cwd: this.folder, env: this.environment })).stdout;
  }

  /** Adds a client for the revocation feed; returns its secret. */
  async addGateway(id: string): Promise<string> {
    const printed = await this.run('client', 'add', id, '--scope', 'propusk:revocations');
    const secret = /^secret \(shown once\): (\S+)$/m.exec(printed)?.[1];
    if (secret === undefined) throw new Error(`no secret: ${printed}`);
    return secret;
  }
}
