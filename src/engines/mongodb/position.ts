import { Timestamp } from 'mongodb';
import { VerdigrisError } from '../../core/errors.ts';
import { asPosition, type Position, type Positions } from '../../core/position.ts';

/**
 * Cluster times are pairs (second, counter), here one number. A transaction has one, and within a replica set no two transactions have
 * the same.
 */
export type ClusterTime = bigint;

export interface Place {
  /** Everything up to and including this time is covered. */
  readonly time: ClusterTime;
  /** `_data` of the token the stream goes on behind; null: it goes on at the time. */
  readonly token: string | null;
  /** Id of the replica set. */
  readonly set: string;
}

const TEXT = /^(\d+)\.(\d+)@([0-9a-f]*)(?::([0-9A-Fa-f]+))?$/;

/** @throws VerdigrisError STATE_FORMAT */
export function parsePosition(text: string): Place {
  const match = TEXT.exec(text);
  if (match === null)
    throw new VerdigrisError('STATE_FORMAT', `Not a log position of MongoDB: ${text.slice(0, 40)}`);
  return {
    time: clusterTime(Number(match[1]), Number(match[2])),
    set: match[3] as string,
    token: match[4] ?? null,
  };
}

export const formatPosition = ({ time, set, token }: Place): Position =>
  asPosition(`${showTime(time)}@${set}${token === null ? '' : `:${token}`}`);

export const clusterTime = (seconds: number, counter: number): ClusterTime =>
  (BigInt(seconds) << 32n) | BigInt(counter);

export const showTime = (time: ClusterTime): string => `${time >> 32n}.${time & 0xffffffffn}`;

/** @throws VerdigrisError STATE_FORMAT */
export function parseTime(text: string): ClusterTime {
  const [seconds, counter] = text.split('.');
  return clusterTime(Number(seconds), Number(counter));
}

export const timestampOf = (time: ClusterTime): Timestamp =>
  new Timestamp({ t: Number(time >> 32n), i: Number(time & 0xffffffffn) });

export const timeOf = (timestamp: Timestamp): ClusterTime =>
  clusterTime(timestamp.getHighBitsUnsigned(), timestamp.getLowBitsUnsigned());

/** The cluster time a resume token begins with: a key string of type timestamp (0x82), most significant byte first. */
export function tokenTime(token: string): ClusterTime {
  if (!/^82[0-9A-Fa-f]{16}/.test(token))
    throw new VerdigrisError('SOURCE_PROTOCOL', 'The server sent a resume token of an unknown form.');
  return BigInt(`0x${token.slice(2, 18)}`);
}

/** A position covers what was committed up to its cluster time. The order is total within a replica set. */
export const positions: Positions = {
  covers: (have, want) => parsePosition(have).time >= parsePosition(want).time,
  // Cluster times count operations, not bytes.
  distance: () => null,
  describe: (position) => `cluster time ${showTime(parsePosition(position).time)}`,
};
