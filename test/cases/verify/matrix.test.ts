import { readFile, writeFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import type { VerifyReport } from '../../../src/orchestrator/api.ts';
import { FAULTS, spelled, type Fault } from './faults.ts';
import { breakGreen, LOOKS, shop } from './shop.ts';

const PAGE = new URL('../../../docs/verification.md', import.meta.url);
const [FROM, TO] = ['<!-- matrix: written by a test, from what it saw -->', '<!-- end of the matrix -->'];
const COLUMNS = [
  'full',
  'sample, ten rounds',
  'recent, row changed since the last clean round',
  'recent, row not changed',
] as const;
type Seen = Record<(typeof COLUMNS)[number], ReadonlySet<string>>;

/** The page says what the modes find, and it is this test that says it: VERDIGRIS_WRITE_DOCS=1 writes the page anew. */
test('which mode finds which fault is what docs/verification.md says', async () => {
  await using run = await shop({
    settings: `copy: { workers: 2, chunk: { max_rows: 500 } }\nverify: { after_copy: "off", ${LOOKS} }\napply: { heartbeat: 200ms }`,
  });
  await run.start();
  const migration = await run.engine.migration();
  const names = (report: VerifyReport): Set<string> => new Set(report.mismatches.map(spelled));
  const damage = (): Promise<void> =>
    breakGreen(
      run,
      FAULTS.flatMap(({ sql }) => sql),
    );
  const mend = async (): Promise<void> => {
    await migration.verify({ mode: 'full' });
    await migration.repair({});
    // What has no key is not repaired.
    await breakGreen(run, [
      `INSERT INTO shop.log VALUES (13, 'line 13')`,
      `DELETE FROM shop.log WHERE ctid IN (SELECT ctid FROM shop.log WHERE n = 14 AND what = 'line 14' LIMIT 1)`,
    ]);
    expect(await migration.verify({ mode: 'full' })).toMatchObject({ ok: true });
  };

  expect(await migration.verify({ mode: 'full' })).toMatchObject({ ok: true });
  await damage();
  const unchanged = await migration.verify({ mode: 'recent' });
  const full = await migration.verify({ mode: 'full' });
  const sampled = new Set<string>();
  for (let round = 0; round < 10; round++) {
    for (const name of names(await migration.verify({ mode: 'sample' }))) sampled.add(name);
  }
  await mend();
  for (const sql of FAULTS.flatMap(({ touch }) => touch)) await run.blue.query(sql);
  await run.settled();
  await damage();
  const changed = await migration.verify({ mode: 'recent' });

  const seen: Seen = {
    full: names(full),
    'sample, ten rounds': sampled,
    'recent, row changed since the last clean round': names(changed),
    'recent, row not changed': names(unchanged),
  };
  for (const column of COLUMNS.slice(0, 3)) {
    expect([...seen[column]].sort(), column).toEqual(FAULTS.flatMap(({ found }) => found).sort());
  }
  const matrix = table(seen);
  const page = await readFile(PAGE, 'utf8');
  const [head = '', rest = ''] = page.split(FROM);
  const tail = rest.split(TO)[1] ?? '';
  const wanted = `${head}${FROM}\n${matrix}\n${TO}${tail}`;
  if (process.env['VERDIGRIS_WRITE_DOCS'] === '1') await writeFile(PAGE, wanted);
  expect(await readFile(PAGE, 'utf8')).toBe(wanted);
}, 240_000);

function table(seen: Seen): string {
  const cell = (fault: Fault, column: keyof Seen): string =>
    fault.found.length === 0
      ? 'no difference'
      : fault.found.every((name) => seen[column].has(name))
        ? 'found'
        : '–';
  const row = (...cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  return [
    row('fault', ...COLUMNS, '`verify repair`'),
    row(...Array.from({ length: COLUMNS.length + 2 }, () => '---')),
    ...FAULTS.map((fault) =>
      row(
        fault.name,
        ...COLUMNS.map((column) => cell(fault, column)),
        fault.found.length === 0 ? '' : fault.repaired ? 'repairs it' : 'refuses: no key',
      ),
    ),
  ].join('\n');
}
