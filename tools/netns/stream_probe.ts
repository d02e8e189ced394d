/**
 * Nonsense for servers that read a stream, each on a connection of its own:
 *
 *     stream_probe.ts babble HOST PORT       over TCP
 *     stream_probe.ts babble PATH            to a Unix socket
 *
 * Prints how many connections were taken.
 * @module
 */

const CONNECTIONS = 60;
/** A server may wait for more; it shall not make us wait. */
const PATIENCE_MS = 100;

/** What servers of HTTP and WebSocket may trip over. */
const TEXTS = [
  "",
  "\r\n\r\n",
  "GET\r\n\r\n",
  "GET / HTTP/9.9\r\n\r\n",
  "GET /status HTTP/1.1\r\n",
  "POST /status HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n",
  "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
  `GET /${"a".repeat(100_000)} HTTP/1.1\r\nHost: x\r\n\r\n`,
  `GET / HTTP/1.1\r\nHost: x\r\n${"A: b\r\n".repeat(5_000)}\r\n`,
  "GET http://[::1 HTTP/1.1\r\nHost: \x01\r\n\r\n",
  "GET /client/v2/websocket HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
  "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n\xff\xff\xff",
];

const [command, ...where] = Deno.args;
if (command !== "babble") throw new Error(`Unknown command ${command}`);
let taken = 0;
for (let i = 0; i < CONNECTIONS; i++) {
  const bytes = i < TEXTS.length
    ? new TextEncoder().encode(TEXTS[i])
    : crypto.getRandomValues(new Uint8Array(1 + i * 40));
  await say(bytes);
  taken++;
}
console.log(taken);

async function say(bytes: Uint8Array): Promise<void> {
  const connection = where.length === 2
    ? await Deno.connect({ hostname: where[0]!, port: Number(where[1]) })
    : await Deno.connect({ transport: "unix", path: where[0]! });
  const timer = setTimeout(() => connection.close(), PATIENCE_MS);
  try {
    for (let done = 0; done < bytes.length;) done += await connection.write(bytes.subarray(done));
    await connection.closeWrite();
    const answer = new Uint8Array(4096);
    while (await connection.read(answer) !== null);
    connection.close();
  } catch {
    // Whom nonsense is told may hang up.
  } finally {
    clearTimeout(timer);
  }
}
