/**
 * The driver's own carrier of documents that are bytes already (OP_MSG section of kind 1). It is not exported: `mongodb` is pinned
 * exactly, and test/engines/mongodb/bytes.test.ts fails when it is gone or drops a byte.
 */
declare module 'mongodb/lib/cmap/commands.js' {
  export class DocumentSequence {
    constructor(field: string);
    /** Returns the length of the section so far. */
    push(document: object, bytes: Uint8Array): number;
  }
}
