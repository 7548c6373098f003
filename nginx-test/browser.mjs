// A browser without a screen, for what a login needs of one: cookies by the rules, redirects, forms, a client certificate.
//
//   node browser.mjs --jar FILE --ca FILE [OPTION]... URL
//
//     --jar FILE                cookies, as JSON; what is there is used, and it is written at the end
//     --ca FILE                 the CAs to trust
//     --cert FILE --key FILE    a client certificate for the host of --cert-for (default api.test); others get none
//     --connect HOST=IP[:PORT]  where a host is to be found; may be repeated
//     --user NAME               fills in login forms, with --password WORD (default NAME-password)
//     --abort                   cancels at login forms
//     --method M, --data BODY, --header 'NAME: VALUE'   of the first request; headers go to its origin only; header may be repeated
//     --from URL                the page where the link or the form is; without it the user typed the address
//     --fetch                   not a navigation but fetch() of a page; of the same origin, unless --from says another. It follows
//                               no redirect
//     --stop-at PREFIX          does not ask for a URL that begins so: it is in `stopped`
//     --no-follow               one request only
//
// It prints one line of JSON:
//   {"status", "url", "headers", "body", "stopped",
//    "hops": [{"method", "url", "status", "location", "set_cookie": [], "sent_cookies": []}]}
// of the last answer; header names are in lower case, `set-cookie` is an array, `sent_cookies` are names. A form that a page
// submits by itself is submitted, and so is a login form with --user or --abort, once. Exit status 1 and a message when there is
// no answer.
//
// SameSite looks at the page that began the navigation and not at redirects on the way, as browsers do; without a public suffix
// list the site is taken for the last two labels of the host.
import { readFileSync, realpathSync, renameSync, writeFileSync } from 'node:fs';
import { request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { isIP } from 'node:net';
import { checkServerIdentity } from 'node:tls';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const MAX_HOPS = 20;
const MAX_COOKIE = 4096; // octets of name and value: RFC 6265bis section 5.6; browsers drop longer ones

const site = ({ protocol, hostname }) => `${protocol}//${isIP(hostname) ? hostname : hostname.split('.').slice(-2).join('.')}`;

export class Jar {
  constructor(cookies = []) { this.cookies = cookies; }

  // Takes one Set-Cookie; says whether it did. crossSite: the answer is not to a navigation, and its page is of another site
  set(line, url, { crossSite = false, now = Date.now() } = {}) {
    const [pair, ...attributes] = line.split(';');
    const equals = pair.indexOf('=');
    const [name, value] = equals < 0 ? ['', pair.trim()] : [pair.slice(0, equals).trim(), pair.slice(equals + 1).trim()];
    const given = new Map(attributes.map((each) => {
      const [key, ...rest] = each.split('=');
      return [key.trim().toLowerCase(), rest.join('=').trim()];
    }));
    if (/[\x00-\x08\x0a-\x1f\x7f]/.test(line) || (!name && !value)) return false;
    if (Buffer.byteLength(name + value, 'latin1') > MAX_COOKIE) return false;
    const cookie = {
      name,
      value,
      domain: url.hostname,
      host_only: true,
      path: url.pathname.slice(0, Math.max(1, url.pathname.lastIndexOf('/'))),
      secure: given.has('secure'),
      http_only: given.has('httponly'),
      same_site: { strict: 'Strict', none: 'None' }[given.get('samesite')?.toLowerCase()] ?? 'Lax',
      expires: null, // milliseconds; null: with the browser's end
    };
    const domain = given.get('domain')?.replace(/^\./, '').toLowerCase();
    if (domain && domain !== url.hostname) {
      if (!url.hostname.endsWith(`.${domain}`) || isIP(url.hostname) || !domain.includes('.')) return false;
      Object.assign(cookie, { domain, host_only: false });
    } else if (domain) {
      cookie.host_only = isIP(domain) !== 0 || !domain.includes('.');
    }
    if (given.get('path')?.startsWith('/')) cookie.path = given.get('path');
    if (/^-?\d+$/.test(given.get('max-age'))) cookie.expires = now + 1000 * Number(given.get('max-age'));
    else if (!Number.isNaN(Date.parse(given.get('expires')))) cookie.expires = Date.parse(given.get('expires'));

    const secureUrl = url.protocol === 'https:';
    if (cookie.secure && !secureUrl) return false;
    if (cookie.same_site === 'None' && !cookie.secure) return false;
    if (crossSite && cookie.same_site !== 'None') return false;
    if (/^__secure-/i.test(name) && !cookie.secure) return false;
    const ofHost = cookie.secure && cookie.host_only && !given.has('domain') && given.get('path') === '/';
    if (/^__host-/i.test(name) && !ofHost) return false;

    const same = (each) => ['name', 'domain', 'host_only', 'path'].every((key) => each[key] === cookie[key]);
    const old = this.cookies.findIndex(same);
    if (cookie.expires !== null && cookie.expires <= now) this.cookies = this.cookies.filter((each) => !same(each));
    else if (old >= 0) this.cookies[old] = cookie;
    else this.cookies.push(cookie);
    return true;
  }

  // The cookies for a request, in the order in which they are sent. kind: `same` site, `link` (a navigation from another site to which
  // Lax cookies go) or `cross`
  get(url, kind, now = Date.now()) {
    const under = (path) => url.pathname === path || url.pathname.startsWith(path.endsWith('/') ? path : `${path}/`);
    return this.cookies
      .filter(({ domain, host_only }) => url.hostname === domain || (!host_only && url.hostname.endsWith(`.${domain}`)))
      .filter((each) => under(each.path) && (!each.secure || url.protocol === 'https:'))
      .filter(({ expires }) => expires === null || expires > now)
      .filter((each) => each.same_site === 'None' || kind === 'same' || (kind === 'link' && each.same_site === 'Lax'))
      .sort((a, b) => b.path.length - a.path.length); // a stable sort: the older ones first
  }
}

export class Browser {
  #options;

  // jar; ca; cert, key: PEM; certFor: hosts; connect: { HOST: 'IP[:PORT]' }
  constructor({ jar = new Jar(), ...options }) {
    this.jar = jar;
    this.#options = options;
  }

  // See the options of the command. The answer is what it prints.
  async go(address, {
    method = 'GET', data, headers = {}, from, fetch = false, stopAt, follow = true, user, password = `${user}-password`, abort = false,
  } = {}) {
    let request = { url: new URL(address), method, data, type: 'application/x-www-form-urlencoded' };
    let initiator = from ? new URL(from) : fetch ? request.url : null;
    const first = request.url.origin;
    const hops = [];
    let chain = [];
    let filled = false;
    for (;;) {
      const { url } = request;
      if (stopAt && url.href.startsWith(stopAt)) return { ...hops.at(-1)?.answer, stopped: url.href, hops: hops.map(({ hop }) => hop) };
      if (hops.length === MAX_HOPS) throw new Error(`more than ${MAX_HOPS} requests; the last one for ${url.href}`);
      chain.push(url);
      const answer = await this.#ask(request, { initiator, chain, fetch, headers: url.origin === first ? headers : {} });
      hops.push(answer);
      const { status, location } = answer.hop;
      const result = { ...answer.answer, stopped: null, hops: hops.map(({ hop }) => hop) };
      if (!follow || fetch) return result;
      if ([301, 302, 303, 307, 308].includes(status) && location) {
        const target = new URL(location, url);
        if (!target.hash) target.hash = url.hash;
        // Fetch, HTTP-redirect fetch, step 12
        const turned = status < 303 ? request.method === 'POST' : status === 303 && !['GET', 'HEAD'].includes(request.method);
        request = turned ? { url: target, method: 'GET' } : { ...request, url: target };
        continue;
      }
      const form = /^text\/html/.test(answer.answer.headers['content-type'] ?? '') && formOf(answer.answer.body, url);
      if (!form) return result;
      if (form.automatic) {
        request = form.request({});
      } else if (form.login && (user || abort) && !filled) {
        filled = true;
        request = form.request(abort ? { action: 'abort' } : { login: user, password, action: 'login' });
      } else {
        return result;
      }
      initiator = url;
      chain = [];
    }
  }

  async #ask({ url, method, data, type }, { initiator, chain, fetch, headers }) {
    const sameSite = !initiator || site(initiator) === site(url);
    const kind = sameSite ? 'same' : !fetch && ['GET', 'HEAD'].includes(method) ? 'link' : 'cross';
    const cookies = this.jar.get(url, kind);
    const sent = {
      'user-agent': 'keybound-test-browser',
      accept: fetch ? 'application/json' : 'text/html',
      'sec-fetch-mode': fetch ? 'cors' : 'navigate',
      'sec-fetch-dest': fetch ? 'empty' : 'document',
      'sec-fetch-site': fetchSite(initiator, chain),
      ...(initiator && !['GET', 'HEAD'].includes(method) ? { origin: originOf(initiator, chain) } : {}),
      ...(data === undefined ? {} : { 'content-type': type, 'content-length': Buffer.byteLength(data) }),
      ...(cookies.length ? { cookie: cookies.map(({ name, value }) => (name ? `${name}=${value}` : value)).join('; ') } : {}),
      ...headers,
    };
    const response = await this.#exchange(url, method, sent, data);
    const setCookies = response.headers['set-cookie'] ?? [];
    for (const line of setCookies) this.jar.set(line, url, { crossSite: fetch && !sameSite });
    return {
      hop: {
        method, url: url.href, status: response.status, location: response.headers.location ?? null, set_cookie: setCookies,
        sent_cookies: cookies.map(({ name }) => name),
      },
      answer: { status: response.status, url: url.href, headers: response.headers, body: response.body },
    };
  }

  #exchange(url, method, headers, data) {
    const { ca, cert, key, certFor = ['api.test'], connect = {} } = this.#options;
    const secure = url.protocol === 'https:';
    const [ip, port] = (connect[url.hostname] ?? (url.hostname === 'localhost' ? '127.0.0.1' : url.hostname)).split(':');
    return new Promise((resolve, reject) => {
      const request = (secure ? httpsRequest : httpRequest)({
        method,
        host: ip,
        port: port || url.port || (secure ? 443 : 80),
        path: url.pathname + url.search,
        headers: { host: url.host, ...headers },
        agent: false,
        timeout: 20000,
        ca,
        servername: isIP(url.hostname) ? '' : url.hostname,
        // The certificate must be for the host of the URL, wherever that is.
        checkServerIdentity: (_, peer) => checkServerIdentity(url.hostname, peer),
        ...(secure && cert && certFor.includes(url.hostname) ? { cert, key } : {}),
      }, (response) => {
        const chunks = [];
        response.on('data', (chunk) => chunks.push(chunk));
        response.on('error', reject);
        response.on('end', () => {
          resolve({ status: response.statusCode, headers: response.headers, body: Buffer.concat(chunks).toString() });
        });
      });
      request.on('timeout', () => request.destroy(new Error(`no answer within 20 seconds from ${url.origin}`)));
      request.on('error', reject);
      request.end(data);
    });
  }
}

// Origin: one that was reached by way of another one is not told it.
const originOf = (initiator, chain) => (chain.every(({ origin }) => origin === chain.at(-1).origin) ? initiator.origin : 'null');

// Sec-Fetch-Site, of W3C Fetch Metadata: the farthest of the URLs on the way
function fetchSite(initiator, chain) {
  if (!initiator) return 'none';
  if (chain.every(({ origin }) => origin === initiator.origin)) return 'same-origin';
  return chain.every((url) => site(url) === site(initiator)) ? 'same-site' : 'cross-site';
}

const entities = { amp: '&', lt: '<', gt: '>', quot: '"', '#39': "'", '#x27': "'" };
const decoded = (text) => text.replace(/&(amp|lt|gt|quot|#39|#x27);/gi, (_, name) => entities[name.toLowerCase()]);

// The first form of a page: whether it is for a login, whether the page submits it by itself, and what is asked when it is submitted
function formOf(html, base) {
  const attributes = (tag) => Object.fromEntries([...tag.matchAll(/([\w-]+)=(?:"([^"]*)"|'([^']*)'|([^\s>"']+))/g)]
    .map(([, name, a, b, c]) => [name.toLowerCase(), decoded(a ?? b ?? c)]));
  const [whole, tag] = html.match(/<form\b([^>]*)>.*?<\/form>/is) ?? [];
  if (whole === undefined) return null;
  const { action = '', method = 'get' } = attributes(tag);
  const inputs = [...whole.matchAll(/<input\b([^>]*)>/gi)].map(([, each]) => attributes(each)).filter(({ name }) => name);
  return {
    automatic: /\.submit\(\)/.test(html),
    login: inputs.some(({ type }) => type === 'password'),
    request(values) {
      const fields = new URLSearchParams(inputs.map(({ name, value = '' }) => [name, value]));
      for (const [name, value] of Object.entries(values)) fields.set(name, value);
      const url = new URL(action || base, base);
      if (method.toLowerCase() !== 'post') {
        url.search = fields;
        return { url, method: 'GET' };
      }
      return { url, method: 'POST', data: fields.toString(), type: 'application/x-www-form-urlencoded' };
    },
  };
}

async function main() {
  const text = { type: 'string' };
  const many = { type: 'string', multiple: true, default: [] };
  const flag = { type: 'boolean', default: false };
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      jar: text, ca: text, cert: text, key: text, 'cert-for': { ...many, default: ['api.test'] }, connect: many,
      user: text, password: text, abort: flag, method: text, data: text, header: many, from: text, fetch: flag, 'stop-at': text, 'no-follow': flag,
    },
  });
  if (!values.jar || !values.ca || positionals.length !== 1) {
    console.error('usage: node browser.mjs --jar FILE --ca FILE [OPTION]... URL');
    process.exit(2);
  }
  let cookies = [];
  try {
    cookies = JSON.parse(readFileSync(values.jar));
  } catch (error) {
    if (error.code !== 'ENOENT') throw error;
  }
  const split = (separator) => (each) => [each.slice(0, each.indexOf(separator)), each.slice(each.indexOf(separator) + 1).trim()];
  const jar = new Jar(cookies);
  const browser = new Browser({
    jar,
    ca: readFileSync(values.ca),
    cert: values.cert && readFileSync(values.cert),
    key: values.key && readFileSync(values.key),
    certFor: values['cert-for'],
    connect: Object.fromEntries(values.connect.map(split('='))),
  });
  try {
    const { abort, data, fetch, from, password, user } = values;
    console.log(JSON.stringify(await browser.go(positionals[0], {
      method: values.method ?? (data === undefined ? 'GET' : 'POST'),
      headers: Object.fromEntries(values.header.map(split(':')).map(([name, value]) => [name.toLowerCase(), value])),
      stopAt: values['stop-at'],
      follow: !values['no-follow'],
      abort, data, fetch, from, password, user,
    })));
  } catch (error) {
    console.error(error.message || error.code);
    process.exitCode = 1;
  }
  // In one piece: another process may read it.
  writeFileSync(`${values.jar}.new`, `${JSON.stringify(jar.cookies, null, 1)}\n`);
  renameSync(`${values.jar}.new`, values.jar);
}

if (process.argv[1] && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) await main();
