import { chmod, mkdir, rm } from 'node:fs/promises';
import { createConnection } from 'node:net';
import { dirname } from 'node:path';
import { createAdaptorServer } from '@hono/node-server';
import { VerdigrisError } from '../core/errors.ts';
import { createRoutes, type RouteOptions } from './routes.ts';

export interface ControlServer extends AsyncDisposable {
  readonly path: string;
}

export interface ServeOptions extends RouteOptions {
  /** How long the outcome of an act is kept for who asked for it, once the engine is about to end. Default: 5000. */
  readonly lingerMs?: number;
}

/** For answers that are on their way when the server closes. */
const ANSWER_MS = 1_000;

/**
 * Serves the control API on a unix socket that only its user may open. A socket that nobody answers on is a leftover and is
 * replaced. Disposing waits a little until the outcomes of finished acts were read.
 * @throws VerdigrisError STATE_LEASE_HELD when another engine answers there
 */
export async function serveControl(path: string, options: ServeOptions): Promise<ControlServer> {
  const { app, actions } = createRoutes(options);
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  if (await answers(path)) {
    throw new VerdigrisError('STATE_LEASE_HELD', `another engine listens on ${path}`);
  }
  await rm(path, { force: true });
  const server = createAdaptorServer({ fetch: app.fetch });
  // The socket must never be open to others, not even between listen and chmod.
  const mask = process.umask(0o177);
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(path, () => {
        server.off('error', reject);
        resolve();
      });
    });
  } finally {
    process.umask(mask);
  }
  await chmod(path, 0o600);
  return {
    path,
    [Symbol.asyncDispose]: async () => {
      const until = performance.now() + (options.lingerMs ?? 5_000);
      while (!actions.quiet && performance.now() < until)
        await new Promise((resolve) => setTimeout(resolve, 20));
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      // An outcome counts as read when it is handed to the connection; cutting that now would lose it on the way.
      const late = setTimeout(() => {
        if ('closeAllConnections' in server) server.closeAllConnections();
      }, ANSWER_MS);
      if ('closeIdleConnections' in server) server.closeIdleConnections();
      await closed;
      clearTimeout(late);
      await rm(path, { force: true });
    },
  };
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createConnection(path);
    const done = (alive: boolean): void => {
      socket.destroy();
      resolve(alive);
    };
    socket.once('connect', () => done(true));
    socket.once('error', () => done(false));
    socket.setTimeout(2_000, () => done(true));
  });
}
