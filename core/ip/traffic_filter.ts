/**
 * Which traffic a resource admits: port ranges of TCP and UDP, and ICMP.
 *
 * A resource without filters admits everything; with filters, what none of them names is denied,
 * other protocols included. Towards the resource the destination port counts, on the way back the
 * source port.
 * @module
 */

import { PROTOCOL } from "./packet.ts";

/** One filter as the portal writes it; ports are inclusive. */
export type FilterRule =
  | { readonly protocol: "tcp" | "udp"; readonly portStart: number; readonly portEnd: number }
  | { readonly protocol: "icmp" };

/** The filters of one resource, ready for the packet path. */
export class TrafficFilter {
  readonly #all: boolean;
  readonly #icmp: boolean;
  /** First and last port by turns. */
  readonly #tcp: readonly number[];
  readonly #udp: readonly number[];

  /** Prepares rules; none of them admits everything. */
  constructor(rules: readonly FilterRule[]) {
    this.#all = rules.length === 0;
    this.#icmp = rules.some((rule) => rule.protocol === "icmp");
    this.#tcp = ranges(rules, "tcp");
    this.#udp = ranges(rules, "udp");
  }

  /**
   * Whether the filters admit a packet.
   *
   * @param protocol IP protocol number
   * @param port on the resource's side, in host order
   */
  admits(protocol: number, port: number): boolean {
    if (this.#all) return true;
    switch (protocol) {
      case PROTOCOL.tcp:
        return within(this.#tcp, port);
      case PROTOCOL.udp:
        return within(this.#udp, port);
      case PROTOCOL.icmp:
      case PROTOCOL.icmpv6:
        return this.#icmp;
      default:
        return false;
    }
  }
}

function ranges(rules: readonly FilterRule[], protocol: "tcp" | "udp"): number[] {
  return rules.flatMap((rule) => rule.protocol === protocol ? [rule.portStart, rule.portEnd] : []);
}

function within(ranges: readonly number[], port: number): boolean {
  for (let i = 0; i < ranges.length; i += 2) {
    if (port >= ranges[i]! && port <= ranges[i + 1]!) return true;
  }
  return false;
}
