import { createPublicKey, generateKeyPairSync, type KeyObject, randomBytes, sign } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { newDir } from './run-dir.ts';

export interface TestCertificates {
  /** For `startPostgres({ tls })`: a certificate for localhost and 127.0.0.1, signed by the authority in `caFile`. */
  certFile: string;
  keyFile: string;
  caFile: string;
  /** An authority that signed nothing here: a client that trusts only this one must refuse the server. */
  otherCaFile: string;
}

const DAY_MS = 86_400_000;

/** Makes certificates for this run, so that no private key lies in the repository. Elliptic curve P-256, valid for a day. */
export async function makeCertificates(): Promise<TestCertificates> {
  const dir = await newDir('tls');
  const authority = makeAuthority('Verdigris test authority');
  const other = makeAuthority('another authority');
  const server = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const certificate = makeCertificate({
    subject: 'localhost',
    issuer: authority.name,
    signer: authority.key,
    publicKey: server.publicKey,
    extensions: [
      extension(
        '551d11',
        sequence(tlv(0x82, Buffer.from('localhost')), tlv(0x87, Buffer.from([127, 0, 0, 1]))),
      ),
    ],
  });
  const files = {
    certFile: 'server.pem',
    keyFile: 'server-key.pem',
    caFile: 'ca.pem',
    otherCaFile: 'other-ca.pem',
  };
  const place = async (name: string, text: string): Promise<string> => {
    const file = join(dir, name);
    await writeFile(file, text, { mode: 0o644 });
    return file;
  };
  return {
    certFile: await place(files.certFile, certificate),
    keyFile: await place(
      files.keyFile,
      server.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    ),
    caFile: await place(files.caFile, authority.certificate),
    otherCaFile: await place(files.otherCaFile, other.certificate),
  };
}

function makeAuthority(name: string): { name: string; key: KeyObject; certificate: string } {
  const { privateKey: key } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const isAuthority = extension('551d13', sequence(tlv(0x01, Buffer.from([0xff]))), true);
  const certificate = makeCertificate({
    subject: name,
    issuer: name,
    signer: key,
    publicKey: createPublicKey(key),
    extensions: [isAuthority],
  });
  return { name, key, certificate };
}

interface CertificateParts {
  subject: string;
  issuer: string;
  signer: KeyObject;
  publicKey: KeyObject;
  extensions: readonly Buffer[];
}

/** X.509 version 3 in DER, wrapped as PEM. */
function makeCertificate(parts: CertificateParts): string {
  const algorithm = sequence(identifier('2a8648ce3d040302')); // ecdsa-with-SHA256
  const now = Date.now();
  const body = sequence(
    tlv(0xa0, tlv(0x02, Buffer.from([2]))),
    tlv(0x02, Buffer.concat([Buffer.from([1]), randomBytes(8)])),
    algorithm,
    commonName(parts.issuer),
    sequence(time(now - DAY_MS), time(now + DAY_MS)),
    commonName(parts.subject),
    parts.publicKey.export({ type: 'spki', format: 'der' }),
    tlv(0xa3, sequence(...parts.extensions)),
  );
  const signature = sign('sha256', body, parts.signer);
  const der = sequence(body, algorithm, tlv(0x03, Buffer.concat([Buffer.from([0]), signature])));
  const lines = der.toString('base64').match(/.{1,64}/g) ?? [];
  return `-----BEGIN CERTIFICATE-----\n${lines.join('\n')}\n-----END CERTIFICATE-----\n`;
}

function tlv(tag: number, content: Buffer): Buffer {
  const size = content.length;
  const length = size < 0x80 ? [size] : size < 0x100 ? [0x81, size] : [0x82, size >> 8, size & 0xff];
  return Buffer.concat([Buffer.from([tag, ...length]), content]);
}

function sequence(...parts: readonly Buffer[]): Buffer {
  return tlv(0x30, Buffer.concat(parts));
}

function identifier(hex: string): Buffer {
  return tlv(0x06, Buffer.from(hex, 'hex'));
}

function commonName(name: string): Buffer {
  return sequence(tlv(0x31, sequence(identifier('550403'), tlv(0x0c, Buffer.from(name)))));
}

function extension(hex: string, value: Buffer, critical = false): Buffer {
  const flag = critical ? [tlv(0x01, Buffer.from([0xff]))] : [];
  return sequence(identifier(hex), ...flag, tlv(0x04, value));
}

function time(at: number): Buffer {
  const digits = new Date(at).toISOString().replaceAll(/[-:T]/g, '').slice(0, 14);
  return tlv(0x18, Buffer.from(`${digits}Z`));
}
