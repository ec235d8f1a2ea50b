import type { Tuple } from '../../core/table.ts';

/** A column as a Relation message describes it. */
export interface WireColumn {
  readonly name: string;
  readonly typeOid: number;
  readonly typmod: number;
  /** Part of the replica identity. FULL flags every column, so this is no primary key. */
  readonly inIdentity: boolean;
  /** Text of this type is always ASCII. */
  readonly ascii: boolean;
}

export interface RelationMessage {
  readonly kind: 'relation';
  readonly id: number;
  readonly schema: string;
  readonly name: string;
  /** relreplident: d, n, f or i. */
  readonly identity: 'd' | 'n' | 'f' | 'i';
  readonly columns: readonly WireColumn[];
}

export interface BeginMessage {
  readonly kind: 'begin';
  /** Where the commit record starts. */
  readonly commitLsn: bigint;
  readonly commitMs: number;
  readonly xid: number;
}

export interface CommitMessage {
  readonly kind: 'commit';
  readonly commitLsn: bigint;
  /** Where the commit record ends: the only position that may be acknowledged. */
  readonly endLsn: bigint;
  readonly commitMs: number;
}

/** One row. */
export interface RowMessage {
  readonly kind: 'insert' | 'update' | 'delete';
  readonly relation: RelationMessage;
  /** Null for a delete. */
  readonly after: Tuple | null;
  /** Old key (other cells UNCHANGED), whole old row, or null when neither was sent. */
  readonly before: Tuple | null;
}

export interface TruncateMessage {
  readonly kind: 'truncate';
  readonly relations: readonly RelationMessage[];
  readonly cascade: boolean;
  readonly restartIdentity: boolean;
}

export interface LogicalMessage {
  readonly kind: 'message';
  readonly transactional: boolean;
  readonly lsn: bigint;
  readonly prefix: string;
  readonly content: Buffer;
}

export interface StreamCommitMessage {
  readonly kind: 'streamCommit';
  readonly xid: number;
  readonly commitLsn: bigint;
  readonly endLsn: bigint;
  readonly commitMs: number;
}

/** Everything pgoutput can send in protocol versions 1 and 2. */
export type Message =
  | RelationMessage
  | BeginMessage
  | CommitMessage
  | RowMessage
  | TruncateMessage
  | LogicalMessage
  | { readonly kind: 'origin'; readonly lsn: bigint; readonly name: string }
  | { readonly kind: 'type'; readonly oid: number; readonly schema: string; readonly name: string }
  | { readonly kind: 'streamStart'; readonly xid: number; readonly first: boolean }
  | { readonly kind: 'streamStop' }
  | StreamCommitMessage
  | { readonly kind: 'streamAbort'; readonly xid: number; readonly subXid: number };
