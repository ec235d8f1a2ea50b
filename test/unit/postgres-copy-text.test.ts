import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Tuple } from '../../src/core/table.ts';
import { parseCopyText } from '../../src/engines/postgres/copy-text.ts';

async function parse(chunks: readonly Uint8Array[], columns: number, rows?: number): Promise<Tuple[][]> {
  const pieces: Tuple[][] = [];
  const input = (async function* () {
    yield* chunks;
  })();
  const options = rows === undefined ? { columns } : { columns, rows };
  for await (const piece of parseCopyText(input, options)) pieces.push([...piece]);
  return pieces;
}

/** Written from the documentation of COPY, apart from the parser. */
function print(row: readonly (string | null)[]): string {
  const letters: Record<string, string> = {
    '\b': 'b',
    '\f': 'f',
    '\n': 'n',
    '\r': 'r',
    '\t': 't',
    '\v': 'v',
    '\\': '\\',
  };
  return `${row
    .map((cell) =>
      cell === null ? '\\N' : cell.replace(/[\b\f\n\r\t\v\\]/g, (char) => `\\${letters[char]}`),
    )
    .join('\t')}\n`;
}

describe('COPY text', () => {
  it('tells NULL, the empty string and a literal backslash N apart', async () => {
    expect(await parse([Buffer.from('\\N\t\t\\\\N\n')], 3)).toEqual([[[null, '', '\\N']]]);
  });

  it('keeps a byte order mark, which is data', async () => {
    expect(await parse([Buffer.from('\ufeffa\n')], 1)).toEqual([[['\ufeffa']]]);
  });

  it('reads rows without columns', async () => {
    expect(await parse([Buffer.from('\n\n')], 0)).toEqual([[[], []]]);
  });

  it('ends pieces by rows and by bytes', async () => {
    expect((await parse([Buffer.from('1\n2\n3\n4\n5\n')], 1, 2)).map((piece) => piece.length)).toEqual([
      2, 2, 1,
    ]);
  });

  it('refuses bytes that are not UTF-8, a torn row and a row of another width', async () => {
    await expect(parse([Uint8Array.of(0xff, 10)], 1)).rejects.toThrow(TypeError);
    await expect(parse([Buffer.from('a\nb')], 1)).rejects.toThrow(/ends inside a row/);
    await expect(parse([Buffer.from('a\tb\n')], 3)).rejects.toThrow(/2 fields, expected 3/);
  });

  it('gives back what was printed, wherever the chunks are cut', async () => {
    const cell = fc.option(
      fc.string({
        unit: fc.constantFrom(
          'a',
          '\t',
          '\n',
          '\r',
          '\\',
          '\b',
          '\f',
          '\v',
          'N',
          '.',
          'é',
          '𝄞',
          '\uffff',
          ' ',
        ),
      }),
    );
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(cell, cell, cell), { maxLength: 8 }),
        fc.array(fc.nat(200), { maxLength: 6 }),
        async (rows, cuts) => {
          const bytes = Buffer.from(rows.map(print).join(''));
          const at = [
            0,
            ...cuts.map((cut) => Math.min(cut, bytes.length)).toSorted((a, b) => a - b),
            bytes.length,
          ];
          const chunks = at.slice(1).map((end, index) => bytes.subarray(at[index], end));
          expect((await parse(chunks, 3)).flat()).toEqual(rows);
        },
      ),
    );
  });
});
