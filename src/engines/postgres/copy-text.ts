import type { Cell, Tuple } from '../../core/table.ts';

export interface CopyTextOptions {
  /** Columns per row. */
  readonly columns: number;
  /** Rows per piece; a piece is also ended when it holds `maxBytes` of input. */
  readonly rows?: number;
  readonly maxBytes?: number;
}

const ESCAPED: Readonly<Record<string, string>> = { b: '\b', f: '\f', n: '\n', r: '\r', t: '\t', v: '\v' };

const unescape = (field: string): string =>
  field.replace(/\\([\s\S])/g, (_, char: string) => ESCAPED[char] ?? char);

/**
 * Parses COPY text (format text, default delimiter and NULL) into tuples of text cells. Tabs and line ends inside values are
 * always escaped by the server, so lines and fields are found by plain splitting, and only lines with a backslash are
 * looked at closer.
 * @throws TypeError when the bytes are not UTF-8: a lossy decoder would change values in silence
 */
export async function* parseCopyText(
  input: AsyncIterable<Uint8Array>,
  options: CopyTextOptions,
): AsyncGenerator<readonly Tuple[]> {
  const { columns, rows: maxRows = 2_000, maxBytes = 4 * 1024 * 1024 } = options;
  // Keeps a leading U+FEFF, which is data here.
  const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
  let carried: Uint8Array[] = [];
  let rows: Tuple[] = [];
  let bytes = 0;
  for await (const chunk of input) {
    const end = chunk.lastIndexOf(10) + 1;
    if (end === 0) {
      if (chunk.length > 0) carried.push(chunk);
      continue;
    }
    const whole = chunk.subarray(0, end);
    const text = decoder.decode(carried.length === 0 ? whole : Buffer.concat([...carried, whole]));
    carried = end === chunk.length ? [] : [chunk.subarray(end)];
    bytes += text.length;
    const lines = text.split('\n');
    lines.pop();
    for (const line of lines) {
      rows.push(parseLine(line, columns));
      if (rows.length >= maxRows) {
        yield rows;
        rows = [];
        bytes = 0;
      }
    }
    if (bytes >= maxBytes && rows.length > 0) {
      yield rows;
      rows = [];
      bytes = 0;
    }
  }
  if (carried.length > 0) throw new TypeError('COPY text ends inside a row');
  if (rows.length > 0) yield rows;
}

function parseLine(line: string, columns: number): Tuple {
  if (columns === 0) return [];
  const fields: Cell[] = line.split('\t');
  if (fields.length !== columns)
    throw new TypeError(`COPY text has ${fields.length} fields, expected ${columns}`);
  if (!line.includes('\\')) return fields;
  for (let index = 0; index < fields.length; index++) {
    const field = fields[index] as string;
    if (field === '\\N') fields[index] = null;
    else if (field.includes('\\')) fields[index] = unescape(field);
  }
  return fields;
}
