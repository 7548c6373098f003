// Answers that a sound authorization server does not give, made from those that it does give.
import { constants, createHmac, createPrivateKey, createPublicKey, sign as signed } from 'node:crypto';

const encoded = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');

const publicPem = (key) => createPublicKey(key).export({ type: 'spki', format: 'pem' });

// How a token of each `alg` is signed. HS256 is the attack of RFC 8725 section 2.1: the public key as secret.
const signers = {
  none: () => '',
  HS256: (input, key) => createHmac('sha256', publicPem(key)).update(input).digest('base64url'),
  RS256: (input, key) => signed('sha256', input, key).toString('base64url'),
  PS256: (input, key) => signed('sha256', input, { key, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: 32 }).toString('base64url'),
  ES256: (input, key) => signed('sha256', input, { key, dsaEncoding: 'ieee-p1363' }).toString('base64url'),
  EdDSA: (input, key) => signed(null, input, key).toString('base64url'),
};

// sign(HEADER, PAYLOAD, JWK): a JWS in compact form
export function sign(header, payload, jwk) {
  const input = `${encoded(header)}.${encoded(payload)}`;
  return `${input}.${signers[header.alg](Buffer.from(input), createPrivateKey({ key: jwk, format: 'jwk' }))}`;
}

// tamper(RESPONSE, CHANGE, ISSUER): what is sent as JSON is changed before: `set` and `drop` change members of the answer, in
// `id_token` claims of the ID token in it, which is then signed again; "sign": "rogue" signs it with a key that is not the issuer's.
// In `id_token`, too: `header` changes members of its header, `alg` among them; "at_hash": true puts the right at_hash in it.
export function tamper(response, { set, drop, sign: by, id_token: claims }, issuer) {
  if (!set && !drop && !by && !claims) return;
  const { end } = response;
  response.end = function changed(body, ...more) {
    response.end = end;
    if (!body || !/^application\/json/.test(response.getHeader('Content-Type') ?? '')) return response.end(body, ...more);
    const answer = JSON.parse(body);
    if (answer.id_token && (claims || by)) {
      const at_hash = claims?.at_hash ? answer.access_token : undefined;
      answer.id_token = issuer.changed(answer.id_token, { ...claims, rogue: by === 'rogue', at_hash });
    }
    Object.assign(answer, set);
    for (const name of drop ?? []) delete answer[name];
    const text = JSON.stringify(answer);
    response.setHeader('Content-Length', Buffer.byteLength(text));
    return response.end(text, ...more);
  };
}
