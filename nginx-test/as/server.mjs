// A real OAuth 2.0 authorization server (npm oidc-provider) on loopback that issues certificate-bound JWT access tokens.
//
//   node server.mjs --pki DIR [--port N]     DIR made by ../pki.sh; port 0 (the default) takes a free one
//
// When it is ready it prints one line on stdout: {"issuer": "https://localhost:PORT", "port": PORT, "pid": PID}
import { generateKeyPairSync, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:https';
import { parseArgs } from 'node:util';

// stdout carries the ready line and nothing else. The library works on Node 20 too: its warning about that is noise.
console.info = console.warn = (text) => /Unsupported runtime/.test(text) || console.error(text);
const { default: Provider, errors } = await import('oidc-provider');

const { values: options } = parseArgs({ options: { pki: { type: 'string' }, port: { type: 'string', default: '0' } } });
if (!options.pki) {
  console.error('usage: node server.mjs --pki DIR [--port N]');
  process.exit(2);
}
const file = (name) => readFileSync(`${options.pki}/${name}`);

const kid = (alg) => (alg === 'EdDSA' ? 'ed25519' : alg.toLowerCase());

function signingKey(alg, type, settings) {
  const { privateKey } = generateKeyPairSync(type, settings);
  return { ...privateKey.export({ format: 'jwk' }), kid: kid(alg), alg, use: 'sig' };
}

// Every resource is the same API, with the same audience: the path only picks how the token is made.
const API = 'https://api.test';
const resources = {
  [API]: { alg: 'RS256' },
  [`${API}/rs256`]: { alg: 'RS256' },
  [`${API}/ps256`]: { alg: 'PS256' },
  [`${API}/es256`]: { alg: 'ES256' },
  [`${API}/eddsa`]: { alg: 'EdDSA' },
  [`${API}/short`]: { alg: 'RS256', ttl: 2 },
};

function getResourceServerInfo(ctx, resource) {
  if (!Object.hasOwn(resources, resource)) throw new errors.InvalidTarget();
  const { alg, ttl = 600 } = resources[resource];
  return {
    audience: API,
    scope: 'read write',
    accessTokenTTL: ttl,
    accessTokenFormat: 'jwt',
    jwt: { sign: { alg, kid: kid(alg) } },
  };
}

const common = { grant_types: ['client_credentials'], redirect_uris: [], response_types: [], scope: 'read write' };

// RFC 8705 section 2.1: a certificate by the CA, with this subject
const pkiClient = (client_id, subject) => ({
  ...common,
  client_id,
  token_endpoint_auth_method: 'tls_client_auth',
  tls_client_auth_subject_dn: subject,
  tls_client_certificate_bound_access_tokens: true,
});

// RFC 8705 section 2.2: exactly this certificate, whoever signed it
function ownCertificateClient(client_id) {
  const certificate = new X509Certificate(file(`${client_id}.crt`));
  const jwk = { ...certificate.publicKey.export({ format: 'jwk' }), x5c: [certificate.raw.toString('base64')] };
  return {
    ...common,
    client_id,
    token_endpoint_auth_method: 'self_signed_tls_client_auth',
    jwks: { keys: [jwk] },
    tls_client_certificate_bound_access_tokens: true,
  };
}

// With a password (the name and "-secret"). Bound or not is another matter: RFC 8705 section 3 ties a token to the certificate
// of the connection, however the client proved who it is.
const passwordClient = (client_id, bound) => ({
  ...common,
  client_id,
  client_secret: `${client_id}-secret`,
  token_endpoint_auth_method: 'client_secret_basic',
  tls_client_certificate_bound_access_tokens: bound,
});

const configuration = {
  clients: [
    pkiClient('client', 'CN=client'),
    pkiClient('client-rsa', 'CN=rsa'),
    pkiClient('client-ed25519', 'CN=ed25519'),
    ownCertificateClient('self-signed'),
    ownCertificateClient('thief'),
    passwordClient('any', true), // to get tokens that are bound to any certificate at all
    passwordClient('unbound', false), // plain bearer tokens, as most servers issue them
  ],
  clientAuthMethods: ['tls_client_auth', 'self_signed_tls_client_auth', 'client_secret_basic'],
  scopes: ['read', 'write'],
  jwks: {
    keys: [
      signingKey('RS256', 'rsa', { modulusLength: 2048 }),
      signingKey('PS256', 'rsa', { modulusLength: 2048 }),
      signingKey('ES256', 'ec', { namedCurve: 'P-256' }),
      signingKey('EdDSA', 'ed25519'),
    ],
  },
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    resourceIndicators: { enabled: true, getResourceServerInfo },
    mTLS: {
      enabled: true,
      certificateBoundAccessTokens: true,
      tlsClientAuth: true,
      selfSignedTlsClientAuth: true,
      getCertificate: (ctx) => ctx.socket.getPeerX509Certificate()?.toString(),
      certificateAuthorized: (ctx) => ctx.socket.authorized,
      // Node prints one attribute a line, most significant first; RFC 4514 is the other way round.
      certificateSubjectMatches: (ctx, property, expected) => property === 'tls_client_auth_subject_dn'
        && ctx.socket.getPeerX509Certificate().subject.split('\n').reverse().join(',') === expected,
    },
  },
};

const server = createServer({
  key: file('as.key'),
  cert: file('as.crt'),
  ca: file('ca.crt'),
  requestCert: true,
  rejectUnauthorized: false, // the certificate is judged per client: see above
});
server.listen(Number(options.port), '127.0.0.1', () => {
  const { port } = server.address();
  const issuer = `https://localhost:${port}`;
  const provider = new Provider(issuer, configuration);
  provider.on('server_error', (ctx, error) => console.error(error));
  server.on('request', provider.callback());
  console.log(JSON.stringify({ issuer, port, pid: process.pid }));
});
