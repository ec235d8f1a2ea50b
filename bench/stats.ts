export { median, quantile, round } from '../src/bench/stats.ts';

/**
 * Lags of rows that were due at fixed times, from looks at the newest row that had arrived. A row that was written late is late all the
 * same: its lag counts from when it was due (no coordinated omission).
 * @param due when row i + 1 was due, ms
 * @param looks newest row seen and when, in the order of the looks
 */
export function lagsOf(
  due: readonly number[],
  looks: readonly { readonly newest: number; readonly at: number }[],
): number[] {
  const lags: number[] = [];
  for (const { newest, at } of looks) {
    while (lags.length < newest && lags.length < due.length) lags.push(at - (due[lags.length] as number));
  }
  return lags;
}
