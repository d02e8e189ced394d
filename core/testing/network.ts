/**
 * A simulated network in virtual time: state machines on hosts, behind routers of all kinds, with
 * delay, loss and reordering in between. The same seed gives the same run, datagram by datagram.
 *
 *     Internet ──┬── host (a relay)
 *                ├── router (NAT, filter) ── segment ──┬── host (a client)
 *                └── router ── segment ── router ──────┴── …
 *
 *     const network = new Network({ seed: 1 });
 *     const home = network.addRouter("home", { addresses: ["198.51.100.1"] });
 *     network.addHost("client", client, { addresses: ["192.168.1.2"], behind: home, port: 52625 });
 *     network.addHost("relay", relay, { addresses: ["203.0.113.1", "2001:db8::1"] });
 *     assert(network.runUntil(() => client.isConnected, 5000));
 *
 * Owns: time and delivery. Does not own: what hosts say to each other beside the network (through a
 * portal, say); {@link Network.after} carries that with a delay of the test's choice.
 * Holds: time moves only in `runFor` and `runUntil`, from one due thing to the next; things due at
 * one instant happen in the order in which they were set up.
 * @module
 */

import { Deadlines } from "../deadlines.ts";
import { ip, type IpAddress, type Prefix, prefix, SocketAddress } from "../ip/address.ts";
import type { RandomBytes } from "../random.ts";
import type { Transmit } from "../transmit.ts";
import { after, earlier, type Millis, NEVER } from "../units.ts";
import { Host, type HostOptions, type Owner, type Place } from "./host.ts";
import type { Link } from "./link.ts";
import { seededRandom } from "./random.ts";
import { Router, type RouterOptions } from "./router.ts";

/** How a datagram ended. */
export type Verdict =
  /** Its host took it. */
  | "delivered"
  /** A link lost it. */
  | "lost"
  /** It was larger than a link's MTU. */
  | "too-big"
  /** A rule of {@link Network.block} or {@link Network.dropIf} took it. */
  | "blocked"
  /** A NAT or firewall did not let it in. */
  | "filtered"
  /** Nobody on its way has that address, or its sender none of that family. */
  | "unroutable"
  /** Its host has not bound that port. */
  | "closed-port";

/** A datagram with its addresses as they are where it is. */
export interface Datagram {
  /** Source. */
  readonly from: SocketAddress;
  /** Destination. */
  readonly to: SocketAddress;
  /** UDP payload. */
  readonly payload: Uint8Array;
}

/** What a trace tells of a datagram's end. */
export interface TraceEntry extends Datagram {
  /** When it ended. */
  readonly at: Millis;
  /** How it ended. */
  readonly verdict: Verdict;
}

/** What the whole network is made with. */
export interface NetworkOptions {
  /** Decides all luck; default 0. */
  readonly seed?: number;
  /** The first instant; default 0. */
  readonly startMs?: number;
  /** Called with every datagram's end. */
  readonly trace?: (entry: TraceEntry) => void;
}

/** Times that a machine may want to act at one instant before it is taken for one that spins. */
const MAX_ROUNDS = 1000;
/** Things that may happen at one instant before time is taken to stand still. */
const MAX_PER_INSTANT = 100_000;

/** A stretch of network whose members reach each other directly. */
class Segment {
  readonly #members = new Map<string, Host | Router>();
  readonly #routes: { readonly prefix: Prefix; readonly router: Router }[] = [];
  /** The router out of here and the segment outside it; undefined for the Internet. */
  readonly exit: { readonly router: Router; readonly outside: Segment } | undefined;

  constructor(exit: Segment["exit"]) {
    this.exit = exit;
  }

  find(address: IpAddress): Host | Router | undefined {
    return this.#members.get(address.text) ??
      this.#routes.find((route) => route.prefix.contains(address))?.router;
  }

  claim(address: IpAddress, member: Host | Router): void {
    const holder = this.#members.get(address.text);
    if (holder) throw new Error(`Cannot give ${address} to ${member.name}: ${holder.name} has it`);
    this.#members.set(address.text, member);
  }

  release(address: IpAddress): void {
    this.#members.delete(address.text);
  }

  route(prefix: Prefix, router: Router): void {
    this.#routes.push({ prefix, router });
  }
}

/** See the head of this file. */
export class Network {
  /** How many datagrams ended which way. */
  readonly verdicts: Record<Verdict, number> = {
    "delivered": 0,
    "lost": 0,
    "too-big": 0,
    "blocked": 0,
    "filtered": 0,
    "unroutable": 0,
    "closed-port": 0,
  };
  #now: Millis;
  readonly #random: RandomBytes;
  readonly #trace: ((entry: TraceEntry) => void) | undefined;
  readonly #internet = new Segment(undefined);
  readonly #hosts = new Map<Host, Segment | undefined>();
  readonly #insides = new Map<Router, Segment>();
  readonly #agenda = new Deadlines<() => void>();
  readonly #rules = new Set<(datagram: Datagram) => boolean>();

  /** An Internet without anything on it. */
  constructor(options: NetworkOptions = {}) {
    this.#now = (options.startMs ?? 0) as Millis;
    this.#random = seededRandom(options.seed ?? 0);
    this.#trace = options.trace;
  }

  /** The present instant. */
  get now(): Millis {
    return this.#now;
  }

  /** All hosts, in the order in which they were added. */
  get hosts(): Host[] {
    return [...this.#hosts.keys()];
  }

  /** Adds a router. @throws Error when an address is taken, RangeError when one is malformed */
  addRouter(name: string, options: RouterOptions): Router {
    const outside = this.#segmentBehind(options.behind);
    const router = new Router(name, options, this.#random);
    for (const address of router.addresses) outside.claim(address, router);
    for (const prefix of router.prefixes) outside.route(prefix, router);
    this.#insides.set(router, new Segment({ router, outside }));
    return router;
  }

  /** Adds a host. @throws Error when an address is taken, RangeError when one is malformed */
  addHost(name: string, owner: Owner, options: HostOptions): Host {
    const host = new Host(name, owner, options);
    this.#hosts.set(host, undefined);
    this.move(host, options);
    return host;
  }

  /**
   * Puts a host elsewhere, as roaming does, or with `undefined` nowhere. What is under way to its
   * former addresses will not find it.
   */
  move(host: Host, place: Place | undefined): void {
    const former = this.#hosts.get(host);
    for (const address of host.addresses) former?.release(address);
    host.addresses = [];
    this.#hosts.set(host, undefined);
    if (place === undefined) return;
    const segment = this.#segmentBehind(place.behind);
    const addresses = place.addresses.map(ip);
    for (const address of addresses) segment.claim(address, host);
    host.addresses = addresses;
    this.#hosts.set(host, segment);
  }

  /**
   * Drops what goes between two ranges, either way, wherever on its path a datagram bears such
   * addresses.
   *
   * @param a an address or a prefix, as text
   * @returns call it to lift the block
   */
  block(a: string, b: string): () => void {
    const [one, other] = [prefix(a), prefix(b)];
    return this.dropIf(({ from, to }) =>
      one.contains(from.ip) && other.contains(to.ip) ||
      other.contains(from.ip) && one.contains(to.ip)
    );
  }

  /** Drops the datagrams of which `isUnwanted` says so, asked once per segment that they cross. */
  dropIf(isUnwanted: (datagram: Datagram) => boolean): () => void {
    this.#rules.add(isUnwanted);
    return () => this.#rules.delete(isUnwanted);
  }

  /** Calls `action` once, `delayMs` from now: for what hosts say to each other by other means. */
  after(delayMs: number, action: (now: Millis) => void): void {
    this.#agenda.set(() => action(this.#now), after(this.#now, delayMs));
  }

  /** Lets `ms` milliseconds pass. @throws Error when a machine spins */
  runFor(ms: number): void {
    this.#run(after(this.#now, ms), () => false);
  }

  /**
   * Runs until the condition holds.
   *
   * @param limitMs how long at most; default a minute
   * @returns whether it holds
   * @throws Error when a machine spins: asks to be woken at once, over and over
   */
  runUntil(condition: () => boolean, limitMs = 60_000): boolean {
    return this.#run(after(this.#now, limitMs), condition);
  }

  #run(end: Millis, condition: () => boolean): boolean {
    let atThisInstant = 0;
    this.#drainAll();
    while (!condition()) {
      const next = this.#nextDeadline();
      if (next > end) {
        this.#now = end;
        return false;
      }
      if (next > this.#now) {
        this.#now = next;
        atThisInstant = 0;
      }
      if (++atThisInstant > MAX_PER_INSTANT) throw new Error(`Time stands still at ${this.#now}`);
      const action = this.#agenda.takeDue(this.#now);
      if (action) action();
      else this.#wakeHosts();
      this.#drainAll();
    }
    return true;
  }

  #nextDeadline(): Millis {
    let next = this.#agenda.next;
    for (const host of this.#hosts.keys()) next = earlier(next, host.owner.pollTimeout() ?? NEVER);
    return next;
  }

  #wakeHosts(): void {
    for (const host of this.#hosts.keys()) {
      for (let rounds = 0; (host.owner.pollTimeout() ?? NEVER) <= this.#now; rounds++) {
        if (rounds > MAX_ROUNDS) {
          throw new Error(
            `Host ${host.name} spins at ${this.#now}: its deadline stays in the past`,
          );
        }
        host.owner.handleTimeout(this.#now);
        this.#drain(host);
      }
    }
  }

  #drainAll(): void {
    for (const host of this.#hosts.keys()) this.#drain(host);
  }

  /** Takes all that a host wants to send, and what it wants in consequence of its own events. */
  #drain(host: Host): void {
    for (let rounds = 0;; rounds++) {
      host.owner.drain?.(this.#now);
      const transmit = host.owner.pollTransmit();
      if (transmit === undefined) return;
      if (rounds > MAX_PER_INSTANT) throw new Error(`Host ${host.name} never stops sending`);
      this.#send(host, transmit);
    }
  }

  #send(host: Host, transmit: Transmit): void {
    const { destination: to, payload } = transmit;
    const segment = this.#hosts.get(host);
    const from = transmit.source ?? this.#defaultSource(host, to);
    if (!from || !segment || !host.addresses.some((own) => own.equals(from.ip))) {
      this.#end({ from: from ?? to, to, payload }, "unroutable");
      return;
    }
    this.#cross(host.link, { from, to, payload }, (datagram) => this.#enter(segment, datagram));
  }

  #defaultSource(host: Host, to: SocketAddress): SocketAddress | undefined {
    const address = host.address(to.family);
    if (address === undefined) return undefined;
    if (host.port === undefined) {
      throw new Error(`Host ${host.name} has no port of its own: transmits must name their source`);
    }
    return new SocketAddress(address, host.port);
  }

  /** Carries a datagram over a link: as many times as it arrives, after its delay. */
  #cross(link: Link, datagram: Datagram, arrive: (datagram: Datagram) => void): void {
    const headers = datagram.to.family === 4 ? 28 : 48;
    if (datagram.payload.length + headers > link.mtu) return this.#end(datagram, "too-big");
    const delays = link.delays(this.#random);
    if (delays.length === 0) return this.#end(datagram, "lost");
    for (const delay of delays) {
      // Each copy has bytes of its own: owners may work on them in place.
      const copy = { ...datagram, payload: datagram.payload.slice() };
      this.#agenda.set(() => arrive(copy), after(this.#now, delay));
    }
  }

  /** A datagram is in a segment: to a member, or out. `through` is the router it came in by. */
  #enter(segment: Segment, datagram: Datagram, through?: Router): void {
    for (const isUnwanted of this.#rules) {
      if (isUnwanted(datagram)) return this.#end(datagram, "blocked");
    }
    const member = segment.find(datagram.to.ip);
    if (member instanceof Host) {
      return this.#cross(member.link, datagram, (arrived) => this.#deliver(member, arrived));
    }
    if (member !== undefined) {
      return this.#cross(member.link, datagram, (arrived) => this.#goIn(member, arrived));
    }
    const exit = segment.exit;
    if (exit === undefined || exit.router === through) return this.#end(datagram, "unroutable");
    this.#goOut(segment, exit.router, exit.outside, datagram);
  }

  #goIn(router: Router, datagram: Datagram): void {
    const to = router.translateInbound(this.#now, datagram.from, datagram.to);
    if (to === undefined) return this.#end(datagram, "filtered");
    this.#enter(this.#insides.get(router)!, { ...datagram, to }, router);
  }

  #goOut(inside: Segment, router: Router, outside: Segment, datagram: Datagram): void {
    if (router.owns(datagram.to.ip)) return this.#turnRound(inside, router, datagram);
    const from = router.translateOutbound(this.#now, datagram.from, datagram.to);
    if (from === undefined) return this.#end(datagram, "unroutable");
    this.#cross(router.link, { ...datagram, from }, (left) => this.#enter(outside, left));
  }

  /** From inside to a mapping of the same router (hairpinning, RFC 4787 §6). */
  #turnRound(inside: Segment, router: Router, datagram: Datagram): void {
    if (!router.hairpins(datagram.to.ip)) return this.#end(datagram, "filtered");
    const from = router.translateOutbound(this.#now, datagram.from, datagram.to);
    const to = from && router.translateInbound(this.#now, from, datagram.to);
    if (!from || !to) return this.#end(datagram, "filtered");
    this.#enter(inside, { ...datagram, from, to }, router);
  }

  #deliver(host: Host, datagram: Datagram): void {
    const { from, to, payload } = datagram;
    if (!host.addresses.some((own) => own.equals(to.ip))) return this.#end(datagram, "unroutable");
    if (host.port !== undefined && host.port !== to.port) return this.#end(datagram, "closed-port");
    this.#end(datagram, "delivered");
    host.owner.handleDatagram(this.#now, to, from, payload);
  }

  #end(datagram: Datagram, verdict: Verdict): void {
    this.verdicts[verdict]++;
    this.#trace?.({ at: this.#now, verdict, ...datagram });
  }

  #segmentBehind(router: Router | undefined): Segment {
    if (router === undefined) return this.#internet;
    const segment = this.#insides.get(router);
    if (!segment) throw new Error(`Router ${router.name} belongs to another network`);
    return segment;
  }
}
