/**
 * A simulated host and what runs on it.
 * @module
 */

import type { Family, IpAddress } from "../ip/address.ts";
import { SocketAddress } from "../ip/address.ts";
import type { Transmit } from "../transmit.ts";
import type { Millis } from "../units.ts";
import { Link, type LinkOptions } from "./link.ts";
import type { Router } from "./router.ts";

/** What a host runs: a state machine with the usual verbs, or an adapter before one. */
export interface Owner {
  /**
   * A datagram came in.
   *
   * @param local our address and port that it was sent to
   * @param payload the owner's from here on
   */
  handleDatagram(now: Millis, local: SocketAddress, from: SocketAddress, payload: Uint8Array): void;
  /** Does what is due. */
  handleTimeout(now: Millis): void;
  /** The earliest deadline, `NEVER` or undefined for none. One in the past means "now". */
  pollTimeout(): Millis | undefined;
  /** The next datagram to send, or undefined. */
  pollTransmit(): Transmit | undefined;
  /**
   * For adapters that take events from a machine and act on them. Called after every input and
   * before {@link pollTransmit}, often in vain.
   */
  drain?(now: Millis): void;
}

/** Where a host is attached. */
export interface Place {
  /** Its addresses, of either family; the first of a family is the one that it sends from. */
  readonly addresses: readonly string[];
  /** The router that it is behind; default none: it is on the Internet. */
  readonly behind?: Router | undefined;
}

/** Where and how a host is attached. */
export interface HostOptions extends Place {
  /**
   * The one UDP port that it has bound. Without it every port reaches the owner, as a relay needs,
   * and every transmit must name its source.
   */
  readonly port?: number | undefined;
  /** Its link; default 5 ms one way, without loss. */
  readonly link?: LinkOptions;
}

/** Made by `Network.addHost`. */
export class Host {
  /** Its link, to be made better or worse at any time. */
  readonly link: Link;
  /** The one UDP port that it has bound; undefined for all. Setting it is rebinding. */
  port: number | undefined;
  /** Its addresses; none while it is off the network. Changed by `Network.move` alone. */
  addresses: readonly IpAddress[] = [];

  /** A host that is not attached yet. */
  constructor(
    /** For messages. */
    readonly name: string,
    /** What it runs; may be replaced, as by a restart. */
    public owner: Owner,
    options: HostOptions,
  ) {
    this.port = options.port;
    this.link = new Link(options.link);
  }

  /** The address of a family that it sends from. */
  address(family: Family): IpAddress | undefined {
    return this.addresses.find((address) => address.family === family);
  }

  /** Its endpoint of a family. @throws Error where it has no such address, or no port of its own */
  endpoint(family: Family): SocketAddress {
    const address = this.address(family);
    if (!address || this.port === undefined) {
      throw new Error(`Host ${this.name} has no endpoint of family ${family}`);
    }
    return new SocketAddress(address, this.port);
  }
}
