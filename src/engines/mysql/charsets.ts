import { VerdigrisError } from '../../core/errors.ts';
import type { Link } from './connect.ts';
import { literal } from './sql.ts';

/** Bytes in a character set of the server as text. */
export type Decode = (bytes: Buffer) => string;

/** What the encoding standard of the web calls the multi-byte sets that the server has. */
const MULTIBYTE: Readonly<Record<string, string>> = {
  gbk: 'gbk',
  gb2312: 'gbk',
  gb18030: 'gb18030',
  big5: 'big5',
  sjis: 'shift_jis',
  cp932: 'shift_jis',
  ujis: 'euc-jp',
  eucjpms: 'euc-jp',
  euckr: 'euc-kr',
  utf16: 'utf-16be',
  utf16le: 'utf-16le',
  ucs2: 'utf-16be',
};

const DIRECT: Readonly<Record<string, Decode>> = {
  utf8mb4: (bytes) => bytes.toString('utf8'),
  utf8mb3: (bytes) => bytes.toString('utf8'),
  utf8: (bytes) => bytes.toString('utf8'),
  ascii: (bytes) => bytes.toString('latin1'),
  utf32: (bytes) => {
    let text = '';
    for (let at = 0; at < bytes.length; at += 4) text += String.fromCodePoint(bytes.readUInt32BE(at));
    return text;
  },
};

/**
 * Decoders of the binary log's texts by character set. A set of one byte per character is read from the server itself, character by
 * character, so that the log and a SELECT agree about every one; its latin1, for one, is neither ISO 8859-1 nor quite cp1252.
 */
export class Charsets {
  readonly #decoders = new Map<string, Decode>(Object.entries(DIRECT));
  /** Character set by the number of a collation, as the log names it. */
  #collations: ReadonlyMap<number, string> = new Map();

  /** Reads what the server knows of these sets. Call once, before {@link decoder}. */
  async load(link: Link, needed: ReadonlySet<string>): Promise<void> {
    const rows = await link.rows(
      link.flavour === 'mysql'
        ? 'SELECT ID, CHARACTER_SET_NAME FROM information_schema.COLLATIONS WHERE ID IS NOT NULL'
        : 'SELECT ID, CHARACTER_SET_NAME FROM information_schema.COLLATION_CHARACTER_SET_APPLICABILITY WHERE ID IS NOT NULL',
    );
    this.#collations = new Map(rows.map(([id, name]) => [Number(id), name as string]));
    const single = await link.rows(
      'SELECT CHARACTER_SET_NAME FROM information_schema.CHARACTER_SETS WHERE MAXLEN = 1',
    );
    for (const [name] of single) {
      const charset = name as string;
      if (charset === 'binary' || this.#decoders.has(charset) || !needed.has(charset)) continue;
      this.#decoders.set(charset, await singleByte(link, charset));
    }
  }

  charsetOf(collation: number): string | null {
    return this.#collations.get(collation) ?? null;
  }

  /** @throws VerdigrisError SCHEMA_UNSUPPORTED */
  decoder(charset: string): Decode {
    const known = this.#decoders.get(charset);
    if (known !== undefined) return known;
    const label = MULTIBYTE[charset];
    if (label === undefined)
      throw new VerdigrisError(
        'SCHEMA_UNSUPPORTED',
        `The character set ${charset} cannot be read from the binary log.`,
      );
    const decoder = new TextDecoder(label, { fatal: true, ignoreBOM: true });
    const decode: Decode = (bytes) => decoder.decode(bytes);
    this.#decoders.set(charset, decode);
    return decode;
  }
}

/** True when texts of this set can be read from the log. */
export const isKnownCharset = (charset: string, maxBytes: number): boolean =>
  maxBytes === 1 || Object.hasOwn(DIRECT, charset) || Object.hasOwn(MULTIBYTE, charset);

async function singleByte(link: Link, charset: string): Promise<Decode> {
  const codes = Array.from({ length: 256 }, (_, code) => code);
  const hex = (code: number): string => code.toString(16).padStart(2, '0');
  const rows = await link.rows(
    codes
      .map(
        (code) =>
          `SELECT ${code}, HEX(CONVERT(CONVERT(UNHEX(${literal(hex(code))}) USING ${charset}) USING utf32))`,
      )
      .join(' UNION ALL '),
  );
  const table = codes.map(() => '\ufffd');
  for (const [code, point] of rows) {
    if (point === null || point === undefined || point === '') continue;
    table[Number(code)] = String.fromCodePoint(parseInt(point, 16));
  }
  return (bytes) => {
    let text = '';
    for (let at = 0; at < bytes.length; at += 1) text += table[bytes[at] as number] as string;
    return text;
  };
}
