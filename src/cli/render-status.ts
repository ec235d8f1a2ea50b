import type { StatusData } from '../app/envelope.ts';
import { switchRows } from './render-control.ts';
import { bytes, count, ms, percent, plain, seconds } from './format.ts';

/** The block that `status` and `start` show. */
export function renderStatus(status: StatusData): string {
  const {
    migration,
    phase,
    condition,
    reason,
    lag,
    copy,
    apply,
    verify,
    source,
    gates,
    positions,
    next,
    error,
  } = status;
  const head = [migration, phase.toUpperCase(), reason === '' ? condition : `${condition} (${reason})`];
  if (status.upSeconds !== null) head.push(`up ${seconds(status.upSeconds)}`);
  if (status.planHash !== '') head.push(`plan ${status.planHash.slice(0, 8)}`);
  head.push(`active ${status.activeSide}`);
  const lines = [head.join('   ')];
  if (copy) {
    lines.push(
      row('lag', [
        `commit ${seconds(lag.commitSeconds)}`,
        `log ${bytes(lag.distanceBytes)}`,
        `round trip ${ms(lag.roundTripMs)}`,
        `last event ${lag.lastEventAgeSeconds === null ? 'unknown' : `${seconds(lag.lastEventAgeSeconds)} ago`}`,
      ]),
      row('copy', copyParts(copy)),
    );
  }
  if (apply) {
    lines.push(
      row('apply', [
        `${count(apply.transactions)} transactions`,
        `${count(apply.changes)} changes`,
        ...(apply.changesPerSecond === null ? [] : [`${count(apply.changesPerSecond)}/s`]),
        `queue ${bytes(apply.queueBytes)}`,
        `rejects ${apply.rejects}`,
        `holes ${apply.holes}`,
        `retries ${apply.retries}`,
      ]),
    );
  }
  if (positions.head !== null || positions.applied !== null) {
    lines.push(
      row('log', [
        `head ${positions.head ?? 'unknown'}`,
        `received ${positions.received ?? 'unknown'}`,
        `applied ${positions.applied ?? 'unknown'}`,
      ]),
    );
  }
  if (verify) {
    lines.push(
      row('verify', [
        verify.state === 'running'
          ? `running ${percent(verify.rows, verify.totalRows)}`.trimEnd()
          : verify.state,
        ...(verify.state === 'never'
          ? []
          : [`${count(verify.rows)} rows`, `${verify.differences} differences`]),
        ...(verify.ageSeconds === null ? [] : [`${seconds(verify.ageSeconds)} ago`]),
        ...(verify.detail === null ? [] : [verify.detail]),
      ]),
    );
  }
  if (source) {
    lines.push(
      row('blue', [
        `log held ${bytes(source.retainedBytes)}${source.limitBytes === null ? '' : ` of ${bytes(source.limitBytes)}`}`,
        `oldest transaction ${seconds(source.oldestTransactionSeconds)}`,
        ...(source.state === null ? [] : [source.state]),
      ]),
    );
  }
  if (status.rollback?.fits !== null && status.rollback !== null)
    lines.push(row('back', backParts(status.rollback)));
  if (gates.length > 0) {
    const shut = gates.filter(({ ok }) => !ok);
    lines.push(
      row('gates', [
        `${gates.length - shut.length}/${gates.length}`,
        ...shut.map((gate) => `waiting: ${gate.name} (${gate.reason})`),
      ]),
    );
  }
  for (const [name, parts] of switchRows(status)) lines.push(row(name, parts));
  if (error) lines.push(row('error', [`${error.code} ${error.message}`, error.remedy]));
  lines.push(`Next: ${next.action}${next.command === null ? '' : ` -> \`${next.command}\``}`);
  return plain(lines.join('\n'));
}

const row = (name: string, parts: readonly string[]): string =>
  `  ${name.padEnd(9)} ${parts.filter(Boolean).join('   ')}`;

function copyParts(copy: NonNullable<StatusData['copy']>): string[] {
  const eta =
    copy.etaSeconds === null ? [] : [`${seconds(copy.etaSeconds[0])} to ${seconds(copy.etaSeconds[1])} left`];
  return [
    percent(copy.rangesDone, copy.ranges),
    `${count(copy.rows)}${copy.totalRows === null ? '' : ` of ~${count(copy.totalRows)}`} rows`,
    bytes(copy.bytes),
    ...(copy.rowsPerSecond === null ? [] : [`${count(copy.rowsPerSecond)} rows/s`]),
    ...eta,
    ...(copy.finishing === null ? [] : [copy.finishing]),
  ];
}

function backParts({ misfits, first }: NonNullable<StatusData['rollback']>): string[] {
  if (first === null) return ['blue follows: a rollback fits'];
  return [
    `${count(misfits ?? 0)} rows do not fit on blue`,
    `first: ${first.table} ${first.key.join(', ')}: ${first.column}: ${first.reason}`,
  ];
}

/** One line, stable order, for logs of scripts. What is not known is left empty. */
export function statusLine(status: StatusData): string {
  const { copy, apply, lag, gates } = status;
  const fields: Record<string, string | number | null | undefined> = {
    ts: new Date().toISOString(),
    migration: status.migration,
    phase: status.phase,
    condition: status.condition,
    commit_lag_s: lag.commitSeconds === null ? null : Number(lag.commitSeconds.toFixed(3)),
    lag_bytes: lag.distanceBytes,
    copied_rows: copy?.rows,
    copied_bytes: copy?.bytes,
    copied: copy ? `${copy.rangesDone}/${copy.ranges}` : null,
    rows_s: copy?.rowsPerSecond === null || copy === null ? apply?.changesPerSecond : copy.rowsPerSecond,
    applied: status.positions.applied,
    rejects: apply?.rejects,
    gates: gates.length === 0 ? null : `${gates.filter(({ ok }) => ok).length}/${gates.length}`,
    active: status.activeSide,
    reason: status.reason === '' ? null : status.reason,
    error: status.error?.code,
  };
  return Object.entries(fields)
    .map(([key, value]) => `${key}=${fieldText(value)}`)
    .join(' ');
}

const fieldText = (value: string | number | null | undefined): string => {
  if (value === null || value === undefined) return '';
  const text = plain(String(typeof value === 'number' ? Math.round(value * 1_000) / 1_000 : value));
  return /[\s="]/.test(text) ? JSON.stringify(text) : text;
};
