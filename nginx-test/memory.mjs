// Requests with distinct tokens, for memory.sh:
//
//   node memory.mjs jwks DIR                                a JWK set, with the public half of DIR/client.key
//   node memory.mjs KIND FROM TO PORT DIR ISSUER [KEY]      one request for each number; KIND: jwt (signed with that key) or opaque
//
// Prints how many were answered with which status.
import { createHash, createPrivateKey, createPublicKey, sign, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import tls from 'node:tls';

const [kind, ...words] = process.argv.slice(2);
const read = (dir, name) => readFileSync(`${dir}/${name}`);
if (kind === 'jwks') {
  const jwk = createPublicKey(createPrivateKey(read(words[0], 'client.key'))).export({ format: 'jwk' });
  console.log(JSON.stringify({ keys: [{ ...jwk, kid: 'es', alg: 'ES256', use: 'sig' }] }));
  process.exit();
}

const [from, to, port] = words.slice(0, 3).map(Number);
const [dir, issuer] = words.slice(3);
const key = createPrivateKey(read(dir, 'client.key'));
const thumbprint = createHash('sha256').update(new X509Certificate(read(dir, 'client.crt')).raw).digest('base64url');
const base64url = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
const now = Math.floor(Date.now() / 1000);

function token(n) {
  if (kind === 'opaque') return `opaque-${n}-${'x'.repeat(32)}`;
  const claims = { iss: issuer, aud: 'https://api.test', sub: `user-${n}`, client_id: 'client', iat: now, exp: now + 3600, jti: `${n}`,
    cnf: { 'x5t#S256': thumbprint } };
  const signed = `${base64url({ typ: 'at+jwt', alg: 'ES256', kid: 'es' })}.${base64url(claims)}`;
  return `${signed}.${sign('sha256', Buffer.from(signed), { key, dsaEncoding: 'ieee-p1363' }).toString('base64url')}`;
}

const statuses = {};
let next = from;
// One connection: the next request when the answer to the last is there. Answers are short, and nginx sends each at once.
function connection() {
  return new Promise((resolve, reject) => {
    const socket = tls.connect({ host: '127.0.0.1', port, servername: 'api.test', ca: read(dir, 'ca.crt'), key: read(dir, 'client.key'),
      cert: read(dir, 'client.crt') });
    let input = '';
    const ask = () => {
      if (next >= to) return socket.end();
      socket.write(`GET / HTTP/1.1\r\nHost: api.test\r\nAuthorization: Bearer ${token(next++)}\r\n\r\n`);
    };
    socket.on('secureConnect', ask);
    socket.on('data', (data) => {
      input += data.toString('latin1');
      const head = input.indexOf('\r\n\r\n');
      if (head < 0) return;
      const chunked = /transfer-encoding: chunked/i.test(input.slice(0, head));
      const length = Number(/content-length: (\d+)/i.exec(input.slice(0, head))?.[1] ?? 0);
      if (chunked ? !input.endsWith('\r\n0\r\n\r\n') : input.length < head + 4 + length) return;
      const status = input.slice(9, 12);
      statuses[status] = (statuses[status] ?? 0) + 1;
      input = '';
      ask();
    });
    socket.on('close', resolve).on('error', reject);
  });
}
await Promise.all(Array.from({ length: 16 }, connection));
console.log(Object.entries(statuses).map(([status, count]) => `${status}: ${count}`).join(', '));
