/**
 * The real relay on a simulated host. Its sockets always open.
 * @module
 */

import { SocketAddress } from "@firezone/core/ip";
import type { Owner } from "@firezone/core/testing";
import type { Transmit } from "@firezone/core/transmit";
import { relayCredentials, writeChannelDataHeader } from "@firezone/core/turn";
import type { Millis, UnixSeconds } from "@firezone/core/units";
import { Forwarding, RelayServer, type RelayServerOptions } from "@firezone/relay";

/** The port of every relay. */
export const RELAY_PORT = 3478;

/** Wall clock at the start of every simulation. */
export const EPOCH_SECONDS = 1_800_000_000;

/** See the head of this file. */
export class RelayHost implements Owner {
  /** The machine, for its counters. */
  server: RelayServer;
  #options: RelayServerOptions;
  readonly #forwarding = new Forwarding();
  readonly #transmits: Transmit[] = [];

  /** A relay without allocations. */
  constructor(options: RelayServerOptions) {
    this.#options = options;
    this.server = new RelayServer(options);
  }

  /** Starts over: all allocations are gone, and credentials of before are worth nothing. */
  restart(stampSecret: string): void {
    this.#options = { ...this.#options, stampSecret };
    this.server = new RelayServer(this.#options);
    this.#transmits.length = 0;
  }

  /** What the portal would hand out for a salt. */
  credentials(salt: string): { username: string; password: string } {
    const expiresAt = (EPOCH_SECONDS + 86_400) as UnixSeconds;
    return relayCredentials(expiresAt, this.#options.stampSecret, salt);
  }

  /** Takes a datagram from a client or a peer. */
  handleDatagram(
    now: Millis,
    local: SocketAddress,
    from: SocketAddress,
    payload: Uint8Array,
  ): void {
    const out = this.#forwarding;
    const wall = Math.floor(EPOCH_SECONDS + now / 1000) as UnixSeconds;
    const end = payload.length;
    const forward = local.port === RELAY_PORT
      ? this.server.handleClientInput(now, wall, from, payload, 0, end, out)
      : this.server.handlePeerInput(now, from, local.port, 0, end, out);
    if (forward) this.#transmits.push(this.#forward(payload));
    this.drain(now);
  }

  /** Does what is due. */
  handleTimeout(now: Millis): void {
    this.server.handleTimeout(now);
    this.drain(now);
  }

  /** The earliest deadline. */
  pollTimeout(): Millis {
    return this.server.pollTimeout();
  }

  /** The next datagram for the network. */
  pollTransmit(): Transmit | undefined {
    const answer = this.server.pollTransmit();
    if (!answer) return this.#transmits.shift();
    const source = new SocketAddress(this.#address(answer.destination.family), RELAY_PORT);
    return { ...answer, source };
  }

  /** Opens the sockets that allocations want. */
  drain(now: Millis): void {
    for (let command; (command = this.server.pollCommand()) !== undefined;) {
      if (command.tag === "create-allocation") this.server.handleAllocationCreated(now, command.id);
    }
  }

  #forward(payload: Uint8Array): Transmit {
    const { direction, destination, allocationPort, channel, start, end } = this.#forwarding;
    const data = payload.subarray(start, end);
    const ip = this.#address(destination.family);
    if (direction === "peer") {
      return { source: new SocketAddress(ip, allocationPort), destination, payload: data.slice() };
    }
    const framed = new Uint8Array(4 + data.length);
    writeChannelDataHeader(framed, 0, channel, data.length);
    framed.set(data, 4);
    return { source: new SocketAddress(ip, RELAY_PORT), destination, payload: framed };
  }

  #address(family: 4 | 6) {
    const { v4, v6 } = this.#options.publicAddresses;
    return (family === 4 ? v4 : v6)!;
  }
}
