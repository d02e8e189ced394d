/**
 * Configures interfaces, addresses, routes and policy rules (rtnetlink(7)).
 *
 * Adding what exists and removing what does not are no errors, and neither is an IP version that the
 * machine lacks: the outcome says so, for the log.
 *
 * Owns: a netlink socket. Does not own: what it configured, which outlives it.
 * @module
 */

import type { Family, IpAddress } from "../../ip/address.ts";
import { Errno, OsError } from "./errno.ts";
import { NetlinkProtocol, NetlinkSocket } from "./netlink_socket.ts";
import { type NetlinkMessage, NetlinkWriter, NLM_F } from "./netlink_message.ts";
import {
  type InterfaceAddress,
  type Link,
  type LinkChange,
  MAIN_TABLE,
  parseAddress,
  parseLink,
  parseRoute,
  parseRule,
  type Route,
  RTM,
  type Rule,
  writeAddress,
  writeAddressQuery,
  writeLinkChange,
  writeLinkQuery,
  writeRoute,
  writeRouteLookup,
  writeRouteQuery,
  writeRule,
  writeRuleQuery,
} from "./rtnetlink_codec.ts";

/**
 * How a change went: "exists" and "absent" when there was nothing to do, "unsupported" when the
 * machine or the interface has no such IP version.
 */
export type Outcome = "done" | "exists" | "absent" | "unsupported";

const ADD = NLM_F.REQUEST | NLM_F.ACK | NLM_F.CREATE | NLM_F.EXCL;
const CHANGE = NLM_F.REQUEST | NLM_F.ACK;
const DUMP = NLM_F.REQUEST | NLM_F.DUMP;

/** A connection to the kernel's network configuration. Every call is synchronous. */
export class Rtnetlink {
  readonly #socket: NetlinkSocket;

  /** Opens a connection. @throws OsError */
  constructor() {
    this.#socket = NetlinkSocket.open(NetlinkProtocol.Route);
  }

  /** All interfaces. */
  links(): Link[] {
    return this.#dump(RTM.GETLINK, "links", (w) => writeLinkQuery(w), parseLink);
  }

  /** The interface of that name; undefined when there is none. */
  link(name: string): Link | undefined {
    const w = this.#begin(RTM.GETLINK, CHANGE);
    writeLinkQuery(w, name);
    const answer = this.#socket.request(w);
    if (answer.errno === Errno.ENODEV) return undefined;
    if (answer.errno !== 0) throw failure("read link", name, answer);
    return answer.messages.map(parseLink).find((link) => link !== undefined);
  }

  /**
   * Changes an interface.
   *
   * @returns "unsupported" when `noLinkLocalAddress` had no effect for want of IPv6
   * @throws OsError ENODEV, EPERM, EINVAL (MTU out of range)
   */
  changeLink(index: number, change: LinkChange): Outcome {
    const { up, noLinkLocalAddress, ...rest } = change;
    // In one message the kernel switches the interface on before it looks at the address mode, and
    // without IPv6 it refuses the message as a whole.
    const parts: LinkChange[] = [rest];
    if (noLinkLocalAddress) parts.push({ noLinkLocalAddress });
    if (up !== undefined) parts.push({ up });
    let outcome: Outcome = "done";
    for (const part of parts) {
      if (Object.keys(part).length === 0) continue;
      const got = this.#change("change link", `${index}`, RTM.NEWLINK, CHANGE, (w) => {
        writeLinkChange(w, index, part);
      });
      if (got !== "done") outcome = got;
    }
    return outcome;
  }

  /** Addresses of one interface, or of all. */
  addresses(interfaceIndex?: number): InterfaceAddress[] {
    const all = this.#dump(RTM.GETADDR, "addresses", writeAddressQuery, parseAddress);
    return interfaceIndex === undefined
      ? all
      : all.filter((address) => address.interfaceIndex === interfaceIndex);
  }

  /** Gives an interface an address. IPv6 ones are usable at once, without duplicate detection. */
  addAddress(interfaceIndex: number, ip: IpAddress, prefixLength: number): Outcome {
    return this.#change("add address", `${ip}/${prefixLength}`, RTM.NEWADDR, ADD, (w) => {
      writeAddress(w, interfaceIndex, ip, prefixLength);
    });
  }

  /** Takes an address away. */
  removeAddress(interfaceIndex: number, ip: IpAddress, prefixLength: number): Outcome {
    return this.#change("remove address", `${ip}/${prefixLength}`, RTM.DELADDR, CHANGE, (w) => {
      writeAddress(w, interfaceIndex, ip, prefixLength);
    });
  }

  /** Unicast routes of a table; the main one if absent. */
  routes(family: Family, table: number = MAIN_TABLE): Route[] {
    const query = (w: NetlinkWriter) => writeRouteQuery(w, family, table);
    return this.#dump(RTM.GETROUTE, `routes of table ${table}`, query, parseRoute)
      // Kernels before 4.20 do not filter.
      .filter((route) => route.table === table && route.destination.family === family);
  }

  /**
   * The route that a packet to an address would take now, by all rules and tables.
   *
   * @param mark firewall mark of the packet; 0 for none
   * @returns undefined when it would get nowhere
   */
  lookup(destination: IpAddress, mark = 0): Route | undefined {
    const w = this.#begin(RTM.GETROUTE, CHANGE);
    writeRouteLookup(w, destination, mark);
    const answer = this.#socket.request(w);
    switch (answer.errno) {
      case 0:
        return answer.messages.map(parseRoute).find((route) => route !== undefined);
      case Errno.ENETUNREACH:
      case Errno.EHOSTUNREACH:
      case Errno.EACCES: // a route of type "prohibit"
      case Errno.EINVAL: // a route of type "blackhole"
      case Errno.EAFNOSUPPORT:
      case Errno.EOPNOTSUPP:
        return undefined;
      default:
        throw failure("look up route", destination.text, answer);
    }
  }

  /** Adds a route with protocol "static". */
  addRoute(route: Route): Outcome {
    return this.#change("add route", `${route.destination}`, RTM.NEWROUTE, ADD, (w) => {
      writeRoute(w, route);
    });
  }

  /** Removes a route with protocol "static". */
  removeRoute(route: Route): Outcome {
    return this.#change("remove route", `${route.destination}`, RTM.DELROUTE, CHANGE, (w) => {
      writeRoute(w, route);
    });
  }

  /** Removes all unicast routes of a table of ours. @returns how many there were */
  flushRoutes(family: Family, table: number): number {
    const routes = this.routes(family, table);
    for (const route of routes) this.removeRoute(route);
    return routes.length;
  }

  /** Policy rules that lead to tables. */
  rules(family: Family): Rule[] {
    return this.#dump(RTM.GETRULE, "rules", (w) => writeRuleQuery(w, family), parseRule)
      .filter((rule) => rule.family === family);
  }

  /** Adds a rule. */
  addRule(rule: Rule): Outcome {
    return this.#change("add rule", `priority ${rule.priority}`, RTM.NEWRULE, ADD, (w) => {
      writeRule(w, rule);
    });
  }

  /** Removes a rule. */
  removeRule(rule: Rule): Outcome {
    return this.#change("remove rule", `priority ${rule.priority}`, RTM.DELRULE, CHANGE, (w) => {
      writeRule(w, rule);
    });
  }

  /** Closes the connection; the configuration stays. */
  close(): void {
    this.#socket.close();
  }

  /** Same as {@link close}. */
  [Symbol.dispose](): void {
    this.close();
  }

  #begin(type: number, flags: number): NetlinkWriter {
    return new NetlinkWriter().begin(type, flags, this.#socket.nextSequence());
  }

  #change(
    action: string,
    subject: string,
    type: number,
    flags: number,
    write: (w: NetlinkWriter) => void,
  ): Outcome {
    const w = this.#begin(type, flags);
    write(w);
    const answer = this.#socket.request(w);
    const outcome = outcomeOf(answer.errno);
    if (outcome === undefined) throw failure(action, subject, answer);
    return outcome;
  }

  #dump<T>(
    type: number,
    subject: string,
    write: (w: NetlinkWriter) => void,
    parse: (message: NetlinkMessage) => T | undefined,
  ): T[] {
    const w = this.#begin(type, DUMP);
    write(w);
    const answer = this.#socket.request(w);
    const outcome = outcomeOf(answer.errno);
    // A table that has never held a route is absent; a family that is missing has no entries.
    if (outcome === undefined) throw failure("list", subject, answer);
    return answer.messages.flatMap((message) => parse(message) ?? []);
  }
}

function outcomeOf(error: number): Outcome | undefined {
  switch (error) {
    case 0:
      return "done";
    case Errno.EEXIST:
      return "exists";
    case Errno.ENOENT:
    case Errno.ESRCH:
    case Errno.EADDRNOTAVAIL: // what removing an unknown address gives
      return "absent";
    case Errno.EOPNOTSUPP:
    case Errno.EAFNOSUPPORT:
    case Errno.EACCES: // IPv6 is switched off on the interface; lacking privileges gives EPERM
      return "unsupported";
    default:
      return undefined;
  }
}

function failure(
  action: string,
  subject: string,
  answer: { readonly errno: number; readonly text: string | undefined },
): OsError {
  const hint = answer.errno === Errno.EPERM ? "run as root or grant CAP_NET_ADMIN" : answer.text;
  return new OsError(`netlink: ${action}`, subject, answer.errno, hint);
}
