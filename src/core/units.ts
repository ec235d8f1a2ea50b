const DURATION = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;
const SIZE = {
  B: 1,
  kB: 1e3,
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
  KiB: 2 ** 10,
  MiB: 2 ** 20,
  GiB: 2 ** 30,
  TiB: 2 ** 40,
} as const;

/** `1h30m`, `500ms`, `2.5s`; milliseconds, or null when it is not a duration. A bare number is refused: it has no unit. */
export function parseDuration(text: string): number | null {
  let total = 0;
  let rest = text.trim();
  if (rest === '') return null;
  while (rest !== '') {
    const match = /^(\d+(?:\.\d+)?)(ms|s|m|h|d)/.exec(rest);
    if (!match) return null;
    total += Number(match[1]) * DURATION[match[2] as keyof typeof DURATION];
    rest = rest.slice(match[0].length);
  }
  return total;
}

/** `64MiB`, `20GB`; bytes, or null when it is not a size. */
export function parseSize(text: string): number | null {
  const match = /^(\d+(?:\.\d+)?)\s*(B|kB|KB|MB|GB|TB|KiB|MiB|GiB|TiB)$/.exec(text.trim());
  if (!match) return null;
  return Math.round(Number(match[1]) * SIZE[match[2] as keyof typeof SIZE]);
}
