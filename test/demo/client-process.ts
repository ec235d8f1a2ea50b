import type { Book, ClientOptions, FromClients, ToClients } from './ledger.ts';

const PROGRESS_MS = 500;

/** One client of the shop: one transaction after the other. */
export interface Client {
  connect(): Promise<void>;
  /** Until it is held. */
  shop(): Promise<void>;
  /** Ends its transaction, and then itself. */
  hold(): void;
}

/** The process of the clients: nothing else runs in it, so that the times they measure are their own. Started by load.ts. */
export function runClients(make: (number: number, options: ClientOptions, book: Book) => Client): void {
  const book: Book = { committed: [], failures: [], waits: [], byAction: {} };
  let clients: Client[] = [];

  // The parent is gone: nobody would stop the clients.
  process.once('disconnect', () => process.exit(1));
  // Ctrl-C reaches the whole group; the parent decides in which order things end.
  process.on('SIGINT', () => undefined);
  process.on('message', (message: ToClients) => {
    if (message.kind === 'hold') for (const client of clients) client.hold();
    else void run(message.options);
  });

  async function run(options: ClientOptions): Promise<void> {
    clients = Array.from({ length: options.count }, (_, number) => make(number, options, book));
    await Promise.all(clients.map((client) => client.connect()));
    tell({ kind: 'connected' });
    const progress = setInterval(
      () => tell({ kind: 'progress', committed: book.committed.length, failed: book.failures.length }),
      PROGRESS_MS,
    );
    await Promise.all(clients.map((client) => client.shop()));
    clearInterval(progress);
    tell({ kind: 'ledger', ledger: book });
  }
}

function tell(message: FromClients): void {
  process.send?.(message);
}
