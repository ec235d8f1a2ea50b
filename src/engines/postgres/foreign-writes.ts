import type {
  ForeignTransaction,
  ForeignWriteOwner,
  ForeignWrites,
  ForeignWriteStore,
} from '../../core/foreign-writes.ts';
import { asPosition, type Position } from '../../core/position.ts';
import { leaseGuard } from './lease.ts';
import { plain } from './sink-session.ts';
import { textArray } from './sink-text.ts';
import type { Statement, Wire } from './sink-wire.ts';
import { ident } from './sql.ts';
import { FOREIGN_TABLES } from './state-tables.ts';
import type { VerificationStoreOptions } from './verification.ts';

type Found = Parameters<ForeignWriteStore['record']>[1];

/** Foreign writes of every run, beside its state. */
export class PostgresForeignWrites implements ForeignWriteStore {
  readonly #o: VerificationStoreOptions;

  constructor(options: VerificationStoreOptions) {
    this.#o = options;
  }

  prepare(): Promise<void> {
    return this.#o.use(async (wire) => {
      if (await this.#present(wire)) return;
      await this.#o.durably(wire, [
        plain('SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended($1, 0))', [
          `verdigris state ${this.#o.stateSchema}`,
        ]),
        ...this.#ddl().map((text) => plain(text)),
      ]);
    });
  }

  load(owner: ForeignWriteOwner, limit: number): Promise<ForeignWrites | null> {
    const { id, side } = owner;
    return this.#o.use(async (wire) => {
      if (!(await this.#present(wire))) return null;
      const of = 'id = $1 AND side = $2';
      await this.#o.durably(wire, [
        this.#guard(owner),
        plain(
          `DELETE FROM ${this.#name('foreign_change')} c USING ${this.#name('foreign_transaction')} t
           WHERE c.id = $1 AND c.side = $2 AND t.id = c.id AND t.side = c.side AND t.sequence = c.sequence AND NOT t.complete`,
          [id, side],
        ),
        plain(`DELETE FROM ${this.#name('foreign_transaction')} WHERE ${of} AND NOT complete`, [id, side]),
      ]);
      const { rows } = await wire.one(
        `SELECT w.upto, w.settled::text, coalesce((SELECT max(sequence) FROM ${this.#name('foreign_transaction')} WHERE ${of}), 0)::text,
           (SELECT count(*) FROM ${this.#name('foreign_change')} WHERE ${of})::text
         FROM ${this.#name('foreign_watch')} w WHERE ${of}`,
        [id, side],
      );
      const [row] = rows;
      if (row === undefined) return null;
      const open = await wire.one(
        `SELECT sequence::text, position, commit_ms::text, rows FROM ${this.#name('foreign_transaction')}
         WHERE ${of} AND sequence > $3::bigint ORDER BY sequence LIMIT $4::bigint`,
        [id, side, row[1] as string, String(limit)],
      );
      return {
        upto: asPosition(row[0] as string),
        settled: Number(row[1]),
        sequence: Number(row[2]),
        kept: Number(row[3]),
        open: open.rows.map((one) => ({
          sequence: Number(one[0]),
          position: asPosition(one[1] as string),
          commitMs: Number(one[2]),
          rows: JSON.parse(one[3] as string) as ForeignTransaction['rows'],
        })),
      };
    });
  }

  begin(owner: ForeignWriteOwner, at: Position): Promise<void> {
    const statement = plain(
      `INSERT INTO ${this.#name('foreign_watch')} (id, side, upto, settled) VALUES ($1, $2, $3, 0)
       ON CONFLICT (id, side) DO UPDATE SET upto = excluded.upto`,
      [owner.id, owner.side, at],
    );
    return this.#write(owner, [statement]);
  }

  record(owner: ForeignWriteOwner, found: Found, upto: Position | null): Promise<void> {
    const { id, side } = owner;
    const ended =
      upto === null
        ? []
        : [
            plain(
              `UPDATE ${this.#name('foreign_transaction')} SET complete = true WHERE id = $1 AND side = $2 AND NOT complete`,
              [id, side],
            ),
            plain(`UPDATE ${this.#name('foreign_watch')} SET upto = $3 WHERE id = $1 AND side = $2`, [
              id,
              side,
              upto,
            ]),
          ];
    return this.#write(owner, [...this.#found(owner, found), ...ended]);
  }

  settle({ id, side, term }: ForeignWriteOwner, sequence: number): Promise<void> {
    return this.#write({ id, side, term }, [
      plain(
        `UPDATE ${this.#name('foreign_watch')} SET settled = greatest(settled, $3::bigint) WHERE id = $1 AND side = $2`,
        [id, side, String(sequence)],
      ),
    ]);
  }

  retire(id: string): Promise<void> {
    return this.#o.use(async (wire) => {
      if (!(await this.#present(wire))) return;
      const removed = FOREIGN_TABLES.map((table) =>
        plain(`DELETE FROM ${this.#name(table)} WHERE id = $1`, [id]),
      );
      await this.#o.durably(wire, removed);
    });
  }

  #found({ id, side }: ForeignWriteOwner, found: Found): readonly Statement[] {
    const changes = found.flatMap((one) =>
      one.changes.map((change) => ({ ...change, sequence: one.sequence })),
    );
    const image = (cells: Readonly<Record<string, string | null>> | null): string | null =>
      cells === null ? null : JSON.stringify(cells);
    return [
      ...found.map(({ sequence, position, commitMs, rows }) =>
        plain(
          `INSERT INTO ${this.#name('foreign_transaction')} (id, side, sequence, position, commit_ms, rows, complete)
           VALUES ($1, $2, $3::bigint, $4, $5::bigint, $6, false)
           ON CONFLICT (id, side, sequence) DO UPDATE SET position = excluded.position, rows = excluded.rows`,
          [id, side, String(sequence), position, String(Math.round(commitMs)), JSON.stringify(rows)],
        ),
      ),
      ...(changes.length === 0
        ? []
        : [
            plain(
              `INSERT INTO ${this.#name('foreign_change')} (id, side, sequence, table_name, op, before, after)
               SELECT $1, $2, u.s::bigint, u.t, u.o, u.b, u.a FROM unnest($3::text[], $4::text[], $5::text[], $6::text[], $7::text[]) AS u(s, t, o, b, a)`,
              [
                id,
                side,
                textArray(changes.map((change) => String(change.sequence))),
                textArray(changes.map((change) => change.table)),
                textArray(changes.map((change) => change.op)),
                textArray(changes.map((change) => image(change.before))),
                textArray(changes.map((change) => image(change.after))),
              ],
            ),
          ]),
    ];
  }

  #guard({ id, term }: ForeignWriteOwner): Statement {
    return leaseGuard(this.#o.stateSchema, id, term);
  }

  #write(owner: ForeignWriteOwner, statements: readonly Statement[]): Promise<void> {
    return this.#o.use(async (wire) => {
      await this.#o.durably(wire, [this.#guard(owner), ...statements]);
    });
  }

  async #present(wire: Wire): Promise<boolean> {
    const { rows } = await wire.one('SELECT pg_catalog.to_regclass($1) IS NOT NULL', [
      this.#name('foreign_watch'),
    ]);
    return rows[0]?.[0] === 't';
  }

  #name(table: (typeof FOREIGN_TABLES)[number]): string {
    return `${ident(this.#o.stateSchema)}.${table}`;
  }

  #ddl(): string[] {
    return [
      `CREATE TABLE IF NOT EXISTS ${this.#name('foreign_transaction')} (id text, side text, sequence bigint, position text NOT NULL,
        commit_ms bigint NOT NULL, rows text NOT NULL, complete boolean NOT NULL, PRIMARY KEY (id, side, sequence))`,
      `CREATE TABLE IF NOT EXISTS ${this.#name('foreign_change')} (ordinal bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, id text NOT NULL,
        side text NOT NULL, sequence bigint NOT NULL, table_name text NOT NULL, op text NOT NULL, before text, after text)`,
      `CREATE INDEX IF NOT EXISTS foreign_change_id ON ${this.#name('foreign_change')} (id, side, sequence)`,
      `CREATE TABLE IF NOT EXISTS ${this.#name('foreign_watch')} (id text, side text, upto text NOT NULL, settled bigint NOT NULL,
        PRIMARY KEY (id, side))`,
    ];
  }
}
