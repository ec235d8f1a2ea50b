import type { ChangeBatch } from '../../core/change.ts';
import { VerdigrisError } from '../../core/errors.ts';
import { flushable, statusInterval, statusMessage } from './feedback.ts';
import { maxLsn, parseLsn } from './position.ts';

/** Least time between two status messages that only carry a new acknowledgement. */
const ACK_MS = 1_000;

/** What the pulse needs of the connection. */
export interface PulseWire {
  /** The server's wal_sender_timeout; 0: none. */
  readonly timeoutMs: number;
  readonly lastReceivedMs: number | null;
  readonly paused: boolean;
  readonly queue: { readonly empty: boolean };
  send(status: Buffer): boolean;
  cut(): void;
}

/** The positions of a stream and the status messages that carry them, on a timer that waits for nobody. */
export class Pulse {
  /** How far the log has been received. */
  received: bigint;
  /** Acknowledged: durable on the sink. */
  durable: bigint;
  /** End of the newest thing that was handed out. */
  handedOut: bigint;
  /** The server wants an answer that confirms more than could be confirmed yet (it waits for that when it shuts down). */
  asked = false;
  /** End of the newest transaction with rows that was handed out. */
  #delivered: bigint;
  #quietUntil: bigint;
  readonly #wire: PulseWire;
  readonly #lost: (error: VerdigrisError) => void;
  #timer: NodeJS.Timeout | null = null;
  #ackTimer: NodeJS.Timeout | null = null;
  #lastStatusMs = 0;
  #silentTicks = 0;
  #stopped = false;

  constructor(from: bigint, wire: PulseWire, lost: (error: VerdigrisError) => void) {
    this.received = this.durable = this.handedOut = this.#delivered = this.#quietUntil = from;
    this.#wire = wire;
    this.#lost = lost;
  }

  start(): void {
    this.#timer = setInterval(() => this.#tick(), statusInterval(this.#wire.timeoutMs));
    this.#send(true);
  }

  /** Sends what is acknowledged so far, for the last time. */
  stop(): void {
    this.#stopped = true;
    if (this.#timer !== null) clearInterval(this.#timer);
    if (this.#ackTimer !== null) clearTimeout(this.#ackTimer);
    this.#send(false);
  }

  data(lsn: bigint): void {
    this.received = maxLsn(this.received, lsn);
  }

  /** A keepalive that asks is answered at once, with what is acknowledged. */
  keepalive(walEnd: bigint, replyRequested: boolean): void {
    this.data(walEnd);
    this.quiet(walEnd);
    if (!replyRequested) return;
    this.asked = true;
    this.#send(false);
  }

  /** Up to here the source has nothing more for us than was received. */
  quiet(lsn: bigint): void {
    this.#quietUntil = maxLsn(this.#quietUntil, lsn);
  }

  handOut(batch: ChangeBatch): void {
    if (batch.end === null) return;
    this.handedOut = maxLsn(this.handedOut, parseLsn(batch.end));
    if (batch.runs.length > 0) this.#delivered = this.handedOut;
    if (batch.idle) this.asked = false;
  }

  /** Moves forward only, and not beyond what was handed out: nobody can have applied that. */
  ack(lsn: bigint): void {
    const durable = lsn > this.handedOut ? this.handedOut : lsn;
    if (durable <= this.durable) return;
    this.durable = durable;
    if (this.#stopped || this.#ackTimer !== null) return;
    const due = this.#lastStatusMs + ACK_MS - performance.now();
    if (this.asked || due <= 0) this.#send(false);
    else {
      this.#ackTimer = setTimeout(() => {
        this.#ackTimer = null;
        this.#send(false);
      }, due);
    }
  }

  /** The position of an idle batch, or null. `open`: bytes queued, a transaction open or spooled. */
  idlePosition(open: boolean): bigint | null {
    const position = flushable({
      durable: this.durable,
      delivered: this.#delivered,
      quietUntil: this.#quietUntil,
      open,
    });
    return position > this.handedOut && position > this.durable ? position : null;
  }

  #send(replyRequested: boolean): void {
    this.#lastStatusMs = performance.now();
    this.#wire.send(statusMessage(this.received, this.durable, Date.now(), replyRequested));
  }

  /** Status, and the watchdog: a peer that says nothing for two of its own time-outs is gone, unless it is we who do not read. */
  #tick(): void {
    const wire = this.#wire;
    const silentMs = performance.now() - (wire.lastReceivedMs ?? performance.now());
    // Our regular status keeps the server from asking, so we ask when we heard nothing for a while.
    this.#send(silentMs >= statusInterval(wire.timeoutMs));
    const silent = wire.timeoutMs > 0 && silentMs > 2 * wire.timeoutMs && wire.queue.empty && !wire.paused;
    // Twice in a row: after a blocked event loop the first tick comes before the bytes that are waiting.
    this.#silentTicks = silent ? this.#silentTicks + 1 : 0;
    if (this.#silentTicks < 2) return;
    this.#lost(
      new VerdigrisError('SOURCE_LOST', `The source has sent nothing for ${Math.round(silentMs / 1000)} s.`),
    );
    wire.cut();
  }
}
