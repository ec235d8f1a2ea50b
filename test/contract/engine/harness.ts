import type { Engine } from '../../../src/core/engine.ts';
import type { RowRun } from '../../../src/core/change.ts';
import type { Position } from '../../../src/core/position.ts';
import type { Cell, Relation, TableName, Tuple, UNCHANGED } from '../../../src/core/table.ts';

/**
 * A row of a contract table. All contract tables have these columns (documents: these fields, `id` being their key): `id` is a 64-bit
 * integer, `n` a nullable 64-bit integer, `v` and `big` are nullable text. What differs between types is tested by each engine for itself.
 */
export interface Item {
  readonly id: number;
  readonly n: number | null;
  readonly v: string | null;
  /** Kept out of line where the server does so with large values; tests put some kilobytes into it. */
  readonly big: string | null;
}

export type ItemChange = Pick<Item, 'id'> & Partial<Item>;

export const item = (id: number, rest: Partial<Item> = {}): Item => ({
  id,
  n: id,
  v: `v${id}`,
  big: null,
  ...rest,
});

/** What a test asks of a table. */
export interface TableSpec {
  /** As the catalog shall spell it; any text that the engine takes as a name. */
  readonly name: string;
  /** `n` is unique. */
  readonly unique?: boolean;
  /** The server gives out `id` where a writer leaves it out. Only where `traits.counters`. */
  readonly counted?: boolean;
  /** Name of one more nullable text column, for names that need quoting. */
  readonly extra?: string;
}

/**
 * An ordinary client on one connection: nothing that the engine under test knows of. Its account has no right to write past a fence.
 * Every method rejects with what the server said. Without `begin` each call is a transaction of its own.
 */
export interface Writer extends AsyncDisposable {
  begin(): Promise<void>;
  commit(): Promise<void>;
  rollback(): Promise<void>;
  insert(table: TableName, ...items: readonly Item[]): Promise<void>;
  /** Inserts one row without `id` and returns the one it was given. */
  insertCounted(table: TableName): Promise<number>;
  update(table: TableName, change: ItemChange): Promise<void>;
  remove(table: TableName, ...ids: readonly number[]): Promise<void>;
  /** The row gets another key: in place where the server can, else removed and inserted in one transaction. */
  move(table: TableName, from: number, to: number): Promise<void>;
  /** All rows go, by the statement that people use for it. */
  clear(table: TableName): Promise<void>;
}

/** A database (what the engine replicates) of one test alone. Disposing removes it, and fails when something of it is still in use. */
export interface EngineDatabase extends AsyncDisposable {
  readonly address: Address;
  /** Where the state of the run goes; two databases on one server may have to differ in it. */
  readonly stateSchema: string;
  /** The engine's block of the configuration file, through another address where one is given. Without `engine`. */
  config(through?: Address): Readonly<Record<string, unknown>>;
  table(spec: TableSpec): Promise<TableName>;
  writer(): Promise<Writer>;
  /** A client that writes past the fence of this migration, as an administrator could: to plant differences on a fenced side. */
  vandal(migration: string): Promise<Writer>;
  /** The rows as a client reads them, by `id`. */
  rows(table: TableName): Promise<readonly Item[]>;
}

export interface Address {
  readonly host: string;
  readonly port: number;
}

/** A server of one test alone, which it may kill. */
export interface EngineServer extends AsyncDisposable {
  database(): Promise<EngineDatabase>;
  /** SIGKILL, or what the engine's documentation calls a crash; resolves when it is gone. What was committed is on disk. */
  kill(): Promise<void>;
  /** Starts it again on the same address and data; resolves when it takes connections. */
  start(): Promise<void>;
}

/** What this engine cannot do, or does in its own way. A test asks here for what it must see, and never leaves itself out. */
export interface EngineTraits {
  /** The server hands out numbers for rows. False: there are no counters to list. */
  readonly counters: boolean;
  /**
   * A transaction that a snapshot does not see is not in its rows. False: the snapshot is a lower bound, its rows may hold more, and held
   * changes are applied as state.
   */
  readonly exactSnapshots: boolean;
  /** The most that `ChangeStream.queued` may reach with `maxBatchBytes` of 64 KiB, in bytes. */
  readonly mostQueuedBytes: number;
  /** A transaction that wrote before the fence and is still open keeps `raise` from succeeding. False: it is refused at its commit. */
  readonly openTransactionHoldsFence: boolean;
}

/** Between neutral rows and the tuples of an engine's relations. */
export interface RowCodec {
  insert(relation: Relation, ...items: readonly Item[]): RowRun;
  /** Only the cells that are named are known; all changes of one call name the same. */
  update(relation: Relation, ...changes: readonly ItemChange[]): RowRun;
  remove(relation: Relation, ...ids: readonly number[]): RowRun;
  /** The row `from` becomes this whole row, with another key. */
  move(relation: Relation, ...moves: readonly { readonly from: number; readonly to: Item }[]): RowRun;
  clear(relation: Relation): RowRun;
  /** What a source delivered, row by row. */
  read(run: RowRun): readonly ItemEvent[];
  /** A whole row that a snapshot or a digester read. */
  item(relation: Relation, tuple: Tuple): Item;
  /** The first (and only) cell of the key. */
  key(id: number): Exclude<Cell, typeof UNCHANGED>;
  id(cell: Cell): number;
  /** Index of the column that holds `v`. */
  value(relation: Relation): number;
}

/** A change in neutral words. `set` holds what is known of the new row; a cell that was left out is not there. */
export type ItemEvent =
  | { readonly op: 'insert'; readonly set: Item }
  | { readonly op: 'update'; readonly from: number; readonly set: ItemChange }
  | { readonly op: 'delete'; readonly from: number }
  | { readonly op: 'truncate' };

/** What an engine gives the contract suite. Everything else goes through the interfaces of `src/core`. */
export interface EngineHarness {
  /** For the names of the tests: engine and version. */
  readonly name: string;
  readonly engine: Engine;
  readonly traits: EngineTraits;
  readonly rows: RowCodec;
  /** At least 40 positions of one log, each after the one before. Made up: no server has to know them. */
  readonly positions: readonly Position[];
  /** Positions of which none covers another; empty where the order is total. */
  readonly unordered: readonly Position[];
  /** A part of `config()` that must reach no message: the password. */
  readonly secret: string;
  readonly statements: {
    /** For `Session.scalar`: gives the text `1`. */
    readonly one: string;
    /** Takes longer than a minute. */
    readonly slow: string;
    /** Is refused by the server. */
    readonly wrong: string;
  };
  /** A new database on a server that tests share; calls may run side by side. `green` may be of another version than `blue`. */
  database(side: 'blue' | 'green'): Promise<EngineDatabase>;
  server(): Promise<EngineServer>;
  /** The text of a schema file that makes these tables. */
  schemaFile(database: EngineDatabase, ...specs: readonly TableSpec[]): string;
  /** The name under which {@link schemaFile} makes a table in that database. */
  tableName(database: EngineDatabase, name: string): TableName;
}
