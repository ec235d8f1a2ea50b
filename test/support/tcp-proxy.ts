import { connect, createServer, type Server, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

export interface TcpProxy extends AsyncDisposable {
  readonly port: number;
  readonly host: '127.0.0.1';
  /** Connections that are open through it now. */
  readonly connections: number;
  /** Resets every open connection; new ones are accepted. */
  cut(): void;
  /** Nothing passes any more in either direction, and nobody is told: sockets stay open, new ones are accepted and starve. */
  blackhole(): void;
  /** Ends `blackhole`, `delay` and `refuse`; bytes that were held back go on. */
  restore(): Promise<void>;
  /** Every piece of data arrives this much later, in both directions and in order. */
  delay(ms: number): void;
  /** Closes the port: new connections are refused. Open ones live on. */
  refuse(): Promise<void>;
  close(): Promise<void>;
}

/** A TCP proxy for network faults, on a free port of 127.0.0.1. */
export async function startTcpProxy(to: { host: string; port: number }): Promise<TcpProxy> {
  const proxy = new FaultyProxy(to);
  await proxy.listen(0);
  return proxy;
}

interface Pair {
  client: Socket;
  server: Socket;
}

class FaultyProxy implements TcpProxy {
  readonly host = '127.0.0.1';
  readonly #to: { host: string; port: number };
  readonly #pairs = new Set<Pair>();
  #listener: Server | undefined;
  #port = 0;
  #delayMs = 0;
  /** While a black hole lasts: settled by `restore`. */
  #open: PromiseWithResolvers<void> | undefined;

  constructor(to: { host: string; port: number }) {
    this.#to = to;
  }

  get port(): number {
    return this.#port;
  }

  get connections(): number {
    return this.#pairs.size;
  }

  async listen(port: number): Promise<void> {
    const listener = createServer({ allowHalfOpen: true }, (client) => this.#accept(client));
    await new Promise<void>((resolve, reject) => {
      listener.once('error', reject);
      listener.listen(port, this.host, resolve);
    });
    const address = listener.address();
    if (address === null || typeof address === 'string') throw new Error('the proxy has no port');
    this.#port = address.port;
    this.#listener = listener;
  }

  cut(): void {
    for (const pair of this.#pairs) destroy(pair);
  }

  blackhole(): void {
    this.#open ??= Promise.withResolvers<void>();
  }

  delay(ms: number): void {
    this.#delayMs = ms;
  }

  async refuse(): Promise<void> {
    const listener = this.#listener;
    this.#listener = undefined;
    // `close` waits for open connections, which are meant to live on: the port itself is closed at once.
    listener?.close();
    await Promise.resolve();
  }

  async restore(): Promise<void> {
    this.#open?.resolve();
    this.#open = undefined;
    this.#delayMs = 0;
    if (this.#listener === undefined) await this.listen(this.#port);
  }

  async close(): Promise<void> {
    this.cut();
    await this.refuse();
    this.#open?.resolve();
    this.#open = undefined;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #accept(client: Socket): void {
    const server = connect({ ...this.#to, allowHalfOpen: true });
    const pair: Pair = { client, server };
    this.#pairs.add(pair);
    for (const socket of [client, server]) {
      socket.setNoDelay(true);
      socket.on('error', () => destroy(pair));
      socket.once('close', () => {
        destroy(pair);
        this.#pairs.delete(pair);
      });
    }
    void this.#forward(client, server).catch(() => destroy(pair));
    void this.#forward(server, client).catch(() => destroy(pair));
  }

  /** One piece after the other: backpressure and order hold under a delay too. */
  async #forward(from: Socket, to: Socket): Promise<void> {
    for await (const piece of from) {
      await this.#open?.promise;
      if (this.#delayMs > 0) await sleep(this.#delayMs);
      // The black hole may have begun during the delay.
      await this.#open?.promise;
      if (to.destroyed) return;
      if (!to.write(piece as Buffer)) await drained(to);
    }
    await this.#open?.promise;
    to.end();
  }
}

function drained(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      socket.off('drain', done);
      socket.off('close', done);
      resolve();
    };
    socket.once('drain', done);
    socket.once('close', done);
  });
}

function destroy(pair: Pair): void {
  if (!pair.client.destroyed) pair.client.resetAndDestroy();
  if (!pair.server.destroyed) pair.server.resetAndDestroy();
}
