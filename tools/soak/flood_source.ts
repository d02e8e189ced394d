/**
 * Sends what strangers send, from as many addresses as there are in a network that is routed to this
 * machine: `flood_source.ts '{"server": "10.77.0.2:3478", "rate": 200000, "seconds": 10}'`.
 *
 * Prints how many datagrams it sent as JSON.
 * @module
 */

import { ip, SocketAddress, socketAddress } from "@firezone/core/ip";
import { UdpSocket } from "@firezone/core/os/linux";
import { METHOD, newTransactionId, StunWriter } from "@firezone/core/stun";
import { systemRandom } from "@firezone/core/system_random";

/** What the process is started with. */
export interface FloodStart {
  /** Where it all goes. */
  readonly server: string;
  /** Datagrams per second. */
  readonly rate: number;
  /** How long. */
  readonly seconds: number;
}

/** What it prints. */
export interface FloodResult {
  /** Datagrams. */
  readonly sent: number;
  /** How long it took. */
  readonly seconds: number;
}

const DATAGRAMS = 4096;
/** 10.79.0.0/16. */
const NETWORK = [10, 79] as const;
const SOCKETS = 16;
const BATCH = 32;

if (import.meta.main) main(JSON.parse(Deno.args[0]!));

function main({ server, rate, seconds }: FloodStart): void {
  const destination = socketAddress(server);
  const sockets = Array.from({ length: SOCKETS }, () => UdpSocket.open({ family: 4, port: 0 }));
  const sources = Array.from(
    { length: 65_536 },
    (_, i) => new SocketAddress(ip([...NETWORK, i >> 8, i & 255].join(".")), 0),
  );
  const { buffer, starts } = datagrams();
  let [sent, at] = [0, 0];
  const startedAt = performance.now();
  for (let now = startedAt; now < startedAt + seconds * 1000; now = performance.now()) {
    const due = (now - startedAt) * rate / 1000;
    for (let i = 0; i < BATCH && sent < due; i++) {
      const socket = sockets[sent % SOCKETS]!;
      const start = starts[at]!;
      const length = starts[at + 1]! - start;
      // An odd stride visits every address before it comes back to one.
      socket.send(sources[(sent * 40_503) & 0xffff], destination, buffer, start, length, 0, 0);
      at = (at + 1) % DATAGRAMS;
      sent++;
    }
  }
  const result: FloodResult = { sent, seconds: (performance.now() - startedAt) / 1000 };
  console.log(JSON.stringify(result));
}

/** Garbage, requests without credentials and with made-up ones, data on channels of nobody. */
function datagrams(): { buffer: Uint8Array; starts: number[] } {
  const parts = Array.from({ length: DATAGRAMS }, (_, i): Uint8Array => {
    const id = newTransactionId(systemRandom);
    switch (i % 6) {
      case 0: // Any bytes.
        return systemRandom(20 + i % 100);
      case 1: // STUN by its head alone.
        return Uint8Array.of(0, 3, 0, 40, 0x21, 0x12, 0xa4, 0x42, ...systemRandom(52));
      case 2:
        return new StunWriter("request", METHOD.binding, id).finish();
      case 3:
        return new StunWriter("request", METHOD.allocate, id).requestedTransport(17).finish();
      case 4:
        return new StunWriter("request", METHOD.refresh, id).lifetime(600)
          .username(`2145916800:${i}`).realm("firezone").nonce("bm9uY2Vub25jZW5vbmNlbm9uY2U")
          .finish({ integrityKey: systemRandom(16) });
      default:
        return Uint8Array.of(0x40, 0, 0, 60, ...systemRandom(60));
    }
  });
  const starts = [0];
  for (const part of parts) starts.push(starts.at(-1)! + part.length);
  const buffer = new Uint8Array(starts.at(-1)!);
  for (const [i, part] of parts.entries()) buffer.set(part, starts[i]!);
  return { buffer, starts };
}
