import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import type pg from 'pg';
import { expect, test } from 'vitest';
import { FrameSocket } from '../../src/engines/postgres/frame-socket.ts';
import { FrameQueue, FrameSplitter, rowFrames } from '../../src/engines/postgres/plugin-frames.ts';

/** A row of one binary column that holds `x`. */
const ROW = Buffer.from([0x44, 0, 0, 0, 11, 0, 1, 0, 0, 0, 1, 0x78]);

test.each([
  ['held rows come when they are let go', false, ROW.length],
  ['held rows of a connection that has ended meanwhile are dropped', true, 0],
])('%s', async (_, ended, queued) => {
  const server = createServer((socket) => socket.end(ROW)).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const stream: Socket = connect((server.address() as AddressInfo).port, '127.0.0.1');
  const queue = new FrameQueue();
  const splitter = new FrameSplitter(queue, rowFrames({ data: () => undefined, other: () => undefined }));
  const client = { connection: { stream } } as unknown as pg.Client;
  const socket = new FrameSocket(client, splitter, (error) => {
    throw error;
  });
  await socket.hold();
  socket.resume();
  expect([queue.bytes, socket.paused]).toEqual([0, true]);
  if (ended) stream.destroy();
  socket.release();
  expect(queue.bytes).toBe(queued);
  stream.destroy();
  server.close();
});
