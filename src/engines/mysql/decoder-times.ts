import type { Bytes } from './binlog-bytes.ts';

const two = (value: number): string => (value < 10 ? `0${value}` : String(value));
const four = (value: number): string => String(value).padStart(4, '0');

/** `.ffffff` without zeros at the end; nothing when there is no fraction. */
function fractionText(micros: number): string {
  return micros === 0 ? '' : `.${String(micros).padStart(6, '0').replace(/0+$/, '')}`;
}

/** Microseconds of a fraction of `digits` digits, which takes half as many bytes, big-endian. */
function readFraction(bytes: Bytes, digits: number): number {
  const length = (digits + 1) >> 1;
  return length === 0 ? 0 : bytes.uintBE(length) * 10 ** (6 - 2 * length);
}

export function readDate(bytes: Bytes): string {
  const packed = bytes.u24();
  return `${four(packed >> 9)}-${two((packed >> 5) & 15)}-${two(packed & 31)}`;
}

const DATETIME_OFFSET = 0x80_0000_0000;

export function readDatetime(bytes: Bytes, digits: number): string {
  const packed = bytes.uintBE(5) - DATETIME_OFFSET;
  const days = Math.floor(packed / 2 ** 17);
  const clock = packed % 2 ** 17;
  const months = days >> 5;
  const date = `${four(Math.floor(months / 13))}-${two(months % 13)}-${two(days & 31)}`;
  return `${date} ${two(clock >> 12)}:${two((clock >> 6) & 63)}:${two(clock & 63)}${fractionText(readFraction(bytes, digits))}`;
}

/** Seconds since 1970 in UTC; zero is the zero date. */
export function readTimestamp(bytes: Bytes, digits: number): string {
  const seconds = bytes.uintBE(4);
  const micros = readFraction(bytes, digits);
  const fraction = fractionText(micros);
  if (seconds === 0 && micros === 0) return '0000-00-00 00:00:00+00';
  return `${new Date(seconds * 1000).toISOString().slice(0, 19).replace('T', ' ')}${fraction}+00`;
}

const TIME_OFFSET = 0x80_0000;

/** Signed hours, minutes and seconds in 24 bits with an offset; a fraction of a negative time counts from below. */
export function readTime(bytes: Bytes, digits: number): string {
  let clock = bytes.uintBE(3) - TIME_OFFSET;
  const length = (digits + 1) >> 1;
  let fraction = length === 0 ? 0 : bytes.uintBE(length);
  if (clock < 0 && fraction > 0) {
    clock += 1;
    fraction -= 256 ** length;
  }
  const micros = Math.abs(fraction) * 10 ** (6 - 2 * length);
  return clockText(clock < 0 || fraction < 0, Math.abs(clock), micros, fractionText);
}

function clockText(
  negative: boolean,
  clock: number,
  micros: number,
  fraction: (micros: number) => string,
): string {
  const text = `${two((clock >> 12) & 1023)}:${two((clock >> 6) & 63)}:${two(clock & 63)}${fraction(micros)}`;
  return negative ? `-${text}` : text;
}

const sixDigits = (micros: number): string => `.${String(micros).padStart(6, '0')}`;

/** The packed form inside JSON: 24 bits of microseconds below the rest. Printed there with six digits. */
export function showDatetime(packed: bigint): { readonly date: string; readonly time: string } {
  const micros = Number(packed & 0xffffffn);
  const whole = Number(packed >> 24n);
  const clock = whole % 2 ** 17;
  const days = Math.floor(whole / 2 ** 17);
  const months = days >> 5;
  return {
    date: `${four(Math.floor(months / 13))}-${two(months % 13)}-${two(days & 31)}`,
    time: `${two(clock >> 12)}:${two((clock >> 6) & 63)}:${two(clock & 63)}${sixDigits(micros)}`,
  };
}

export function showTime(packed: bigint): string {
  const absolute = packed < 0n ? -packed : packed;
  return clockText(packed < 0n, Number(absolute >> 24n), Number(absolute & 0xffffffn), sixDigits);
}
