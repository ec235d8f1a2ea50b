import { MongoClient } from 'mongodb';

/** What the server does instead of answering, as its own test command `failCommand` takes it. */
export interface Failure {
  readonly failCommands: readonly string[];
  /** Only commands of this client. */
  readonly appName: string;
  readonly closeConnection?: true;
  readonly errorCode?: number;
  /** The command is carried out, and its outcome reported as not known. */
  readonly writeConcernError?: { readonly code: number; readonly errmsg: string };
}

export interface Armed extends AsyncDisposable {
  /** How often it has struck so far. */
  hits(): Promise<number>;
}

/** A server that takes {@link arm}. */
export const TEST_COMMANDS = { enableTestCommands: '1' } as const;

/** From now on the server fails so many of these commands; until it is disposed of. */
export async function arm(uri: string, failure: Failure, times: number): Promise<Armed> {
  const client = await new MongoClient(uri).connect();
  const set = async (mode: object | string, data: object = {}): Promise<number> => {
    const reply = await client.db('admin').command({ configureFailPoint: 'failCommand', mode, data });
    return Number(reply['count']);
  };
  const before = await set({ times }, failure);
  return {
    // Asked by itself, without a change of the mode.
    hits: async () => {
      const reply = await client.db('admin').command({ getParameter: 1, 'failpoint.failCommand': 1 });
      return Number((reply['failpoint.failCommand'] as { timesEntered: number }).timesEntered) - before;
    },
    async [Symbol.asyncDispose]() {
      await set('off');
      await client.close();
    },
  };
}
