/**
 * DNS servers and askers for tests.
 * @module
 */

import { Buffer } from "node:buffer";
import dgram from "node:dgram";
import packet from "dns-packet";
import { frameMessage, MessageReader } from "../dns/mod.ts";

/** What a fake server answers: the changes to an empty answer; undefined for silence. */
export type Script = (question: { name: string; type: string }, transport: "udp" | "tcp") =>
  | object
  | undefined;

/** A server on UDP and TCP. */
export interface FakeServer extends AsyncDisposable {
  /** Its port. */
  readonly port: number;
  /** What it was asked, as `udp A example.org`. */
  readonly asked: string[];
}

/** Starts a server. @param port 0 for any */
export async function fakeServer(
  hostname: string,
  port: number,
  script: Script,
): Promise<FakeServer> {
  const asked: string[] = [];
  const answer = (bytes: Uint8Array, transport: "udp" | "tcp") => {
    const query = packet.decode(Buffer.from(bytes));
    const [question] = query.questions;
    asked.push(`${transport} ${question.type} ${question.name}`);
    const changes = script(question, transport);
    return changes && new Uint8Array(packet.encode({
      type: "response",
      id: query.id,
      flags: packet.RECURSION_AVAILABLE,
      questions: query.questions,
      ...changes,
    }));
  };
  const udp = dgram.createSocket(hostname.includes(":") ? "udp6" : "udp4");
  udp.on("message", (bytes, from) => {
    const message = answer(bytes, "udp");
    if (message) udp.send(message, from.port, from.address);
  });
  const tcp = Deno.listen({ hostname, port });
  // A free port of TCP is free for UDP, too, unless somebody else is just taking it.
  await new Promise<void>((resolve) => udp.bind(tcp.addr.port, hostname, resolve));
  const connections = new Set<Deno.Conn>();
  const serving = (async () => {
    for await (const connection of tcp) {
      connections.add(connection);
      void (async () => {
        const reader = new MessageReader();
        for await (const chunk of connection.readable) {
          reader.push(chunk);
          for (let bytes; (bytes = reader.poll()) !== undefined;) {
            const message = answer(bytes, "tcp");
            if (message) await connection.write(frameMessage(message));
          }
        }
      })().catch(() => {}).finally(() => connections.delete(connection));
    }
  })();
  return {
    port: tcp.addr.port,
    asked,
    async [Symbol.asyncDispose]() {
      tcp.close();
      for (const connection of connections) {
        try {
          connection.close();
        } catch {
          // its reader has closed it
        }
      }
      await serving;
      await new Promise<void>((resolve) => udp.close(() => resolve()));
    },
  };
}

/** A query as bytes. */
export function queryBytes(name: string, type: string, changes: object = {}): Uint8Array {
  return new Uint8Array(packet.encode({
    type: "query",
    id: 4711,
    flags: packet.RECURSION_DESIRED,
    questions: [{ type: type === "HTTPS" ? "UNKNOWN_65" : type, name }],
    ...changes,
  }));
}

/** An answer as `RCODE: data`, with `(truncated)` behind. */
export function summary(bytes: Uint8Array): string {
  const { rcode, flag_tc, answers } = packet.decode(Buffer.from(bytes));
  const data = answers.map(({ data }: { data: unknown }) => data).join(",");
  return `${rcode}: ${data}${flag_tc ? "(truncated)" : ""}`.trim();
}

/** Asks over UDP and waits for the answer. */
export async function askUdp(hostname: string, port: number, query: Uint8Array): Promise<string> {
  const socket = dgram.createSocket(hostname.includes(":") ? "udp6" : "udp4");
  try {
    return await new Promise((resolve, reject) => {
      socket.on("message", (bytes, from) => {
        if (from.address !== hostname) reject(new Error(`answer from ${from.address}`));
        else resolve(summary(bytes));
      });
      socket.send(query, port, hostname);
    });
  } finally {
    await new Promise<void>((resolve) => socket.close(() => resolve()));
  }
}

/** Asks several things over one TCP connection, whose own side ends at once. */
export async function askTcp(
  hostname: string,
  port: number,
  ...queries: Uint8Array[]
): Promise<string[]> {
  const connection = await Deno.connect({ hostname, port });
  for (const query of queries) await connection.write(frameMessage(query));
  await connection.closeWrite();
  const reader = new MessageReader();
  for await (const chunk of connection.readable) reader.push(chunk);
  const answers: string[] = [];
  for (let message; (message = reader.poll()) !== undefined;) answers.push(summary(message));
  return answers;
}
