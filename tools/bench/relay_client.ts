/**
 * Many TURN clients in one thread, for load: they allocate, bind a channel each, refresh and delete.
 *
 *     new ─ ALLOCATE ─► 401 ─ ALLOCATE ─► allocated ─ CHANNEL_BIND ─► bound ─ REFRESH … ─► bound
 *
 * They talk like our own client does, but know nothing of keep-alives and lost relays: what is not
 * answered is asked again, and after some attempts that is a failure.
 * @module
 */

import type { SocketAddress, SocketAddressCache } from "@firezone/core/ip";
import { type ReceiveSlots, UdpSocket } from "@firezone/core/os/linux";
import {
  longTermKey,
  METHOD,
  newTransactionId,
  parseStunMessage,
  type StunMessage,
  StunWriter,
} from "@firezone/core/stun";
import { systemRandom } from "@firezone/core/system_random";
import {
  type ChannelNumber,
  FIRST_CHANNEL,
  type TurnCredentials,
  writeChannelDataHeader,
} from "@firezone/core/turn";

/** What a {@link LoadClient} is made of. */
export interface LoadClientOptions {
  /** The relay. */
  readonly server: SocketAddress;
  /** Who it is. */
  readonly credentials: TurnCredentials;
  /** Where it sends from; port 0 takes a free one. */
  readonly local: SocketAddress;
  /** Whom its channel stands for. */
  readonly peer: SocketAddress;
  /** Shared by all clients of a thread. */
  readonly slots: ReceiveSlots;
  /** Shared by all clients of a thread. */
  readonly addresses: SocketAddressCache;
}

/** What a client waits for. */
export type LoadClientState = "idle" | "allocating" | "binding" | "refreshing" | "failed";

/** How long an answer may take before it is asked for again; doubles each time. */
const RTO_MS = 500;
const MAX_ATTEMPTS = 8;
const PROTOCOL_UDP = 17;
const SOCKET_BUFFER = 4 << 20;

/** One client. */
export class LoadClient {
  /** Its socket; application data is sent and received by the owner. */
  readonly socket: UdpSocket;
  /** Its one channel. */
  readonly channel: ChannelNumber = FIRST_CHANNEL;
  /** What it waits for. */
  state: LoadClientState = "idle";
  /** Why it failed. */
  failure = "";
  /** Where peers reach it, once allocated. */
  relayed: SocketAddress | undefined;
  /** When the present request is sent again. */
  retryAt = Infinity;
  readonly #options: LoadClientOptions;
  readonly #key: Uint8Array;
  #nonce: string | undefined;
  #id = "";
  #request: Uint8Array | undefined;
  #attempts = 0;
  #lifetimeSeconds: number | undefined;

  /** Opens its socket. @throws OsError when there is none left */
  constructor(options: LoadClientOptions) {
    const { server, local, credentials, slots, addresses } = options;
    this.#options = options;
    this.#key = longTermKey(credentials.username, credentials.realm, credentials.password);
    this.socket = UdpSocket.open({
      family: server.family,
      address: local.ip,
      port: local.port,
      receiveBuffer: SOCKET_BUFFER,
      sendBuffer: SOCKET_BUFFER,
      slots,
      addresses,
    });
  }

  /** Begins to allocate. */
  allocate(now: number): void {
    this.state = "allocating";
    this.#ask(now);
  }

  /** Binds its channel, or refreshes the binding. */
  bind(now: number): void {
    this.state = "binding";
    this.#ask(now);
  }

  /** Prolongs its allocation, or ends it with a lifetime of 0. */
  refresh(now: number, lifetimeSeconds: number): void {
    this.state = "refreshing";
    this.#lifetimeSeconds = lifetimeSeconds;
    this.#ask(now);
  }

  /** Sends again what was not answered. */
  handleTimeout(now: number): void {
    if (now < this.retryAt || this.#request === undefined) return;
    if (++this.#attempts >= MAX_ATTEMPTS) return this.#fail(`no answer while ${this.state}`);
    this.#send(now);
  }

  /** Takes an answer. */
  handleDatagram(now: number, buf: Uint8Array, start: number, end: number): void {
    const answer = parseStunMessage(buf, start, end);
    if (answer === undefined || answer.transactionId !== this.#id) return;
    this.#request = undefined;
    this.retryAt = Infinity;
    const code = answer.errorCode?.code;
    if (code === 401 && this.#nonce === undefined || code === 438) {
      this.#nonce = answer.nonce;
      return this.#ask(now);
    }
    if (code !== undefined) return this.#fail(`error ${code} while ${this.state}`);
    this.#succeed(now, answer);
  }

  /** Writes a ChannelData header for `length` bytes that follow it. */
  frame(buf: Uint8Array, at: number, length: number): number {
    return writeChannelDataHeader(buf, at, this.channel, length);
  }

  #succeed(now: number, answer: StunMessage): void {
    if (this.state === "allocating") {
      this.relayed = answer.relayedAddresses.find((a) => a.family === this.#options.peer.family);
      if (this.relayed === undefined) return this.#fail("no relayed address of the peer's family");
      return this.bind(now);
    }
    this.state = "idle";
  }

  #fail(reason: string): void {
    this.state = "failed";
    this.failure = reason;
    this.#request = undefined;
    this.retryAt = Infinity;
  }

  #ask(now: number): void {
    const { credentials, peer } = this.#options;
    this.#id = newTransactionId(systemRandom);
    const method = {
      allocating: METHOD.allocate,
      binding: METHOD.channelBind,
      refreshing: METHOD.refresh,
      idle: 0,
      failed: 0,
    }[this.state];
    const writer = new StunWriter("request", method, this.#id);
    if (method === METHOD.allocate) {
      writer.requestedTransport(PROTOCOL_UDP);
      if (peer.family === 6) writer.requestedAddressFamily(6);
    } else if (method === METHOD.channelBind) writer.channelNumber(this.channel).peerAddress(peer);
    else writer.lifetime(this.#lifetimeSeconds!);
    if (this.#nonce === undefined) this.#request = writer.finish();
    else {
      writer.username(credentials.username).realm(credentials.realm).nonce(this.#nonce);
      this.#request = writer.finish({ integrityKey: this.#key });
    }
    this.#attempts = 0;
    this.#send(now);
  }

  #send(now: number): void {
    const request = this.#request!;
    this.socket.send(undefined, this.#options.server, request, 0, request.length, 0, 0);
    this.retryAt = now + RTO_MS * 2 ** this.#attempts;
  }
}
