// A real OAuth 2.0 authorization server (npm oidc-provider) on loopback that issues access tokens bound to certificates and to keys of
// DPoP proofs.
//
//   node server.mjs --pki DIR [--port N] [--cert NAME] [--aliases-only]
//
//     DIR    made by ../pki.sh
//     N      0 (the default) takes a free one
//     NAME   the server's certificate in DIR; default `as`
//     --aliases-only   only the second port asks for a certificate, as where users come whose browsers would ask them for one
//
// When it is ready it prints one line on stdout:
//   {"issuer": "https://localhost:PORT", "port": PORT, "pid": PID, "mtls_port": PORT, "control_port": PORT}
//
// Both TLS ports serve everything and ask for a certificate; the second is the one of mtls_endpoint_aliases. The control port
// speaks plain HTTP with JSON:
//   POST /rotate {"alg": "RS256", "same_kid": false}   another key signs from now on: {"alg", "kid", "old_kid"}. The old one stays
//                                                      published, unless the new one takes its kid
//   POST /drop {"kid": KID}                            an old key is published no more
//   POST /hang {"ms": N, "path": PREFIX}               requests below PREFIX (all, without it) wait so long; 0: no more
//   POST /fail {"status": N, "headers": {}, "path": PREFIX}   they get this status and nothing else; 0: no more
//   POST /redirect {"client_id": ID, "redirect_uris": [], "post_logout_redirect_uris": []}   where its logins and logouts may end
//   POST /ttl {"AccessToken": S, "IdToken": S, "RefreshToken": S}   how long live those that are issued from now on; {}: as ever
//   POST /tamper {"path": PREFIX, "set": {}, "drop": [], "sign": "rogue",
//                 "id_token": {"header": {}, "set": {}, "drop": [], "at_hash": true}}
//                                                      JSON answers below PREFIX get and lose these members, the ID token in them
//                                                      these claims: see tamper.mjs; {}: no more
//   POST /metadata {"set": {}, "drop": []}             the same for the discovery documents
//   GET /log, POST /log/clear                          the requests so far: see log.mjs
import { readFileSync } from 'node:fs';
import { createServer } from 'node:https';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';

import { control, listen } from '../lib.mjs';
import { clients } from './clients.mjs';
import { Issuer } from './issuer.mjs';
import { RequestLog } from './log.mjs';
import { tamper } from './tamper.mjs';

const { values: options } = parseArgs({
  options: {
    pki: { type: 'string' }, port: { type: 'string', default: '0' }, cert: { type: 'string', default: 'as' },
    'aliases-only': { type: 'boolean', default: false },
  },
});
if (!options.pki) {
  console.error('usage: node server.mjs --pki DIR [--port N] [--cert NAME] [--aliases-only]');
  process.exit(2);
}
const file = (name) => readFileSync(`${options.pki}/${name}`);

const log = new RequestLog();
let issuer;
let hang = {};
let fail = {};
let change = {};
let metadata = {};
const concerned = ({ path = '/' }, request) => request.url.startsWith(path);

function tlsServer(name) {
  const server = createServer({
    key: file(`${options.cert}.key`),
    cert: file(`${options.cert}.crt`),
    ca: file('ca.crt'),
    requestCert: name === 'mtls' || !options['aliases-only'],
    rejectUnauthorized: false, // the certificate is judged per client: see clients.mjs
  });
  server.on('secureConnection', (socket) => log.connection(socket));
  server.on('request', async (request, response) => {
    log.request(name, request, response);
    if (hang.ms && concerned(hang, request)) await sleep(hang.ms);
    if (fail.status && concerned(fail, request)) {
      request.resume();
      response.writeHead(fail.status, { 'Content-Type': 'application/json', ...fail.headers }).end('{"error":"server_error"}');
    } else {
      for (const each of [change, metadata]) if (concerned(each, request)) tamper(response, each, issuer);
      issuer.handle(request, response);
    }
  });
  return server;
}

const port = await listen(tlsServer('main'), options.port);
const mtls_port = await listen(tlsServer('mtls'));
const mtls = `https://localhost:${mtls_port}`;
const name = `https://localhost:${port}`;
issuer = new Issuer(name, clients(file), {
  token_endpoint: `${mtls}/token`,
  introspection_endpoint: `${mtls}/token/introspection`,
  revocation_endpoint: `${mtls}/token/revocation`,
  pushed_authorization_request_endpoint: `${mtls}/request`,
});
const control_port = await control({
  'POST /rotate': (data) => issuer.rotate(data),
  'POST /drop': (data) => issuer.drop(data),
  'POST /hang': (data) => { hang = data; },
  'POST /fail': (data) => { fail = data; },
  'POST /redirect': (data) => issuer.redirect(data),
  'POST /ttl': (data) => issuer.ttl(data),
  'POST /tamper': (data) => { change = data; },
  'POST /metadata': (data) => { metadata = { ...data, path: '/.well-known/' }; },
  'GET /log': () => log.entries,
  'POST /log/clear': () => log.clear(),
});
console.log(JSON.stringify({ issuer: name, port, pid: process.pid, mtls_port, control_port }));
