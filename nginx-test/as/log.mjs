// The log of the requests that the authorization server got. Of what is secret, tokens among it, only names are kept.
import { describe } from '../lib.mjs';

const SHOWN = [
  'client_id', 'token_type_hint', 'client_assertion_type', 'grant_type', 'resource', 'scope', 'redirect_uri', 'response_type',
  'code_challenge_method',
];

export class RequestLog {
  #entries = [];
  #connections = new WeakMap();
  #connected = 0;

  get entries() { return this.#entries; }

  clear() { this.#entries = []; }

  // A certificate and the like are to be had for certain only while the connection is there.
  connection(socket) { this.#connections.set(socket, { connection: ++this.#connected, ...describe(socket) }); }

  // It is in the log at once; `status` comes when it is answered, what the body says when the body is there.
  request(port, request, response) {
    const [path, query = ''] = request.url.split('?');
    const { authorization, ...headers } = request.headers;
    const scheme = authorization?.split(' ')[0];
    const entry = {
      time: Date.now() / 1000,
      port,
      method: request.method,
      path,
      query_parameters: [...new URLSearchParams(query).keys()],
      headers: {
        ...Object.fromEntries(['host', 'content-type', 'accept', 'user-agent'].map((name) => [name, headers[name] ?? null])),
        authorization: scheme ?? null,
        dpop: 'dpop' in headers,
      },
      client_id: scheme?.toLowerCase() === 'basic' ? nameOfBasic(authorization) : null,
      body_parameters: [],
      ...this.#connections.get(request.socket),
      status: null,
    };
    this.#entries.push(entry);
    response.on('finish', () => { entry.status = response.statusCode; });
    watchBody(request, (text) => Object.assign(entry, ofBody(text, entry.client_id)));
  }
}

// Reads along: the body stays there for who handles the request.
function watchBody(request, done) {
  const chunks = [];
  request.push = function push(chunk, ...more) {
    if (chunk) chunks.push(Buffer.from(chunk));
    else done(Buffer.concat(chunks).toString());
    return Object.getPrototypeOf(this).push.call(this, chunk, ...more);
  };
}

function ofBody(text, client_id) {
  const parameters = new URLSearchParams(text);
  return {
    body_parameters: [...parameters.keys()],
    ...Object.fromEntries(SHOWN.filter((name) => parameters.has(name)).map((name) => [name, parameters.get(name)])),
    client_id: client_id ?? parameters.get('client_id') ?? nameOfAssertion(parameters.get('client_assertion')),
  };
}

function nameOfBasic(authorization) {
  const [name] = Buffer.from(authorization.split(' ')[1] ?? '', 'base64').toString().split(':');
  return new URLSearchParams(`name=${name}`).get('name');
}

function nameOfAssertion(assertion) {
  try {
    return JSON.parse(Buffer.from(assertion.split('.')[1], 'base64url')).sub ?? null;
  } catch {
    return null;
  }
}
