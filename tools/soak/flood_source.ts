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

/** Sends that differ from one another. */
const SENDS = 512;
/** Datagrams of one length that a stranger sends in a row, by one system call. */
const IN_A_ROW = 8;
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
  const { buffer, sends } = datagrams();
  let count = 0;
  const startedAt = performance.now();
  for (let now = startedAt; now < startedAt + seconds * 1000; now = performance.now()) {
    const due = (now - startedAt) * rate / 1000 / IN_A_ROW;
    for (let i = 0; i < BATCH && count < due; i++, count++) {
      const { start, length } = sends[count % SENDS]!;
      const socket = sockets[count % SOCKETS]!;
      // An odd stride visits every address before it comes back to one.
      const source = sources[(count * 40_503) & 0xffff];
      socket.send(source, destination, buffer, start, IN_A_ROW * length, length, 0);
    }
  }
  const result: FloodResult = {
    sent: count * IN_A_ROW,
    seconds: (performance.now() - startedAt) / 1000,
  };
  console.log(JSON.stringify(result));
}

/** Where the datagrams of a send begin in a buffer, and how long each of them is. */
interface Send {
  readonly start: number;
  readonly length: number;
}

function datagrams(): { buffer: Uint8Array; sends: Send[] } {
  const rows = Array.from(
    { length: SENDS },
    (_, i) => Array.from({ length: IN_A_ROW }, () => datagram(i)),
  );
  let start = 0;
  const sends = rows.map((row): Send => {
    const { length } = row[0]!;
    start += IN_A_ROW * length;
    return { start: start - IN_A_ROW * length, length };
  });
  const buffer = new Uint8Array(start);
  for (const [i, { start, length }] of sends.entries()) {
    for (const [k, bytes] of rows[i]!.entries()) buffer.set(bytes, start + k * length);
  }
  return { buffer, sends };
}

/**
 * Garbage, a request without credentials or with made-up ones, data on channels of nobody; what it is
 * and how long depends on `i`.
 */
function datagram(i: number): Uint8Array {
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
}
