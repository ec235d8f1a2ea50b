import type {
  StoredDifference,
  StoredVerification,
  TableProgress,
  VerificationRound,
  VerificationStore,
  VerifyMode,
} from '../../core/verification.ts';
import { plain } from './sink-session.ts';
import { cellText, textArray } from './sink-text.ts';
import type { Statement, Wire } from './sink-wire.ts';
import { ident } from './sql.ts';
import { stateTable, VERIFICATION_TABLES } from './state-tables.ts';

export interface VerificationStoreOptions {
  readonly stateSchema: string;
  /** Runs work on the connection of the state. */
  readonly use: <T>(work: (wire: Wire) => Promise<T>) => Promise<T>;
  /** Runs statements in one transaction that survives a crash. */
  readonly durably: (wire: Wire, statements: readonly Statement[]) => Promise<unknown>;
}

/** The last verification of every run, beside green's data. */
export class PostgresVerificationStore implements VerificationStore {
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

  load(id: string): Promise<StoredVerification | null> {
    return this.#o.use(async (wire) => {
      if (!(await this.#present(wire))) return null;
      const { rows } = await wire.one(
        `SELECT number::text, mode, pg_catalog.array_to_json(tables)::text, state, spent_ms::text, ended_at FROM ${this.#name('verify_round')} WHERE id = $1`,
        [id],
      );
      const row = rows[0];
      if (row === undefined) return null;
      const tables = await wire.one(
        `SELECT table_name, pg_catalog.array_to_json(boundaries)::text, next::text, done::int::text, rows::text, differences::text, unsettled::text
         FROM ${this.#name('verify_table')} WHERE id = $1 ORDER BY table_name`,
        [id],
      );
      const found = await wire.one(
        `SELECT table_name, kind, key, pg_catalog.array_to_json(columns)::text, first_seen FROM ${this.#name('verify_difference')} WHERE id = $1 ORDER BY ordinal`,
        [id],
      );
      return {
        round: {
          number: Number(row[0]),
          mode: row[1] as VerifyMode,
          tables: JSON.parse(row[2] as string) as string[],
          state: row[3] as VerificationRound['state'],
          spentMs: Number(row[4]),
          endedAt: row[5] ?? null,
        },
        tables: tables.rows.map((one) => ({
          table: one[0] as string,
          boundaries: one[1] === null || one[1] === undefined ? null : (JSON.parse(one[1]) as string[]),
          next: Number(one[2]),
          done: one[3] === '1',
          rows: Number(one[4]),
          differences: Number(one[5]),
          unsettled: Number(one[6]),
        })),
        differences: found.rows.map((one) => ({
          table: one[0] as string,
          kind: one[1] as StoredDifference['kind'],
          key: JSON.parse(one[2] as string) as StoredDifference['key'],
          columns: JSON.parse(one[3] as string) as string[],
          firstSeen: one[4] as string,
        })),
      };
    });
  }

  begin(id: string, term: number, round: VerificationRound): Promise<void> {
    return this.#write(id, term, [...this.#removed(id), this.#round(id, round)]);
  }

  advance(
    id: string,
    term: number,
    progress: TableProgress,
    found: readonly StoredDifference[],
  ): Promise<void> {
    const { table, boundaries, next, done, rows, differences, unsettled } = progress;
    const values = [
      id,
      table,
      boundaries === null ? null : textArray(boundaries.map((cell) => cellText(cell))),
      String(next),
      String(done),
      String(rows),
      String(differences),
      String(unsettled),
    ];
    const kept = plain(
      `INSERT INTO ${this.#name('verify_table')} (id, table_name, boundaries, next, done, rows, differences, unsettled)
       VALUES ($1, $2, $3::text[], $4::integer, $5::boolean, $6::bigint, $7::bigint, $8::bigint)
       ON CONFLICT (id, table_name) DO UPDATE SET boundaries = excluded.boundaries, next = excluded.next, done = excluded.done,
         rows = excluded.rows, differences = excluded.differences, unsettled = excluded.unsettled`,
      values,
    );
    return this.#write(id, term, [kept, ...this.#found(id, found)]);
  }

  finish(
    id: string,
    term: number,
    round: VerificationRound,
    differences?: readonly StoredDifference[],
  ): Promise<void> {
    const replaced =
      differences === undefined
        ? []
        : [
            plain(`DELETE FROM ${this.#name('verify_difference')} WHERE id = $1`, [id]),
            ...this.#found(id, differences),
          ];
    return this.#write(id, term, [
      plain(`DELETE FROM ${this.#name('verify_round')} WHERE id = $1`, [id]),
      this.#round(id, round),
      ...replaced,
    ]);
  }

  retire(id: string): Promise<void> {
    return this.#o.use(async (wire) => {
      if (await this.#present(wire)) await this.#o.durably(wire, this.#removed(id));
    });
  }

  #write(id: string, term: number, statements: readonly Statement[]): Promise<void> {
    // Divides by zero where another term stands: it must fail on the server.
    const guard = plain(
      `WITH l AS (SELECT 1 FROM ${stateTable(this.#o.stateSchema, 'lease')} WHERE id = $1 AND term = $2::bigint FOR KEY SHARE)
       SELECT 1 / count(*) FROM l`,
      [id, String(term)],
    );
    return this.#o.use(async (wire) => {
      await this.#o.durably(wire, [guard, ...statements]);
    });
  }

  #round(id: string, { number, mode, tables, state, spentMs, endedAt }: VerificationRound): Statement {
    return plain(
      `INSERT INTO ${this.#name('verify_round')} (id, number, mode, tables, state, spent_ms, ended_at)
       VALUES ($1, $2::bigint, $3, $4::text[], $5, $6::bigint, $7)`,
      [id, String(number), mode, textArray(tables), state, String(Math.round(spentMs)), endedAt],
    );
  }

  #found(id: string, differences: readonly StoredDifference[]): Statement[] {
    return differences.map(({ table, kind, key, columns, firstSeen }) =>
      plain(
        `INSERT INTO ${this.#name('verify_difference')} (id, table_name, kind, key, columns, first_seen) VALUES ($1, $2, $3, $4, $5::text[], $6)`,
        [id, table, kind, JSON.stringify(key), textArray(columns), firstSeen],
      ),
    );
  }

  #removed(id: string): Statement[] {
    return VERIFICATION_TABLES.map((table) => plain(`DELETE FROM ${this.#name(table)} WHERE id = $1`, [id]));
  }

  async #present(wire: Wire): Promise<boolean> {
    const { rows } = await wire.one('SELECT pg_catalog.to_regclass($1) IS NOT NULL', [
      this.#name('verify_difference'),
    ]);
    return rows[0]?.[0] === 't';
  }

  #name(table: (typeof VERIFICATION_TABLES)[number]): string {
    return `${ident(this.#o.stateSchema)}.${table}`;
  }

  #ddl(): string[] {
    return [
      `CREATE TABLE IF NOT EXISTS ${this.#name('verify_round')} (id text PRIMARY KEY, number bigint NOT NULL, mode text NOT NULL,
        tables text[] NOT NULL, state text NOT NULL, spent_ms bigint NOT NULL, ended_at text)`,
      `CREATE TABLE IF NOT EXISTS ${this.#name('verify_table')} (id text, table_name text, boundaries text[], next integer NOT NULL,
        done boolean NOT NULL, rows bigint NOT NULL, differences bigint NOT NULL, unsettled bigint NOT NULL, PRIMARY KEY (id, table_name))`,
      `CREATE TABLE IF NOT EXISTS ${this.#name('verify_difference')} (ordinal bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, id text NOT NULL,
        table_name text NOT NULL, kind text NOT NULL, key text NOT NULL, columns text[] NOT NULL, first_seen text NOT NULL)`,
    ];
  }
}
