/**
 * What the clients of the fairness bench talk to: `fairness_server.ts CLIENTS PORT`.
 *
 *     first byte of a datagram   then
 *     0  data                    client, 16 bits; to the server or from it
 *     1  begin                   client, 16 bits; datagrams per second, 32 bits; 0: only receive
 *     2  report                  an {@link EndReport} of all since the first "begin" is printed as JSON
 *
 * @module
 */

import type { SocketAddress } from "@firezone/core/ip";
import { Epoll, UdpSocket } from "@firezone/core/os/linux";
import { Arrivals, type Share } from "./arrivals.ts";
import { Pace } from "./pace.ts";

/** First bytes. */
export const TAG = { data: 0, begin: 1, report: 2 } as const;

/** Payload of a datagram that fills a packet of 1280 bytes. */
export const PAYLOAD = 1252;
/** Each client gets its datagrams in bursts, one every so many milliseconds. */
export const TICK_MS = 4;

/** What one end has to say about a direction, or about both. */
export interface EndReport {
  /** Datagrams sent. */
  readonly sent: number;
  /** What arrived, by client. */
  readonly shares: readonly Share[];
}

/** Datagrams of a client's burst. */
export function burstOf(perSecond: number): number {
  return Math.max(1, Math.round(perSecond * TICK_MS / 1000));
}
/** Everything arrives at one socket here: what it has no room for would count as lost in the tunnel. */
const BUFFERS = { receiveBuffer: 32 << 20, sendBuffer: 8 << 20 };

class Server {
  readonly #socket: UdpSocket;
  readonly #epoll = new Epoll();
  readonly #arrivals: Arrivals;
  readonly #clients: (SocketAddress | undefined)[];
  readonly #burst = new Uint8Array(65_536);
  readonly #pace = new Pace(TICK_MS);
  #perSecond = 0;
  #sent = 0;
  #first = 0;
  #hasBegun = false;

  constructor(clients: number, port: number) {
    this.#socket = UdpSocket.open({ family: 4, port, ...BUFFERS });
    this.#epoll.add(this.#socket.fd, 0, { readable: true });
    this.#arrivals = new Arrivals(clients);
    this.#clients = new Array(clients).fill(undefined);
  }

  serve(): never {
    for (;;) {
      const sends = this.#perSecond > 0;
      this.#epoll.wait(sends ? this.#pace.waitMs(performance.now()) : -1);
      this.#receive();
      if (sends && this.#pace.take(performance.now())) this.#sendAll();
    }
  }

  #receive(): void {
    const socket = this.#socket;
    const messages = socket.receive();
    const now = performance.now();
    for (let m = 0; m < messages; m++) {
      const [start, length, step] = [socket.start(m), socket.length(m), socket.segmentSize(m)];
      const view = new DataView(socket.buffer.buffer, socket.buffer.byteOffset + start, length);
      const client = length < 3 ? NaN : view.getUint16(1);
      switch (view.getUint8(0)) {
        case TAG.data:
          this.#arrivals.take(client, now, Math.ceil(length / step));
          break;
        case TAG.begin:
          this.#begin(now, client, view.getUint32(3), socket.from(m));
          break;
        case TAG.report:
          if (this.#hasBegun) this.#report();
          this.#hasBegun = false;
          this.#perSecond = 0;
          this.#clients.fill(undefined);
      }
    }
  }

  #report(): void {
    const report: EndReport = { sent: this.#sent, shares: this.#arrivals.shares() };
    console.log(JSON.stringify(report));
  }

  #begin(now: number, client: number, perSecond: number, from: SocketAddress): void {
    this.#clients[client] = from;
    this.#perSecond = perSecond;
    if (this.#hasBegun) return;
    this.#hasBegun = true;
    this.#sent = 0;
    this.#arrivals.begin(now);
    this.#pace.begin(now);
  }

  #sendAll(): void {
    const count = burstOf(this.#perSecond);
    const view = new DataView(this.#burst.buffer);
    // Each tick begins with another client: where a queue is full, the last have no room.
    const clients = this.#clients.length;
    this.#first = (this.#first + 1) % clients;
    for (let n = 0; n < clients; n++) {
      const client = (this.#first + n) % clients;
      const to = this.#clients[client];
      if (to === undefined) continue;
      for (let i = 0; i < count; i++) view.setUint16(i * PAYLOAD + 1, client);
      const segment = count > 1 ? PAYLOAD : 0;
      this.#socket.send(undefined, to, this.#burst, 0, count * PAYLOAD, segment, 0);
      this.#sent += count;
    }
  }
}

if (import.meta.main) {
  const [clients, port] = Deno.args.map(Number);
  const server = new Server(clients!, port!);
  console.log("listening");
  server.serve();
}
