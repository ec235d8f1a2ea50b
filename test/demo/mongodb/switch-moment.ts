import type { MongoClient, Timestamp } from 'mongodb';

import { waitFor } from '../../support/wait.ts';

/**
 * Blue is sealed before green is opened, and the record of green says open before its block goes: what was there at these writes is what
 * both sides held at the switch, everything that came before the fence and nothing that came after.
 */
const MOMENT = { blue: 'sealed', green: 'open' } as const;

/** Looks for the write that ends the switch on one side. The server can be read as of its cluster time for five minutes. */
export class SwitchMoment implements AsyncDisposable {
  readonly #side: keyof typeof MOMENT;
  readonly #stream: ReturnType<MongoClient['watch']>;
  #at: Timestamp | null = null;
  #failed: Error | null = null;

  private constructor(side: keyof typeof MOMENT, stream: ReturnType<MongoClient['watch']>) {
    this.#side = side;
    this.#stream = stream;
    stream.on('change', ({ clusterTime }) => (this.#at = clusterTime ?? null));
    stream.on('error', (error) => (this.#failed = error));
  }

  /** Sees every write from now on, however late it is asked for. */
  static async watch(
    side: keyof typeof MOMENT,
    client: MongoClient,
    migration: string,
  ): Promise<SwitchMoment> {
    const { operationTime } = (await client.db('admin').command({ ping: 1 })) as { operationTime: Timestamp };
    const stream = client
      .db('verdigris')
      .collection('fence')
      .watch(
        [
          {
            $match: {
              'documentKey._id': migration,
              'updateDescription.updatedFields.state': MOMENT[side],
            },
          },
        ],
        { startAtOperationTime: operationTime },
      );
    return new SwitchMoment(side, stream);
  }

  /** @throws Error when there was no such write */
  async taken(): Promise<Timestamp> {
    return await waitFor(
      () => {
        if (this.#failed !== null) throw this.#failed;
        return this.#at;
      },
      { what: `the fence of ${this.#side} to be ${MOMENT[this.#side]}`, timeoutMs: 10_000 },
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stream.close();
  }
}
