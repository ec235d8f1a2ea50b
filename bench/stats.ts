/** The middle value; the mean of the two middle ones. NaN of nothing. */
export function median(values: readonly number[]): number {
  return quantile(values, 0.5);
}

/** Linear interpolation between the two nearest ranks; NaN of nothing. */
export function quantile(values: readonly number[], q: number): number {
  if (values.length === 0) return Number.NaN;
  const sorted = [...values].sort((a, b) => a - b);
  const at = (sorted.length - 1) * q;
  const low = Math.floor(at);
  const left = sorted[low] as number;
  const right = sorted[Math.min(low + 1, sorted.length - 1)] as number;
  return left + (right - left) * (at - low);
}

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

export const round = (value: number, digits = 2): number => Number(value.toFixed(digits));
