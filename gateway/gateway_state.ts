/**
 * The gateway without its sockets: clients, what each may reach, and the connections to them.
 *
 *     packet from a client ──► sent from its own address ──► to a resource it may reach
 *         ──► to a name: real address instead of proxy address ──► TUN
 *     packet from TUN ──► to a client's address ──► of a flow to a name: proxy address instead
 *         ──► from a resource it may reach ──► seal
 *
 * What is denied is answered with "administratively prohibited" inside the tunnel, so that a user
 * sees a refusal and not a timeout.
 *
 * Names: a client says which proxy addresses stand for a name; the owner resolves it (event
 * `resolve`, answered by {@link GatewayState.handleResolved}), and the client is told the outcome.
 * Owns: peers, their authorisations and their NAT. Does not own: paths and keys (see
 * `core/connectivity`), forwarding and masquerading, which the operating system does.
 * @module
 */

import {
  type Connection,
  type ConnectionStatus,
  Connectivity,
  type ConnectivityOptions,
  type Decapsulated,
  type PathStatus,
  type RelayEvent,
} from "@firezone/core/connectivity";
import {
  type AssignedIps,
  domainStatusPacket,
  goodbyePacket,
  looksLikeControlPacket,
  parseControlPacket,
} from "@firezone/core/control";
import { PROXY_RANGE_V4, PROXY_RANGE_V6 } from "@firezone/core/dns";
import {
  IcmpErrors,
  type IpAddress,
  isAddressAt,
  isIcmpError,
  isMulticast,
  packetMemory,
  PacketRef,
  Parse,
  parsePacket,
  type SocketAddress,
} from "@firezone/core/ip";
import type {
  AuthorizeFlow,
  GatewayInit,
  GatewayMessage,
  GatewayResource,
} from "@firezone/core/portal";
import type { RandomBytes } from "@firezone/core/random";
import type { DatagramBatch, InboundPackets, Transmit } from "@firezone/core/transmit";
import { after, earlier, type Millis, NEVER, type UnixSeconds } from "@firezone/core/units";
import { AccessRulesPool } from "./access_rules.ts";
import { AccessTable, type TunnelAddresses } from "./access_table.ts";
import { toDomain } from "./dns/domain.ts";
import { PendingResolutions, type Resolution } from "./dns/pending_resolutions.ts";
import { isUsableTarget } from "./dns/targets.ts";
import { type Admission, Peer, type PeerStatus } from "./peer.ts";
import { PeerTable } from "./peer_table.ts";

/** What the owner passes on to the portal or does to the machine. */
export type GatewayEvent =
  | { readonly tag: "flow-authorized"; readonly ref: string }
  | {
    readonly tag: "candidates" | "candidates-invalidated";
    readonly clientId: string;
    readonly candidates: readonly string[];
  }
  | { readonly tag: "interface-changed"; readonly interface: TunnelAddresses }
  /** To be resolved; see {@link GatewayState.handleResolved}. */
  | { readonly tag: "resolve"; readonly requestId: number; readonly domain: string }
  | { readonly tag: "client-connected"; readonly clientId: string }
  | { readonly tag: "path-changed"; readonly clientId: string; readonly path: PathStatus }
  | { readonly tag: "client-gone"; readonly clientId: string; readonly reason: string }
  | { readonly tag: "access-revoked"; readonly clientId: string; readonly resourceId: string }
  | RelayEvent;

/** A resource that clients are authorised for, for status pages. */
export interface AuthorisedResource {
  /** The portal's id. */
  readonly id: string;
  /** The portal's name. */
  readonly name: string;
  /** `cidr`, `dns`, `internet`. */
  readonly type: GatewayResource["type"];
  /** Range or pattern. */
  readonly address?: string;
  /** How many clients are. */
  readonly clients: number;
}

/** A snapshot of the gateway. */
export interface GatewayStatus {
  /** Tunnel addresses, once the portal gave them. */
  readonly ipv4?: string;
  /** See {@link ipv4}. */
  readonly ipv6?: string;
  /** Resources that clients are authorised for. */
  readonly resources: readonly AuthorisedResource[];
  /** Clients with authorisations. */
  readonly peers: readonly PeerStatus[];
  /** Connections to clients. */
  readonly connections: readonly ConnectionStatus[];
  /** Packets that were dropped, by reason. */
  readonly drops: Readonly<Record<string, number>>;
}

/** Expiry is looked at so often. */
const EXPIRY_INTERVAL_MS = 1_000;

/** See the head of this file. */
export class GatewayState {
  readonly #connectivity: Connectivity;
  readonly #unixMillisAtZero: number;
  readonly #random: RandomBytes;
  readonly #resolutions = new PendingResolutions();
  readonly #peers = new PeerTable();
  readonly #rules = new AccessRulesPool();
  readonly #events: GatewayEvent[] = [];
  readonly #errors = new IcmpErrors();
  readonly #packet = new PacketRef();
  readonly #decapsulated: Decapsulated = { connection: undefined, length: 0 };
  readonly #plain = packetMemory(65_536);
  readonly #drops = {
    malformed: 0,
    notClientAddress: 0,
    denied: 0,
    deniedInbound: 0,
    noPeer: 0,
    unreachable: 0,
    untranslatable: 0,
    natExhausted: 0,
    natExpired: 0,
  };
  #interface: TunnelAddresses | undefined;
  #nextExpiryCheck: Millis = NEVER;

  /** A gateway without clients. */
  constructor(options: Omit<ConnectivityOptions, "role">) {
    this.#connectivity = new Connectivity({ ...options, role: "gateway" });
    this.#unixMillisAtZero = options.unixMillisAtZero;
    this.#random = options.random;
  }

  /** Our WireGuard public key, 32 bytes. */
  get publicKey(): Uint8Array {
    return this.#connectivity.publicKey;
  }

  // ---- the portal

  /** Takes a message of the portal. */
  handlePortalMessage(now: Millis, message: GatewayMessage): void {
    switch (message.tag) {
      case "init":
        this.#onInit(now, message);
        break;
      case "authorize-flow":
        this.#onAuthorizeFlow(now, message);
        break;
      case "reject-access":
        this.#revoke(now, message.clientId, message.resourceId);
        break;
      case "expiry-updated":
        this.#peers.get(message.clientId)?.access.setExpiry(message.resourceId, message.expiresAt);
        break;
      case "resource-updated":
        for (const peer of this.#peers) peer.access.update(message.resource);
        break;
      case "relays-presence":
        this.#connectivity.updateRelays(now, message.disconnectedIds, message.connected);
        break;
      case "ice-candidates":
        this.#connectivity.addRemoteCandidates(now, message.peerId, message.candidates);
        break;
      case "invalidate-ice-candidates":
        this.#connectivity.removeRemoteCandidates(now, message.peerId, message.candidates);
        break;
    }
    this.#drain();
  }

  /** Starts over on another network, with another key; authorisations stay. */
  reset(now: Millis, privateKey: Uint8Array): void {
    this.#connectivity.reset(now, privateKey);
    for (const peer of this.#peers) peer.connection = undefined;
    this.#events.length = 0;
    this.#resolutions.clear(); // with the events; clients say again what they need
    this.#drain();
  }

  /** Tells every client that this gateway is going away. */
  shutDown(now: Millis): void {
    for (const peer of this.#peers) this.#sayGoodbye(now, peer);
  }

  // ---- names

  /**
   * Takes the answer to an event `resolve`; nothing happens when nobody waits for it any more.
   *
   * @param addresses of both families, in the order of preference; undefined when nobody could say
   */
  handleResolved(
    now: Millis,
    requestId: number,
    addresses: readonly IpAddress[] | undefined,
  ): void {
    const resolution = this.#resolutions.take(requestId);
    if (resolution) this.#finishResolution(now, resolution, addresses);
    this.#drain();
  }

  // ---- packets

  /** Takes a packet that the operating system routed into the tunnel: the answer of a resource. */
  handleTunPacket(
    now: Millis,
    buf: Uint8Array,
    start: number,
    end: number,
    batch: DatagramBatch,
  ): void {
    const packet = this.#packet;
    if (parsePacket(buf, start, end, packet) !== Parse.Ok) {
      this.#drops.malformed++;
      return;
    }
    if (isMulticast(buf, packet)) return;
    const peer = this.#peers.destinationOf(buf, packet);
    if (peer?.connection === undefined) {
      this.#drops.noPeer++;
      return;
    }
    // Errors of this very machine are about flows as well.
    if (isIcmpError(packet) || !this.#isOwn(buf, packet.version, packet.sourceOffset)) {
      const admission = peer.admitInbound(now, buf, packet);
      if (admission === "expired") this.#drops.natExpired++;
      else if (admission !== "admitted") this.#drops.deniedInbound++;
      if (admission !== "admitted") return;
    }
    this.#connectivity.encapsulate(now, peer.connection, buf, start, packet.end, batch);
  }

  /** Takes a datagram from the network; what it carries for a resource goes to `sink`. */
  handleDatagram(
    now: Millis,
    local: SocketAddress,
    from: SocketAddress,
    buf: Uint8Array,
    start: number,
    end: number,
    sink: InboundPackets,
  ): void {
    const out = this.#decapsulated;
    const plain = this.#plain;
    if (this.#connectivity.decapsulate(now, local, from, buf, start, end, plain, out) !== "data") {
      return;
    }
    const connection = out.connection!;
    if (looksLikeControlPacket(plain, 0, out.length)) {
      this.#onControlPacket(now, connection.peerId, plain, out.length);
      return;
    }
    const packet = this.#packet;
    if (parsePacket(plain, 0, out.length, packet) !== Parse.Ok) {
      this.#drops.malformed++;
      return;
    }
    const peer = this.#peers.sourceOf(plain, packet);
    if (peer === undefined || peer.connection !== connection) {
      this.#drops.notClientAddress++;
    } else if (this.#isOwn(plain, packet.version, packet.destinationOffset)) {
      sink.push(plain, 0, packet.end);
    } else {
      const admission = peer.admitOutbound(now, plain, packet);
      if (admission === "admitted") sink.push(plain, 0, packet.end);
      else this.#refuse(now, connection, peer, plain, packet, admission);
    }
  }

  // ---- time and outputs

  /** Does what is due. */
  handleTimeout(now: Millis): void {
    this.#connectivity.handleTimeout(now);
    if (now >= this.#nextExpiryCheck) this.#expire(now);
    for (let overdue; (overdue = this.#resolutions.takeOverdue(now)) !== undefined;) {
      this.#finishResolution(now, overdue, undefined);
    }
    this.#drain();
  }

  /** The earliest deadline; "now" while something is queued. */
  pollTimeout(): Millis {
    if (this.#events.length > 0) return 0 as Millis;
    const own = earlier(this.#nextExpiryCheck, this.#resolutions.nextDeadline);
    return earlier(this.#connectivity.pollTimeout(), own);
  }

  /** The next datagram of the control path. */
  pollTransmit(): Transmit | undefined {
    return this.#connectivity.pollTransmit();
  }

  /** The gateway makes no packets for its own TUN device. */
  pollPacket(): undefined {
    return undefined;
  }

  /** The next thing the owner must do. */
  pollEvent(): GatewayEvent | undefined {
    this.#drain();
    return this.#events.shift();
  }

  /** A snapshot of everything. */
  status(now: Millis): GatewayStatus {
    return {
      ...this.#interface && {
        ipv4: this.#interface.ipv4.text,
        ipv6: this.#interface.ipv6.text,
      },
      resources: authorisedResources(this.#peers),
      peers: Array.from(this.#peers, (peer) => peer.status()),
      connections: this.#connectivity.status(now),
      drops: { ...this.#drops, ...this.#connectivity.drops },
    };
  }

  // ---- inside: packets

  /** Counts a packet of a client that goes no further, and answers it where that helps, now and then. */
  #refuse(
    now: Millis,
    connection: Connection,
    peer: Peer,
    buf: Uint8Array,
    packet: PacketRef,
    reason: Exclude<Admission, "admitted">,
  ): void {
    let reply: Uint8Array | undefined;
    switch (reason) {
      case "prohibited":
        this.#drops.denied++;
        reply = this.#errors.unreachable(now, buf, packet, "prohibited", peer.errorLimit);
        break;
      case "unreachable":
        this.#drops.unreachable++;
        reply = this.#errors.unreachable(now, buf, packet, "network", peer.errorLimit);
        break;
      case "untranslatable":
        this.#drops.untranslatable++;
        break;
      case "exhausted":
        this.#drops.natExhausted++;
        break;
      case "expired":
        this.#drops.natExpired++;
    }
    if (reply) this.#connectivity.sendPacket(now, connection, reply);
  }

  // ---- inside: names

  #onControlPacket(now: Millis, clientId: string, buf: Uint8Array, end: number): void {
    const message = parseControlPacket(buf, 0, end);
    switch (message?.tag) {
      case "goodbye":
        return this.#onGoodbye(clientId);
      case "assigned-ips":
        return this.#onAssignedIps(now, clientId, message);
      case "domain-status":
        return; // only gateways say that
      case undefined:
        this.#drops.malformed++;
    }
  }

  /** Said again, it is done again: that is how clients have a name resolved anew. */
  #onAssignedIps(now: Millis, clientId: string, assigned: AssignedIps): void {
    const { resourceId, domain: writtenDomain, proxyIps } = assigned;
    const domain = toDomain(writtenDomain);
    const peer = this.#peers.get(clientId);
    if (!peer) return;
    const mayResolve = domain !== undefined && peer.access.mayResolve(resourceId, domain);
    if (!mayResolve || proxyIps.length === 0 || !proxyIps.every(isProxyAddress)) {
      return this.#tellStatus(now, peer, resourceId, writtenDomain, "inactive");
    }
    const resolution = { clientId, resourceId, writtenDomain, domain, proxyIps };
    const requestId = this.#resolutions.add(now, resolution);
    if (requestId === "waiting") return;
    if (requestId === "refused") {
      return this.#tellStatus(now, peer, resourceId, writtenDomain, "inactive");
    }
    this.#events.push({ tag: "resolve", requestId, domain });
  }

  /**
   * Access may have ended meanwhile. When nobody could say what a name is now, it stays what it was:
   * name servers that are away for a while end no connections.
   */
  #finishResolution(
    now: Millis,
    resolution: Resolution,
    found: readonly IpAddress[] | undefined,
  ): void {
    const { clientId, resourceId, writtenDomain, domain, proxyIps } = resolution;
    const peer = this.#peers.get(clientId);
    if (!peer) return;
    const addresses = found?.filter(isUsableTarget) ?? [];
    const mayResolve = peer.access.mayResolve(resourceId, domain);
    if (mayResolve && addresses.length > 0) {
      peer.assign(now, { resourceId, domain, proxyIps, addresses });
    }
    const isActive = mayResolve &&
      (addresses.length > 0 || found === undefined && peer.hasName(resourceId, domain));
    this.#tellStatus(now, peer, resourceId, writtenDomain, isActive ? "active" : "inactive");
  }

  #tellStatus(
    now: Millis,
    peer: Peer,
    resourceId: string,
    domain: string,
    status: "active" | "inactive",
  ): void {
    if (!peer.connection) return;
    const packet = domainStatusPacket({ resourceId, domain, status });
    this.#connectivity.sendPacket(now, peer.connection, packet);
  }

  // ---- inside: peers

  /** Where the portal lists authorisations, what it does not list is withdrawn. */
  #onInit(now: Millis, init: GatewayInit): void {
    this.#interface = init.interface;
    this.#events.push({ tag: "interface-changed", interface: init.interface });
    this.#connectivity.updateRelays(now, [], init.relays);
    if (!init.authorizations) return;
    const listed = new Map(
      init.authorizations.map((one) => [`${one.clientId} ${one.resourceId}`, one.expiresAt]),
    );
    for (const peer of [...this.#peers]) {
      for (const resourceId of [...peer.access.resourceIds()]) {
        const key = `${peer.clientId} ${resourceId}`;
        if (listed.has(key)) peer.access.setExpiry(resourceId, listed.get(key));
        else this.#revoke(now, peer.clientId, resourceId);
      }
    }
  }

  /** No answer where no connection could be made: the portal then tries someone else. */
  #onAuthorizeFlow(now: Millis, flow: AuthorizeFlow): void {
    const { client } = flow;
    const outcome = this.#connectivity.upsertConnection(now, client.id, {
      remotePublicKey: client.publicKey,
      presharedKey: client.presharedKey,
      localCredentials: flow.gatewayIce,
      remoteCredentials: flow.clientIce,
    });
    if (outcome === "no-relays") return;
    let peer = this.#peers.get(client.id);
    if (!peer?.hasAddresses(client)) {
      const access = peer?.access ?? new AccessTable(this.#rules);
      peer = new Peer(client.id, client, this.#random, access);
      this.#peers.put(peer);
    }
    peer.connection = this.#connectivity.connection(client.id);
    peer.access.allow(flow.resource, flow.expiresAt);
    peer.pruneNames(now); // the resource may have another pattern than before
    if (this.#nextExpiryCheck === NEVER) this.#nextExpiryCheck = after(now, EXPIRY_INTERVAL_MS);
    this.#events.push({ tag: "flow-authorized", ref: flow.ref });
  }

  #revoke(now: Millis, clientId: string, resourceId: string): void {
    const peer = this.#peers.get(clientId);
    if (!peer?.access.revoke(resourceId)) return;
    this.#onRevoked(now, peer, resourceId);
  }

  #onRevoked(now: Millis, peer: Peer, resourceId: string): void {
    this.#events.push({ tag: "access-revoked", clientId: peer.clientId, resourceId });
    if (!peer.access.isEmpty) return peer.pruneNames(now);
    this.#sayGoodbye(now, peer);
    this.#connectivity.closeConnection(peer.clientId);
    this.#removePeer(peer.clientId, "no resource is left to it");
  }

  #sayGoodbye(now: Millis, peer: Peer): void {
    const connection = peer.connection;
    if (connection?.isEstablished) this.#connectivity.sendPacket(now, connection, goodbyePacket());
  }

  #onGoodbye(clientId: string): void {
    this.#connectivity.closeConnection(clientId);
    this.#disconnect(clientId, "the client said goodbye");
  }

  /** Authorisations outlive the connection: the client may come back with the same keys. */
  #disconnect(clientId: string, reason: string): void {
    const peer = this.#peers.get(clientId);
    if (peer) peer.connection = undefined;
    this.#events.push({ tag: "client-gone", clientId, reason });
  }

  #removePeer(clientId: string, reason: string): void {
    this.#peers.delete(clientId);
    this.#events.push({ tag: "client-gone", clientId, reason });
  }

  #expire(now: Millis): void {
    const unix = Math.floor((this.#unixMillisAtZero + now) / 1000) as UnixSeconds;
    for (const peer of [...this.#peers]) {
      for (const resourceId of peer.access.expire(unix)) this.#onRevoked(now, peer, resourceId);
      peer.sweep(now);
    }
    this.#nextExpiryCheck = this.#peers.size > 0 ? after(now, EXPIRY_INTERVAL_MS) : NEVER;
  }

  #drain(): void {
    for (let event; (event = this.#connectivity.pollEvent()) !== undefined;) {
      switch (event.tag) {
        case "candidates":
        case "candidates-invalidated": {
          const { tag, peerId, candidates } = event;
          this.#events.push({ tag, clientId: peerId, candidates });
          break;
        }
        case "established":
          this.#events.push({ tag: "client-connected", clientId: event.peerId });
          break;
        case "path-changed":
          this.#events.push({ tag: "path-changed", clientId: event.peerId, path: event.path });
          break;
        case "failed":
          this.#disconnect(event.peerId, event.reason);
          break;
        default:
          this.#events.push(event);
      }
    }
  }

  #isOwn(buf: Uint8Array, version: number, offset: number): boolean {
    const own = version === 4 ? this.#interface?.ipv4 : this.#interface?.ipv6;
    return own !== undefined && isAddressAt(own, buf, offset);
  }
}

function isProxyAddress(ip: IpAddress): boolean {
  return (ip.family === 4 ? PROXY_RANGE_V4 : PROXY_RANGE_V6).contains(ip);
}

function authorisedResources(peers: Iterable<Peer>): AuthorisedResource[] {
  const byId = new Map<string, AuthorisedResource>();
  for (const peer of peers) {
    for (const resource of peer.access.resources()) {
      const { id, name, type } = resource;
      byId.set(id, {
        id,
        name,
        type,
        ...resource.type === "cidr" && { address: resource.prefix.text },
        ...resource.type === "dns" && { address: resource.pattern },
        clients: (byId.get(id)?.clients ?? 0) + 1,
      });
    }
  }
  return [...byId.values()];
}
