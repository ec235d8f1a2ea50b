import { CODES, type Code } from '../core/errors.ts';
import { EXIT_MEANINGS, exitCodeOf } from './exit.ts';

/** `docs/errors.md`: every code with what it means, what is done about it, and the exit code. */
export function errorsReference(): string {
  const directive = {
    retry: 'Retried by itself, with growing pauses.',
    operator: 'Everything is kept; somebody has to act.',
    fatal: 'Stops for good: going on would lose data.',
  } as const;
  const sections = (Object.keys(CODES) as Code[]).map((code) => {
    const info = CODES[code];
    return [
      `## ${code}`,
      '',
      info.meaning,
      '',
      `- What happens: ${directive[info.directive]}`,
      `- What to do: ${info.remedy}`,
      `- Exit code: ${exitCodeOf(code)}`,
      '',
    ].join('\n');
  });
  const codes = Object.entries(EXIT_MEANINGS).map(([code, meaning]) => `| ${code} | ${meaning} |`);
  return [
    '# Errors',
    '',
    'Generated from `src/core/errors.ts` and `src/app/exit.ts` by `node scripts/docs.ts`. Codes are stable: they may be relied on in scripts.',
    '',
    '| exit code | meaning |',
    '| --- | --- |',
    ...codes,
    '',
    ...sections,
  ].join('\n');
}
