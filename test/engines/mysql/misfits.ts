/**
 * What blue holds and green refuses: the type of blue, what green has by mistake, a value that both take, one that green does not, and
 * what the log of the engine is not to say of it.
 */
export interface Misfit {
  readonly wide: string;
  readonly narrow: string;
  readonly fits: string;
  readonly bad: string;
  readonly secret?: string;
  /** The message names the column; a constraint is named otherwise. */
  readonly names?: RegExp;
}

export const MISFITS: readonly Misfit[] = [
  { wide: 'bigint', narrow: 'smallint', fits: '32767', bad: '4711471', secret: '4711471' },
  { wide: 'int', narrow: 'int unsigned', fits: '7', bad: '-4711', secret: '4711' },
  { wide: 'varchar(40)', narrow: 'varchar(5)', fits: "'abcde'", bad: "'abc-secret'", secret: 'secret' },
  { wide: 'varchar(40)', narrow: 'varchar(40) NOT NULL', fits: "'x'", bad: 'NULL' },
  {
    wide: 'varchar(40) CHARACTER SET utf8mb4',
    narrow: 'varchar(40) CHARACTER SET latin1',
    fits: "'é'",
    bad: "'snow ☃ secret'",
    secret: 'secret',
  },
  { wide: 'decimal(10,4)', narrow: 'decimal(10,2)', fits: '1.25', bad: '471.1234', secret: '471.12' },
  { wide: 'double', narrow: 'float', fits: '1', bad: '4.711e300', secret: '4.711e' },
  {
    wide: 'datetime(6)',
    narrow: 'datetime(3)',
    fits: "'2026-01-01'",
    bad: "'2026-01-01 11:12:13.471147'",
    secret: '13.471',
  },
  {
    wide: 'datetime',
    narrow: 'timestamp NULL',
    fits: "'2026-01-01'",
    bad: "'1901-02-03 04:05:06'",
    secret: '1901',
  },
  { wide: "enum('a','b','sesam')", narrow: "enum('a','b')", fits: "'b'", bad: "'sesam'", secret: 'sesam' },
  { wide: 'longblob', narrow: 'varbinary(4)', fits: '0x01', bad: '0x4711471147', secret: '4711471147' },
  {
    wide: 'int',
    narrow: 'int, CONSTRAINT positive CHECK (v > 0)',
    fits: '1',
    bad: '-4711',
    secret: '4711',
    names: /positive/,
  },
  { wide: 'int', narrow: 'int, UNIQUE KEY once (v)', fits: '5', bad: '5', names: /once/ },
];

/** Statements that make a table `t0`, `t1` … for each misfit. */
export const misfitTables = (type: 'wide' | 'narrow'): string[] =>
  MISFITS.map((misfit, index) => `CREATE TABLE t${index} (id int PRIMARY KEY, v ${misfit[type]})`);
