import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { flushable, statusInterval, statusMessage } from '../../src/engines/postgres/feedback.ts';

type Step =
  | { readonly kind: 'receive'; readonly bytes: number }
  | { readonly kind: 'commit' }
  | { readonly kind: 'handOut' }
  | { readonly kind: 'durable' }
  | { readonly kind: 'keepalive'; readonly bytes: number };

const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ kind: fc.constant('receive' as const), bytes: fc.integer({ min: 1, max: 100 }) }),
  fc.constant({ kind: 'commit' as const }),
  fc.constant({ kind: 'handOut' as const }),
  fc.constant({ kind: 'durable' as const }),
  fc.record({ kind: fc.constant('keepalive' as const), bytes: fc.integer({ min: 0, max: 100 }) }),
);

describe('the feedback rule', () => {
  test('keepalive never passes unapplied work: in no order of events is the start of unapplied work confirmed', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        let log = 1000n;
        let openStart: bigint | null = null;
        let queued: { start: bigint; end: bigint }[] = [];
        let applied: { start: bigint; end: bigint }[] = [];
        let [durable, delivered, quietUntil] = [1000n, 1000n, 1000n];
        for (const event of steps) {
          if (event.kind === 'receive') {
            openStart ??= log;
            log += BigInt(event.bytes);
          } else if (event.kind === 'commit' && openStart !== null) {
            log += 8n;
            queued.push({ start: openStart, end: log });
            openStart = null;
          } else if (event.kind === 'handOut' && queued.length > 0) {
            const next = queued.shift() as { start: bigint; end: bigint };
            applied.push(next);
            delivered = next.end;
          } else if (event.kind === 'durable' && applied.length > 0) {
            durable = (applied.shift() as { end: bigint }).end;
          } else if (event.kind === 'keepalive') {
            // The server reports the end of what it has decoded, also of other databases and between our rows.
            log += BigInt(event.bytes);
            quietUntil = log;
          }
          const flush = flushable({
            durable,
            delivered,
            quietUntil,
            open: openStart !== null || queued.length > 0,
          });
          const unapplied = [...applied, ...queued].map(({ end }) => end);
          for (const end of unapplied) expect(flush).toBeLessThan(end);
          if (openStart !== null)
            expect(flush).toBeLessThanOrEqual(openStart > durable ? openStart : durable);
          expect(flush).toBeGreaterThanOrEqual(durable);
        }
        queued = [];
        applied = [];
      }),
      { numRuns: 2000 },
    );
  });

  test('an idle stream may go to the end of the keepalive', () => {
    expect(flushable({ durable: 10n, delivered: 10n, quietUntil: 500n, open: false })).toBe(500n);
  });

  test('the status message carries the exact positions: plus one would confirm an adjacent commit', () => {
    const message = statusMessage(0x1_0000_0010n, 0x1_0000_0000n, Date.UTC(2000, 0, 1, 0, 0, 1), true);
    expect(message.length).toBe(34);
    expect(message[0]).toBe(0x72);
    expect(message.readBigUInt64BE(1)).toBe(0x1_0000_0010n);
    expect(message.readBigUInt64BE(9)).toBe(0x1_0000_0000n);
    expect(message.readBigUInt64BE(17)).toBe(0x1_0000_0000n);
    expect(message.readBigInt64BE(25)).toBe(1_000_000n);
    expect(message[33]).toBe(1);
  });

  test('status is sent four times per time-out of the server, and at least every ten seconds', () => {
    expect(statusInterval(60_000)).toBe(10_000);
    expect(statusInterval(3_000)).toBe(750);
    expect(statusInterval(0)).toBe(10_000);
  });
});
