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
  type ConnectionStatus,
  Connectivity,
  type ConnectivityOptions,
  type Decapsulated,
  type PathStatus,
} from "@firezone/core/connectivity";
import {
  assignedIpsPacket,
  type ControlMessage,
  goodbyePacket,
  looksLikeControlPacket,
  parseControlPacket,
} from "@firezone/core/control";
import {
  icmpNetworkUnreachable,
  icmpProhibited,
  type IpAddress,
  isAddressAt,
  isMulticast,
  packetMemory,
  PacketRef,
  Parse,
  parsePacket,
  type Prefix,
  type SocketAddress,
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
import type { Millis } from "@firezone/core/units";
import { CLIENT_ROUTES, isInTunnelRange } from "./address_plan.ts";
import { type DomainAtGateway, DomainNats } from "./domain_nats.ts";
import { type DomainRecord, DomainTable } from "./domain_table.ts";
import { hasFamily } from "./ip_stack.ts";
import { PendingFlows } from "./pending_flows.ts";
import { ResourceTable, type Route, type RouteStatus } from "./resource_table.ts";

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
  /** DNS resources are others than before. */
  | { readonly tag: "names-changed"; readonly resources: readonly ClientDnsResource[] }
  | { readonly tag: "no-relays" }
  | { readonly tag: "gateway-connected"; readonly gatewayId: string }
  | { readonly tag: "path-changed"; readonly gatewayId: string; readonly path: PathStatus }
  | { readonly tag: "gateway-failed"; readonly gatewayId: string; readonly reason: string }
  | { readonly tag: "relay-failed"; readonly relayId: string; readonly reason: string }
  | {
    readonly tag: "relay-refused";
    readonly relayId: string;
    readonly request: string;
    readonly code: number;
  }
  | { readonly tag: "flow-failed"; readonly resourceId: string; readonly reason: string };

/** A resource, for status pages. */
export interface ResourceStatus {
  /** The portal's id. */
  readonly id: string;
  /** The portal's name. */
  readonly name: string;
  /** `cidr`, `dns`, `internet`. */
  readonly type: ClientResource["type"];
  /** Range or pattern. */
  readonly address?: string;
  /** Whether its site answers. */
  readonly status: RouteStatus;
  /** The gateway that carries it now. */
  readonly gatewayId?: string;
}

/** A snapshot of the client. */
export interface ClientStatus {
  /** Tunnel addresses, once the portal gave them. */
  readonly ipv4?: string;
  /** See {@link ipv4}. */
  readonly ipv6?: string;
  /** Resources that the portal grants. */
  readonly resources: readonly ResourceStatus[];
  /** Connections to gateways. */
  readonly connections: readonly ConnectionStatus[];
  /** Packets from TUN or the tunnel that were dropped, by reason. */
  readonly drops: Readonly<Record<string, number>>;
}

/** Gateways remembered as connected lately, for the portal's choice. */
const MAX_RECENT_GATEWAYS = 100;

/** Addresses of a gateway inside the tunnel. */
type GatewayIps = NonNullable<FlowCreated["gatewayIps"]>;

/** See the head of this file. */
export class ClientState {
  readonly #connectivity: Connectivity;
  readonly #resources = new ResourceTable();
  readonly #pending = new PendingFlows();
  readonly #domains = new DomainTable();
  readonly #nats = new DomainNats();
  /** Tunnel addresses of gateways, by gateway. */
  readonly #gatewayIps = new Map<string, GatewayIps>();
  readonly #events: ClientEvent[] = [];
  readonly #packets: Uint8Array[] = [];
  readonly #packet = new PacketRef();
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
  /** Most recent first. */
  #recentGateways: string[] = [];
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
        this.#setResources(message.resources);
        this.#connectivity.updateRelays(now, [], message.relays);
        break;
      case "config-changed":
        this.#setInterface(message.interface);
        break;
      case "resource-created-or-updated":
        this.#putResource(message.resource);
        this.#routesChanged();
        break;
      case "resource-deleted":
        this.#removeResource(message.resourceId);
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
        this.#onFlowFailed(message.resourceId, message.reason);
        break;
      case "ice-candidates":
        for (const sdp of message.candidates) {
          this.#connectivity.addRemoteCandidate(now, message.peerId, sdp);
        }
        break;
      case "invalidate-ice-candidates":
        for (const sdp of message.candidates) {
          this.#connectivity.removeRemoteCandidate(now, message.peerId, sdp);
        }
        break;
    }
    this.#drain();
  }

  /**
   * Starts over on another network, with another key. The portal must be told the new one.
   *
   * What was connected is asked for at once: who only receives would otherwise never send the packet
   * that opens the way for what the other side has to say.
   */
  reset(now: Millis, privateKey: Uint8Array): void {
    this.#connectivity.reset(now, privateKey);
    const connected = [...this.#resources.routes()].filter((route) => route.connection);
    for (const route of this.#resources.routes()) route.detach();
    this.#pending.clear();
    this.#nats.clear();
    this.#gatewayIps.clear();
    this.#recentGateways = [];
    this.#events.length = 0;
    for (const route of connected) {
      if (this.#pending.ask(now, route.resource.id)) this.#requestFlow(route);
    }
    this.#drain();
  }

  /** Tells every gateway that this client is going away. */
  shutDown(now: Millis): void {
    for (const connection of this.#connectivity.connections()) {
      if (connection.isEstablished) {
        this.#connectivity.sendPacket(now, connection, goodbyePacket());
      }
    }
  }

  // ---- names

  /**
   * Takes all names that have addresses, from earlier runs too, with the resources that they belong to
   * now. A name that is not among them belongs to none.
   */
  setDomains(records: readonly DomainRecord[]): void {
    this.#domains.replace(records);
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
    if (route.connection) return this.#gatewayIps.get(route.connection.peerId)?.ipv4;
    if (this.#pending.ask(now, resourceId)) this.#requestFlow(route);
    this.#drain();
    return undefined;
  }

  // ---- packets

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
    if (isMulticast(buf, packet)) return;
    if (!this.#isOurs(buf, packet.version, packet.sourceOffset)) {
      this.#drops.notOurSource++;
      return;
    }
    const gateway = this.#gatewayAt(buf, packet, packet.destinationOffset);
    if (gateway !== undefined) {
      return this.#connectivity.encapsulate(now, gateway, buf, start, packet.end, batch);
    }
    const domain = this.#domains.lookup(buf, packet, packet.destinationOffset);
    const route = domain
      ? this.#resources.choose(domain.resourceIds, packet)
      : this.#resources.match(buf, packet);
    if (route === undefined) {
      this.#drops.noResource++;
      // A program keeps an address longer than the name has its resource or its family.
      const reply = domain && icmpNetworkUnreachable(buf, packet);
      if (reply) this.#packets.push(reply);
      return;
    }
    if (!route.filter.admits(packet.protocol, packet.destinationPort)) {
      this.#drops.filtered++;
      const reply = icmpProhibited(buf, packet);
      if (reply) this.#packets.push(reply);
      return;
    }
    const { connection, resource } = route;
    if (connection === undefined) {
      if (this.#pending.add(now, resource.id, buf.slice(start, packet.end))) {
        this.#requestFlow(route);
      }
    } else if (!domain || this.#mayGo(now, connection, route, domain, buf, start, packet.end)) {
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
    } else sink.push(plain, 0, packet.end);
  }

  // ---- time and outputs

  /** Does what is due. */
  handleTimeout(now: Millis): void {
    this.#connectivity.handleTimeout(now);
    this.#drain();
  }

  /** The earliest deadline; "now" while something is queued. */
  pollTimeout(): Millis {
    if (this.#events.length > 0 || this.#packets.length > 0) return 0 as Millis;
    return this.#connectivity.pollTimeout();
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
      resources: Array.from(this.#resources.routes(), resourceStatus),
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

  #setResources(resources: readonly ClientResource[]): void {
    const wanted = new Set(resources.map((resource) => resource.id));
    for (const { resource } of [...this.#resources.routes()]) {
      if (!wanted.has(resource.id)) this.#removeResource(resource.id);
    }
    for (const resource of resources) this.#putResource(resource);
    this.#routesChanged();
  }

  /** Whether a packet may go to the gateway now; otherwise it was kept or dropped. */
  #mayGo(
    now: Millis,
    connection: Connection,
    route: Route,
    { domain }: DomainRecord,
    buf: Uint8Array,
    start: number,
    end: number,
  ): boolean {
    const at = { gatewayId: connection.peerId, resourceId: route.resource.id, domain };
    const outcome = this.#nats.handlePacket(now, at, buf, start, end);
    this.#sendAssignments(now);
    if (outcome === "dropped") this.#drops.unresolved++;
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
    const proxyIps = record.proxyIps.filter((ip) => hasFamily(resource.ipStack, ip.family));
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
        return this.#onGatewayGone(gatewayId, "the gateway said goodbye");
      case "assigned-ips":
        return; // only clients say that
    }
  }

  #mayComeFrom(connection: Connection, buf: Uint8Array, packet: PacketRef): boolean {
    const domain = this.#domains.lookup(buf, packet, packet.sourceOffset);
    if (domain) return this.#resources.carriesAny(connection, domain.resourceIds);
    return this.#resources.mayComeFrom(connection, buf, packet) ||
      this.#gatewayAt(buf, packet, packet.sourceOffset) === connection;
  }

  /** The connected gateway whose tunnel address this is. */
  #gatewayAt(buf: Uint8Array, packet: PacketRef, offset: number): Connection | undefined {
    if (!isInTunnelRange(buf, packet, offset)) return undefined;
    for (const [gatewayId, { ipv4, ipv6 }] of this.#gatewayIps) {
      if (isAddressAt(packet.version === 4 ? ipv4 : ipv6, buf, offset)) {
        return this.#connectivity.connection(gatewayId);
      }
    }
    return undefined;
  }

  /** A resource that merely has another name keeps its gateway. */
  #putResource(resource: ClientResource): void {
    const old = this.#resources.get(resource.id);
    const keeps = old !== undefined && sameAccess(old.resource, resource);
    if (old && !keeps) this.#removeResource(resource.id);
    const route = this.#resources.put(resource);
    if (keeps) route.takeOver(old);
  }

  /** Filters decide on the gateway as well, so what flows already may go on. */
  #updateFilters(resourceId: string, filters: readonly Filter[]): void {
    const old = this.#resources.get(resourceId);
    if (!old || old.resource.type === "internet") return;
    this.#resources.put({ ...old.resource, filters }).takeOver(old);
  }

  #removeResource(resourceId: string): void {
    const route = this.#resources.remove(resourceId);
    this.#pending.take(resourceId);
    this.#nats.dropResource(resourceId);
    const gatewayId = route?.gatewayId;
    if (gatewayId === undefined) return;
    for (const other of this.#resources.routes()) if (other.gatewayId === gatewayId) return;
    this.#connectivity.closeConnection(gatewayId);
  }

  #routesChanged(): void {
    const routes = [...CLIENT_ROUTES, ...this.#resources.prefixes()];
    this.#events.push({ tag: "routes-changed", routes });
    const resources = Array.from(this.#resources.routes(), (route) => route.resource)
      .filter((resource) => resource.type === "dns");
    this.#events.push({ tag: "names-changed", resources });
  }

  #requestFlow(route: Route): void {
    this.#events.push({
      tag: "request-flow",
      resourceId: route.resource.id,
      connectedGatewayIds: [...this.#recentGateways],
    });
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
    const connection = this.#connectivity.connection(gatewayId)!;
    route.gatewayId = gatewayId;
    if (flow.gatewayIps) this.#gatewayIps.set(gatewayId, flow.gatewayIps);
    if (outcome === "replaced") this.#nats.dropGateway(gatewayId);
    for (const other of this.#resources.routes()) {
      if (other.gatewayId === gatewayId) other.connection = connection;
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

  #onFlowFailed(resourceId: string, reason: string): void {
    this.#pending.take(resourceId);
    const route = this.#resources.get(resourceId);
    if (!route) return;
    if (reason === "offline") route.status = "offline";
    this.#events.push({ tag: "flow-failed", resourceId, reason });
  }

  #onGatewayGone(gatewayId: string, reason: string): void {
    for (const route of this.#resources.routes()) {
      if (route.gatewayId === gatewayId) route.detach();
    }
    this.#nats.dropGateway(gatewayId);
    this.#gatewayIps.delete(gatewayId);
    this.#events.push({ tag: "gateway-failed", gatewayId, reason });
  }

  #onGatewayConnected(gatewayId: string): void {
    const others = this.#recentGateways.filter((id) => id !== gatewayId);
    this.#recentGateways = [gatewayId, ...others].slice(0, MAX_RECENT_GATEWAYS);
    for (const route of this.#resources.routes()) {
      if (route.gatewayId === gatewayId) route.status = "online";
    }
    this.#events.push({ tag: "gateway-connected", gatewayId });
  }

  /** Candidates of one turn go to the portal in one message per gateway and kind. */
  #drain(): void {
    const batches = new Map<string, string[]>();
    for (let event; (event = this.#connectivity.pollEvent()) !== undefined;) {
      switch (event.tag) {
        case "candidate":
        case "candidate-invalidated": {
          const tag = event.tag === "candidate" ? "candidates" : "candidates-invalidated";
          const key = `${tag} ${event.peerId}`;
          let candidates = batches.get(key);
          if (!candidates) {
            batches.set(key, candidates = []);
            this.#events.push({ tag, gatewayId: event.peerId, candidates });
          }
          candidates.push(event.candidate);
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

/** Whether two versions of a resource give access to the same, by the same sites. */
function sameAccess(a: ClientResource, b: ClientResource): boolean {
  return a.type === b.type && addressOf(a) === addressOf(b) &&
    JSON.stringify(a.sites.map((site) => site.id)) ===
      JSON.stringify(b.sites.map((site) => site.id)) &&
    JSON.stringify(filtersOf(a)) === JSON.stringify(filtersOf(b));
}

function addressOf(resource: ClientResource): string | undefined {
  switch (resource.type) {
    case "cidr":
      return resource.prefix.text;
    case "dns":
      return `${resource.pattern} ${resource.ipStack}`;
    case "internet":
      return undefined;
  }
}

function filtersOf(resource: ClientResource): readonly Filter[] {
  return resource.type === "internet" ? [] : resource.filters;
}

function resourceStatus(route: Route): ResourceStatus {
  const { resource } = route;
  return {
    id: resource.id,
    name: resource.name,
    type: resource.type,
    ...resource.type === "cidr" && { address: resource.prefix.text },
    ...resource.type === "dns" && { address: resource.pattern },
    status: route.status,
    ...route.gatewayId !== undefined && { gatewayId: route.gatewayId },
  };
}
