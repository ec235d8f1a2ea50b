import type { CheckResult } from '../core/preflight.ts';
import type { PlanReport, WayBackReport } from '../app/engine.ts';
import { bytes, count, plain } from './format.ts';

/** `plan` for people. */
export function renderPlan(plan: PlanReport, next: string): string {
  const targets = plan.tables.reduce((sum, { to }) => sum + to.length, 0);
  const rows = plan.tables.reduce((sum, table) => sum + table.rows, 0);
  const size = plan.tables.reduce((sum, table) => sum + table.bytes, 0);
  const lines = [
    `Plan ${plan.migration}   ${plan.blue} (blue) -> ${plan.green} (green)   hash ${plan.hash.slice(0, 8)}`,
    '',
    `  Source tables ${plan.tables.length}   target tables ${targets}   rows ~${count(rows)}   size ${bytes(size)}`,
    '',
  ];
  const width = Math.max(10, ...plan.tables.map(({ from }) => from.length));
  for (const { from, rows: tableRows, bytes: tableBytes, to } of plan.tables) {
    const names = to.map(({ table }) => table).join(', ');
    const kinds = [...new Set(to.map(({ kind }) => kind))].join(', ');
    lines.push(
      `  ${from.padEnd(width)}  ${`${count(tableRows)} rows`.padStart(13)} ${bytes(tableBytes).padStart(9)}  -> ${names}   ${kinds}`,
    );
    for (const { columns } of to) {
      for (const { column, from: inputs, operation, reverse, reason } of columns) {
        if (operation === 'copy' && inputs.length === 1 && inputs[0] === column && reverse === 'exact')
          continue;
        const source = inputs.join(', ') || '(constant)';
        const back = reverse === 'exact' ? 'reverse: yes' : `! reverse: no (${reason})`;
        lines.push(`    ${source.padEnd(20)} -> ${column.padEnd(20)} ${operation.padEnd(14)} ${back}`);
      }
    }
  }
  for (const name of plan.ignored) lines.push(`  ${name.padEnd(width)}  ignored by rule`);
  lines.push('');
  list(lines, 'On blue I will:  ', plan.onBlue);
  list(lines, 'On green I will: ', plan.onGreen);
  list(lines, 'At cutover:      ', plan.atCutover);
  if (plan.wayBack !== null) lines.push('', ...renderWayBack(plan.wayBack));
  const findings = plan.checks.filter(({ outcome }) => outcome !== 'ok');
  if (findings.length > 0) lines.push('', '  Checks', ...findings.flatMap((finding) => renderCheck(finding)));
  if (plan.warnings.length > 0) lines.push('', ...plan.warnings.map((warning) => `  ! ${warning}`));
  lines.push('', `Nothing was changed. Next: ${next}`);
  return plain(lines.join('\n'));
}

/** What does not come back as it was; everything else does. */
function renderWayBack({ impossible, tables, greenOnly, fullImages }: WayBackReport): string[] {
  const lines = impossible.map(
    ({ table, column, why }) => `  ! no way back: ${table}${column === null ? '' : `.${column}`}: ${why}`,
  );
  const columns = tables.flatMap(({ table, columns: all }) => all.map((one) => ({ ...one, table })));
  const exact = columns.filter(({ way }) => way === 'exact').length;
  lines.push(
    `  Way back:         ${exact} of ${columns.length} columns of blue come back as they were written on green`,
  );
  for (const { table, column, way, reason } of columns) {
    if (way !== 'exact') lines.push(`    ${way.padEnd(10)} ${`${table}.${column}`.padEnd(32)} ${reason}`);
  }
  for (const { table, column } of greenOnly)
    lines.push(`    green only ${`${table}.${column}`.padEnd(32)} stays on green`);
  for (const { table, why } of fullImages)
    lines.push(`    full rows  ${table.padEnd(32)} will be logged whole: ${why}`);
  return lines;
}

function list(lines: string[], title: string, items: readonly string[]): void {
  for (const [index, item] of items.entries())
    lines.push(`  ${index === 0 ? title : ' '.repeat(title.length)}${item}`);
}

const MARKS = {
  ok: 'ok  ',
  finding: { block: 'FAIL', warn: 'warn', info: 'info' },
  'could-not-check': '??  ',
} as const;

function renderCheck(check: CheckResult): string[] {
  const { id, side, level, outcome, title, observed, expected, remedy, sql } = check;
  const mark = outcome === 'finding' ? MARKS.finding[level] : MARKS[outcome];
  const lines = [
    `  ${mark} ${id.padEnd(6)} ${side.padEnd(5)} ${title}${observed === '' ? '' : `: ${observed}`}`,
  ];
  if (outcome === 'ok') return lines;
  if (expected !== '') lines.push(`              expected: ${expected}`);
  if (remedy !== '') lines.push(`              ${remedy}`);
  if (sql !== undefined) lines.push(`              ${sql}`);
  return lines;
}

/** `doctor` for people: what is wrong first; with `all` what is right as well. */
export function renderChecks(checks: readonly CheckResult[], all: boolean): string {
  const wrong = checks.filter(({ outcome }) => outcome !== 'ok');
  const blocking = checks.filter(isBlocking).length;
  const shown = all ? [...wrong, ...checks.filter(({ outcome }) => outcome === 'ok')] : wrong;
  return plain(
    [
      ...shown.flatMap(renderCheck),
      `${checks.length} checks: ${checks.length - wrong.length} ok, ${blocking} blocking, ${wrong.length - blocking} other findings`,
    ].join('\n'),
  );
}

/** A start would be refused. What could not be checked counts as what is wrong. */
export const isBlocking = ({ level, outcome }: CheckResult): boolean => level === 'block' && outcome !== 'ok';

/** The statements of all findings, to be read and run by the operator. */
export const fixSql = (checks: readonly CheckResult[]): string =>
  checks
    .filter(({ outcome, sql }) => outcome !== 'ok' && sql !== undefined)
    .map(({ id, side, title, sql }) =>
      plain(`-- ${id} ${side}: ${title}\n${sql}${sql?.trimEnd().endsWith(';') ? '' : ';'}`),
    )
    .join('\n');
