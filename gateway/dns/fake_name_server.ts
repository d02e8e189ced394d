/**
 * A name server on loopback for the tests of this folder, UDP and TCP on one port.
 * @module
 */

import {
  type DnsQuery,
  frameMessage,
  makeAnswer,
  MessageReader,
  parseQuery,
} from "@firezone/core/dns";
import { ip, SocketAddress } from "@firezone/core/ip";
import { DnsServer, type DnsTransport } from "@firezone/core/runtime";
import { logger } from "@firezone/core/telemetry";
import { SocketExchange } from "./exchange.ts";

/** Makes the answer to a query; undefined for silence. */
export type Answerer = (query: DnsQuery, transport: DnsTransport) => Uint8Array | undefined;

/** See the head of this file. */
export class FakeNameServer {
  /** Names that were asked for, with how. */
  readonly asked: string[] = [];
  readonly #server: DnsServer;
  readonly #ready = Promise.withResolvers<void>();

  /** Listens from now on; see {@link ready}. */
  constructor(address: string, port: number, readonly answer: Answerer) {
    this.#server = new DnsServer({
      log: logger("test"),
      port,
      onListening: () => {
        if (this.#server.isListening) this.#ready.resolve();
      },
      onQuery: (reply, transport, _, message) => {
        const parsed = parseQuery(message);
        if (parsed.tag !== "query") return;
        this.asked.push(`${transport} ${parsed.query.question.name}`);
        const answered = this.answer(parsed.query, transport);
        if (answered) reply(answered);
      },
    });
    this.#server.listen([ip(address)]);
  }

  /** Settles when it can be asked. */
  get ready(): Promise<void> {
    return this.#ready.promise;
  }

  /** Stops listening. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.#server.close();
  }
}

/** Answers every query with a response code and one record. */
export function answering(rcode: number, data: readonly number[] = [10, 0, 0, 1]): Answerer {
  return (query) => {
    const records = rcode === 0
      ? [{ type: query.question.type, ttlSeconds: 60, data: Uint8Array.from(data) }]
      : [];
    return makeAnswer(query, rcode, records);
  };
}

/** A port that nobody listens on now. */
export function freePort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return listener.addr.port;
}

/** Asks over UDP. */
export async function askUdp(
  address: string,
  port: number,
  query: Uint8Array,
): Promise<Uint8Array> {
  const exchange = new SocketExchange();
  try {
    const to = new SocketAddress(ip(address), port);
    return await exchange.ask(query, {
      to,
      transport: "udp",
      limitMs: 5_000,
      isAnswer: () => true,
    });
  } finally {
    await exchange.close();
  }
}

/** Asks over TCP, all queries on one connection, and gives the answers in the order they came. */
export async function askTcp(
  hostname: string,
  port: number,
  queries: readonly Uint8Array[],
): Promise<Uint8Array[]> {
  using connection = await Deno.connect({ hostname, port });
  for (const query of queries) {
    const frame = frameMessage(query);
    for (let at = 0; at < frame.length;) at += await connection.write(frame.subarray(at));
  }
  const reader = new MessageReader();
  const answers: Uint8Array[] = [];
  const buffer = new Uint8Array(4096);
  while (answers.length < queries.length) {
    const length = await connection.read(buffer);
    if (length === null) break;
    reader.push(buffer.subarray(0, length));
    for (let answer; (answer = reader.poll()) !== undefined;) answers.push(answer);
  }
  return answers;
}
