import type { RunReport } from '../app/engine.ts';
import { ms, plain, seconds } from './format.ts';

type Attempt = RunReport['attempts'][number];

/** Cells of a Markdown table: what came from outside must not end one. */
const cell = (value: string | number | null): string =>
  value === null
    ? ''
    : String(value)
        .replaceAll('\\', '\\\\')
        .replaceAll('|', '\\|')
        .replaceAll(/\s*\n\s*/g, '<br>');

const table = (head: readonly string[], rows: readonly (readonly (string | number | null)[])[]): string[] => [
  `| ${head.join(' | ')} |`,
  `|${head.map(() => ' --- |').join('')}`,
  ...rows.map((row) => `| ${row.map(cell).join(' | ')} |`),
  '',
];

/** The record of a run as Markdown, for the change ticket. */
export function renderRunReport(report: RunReport): string {
  const last = report.attempts.at(-1);
  const lines = [
    `# Migration ${report.migration}`,
    '',
    ...table(
      ['', ''],
      [
        ['phase', report.phase],
        ['serves', report.activeSide],
        ['epoch', report.epoch],
        ['plan', report.planHash],
        ['began', report.beganAt],
        [
          'last attempt',
          last === undefined ? 'none' : `${last.outcome ?? 'not ended'} (epoch ${last.epoch})`,
        ],
        ['write pause', last === undefined || last.writePauseMs === null ? null : ms(last.writePauseMs)],
      ],
    ),
    '## Phases',
    '',
    ...table(
      ['phase', 'since', 'for'],
      report.phases.map((entry) => [
        entry.phase,
        entry.since,
        entry.seconds === null ? 'now' : seconds(entry.seconds),
      ]),
    ),
    '## Approvals',
    '',
    ...(report.approvals.length === 0
      ? ['None.', '']
      : table(
          ['who', 'role', 'when', 'plan', 'note'],
          report.approvals.map((one) => [
            one.by,
            one.role,
            one.at,
            `${one.planHash.slice(0, 8)}${one.void ? ' (void: another plan)' : ''}`,
            one.note,
          ]),
        )),
    '## Verification',
    '',
    ...verification(report.verification),
    '## Rehearsal',
    '',
    ...rehearsal(report.rehearsal),
    ...report.attempts.flatMap((attempt) => attemptLines(attempt)),
    '## What was asked for',
    '',
    ...(report.acts.length === 0
      ? ['Nothing.', '']
      : table(
          ['when', 'what', ''],
          report.acts.map(({ at, event, detail }) => [at, event, short(detail)]),
        )),
  ];
  return plain(lines.join('\n').trimEnd());
}

function verification(found: RunReport['verification']): string[] {
  if (found === null) return ['None.', ''];
  const { mode, state, endedAt, rows, differences, unsettled, tables } = found;
  return [
    `${mode}: **${state}**, ${rows} rows, ${differences} differences, ${unsettled} unsettled keys${endedAt === null ? '' : `, ended ${endedAt}`}.`,
    '',
    ...table(
      ['table', 'rows', 'differences'],
      tables.map((one) => [one.table, one.rows, one.differences]),
    ),
  ];
}

function rehearsal(found: RunReport['rehearsal']): string[] {
  if (found === null) return ['None.', ''];
  return [
    `${found.at}: **${found.ok ? 'passed' : 'failed'}**, plan ${found.planHash.slice(0, 8)}, ${found.rows} rows there and back.`,
    '',
    ...table(
      ['act', 'took', ''],
      found.acts.map((act) => [act.description, ms(act.ms), act.detail]),
    ),
    ...(found.error === null ? [] : [`${found.error.code}: ${found.error.message}`, '']),
  ];
}

function attemptLines(attempt: Attempt): string[] {
  const shut = attempt.gates.filter(({ ok }) => !ok);
  return [
    `## Attempt with epoch ${attempt.epoch}: ${attempt.outcome ?? 'not ended'}`,
    '',
    `Began ${attempt.beganAt}${attempt.by === null ? '' : ` by ${attempt.by}`}${attempt.endedAt === null ? '' : `, ended ${attempt.endedAt}`}. ` +
      `Writers waited ${ms(attempt.writePauseMs)} of at most ${ms(attempt.maxWritePauseMs)}.`,
    '',
    ...(attempt.error === null ? [] : [`**${attempt.error.code}**: ${attempt.error.message}`, '']),
    '### Gates',
    '',
    `${attempt.gates.length - shut.length} of ${attempt.gates.length} open.`,
    '',
    ...table(
      ['gate', 'open', 'observed', 'limit', 'reason'],
      attempt.gates.map((gate) => [
        gate.name,
        gate.ok ? 'yes' : attempt.overrides.some((one) => one.gate === gate.name) ? 'overridden' : 'no',
        gate.observed,
        gate.limit,
        gate.reason,
      ]),
    ),
    '### Overrides',
    '',
    ...(attempt.overrides.length === 0
      ? ['None.', '']
      : table(
          ['gate', 'reason'],
          attempt.overrides.map(({ gate, reason }) => [gate, reason]),
        )),
    '### Steps',
    '',
    ...table(
      ['step', 'began', 'took', 'outcome', ''],
      attempt.steps.map((step) => [
        step.step,
        step.beganAt,
        step.ms === null ? null : ms(step.ms),
        step.outcome,
        step.detail,
      ]),
    ),
    '### Drain certificate',
    '',
    ...(attempt.certificate === null
      ? ['None: it did not get so far.', '']
      : table(
          ['', ''],
          Object.entries(attempt.certificate).map(([name, value]) => [
            name,
            Array.isArray(value) && value.length === 0
              ? 'none'
              : typeof value === 'object'
                ? JSON.stringify(value)
                : String(value),
          ]),
        )),
  ];
}

const LONGEST = 300;

const short = (detail: Readonly<Record<string, unknown>>): string => {
  const text = Object.entries(detail)
    .filter(([, value]) => value !== null && value !== '' && typeof value !== 'object')
    .map(([key, value]) => `${key}=${String(value)}`)
    .join(' ');
  return text.length > LONGEST ? `${text.slice(0, LONGEST)}…` : text;
};
