/** A place in the configuration: keys and array indexes from the root. */
export type ConfigPath = readonly (string | number)[];

/** `cutover.proxies[0].admin_url`; keys that would be ambiguous are quoted. */
export function showPath(path: ConfigPath): string {
  let text = '';
  for (const part of path) {
    if (typeof part === 'number') text += `[${part}]`;
    else if (/^[A-Za-z_][\w-]*$/.test(part)) text += text === '' ? part : `.${part}`;
    else text += `[${JSON.stringify(part)}]`;
  }
  return text === '' ? '(root)' : text;
}

/** Reads `a.b[0].c`, `a.b.0.c`; null when it is not a path. */
export function parsePath(text: string): (string | number)[] | null {
  const parts: (string | number)[] = [];
  let rest = text;
  while (rest !== '') {
    const match = /^(?:\.?([A-Za-z_][\w-]*)|\.?(\d+)(?![\w-])|\[(\d+)\]|\[("(?:[^"\\]|\\.)*")\])/.exec(rest);
    if (!match || (parts.length === 0 && rest.startsWith('.'))) return null;
    if (match[1] !== undefined) parts.push(match[1]);
    else if (match[4] !== undefined) parts.push(JSON.parse(match[4]) as string);
    else parts.push(Number(match[2] ?? match[3]));
    rest = rest.slice(match[0].length);
  }
  return parts.length > 0 ? parts : null;
}

/** One text per path, for maps. */
export const pathId = (path: ConfigPath): string => JSON.stringify(path.map(String));
