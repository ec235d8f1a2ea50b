import type pg from 'pg';
import type { PreflightScope, SessionEnv } from '../../../core/engine.ts';
import type { Check as AnyCheck } from '../../../core/preflight.ts';
import { tableId, type TableName } from '../../../core/table.ts';
import type { PostgresConfig } from '../config.ts';
import type { ClientOptions } from '../connect.ts';

/** A mapped table (or a part of one) with what several checks want to know. */
export interface TableFacts {
  readonly oid: string;
  readonly table: TableName;
  /** The mapped table that it is, or is a partition or child of. */
  readonly mapped: TableName;
  readonly relkind: string;
  readonly persistence: string;
  readonly identity: string;
  readonly partition: boolean;
  /** An inheritance child that is not mapped itself: another table to the stream and the copy. */
  readonly child: boolean;
  readonly owner: string;
  /** This role has the rights of the owner. */
  readonly owned: boolean;
  readonly rowSecurity: boolean;
}

/** What a check may look at. The client is one session with bounded statements; a check leaves no transaction open. */
export interface CheckContext {
  readonly client: pg.Client;
  readonly connect: (options: Omit<ClientOptions, 'applicationName'>) => Promise<pg.Client>;
  readonly config: PostgresConfig;
  readonly env: SessionEnv;
  readonly scope: PreflightScope;
  /** server_version_num. */
  readonly version: number;
  readonly role: string;
  readonly superuser: boolean;
  /** The mapped tables that exist, with partitions and inheritance children. */
  readonly members: readonly TableFacts[];
  readonly missing: readonly TableName[];
}

export type Check = AnyCheck<CheckContext>;

/** Rows of one query, every value as text. */
export async function rowsOf<Row extends pg.QueryResultRow>(
  context: Pick<CheckContext, 'client'>,
  sql: string,
  parameters: readonly unknown[] = [],
): Promise<readonly Row[]> {
  return (await context.client.query<Row>(sql, [...parameters])).rows;
}

/** The setting's value in its base unit, or null when this version does not have it. */
export async function settingOf(context: Pick<CheckContext, 'client'>, name: string): Promise<string | null> {
  const rows = await rowsOf<{ setting: string }>(context, 'SELECT setting FROM pg_settings WHERE name = $1', [
    name,
  ]);
  return rows[0]?.setting ?? null;
}

export const oidsOf = (members: readonly TableFacts[]): readonly string[] =>
  members.map((member) => member.oid);

/** Mapped tables and partitions that hold rows themselves. */
export const holdingRows = (members: readonly TableFacts[]): readonly TableFacts[] =>
  members.filter((member) => member.relkind === 'r' && !member.child);

/** The mapped tables themselves. */
export const mappedOnly = (members: readonly TableFacts[]): readonly TableFacts[] =>
  members.filter((member) => tableId(member.table) === tableId(member.mapped));

export const slotName = (context: CheckContext): string =>
  context.config.replication.slot ?? `verdigris_${context.env.migration}`;

export const publicationName = (context: CheckContext): string =>
  context.config.replication.publication ?? `verdigris_${context.env.migration}`;

export const megabytes = (bytes: number): string => `${Math.round(bytes / 2 ** 20)} MiB`;
