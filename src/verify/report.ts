/** A difference that survived: seen in two rounds, with blue's row the same before and after green was read. */
export interface Difference {
  readonly table: string;
  readonly kind: 'missing' | 'extra' | 'different';
  /** Green's key, column → text; `row hash` where there is no key. Never other values. */
  readonly key: Readonly<Record<string, string | null>>;
  readonly columns: readonly string[];
  /** ISO 8601. */
  readonly firstSeen: string;
}

export interface TableReport {
  readonly table: string;
  readonly rows: number;
  readonly differences: number;
  /** server: digests in both databases; mapped: blue rows through the plan; rows: as a multiset, the table has no key. */
  readonly method: 'server' | 'mapped' | 'rows';
  readonly notCompared: readonly { readonly column: string; readonly reason: string }[];
}

export interface Report {
  readonly ok: boolean;
  readonly rows: number;
  readonly seconds: number;
  readonly tables: readonly TableReport[];
  readonly mismatches: readonly Difference[];
}

export interface VerifyProgress {
  readonly table: string;
  readonly rows: number;
  readonly differences: number;
}
