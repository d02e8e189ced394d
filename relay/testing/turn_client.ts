/**
 * Our TURN client with a real socket, for tests against real servers on loopback.
 * @module
 */

import { type SocketAddress, socketAddress } from "@firezone/core/ip";
import { parseStunMessage } from "@firezone/core/stun";
import { systemRandom } from "@firezone/core/system_random";
import {
  Allocation,
  ChannelDataRef,
  type ChannelNumber,
  Parse,
  parseChannelData,
  type TurnCredentials,
  writeChannelDataHeader,
} from "@firezone/core/turn";
import type { Millis } from "@firezone/core/units";
import { Buffer } from "node:buffer";
import { createSocket, type Socket } from "node:dgram";
import { once } from "node:events";

/** Nothing here takes longer unless it fails. */
const PATIENCE_MS = 15_000;

/** A datagram. */
export interface Received {
  /** Key of the sender's address. */
  readonly from: string;
  /** Payload. */
  readonly bytes: Uint8Array;
}

/** A UDP socket on loopback that remembers what it received. */
export class Endpoint implements AsyncDisposable {
  /** Where it listens. */
  readonly address: SocketAddress;
  /** All datagrams so far. */
  readonly received: Received[] = [];
  /** Takes each datagram. */
  onDatagram: (from: SocketAddress, bytes: Uint8Array) => void = () => {};
  readonly #socket: Socket;
  #isClosed = false;

  private constructor(socket: Socket) {
    this.#socket = socket;
    const { address, port } = socket.address();
    this.address = toAddress(address, port);
    socket.on("message", (message, { address, port }) => {
      const from = toAddress(address, port);
      const bytes = new Uint8Array(message);
      this.received.push({ from: from.key, bytes });
      this.onDatagram(from, bytes);
    });
  }

  /** Binds a free port of a loopback address. */
  static async open(host: string): Promise<Endpoint> {
    const socket = createSocket(host.includes(":") ? "udp6" : "udp4");
    socket.bind(0, host);
    await once(socket, "listening");
    return new Endpoint(socket);
  }

  /** Sends a datagram. */
  send(bytes: Uint8Array, to: SocketAddress): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    // An error is like a loss: whoever waits for the answer notices.
    this.#socket.send(Buffer.from(bytes), to.port, to.ip.text, () => resolve());
    return promise;
  }

  /** Closes the socket; a second call does nothing. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#socket.close();
    await once(this.#socket, "close");
  }
}

/** An {@link Allocation} with a socket and a clock. */
export class TurnClient implements AsyncDisposable {
  /** The machine. */
  readonly allocation: Allocation;
  /** Tags of all events. */
  readonly events: string[] = [];
  /** What came through channels. */
  readonly data: { from: string; channel: ChannelNumber; bytes: Uint8Array }[] = [];
  readonly #endpoint: Endpoint;
  #skippedMs = 0;

  private constructor(endpoint: Endpoint, server: SocketAddress, credentials: TurnCredentials) {
    this.#endpoint = endpoint;
    const servers = server.family === 4 ? { v4: server } : { v6: server };
    const options = { id: "relay", servers, credentials, random: systemRandom };
    this.allocation = new Allocation({ ...options, software: "firezone-test" }, this.now());
    endpoint.onDatagram = (from, bytes) => this.#take(from, bytes);
    this.flush();
  }

  /** Opens a socket in the family of `server` and begins to allocate. */
  static async start(server: SocketAddress, credentials: TurnCredentials): Promise<TurnClient> {
    return new TurnClient(await Endpoint.open(server.ip.text), server, credentials);
  }

  /** Our time. */
  now(): Millis {
    return performance.now() + this.#skippedMs as Millis;
  }

  /** Lets the allocation believe that time has passed. */
  skip(ms: number): void {
    this.#skippedMs += ms;
    this.flush();
  }

  /** Waits until `look` finds something. */
  until<T>(what: string, look: () => T): Promise<Exclude<T, undefined | false>> {
    return this.#poll(what, () => {}, look);
  }

  /** Does something again and again until `look` finds something. */
  retry<T>(act: () => void, look: () => T): Promise<Exclude<T, undefined | false>> {
    return this.#poll("an effect", act, look);
  }

  /** Sends through the peer's channel, which must have been asked for. */
  sendTo(peer: SocketAddress, bytes: Uint8Array): void {
    const channel = this.allocation.channelFor(peer)!;
    const framed = new Uint8Array(4 + bytes.length);
    framed.set(bytes, writeChannelDataHeader(framed, 0, channel, bytes.length));
    void this.#endpoint.send(framed, this.allocation.activeServer!);
  }

  /** Does what is due and sends what is to be sent. */
  flush(): void {
    this.allocation.handleTimeout(this.now());
    for (let t; (t = this.allocation.pollTransmit()) !== undefined;) {
      void this.#endpoint.send(t.payload, t.destination);
    }
    for (let e; (e = this.allocation.pollEvent()) !== undefined;) {
      this.events.push(e.tag === "failed" ? `failed: ${e.reason}` : e.tag);
    }
  }

  /** Closes the socket; the relay is not told. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#endpoint[Symbol.asyncDispose]();
  }

  async #poll<T>(what: string, act: () => void, look: () => T) {
    const deadline = this.now() + PATIENCE_MS;
    while (this.now() < deadline) {
      this.flush();
      const found = look();
      if (found !== undefined && found !== false) {
        return found as Exclude<T, undefined | false>;
      }
      act();
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    throw new Error(`Waited for ${what} in vain; events so far: ${this.events.join(", ")}`);
  }

  #take(from: SocketAddress, bytes: Uint8Array): void {
    const ref = new ChannelDataRef();
    if (parseChannelData(bytes, 0, bytes.length, ref) === Parse.Ok) {
      const { channel, start, end } = ref;
      const peer = this.allocation.peerFor(channel);
      this.data.push({ from: String(peer?.key), channel, bytes: bytes.subarray(start, end) });
      return;
    }
    const message = parseStunMessage(bytes, 0, bytes.length);
    if (message === undefined) throw new Error(`${from} sent what is neither STUN nor ChannelData`);
    this.allocation.handleInput(this.now(), this.#endpoint.address, from, message);
    this.flush();
  }
}

/** The address of a port on a host given as an IP address. */
export function toAddress(host: string, port: number): SocketAddress {
  return socketAddress(host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`);
}
