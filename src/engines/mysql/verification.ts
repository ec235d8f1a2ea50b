import type {
  StoredDifference,
  StoredVerification,
  TableProgress,
  VerificationRound,
  VerificationStore,
  VerifyMode,
} from '../../core/verification.ts';
import { text } from './cells.ts';
import type { Link } from './connect.ts';
import { leaseGuard } from './lease.ts';
import { ident, literal } from './sql.ts';
import { VERIFICATION_TABLES } from './state-tables.ts';
import { transact } from './transact.ts';

interface Options {
  readonly stateSchema: string;
  readonly use: <T>(work: (link: Link) => Promise<T>) => Promise<T>;
}

const TAIL = 'ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin';
const json = (value: unknown): string => literal(JSON.stringify(value));
const nullable = (value: string | null): string => (value === null ? 'NULL' : literal(value));

/** The last round of verification, beside the state of its run. */
export class MysqlVerificationStore implements VerificationStore {
  readonly #o: Options;

  constructor(options: Options) {
    this.#o = options;
  }

  prepare(): Promise<void> {
    return this.#o.use(async (link) => {
      await link.run(
        `CREATE TABLE IF NOT EXISTS ${this.#name('verify_round')} (id varchar(190) NOT NULL PRIMARY KEY, number bigint NOT NULL, mode varchar(16) NOT NULL,
          tables longtext NOT NULL, state varchar(16) NOT NULL, spent_ms bigint NOT NULL, ended_at varchar(40) NULL) ${TAIL}`,
      );
      await link.run(
        `CREATE TABLE IF NOT EXISTS ${this.#name('verify_table')} (id varchar(190) NOT NULL, table_name varchar(190) NOT NULL, boundaries longtext NULL,
          next_range int NOT NULL, done tinyint NOT NULL, row_count bigint NOT NULL, differences bigint NOT NULL, unsettled bigint NOT NULL,
          PRIMARY KEY (id, table_name)) ${TAIL}`,
      );
      await link.run(
        `CREATE TABLE IF NOT EXISTS ${this.#name('verify_difference')} (ordinal bigint NOT NULL AUTO_INCREMENT PRIMARY KEY, id varchar(190) NOT NULL,
          table_name varchar(190) NOT NULL, kind varchar(16) NOT NULL, row_key longtext NOT NULL, columns longtext NOT NULL, first_seen varchar(40) NOT NULL,
          KEY (id)) ${TAIL}`,
      );
    });
  }

  load(id: string): Promise<StoredVerification | null> {
    return this.#o.use(async (link) => {
      if (!(await this.#present(link))) return null;
      const where = `WHERE id = ${literal(id)}`;
      const row = (
        await link.rows(
          `SELECT number, mode, tables, state, spent_ms, ended_at FROM ${this.#name('verify_round')} ${where}`,
        )
      )[0];
      if (row === undefined) return null;
      const tables = await link.rows(
        `SELECT table_name, boundaries, next_range, done, row_count, differences, unsettled FROM ${this.#name('verify_table')} ${where} ORDER BY table_name`,
      );
      const found = await link.rows(
        `SELECT table_name, kind, row_key, columns, first_seen FROM ${this.#name('verify_difference')} ${where} ORDER BY ordinal`,
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
        tables: tables.map((one) => ({
          table: one[0] as string,
          boundaries: one[1] === null || one[1] === undefined ? null : (JSON.parse(one[1]) as string[]),
          next: Number(one[2]),
          done: one[3] === '1',
          rows: Number(one[4]),
          differences: Number(one[5]),
          unsettled: Number(one[6]),
        })),
        differences: found.map((one) => ({
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
    const edges =
      boundaries === null ? 'NULL' : json(boundaries.map((cell) => (cell === null ? null : text(cell))));
    const kept = `REPLACE INTO ${this.#name('verify_table')} (id, table_name, boundaries, next_range, done, row_count, differences, unsettled)
      VALUES (${literal(id)}, ${literal(table)}, ${edges}, ${next}, ${done ? 1 : 0}, ${rows}, ${differences}, ${unsettled})`;
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
            `DELETE FROM ${this.#name('verify_difference')} WHERE id = ${literal(id)}`,
            ...this.#found(id, differences),
          ];
    return this.#write(id, term, [
      `DELETE FROM ${this.#name('verify_round')} WHERE id = ${literal(id)}`,
      this.#round(id, round),
      ...replaced,
    ]);
  }

  retire(id: string): Promise<void> {
    return this.#o.use(async (link) => {
      if (!(await this.#present(link))) return;
      await transact(link, async () => {
        for (const statement of this.#removed(id)) await link.run(statement);
      });
    });
  }

  #write(id: string, term: number, statements: readonly string[]): Promise<void> {
    return this.#o.use((link) =>
      transact(link, async () => {
        await link.rows(leaseGuard(this.#o.stateSchema, id, term));
        for (const statement of statements) await link.run(statement);
      }),
    );
  }

  #round(id: string, { number, mode, tables, state, spentMs, endedAt }: VerificationRound): string {
    return `INSERT INTO ${this.#name('verify_round')} (id, number, mode, tables, state, spent_ms, ended_at) VALUES
      (${literal(id)}, ${number}, ${literal(mode)}, ${json(tables)}, ${literal(state)}, ${Math.round(spentMs)}, ${nullable(endedAt)})`;
  }

  #found(id: string, differences: readonly StoredDifference[]): string[] {
    return differences.map(
      ({ table, kind, key, columns, firstSeen }) =>
        `INSERT INTO ${this.#name('verify_difference')} (id, table_name, kind, row_key, columns, first_seen) VALUES
         (${literal(id)}, ${literal(table)}, ${literal(kind)}, ${json(key)}, ${json(columns)}, ${literal(firstSeen)})`,
    );
  }

  #removed(id: string): string[] {
    return VERIFICATION_TABLES.map((table) => `DELETE FROM ${this.#name(table)} WHERE id = ${literal(id)}`);
  }

  async #present(link: Link): Promise<boolean> {
    const found = await link.value(
      `SELECT 1 FROM information_schema.TABLES WHERE TABLE_SCHEMA = ${literal(this.#o.stateSchema)} AND TABLE_NAME = 'verify_difference'`,
    );
    return found !== null;
  }

  #name(table: (typeof VERIFICATION_TABLES)[number]): string {
    return `${ident(this.#o.stateSchema)}.${ident(table)}`;
  }
}
