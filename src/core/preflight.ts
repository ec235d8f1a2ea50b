/** One finding of a check. "Could not check" is not "ok". */
export interface CheckResult {
  /** The id of the reference, e.g. `P10`; several results may carry the same id (one per table). */
  readonly id: string;
  readonly side: 'blue' | 'green' | 'proxy';
  readonly level: 'block' | 'warn' | 'info';
  readonly outcome: 'ok' | 'finding' | 'could-not-check';
  /** What is checked, in a few words. */
  readonly title: string;
  readonly observed: string;
  readonly expected: string;
  /** What to do; empty only when the outcome is ok. */
  readonly remedy: string;
  /** The exact statement where there is one. It is printed, never run. */
  readonly sql?: string;
}

/** What a check found. */
export interface Finding {
  readonly observed: string;
  readonly remedy: string;
  readonly sql?: string;
  /** Where it differs from the check's. */
  readonly level?: CheckResult['level'];
  readonly expected?: string;
  /** The thing could not be looked at; that is not ok. */
  readonly unknown?: true;
}

/** One question, asked of what an engine lets its checks look at. Answers with what is wrong, or with one line of what was seen when nothing is. */
export interface Check<Context> {
  readonly id: string;
  readonly title: string;
  readonly level: CheckResult['level'];
  readonly expected: string;
  run(context: Context): Promise<readonly Finding[] | string>;
}

/** The results of a check that could be asked. */
export function resultsOf(
  { id, title, level, expected }: Omit<Check<never>, 'run'>,
  side: CheckResult['side'],
  found: readonly Finding[] | string,
): CheckResult[] {
  const base = { id, side, title };
  if (typeof found === 'string' || found.length === 0) {
    const observed = typeof found === 'string' ? found : 'as expected';
    return [{ ...base, level, outcome: 'ok', observed, expected, remedy: '' }];
  }
  return found.map((finding) => ({
    ...base,
    level: finding.level ?? level,
    outcome: finding.unknown === true ? 'could-not-check' : 'finding',
    observed: finding.observed,
    expected: finding.expected ?? expected,
    remedy: finding.remedy,
    ...(finding.sql === undefined ? {} : { sql: finding.sql }),
  }));
}
