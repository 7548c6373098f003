// The clients of the authorization server. Those whose name begins with `gateway` may introspect every token, those whose name
// begins with `web` log users in.
import { createPublicKey, X509Certificate } from 'node:crypto';

// In which algorithm a gateway gets its introspection as a JWT (RFC 9701): one client for each; RS256 for the others
const INTROSPECTION_ALG = { 'gateway-b': 'ES256', 'gateway-basic': 'PS256', 'gateway-post': 'EdDSA' };

// clients(FILE): FILE(NAME) is the content of that file in the directory of certificates
export function clients(file) {
  const client = (client_id, token_endpoint_auth_method, more) => ({
    client_id,
    token_endpoint_auth_method,
    grant_types: ['client_credentials'],
    redirect_uris: [],
    response_types: [],
    scope: 'read write',
    introspection_signed_response_alg: INTROSPECTION_ALG[client_id] ?? 'RS256',
    ...more,
  });

  // RFC 8705 section 2.1: a certificate by the CA, with this subject
  const pkiClient = (client_id, subject) => client(client_id, 'tls_client_auth', {
    tls_client_auth_subject_dn: subject,
    tls_client_certificate_bound_access_tokens: true,
  });

  // RFC 8705 section 2.2: exactly this certificate, whoever signed it
  const ownCertificateClient = (client_id) => {
    const certificate = new X509Certificate(file(`${client_id}.crt`));
    const jwk = { ...certificate.publicKey.export({ format: 'jwk' }), x5c: [certificate.raw.toString('base64')] };
    return client(client_id, 'self_signed_tls_client_auth', {
      jwks: { keys: [jwk] },
      tls_client_certificate_bound_access_tokens: true,
    });
  };

  // With a password (the name and "-secret"). Bound or not is another matter: RFC 8705 section 3 ties a token to the certificate
  // of the connection, however the client proved who it is.
  const passwordClient = (client_id, { bound = false, method = 'client_secret_basic', secret = `${client_id}-secret` } = {}) =>
    client(client_id, method, { client_secret: secret, tls_client_certificate_bound_access_tokens: bound });

  // RFC 7523: with a key of its own. No `alg`: the RSA key does for RS256 and PS256.
  const keyClient = (client_id, kinds) => client(client_id, 'private_key_jwt', {
    jwks: {
      keys: kinds.map((kind) => ({
        ...createPublicKey(file(`${client_id}-${kind}.key`)).export({ format: 'jwk' }), kid: kind, use: 'sig',
      })),
    },
  });

  // A gateway that logs users in, in each way that it can say who it is
  const web = (registered, more) => ({
    ...registered,
    grant_types: ['authorization_code', 'refresh_token', 'client_credentials', 'password'],
    response_types: ['code'],
    scope: 'openid offline_access read write',
    redirect_uris: ['https://api.test/callback'],
    post_logout_redirect_uris: ['https://api.test/', 'https://api.test/logged-out'],
    ...more,
  });

  return [
    pkiClient('client', 'CN=client'),
    pkiClient('client-rsa', 'CN=rsa'),
    pkiClient('client-ed25519', 'CN=ed25519'),
    ownCertificateClient('self-signed'),
    ownCertificateClient('thief'),
    passwordClient('any', { bound: true }), // to get tokens that are bound to any certificate at all
    passwordClient('unbound'), // plain bearer tokens, as most servers issue them
    // RFC 9449 section 5.2: tokens only for those who come with a proof, and then bound to its key. What ends in `-nonce`: section 8
    client('dpop', 'client_secret_basic', { client_secret: 'dpop-secret', dpop_bound_access_tokens: true }),
    client('dpop-nonce', 'client_secret_basic', { client_secret: 'dpop-nonce-secret', dpop_bound_access_tokens: true }),

    pkiClient('gateway', 'CN=gateway'),
    pkiClient('gateway-b', 'CN=gateway-b'),
    ownCertificateClient('gateway-self-signed'),
    passwordClient('gateway-basic'),
    passwordClient('gateway-post', { method: 'client_secret_post' }),
    // RFC 6749 section 2.3.1: each half is form-encoded before it goes into the header. Here that makes a difference.
    passwordClient('gateway:odd', { secret: '+ %:&="secret"' }),
    // RFC 7518 section 3.2: a key of HS256 has at least 32 octets.
    passwordClient('gateway-secret-jwt', { method: 'client_secret_jwt', secret: 'gateway-secret-jwt-secret-of-32-octets' }),
    keyClient('gateway-key', ['rsa', 'ec', 'ed25519']),
    client('gateway-none', 'none', {}), // only says its name

    web(pkiClient('web', 'CN=web')),
    web(ownCertificateClient('web-self-signed')),
    web(passwordClient('web-secret')),
    web(pkiClient('web-par', 'CN=web-par'), { require_pushed_authorization_requests: true }), // RFC 9126
  ];
}
