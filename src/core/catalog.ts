import type { Relation, TableName } from './table.ts';

/** Reads the layout of tables. */
export interface Catalog {
  /** Ordinary tables that can be replicated, without the server's own and ours. */
  tables(): Promise<readonly TableName[]>;
  /**
   * The layout as a source (without columns that its log does not carry).
   * @throws VerdigrisError SCHEMA_TABLE_MISSING
   */
  source(table: TableName): Promise<Relation>;
  /** The layout as a sink. @throws VerdigrisError SCHEMA_TABLE_MISSING */
  target(table: TableName): Promise<Relation>;
  /** Runs the operator's schema file, as it is, when the named tables do not exist yet. Returns whether it ran. */
  applySchema(sql: string, tables: readonly TableName[]): Promise<boolean>;
  /**
   * The layouts that the schema file would make, as sinks; leaves nothing behind. Refused where not
   * `capabilities.transactionalSchema`, and for a file that cannot run inside one transaction.
   * @throws VerdigrisError SCHEMA_UNSUPPORTED
   */
  previewSchema(sql: string, tables: readonly TableName[]): Promise<readonly Relation[]>;
  /**
   * Changes whenever the rows of one of these tables may have changed without a row event in the log (the table was written anew).
   * A truncate, which is in the log, may change it too.
   */
  rewrites(tables: readonly TableName[]): Promise<string>;
  /** Fingerprint of the layouts of these tables, to notice a change that was not in the log. */
  fingerprint(tables: readonly TableName[]): Promise<string>;
  serverVersion(): Promise<string>;
}
