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

export const round = (value: number, digits = 2): number => Number(value.toFixed(digits));
