/** A TypeScript source split into what the rules look at. Line numbers are kept: what is taken out leaves blanks. */
export interface SourceText {
  /** Comments blanked. Strings stay, for import specifiers. */
  withoutComments: string;
  /** Comments and the contents of strings, templates and regular expressions blanked. */
  codeOnly: string;
}

// What may stand before a regular expression; anywhere else a slash divides.
const BEFORE_REGEX =
  /(?:^|[([{,;:=!&|?+\-*%~^<>}]|\b(?:return|typeof|case|in|of|do|else|void|delete|throw|await|yield))$/;

/** Code in which nothing begins or ends: taken as one piece. */
const PLAIN = /[^'"`/{}]+/y;

const known = new Map<string, SourceText>();

/** The same for every rule that asks; split once. */
export function splitSource(text: string): SourceText {
  let split = known.get(text);
  if (split === undefined) {
    split = lex(text);
    known.set(text, split);
  }
  return split;
}

/** Enough of a lexer to know comment from string from code; not a parser. */
function lex(text: string): SourceText {
  let withoutComments = '';
  let codeOnly = '';
  let code = '';
  let at = 0;
  const take = (length: number, kind: 'code' | 'string' | 'comment'): void => {
    const piece = text.slice(at, at + length);
    const blank = piece.replaceAll(/[^\n]/g, ' ');
    withoutComments += kind === 'comment' ? blank : piece;
    codeOnly += kind === 'code' ? piece : blank;
    if (kind === 'code') code = (code + piece).slice(-200);
    if (kind === 'string') code += '"';
    at += length;
  };
  /** Braces open inside each `${` that is being read. */
  const templates: number[] = [];
  while (at < text.length) {
    const two = text.slice(at, at + 2);
    const one = text[at] ?? '';
    if (two === '//') take(lengthUntil(text, at, '\n'), 'comment');
    else if (two === '/*') take(lengthUntil(text, at + 2, '*/') + 4, 'comment');
    else if (one === "'" || one === '"') take(quotedLength(text, at, one), 'string');
    else if (one === '`' || (one === '}' && templates.at(-1) === 0)) {
      if (one === '}') templates.pop();
      const { length, substitution } = templatePiece(text, at);
      take(length, 'string');
      if (substitution) templates.push(0);
    } else if (one === '/' && BEFORE_REGEX.test(code.trimEnd())) take(regexLength(text, at), 'string');
    else {
      PLAIN.lastIndex = at;
      const plain = PLAIN.exec(text)?.[0].length ?? 0;
      if (plain > 0) {
        take(plain, 'code');
        continue;
      }
      const open = templates.length - 1;
      const depth = templates[open];
      if (depth !== undefined && one === '{') templates[open] = depth + 1;
      if (depth !== undefined && one === '}') templates[open] = depth - 1;
      take(1, 'code');
    }
  }
  return { withoutComments, codeOnly };
}

function lengthUntil(text: string, from: number, end: string): number {
  const found = text.indexOf(end, from);
  return (found === -1 ? text.length : found) - from;
}

function quotedLength(text: string, from: number, quote: string): number {
  let at = from + 1;
  while (at < text.length && text[at] !== quote && text[at] !== '\n') at += text[at] === '\\' ? 2 : 1;
  return at + 1 - from;
}

function templatePiece(text: string, from: number): { length: number; substitution: boolean } {
  let at = from + 1;
  while (at < text.length && text[at] !== '`') {
    if (text[at] === '$' && text[at + 1] === '{') return { length: at + 2 - from, substitution: true };
    at += text[at] === '\\' ? 2 : 1;
  }
  return { length: at + 1 - from, substitution: false };
}

function regexLength(text: string, from: number): number {
  let at = from + 1;
  let inClass = false;
  while (at < text.length && text[at] !== '\n' && (inClass || text[at] !== '/')) {
    if (text[at] === '[') inClass = true;
    if (text[at] === ']') inClass = false;
    at += text[at] === '\\' ? 2 : 1;
  }
  return at + 1 - from;
}
