/** An exact decimal number: `units` / 10^`scale`. Never a float: a float has no exact cents. */
export interface Decimal {
  readonly units: bigint;
  readonly scale: number;
}

const SYNTAX = /^([+-]?)(\d*)(?:\.(\d*))?(?:[eE]([+-]?\d{1,5}))?$/;
/** More digits before the point than any supported server takes; past it `1e99999` would be a text of 100 kB. */
const MOST_DIGITS = 131_072;

/** Digits that a JavaScript number keeps. */
const SAFE_DIGITS = 15;

/** An integer in the spelling that every server prints, short enough for a JavaScript number, as nearly all of them are; NaN for any other text. */
export function plainInteger(text: string): number {
  const start = text.charCodeAt(0) === 0x2d ? 1 : 0;
  const length = text.length - start;
  if (length < 1 || length > SAFE_DIGITS) return Number.NaN;
  if (text.charCodeAt(start) === 0x30) return text === '0' ? 0 : Number.NaN;
  let value = 0;
  for (let at = start; at < text.length; at += 1) {
    const digit = text.charCodeAt(at) - 0x30;
    if (!(digit >= 0 && digit <= 9)) return Number.NaN;
    value = value * 10 + digit;
  }
  return start === 0 ? value : -value;
}

/**
 * A decimal in the spelling that every server prints, times a factor, without zeros at the end of the fraction; null where the product, or
 * the text, is more than a JavaScript number keeps. The same as with {@link multiply}, for what nearly all numbers are.
 */
export function timesPlain(
  text: string,
  factor: { readonly units: number; readonly scale: number },
): string | null {
  const negative = text.charCodeAt(0) === 0x2d;
  let units = 0;
  let scale = -1;
  const start = negative ? 1 : 0;
  if (text.length - start > SAFE_DIGITS || text.length === start) return null;
  for (let at = start; at < text.length; at += 1) {
    const code = text.charCodeAt(at);
    if (code >= 0x30 && code <= 0x39) {
      units = units * 10 + code - 0x30;
      if (scale >= 0) scale += 1;
    } else if (code === 0x2e && scale < 0 && at > start && at + 1 < text.length) scale = 0;
    else return null;
  }
  units *= factor.units;
  scale = Math.max(scale, 0) + factor.scale;
  if (!Number.isSafeInteger(units)) return null;
  while (scale > 0 && units % 10 === 0) {
    units /= 10;
    scale -= 1;
  }
  if (negative && units !== 0) units = -units;
  return scale === 0 ? String(units) : showDecimal({ units: BigInt(units), scale });
}

/** The number a text stands for; null when it is none (NaN and infinities too). */
export function parseDecimal(text: string): Decimal | null {
  const match = SYNTAX.exec(text);
  if (match === null) return null;
  const whole = match[2] as string;
  const fraction = match[3] ?? '';
  if (whole === '' && fraction === '') return null;
  let units = BigInt(whole + fraction);
  if (match[1] === '-') units = -units;
  let scale = fraction.length - Number(match[4] ?? 0);
  if (Math.abs(scale) > MOST_DIGITS) return null;
  if (scale < 0) {
    units *= 10n ** BigInt(-scale);
    scale = 0;
  }
  return { units, scale };
}

/** Canonical text with exactly `scale` digits after the point. */
export function showDecimal({ units, scale }: Decimal): string {
  if (scale === 0) return units.toString();
  const digits = (units < 0n ? -units : units).toString().padStart(scale + 1, '0');
  const cut = digits.length - scale;
  return `${units < 0n ? '-' : ''}${digits.slice(0, cut)}.${digits.slice(cut)}`;
}

/** Without zeros at the end of the fraction. */
export function stripZeros({ units, scale }: Decimal): Decimal {
  let left = units;
  let digits = scale;
  while (digits > 0 && left % 10n === 0n) {
    left /= 10n;
    digits -= 1;
  }
  return { units: left, scale: digits };
}

/** With exactly `scale` digits after the point; null when that would lose digits. */
export function withScale(number: Decimal, scale: number): Decimal | null {
  if (number.scale === scale) return number;
  if (number.scale < scale) {
    return { units: number.units * 10n ** BigInt(scale - number.scale), scale };
  }
  const divisor = 10n ** BigInt(number.scale - scale);
  return number.units % divisor === 0n ? { units: number.units / divisor, scale } : null;
}

export const multiply = (left: Decimal, right: Decimal): Decimal => ({
  units: left.units * right.units,
  scale: left.scale + right.scale,
});

/** 1 / number where that is a finite decimal, else null: only factors made of twos and fives have one. */
export function reciprocal(number: Decimal): Decimal | null {
  const { units, scale } = stripZeros(number);
  if (units === 0n) return null;
  let rest = units < 0n ? -units : units;
  let twos = 0;
  let fives = 0;
  for (; rest % 2n === 0n; rest /= 2n) twos += 1;
  for (; rest % 5n === 0n; rest /= 5n) fives += 1;
  if (rest !== 1n) return null;
  const digits = Math.max(twos, fives);
  const inverse = (10n ** BigInt(digits) / (units < 0n ? -units : units)) * (units < 0n ? -1n : 1n);
  return stripZeros(
    digits >= scale
      ? { units: inverse, scale: digits - scale }
      : { units: inverse * 10n ** BigInt(scale - digits), scale: 0 },
  );
}
