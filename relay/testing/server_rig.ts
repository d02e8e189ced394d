/**
 * A `RelayServer` with its owner: opens sockets in its mind, keeps the time, speaks for clients.
 * @module
 */

import { assertEquals } from "@std/assert";
import { createHmac } from "node:crypto";
import { writeU16 } from "@firezone/core/bytes";
import { ip, type IpAddress, type SocketAddress, socketAddress } from "@firezone/core/ip";
import {
  longTermKey,
  METHOD,
  parseStunMessage,
  type StunMessage,
  StunWriter,
} from "@firezone/core/stun";
import { seededRandom } from "@firezone/core/testing";
import {
  relayCredentials,
  toChannelNumber,
  type TurnCredentials,
  writeChannelDataHeader,
} from "@firezone/core/turn";
import { after, type Millis, type UnixSeconds } from "@firezone/core/units";
import { Forwarding } from "../forwarding.ts";
import { checkServer } from "../invariants.ts";
import { DEFAULT_PORTS, type PortRange } from "../port_pool.ts";
import type { RelayCommand } from "../allocator.ts";
import { RelayServer, type RelayServerOptions } from "../server.ts";

/** What the portal would share with every rig's relay. */
export const SECRET = "4c98bf59c99b3e467ecd7cf9d6b3e5279645fca59be67bc5bb4af3cf653761ab";
/** Where every rig's relay is reached. */
export const PUBLIC: { readonly v4: IpAddress; readonly v6: IpAddress } = {
  v4: ip("203.0.113.1"),
  v6: ip("2001:db8::1"),
};
/** A client. */
export const ALICE: SocketAddress = socketAddress("198.51.100.1:5000");
/** Another client. */
export const BOB: SocketAddress = socketAddress("198.51.100.2:6000");
/** Somebody to be reached through the relay. */
export const PEER: SocketAddress = socketAddress("192.0.2.9:7000");
/** Somebody to be reached through the relay over IPv6. */
export const PEER6: SocketAddress = socketAddress("[2001:db8:9::9]:7000");
/** In milliseconds. */
export const SECOND = 1000;
/** In milliseconds. */
export const MINUTE: number = 60 * SECOND;

/** See the head of this file. */
export class ServerRig {
  /** The machine. */
  readonly server: RelayServer;
  /** Its time. */
  now: Millis = 1_000_000 as Millis;
  /** Its wall clock. */
  wall: UnixSeconds = 1_700_000_000 as UnixSeconds;
  readonly #ports: PortRange;
  readonly #random = seededRandom(7);
  readonly #commands: RelayCommand[] = [];
  readonly #opens: "at once" | "later";
  readonly #users = new Map<string, TurnCredentials>();

  /** A relay without clients.
   * @param opens whether sockets open at once, or when the test says so */
  constructor(options: Partial<RelayServerOptions> = {}, opens: "at once" | "later" = "at once") {
    this.#opens = opens;
    this.#ports = options.ports ?? DEFAULT_PORTS;
    this.server = new RelayServer({
      publicAddresses: PUBLIC,
      stampSecret: SECRET,
      random: seededRandom(8),
      ...options,
    });
  }

  /** A transaction id that was never used. */
  id(): string {
    return Array.from(this.#random(12), (b) => b.toString(16).padStart(2, "0")).join("");
  }

  /** The credentials of a user, valid for longer than any test. */
  credentials(salt = "salt"): TurnCredentials {
    return relayCredentials(2_000_000_000 as UnixSeconds, SECRET, salt);
  }

  /** Lets time pass, on both clocks. */
  advance(ms: number): void {
    this.now = after(this.now, ms);
    this.wall = this.wall + Math.floor(ms / 1000) as UnixSeconds;
    this.server.handleTimeout(this.now);
    this.#drain();
  }

  /** A client sends a datagram; answers with the answers. */
  datagram(client: SocketAddress, bytes: Uint8Array): StunMessage[] {
    const out = new Forwarding();
    this.server.handleClientInput(this.now, this.wall, client, bytes, 0, bytes.length, out);
    return this.takeAnswers();
  }

  /** A client sends a request. @param key signs it */
  request(client: SocketAddress, writer: StunWriter, key?: Uint8Array): StunMessage[] {
    return this.datagram(client, writer.finish(key ? { integrityKey: key } : {}));
  }

  /** With a nonce, and with the credentials that the client used last unless others are given. */
  authenticated(
    client: SocketAddress,
    writer: StunWriter,
    credentials: TurnCredentials = this.#users.get(client.key) ?? this.credentials(),
  ): StunMessage[] {
    this.#users.set(client.key, credentials);
    writer.username(credentials.username).realm("firezone").nonce(this.nonce(client));
    return this.request(client, writer, keyOf(credentials));
  }

  /** A nonce that the client may use. */
  nonce(client: SocketAddress): string {
    return this.request(client, this.writer(METHOD.refresh))[0]!.nonce!;
  }

  /** Begins a request. */
  writer(method: number): StunWriter {
    return new StunWriter("request", method, this.id());
  }

  /** Begins an ALLOCATE with what every one of them must have. */
  allocateWriter(): StunWriter {
    return this.writer(METHOD.allocate).requestedTransport(17);
  }

  /** Allocates in both families and returns the port. */
  allocate(client: SocketAddress, credentials?: TurnCredentials): number {
    const writer = this.allocateWriter().additionalAddressFamily(6);
    const [answer] = this.authenticated(client, writer, credentials);
    return answer!.relayedAddresses[0]!.port;
  }

  /** Refreshes an allocation and returns the answer. */
  refresh(client: SocketAddress, seconds?: number): StunMessage | undefined {
    const writer = this.writer(METHOD.refresh);
    if (seconds !== undefined) writer.lifetime(seconds);
    return this.authenticated(client, writer)[0];
  }

  /** Binds a channel and returns the error code, 0 for success. */
  bindCode(client: SocketAddress, number: number, peer: SocketAddress): number {
    const writer = this.writer(METHOD.channelBind).channelNumber(number).peerAddress(peer);
    return codeOf(this.authenticated(client, writer)[0]!);
  }

  /** Binds a channel, which must succeed. */
  bind(client: SocketAddress, number: number, peer: SocketAddress): void {
    assertEquals(this.bindCode(client, number, peer), 0);
  }

  /** A client sends application data; answers where it goes. */
  fromClient(client: SocketAddress, channel: number, length: number): Forwarding | undefined {
    const bytes = new Uint8Array(4 + length);
    writeChannelDataHeader(bytes, 0, toChannelNumber(channel)!, length);
    const out = new Forwarding();
    const { server, now, wall } = this;
    return server.handleClientInput(now, wall, client, bytes, 0, bytes.length, out)
      ? out
      : undefined;
  }

  /** A peer sends to an allocation; answers where it goes. */
  fromPeer(peer: SocketAddress, port: number, bytes: Uint8Array): Forwarding | undefined {
    const out = new Forwarding();
    return this.server.handlePeerInput(this.now, peer, port, 0, bytes.length, out)
      ? out
      : undefined;
  }

  /** All commands since the last call. */
  takeCommands(): RelayCommand[] {
    this.#drain();
    return this.#commands.splice(0);
  }

  /** All answers that wait. */
  takeAnswers(): StunMessage[] {
    return this.takeDatagrams().map((bytes) => parseStunMessage(bytes, 0, bytes.length)!);
  }

  /** The same in bytes. */
  takeDatagrams(): Uint8Array[] {
    this.#drain();
    const datagrams: Uint8Array[] = [];
    for (let transmit; (transmit = this.server.pollTransmit()) !== undefined;) {
      datagrams.push(transmit.payload);
    }
    return datagrams;
  }

  /** Walks all indices. @throws InvariantError when they disagree */
  check(): void {
    this.#drain();
    checkServer(this.server, this.#ports.highest - this.#ports.lowest + 1);
  }

  #drain(): void {
    for (let command; (command = this.server.pollCommand()) !== undefined;) {
      this.#commands.push(command);
      if (command.tag === "create-allocation" && this.#opens === "at once") {
        this.server.handleAllocationCreated(this.now, command.id);
      }
    }
  }
}

/** What an answer says: its error code, 0 for success. */
export function codeOf(answer: StunMessage): number {
  return answer.errorCode?.code ?? 0;
}

/** Signs what bears these credentials. */
export function keyOf(credentials: TurnCredentials): Uint8Array {
  return longTermKey(credentials.username, credentials.realm, credentials.password);
}

/** A request with an attribute that {@link StunWriter} would not write; up to four bytes of value. */
export function withAttribute(
  type: number,
  writer: StunWriter,
  key?: Uint8Array,
  value: readonly number[] = [],
): Uint8Array {
  const plain = writer.finish();
  const end = plain.length + 4 + (value.length > 0 ? 4 : 0);
  const bytes = new Uint8Array(end + (key ? 24 : 0));
  bytes.set(plain);
  writeU16(bytes, plain.length, type);
  writeU16(bytes, plain.length + 2, value.length);
  bytes.set(value, plain.length + 4);
  writeU16(bytes, 2, bytes.length - 20);
  if (key) {
    writeU16(bytes, end, 0x0008);
    writeU16(bytes, end + 2, 20);
    bytes.set(createHmac("sha1", key).update(bytes.subarray(0, end)).digest(), end + 4);
  }
  return bytes;
}
