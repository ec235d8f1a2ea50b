import { describe, expect, test } from 'vitest';
import { parseConfig } from '../../../src/engines/mysql/config.ts';
import { connect, type Link } from '../../../src/engines/mysql/connect.ts';
import { makeCertificates } from '../../support/certificates.ts';
import { startMysql, type MysqlFlavour } from '../../support/mysql-server.ts';
import { Workplace } from '../../support/engine-process.ts';
import { waitFor } from '../../support/wait.ts';

describe.each<MysqlFlavour>(['mysql', 'mariadb'])('TLS to %s', (flavour) => {
  test('every connection is encrypted, the one that reads the log too; a server that is not the one of the certificate is refused', async () => {
    const certificates = await makeCertificates();
    const { caFile, certFile, keyFile, otherCaFile } = certificates;
    const tls = { caFile, certFile, keyFile };
    const settings = { 'bind-address': '127.0.0.1,127.0.0.2' };
    await using blue = await startMysql({ flavour, tls, settings });
    await using green = await startMysql({ flavour, tls });
    // Whoever does not encrypt is not let in.
    for (const server of [blue, green]) {
      await server.query('CREATE DATABASE app');
      await server.query("CREATE USER 'secure'@'%' IDENTIFIED BY 'sesame-for-tests' REQUIRE SSL");
      await server.query("GRANT ALL PRIVILEGES ON *.* TO 'secure'@'%'");
      await server.query('CREATE TABLE item (id int PRIMARY KEY, v varchar(20))', 'app');
    }
    const open = async (tls: object, host = 'localhost'): Promise<Link> => {
      const parsed = parseConfig({ url: blue.url('app', 'secure').replace('127.0.0.1', host), tls });
      if ('issues' in parsed) throw new Error(JSON.stringify(parsed.issues));
      return connect(parsed.config, { name: 'tls', where: 'source' });
    };
    for (const mode of ['verify-full', 'verify-ca']) {
      await using link = await open({ mode, ca: caFile });
      expect((await link.rows("SHOW SESSION STATUS LIKE 'Ssl_cipher'"))[0]?.[1]).not.toBe('');
    }
    for (const mode of ['verify-full', 'verify-ca'])
      await expect(open({ mode, ca: otherCaFile })).rejects.toMatchObject({ code: 'SOURCE_CONNECT' });
    // A loopback address is not encrypted unless it is asked for, and this account has to be.
    await expect(open({})).rejects.toMatchObject({ code: 'SOURCE_CONNECT' });
    // The certificate names localhost. The driver would take that name for the one of any address, so addresses are refused.
    await (await open({ mode: 'verify-ca', ca: caFile }, '127.0.0.2'))[Symbol.asyncDispose]();
    await expect(open({ mode: 'verify-full', ca: caFile }, '127.0.0.2')).rejects.toThrow(/IP address/);

    const side = (url: string) =>
      `{ engine: mysql, url: "${url.replace('127.0.0.1', 'localhost')}", tls: { mode: verify-full, ca: "${caFile}" } }`;
    await using place = await Workplace.create({
      'verdigris.yaml': `version: 1
migration: tls
blue: ${side(blue.url('app', 'secure'))}
green: ${side(green.url('app', 'secure'))}
verify: { after_copy: "off" }
tables:
  - from: app.item
    to: [{ table: app.item }]
`,
    });
    await blue.query("INSERT INTO item VALUES (1, 'copied')", 'app');
    const engine = place.start();
    await engine.until('it replicates', (status) => status.phase === 'replicating');
    await blue.query("INSERT INTO item VALUES (2, 'streamed')", 'app');
    await waitFor(async () => (await green.query('SELECT id FROM item', 'app')).length === 2, {
      what: 'the row that came through the log',
    });
    expect(await engine.kill('SIGTERM')).toBe(143);
  }, 120_000);
});
