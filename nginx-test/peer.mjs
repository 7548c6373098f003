// A peer that does exactly what a test tells it to: for every fault that a real server does not have.
//
//   node peer.mjs [--plain] [--pki DIR] [--cert NAME] [--max-tls 1.1|1.2|1.3] [--port N]
//
//     DIR      made by pki.sh; not needed with --plain, which is TCP without TLS
//     NAME     the certificate in DIR; default `as`
//     N        0 (the default) takes a free one
//
// When it is ready it prints one line on stdout: {"port": PORT, "control_port": PORT, "pid": PID}
//
// The control port speaks plain HTTP with JSON:
//   POST /script SCRIPT   from now on; the old script is forgotten
//   POST /clear           no script (404 for everything) and an empty log
//   POST /log/clear       an empty log
//   GET /log              {"connections": N, "handshakes": N, "requests": N, "log": [CONNECTION...]}; with ?bodies also the
//                         bodies of the requests
//
// SCRIPT is {KEY: WHAT, ...}. KEY is the beginning of a path (the longest that fits counts), `*` for all others, or `connect`:
// what is done on a new TCP connection before TLS. WHAT is
//   STEP, [STEP...]         always this
//   {"turns": [WHAT...]}    this the first time, that the second time, ...; the last one from then on
// and STEP
//   {"status": 200, "headers": {...}, "body": TEXT}   a whole answer, with Content-Length unless the headers have one (null: none)
//   {"json": VALUE}          the same, with that as body and Content-Type: application/json; also with status and headers
//     "pad": MIB             spaces after the body, so many MiB
//     "gzip": true           the body (and pad) compressed, with Content-Encoding
//     "chunked": true        in chunks; "endless": true   without the last one
//   {"send": TEXT}           these bytes and no others; {"base64": TEXT} the same
//     of all these: "drip": MS   one byte each MS milliseconds; "times": N   so often, at once; "repeat": N   so often, one after
//     the other: a GiB that needs no memory
//   {"wait": MS}
//   {"hang": true}           nothing more, ever
//   {"close": true}          the end of the connection; {"close": "abrupt"}: of TCP, while TLS says nothing
//   {"reset": true}          its end by RST
// On `connect`, after a step that neither hangs nor ends the connection comes the handshake.
import { readFileSync } from 'node:fs';
import { STATUS_CODES } from 'node:http';
import net from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import tls from 'node:tls';
import { parseArgs } from 'node:util';
import { gzipSync } from 'node:zlib';

import { control, describe, listen } from './lib.mjs';

const { values: options } = parseArgs({
  options: {
    plain: { type: 'boolean', default: false },
    pki: { type: 'string' },
    cert: { type: 'string', default: 'as' },
    'max-tls': { type: 'string', default: '1.3' },
    port: { type: 'string', default: '0' },
  },
});
if (!options.plain && !options.pki) {
  console.error('usage: node peer.mjs [--plain] [--pki DIR] [--cert NAME] [--max-tls VERSION] [--port N]');
  process.exit(2);
}

// --- The script

const WHOLE = ['status', 'headers', 'body', 'json', 'pad', 'gzip', 'chunked', 'endless'];
const ALL = [...WHOLE, 'send', 'base64', 'drip', 'times', 'repeat', 'wait', 'hang', 'close', 'reset'];

let script = {};

// The script as it came -> { key: { turns: [[STEP...]...], next: 0 } }, all answers made
function compile(source) {
  return Object.fromEntries(Object.entries(source).map(([key, what]) => {
    if (!/^(\/|\*$|connect$)/.test(key)) throw new Error(`a key is a path, * or connect: ${key}`);
    const turns = what.turns ?? [what];
    return [key, { next: 0, turns: turns.map((turn) => [turn].flat().map(compileStep)) }];
  }));
}

function compileStep(step) {
  const unknown = Object.keys(step).filter((name) => !ALL.includes(name));
  if (unknown.length) throw new Error(`no such step: ${unknown}; there are ${ALL.join(', ')}`);
  let bytes;
  if ('send' in step) bytes = Buffer.from(step.send);
  else if ('base64' in step) bytes = Buffer.from(step.base64, 'base64');
  else if (WHOLE.some((name) => name in step)) bytes = answer(step);
  return { ...step, bytes: bytes && Buffer.concat(Array(step.times ?? 1).fill(bytes)) };
}

function answer({ status = 200, headers = {}, body = '', json, pad = 0, gzip, chunked, endless }) {
  let content = Buffer.from(json === undefined ? body : JSON.stringify(json));
  if (pad) content = Buffer.concat([content, Buffer.alloc(pad * 2 ** 20, ' ')]);
  if (gzip) content = gzipSync(content);
  const all = {
    ...(json !== undefined && { 'Content-Type': 'application/json' }),
    ...(gzip && { 'Content-Encoding': 'gzip' }),
    ...(chunked ? { 'Transfer-Encoding': 'chunked' } : { 'Content-Length': content.length }),
  };
  for (const [name, value] of Object.entries(headers)) {
    for (const old of Object.keys(all)) if (old.toLowerCase() === name.toLowerCase()) delete all[old];
    if (value !== null) all[name] = value;
  }
  const lines = Object.entries(all).flatMap(([name, value]) => [value].flat().map((each) => `${name}: ${each}\r\n`));
  const head = `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? 'Odd'}\r\n${lines.join('')}\r\n`;
  return Buffer.concat([Buffer.from(head), ...(chunked ? chunks(content, endless) : [content])]);
}

function* chunks(content, endless) {
  for (let from = 0; from < content.length; from += 2 ** 16) {
    const piece = content.subarray(from, from + 2 ** 16);
    yield Buffer.concat([Buffer.from(`${piece.length.toString(16)}\r\n`), piece, Buffer.from('\r\n')]);
  }
  if (!endless) yield Buffer.from('0\r\n\r\n');
}

function turn(entry) {
  const steps = entry.turns[Math.min(entry.next, entry.turns.length - 1)];
  entry.next += 1;
  return steps;
}

const NOT_FOUND = [compileStep({ status: 404 })];

function stepsFor(path) {
  const fitting = Object.keys(script).filter((key) => key.startsWith('/') && path.startsWith(key));
  const entry = script[fitting.sort((a, b) => b.length - a.length)[0]] ?? script['*'];
  return entry ? turn(entry) : NOT_FOUND;
}

// perform(STEPS, RAW, SOCKET): whether the connection may go on. RAW is its TCP; SOCKET is its TLS, or RAW
async function perform(steps, raw, socket) {
  for (const step of steps) {
    if (step.hang) return false;
    if (step.wait) await sleep(step.wait);
    for (let n = step.repeat ?? 1; step.bytes && n > 0 && !socket.destroyed; n -= 1) await write(socket, step.bytes, step.drip);
    if (step.close || step.reset) {
      entryOf(raw).closed_by ??= 'peer';
      if (step.reset) raw.resetAndDestroy();
      else (step.close === 'abrupt' ? raw : socket).end();
      return false;
    }
    if (raw.destroyed || socket.destroyed) return false;
  }
  return true;
}

async function write(socket, bytes, drip) {
  if (!drip) {
    await new Promise((resolve) => { socket.write(bytes, resolve); });
    return;
  }
  for (const byte of bytes) {
    if (socket.destroyed) return;
    socket.write(Buffer.of(byte));
    await sleep(drip);
  }
}

// --- Connections

let log = [];
let accepted = 0;
const entries = new WeakMap();
const entryOf = (raw) => entries.get(raw);
const now = () => Date.now() / 1000;

const secure = options.plain ? null : new tls.Server({
  key: readFileSync(`${options.pki}/${options.cert}.key`),
  cert: readFileSync(`${options.pki}/${options.cert}.crt`),
  ca: readFileSync(`${options.pki}/ca.crt`),
  requestCert: true,
  rejectUnauthorized: false,
  maxVersion: `TLSv${options['max-tls']}`,
  // OpenSSL does what is older than TLS 1.2 only at level 0.
  ...(options['max-tls'] < '1.2' && { minVersion: 'TLSv1', ciphers: 'DEFAULT@SECLEVEL=0' }),
});
// A TLS socket does not say on which TCP socket it is: the other end's port does.
const byPort = new Map();
secure?.on('secureConnection', (socket) => {
  const raw = byPort.get(socket.remotePort);
  if (!raw) return;
  entryOf(raw).handshake = describe(socket);
  serve(raw, socket);
});
secure?.on('tlsClientError', (error, socket) => {
  const raw = byPort.get(socket.remotePort);
  if (raw) entryOf(raw).error = error.code ?? error.message;
});

const server = net.createServer(async (raw) => {
  const entry = { connection: ++accepted, time: now(), handshake: null, requests: [], closed_by: null };
  const { remotePort } = raw;
  log.push(entry);
  entries.set(raw, entry);
  byPort.set(remotePort, raw);
  raw.on('error', (error) => { entry.error ??= error.code; });
  raw.on('close', () => { if (byPort.get(remotePort) === raw) byPort.delete(remotePort); });
  if (script.connect && !await perform(turn(script.connect), raw, raw)) {
    raw.on('end', () => { entry.closed_by ??= 'client'; }).resume(); // unread, the other's end would not be seen
    return;
  }
  if (secure) secure.emit('connection', raw);
  else serve(raw, raw);
});

// One request after another, also when they come at once.
function serve(raw, socket) {
  const entry = entryOf(raw);
  let input = Buffer.alloc(0);
  let busy = false;
  socket.on('error', (error) => { entry.error ??= error.code; });
  socket.on('end', () => { entry.closed_by ??= 'client'; });
  socket.on('data', async (data) => {
    input = Buffer.concat([input, data]);
    if (busy) return;
    busy = true;
    for (let request; (request = parse(input));) {
      input = input.subarray(request.size);
      entry.requests.push({ time: now(), ...request.shown, body_length: request.body.length, body: request.body });
      if (!await perform(stepsFor(request.shown.path), raw, socket)) return;
    }
    busy = false;
  });
}

// The first request in there, if it is whole.
function parse(input) {
  const end = input.indexOf('\r\n\r\n');
  if (end < 0) return null;
  const [first, ...lines] = input.toString('latin1', 0, end).split('\r\n');
  const [method, path] = first.split(' ');
  const headers = {};
  for (const line of lines) {
    const [, name, value] = /^([^:]*):\s*(.*)$/.exec(line) ?? [null, line, ''];
    const key = name.toLowerCase();
    headers[key] = key in headers ? `${headers[key]}, ${value}` : value;
  }
  const size = end + 4 + Number(headers['content-length'] ?? 0);
  if (input.length < size) return null;
  return { size, shown: { method, path, headers }, body: input.toString('utf8', end + 4, size) };
}

// --- Control

function report(bodies) {
  const shown = ({ body, ...request }) => (bodies ? { ...request, body } : request);
  return {
    connections: log.length,
    handshakes: log.filter(({ handshake }) => handshake).length,
    requests: log.flatMap(({ requests }) => requests).length,
    log: log.map((entry) => ({ ...entry, requests: entry.requests.map(shown) })),
  };
}

const port = await listen(server, options.port);
const control_port = await control({
  'POST /script': (source) => { script = compile(source); },
  'POST /clear': () => { script = {}; log = []; },
  'POST /log/clear': () => { log = []; },
  'GET /log': (data, query) => report(query.has('bodies')),
});
console.log(JSON.stringify({ port, control_port, pid: process.pid }));
