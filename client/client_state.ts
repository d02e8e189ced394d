/**
 * The client without its sockets: resources, the way to each, and the connections to gateways.
 *
 *     packet from TUN ──► longest prefix ──► route ─┬─ connection ──► seal into the batch
 *                                                   └─ none ──► keep, ask the portal for a gateway
 *     packet from a gateway ──► was it meant for us, may it come from there ──► TUN
 *
 * Owns: routing, buffering, what is asked of the portal. Does not own: paths and keys (see
 * `core/connectivity`), the TUN device, the routes of the operating system.
 * @module
 */

import {
  type Connection,
  Connectivity,
  type ConnectivityOptions,
  type Decapsulated,
  type PathStatus,
  type RelayEvent,
} from "@firezone/core/connectivity";
import {
  assignedIpsPacket,
  type ControlMessage,
  goodbyePacket,
  looksLikeControlPacket,
  parseControlPacket,
} from "@firezone/core/control";
import { proxyAddressesOf } from "@firezone/core/dns";
import {
  IcmpErrors,
  type IpAddress,
  isAddressAt,
  isIcmpError,
  isIcmpProhibited,
  isMulticast,
  packetMemory,
  PacketRef,
  Parse,
  parsePacket,
  parseQuote,
  type Prefix,
  type SocketAddress,
  type UnreachableReason,
} from "@firezone/core/ip";
import type {
  ClientDnsResource,
  ClientInterface,
  ClientMessage,
  ClientResource,
  Filter,
  FlowCreated,
} from "@firezone/core/portal";
import type { DatagramBatch, InboundPackets, Transmit } from "@firezone/core/transmit";
import { earlier, type Millis, NEVER } from "@firezone/core/units";
import { CLIENT_ROUTES } from "./address_plan.ts";
import { type ClientStatus, resourceStatus } from "./client_status.ts";
import { looksLikeLlmnrQuery } from "./dns/llmnr.ts";
import { type DomainAtGateway, DomainNats } from "./domain_nats.ts";
import { type DomainRecord, DomainTable } from "./domain_table.ts";
import { Gateways } from "./gateways.ts";
import { hasFamily } from "./ip_stack.ts";
import { LostResources } from "./lost_resources.ts";
import { PendingFlows } from "./pending_flows.ts";
import { ResourceTable, type Route, sameAccess } from "./resource_table.ts";

/** What the owner passes on to the portal or does to the machine. */
export type ClientEvent =
  | {
    readonly tag: "request-flow";
    readonly resourceId: string;
    readonly connectedGatewayIds: readonly string[];
  }
  | {
    readonly tag: "candidates" | "candidates-invalidated";
    readonly gatewayId: string;
    readonly candidates: readonly string[];
  }
  | { readonly tag: "interface-changed"; readonly interface: ClientInterface }
  | { readonly tag: "routes-changed"; readonly routes: readonly Prefix[] }
  /** The portal says something else about DNS servers. */
  | {
    readonly tag: "dns-changed";
    readonly upstreamDns: readonly SocketAddress[];
    readonly upstreamDoh: readonly string[];
    readonly searchDomain: string | undefined;
  }
  /** The system asked its neighbours in the tunnel for a name; a whole packet. */
  | { readonly tag: "llmnr-query"; readonly packet: Uint8Array }
  /** DNS resources are others than before. */
  | { readonly tag: "names-changed"; readonly resources: readonly ClientDnsResource[] }
  | { readonly tag: "gateway-connected"; readonly gatewayId: string }
  | { readonly tag: "path-changed"; readonly gatewayId: string; readonly path: PathStatus }
  | { readonly tag: "gateway-failed"; readonly gatewayId: string; readonly reason: string }
  | RelayEvent
  | { readonly tag: "flow-failed"; readonly resourceId: string; readonly reason: string };

/** Packets make no more events than that between two looks at them. */
const MAX_EVENTS = 100;

/** See the head of this file. */
export class ClientState {
  readonly #connectivity: Connectivity;
  readonly #resources = new ResourceTable();
  readonly #pending = new PendingFlows();
  readonly #lost = new LostResources();
  readonly #domains = new DomainTable();
  readonly #nats = new DomainNats();
  readonly #gateways = new Gateways();
  readonly #events: ClientEvent[] = [];
  readonly #packets: Uint8Array[] = [];
  readonly #errors = new IcmpErrors();
  readonly #packet = new PacketRef();
  readonly #quote = new PacketRef();
  readonly #decapsulated: Decapsulated = { connection: undefined, length: 0 };
  readonly #plain = packetMemory(65_536);
  readonly #drops = {
    malformed: 0,
    notOurSource: 0,
    noResource: 0,
    filtered: 0,
    sourceNotAllowed: 0,
    notOurDestination: 0,
    unresolved: 0,
  };
  #interface: ClientInterface | undefined;

  /**
   * A client that knows no resources yet.
   *
   * @param usesInternet whether the Internet resource, once granted, takes all other traffic
   */
  constructor(options: Omit<ConnectivityOptions, "role">, usesInternet = false) {
    this.#connectivity = new Connectivity({ ...options, role: "client" });
    this.#resources.usesInternet = usesInternet;
  }

  /** Our WireGuard public key, 32 bytes; another one after every {@link reset}. */
  get publicKey(): Uint8Array {
    return this.#connectivity.publicKey;
  }

  // ---- the portal

  /** Takes a message of the portal. */
  handlePortalMessage(now: Millis, message: ClientMessage): void {
    switch (message.tag) {
      case "init":
        this.#setInterface(message.interface);
        this.#setResources(now, message.resources);
        this.#connectivity.updateRelays(now, [], message.relays);
        break;
      case "config-changed":
        this.#setInterface(message.interface);
        break;
      case "resource-created-or-updated":
        this.#putResource(now, message.resource);
        this.#routesChanged();
        break;
      case "resource-deleted":
        this.#removeResource(now, message.resourceId);
        this.#routesChanged();
        break;
      case "resource-filters-updated":
        this.#updateFilters(message.resourceId, message.filters);
        break;
      case "relays-presence":
        this.#connectivity.updateRelays(now, message.disconnectedIds, message.connected);
        break;
      case "flow-created":
        this.#onFlowCreated(now, message);
        break;
      case "flow-creation-failed":
        this.#onFlowFailed(now, message.resourceId, message.reason);
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

  /**
   * Starts over on another network, with another key. The portal must be told the new one.
   *
   * What was connected is asked for at once: who only receives would otherwise never send the packet
   * that opens the way for what the other side has to say. The same gateways are wished for, since
   * flows through others would come from other addresses.
   */
  reset(now: Millis, privateKey: Uint8Array): void {
    this.#connectivity.reset(now, privateKey);
    const connected = [...this.#resources.routes()]
      .flatMap(({ resource, gatewayId }) => gatewayId ? { id: resource.id, gatewayId } : []);
    for (const route of this.#resources.routes()) route.detach();
    this.#pending.clear();
    this.#lost.clear();
    this.#nats.clear();
    this.#gateways.clear();
    this.#dropEvents(isOfIdentity);
    for (const { id, gatewayId } of connected) {
      if (this.#pending.ask(now, id)) this.#requestFlow(id, gatewayId);
    }
    this.#drain();
  }

  /** Tells every gateway that this client is going away. */
  shutDown(now: Millis): void {
    for (const connection of this.#connectivity.connections()) this.#sayGoodbye(now, connection);
  }

  // ---- names

  /**
   * Takes all names that have addresses, from earlier runs too, with the resources that they belong to
   * now. A name that is not among them belongs to none.
   */
  setDomains(records: readonly DomainRecord[]): void {
    this.#domains.replace(records);
  }

  /** A name has lost its addresses, which another one may get. */
  removeDomain(domain: string): void {
    this.#domains.delete(domain);
    this.#nats.dropDomain(domain);
  }

  /** A name was asked for: it may have other real addresses by now. */
  handleDomainResolved(now: Millis, record: DomainRecord): void {
    this.#domains.put(record);
    this.#nats.handleQuery(now, record.domain);
    this.#sendAssignments(now);
  }

  /**
   * The tunnel address of the gateway that a resource is reached through, for its DNS proxy;
   * undefined while there is no connection, which then is asked for.
   */
  siteGateway(now: Millis, resourceId: string): IpAddress | undefined {
    const route = this.#resources.get(resourceId);
    if (!route) return undefined;
    if (route.connection) return this.#gateways.ipv4Of(route.connection.peerId);
    if (this.#pending.ask(now, resourceId)) this.#requestFlow(resourceId);
    this.#drain();
    return undefined;
  }

  // ---- packets

  /** Hands a packet that was made elsewhere to the TUN device. */
  sendToSystem(packet: Uint8Array): void {
    this.#packets.push(packet);
  }

  /** Takes a packet that the operating system routed into the tunnel. */
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
    if (isMulticast(buf, packet)) return this.#onMulticast(buf, packet);
    if (!this.#isOurs(buf, packet.version, packet.sourceOffset)) {
      this.#drops.notOurSource++;
      return;
    }
    if (this.#isOurs(buf, packet.version, packet.destinationOffset)) {
      this.#drops.noResource++;
      return;
    }
    const gateway = this.#gatewayAt(buf, packet, packet.destinationOffset);
    if (gateway !== undefined) {
      return this.#connectivity.encapsulate(now, gateway, buf, start, packet.end, batch);
    }
    const domain = this.#domains.lookup(buf, packet, packet.destinationOffset);
    const route = this.#routeOf(buf, packet, domain);
    if (route === undefined) {
      this.#drops.noResource++;
      // A program keeps an address longer than the name has its resource or its family.
      if (domain) this.#replyUnreachable(now, buf, packet, "network");
      return;
    }
    if (!route.filter.admits(packet.protocol, packet.destinationPort)) {
      this.#drops.filtered++;
      this.#replyUnreachable(now, buf, packet, "prohibited");
      return;
    }
    const { connection, resource } = route;
    if (connection === undefined) {
      if (this.#pending.add(now, resource.id, buf, start, packet.end)) {
        this.#requestFlow(resource.id);
      }
      return;
    }
    if (connection.wantsRenewal(now)) this.#renewAccess(now, route);
    if (!domain || this.#mayGo(now, connection, route, domain, buf, start, packet.end)) {
      this.#connectivity.encapsulate(now, connection, buf, start, packet.end, batch);
    }
  }

  /** Takes a datagram from the network; what it carries for us goes to `sink`. */
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
      const message = parseControlPacket(plain, 0, out.length);
      return message && this.#onControl(now, connection, message);
    }
    const packet = this.#packet;
    if (parsePacket(plain, 0, out.length, packet) !== Parse.Ok) this.#drops.malformed++;
    else if (!this.#isOurs(plain, packet.version, packet.destinationOffset)) {
      this.#drops.notOurDestination++;
    } else if (!this.#mayComeFrom(connection, plain, packet)) {
      this.#drops.sourceNotAllowed++;
    } else {
      if (isIcmpProhibited(packet)) this.#onProhibited(now, connection, plain, packet);
      sink.push(plain, 0, packet.end);
    }
  }

  // ---- time and outputs

  /** Does what is due. */
  handleTimeout(now: Millis): void {
    this.#connectivity.handleTimeout(now);
    this.#gateways.handleTimeout(now);
    this.#askForLost(now);
    this.#drain();
  }

  /** The earliest deadline; "now" while something is queued. */
  pollTimeout(): Millis {
    if (this.#events.length > 0 || this.#packets.length > 0) return 0 as Millis;
    const own = earlier(this.#gateways.pollTimeout(), this.#lost.pollTimeout());
    return earlier(this.#connectivity.pollTimeout(), own);
  }

  /** The next datagram of the control path. */
  pollTransmit(): Transmit | undefined {
    return this.#connectivity.pollTransmit();
  }

  /** The next packet of our own making for the TUN device. */
  pollPacket(): Uint8Array | undefined {
    return this.#packets.shift();
  }

  /** The next thing the owner must do. */
  pollEvent(): ClientEvent | undefined {
    this.#drain();
    return this.#events.shift();
  }

  /** A snapshot of everything. */
  status(now: Millis): ClientStatus {
    return {
      ...this.#interface && {
        ipv4: this.#interface.ipv4.text,
        ipv6: this.#interface.ipv6.text,
      },
      resources: Array.from(
        this.#resources.routes(),
        (route) => resourceStatus(route, this.#gateways.siteStatus(siteIds(route.resource))),
      ),
      connections: this.#connectivity.status(now),
      drops: { ...this.#drops, ...this.#connectivity.drops },
    };
  }

  // ---- inside

  #setInterface(next: ClientInterface): void {
    this.#interface = next;
    this.#events.push({ tag: "interface-changed", interface: next });
    const { upstreamDns, upstreamDoh, searchDomain } = next;
    this.#events.push({ tag: "dns-changed", upstreamDns, upstreamDoh, searchDomain });
  }

  #setResources(now: Millis, resources: readonly ClientResource[]): void {
    const wanted = new Set(resources.map((resource) => resource.id));
    for (const { resource } of [...this.#resources.routes()]) {
      if (!wanted.has(resource.id)) this.#removeResource(now, resource.id);
    }
    for (const resource of resources) this.#putResource(now, resource);
    this.#routesChanged();
  }

  /** @param domain the name that its destination stands for, if it is one */
  #routeOf(buf: Uint8Array, packet: PacketRef, domain: DomainRecord | undefined) {
    return domain
      ? this.#resources.choose(domain.resourceIds, packet)
      : this.#resources.match(buf, packet);
  }

  /** Nobody is there but us; of what is said to all, only names are asked for. */
  #onMulticast(buf: Uint8Array, packet: PacketRef): void {
    if (!looksLikeLlmnrQuery(buf, packet)) return;
    if (!this.#isOurs(buf, packet.version, packet.sourceOffset)) return;
    if (this.#events.length >= MAX_EVENTS) return;
    this.#events.push({ tag: "llmnr-query", packet: buf.slice(packet.start, packet.end) });
  }

  /** Tells the system that a packet goes no further, unless it has been told so very often. */
  #replyUnreachable(
    now: Millis,
    buf: Uint8Array,
    packet: PacketRef,
    reason: UnreachableReason,
  ): void {
    const error = this.#errors.unreachable(now, buf, packet, reason);
    if (error) this.#packets.push(error);
  }

  /**
   * Whether a packet may go to the gateway now; otherwise it was kept or dropped.
   *
   * @param buf holds the packet that `#packet` describes
   */
  #mayGo(
    now: Millis,
    connection: Connection,
    route: Route,
    { domain }: DomainRecord,
    buf: Uint8Array,
    start: number,
    end: number,
  ): boolean {
    const { peerId } = connection;
    const { id } = route.resource;
    const outcome = this.#nats.handlePacket(now, peerId, id, domain, buf, start, end);
    this.#sendAssignments(now);
    if (outcome === "dropped") {
      this.#drops.unresolved++;
      this.#replyUnreachable(now, buf, this.#packet, "network");
    }
    return outcome === "send";
  }

  #sendAssignments(now: Millis): void {
    for (let at; (at = this.#nats.pollAssignment()) !== undefined;) {
      const connection = this.#connectivity.connection(at.gatewayId);
      const packet = connection && this.#assignment(at);
      if (packet) this.#connectivity.sendPacket(now, connection, packet);
    }
  }

  /** Only addresses of families that the resource answers with. */
  #assignment({ resourceId, domain }: DomainAtGateway): Uint8Array | undefined {
    const resource = this.#resources.get(resourceId)?.resource;
    const record = this.#domains.get(domain);
    if (!record || resource?.type !== "dns") return undefined;
    const proxyIps = proxyAddressesOf(record.slot)
      .filter((ip) => hasFamily(resource.ipStack, ip.family));
    return assignedIpsPacket({ resourceId, domain, proxyIps });
  }

  #onControl(now: Millis, connection: Connection, message: ControlMessage): void {
    const gatewayId = connection.peerId;
    switch (message.tag) {
      case "domain-status": {
        const { resourceId, domain, status } = message;
        const at = { gatewayId, resourceId, domain };
        for (const packet of this.#nats.handleStatus(at, status === "active")) {
          this.#connectivity.sendPacket(now, connection, packet);
        }
        return;
      }
      case "goodbye":
        this.#connectivity.closeConnection(gatewayId);
        return this.#onGatewayGone(gatewayId, "the gateway said goodbye", now);
      case "assigned-ips":
        return; // only clients say that
    }
  }

  #mayComeFrom(connection: Connection, buf: Uint8Array, packet: PacketRef): boolean {
    const domain = this.#domains.lookup(buf, packet, packet.sourceOffset);
    if (domain) return this.#resources.carriesAny(connection, domain.resourceIds);
    return this.#resources.mayComeFrom(connection, buf, packet) ||
      this.#gatewayAt(buf, packet, packet.sourceOffset) === connection ||
      isIcmpError(packet) && this.#isAboutOurs(connection, buf, packet);
  }

  /** Whether an error is about a packet that went this way: routers in between have any address. */
  #isAboutOurs(connection: Connection, buf: Uint8Array, error: PacketRef): boolean {
    const quote = this.#quote;
    if (!parseQuote(buf, error, quote)) return false;
    if (!this.#isOurs(buf, quote.version, quote.sourceOffset)) return false;
    const domain = this.#domains.lookup(buf, quote, quote.destinationOffset);
    return this.#routeOf(buf, quote, domain)?.connection === connection;
  }

  /** The connected gateway whose tunnel address this is. */
  #gatewayAt(buf: Uint8Array, packet: PacketRef, offset: number): Connection | undefined {
    const gatewayId = this.#gateways.at(buf, packet, offset);
    return gatewayId === undefined ? undefined : this.#connectivity.connection(gatewayId);
  }

  /** A resource that merely has another name keeps its gateway. */
  #putResource(now: Millis, resource: ClientResource): void {
    const old = this.#resources.get(resource.id);
    const keeps = old !== undefined && sameAccess(old.resource, resource);
    if (old && !keeps) this.#removeResource(now, resource.id);
    const route = this.#resources.put(resource);
    if (keeps) route.takeOver(old);
  }

  /** Filters decide on the gateway as well, so what flows already may go on. */
  #updateFilters(resourceId: string, filters: readonly Filter[]): void {
    const old = this.#resources.get(resourceId);
    if (!old || old.resource.type === "internet") return;
    this.#resources.put({ ...old.resource, filters }).takeOver(old);
  }

  #removeResource(now: Millis, resourceId: string): void {
    const route = this.#resources.remove(resourceId);
    this.#pending.take(resourceId);
    this.#lost.delete(resourceId);
    this.#nats.dropResource(resourceId);
    this.#dropEvents((event) => event.tag === "request-flow" && event.resourceId === resourceId);
    if (route?.gatewayId !== undefined) this.#leaveIfUnused(now, route.gatewayId);
  }

  /** A gateway that carries nothing any more is told so, rather than left to find out. */
  #leaveIfUnused(now: Millis, gatewayId: string): void {
    for (const route of this.#resources.routes()) if (route.gatewayId === gatewayId) return;
    const connection = this.#connectivity.connection(gatewayId);
    if (connection) this.#sayGoodbye(now, connection);
    this.#connectivity.closeConnection(gatewayId);
    this.#gateways.forget(gatewayId);
  }

  #sayGoodbye(now: Millis, connection: Connection): void {
    if (connection.isEstablished) this.#connectivity.sendPacket(now, connection, goodbyePacket());
  }

  #routesChanged(): void {
    const routes = [...CLIENT_ROUTES, ...this.#resources.prefixes()];
    this.#events.push({ tag: "routes-changed", routes });
    const resources = Array.from(this.#resources.routes(), (route) => route.resource)
      .filter((resource) => resource.type === "dns");
    this.#events.push({ tag: "names-changed", resources });
  }

  /** @param wished the gateway that carried the resource last */
  #requestFlow(resourceId: string, wished?: string): void {
    const connectedGatewayIds = this.#gateways.preferred(wished);
    this.#events.push({ tag: "request-flow", resourceId, connectedGatewayIds });
  }

  /** Drops what was not told the portal yet and is of no use any more. */
  #dropEvents(isStale: (event: ClientEvent) => boolean): void {
    const kept = this.#events.filter((event) => !isStale(event));
    this.#events.splice(0, this.#events.length, ...kept);
  }

  /** Something says that the gateway no longer knows what it was told: the portal tells it anew. */
  #renewAccess(now: Millis, { resource, gatewayId }: Route): void {
    if (this.#pending.ask(now, resource.id)) this.#requestFlow(resource.id, gatewayId);
  }

  /** The gateway does not let through what we were granted; it may have ended there, or been lost. */
  #onProhibited(now: Millis, connection: Connection, buf: Uint8Array, error: PacketRef): void {
    const quote = this.#quote;
    if (!parseQuote(buf, error, quote)) return;
    const domain = this.#domains.lookup(buf, quote, quote.destinationOffset);
    const route = this.#routeOf(buf, quote, domain);
    if (route?.connection === connection) this.#renewAccess(now, route);
  }

  /** An answer that nobody awaits is stale: access may have been taken away since. */
  #onFlowCreated(now: Millis, flow: FlowCreated): void {
    const route = this.#resources.get(flow.resourceId);
    if (!route || !this.#pending.has(flow.resourceId)) return;
    const { gatewayId } = flow;
    const outcome = this.#connectivity.upsertConnection(now, gatewayId, {
      remotePublicKey: flow.gatewayPublicKey,
      presharedKey: flow.presharedKey,
      localCredentials: flow.clientIce,
      remoteCredentials: flow.gatewayIce,
    });
    if (outcome === "no-relays") return;
    // The gateway started over, so it knows of no resource but this one.
    if (outcome === "replaced") this.#detachFrom(gatewayId);
    const connection = this.#connectivity.connection(gatewayId)!;
    const before = route.gatewayId;
    route.gatewayId = gatewayId;
    route.connection = connection;
    this.#gateways.add(flow, connection.isEstablished);
    if (before !== undefined && before !== gatewayId) {
      this.#nats.dropResource(flow.resourceId);
      this.#leaveIfUnused(now, before);
    }
    for (const packet of this.#pending.take(flow.resourceId)!) {
      this.#sendKept(now, connection, route, packet);
    }
  }

  /** A packet that waited for its gateway. */
  #sendKept(now: Millis, connection: Connection, route: Route, bytes: Uint8Array): void {
    const packet = this.#packet;
    if (parsePacket(bytes, 0, bytes.length, packet) !== Parse.Ok) return;
    const domain = this.#domains.lookup(bytes, packet, packet.destinationOffset);
    if (domain && !this.#mayGo(now, connection, route, domain, bytes, 0, bytes.length)) return;
    this.#connectivity.sendPacket(now, connection, bytes);
  }

  #onFlowFailed(now: Millis, resourceId: string, reason: string): void {
    this.#pending.refuse(resourceId);
    if (reason !== "offline") this.#lost.delete(resourceId);
    const route = this.#resources.get(resourceId);
    if (!route) return;
    // Another gateway of the site may go on carrying others.
    if (reason === "offline" && !route.connection) {
      this.#gateways.noteOffline(now, siteIds(route.resource));
    }
    this.#events.push({ tag: "flow-failed", resourceId, reason });
  }

  /** @param at when the gateway said so itself; its word is no use of the connection */
  #onGatewayGone(gatewayId: string, reason: string, at = NEVER): void {
    this.#detachFrom(gatewayId, at);
    this.#gateways.lose(gatewayId);
    this.#events.push({ tag: "gateway-failed", gatewayId, reason });
  }

  /** What a connection that is being made carries is not lost yet, nor found again. */
  #askForLost(now: Millis): void {
    for (const resourceId of this.#lost.takeDue(now)) {
      const route = this.#resources.get(resourceId);
      if (route?.connection?.isEstablished) this.#lost.delete(resourceId);
      else if (route && !route.connection && this.#pending.ask(now, resourceId)) {
        this.#requestFlow(resourceId);
      }
    }
  }

  #detachFrom(gatewayId: string, at = NEVER): void {
    for (const route of this.#resources.routes()) {
      if (route.gatewayId !== gatewayId) continue;
      if (route.connection?.wasInUse(at)) this.#lost.add(route.resource.id);
      this.#pending.hurry(route.resource.id);
      route.detach();
    }
    this.#nats.dropGateway(gatewayId);
  }

  #onGatewayConnected(gatewayId: string): void {
    this.#gateways.noteConnected(gatewayId);
    this.#events.push({ tag: "gateway-connected", gatewayId });
  }

  #drain(): void {
    for (let event; (event = this.#connectivity.pollEvent()) !== undefined;) {
      switch (event.tag) {
        case "candidates":
        case "candidates-invalidated": {
          const { tag, peerId, candidates } = event;
          this.#events.push({ tag, gatewayId: peerId, candidates });
          break;
        }
        case "established":
          this.#onGatewayConnected(event.peerId);
          break;
        case "path-changed":
          this.#events.push({ tag: "path-changed", gatewayId: event.peerId, path: event.path });
          break;
        case "failed":
          this.#onGatewayGone(event.peerId, event.reason);
          break;
        default:
          this.#events.push(event);
      }
    }
  }

  #isOurs(buf: Uint8Array, version: number, offset: number): boolean {
    const ours: IpAddress | undefined = version === 4
      ? this.#interface?.ipv4
      : this.#interface?.ipv6;
    return ours !== undefined && isAddressAt(ours, buf, offset);
  }
}

/** Whether an event says something about the key and addresses of before a reset. */
function isOfIdentity({ tag }: ClientEvent): boolean {
  return tag === "request-flow" || tag === "candidates" || tag === "candidates-invalidated";
}

function siteIds(resource: ClientResource): string[] {
  return resource.sites.map((site) => site.id);
}
