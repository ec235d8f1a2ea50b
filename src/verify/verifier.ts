import { createHash } from 'node:crypto';
import type { Clock } from '../core/clock.ts';
import type { Digester } from '../core/digest.ts';
import { VerdigrisError } from '../core/errors.ts';
import type { TablePlan } from '../core/plan.ts';
import type { KeyRange } from '../core/snapshot.ts';
import { showTable, type Cell } from '../core/table.ts';
import { compare, type Finding } from './compare.ts';
import { RowSet, expect } from './expected.ts';
import type { VerifyTable } from './verify-table.ts';
import type { Difference, Report, TableReport, VerifyProgress } from './report.ts';

export interface VerifierOptions {
  readonly blue: Digester;
  readonly green: Digester;
  readonly tables: readonly VerifyTable[];
  /** Resolves when everything that was committed on blue before the call is applied on green. */
  readonly settle: (signal: AbortSignal) => Promise<void>;
  readonly settings: {
    readonly chunkRows: number;
    readonly maxRowsPerSecond: number | null;
    readonly recheckAttempts: number;
    readonly recheckDelayMs: number;
  };
  readonly clock: Clock;
}

/** A difference must be seen this often, each time with blue's row standing still. */
const CONFIRMATIONS = 2;
/** Sample mode reads one chunk of this many, spread evenly. */
const SAMPLE_EVERY = 10;

interface Chunk {
  readonly table: VerifyTable;
  readonly range: KeyRange;
}

/**
 * Compares both sides while they are written. The mapping that applied the rows says what green should hold. A difference
 * counts only when it survives: blue is read, green has caught up with that, green is read, blue is read again, and blue's row was
 * the same both times.
 */
export class Verifier {
  readonly #o: VerifierOptions;

  constructor(options: VerifierOptions) {
    this.#o = options;
  }

  /** @throws VerdigrisError VERIFY_FAILED when hot rows could not be settled; whatever the databases threw */
  async run(
    options: { readonly tables?: readonly string[]; readonly mode: 'full' | 'sample' | 'recent' },
    signal: AbortSignal,
    onProgress: (progress: VerifyProgress) => void = () => undefined,
  ): Promise<Report> {
    if (options.mode === 'recent') {
      throw new VerdigrisError('USAGE', 'Verification of recently changed keys is not available yet.', {
        remedy: 'Use --mode full or --mode sample.',
      });
    }
    const started = this.#o.clock.monotonic();
    const reports: TableReport[] = [];
    const mismatches: Difference[] = [];
    for (const table of this.#select(options.tables)) {
      const found: Difference[] = [];
      let rows = 0;
      const chunks = await this.#chunks(table);
      for (const [index, range] of chunks.entries()) {
        signal.throwIfAborted();
        if (options.mode === 'sample' && index % SAMPLE_EVERY !== 0) continue;
        const result = await this.#chunk({ table, range }, signal);
        rows += result.rows;
        found.push(...result.differences);
        onProgress({
          table: showTable(table.target.relation.table),
          rows: result.rows,
          differences: result.differences.length,
        });
        await this.#pace(result.rows, signal);
      }
      mismatches.push(...found);
      reports.push({
        table: showTable(table.target.relation.table),
        rows,
        differences: found.length,
        method: methodOf(table),
        notCompared: table.notCompared,
      });
    }
    return {
      ok: mismatches.length === 0,
      rows: reports.reduce((sum, report) => sum + report.rows, 0),
      seconds: (this.#o.clock.monotonic() - started) / 1000,
      tables: reports,
      mismatches,
    };
  }

  #select(names: readonly string[] | undefined): readonly VerifyTable[] {
    if (names === undefined || names.length === 0) return this.#o.tables;
    const known = new Map(this.#o.tables.map((table) => [showTable(table.target.relation.table), table]));
    return names.map((name) => {
      const table = known.get(name);
      if (table === undefined) {
        throw new VerdigrisError('USAGE', `${name} is not a mapped table of green.`, {
          remedy: `Mapped tables: ${[...known.keys()].join(', ')}.`,
        });
      }
      return table;
    });
  }

  async #chunks(table: VerifyTable): Promise<KeyRange[]> {
    const owner = ownerOf(table);
    if (!table.sameRanges || owner.from.key.length === 0) return [{ lower: null, upper: null }];
    const boundaries = await this.#o.blue.split(owner.from, this.#o.settings.chunkRows);
    const edges: (Cell | null)[] = [null, ...boundaries, null];
    return edges.slice(1).map((upper, index) => ({ lower: edges[index] as Cell | null, upper }));
  }

  async #chunk(chunk: Chunk, signal: AbortSignal): Promise<{ rows: number; differences: Difference[] }> {
    const { table, range } = chunk;
    const { blue, green } = this.#o;
    if (methodOf(table) === 'server') {
      const plan = ownerOf(table);
      const { from, columns } = table.direct as NonNullable<VerifyTable['direct']>;
      const left = await blue.digest(plan.from, from, range);
      const right = await green.digest(table.target.relation, columns, range);
      if (left.rows === right.rows && left.hash === right.hash) return { rows: left.rows, differences: [] };
    } else {
      const expected = await this.#expected(chunk, signal);
      const first = this.#compare(chunk, expected, await this.#found(chunk, signal));
      if (first.length === 0) return { rows: expected.size, differences: [] };
    }
    return this.#confirm(chunk, signal);
  }

  /**
   * Rounds until every difference is confirmed or gone. What was equal in one round is done with: in a table that is written all the
   * time every round finds other rows on their way, and no round would find none.
   */
  async #confirm(chunk: Chunk, signal: AbortSignal): Promise<{ rows: number; differences: Difference[] }> {
    const { settings, clock } = this.#o;
    const seen = new Map<string, { times: number; since: string }>();
    let pending: ReadonlySet<string> | null = null;
    for (let attempt = 0; ; attempt++) {
      const before = await this.#expected(chunk, signal);
      await this.#o.settle(signal);
      const found = await this.#found(chunk, signal);
      const known: ReadonlySet<string> | null = pending;
      const findings: Finding[] = this.#compare(chunk, before, found).filter(
        ({ id }) => known === null || known.has(id),
      );
      pending = new Set(findings.map(({ id }) => id));
      const after = findings.length === 0 ? before : await this.#expected(chunk, signal);
      const moving = new Set(this.#compare(chunk, before, after).map((finding) => finding.id));
      const still = findings.filter((finding) => !moving.has(finding.id));
      const confirmed: Difference[] = [];
      const ids = new Set(still.map(nameOf));
      for (const id of seen.keys()) if (!ids.has(id)) seen.delete(id);
      for (const finding of still) {
        const looks = seen.get(nameOf(finding)) ?? { times: 0, since: new Date(clock.now()).toISOString() };
        looks.times += 1;
        seen.set(nameOf(finding), looks);
        if (looks.times >= CONFIRMATIONS) confirmed.push(differenceOf(chunk.table, finding, looks.since));
      }
      if (confirmed.length === findings.length) return { rows: before.size, differences: confirmed };
      if (attempt >= settings.recheckAttempts) {
        if (confirmed.length > 0) return { rows: before.size, differences: confirmed };
        throw new VerdigrisError(
          'VERIFY_FAILED',
          `${findings.length - confirmed.length} rows of ${showTable(chunk.table.target.relation.table)} changed during every one of ${attempt + 1} looks.`,
          { remedy: 'Run it again at a quieter time, or raise verify.recheck.attempts.' },
        );
      }
      await clock.sleep(attempt === 0 ? 0 : settings.recheckDelayMs, signal);
    }
  }

  async #expected({ table, range }: Chunk, signal: AbortSignal): Promise<RowSet> {
    const rows = new RowSet(table.target, table.compared, table.canonical);
    for (const plan of table.plans) {
      for await (const piece of this.#o.blue.read(plan.from, range)) {
        signal.throwIfAborted();
        expect(plan, table.target, piece, rows);
      }
    }
    return rows;
  }

  async #found({ table, range }: Chunk, signal: AbortSignal): Promise<RowSet> {
    const rows = new RowSet(table.target, table.compared, table.canonical);
    for await (const piece of this.#o.green.read(table.target.relation, range)) {
      signal.throwIfAborted();
      for (const row of piece) rows.add(row);
    }
    return rows;
  }

  #compare({ table }: Chunk, expected: RowSet, found: RowSet): Finding[] {
    return compare(table, expected, found);
  }

  async #pace(rows: number, signal: AbortSignal): Promise<void> {
    const rate = this.#o.settings.maxRowsPerSecond;
    if (rate !== null && rows > 0) await this.#o.clock.sleep((rows * 1000) / rate, signal);
  }
}

const nameOf = (finding: Finding): string => `${finding.kind}:${finding.id}`;

function ownerOf(table: VerifyTable): TablePlan {
  const owner = table.plans[0];
  if (owner === undefined) throw new VerdigrisError('INTERNAL', 'A green table without a plan.');
  return owner;
}

function methodOf(table: VerifyTable): TableReport['method'] {
  if (table.target.relation.key.length === 0) return 'rows';
  return table.direct !== null && table.sameRanges ? 'server' : 'mapped';
}

function differenceOf(table: VerifyTable, finding: Finding, since: string): Difference {
  const { relation } = table.target;
  const key: Record<string, string | null> = {};
  for (const index of relation.key) {
    const name = relation.columns[index]?.name ?? '';
    const cell = finding.row[index];
    key[name] = cell === null || cell === undefined ? null : String(cell);
  }
  if (relation.key.length === 0)
    key['row hash'] = createHash('sha256').update(finding.id).digest('hex').slice(0, 16);
  return {
    table: showTable(relation.table),
    kind: finding.kind,
    key,
    columns: finding.columns,
    firstSeen: since,
  };
}
