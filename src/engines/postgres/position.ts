import { VerdigrisError } from '../../core/errors.ts';
import { asPosition, type Position, type Positions } from '../../core/position.ts';

const LSN = /^([0-9A-Fa-f]{1,8})\/([0-9A-Fa-f]{1,8})$/;

/** The number of an LSN in any of the server's spellings (`0/16B3748`, `0/016B3748`). @throws VerdigrisError STATE_FORMAT */
export function parseLsn(text: string): bigint {
  const match = LSN.exec(text);
  if (match === null)
    throw new VerdigrisError('STATE_FORMAT', `Not a log position of PostgreSQL: ${text.slice(0, 40)}`);
  return (BigInt(`0x${match[1] as string}`) << 32n) | BigInt(`0x${match[2] as string}`);
}

/** The canonical spelling: upper case, no leading zeros, so that equal positions are equal strings. */
export function formatLsn(lsn: bigint): Position {
  // Numbers are printed several times faster than BigInts.
  const high = Number(lsn >> 32n);
  const low = Number(BigInt.asUintN(32, lsn));
  return asPosition(`${high.toString(16)}/${low.toString(16)}`.toUpperCase());
}

/** A position that the server printed, in canonical form. */
export const positionOf = (text: string): Position => formatLsn(parseLsn(text));

export const minLsn = (left: bigint, right: bigint): bigint => (left < right ? left : right);

export const maxLsn = (left: bigint, right: bigint): bigint => (left > right ? left : right);

/** A position is the LSN up to which everything is included (a commit's *end*), as text. The order is total. */
export const positions: Positions = {
  covers: (have, want) => parseLsn(have) >= parseLsn(want),
  distance: (from, to) => {
    const bytes = parseLsn(to) - parseLsn(from);
    return bytes > 0n ? Number(bytes) : 0;
  },
  describe: (position) => `LSN ${positionOf(position)}`,
};
