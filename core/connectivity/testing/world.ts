/**
 * Two ends and relays on a simulated network in virtual time, for the tests of this room alone.
 *
 * The relays grant everything at once, without a challenge; what they carry goes by their own ports.
 */

import { assert, assertEquals } from "@std/assert";
import { type SocketAddress, socketAddress } from "../../ip/address.ts";
import { longTermKey } from "../../stun/credentials.ts";
import {
  looksLikeStun,
  METHOD,
  parseStunMessage,
  type StunMessage,
  StunWriter,
} from "../../stun/mod.ts";
import {
  type Host,
  type HostOptions,
  Network,
  type Owner,
  seededRandom,
  testAead,
  TransmitQueue,
} from "../../testing/mod.ts";
import type { Transmit } from "../../transmit.ts";
import { writeChannelDataHeader } from "../../turn/mod.ts";
import { type Millis, NEVER } from "../../units.ts";
import type { ConnectionParameters } from "../connection.ts";
import {
  Connectivity,
  type ConnectivityEvent,
  type Decapsulated,
  type Relay,
} from "../connectivity.ts";
import type { Role } from "../timing.ts";

type CandidatesEvent = Extract<ConnectivityEvent, { candidates: readonly string[] }>;

const LIFETIME_SECONDS = 600;
const FIRST_PORT = 50_000;
const PRESHARED_KEY = new Uint8Array(32).fill(5);

/** An inner packet that WireGuard takes as it is. */
export function inner(n: number): Uint8Array {
  const packet = new Uint8Array(32).fill(n);
  packet.set([0x45, 0, 0, 32]);
  return packet;
}

/** A relay that grants everything. */
export class GenerousRelay implements Owner {
  /** What was asked of it: method names. */
  readonly asked: string[] = [];
  /** Whether it answers. */
  isUp = true;
  readonly #ip: string;
  readonly #transmits: Transmit[] = [];
  readonly #clients = new Map<string, { port: number; peers: Map<string, number> }>();

  constructor(ip: string) {
    this.#ip = ip;
  }

  /** As the portal names it. */
  offer(id: string): Relay {
    const servers = { v4: this.#at(3478) };
    return { id, servers, username: "user", password: "password" };
  }

  handleDatagram(_: Millis, local: SocketAddress, from: SocketAddress, bytes: Uint8Array): void {
    if (!this.isUp) return;
    if (local.port !== 3478) this.#fromPeer(local, from, bytes);
    else if (looksLikeStun(bytes, 0, bytes.length)) {
      const request = parseStunMessage(bytes, 0, bytes.length)!;
      this.#send(this.#at(3478), from, this.#answer(from, request));
    } else this.#fromClient(from, bytes);
  }

  handleTimeout(): void {}

  pollTimeout(): Millis {
    return this.#transmits.length > 0 ? 0 as Millis : NEVER;
  }

  pollTransmit(): Transmit | undefined {
    return this.#transmits.shift();
  }

  #answer(from: SocketAddress, request: StunMessage): Uint8Array {
    const writer = new StunWriter("success", request.method, request.transactionId);
    const client = this.#clients.get(from.key) ?? { port: 0, peers: new Map() };
    switch (request.method) {
      case METHOD.binding:
        this.asked.push("binding");
        return writer.mappedAddress(from).finish({});
      case METHOD.allocate:
        this.asked.push("allocate");
        client.port ||= FIRST_PORT + this.#clients.size;
        this.#clients.set(from.key, client);
        writer.relayedAddress(this.#at(client.port)).mappedAddress(from).lifetime(LIFETIME_SECONDS);
        break;
      case METHOD.refresh:
        this.asked.push("refresh");
        writer.lifetime(LIFETIME_SECONDS);
        break;
      default:
        this.asked.push("channel-bind");
        client.peers.set(request.peerAddress!.key, request.channelNumber!);
    }
    return writer.finish({ integrityKey: longTermKey("user", "firezone", "password") });
  }

  #fromClient(from: SocketAddress, bytes: Uint8Array): void {
    const client = this.#clients.get(from.key);
    const channel = bytes[0]! << 8 | bytes[1]!;
    const peer = [...client?.peers ?? []].find(([, number]) => number === channel)?.[0];
    if (peer) this.#send(this.#at(client!.port), socketAddress(peer), bytes.slice(4));
  }

  #fromPeer(local: SocketAddress, from: SocketAddress, bytes: Uint8Array): void {
    for (const [key, { port, peers }] of this.#clients) {
      const channel = peers.get(from.key);
      if (port !== local.port || channel === undefined) continue;
      const framed = new Uint8Array(4 + bytes.length);
      writeChannelDataHeader(framed, 0, channel as never, bytes.length);
      framed.set(bytes, 4);
      this.#send(this.#at(3478), socketAddress(key), framed);
    }
  }

  #send(source: SocketAddress, destination: SocketAddress, payload: Uint8Array): void {
    this.#transmits.push({ source, destination, payload });
  }

  #at(port: number): SocketAddress {
    return socketAddress(`${this.#ip}:${port}`);
  }
}

/** One end, with everything that it told. */
export class End implements Owner {
  readonly node: Connectivity;
  /** All events but candidates, in words. */
  readonly told: string[] = [];
  /** Candidates that were signalled or taken back, in order. */
  readonly signalled: { readonly tag: string; readonly candidate: string }[] = [];
  /** First byte behind the header of inner packets that came. */
  readonly received: number[] = [];
  /** Everything it sent. */
  readonly sent: Transmit[] = [];
  host!: Host;
  /** Whether what it says reaches the other end. */
  isHeard = true;
  /** Takes its candidates to the other end. */
  onCandidates: (event: CandidatesEvent) => void = () => {};
  readonly #batch = new TransmitQueue();
  readonly #plain = new Uint8Array(2048);
  readonly #out: Decapsulated = { connection: undefined, length: 0 };

  constructor(readonly role: Role, seed: number) {
    const random = seededRandom(seed);
    this.node = new Connectivity({
      role,
      privateKey: random(32),
      aead: testAead(),
      random,
      unixMillisAtZero: 1_800_000_000_000,
    });
  }

  handleDatagram(now: Millis, local: SocketAddress, from: SocketAddress, bytes: Uint8Array): void {
    const end = bytes.length;
    const outcome = this.node.decapsulate(now, local, from, bytes, 0, end, this.#plain, this.#out);
    if (outcome === "data") this.received.push(this.#plain[4]!);
  }

  handleTimeout(now: Millis): void {
    this.node.handleTimeout(now);
  }

  pollTimeout(): Millis {
    return this.#batch.length > 0 ? 0 as Millis : this.node.pollTimeout();
  }

  pollTransmit(): Transmit | undefined {
    const transmit = this.#batch.pollTransmit() ?? this.node.pollTransmit();
    if (transmit) this.sent.push(transmit);
    return transmit;
  }

  drain(): void {
    for (let event; (event = this.node.pollEvent()) !== undefined;) {
      if (event.tag === "candidates" || event.tag === "candidates-invalidated") {
        const { tag } = event;
        for (const candidate of event.candidates) this.signalled.push({ tag, candidate });
        if (this.isHeard) this.onCandidates(event);
      } else this.told.push(event.tag === "failed" ? `failed: ${event.reason}` : event.tag);
    }
  }

  /** Sends an inner packet to a peer. */
  send(now: Millis, peerId: string, packet: Uint8Array): void {
    const connection = this.node.connection(peerId)!;
    this.node.encapsulate(now, connection, packet, 0, packet.length, this.#batch);
  }
}

/** A client and a gateway; see the head of this file. */
export class World {
  readonly network: Network = new Network({ seed: 1 });
  readonly relays: GenerousRelay[] = [];
  readonly client = new End("client", 1);
  readonly gateway = new End("gateway", 2);

  /** @param relays how many there are
   * @param places where the ends are, at which port; on the Internet if left out */
  constructor(
    relays = 1,
    places: Readonly<Partial<Record<Role, (network: Network) => HostOptions>>> = {},
  ) {
    for (let i = 0; i < relays; i++) {
      const ip = `203.0.113.${i + 1}`;
      const relay = new GenerousRelay(ip);
      this.relays.push(relay);
      this.network.addHost(`relay-${i}`, relay, { addresses: [ip] });
    }
    const at = { client: { addresses: ["192.0.2.1"] }, gateway: { addresses: ["192.0.2.2"] } };
    for (const role of ["client", "gateway"] as const) {
      const place = places[role]?.(this.network) ?? at[role];
      this[role].host = this.network.addHost(role, this[role], { port: 52_625, ...place });
      this.offerRelays(role);
    }
    this.client.onCandidates = (event) => this.#signal(this.gateway, "client", event);
    this.gateway.onCandidates = (event) => this.#signal(this.client, "gateway", event);
  }

  /** Names all relays to one end. */
  offerRelays(role: Role): void {
    const present = this.relays.map((relay, i) => relay.offer(`relay-${i}`));
    this[role].node.updateRelays(this.network.now, [], present);
  }

  /** What the portal tells one end about the other. */
  parameters(role: Role, presharedKey: Uint8Array = PRESHARED_KEY): ConnectionParameters {
    const other = role === "client" ? this.gateway : this.client;
    const ice = {
      client: { username: "mhk3", password: "xeez6p6qyqmqw43xdyu2q7" },
      gateway: { username: "wjgw", password: "kwomcb6zu3gppp5absmcva" },
    };
    return {
      remotePublicKey: other.node.publicKey,
      presharedKey,
      localCredentials: ice[role],
      remoteCredentials: ice[role === "client" ? "gateway" : "client"],
    };
  }

  /** Makes or renews the connection at one end. */
  upsert(role: Role, presharedKey?: Uint8Array): string {
    const peer = role === "client" ? "gateway" : "client";
    const parameters = this.parameters(role, presharedKey);
    return this[role].node.upsertConnection(this.network.now, peer, parameters);
  }

  /** Both ends are connected, with candidates of their relays. */
  connect(): this {
    this.network.runFor(200);
    this.upsert("gateway");
    this.upsert("client");
    assert(this.network.runUntil(() => this.client.told.includes("established"), 5000));
    this.network.runFor(1000);
    return this;
  }

  /** Sends a packet from the client; whether it arrives within a second. */
  reaches(n: number): boolean {
    const before = this.gateway.received.length;
    this.client.send(this.network.now, "gateway", inner(n));
    const arrives = this.network.runUntil(() => this.gateway.received.length > before, 1000);
    if (arrives) assertEquals(this.gateway.received.at(-1), n);
    return arrives;
  }

  #signal(to: End, peerId: string, { tag, candidates }: CandidatesEvent): void {
    this.network.after(20, (now) => {
      if (tag === "candidates") to.node.addRemoteCandidates(now, peerId, candidates);
      else to.node.removeRemoteCandidates(now, peerId, candidates);
    });
  }
}
