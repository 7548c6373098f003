// The issuer proper: oidc-provider, its resources and its signing keys, which can be changed while it runs.
import { createHash, generateKeyPairSync, randomBytes } from 'node:crypto';

import { distinguishedName } from '../lib.mjs';
import { accountOf, errorPage, interaction, loggedOutPage, logoutPage } from './login.mjs';
import { sign } from './tamper.mjs';

// The library's notes would be noise: that it works on Node 20 too, and what it thinks of defaults.
console.info = console.warn = (text) => /Unsupported runtime/.test(text) || console.error(text);
const { default: Provider, errors } = await import('oidc-provider');
const passwordGrant = await import('./password.mjs');

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

// What `ttl` may set
const lifetimes = ['AccessToken', 'IdToken', 'RefreshToken'];

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
  #rogues = new Map();
  #rows = new Map();
  #ttl = {};
  #cookieKey = randomBytes(32).toString('base64url');
  #nonceKey = randomBytes(32);
  #provider;
  #handle;

  // aliases: mtls_endpoint_aliases of RFC 8705 section 5
  constructor(issuer, clients, aliases) {
    this.#issuer = issuer;
    this.#clients = clients;
    this.#aliases = aliases;
    this.#renew();
  }

  handle(request, response) {
    return request.url.startsWith('/interaction/') ? interaction(this.#provider, request, response) : this.#handle(request, response);
  }

  // Where the logins of a client may end
  async redirect({ client_id, redirect_uris, post_logout_redirect_uris }) {
    const client = this.#clients.find((each) => each.client_id === client_id);
    if (!client) throw new Error(`client_id: one of ${this.#clients.map((each) => each.client_id).join(', ')}`);
    const { redirect_uris: old, post_logout_redirect_uris: oldLogout } = client;
    try {
      client.redirect_uris = redirect_uris ?? old;
      client.post_logout_redirect_uris = post_logout_redirect_uris ?? oldLogout;
      this.#renew();
      await this.#provider.Client.find(client_id); // which says what is wrong with them
    } catch (error) {
      client.redirect_uris = old;
      client.post_logout_redirect_uris = oldLogout;
      this.#renew();
      throw new Error(error.error_description ?? error.message);
    }
  }

  // How many seconds live what is issued from now on; what is not named lives as long as it does by default
  ttl(seconds) {
    for (const [name, value] of Object.entries(seconds)) {
      if (!lifetimes.includes(name)) throw new Error(`only: ${lifetimes.join(', ')}`);
      if (!Number.isInteger(value) || value < 1) throw new Error(`${name}: seconds, 1 or more`);
    }
    this.#ttl = seconds;
  }

  // An ID token of ours with other claims, under the same key or under another one that calls itself the same
  changed(token, { header = {}, set = {}, drop = [], rogue = false, at_hash: ofAccessToken }) {
    const [first, payload] = token.split('.', 2).map((part) => JSON.parse(Buffer.from(part, 'base64url')));
    const key = this.#keys.find(({ kid }) => kid === first.kid);
    if (ofAccessToken) {
      const hash = createHash('sha256').update(ofAccessToken).digest();
      payload.at_hash = hash.subarray(0, 16).toString('base64url'); // OpenID Connect Core section 3.1.3.6, for RS256
    }
    Object.assign(payload, set);
    for (const name of drop) delete payload[name];
    if (rogue && !this.#rogues.has(key.kid)) this.#rogues.set(key.kid, signingKey(key.alg, key.kid));
    return sign({ ...first, ...header }, payload, rogue ? this.#rogues.get(key.kid) : key);
  }

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

  #rowsOf(model) { return [...this.#rows].filter(([key]) => key.startsWith(`${model}:`)); }

  // oidc-provider takes its keys once and for all: new keys need a new one. What it stored is in #rows and stays.
  #renew() {
    const provider = new Provider(this.#issuer, this.#configuration());
    provider.on('server_error', (ctx, error) => console.error(error));
    passwordGrant.register(provider);
    this.#provider = provider;
    this.#handle = provider.callback();
  }

  #configuration() {
    return {
      clients: this.#clients,
      adapter: (model) => ({
        find: async (id) => this.#rows.get(`${model}:${id}`),
        upsert: async (id, payload) => { this.#rows.set(`${model}:${id}`, payload); },
        destroy: async (id) => { this.#rows.delete(`${model}:${id}`); },
        consume: async (id) => { this.#rows.get(`${model}:${id}`).consumed = Math.floor(Date.now() / 1000); },
        findByUid: async (uid) => this.#rowsOf(model).find(([, payload]) => payload.uid === uid)?.[1],
        revokeByGrantId: async (grantId) => {
          for (const [key, payload] of this.#rowsOf(model)) if (payload.grantId === grantId) this.#rows.delete(key);
        },
      }),
      clientAuthMethods: [
        'tls_client_auth', 'self_signed_tls_client_auth', 'client_secret_basic', 'client_secret_post', 'client_secret_jwt',
        'private_key_jwt', 'none',
      ],
      scopes: ['openid', 'offline_access', 'read', 'write'],
      claims: { openid: ['sub', 'name', 'email', 'groups'] },
      findAccount: (ctx, id) => accountOf(id),
      renderError: errorPage,
      interactions: { url: (ctx, { uid }) => `/interaction/${uid}` },
      // Cookies know no ports: several servers on one host need names of their own.
      cookies: {
        keys: [this.#cookieKey],
        names: Object.fromEntries(['session', 'interaction', 'resume'].map((name) => [name, `_${name}_${new URL(this.#issuer).port}`])),
      },
      pkce: { required: () => true },
      // Nobody is asked for consent: who logs in agrees to all that was asked for.
      loadExistingGrant: async ({ oidc }) => {
        const grant = await this.#provider.Grant.find(oidc.session.grantIdFor(oidc.client.clientId) ?? '')
          ?? new this.#provider.Grant({ accountId: oidc.session.accountId, clientId: oidc.client.clientId });
        return passwordGrant.allow(grant, oidc);
      },
      issueRefreshToken: (ctx, client) => client.grantTypeAllowed('refresh_token'),
      rotateRefreshToken: true,
      ttl: {
        AccessToken: (ctx, token) => token.resourceServer?.accessTokenTTL ?? this.#ttl.AccessToken ?? 600,
        ClientCredentials: (ctx, token) => token.resourceServer?.accessTokenTTL ?? this.#ttl.AccessToken ?? 600,
        IdToken: () => this.#ttl.IdToken ?? 3600,
        RefreshToken: () => this.#ttl.RefreshToken ?? 14 * 86400,
        Session: () => 14 * 86400,
        Grant: () => 14 * 86400,
        Interaction: () => 3600,
      },
      jwks: { keys: this.#keys },
      enabledJWA: { dPoPSigningAlgValues: ['ES256', 'PS256', 'Ed25519', 'EdDSA'] },
      discovery: { mtls_endpoint_aliases: this.#aliases },
      features: {
        devInteractions: { enabled: false },
        clientCredentials: { enabled: true },
        resourceIndicators: {
          enabled: true,
          defaultResource: (ctx, client, granted) => granted ?? (client.grantTypeAllowed('authorization_code') ? API : undefined),
          useGrantedResource: () => true,
          getResourceServerInfo: (ctx, resource) => {
            if (!Object.hasOwn(resources, resource)) throw new errors.InvalidTarget();
            const { alg, ttl = 600 } = resources[resource];
            return {
              audience: API,
              scope: 'read write',
              accessTokenTTL: this.#ttl.AccessToken ?? ttl,
              ...(alg
                ? { accessTokenFormat: 'jwt', jwt: { sign: { alg, kid: this.#signing(alg).kid } } }
                : { accessTokenFormat: 'opaque' }),
            };
          },
        },
        dPoP: {
          enabled: true,
          nonceSecret: this.#nonceKey,
          requireNonce: ({ oidc }) => oidc.client?.clientId.endsWith('-nonce') ?? false,
        },
        pushedAuthorizationRequests: { enabled: true },
        rpInitiatedLogout: { enabled: true, logoutSource: logoutPage, postLogoutSuccessSource: loggedOutPage },
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
