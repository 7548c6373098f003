// A client of the gateway whose tokens are bound to a key of its own (RFC 9449), made of a library as it is: oauth4webapi,
// openid-client or dpop. It gets a token from the authorization server server.mjs, whose discovery document it reads, and calls
// the gateway with it, with a new proof each time. Certificates are judged by NODE_EXTRA_CA_CERTS.
//
//   node dpop-client.mjs --with LIBRARY --issuer URL [--client ID] [--resource URL] [--alg ES256|PS256|Ed25519] [--calls N]
//                        [--pause MS] [--method METHOD] URL
//
// The client authenticates with its password, ID-secret; default: dpop. N is 10 by default; MS, between calls, 0. It prints one line of JSON:
//   {"token_type": "dpop", "statuses": [200, ...], "challenges": [VALUE...], "nonces": N, "answers": N}
//     statuses    of the calls as the library returned them; the number of an answer with a challenge is that of the error
//     challenges  WWW-Authenticate of all answers of the gateway, those to which the library did something, too
//     nonces      how many different DPoP-Nonce the gateway gave; answers: how many answers it gave
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';

const { values: how, positionals: [target] } = parseArgs({
  allowPositionals: true,
  options: {
    with: { type: 'string' }, issuer: { type: 'string' }, client: { type: 'string', default: 'dpop' },
    resource: { type: 'string', default: 'https://api.test' }, alg: { type: 'string', default: 'ES256' },
    calls: { type: 'string', default: '10' }, pause: { type: 'string', default: '0' }, method: { type: 'string', default: 'GET' },
  },
});
const url = new URL(target);
const secret = `${how.client}-secret`;
const asked = { resource: how.resource, scope: 'read' };
const seen = { challenges: [], nonces: new Set(), answers: 0 };

// What the gateway answered, before the library sees it.
async function watched(input, init) {
  const response = await fetch(input, init);
  if (new URL(input).origin === url.origin) {
    seen.answers += 1;
    const challenge = response.headers.get('www-authenticate');
    if (challenge) seen.challenges.push(challenge);
    const nonce = response.headers.get('dpop-nonce');
    if (nonce) seen.nonces.add(nonce);
  }
  return response;
}

// Each returns the token's type and what makes a call and returns its status.
const libraries = {
  async oauth4webapi(oauth) {
    const issuer = new URL(how.issuer);
    const as = await oauth.processDiscoveryResponse(issuer, await oauth.discoveryRequest(issuer));
    const client = { client_id: how.client };
    const DPoP = oauth.DPoP(client, await oauth.generateKeyPair(how.alg));
    // As its documentation has it: with the nonce that came along the same is done once more.
    const withNonce = async (request) => {
      try {
        return await request();
      } catch (error) {
        if (!oauth.isDPoPNonceError(error)) throw error;
        return request();
      }
    };
    const { access_token: token, token_type: type } = await withNonce(async () => oauth.processClientCredentialsResponse(as, client,
      await oauth.clientCredentialsGrantRequest(as, client, oauth.ClientSecretBasic(secret), asked, { DPoP })));
    const call = () => withNonce(() =>
      oauth.protectedResourceRequest(token, how.method, url, undefined, undefined, { DPoP, [oauth.customFetch]: watched }));
    return [type, async () => (await call()).status];
  },

  async 'openid-client'(client) {
    const config = await client.discovery(new URL(how.issuer), how.client, secret, client.ClientSecretBasic(secret));
    config[client.customFetch] = watched;
    const DPoP = client.getDPoPHandle(config, await client.randomDPoPKeyPair(how.alg));
    const { access_token: token, token_type: type } = await client.clientCredentialsGrant(config, asked, { DPoP });
    const call = () => client.fetchProtectedResource(config, token, url, how.method, undefined, undefined, { DPoP });
    return [type, async () => (await call()).status];
  },

  // It makes proofs and nothing else.
  async dpop(dpop) {
    const keys = await dpop.generateKeyPair(how.alg);
    const basic = `Basic ${btoa(`${how.client}:${secret}`)}`;
    const endpoint = `${how.issuer}/token`;
    let nonce;
    async function twice(request) {
      for (let tries = 1; ; tries += 1) {
        const response = await request();
        const old = nonce;
        nonce = response.headers.get('dpop-nonce') ?? nonce;
        if (response.ok || tries === 2 || nonce === old) return response;
      }
    }
    const answer = await twice(async () => fetch(endpoint, {
      method: 'POST',
      headers: { authorization: basic, dpop: await dpop.generateProof(keys, endpoint, 'POST', nonce) },
      body: new URLSearchParams({ grant_type: 'client_credentials', ...asked }),
    }));
    const { access_token: token, token_type: type } = await answer.json();
    nonce = undefined; // that was the authorization server's
    const htu = url.origin + url.pathname;
    const call = () => twice(async () => watched(url, {
      method: how.method,
      headers: { authorization: `DPoP ${token}`, dpop: await dpop.generateProof(keys, htu, how.method, nonce, token) },
    }));
    return [type.toLowerCase(), async () => (await call()).status];
  },
};

const [type, call] = await libraries[how.with](await import(how.with));
const statuses = [];
for (let i = 0; i < Number(how.calls); i += 1) {
  if (i) await sleep(Number(how.pause));
  // oauth4webapi and openid-client throw where there is a challenge.
  statuses.push(await call().catch((error) => error.status ?? error.response?.status ?? String(error)));
}
console.log(JSON.stringify({ token_type: type, statuses, ...seen, nonces: seen.nonces.size }));
