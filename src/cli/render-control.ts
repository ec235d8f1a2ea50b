import type { z } from 'zod';
import type { rehearsalSchema, requestSchema, StatusData } from '../app/envelope.ts';
import { ms, plain, seconds } from './format.ts';

type Request = z.output<typeof requestSchema>;

/** A switch that somebody asked for. */
export function renderRequest(request: Request): string {
  const { id, to, state, by, notBefore, window, deadline, outcome, reason } = request;
  const parts = [
    `${to === 'green' ? 'Cutover' : 'Rollback'} ${id}: ${state}${outcome === null ? '' : `, ${outcome}`}`,
    ...(by === null ? [] : [`asked for by ${by}`]),
    ...(window === null ? [] : [`window ${window}`]),
    ...(notBefore === null ? [] : [`not before ${notBefore}`]),
    ...(deadline === null ? [] : [`until ${deadline}`]),
  ];
  const lines = [parts.join('   '), ...(reason === '' ? [] : [`  ${reason}`])];
  if (state === 'waiting') {
    lines.push(
      'It begins by itself once every gate is open. End it with `verdigris cutover cancel`; see `verdigris status`.',
    );
  }
  if (state === 'cancelled') lines.push('Nothing was changed: blue serves.');
  return plain(lines.join('\n'));
}

/** Every act with its time, then what clients would wait for. */
export function renderRehearsal(rehearsal: z.output<typeof rehearsalSchema>): string {
  const { acts, writePauseMs, backPauseMs, rows, cleared, error } = rehearsal;
  const lines = acts.map(
    ({ description, ms: took, detail }, index) =>
      `${String(index + 1).padStart(2)} ${description.padEnd(66)} ${ms(took).padStart(8)}${detail === '' ? '' : `  ${detail}`}`,
  );
  if (error === null) {
    lines.push(
      `Rehearsed: ${rows} rows came back. Writers would wait ${ms(writePauseMs)} on the way there and ${ms(backPauseMs)} on the way back, and for what runs when the proxies pause. No client was moved, nothing is left.`,
    );
  } else {
    lines.push(`FAILED: ${error.code} ${error.message}`, `  ${error.remedy}`);
    lines.push(
      cleared
        ? 'No client was moved, nothing is left.'
        : 'No client was moved. SOMETHING IS LEFT, see above.',
    );
  }
  return plain(lines.join('\n'));
}

/** The lines of `status` about who may switch and when. */
export function switchRows({ window, approvals, request, rehearsal }: StatusData): [string, string[]][] {
  const rows: [string, string[]][] = [];
  if (window !== null) {
    const when = window.open
      ? `open until ${window.closesAt}`
      : `opens ${window.opensAt}, closes ${window.closesAt}`;
    rows.push(['window', [`${window.name} ${when} (${window.timezone})`]]);
  }
  if (approvals !== null && (approvals.required > 0 || approvals.given.length > 0)) {
    rows.push([
      'approved',
      [
        `${approvals.counted} of ${approvals.required}`,
        ...approvals.given.map(
          ({ by, role, counts }) =>
            `${by}${role === '' ? '' : ` (${role})`}${counts ? '' : ', does not count'}`,
        ),
      ],
    ]);
  }
  if (rehearsal !== null) {
    rows.push([
      'rehearsed',
      [
        `${rehearsal.ok ? 'passed' : `failed (${rehearsal.error?.code ?? ''})`} ${seconds(rehearsal.ageSeconds)} ago`,
        ...(rehearsal.writePauseMs === null ? [] : [`write pause ${ms(rehearsal.writePauseMs)}`]),
      ],
    ]);
  }
  if (request !== null) {
    const { id, state, outcome, notBefore, deadline, reason } = request;
    rows.push([
      'cutover',
      [
        `${id} ${state}${outcome === null ? '' : `, ${outcome}`}`,
        ...(notBefore === null ? [] : [`not before ${notBefore}`]),
        ...(deadline === null || state !== 'waiting' ? [] : [`until ${deadline}`]),
        ...(reason === '' ? [] : [reason]),
      ],
    ]);
  }
  return rows;
}
