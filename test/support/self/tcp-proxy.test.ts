import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';

import { expect, it, onTestFinished } from 'vitest';

import { startTcpProxy } from '../tcp-proxy.ts';
import { waitFor } from '../wait.ts';

interface Echo {
  proxy: Awaited<ReturnType<typeof startTcpProxy>>;
  open: () => Promise<{ socket: Socket; heard: () => string }>;
}

async function echoBehindProxy(): Promise<Echo> {
  const server = createServer((socket) => {
    socket.on('error', () => undefined);
    socket.pipe(socket);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  const proxy = await startTcpProxy({ host: '127.0.0.1', port: address.port });
  onTestFinished(async () => {
    await proxy.close();
    server.close();
  });
  return {
    proxy,
    async open() {
      const socket = connect({ host: proxy.host, port: proxy.port });
      let heard = '';
      socket.on('data', (piece: Buffer) => (heard += piece.toString()));
      socket.on('error', () => undefined);
      await once(socket, 'connect');
      onTestFinished(() => void socket.destroy());
      return { socket, heard: () => heard };
    },
  };
}

it('holds back what is sent into a black hole, and lets it go on afterwards', async () => {
  const { proxy, open } = await echoBehindProxy();
  const { socket, heard } = await open();
  socket.write('a');
  await waitFor(() => heard() === 'a', { what: 'the echo' });
  proxy.blackhole();
  socket.write('b');
  await expect(
    waitFor(() => heard() === 'ab', { what: 'an echo that must not come', timeoutMs: 200 }),
  ).rejects.toThrow('gave up');
  expect(socket.destroyed).toBe(false);
  await proxy.restore();
  await waitFor(() => heard() === 'ab', { what: 'the echo after the black hole' });
});

it('cuts open connections and takes new ones', async () => {
  const { proxy, open } = await echoBehindProxy();
  const first = await open();
  first.socket.write('x');
  await waitFor(() => first.heard() === 'x', { what: 'the echo' });
  const closed = new Promise((resolve) => first.socket.once('close', resolve));
  proxy.cut();
  await closed;
  const second = await open();
  second.socket.write('y');
  await waitFor(() => second.heard() === 'y', { what: 'the echo of the second connection' });
});

it('refuses new connections and leaves open ones alone, until it is restored on the same port', async () => {
  const { proxy, open } = await echoBehindProxy();
  const { port } = proxy;
  const first = await open();
  await proxy.refuse();
  await expect(open()).rejects.toThrow('ECONNREFUSED');
  first.socket.write('z');
  await waitFor(() => first.heard() === 'z', { what: 'the echo of the open connection' });
  await proxy.restore();
  expect(proxy.port).toBe(port);
  await open();
});

it('delays', async () => {
  const { proxy, open } = await echoBehindProxy();
  const { socket, heard } = await open();
  proxy.delay(100);
  const started = performance.now();
  socket.write('slow');
  await waitFor(() => heard() === 'slow', { what: 'the late echo' });
  expect(performance.now() - started).toBeGreaterThanOrEqual(195);
});
