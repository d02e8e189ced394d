/**
 * Tells when interfaces, addresses or routes of the machine change.
 *
 * Owns: a netlink socket that hears the kernel's notifications. Does not own: what to make of them.
 * @module
 */

import type { Fd } from "./fd.ts";
import { NetlinkProtocol, NetlinkSocket } from "./netlink_socket.ts";
import { type NetworkChange, parseChange } from "./rtnetlink_codec.ts";

const RTMGRP_LINK = 0x001;
const RTMGRP_IPV4_IFADDR = 0x010;
const RTMGRP_IPV4_ROUTE = 0x040;
const RTMGRP_IPV6_IFADDR = 0x100;
const RTMGRP_IPV6_ROUTE = 0x400;
const GROUPS = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_IFADDR |
  RTMGRP_IPV6_ROUTE;

/** A subscription. A thread that blocks waits on {@link fd}; others {@link take} now and then. */
export class NetworkChanges {
  readonly #socket: NetlinkSocket;

  /** Subscribes. @throws OsError */
  constructor() {
    this.#socket = NetlinkSocket.open(NetlinkProtocol.Route, GROUPS);
  }

  /** Readable while changes wait, for epoll. */
  get fd(): Fd {
    return this.#socket.fd;
  }

  /** Takes the changes that wait, in order; never blocks. */
  take(): NetworkChange[] {
    const changes: NetworkChange[] = [];
    while (true) {
      const batch = this.#socket.receive();
      if (batch === undefined) return changes;
      if (batch === "overrun") changes.push({ kind: "unknown", interfaceIndex: 0, table: 0 });
      else changes.push(...batch.flatMap((message) => parseChange(message) ?? []));
    }
  }

  /** Ends the subscription. */
  close(): void {
    this.#socket.close();
  }

  /** Same as {@link close}. */
  [Symbol.dispose](): void {
    this.close();
  }
}
