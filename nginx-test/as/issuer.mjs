// The issuer proper: oidc-provider, its resources and its signing keys, which can be changed while it runs.
import { generateKeyPairSync } from 'node:crypto';

import { distinguishedName } from '../lib.mjs';

// The library's notes would be noise: that it works on Node 20 too, and what it thinks of defaults.
console.info = console.warn = (text) => /Unsupported runtime/.test(text) || console.error(text);
const { default: Provider, errors } = await import('oidc-provider');

// Every resource is the same API, with the same audience: the path only picks how the token is made.
const API = 'https://api.test';
const resources = {
  [API]: { alg: 'RS256' },
  [`${API}/rs256`]: { alg: 'RS256' },
  [`${API}/ps256`]: { alg: 'PS256' },
  [`${API}/es256`]: { alg: 'ES256' },
  [`${API}/eddsa`]: { alg: 'EdDSA' },
  [`${API}/short`]: { alg: 'RS256', ttl: 2 },
  [`${API}/opaque`]: {},
  [`${API}/opaque-short`]: { ttl: 3 },
};

const kinds = {
  RS256: ['rsa', { modulusLength: 2048 }, 'rs256'],
  PS256: ['rsa', { modulusLength: 2048 }, 'ps256'],
  ES256: ['ec', { namedCurve: 'P-256' }, 'es256'],
  EdDSA: ['ed25519', undefined, 'ed25519'],
};

function signingKey(alg, kid = kinds[alg][2]) {
  const [type, settings] = kinds[alg];
  return { ...generateKeyPairSync(type, settings).privateKey.export({ format: 'jwk' }), kid, alg, use: 'sig' };
}

export class Issuer {
  #issuer;
  #clients;
  #aliases;
  #keys = Object.keys(kinds).map((alg) => signingKey(alg)); // of those of one algorithm the first one signs
  #rotations = 0;
  #rows = new Map();
  #handle;

  // aliases: mtls_endpoint_aliases of RFC 8705 section 5
  constructor(issuer, clients, aliases) {
    this.#issuer = issuer;
    this.#clients = clients;
    this.#aliases = aliases;
    this.#renew();
  }

  handle(request, response) { return this.#handle(request, response); }

  // A new key signs from now on. The old one stays published, unless the new one takes its kid.
  rotate({ alg = 'RS256', same_kid = false }) {
    if (!Object.hasOwn(kinds, alg)) throw new Error(`alg: one of ${Object.keys(kinds).join(', ')}`);
    const old = this.#signing(alg);
    const key = signingKey(alg, same_kid ? old.kid : `${kinds[alg][2]}-${++this.#rotations}`);
    this.#keys = [key, ...this.#keys.filter(({ kid }) => kid !== key.kid)];
    this.#renew();
    return { alg, kid: key.kid, old_kid: old.kid };
  }

  // An old key is published no more.
  drop({ kid }) {
    const key = this.#keys.find((each) => each.kid === kid);
    if (!key) throw new Error(`kid: one of ${this.#keys.map((each) => each.kid).join(', ')}`);
    if (key === this.#signing(key.alg)) throw new Error('this key signs: rotate first');
    this.#keys = this.#keys.filter((each) => each !== key);
    this.#renew();
  }

  #signing(alg) { return this.#keys.find((key) => key.alg === alg); }

  // oidc-provider takes its keys once and for all: new keys need a new one. What it stored is in #rows and stays.
  #renew() {
    const provider = new Provider(this.#issuer, this.#configuration());
    provider.on('server_error', (ctx, error) => console.error(error));
    this.#handle = provider.callback();
  }

  #configuration() {
    return {
      clients: this.#clients,
      adapter: (model) => ({
        find: async (id) => this.#rows.get(`${model}:${id}`),
        upsert: async (id, payload) => { this.#rows.set(`${model}:${id}`, payload); },
        destroy: async (id) => { this.#rows.delete(`${model}:${id}`); },
      }),
      clientAuthMethods: [
        'tls_client_auth', 'self_signed_tls_client_auth', 'client_secret_basic', 'client_secret_post', 'client_secret_jwt',
        'private_key_jwt', 'none',
      ],
      scopes: ['read', 'write'],
      jwks: { keys: this.#keys },
      discovery: { mtls_endpoint_aliases: this.#aliases },
      features: {
        devInteractions: { enabled: false },
        clientCredentials: { enabled: true },
        resourceIndicators: {
          enabled: true,
          getResourceServerInfo: (ctx, resource) => {
            if (!Object.hasOwn(resources, resource)) throw new errors.InvalidTarget();
            const { alg, ttl = 600 } = resources[resource];
            return {
              audience: API,
              scope: 'read write',
              accessTokenTTL: ttl,
              ...(alg
                ? { accessTokenFormat: 'jwt', jwt: { sign: { alg, kid: this.#signing(alg).kid } } }
                : { accessTokenFormat: 'opaque' }),
            };
          },
        },
        introspection: {
          enabled: true,
          allowedPolicy: (ctx, client, token) => client.clientId.startsWith('gateway') || client.clientId === token.clientId,
        },
        jwtIntrospection: { enabled: true },
        revocation: {
          enabled: true,
          allowedPolicy: (ctx, client, token) => {
            if (client.clientId !== token.clientId) throw new errors.InvalidRequest('this token is of another client');
            return true;
          },
        },
        mTLS: {
          enabled: true,
          certificateBoundAccessTokens: true,
          tlsClientAuth: true,
          selfSignedTlsClientAuth: true,
          getCertificate: (ctx) => ctx.socket.getPeerX509Certificate()?.toString(),
          certificateAuthorized: (ctx) => ctx.socket.authorized,
          certificateSubjectMatches: (ctx, property, expected) => property === 'tls_client_auth_subject_dn'
            && distinguishedName(ctx.socket.getPeerX509Certificate()) === expected,
        },
      },
    };
  }
}
