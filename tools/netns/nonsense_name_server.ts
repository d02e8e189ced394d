/**
 * A DNS server whose answers are nonsense, over UDP and TCP: `nonsense_name_server.ts ADDRESS…`.
 *
 * Prints `listening` once all addresses are bound.
 * @module
 */

import { createSocket } from "node:dgram";

const HEADER_BYTES = 12;
const TYPE_A = [0, 1, 0, 1];

/** What is answered to a query, in turn. */
const ANSWERS: readonly ((query: Uint8Array) => Uint8Array)[] = [
  () => crypto.getRandomValues(new Uint8Array(200)),
  () => new Uint8Array(),
  (query) => query, // itself
  (query) => answer(query, crypto.getRandomValues(new Uint8Array(300))),
  // A name that points at itself (RFC 1035 §4.1.4).
  (query) =>
    answer(query, Uint8Array.of(0xc0, query.length, ...TYPE_A, 0, 0, 0, 9, 0, 4, 1, 2, 3, 4)),
  // More records than there are bytes.
  (query) => answer(query, Uint8Array.of(0xc0, HEADER_BYTES, ...TYPE_A), 65_535),
  // A record that is longer than the message.
  (query) => answer(query, Uint8Array.of(0xc0, HEADER_BYTES, ...TYPE_A, 0, 0, 0, 9, 255, 255, 1)),
  // To another question.
  (query) => query.map((byte, i) => i === 2 ? 0x81 : i > HEADER_BYTES ? byte ^ 1 : byte),
  // Truncated, over TCP too.
  (query) => query.map((byte, i) => i === 2 ? 0x83 : byte),
];

let turn = 0;
const next = (query: Uint8Array) => ANSWERS[turn++ % ANSWERS.length]!(query);
for (const address of Deno.args) {
  const udp = createSocket(address.includes(":") ? "udp6" : "udp4");
  udp.on(
    "message",
    (query, from) => udp.send(next(new Uint8Array(query)), from.port, from.address),
  );
  await new Promise<void>((resolve) => udp.bind(53, address, resolve));
  void serveTcp(Deno.listen({ hostname: address, port: 53 }));
}
console.log("listening");

async function serveTcp(listener: Deno.Listener): Promise<void> {
  for await (const connection of listener) {
    void (async () => {
      const buffer = new Uint8Array(65_536);
      const count = await connection.read(buffer) ?? 0;
      const message = next(buffer.slice(2, count));
      // Of every third the length is a lie.
      const length = turn % 3 === 0 ? 65_535 : message.length;
      await connection.write(Uint8Array.of(length >> 8, length & 0xff, ...message));
      connection.close();
    })().catch(() => {});
  }
}

/** The query's header and question, as a response with so many answers, then these bytes. */
function answer(query: Uint8Array, records: Uint8Array, count = 1): Uint8Array {
  const message = new Uint8Array([...query, ...records]);
  message[2] = 0x81;
  message[3] = 0x80;
  new DataView(message.buffer).setUint16(6, count);
  return message;
}
