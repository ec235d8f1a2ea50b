import type { ClientSession, Db, MongoClient } from 'mongodb';
import { VerdigrisError } from '../../core/errors.ts';
import type {
  StoredDifference,
  StoredVerification,
  TableProgress,
  VerificationRound,
  VerificationStore,
} from '../../core/verification.ts';
import { translate } from './errors.ts';
import { holdLease } from './state.ts';
import { prepareState, transactAgain } from './state-database.ts';

type Kept<T> = T & { readonly run: string };
type KeptDifference = Omit<StoredDifference, 'key'> & {
  readonly run: string;
  readonly ordinal: number;
  /** JSON: names of columns may have dots. */
  readonly key: string;
};

/** The last verification of a run, in our database of one side. */
export class MongoVerificationStore implements VerificationStore {
  readonly #client: MongoClient;
  readonly #db: Db;

  constructor(client: MongoClient, stateDatabase: string) {
    this.#client = client;
    this.#db = client.db(stateDatabase);
  }

  prepare(): Promise<void> {
    return this.#guarded(() => prepareState(this.#db));
  }

  load(id: string): Promise<StoredVerification | null> {
    return this.#guarded(async () => {
      const bare = { projection: { _id: 0, run: 0 } };
      const round = await this.#db
        .collection<Kept<VerificationRound>>('verify_round')
        .findOne({ run: id }, bare);
      if (round === null) return null;
      const tables = await this.#db
        .collection<Kept<TableProgress>>('verify_table')
        .find({ run: id }, bare)
        .sort({ table: 1 })
        .toArray();
      const found = await this.#db
        .collection<KeptDifference>('verify_difference')
        .find({ run: id }, bare)
        .sort({ ordinal: 1 })
        .toArray();
      return {
        round,
        tables,
        differences: found.map(({ table, kind, key, columns, firstSeen }) => ({
          table,
          kind,
          key: JSON.parse(key) as StoredDifference['key'],
          columns,
          firstSeen,
        })),
      };
    });
  }

  begin(id: string, term: number, round: VerificationRound): Promise<void> {
    return this.#write(id, term, async (session) => {
      await this.#remove(id, session);
      await this.#db.collection('verify_round').insertOne({ run: id, ...round }, { session });
    });
  }

  advance(
    id: string,
    term: number,
    progress: TableProgress,
    found: readonly StoredDifference[],
  ): Promise<void> {
    return this.#write(id, term, async (session) => {
      await this.#db
        .collection('verify_table')
        .replaceOne({ run: id, table: progress.table }, { run: id, ...progress }, { upsert: true, session });
      await this.#add(id, found, session);
    });
  }

  finish(
    id: string,
    term: number,
    round: VerificationRound,
    differences?: readonly StoredDifference[],
  ): Promise<void> {
    return this.#write(id, term, async (session) => {
      await this.#db.collection('verify_round').deleteMany({ run: id }, { session });
      await this.#db.collection('verify_round').insertOne({ run: id, ...round }, { session });
      if (differences === undefined) return;
      await this.#db.collection('verify_difference').deleteMany({ run: id }, { session });
      await this.#add(id, differences, session);
    });
  }

  retire(id: string): Promise<void> {
    return this.#guarded(() => this.#remove(id));
  }

  async #add(id: string, found: readonly StoredDifference[], session: ClientSession): Promise<void> {
    if (found.length === 0) return;
    const differences = this.#db.collection<KeptDifference>('verify_difference');
    const [last] = await differences.find({ run: id }, { session }).sort({ ordinal: -1 }).limit(1).toArray();
    const first = (last?.ordinal ?? 0) + 1;
    await differences.insertMany(
      found.map((one, index) => ({ ...one, run: id, ordinal: first + index, key: JSON.stringify(one.key) })),
      { session },
    );
  }

  async #remove(id: string, session?: ClientSession): Promise<void> {
    for (const name of ['verify_round', 'verify_table', 'verify_difference'] as const)
      await this.#db.collection(name).deleteMany({ run: id }, session === undefined ? {} : { session });
  }

  #write(id: string, term: number, work: (session: ClientSession) => Promise<void>): Promise<void> {
    return this.#guarded(() =>
      transactAgain(this.#client, async (session) => {
        if (!(await holdLease(this.#db, session, id, term)))
          throw new VerdigrisError('SINK_FENCED', `The lease of ${id} is not of term ${term} any more.`);
        await work(session);
      }),
    );
  }

  async #guarded<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      throw translate(error, 'state', { database: this.#db.databaseName });
    }
  }
}
