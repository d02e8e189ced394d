/**
 * A client, a gateway and relays on a simulated network, with a portal that does as it is told:
 * what client and gateway say to it arrives at the other side after {@link PORTAL_DELAY_MS}.
 * @module
 */

import { base64 } from "@firezone/core/bytes";
import type { AeadBackend } from "@firezone/core/crypto";
import { ip, type IpAddress, type Prefix, prefix, SocketAddress } from "@firezone/core/ip";
import type {
  ClientResource,
  Filter,
  GatewayResource,
  IceCredentials,
  Relay,
} from "@firezone/core/portal";
import {
  type Host,
  Network,
  type Owner,
  type Place,
  type Router,
  seededRandom,
  testAead,
  TransmitQueue,
} from "@firezone/core/testing";
import type { InboundPackets, Transmit } from "@firezone/core/transmit";
import type { Millis, UnixSeconds } from "@firezone/core/units";
import type { MachineOptions } from "@firezone/core/runtime";
import { ClientState } from "@firezone/client";
import { GatewayState } from "@firezone/gateway";
import { EPOCH_SECONDS, RELAY_PORT, RelayHost } from "./relay_host.ts";

/** The port of client and gateways. */
const PORT = 52_625;

/** One way between a peer and the portal. */
export const PORTAL_DELAY_MS = 20;

/** The ids that the portal of these simulations uses. */
export const IDS = {
  client: "00000000-0000-4000-8000-000000000001",
  gateway: "00000000-0000-4000-8000-000000000002",
  resource: "00000000-0000-4000-8000-000000000003",
  names: "00000000-0000-4000-8000-000000000004",
} as const;

/** Tunnel addresses of both ends. */
export const ADDRESSES: Readonly<
  Record<"client" | "gateway", { readonly ipv4: IpAddress; readonly ipv6: IpAddress }>
> = {
  client: { ipv4: ip("100.64.0.1"), ipv6: ip("fd00:2021:1111::1") },
  gateway: { ipv4: ip("100.64.0.2"), ipv6: ip("fd00:2021:1111::2") },
};

/** The site that all resources and gateways are of. */
export const SITE = { id: "site", name: "office" } as const;

/** The resource that everybody may reach. */
export const RESOURCE = prefix("10.0.0.0/24");

/** The names that {@link WorldOptions.hasNames} makes a resource of. */
export const NAMES = "*.example.com";

/** How long the gateway's name servers take. */
const RESOLVE_DELAY_MS = 30;

/** What runs at the ends of a tunnel. */
export type Machine = ClientState | GatewayState;

/** A machine on a simulated host; inner packets that come out are kept in {@link received}. */
export class TunnelHost<M extends Machine> implements Owner, InboundPackets {
  /** Inner packets that came through the tunnel, or were made by the machine for TUN. */
  readonly received: Uint8Array[] = [];
  /** Where the host is, once it was added to the network. */
  host!: Host;
  #batch = new TransmitQueue();

  /** Lends the host its machine. @param onEvents takes the machine's events after every input */
  constructor(
    /** The client or gateway. */
    public machine: M,
    /** See the constructor. */
    readonly onEvents: (now: Millis) => void,
  ) {}

  /** Becomes another process: what the one before had is gone. */
  restart(machine: M): void {
    this.machine = machine;
    this.#batch = new TransmitQueue();
  }

  /** Hands a packet to the machine, as TUN would. */
  send(now: Millis, packet: Uint8Array): void {
    this.machine.handleTunPacket(now, packet, 0, packet.length, this.#batch);
  }

  /** Takes an inner packet that came through the tunnel. */
  push(buf: Uint8Array, start: number, end: number): void {
    this.received.push(buf.slice(start, end));
  }

  /** Takes a datagram from the network. */
  handleDatagram(now: Millis, local: SocketAddress, from: SocketAddress, bytes: Uint8Array): void {
    this.machine.handleDatagram(now, local, from, bytes, 0, bytes.length, this);
  }

  /** Does what is due. */
  handleTimeout(now: Millis): void {
    this.machine.handleTimeout(now);
  }

  /** The machine's deadline; "now" while packets of a burst wait. */
  pollTimeout(): Millis {
    return this.#batch.length > 0 ? 0 as Millis : this.machine.pollTimeout();
  }

  /** The next datagram for the network. */
  pollTransmit(): Transmit | undefined {
    return this.#batch.pollTransmit() ?? this.machine.pollTransmit();
  }

  /** Empties the machine's queues. */
  drain(now: Millis): void {
    this.onEvents(now);
    for (let packet; (packet = this.machine.pollPacket()) !== undefined;) {
      this.received.push(packet);
    }
  }
}

/** Where everybody is. */
export interface WorldOptions {
  /** Of everything random; 1 by default. */
  readonly seed?: number;
  /** Where the client is, behind which NATs. */
  readonly client: (network: Network) => Place;
  /** Where the gateway is. */
  readonly gateway: (network: Network) => Place;
  /** Further gateways of the site. */
  readonly moreGateways?: readonly ((network: Network) => Place)[];
  /** Addresses of each relay; one dual-stack relay by default. */
  readonly relays?: readonly { readonly v4?: string; readonly v6?: string }[];
  /** Whether the client wants the Internet resource. */
  readonly usesInternet?: boolean;
  /** Whether there is a DNS resource, too: {@link NAMES}. */
  readonly hasNames?: boolean;
  /** What seals and opens; {@link testAead} by default. */
  readonly aead?: AeadBackend;
}

/** See the head of this file. */
export class TunnelWorld {
  /** Its clock is the time of everybody. */
  readonly network: Network;
  /** The client. */
  readonly client: TunnelHost<ClientState>;
  /** The first of {@link gateways}. */
  readonly gateway: TunnelHost<GatewayState>;
  /** All gateways of the site. */
  readonly gateways: readonly TunnelHost<GatewayState>[];
  /** The relays, in the order of {@link WorldOptions.relays}. */
  readonly relays: RelayHost[] = [];
  /** Everything that the two reported, for assertions: `client established`, … */
  readonly log: string[] = [];
  /** How long access is granted for, in seconds from the start of the simulation. */
  accessSeconds = 86_400;
  /** Whether the portal passes messages on. */
  portalIsUp = true;
  /** Ids of gateways that the portal has lost. */
  readonly offline: Set<string> = new Set<string>();
  /** Gateways whose machine is gone, although the portal still thinks that they are there. */
  readonly #vanished = new Set<number>();
  /** Gateways that flows were granted at, in order. */
  readonly granted: string[] = [];
  /** What the client is told about its resources. */
  readonly resources: Map<string, ClientResource> = new Map<string, ClientResource>();
  /** What the name servers near the gateway know. */
  readonly zone: Map<string, readonly string[]> = new Map<string, readonly string[]>();
  /** Whether they can be asked. */
  nameServersAreUp = true;
  /** Names that they were asked for. */
  readonly resolved: string[] = [];
  /** Filters of the DNS resource, as the gateway is told. */
  nameFilters: readonly Filter[] = [];
  /** Gateways that the client was told of last, by resource. */
  readonly #given = new Map<string, string>();
  /** Resources that flows were asked for, by reference. */
  readonly #flows = new Map<string, string>();
  readonly #makeOptions: () => MachineOptions;
  readonly #usesInternet: boolean;
  readonly #relayList: { id: string; v4?: IpAddress; v6?: IpAddress }[] = [];

  /** Everybody is there and has had its `init`. */
  constructor(options: WorldOptions) {
    const random = seededRandom(options.seed ?? 1);
    const aead = options.aead ?? testAead();
    this.#usesInternet = options.usesInternet ?? false;
    this.#makeOptions = () => ({
      privateKey: random(32),
      aead,
      random,
      unixMillisAtZero: EPOCH_SECONDS * 1000,
    });
    this.putResource(cidrResource(IDS.resource, RESOURCE));
    if (options.hasNames) this.putResource(clientNames());
    this.network = new Network({ seed: options.seed ?? 1 });
    const addresses = options.relays ?? [{ v4: "203.0.113.1", v6: "2001:db8:f::1" }];
    for (const [i, relay] of addresses.entries()) this.#addRelay(i, relay, random);
    this.client = new TunnelHost(
      new ClientState(this.#makeOptions(), this.#usesInternet),
      (now) => this.#drainClient(now),
    );
    this.client.host = this.network.addHost("client", this.client, {
      ...options.client(this.network),
      port: PORT,
    });
    this.gateways = [options.gateway, ...options.moreGateways ?? []].map((place, i) => {
      const gateway = new TunnelHost(
        new GatewayState(this.#makeOptions()),
        (now) => this.#drainGateway(now, i),
      );
      const name = i === 0 ? "gateway" : `gateway-${i}`;
      gateway.host = this.network.addHost(name, gateway, { ...place(this.network), port: PORT });
      return gateway;
    });
    this.gateway = this.gateways[0]!;
    for (const i of this.gateways.keys()) this.initGateway(i);
    this.initClient();
  }

  /** Adds or changes a resource; the client learns of it with its next `init`. */
  putResource(resource: ClientResource): void {
    this.resources.set(resource.id, resource);
  }

  /** Ends the client's process without a word, and starts another one in its place. */
  restartClient(): void {
    this.client.restart(new ClientState(this.#makeOptions(), this.#usesInternet));
    this.initClient();
  }

  /** Ends a gateway's process without a word, and starts another one in its place. */
  restartGateway(i = 0): void {
    this.gateways[i]!.restart(new GatewayState(this.#makeOptions()));
    this.initGateway(i);
  }

  /** Ends a gateway's whole machine without a word; the portal takes long to notice. */
  vanishGateway(i = 0): void {
    this.#vanished.add(i);
    this.network.move(this.gateways[i]!.host, undefined);
  }

  /** Sends a gateway its `init`. */
  initGateway(i = 0): void {
    this.gateways[i]!.machine.handlePortalMessage(this.network.now, {
      tag: "init",
      interface: gatewayAddresses(i),
      relays: this.relaysFor(gatewayId(i)),
      authorizations: undefined,
    });
  }

  /** Sends the client its `init`. */
  initClient(): void {
    this.client.machine.handlePortalMessage(this.network.now, {
      tag: "init",
      interface: {
        ...ADDRESSES.client,
        upstreamDns: [],
        upstreamDoh: [],
        searchDomain: undefined,
      },
      resources: [...this.resources.values()],
      relays: this.relaysFor("client"),
      skippedResources: 0,
    });
  }

  /** The CIDR resource, as the client is told. */
  clientResource(): ClientResource {
    return this.resources.get(IDS.resource)!;
  }

  /** All relays, with credentials for one of the two. */
  relaysFor(who: string): Relay[] {
    return this.#relayList.map(({ id, v4, v6 }, i) => ({
      id,
      servers: {
        ...v4 && { v4: new SocketAddress(v4, RELAY_PORT) },
        ...v6 && { v6: new SocketAddress(v6, RELAY_PORT) },
      },
      ...this.relays[i]!.credentials(who),
    }));
  }

  /** Sends a UDP packet into the client's TUN; it is asked for again at the gateway's end. */
  sendFromClient(packet: Uint8Array): void {
    this.client.send(this.network.now, packet);
  }

  /** Runs until the gateway got `count` packets; false when it did not within `limitMs`. */
  runUntilGatewayGot(count: number, limitMs = 10_000): boolean {
    return this.network.runUntil(() => this.gateway.received.length >= count, limitMs);
  }

  /** Runs until the client got `count` packets. */
  runUntilClientGot(count: number, limitMs = 10_000): boolean {
    return this.network.runUntil(() => this.client.received.length >= count, limitMs);
  }

  #addRelay(i: number, addresses: { v4?: string; v6?: string }, random: (n: number) => Uint8Array) {
    const v4 = addresses.v4 === undefined ? undefined : ip(addresses.v4);
    const v6 = addresses.v6 === undefined ? undefined : ip(addresses.v6);
    const relay = new RelayHost({
      publicAddresses: { v4, v6 },
      stampSecret: `secret-${i}`,
      random,
    });
    this.relays.push(relay);
    this.#relayList.push({ id: `relay-${i}`, ...v4 && { v4 }, ...v6 && { v6 } });
    this.network.addHost(`relay-${i}`, relay, {
      addresses: [v4, v6].flatMap((address) => address ? [address.text] : []),
    });
  }

  /** Brings something to one of the two by way of the portal. */
  #viaPortal(deliver: (now: Millis) => void): void {
    if (!this.portalIsUp) return;
    this.network.after(2 * PORTAL_DELAY_MS, deliver);
  }

  #drainClient(now: Millis): void {
    for (let event; (event = this.client.machine.pollEvent()) !== undefined;) {
      switch (event.tag) {
        case "request-flow": {
          const { resourceId, connectedGatewayIds } = event;
          this.#viaPortal((at) => this.#authorize(at, resourceId, connectedGatewayIds));
          break;
        }
        case "candidates":
        case "candidates-invalidated": {
          const { candidates, gatewayId: to } = event;
          const tag = event.tag === "candidates" ? "ice-candidates" : "invalidate-ice-candidates";
          this.#viaPortal((at) => {
            const i = this.#indexOf(to);
            if (this.#vanished.has(i)) return;
            const { machine } = this.gateways[i]!;
            machine.handlePortalMessage(at, { tag, peerId: IDS.client, candidates });
          });
          break;
        }
        default:
          this.log.push(`${now} client ${event.tag}`);
          if (event.tag === "no-relays") this.#offerRelays(this.client.machine, "client");
      }
    }
  }

  #drainGateway(now: Millis, i: number): void {
    const { machine } = this.gateways[i]!;
    const peerId = gatewayId(i);
    for (let event; (event = machine.pollEvent()) !== undefined;) {
      if (this.#vanished.has(i)) continue;
      switch (event.tag) {
        case "flow-authorized": {
          const resourceId = this.#flows.get(event.ref)!;
          this.#viaPortal((at) => this.#createFlow(at, resourceId, i));
          break;
        }
        case "resolve":
          this.#resolve(machine, event.requestId, event.domain);
          break;
        case "candidates":
        case "candidates-invalidated": {
          const { candidates } = event;
          const tag = event.tag === "candidates" ? "ice-candidates" : "invalidate-ice-candidates";
          this.#viaPortal((at) =>
            this.client.machine.handlePortalMessage(at, { tag, peerId, candidates })
          );
          break;
        }
        default:
          this.log.push(`${now} ${this.gateways[i]!.host.name} ${event.tag}`);
          if (event.tag === "no-relays") this.#offerRelays(machine, peerId);
      }
    }
  }

  /** A portal that is told "no relays" names those that are there. */
  #offerRelays(machine: Machine, who: string): void {
    const connected = this.relaysFor(who);
    if (connected.length === 0) return;
    this.#viaPortal((at) =>
      machine.handlePortalMessage(at, { tag: "relays-presence", disconnectedIds: [], connected })
    );
  }

  /** Keys decide the ICE credentials, as with the real portal. */
  #ice(
    gateway: GatewayState,
  ): { clientIce: IceCredentials; gatewayIce: IceCredentials; presharedKey: Uint8Array } {
    const keys = base64(this.client.machine.publicKey) + base64(gateway.publicKey);
    const text = [...keys].filter((c) => /[a-zA-Z0-9]/.test(c)).join("");
    return {
      clientIce: { username: text.slice(0, 4), password: text.slice(4, 26) },
      gatewayIce: { username: text.slice(26, 30), password: text.slice(30, 52) },
      presharedKey: new Uint8Array(32).map((_, i) => keys.charCodeAt(i)),
    };
  }

  #resolve(machine: GatewayState, requestId: number, domain: string): void {
    this.resolved.push(domain);
    this.network.after(RESOLVE_DELAY_MS, (at) => {
      const addresses = this.zone.get(domain)?.map(ip) ?? [];
      machine.handleResolved(at, requestId, this.nameServersAreUp ? addresses : undefined);
    });
  }

  /** A resource, as the gateway is told. */
  gatewayResource(id: string): GatewayResource {
    const resource = this.resources.get(id)!;
    const { name } = resource;
    switch (resource.type) {
      case "cidr":
        return { type: "cidr", id, name, prefix: resource.prefix, filters: resource.filters };
      case "dns": {
        const { pattern, ipStack } = resource;
        return { type: "dns", id, name, pattern, ipStack, filters: this.nameFilters };
      }
      case "internet":
        return { type: "internet", id, name, filters: [] };
    }
  }

  #indexOf(id: string): number {
    return this.gateways.findIndex((_, i) => gatewayId(i) === id);
  }

  /**
   * A gateway that the client is connected to, else the first that the portal knows. Who does not
   * name the one that it was given has lost it, and gets another if there is one.
   */
  #choose(resourceId: string, connected: readonly string[]): number {
    const online = [...this.gateways.keys()].filter((i) => !this.offline.has(gatewayId(i)));
    return online.find((i) => connected.includes(gatewayId(i))) ??
      online.find((i) => gatewayId(i) !== this.#given.get(resourceId)) ?? online[0] ?? -1;
  }

  #authorize(now: Millis, resourceId: string, connected: readonly string[]): void {
    const i = this.#choose(resourceId, connected);
    if (i < 0) {
      return this.client.machine.handlePortalMessage(now, {
        tag: "flow-creation-failed",
        resourceId,
        reason: "offline",
        violatedProperties: [],
      });
    }
    if (this.#vanished.has(i)) return;
    const { machine } = this.gateways[i]!;
    const { clientIce, gatewayIce, presharedKey } = this.#ice(machine);
    const ref = `ref-${this.#flows.size}`;
    this.#flows.set(ref, resourceId);
    this.granted.push(gatewayId(i));
    machine.handlePortalMessage(now, {
      tag: "authorize-flow",
      ref,
      resource: this.gatewayResource(resourceId),
      client: {
        id: IDS.client,
        publicKey: this.client.machine.publicKey,
        presharedKey,
        ...ADDRESSES.client,
      },
      clientIce,
      gatewayIce,
      expiresAt: (EPOCH_SECONDS + this.accessSeconds) as UnixSeconds,
    });
  }

  #createFlow(now: Millis, resourceId: string, i: number): void {
    const { machine } = this.gateways[i]!;
    const { clientIce, gatewayIce, presharedKey } = this.#ice(machine);
    this.#given.set(resourceId, gatewayId(i));
    this.client.machine.handlePortalMessage(now, {
      tag: "flow-created",
      resourceId,
      gatewayId: gatewayId(i),
      gatewayPublicKey: machine.publicKey,
      gatewayIps: gatewayAddresses(i),
      siteId: SITE.id,
      presharedKey,
      clientIce,
      gatewayIce,
    });
  }
}

/** The id of each gateway. */
export function gatewayId(i: number): string {
  return i === 0 ? IDS.gateway : `00000000-0000-4000-8000-0000000001${String(i).padStart(2, "0")}`;
}

function gatewayAddresses(i: number) {
  return i === 0 ? ADDRESSES.gateway : {
    ipv4: ip(`100.64.1.${i}`),
    ipv6: ip(`fd00:2021:1111::1:${i}`),
  };
}

/** A CIDR resource, as the client is told. */
export function cidrResource(
  id: string,
  range: Prefix,
  filters: readonly Filter[] = [],
): ClientResource {
  return {
    type: "cidr",
    id,
    name: "private",
    prefix: range,
    addressDescription: undefined,
    sites: [SITE],
    filters,
  };
}

function clientNames(): ClientResource {
  return {
    type: "dns",
    id: IDS.names,
    name: "names",
    pattern: NAMES,
    ipStack: "dual",
    addressDescription: undefined,
    sites: [SITE],
    filters: [],
  };
}

/** An IPv4 UDP packet with correct checksums left out: nothing here looks at them. */
export function udpPacket(from: IpAddress, to: IpAddress, payload: number): Uint8Array {
  const packet = new Uint8Array(29);
  packet[0] = 0x45;
  packet[3] = packet.length;
  packet[8] = 64;
  packet[9] = 17;
  packet.set(from.bytes, 12);
  packet.set(to.bytes, 16);
  packet[21] = 80;
  packet[23] = 80;
  packet[25] = 9;
  packet[28] = payload;
  return packet;
}

/** Behind a router with this NAT. */
export function behindNat(
  name: string,
  address: string,
  inside: string,
  nat: NonNullable<Parameters<Network["addRouter"]>[1]["nat"]> = {},
): (network: Network) => Place & { readonly behind: Router } {
  return (network) => ({
    addresses: [inside],
    behind: network.addRouter(name, { addresses: [address], nat }),
  });
}
