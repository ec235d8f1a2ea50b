import Table from 'cli-table3';
import type { CutoverReport, VerifyReport } from '../app/engine.ts';
import { count, ms, plain, seconds } from './format.ts';

const BARE = {
  top: '', 'top-mid': '', 'top-left': '', 'top-right': '', bottom: '', 'bottom-mid': '', 'bottom-left': '', 'bottom-right': '',
  left: ' ', 'left-mid': '', mid: '', 'mid-mid': '', right: '', 'right-mid': '', middle: ' ',
}; // prettier-ignore

/** Rows under headings, without lines. */
export function table(head: readonly string[], rows: readonly (readonly (string | number)[])[]): string {
  const grid = new Table({
    head: [...head],
    chars: BARE,
    style: { head: [], border: [], 'padding-left': 0, 'padding-right': 1 },
  });
  for (const row of rows) grid.push(row.map((cell) => plain(String(cell))));
  return grid
    .toString()
    .split('\n')
    .map((line) => line.trimEnd())
    .join('\n');
}

const MOST_KEYS = 50;

/** `verify` for people. Keys, never values. */
export function renderVerify(report: VerifyReport): string {
  const lines = [
    table(
      ['table', 'rows', 'differences', 'method'],
      report.tables.map((entry) => [entry.table, count(entry.rows), entry.differences, entry.method]),
    ),
  ];
  for (const { table: name, notCompared } of report.tables) {
    for (const { column, reason } of notCompared) lines.push(`  not compared: ${name}.${column}: ${reason}`);
  }
  for (const { table: name, kind, key, columns } of report.mismatches.slice(0, MOST_KEYS)) {
    const shown = Object.entries(key).map(([column, text]) => `${column}=${text ?? 'null'}`);
    lines.push(
      `  ${kind.padEnd(9)} ${name} ${shown.join(' ')}${columns.length === 0 ? '' : `  (${columns.join(', ')})`}`,
    );
  }
  if (report.mismatches.length > MOST_KEYS)
    lines.push(`  … and ${report.mismatches.length - MOST_KEYS} more; all with --json`);
  for (const note of report.notes) lines.push(`  ${note}`);
  const unsettled = report.tables.reduce((sum, entry) => sum + entry.unsettled, 0);
  if (unsettled > 0)
    lines.push(`  ${unsettled} keys changed during every look; they are compared again under the fence`);
  const total = report.tables.reduce((sum, entry) => sum + entry.differences, 0);
  lines.push(
    `${report.ok ? 'Equal' : `${total} differences`}: ${count(report.rows)} rows in ${seconds(report.seconds)}`,
  );
  return plain(lines.join('\n'));
}

/** `cutover` and its dry run for people. */
export function renderCutover(report: CutoverReport): string {
  const lines: string[] = [];
  let crossed = false;
  for (const [index, step] of report.steps.entries()) {
    if (step.pastPointOfNoReturn && !crossed) {
      crossed = true;
      lines.push(`-------- point of no return: everything above undoes itself on failure`);
    }
    const took = step.ms === null ? '' : ms(step.ms);
    const before = step.rehearsedMs === undefined ? '' : `  rehearsed: ${ms(step.rehearsedMs)}`;
    lines.push(
      `${String(index + 1).padStart(2)} ${step.outcome.padEnd(8)} ${step.description.padEnd(60)} ${took.padStart(8)}${before}${step.detail === '' ? '' : `  ${step.detail}`}`,
    );
  }
  const shut = report.gates.filter(({ ok }) => !ok);
  for (const gate of shut)
    lines.push(`gate ${gate.name}: ${gate.observed} (limit ${gate.limit}) ${gate.reason}`);
  if (report.error) lines.push(`${report.error.code}: ${report.error.message}`, `  ${report.error.remedy}`);
  if (report.rehearsed) {
    const { writePauseMs, ageSeconds } = report.rehearsed;
    lines.push(`Write pause of the rehearsal ${seconds(ageSeconds)} ago: ${ms(writePauseMs)}.`);
  } else if (report.outcome === 'dry-run') {
    lines.push('Never rehearsed: `verdigris rehearse` measures the steps without moving a client.');
  }
  const paused = report.writePauseMs === null ? '' : ` Writers waited ${ms(report.writePauseMs)}.`;
  lines.push(
    {
      switched: `${report.to === 'green' ? 'Switched: green' : 'Rolled back: blue'} serves.${paused}`,
      undone: `Undone: ${report.to === 'green' ? 'blue' : 'green'} serves.${paused}`,
      undetermined: 'UNDETERMINED: it is not known which side serves. Follow the lines above.',
      'dry-run': `Nothing was changed. Gates ${report.gates.length - shut.length}/${report.gates.length}.`,
    }[report.outcome],
  );
  return plain(lines.join('\n'));
}
