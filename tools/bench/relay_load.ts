/**
 * A {@link RelayCrowd} as a process, since it lives in a namespace of its own: it reads an order per
 * line and answers each with a line of JSON.
 *
 *     relay_load.ts '{"server": "10.77.0.2:3478", "peer": "10.77.0.1", …}'
 * @module
 */

import { ip, SocketAddress, socketAddress } from "@firezone/core/ip";
import { relayCredentials } from "@firezone/core/turn";
import type { UnixSeconds } from "@firezone/core/units";
import { type Flow, type FlowResult, RelayCrowd } from "./relay_crowd.ts";
import { cpuSeconds } from "./tunnel_measures.ts";

/** What the process is started with. */
export interface LoadStart {
  /** The relay. */
  readonly server: string;
  /** Address of the peers. */
  readonly peer: string;
  /** How many peers clients share. */
  readonly peers?: number;
  /** Client `i` sends from the `i / perAddress`th address. */
  readonly clients: readonly string[];
  /** Clients on one address. */
  readonly perAddress: number;
  /** With a stamp secret every client is a user of its own. */
  readonly credentials:
    | { readonly stampSecret: string }
    | { readonly username: string; readonly password: string; readonly realm: string };
}

/** What it is told. */
export type LoadOrder =
  | { readonly op: "grow"; readonly count: number }
  | { readonly op: "refresh" }
  | { readonly op: "end" | "again"; readonly from: number }
  | { readonly op: "run"; readonly flow: Flow; readonly pids: readonly number[] };

/** How an order that concerns requests went. */
export interface RequestsReply {
  /** How long it took. */
  readonly seconds: number;
  /** Clients that failed, by reason. */
  readonly failures: Readonly<Record<string, number>>;
}

/** How a flow went. */
export interface FlowReply extends FlowResult {
  /** Processor time of the processes, from the first packet to the last. */
  readonly cpuSeconds: number;
}

/** Until then credentials are valid; far enough. */
const EXPIRES_AT = 2_145_916_800 as UnixSeconds;

if (import.meta.main) main(JSON.parse(Deno.args[0]!));

function main(start: LoadStart): void {
  const { credentials, clients, perAddress, peers } = start;
  const crowd = new RelayCrowd({
    server: socketAddress(start.server),
    peer: ip(start.peer),
    ...(peers !== undefined && { peers }),
    client: (i) => new SocketAddress(ip(clients[Math.floor(i / perAddress) % clients.length]!), 0),
    credentials: (i) =>
      "stampSecret" in credentials
        ? relayCredentials(EXPIRES_AT, credentials.stampSecret, `client ${i}`)
        : credentials,
  });
  for (const line of stdinLines()) {
    console.log(JSON.stringify(obey(crowd, JSON.parse(line))));
  }
}

function obey(crowd: RelayCrowd, order: LoadOrder): RequestsReply | FlowReply {
  const startedAt = performance.now();
  const done = (failures: Map<string, number>): RequestsReply => ({
    seconds: (performance.now() - startedAt) / 1000,
    failures: Object.fromEntries(failures),
  });
  switch (order.op) {
    case "grow":
      return done(crowd.grow(order.count));
    case "refresh":
      return done(crowd.refresh());
    case "end":
      return done(crowd.end(order.from));
    case "again":
      return done(crowd.again(order.from));
    case "run": {
      const before = cpuSeconds(order.pids);
      const result = crowd.run(order.flow);
      return { ...result, cpuSeconds: cpuSeconds(order.pids) - before };
    }
  }
}

/** Lines of stdin, read without an event loop: nothing else happens here meanwhile. */
function* stdinLines(): Generator<string> {
  const chunk = new Uint8Array(65_536);
  const decoder = new TextDecoder();
  let text = "";
  for (let n; (n = Deno.stdin.readSync(chunk)) !== null;) {
    const lines = (text + decoder.decode(chunk.subarray(0, n), { stream: true })).split("\n");
    text = lines.pop()!;
    yield* lines;
  }
}
