// The users of the authorization server, and the pages that they see.
const users = {
  alice: { password: 'alice-password', name: 'Alice', email: 'alice@example.org', groups: ['staff', 'admins'] },
  bob: { password: 'bob-password', name: 'Bob', email: 'bob@example.org', groups: ['staff'] },
};

// accountOf(ID): as oidc-provider wants it; nothing when there is no such user
export function accountOf(id) {
  if (!Object.hasOwn(users, id)) return undefined;
  const { password, ...claims } = users[id];
  return { accountId: id, claims: () => ({ sub: id, ...claims }) };
}

export const knows = (login, password) => Object.hasOwn(users, login) && users[login].password === password;

const page = (title, content) => `<!DOCTYPE html>
<html lang="en"><meta charset="utf-8"><title>${title}</title>
<h1>${title}</h1>
${content}
</html>
`;

const form = (path, error = '') => page('Log in', `${error && `<p role="alert">${error}</p>\n`}<form method="post" action="${path}">
<p><label>Login <input name="login" autocomplete="username" autofocus></label>
<p><label>Password <input name="password" type="password" autocomplete="current-password"></label>
<p><button type="submit" name="action" value="login">Log in</button> <button type="submit" name="action" value="abort">Cancel</button>
</form>`);

// Serves /interaction/UID: GET shows the form, POST logs in or cancels.
export async function interaction(provider, request, response) {
  const [path] = request.url.split('?');
  const answer = (status, html) => {
    response.writeHead(status, { 'Content-Type': 'text/html; charset=utf-8', 'Cache-Control': 'no-store' }).end(html);
  };
  const finish = (result) => provider.interactionFinished(request, response, result, { mergeWithLastSubmission: false });
  let text = '';
  for await (const chunk of request.setEncoding('utf8')) text += chunk;
  let prompt;
  try {
    ({ prompt } = await provider.interactionDetails(request, response));
  } catch (error) {
    if (error.error !== 'invalid_request' && error.name !== 'SessionNotFound') console.error(error);
    return answer(400, page('Not found', '<p>This login is over, or it is not of this browser.'));
  }
  if (prompt.name === 'consent') return finish({ consent: {} });
  if (request.method === 'GET') return answer(200, form(path));
  const fields = new URLSearchParams(text);
  if (fields.get('action') === 'abort') return finish({ error: 'access_denied', error_description: 'the user said no' });
  if (!knows(fields.get('login'), fields.get('password'))) return answer(200, form(path, 'Wrong login or password.'));
  return finish({ login: { accountId: fields.get('login') } });
}

// Whoever is sent here is logged out without a question, as soon as the page is there.
export function logoutPage(ctx, confirm) {
  const sent = confirm.replace('</form>', '<input type="hidden" name="logout" value="yes"/><button>Log out</button></form>');
  ctx.body = page('Log out', `${sent}\n<script>document.forms[0].submit()</script>`);
}

export function loggedOutPage(ctx) { ctx.body = page('Logged out', '<p>You are logged out.'); }

export function errorPage(ctx, { error, error_description }) {
  const text = `${error}: ${error_description}`.replace(/[&<>"]/g, (found) => `&#${found.charCodeAt(0)};`);
  Object.assign(ctx, { type: 'html', body: page('Error', `<p>${text}`) });
}
