// Requests with distinct tokens, for memory.sh and reload.sh:
//
//   node tokens.mjs jwks DIR                                a JWK set, with the public half of DIR/client.key
//   node tokens.mjs KIND FROM TO PORT DIR ISSUER            one request for each number; KIND: jwt (signed with that key) or opaque.
//                                                           Prints how many were answered with which status
//   node tokens.mjs traffic PORT DIR ISSUER                 requests of all sorts, until the standard input ends. Says `under way` when each
//                                                           sort had an answer; at the end how all were answered, and ends with 1 if one
//                                                           was not as it must be
//   node tokens.mjs crashes PORT DIR ISSUER                 the same, while workers are killed: no answer at all is not wrong
import { createHash, createPrivateKey, createPublicKey, sign, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import tls from 'node:tls';

const [kind, ...words] = process.argv.slice(2);
const read = (dir, name) => readFileSync(`${dir}/${name}`);
if (kind === 'jwks') {
  const jwk = createPublicKey(createPrivateKey(read(words[0], 'client.key'))).export({ format: 'jwk' });
  console.log(JSON.stringify({ keys: [{ ...jwk, kid: 'es', alg: 'ES256', use: 'sig' }] }));
  process.exit();
}

const [port, dir, issuer] = words.slice(-3);
const key = createPrivateKey(read(dir, 'client.key'));
const thumbprint = createHash('sha256').update(new X509Certificate(read(dir, 'client.crt')).raw).digest('base64url');
const base64url = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
const now = Math.floor(Date.now() / 1000);

function token(kind, n) {
  if (kind === 'opaque') return `opaque-${n}-${'x'.repeat(32)}`;
  const claims = { iss: issuer, aud: 'https://api.test', sub: `user-${n}`, client_id: 'client', iat: now, exp: now + 3600, jti: `${n}`,
    cnf: { 'x5t#S256': thumbprint } };
  const signed = `${base64url({ typ: 'at+jwt', alg: 'ES256', kid: 'es' })}.${base64url(claims)}`;
  return `${signed}.${sign('sha256', Buffer.from(signed), { key, dsaEncoding: 'ieee-p1363' }).toString('base64url')}`;
}

// A connection with that client certificate. ask(TOKEN) is the status of the answer; it fails where the connection ends without one, and
// `answered` of the error says whether it had begun.
function connect(name) {
  const socket = tls.connect({ host: '127.0.0.1', port, servername: 'api.test', ca: read(dir, 'ca.crt'), key: read(dir, `${name}.key`),
    cert: read(dir, `${name}.crt`) });
  let input = '';
  let waiting;
  const settle = (error, status) => {
    const { resolve, reject } = waiting ?? {};
    waiting = undefined;
    if (error) reject?.(Object.assign(error, { answered: input !== '' }));
    else resolve?.(status);
  };
  socket.setTimeout(30000, () => socket.destroy(new Error('no answer')));
  socket.on('data', (data) => {
    input += data.toString('latin1');
    const head = input.indexOf('\r\n\r\n');
    if (head < 0) return;
    const chunked = /transfer-encoding: chunked/i.test(input.slice(0, head));
    const length = Number(/content-length: (\d+)/i.exec(input.slice(0, head))?.[1] ?? 0);
    if (chunked ? !input.endsWith('\r\n0\r\n\r\n') : input.length < head + 4 + length) return;
    const [status, last] = [input.slice(9, 12), /connection: close/i.test(input.slice(0, head))];
    input = '';
    if (last) socket.end();
    settle(null, status);
  });
  socket.on('error', settle).on('close', () => settle(new Error('closed')));
  return {
    ask: (token) => new Promise((resolve, reject) => {
      if (!socket.writable) {
        reject(Object.assign(new Error('closed'), { answered: false }));
        return;
      }
      waiting = { resolve, reject };
      socket.write(`GET / HTTP/1.1\r\nHost: api.test\r\nAuthorization: Bearer ${token}\r\n\r\n`);
    }),
    end: () => socket.end(),
  };
}

if (words.length === 5) {
  const [from, to] = words.slice(0, 2).map(Number);
  const statuses = {};
  let next = from;
  await Promise.all(Array.from({ length: 16 }, async () => {
    const connection = connect('client');
    while (next < to) {
      const status = await connection.ask(token(kind, next++));
      statuses[status] = (statuses[status] ?? 0) + 1;
    }
    connection.end();
  }));
  console.log(Object.entries(statuses).map(([status, count]) => `${status}: ${count}`).join(', '));
  process.exit();
}

// --- Traffic

// Each sort has connections of its own, and a certificate and a status that all its answers must have.
const once = { jwt: token('jwt', 'hot'), opaque: token('opaque', 'hot') };
let fresh = 0;
const sorts = [
  { name: 'the same JWT', connections: 4, token: () => once.jwt },
  { name: 'the same opaque token', connections: 2, token: () => once.opaque },
  { name: 'the same JWT, each time a new connection', connections: 1, token: () => once.jwt, lone: true },
  { name: 'new JWTs', connections: 1, token: () => token('jwt', `${process.pid}-${fresh++}`) },
  { name: 'new opaque tokens', connections: 2, token: () => token('opaque', `${process.pid}-${fresh++}`) },
  { name: 'new opaque tokens, each time a new connection', connections: 1, token: () => token('opaque', `${process.pid}-${fresh++}`), lone: true },
  { name: 'the certificate of another', connections: 1, token: () => once.jwt, certificate: 'thief', status: '401' },
];
let unanswered = sorts.length;
let open = true;
process.stdin.resume().on('end', () => { open = false; });

async function converse({ connections, token, certificate = 'client', status = '200', lone = false, count }) {
  let connection;
  let used = false;
  while (open) {
    const asked = token();
    connection ??= connect(certificate);
    try {
      const answer = await connection.ask(asked);
      if (answer === status) {
        if (count.right++ === 0 && --unanswered === 0) console.log('under way');
      } else count.wrong[answer] = (count.wrong[answer] ?? 0) + 1;
      used = true;
    } catch (error) {
      // RFC 9112 §9.3.1: a server may end a connection that has been used while the next request is on its way.
      if (kind === 'crashes' || used && !error.answered) count.closed++;
      else count.wrong[error.message] = (count.wrong[error.message] ?? 0) + 1;
      [connection, used] = [undefined, false];
    }
    if (lone) {
      connection?.end();
      [connection, used] = [undefined, false];
    }
    // What is measured is not how much it bears.
    await sleep(connections);
  }
  connection?.end();
}

for (const sort of sorts) sort.count = { right: 0, wrong: {}, closed: 0 };
await Promise.all(sorts.flatMap((sort) => Array.from({ length: sort.connections }, () => converse(sort))));
let failed = 0;
for (const { name, status = '200', count: { right, wrong, closed } } of sorts) {
  const others = Object.entries(wrong).map(([what, n]) => `, ${n} ${what}`).join('');
  console.log(`  ${name}: ${right} answered ${status}${others}${closed ? `; ${closed} connections ended` : ''}`);
  if (others || right === 0) failed = 1;
}
process.exit(failed);
