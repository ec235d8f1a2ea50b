import { maxLsn } from './position.ts';

/** What the feedback rule looks at. All are LSNs. */
export interface Progress {
  /** End of the newest position whose checkpoint is durable on the sink. */
  readonly durable: bigint;
  /** End of the newest transaction with rows that was handed out. */
  readonly delivered: bigint;
  /** Newest position behind which the source has nothing more for us: walEnd of the last keepalive, end of an empty transaction. */
  readonly quietUntil: bigint;
  /** Bytes are queued, a transaction is open, or an in-progress transaction is spooled. */
  readonly open: boolean;
}

/** Something was received that is not durable on the sink. */
export const inflight = (progress: Progress): boolean =>
  progress.open || progress.delivered > progress.durable;

/**
 * How far the source may be told to forget, once the checkpoint says so: never past unapplied work. A position beyond `durable` must
 * first be written to the checkpoint (an idle batch) and comes back through the acknowledgement.
 */
export const flushable = (progress: Progress): bigint =>
  inflight(progress) ? progress.durable : maxLsn(progress.durable, progress.quietUntil);

/** Milliseconds between status messages; `walSenderTimeoutMs` 0 means that the server never times out. */
export const statusInterval = (walSenderTimeoutMs: number): number =>
  walSenderTimeoutMs === 0 ? 10_000 : Math.max(50, Math.min(10_000, Math.floor(walSenderTimeoutMs / 4)));

const EPOCH_2000_MS = 946_684_800_000;

/** Standby status update. The positions are exact: adding one would confirm a commit that starts where another one ends. */
export function statusMessage(
  received: bigint,
  durable: bigint,
  nowMs: number,
  replyRequested: boolean,
): Buffer {
  const message = Buffer.alloc(34);
  message[0] = 0x72;
  message.writeBigUInt64BE(maxLsn(received, durable), 1);
  message.writeBigUInt64BE(durable, 9);
  message.writeBigUInt64BE(durable, 17);
  message.writeBigInt64BE(BigInt(Math.round(nowMs) - EPOCH_2000_MS) * 1000n, 25);
  message[33] = replyRequested ? 1 : 0;
  return message;
}
