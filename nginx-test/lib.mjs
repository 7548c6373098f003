// What the authorization server and the scripted peer share.
import { createHash } from 'node:crypto';
import { createServer } from 'node:http';

// The control channel: plain HTTP with JSON on a free port of 127.0.0.1, which is returned.
// routes: { 'METHOD /path': (data, query) => answer }
export function control(routes) {
  const server = createServer(async (request, response) => {
    const { pathname, searchParams } = new URL(request.url, 'http://control');
    let status = 200;
    let answer;
    try {
      const route = routes[`${request.method} ${pathname}`];
      if (!route) throw new Error(`only: ${Object.keys(routes).join(', ')}`);
      let text = '';
      for await (const chunk of request.setEncoding('utf8')) text += chunk;
      answer = (await route(JSON.parse(text || '{}'), searchParams)) ?? {};
    } catch (error) {
      status = 400;
      answer = { error: error.message };
    }
    response.writeHead(status, { 'Content-Type': 'application/json' }).end(`${JSON.stringify(answer)}\n`);
  });
  return listen(server);
}

// listen(SERVER, PORT): the port that it then has
export const listen = (server, port = 0) => new Promise((resolve, reject) => {
  server.once('error', reject);
  server.listen(Number(port), '127.0.0.1', () => resolve(server.address().port));
});

// What is to be known of a TLS connection.
export function describe(socket) {
  const certificate = socket.getPeerX509Certificate();
  return {
    tls_version: socket.getProtocol(),
    session_reused: socket.isSessionReused(),
    server_name: socket.servername || null,
    certificate: certificate
      ? { 'x5t#S256': createHash('sha256').update(certificate.raw).digest('base64url'), subject: distinguishedName(certificate) }
      : null,
  };
}

// Node prints one attribute a line, most significant first; RFC 4514 is the other way round.
export const distinguishedName = (certificate) => certificate.subject.split('\n').reverse().join(',');
