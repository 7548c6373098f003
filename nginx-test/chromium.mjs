// A user with a real browser: Chromium without a screen, with a client certificate, logs in, calls an API, waits, calls it again and
// logs out.
//
//   node chromium.mjs --pki DIR [OPTION]... URL
//
//     --pki DIR                 made by pki.sh; Chromium trusts `ca` of it
//     --cert NAME               the client certificate for the gateway; without it Chromium has none
//     --gateway ORIGIN          where the login ends; default: the origin of URL
//     --connect HOST=IP[:PORT]  where a host is to be found; may be repeated. Default: api.test=127.0.0.1
//     --user NAME, --password WORD     default: alice, NAME-password
//     --api PATH                is called by fetch() from the page once logged in, after --wait SECONDS once more, and after the logout
//     --logout PATH, --method M        where the page then goes, by a link or with POST by a form
//     --logged-out URL          how the URL begins where that ends; default: ORIGIN/
//     --screenshots DIR         takes form.png, in.png and out.png
//
// The authorization server must not ask Chromium for a certificate (as/server.mjs --aliases-only): Chromium would ask its user.
//
// It prints one line of JSON:
//   {"version", "login": {"url", "title", "text"}, "cookies": [{"name", "domain", "path", "secure", "httpOnly", "sameSite", "length"}],
//    "calls": [{"status", "redirected", "body"}], "logout": {"url", "title", "text"}, "cookies_after": [...]}
// Exit status 1 and a message when a step does not come to its end.
//
// The TLS is Chromium's own. Playwright's `clientCertificates` would have Node do it, behind a proxy.
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';

import { chromium } from './browser/node_modules/playwright-core/index.mjs';

const TIMEOUT = 30000;

const text = { type: 'string' };
const { values: options, positionals: [address] } = parseArgs({
  allowPositionals: true,
  options: {
    pki: text, cert: text, gateway: text, connect: { type: 'string', multiple: true, default: ['api.test=127.0.0.1'] },
    user: { type: 'string', default: 'alice' }, password: text, api: text, wait: { type: 'string', default: '0' }, logout: text,
    method: { type: 'string', default: 'GET' }, 'logged-out': text, screenshots: text,
  },
});
if (!options.pki || !address) {
  console.error('usage: node chromium.mjs --pki DIR [OPTION]... URL');
  process.exit(2);
}
const gateway = options.gateway ?? new URL(address).origin;

// A home directory with what Chromium reads: the CA and the certificate (NSS), and that this one is for the gateway, without a question
function furnish(home) {
  const run = (...words) => execFileSync(words[0], words.slice(1), { stdio: ['ignore', 'ignore', 'pipe'] });
  const database = `${home}/.pki/nssdb`;
  mkdirSync(database, { recursive: true });
  run('certutil', '-d', `sql:${database}`, '-N', '--empty-password');
  run('certutil', '-d', `sql:${database}`, '-A', '-n', 'ca', '-t', 'C,,', '-i', `${options.pki}/ca.crt`);
  if (options.cert) {
    const file = `${options.pki}/${options.cert}`;
    run('openssl', 'pkcs12', '-export', '-in', `${file}.crt`, '-inkey', `${file}.key`, '-out', `${home}/p12`, '-passout', 'pass:');
    run('pk12util', '-d', `sql:${database}`, '-i', `${home}/p12`, '-W', '');
  }
  mkdirSync(`${home}/profile/Default`, { recursive: true });
  const { hostname, port } = new URL(gateway);
  const exceptions = { auto_select_certificate: { [`https://${hostname}:${port || 443},*`]: { setting: { filters: [{}] } } } };
  writeFileSync(`${home}/profile/Default/Preferences`, JSON.stringify({ profile: { content_settings: { exceptions } } }));
}

async function play(context) {
  const page = context.pages()[0] ?? await context.newPage();
  page.setDefaultTimeout(TIMEOUT);
  const seen = { version: context.browser()?.version() ?? null, calls: [] };
  const shot = async (name) => options.screenshots && page.screenshot({ path: `${options.screenshots}/${name}.png` });
  const shown = async () => ({ url: page.url(), title: await page.title(), text: await page.innerText('body') });
  // What a cookie holds is nobody's business.
  const cookies = async () => (await context.cookies(gateway)).map(({ name, value, domain, path, secure, httpOnly, sameSite }) =>
    ({ name, domain, path, secure, httpOnly, sameSite, length: value.length }));
  const call = async () => options.api && seen.calls.push(await page.evaluate(async (path) => {
    const answer = await fetch(path, { headers: { Accept: 'application/json' }, redirect: 'manual' });
    return { status: answer.status, redirected: answer.type === 'opaqueredirect', body: await answer.text() };
  }, options.api));

  await page.goto(address);
  if (await page.locator('input[type=password]').count()) {
    await shot('form');
    await page.fill('input[name=login]', options.user);
    await page.fill('input[name=password]', options.password ?? `${options.user}-password`);
    await page.click('button[value=login]');
  }
  await page.waitForURL((url) => url.origin === gateway);
  seen.login = await shown();
  seen.cookies = await cookies();
  await shot('in');
  await call();
  if (Number(options.wait)) {
    await sleep(1000 * Number(options.wait));
    await call();
  }
  if (options.logout) {
    const left = page.waitForEvent('framenavigated');
    await page.evaluate(([path, method]) => {
      if (method === 'GET') return window.location.assign(path);
      const form = Object.assign(document.createElement('form'), { action: path, method });
      document.body.append(form);
      return form.submit();
    }, [options.logout, options.method]);
    await left;
    await page.waitForURL(({ href }) => href.startsWith(options['logged-out'] ?? `${gateway}/`));
    seen.logout = await shown();
    seen.cookies_after = await cookies();
    await shot('out');
    await call();
  }
  return seen;
}

const home = mkdtempSync(`${tmpdir()}/keybound-chromium-`);
let context;
try {
  furnish(home);
  if (options.screenshots) mkdirSync(options.screenshots, { recursive: true });
  context = await chromium.launchPersistentContext(`${home}/profile`, {
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    chromiumSandbox: process.getuid() !== 0, // which root cannot have
    env: { ...process.env, HOME: home },
    args: [`--host-resolver-rules=${options.connect.map((each) => `MAP ${each.replace('=', ' ')}`).join(', ')}`],
    viewport: { width: 800, height: 500 },
    timeout: TIMEOUT,
  });
  console.log(JSON.stringify(await play(context)));
} catch (error) {
  console.error(error.stderr?.toString() || error.message);
  process.exitCode = 1;
} finally {
  await context?.close();
  rmSync(home, { recursive: true, force: true, maxRetries: 5 });
}
