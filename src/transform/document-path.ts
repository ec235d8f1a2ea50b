import type { DocumentPath } from '../core/document.ts';

/** The names of a path with dots; `\.` and `\\` are a dot and a backslash of a name. The reason when it is none. */
export function parsePath(text: string): DocumentPath | string {
  const names: string[] = [''];
  for (let at = 0; at < text.length; at++) {
    let char = text[at] as string;
    if (char === '.') {
      names.push('');
      continue;
    }
    if (char === '\\') {
      at += 1;
      char = text[at] ?? '';
      if (char !== '.' && char !== '\\') return 'has a backslash that is not before a dot or a backslash';
    }
    names[names.length - 1] += char;
  }
  return names.includes('') ? 'has an empty name' : names;
}

/** Whether the first path is the second, or above it. */
export const covers = (above: DocumentPath, path: DocumentPath): boolean =>
  above.length <= path.length && above.every((name, index) => name === path[index]);

export const samePath = (left: DocumentPath, right: DocumentPath): boolean =>
  left.length === right.length && covers(left, right);

/** Both are fields of one document. */
export const siblings = (left: DocumentPath, right: DocumentPath): boolean =>
  samePath(left.slice(0, -1), right.slice(0, -1));
