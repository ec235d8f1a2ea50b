/** A value of a statement: text, or bytes in the binary form of the parameter's type; `null` is NULL. */
export type Param = string | Buffer | null;

const NULL = Buffer.from([0xff, 0xff, 0xff, 0xff]);
/** No codes: all columns of the result as text. */
const RESULT = Buffer.from([0, 0]);

/**
 * A Bind message (unnamed portal) in pieces to be written one after the other. `pg` copies every value into a buffer that grows with them,
 * several times for a column of megabytes; here they are written from where they are.
 */
export function bindMessage(statement: string, values: readonly Param[]): Buffer[] {
  const bytes = values.map((value) => (typeof value === 'string' ? Buffer.from(value) : value));
  const name = Buffer.byteLength(statement);
  const head = Buffer.alloc(1 + 4 + 1 + name + 1 + 2 + 2 * values.length + 2);
  let at = head.write('B');
  // Its length comes last, when it is known; then an empty portal name.
  at += 4 + 1;
  at += head.write(statement, at) + 1;
  at = head.writeUInt16BE(values.length, at);
  for (const value of values) at = head.writeUInt16BE(value instanceof Buffer ? 1 : 0, at);
  head.writeUInt16BE(values.length, at);
  const pieces: Buffer[] = [head];
  let length = head.length - 1 + RESULT.length;
  for (const value of bytes) {
    if (value === null) pieces.push(NULL);
    else {
      const size = Buffer.allocUnsafe(4);
      size.writeInt32BE(value.length);
      pieces.push(size, value);
      length += value.length;
    }
    length += 4;
  }
  pieces.push(RESULT);
  head.writeInt32BE(length, 1);
  return pieces;
}

const COPY_DONE = Buffer.from([0x63, 0, 0, 0, 4]);

/** The data of a COPY as messages, and its end. */
export function* copyMessages(chunks: readonly Buffer[]): Generator<Buffer> {
  for (const chunk of chunks) {
    const head = Buffer.allocUnsafe(5);
    head.write('d');
    head.writeInt32BE(4 + chunk.length, 1);
    yield head;
    yield chunk;
  }
  yield COPY_DONE;
}

/** A Parse message; the server finds the types of the parameters. */
export function parseMessage(statement: string, text: string): Buffer {
  return message('P', `${statement}\0${text}\0`, Buffer.from([0, 0]));
}

/** Close of a prepared statement; that of an unknown one is no error. */
export function closeMessage(statement: string): Buffer {
  return message('C', `S${statement}\0`);
}

/** Execute of the unnamed portal, all rows. */
export const EXECUTE = message('E', '\0', Buffer.from([0, 0, 0, 0]));
export const SYNC = message('S', '');

function message(code: string, text: string, rest: Buffer = Buffer.alloc(0)): Buffer {
  const body = Buffer.from(text);
  const head = Buffer.allocUnsafe(5);
  head.write(code);
  head.writeInt32BE(4 + body.length + rest.length, 1);
  return Buffer.concat([head, body, rest]);
}

const BLOCK_BYTES = 16 * 1024;
/** Up to this size copying is cheaper than one more piece in the list of a write. */
const COPIED_BYTES = 4 * 1024;

/**
 * Puts small pieces together on their way to a socket. A group over 500 tables is some 10,000 of them, and the system takes 1,024 in one call: writing
 * them as they are took longer than encoding the rows.
 */
export class Gather {
  readonly #write: (bytes: Buffer) => void;
  #block: Buffer | null = null;
  #used = 0;

  constructor(write: (bytes: Buffer) => void) {
    this.#write = write;
  }

  add(piece: Buffer): void {
    if (piece.length > COPIED_BYTES) {
      this.flush();
      this.#write(piece);
      return;
    }
    if (this.#block !== null && this.#used + piece.length > this.#block.length) this.flush();
    this.#block ??= Buffer.allocUnsafe(BLOCK_BYTES);
    piece.copy(this.#block, this.#used);
    this.#used += piece.length;
  }

  flush(): void {
    if (this.#block !== null) this.#write(this.#block.subarray(0, this.#used));
    this.#block = null;
    this.#used = 0;
  }
}
