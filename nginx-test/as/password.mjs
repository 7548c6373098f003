// The grant of RFC 6749 section 4.3, which oidc-provider lacks: a name and a password for tokens, bound like those of other grants.
import { errors } from 'oidc-provider';
import * as helpers from 'oidc-provider/lib/helpers/grants.js';
import { issueTokens } from 'oidc-provider/lib/helpers/grant_common.js';
import presence from 'oidc-provider/lib/helpers/validate_presence.js';

import { knows } from './login.mjs';

// allow(GRANT, OIDC): the grant, saved, with all that this request asks for
export async function allow(grant, { requestParamScopes, resourceServers }) {
  grant.addOIDCScope([...requestParamScopes].join(' '));
  for (const [resource, { scope }] of Object.entries(resourceServers)) grant.addResourceScope(resource, scope);
  await grant.save();
  return grant;
}

async function password(provider, ctx) {
  const { client, params } = ctx.oidc;
  const bound = Object.fromEntries(Object.entries(helpers).map(([name, helper]) => [name, helper.bind(undefined, provider)]));
  presence(ctx, 'username', 'password');
  const cert = bound.checkMtlsCert(ctx);
  await bound.resolveRequestedResources(ctx);
  const scopes = bound.validateClientScope(ctx);
  if (!knows(params.username, params.password)) throw new errors.InvalidGrant('wrong username or password');
  const grant = await allow(new provider.Grant({ accountId: params.username, clientId: client.clientId }), ctx.oidc);
  // What would be stored with a code. It is never saved.
  const source = new provider.AuthorizationCode({
    accountId: params.username,
    authTime: Math.floor(Date.now() / 1000),
    client,
    expiresWithSession: false,
    grantId: grant.jti,
    resource: params.resource,
    scope: [...scopes].join(' '),
  });
  await issueTokens(provider, bound, ctx, source, grant, { gty: 'password', entityLabel: 'password', cert });
}

export function register(provider) {
  provider.registerGrantType('password', (ctx) => password(provider, ctx), ['username', 'password', 'scope', 'resource'], ['resource']);
}
