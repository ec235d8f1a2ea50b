import prettyBytes from 'pretty-bytes';
import prettyMs from 'pretty-ms';

export const bytes = (value: number | null): string =>
  value === null ? 'unknown' : prettyBytes(value, { maximumFractionDigits: 1 });

/** `940`, `12.1 M`. */
export function count(value: number | null): string {
  if (value === null) return 'unknown';
  if (value >= 1e9) return `${(value / 1e9).toFixed(1)} G`;
  if (value >= 1e6) return `${(value / 1e6).toFixed(1)} M`;
  return String(Math.round(value)).replace(/\B(?=(\d{3})+$)/g, ' ');
}

export function seconds(value: number | null): string {
  if (value === null) return 'unknown';
  if (value < 60) return `${value < 10 ? value.toFixed(1) : Math.round(value)} s`;
  return prettyMs(value * 1_000, { unitCount: 2, secondsDecimalDigits: 0 });
}

export const ms = (value: number | null): string =>
  value === null ? 'unknown' : value < 1_000 ? `${Math.round(value)} ms` : seconds(value / 1_000);

export const percent = (part: number, whole: number | null): string =>
  whole === null || whole <= 0 ? '' : `${Math.min(100, Math.floor((part / whole) * 100))} %`;

/** Control characters of names that come from databases must not reach the terminal. */
export const plain = (text: string): string =>
  text.replace(
    /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g,
    (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
