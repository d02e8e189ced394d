/**
 * A TURN client without opinions, which asks what it is told to ask.
 * @module
 */

import type { SocketAddress } from "@firezone/core/ip";
import {
  longTermKey,
  METHOD,
  newTransactionId,
  parseStunMessage,
  type StunMessage,
  StunWriter,
} from "@firezone/core/stun";
import { systemRandom } from "@firezone/core/system_random";
import { toChannelNumber, type TurnCredentials, writeChannelDataHeader } from "@firezone/core/turn";
import { Endpoint } from "./turn_client.ts";

const RESEND_MS = 500;
const ATTEMPTS = 20;

/** Has one socket, and waits for each answer before it asks again. */
export class RawClient implements AsyncDisposable {
  /** Application data, as it came: channel and bytes. */
  readonly data: { readonly channel: number; readonly bytes: Uint8Array }[] = [];
  readonly #endpoint: Endpoint;
  readonly #server: SocketAddress;
  readonly #credentials: TurnCredentials;
  readonly #key: Uint8Array;
  #nonce: string | undefined;
  #onAnswer: (message: StunMessage) => void = () => {};

  private constructor(endpoint: Endpoint, server: SocketAddress, credentials: TurnCredentials) {
    this.#endpoint = endpoint;
    this.#server = server;
    this.#credentials = credentials;
    const { username, realm, password } = credentials;
    this.#key = longTermKey(username, realm, password);
    endpoint.onDatagram = (_from, bytes) => {
      if (bytes[0]! >= 0x40) {
        const channel = bytes[0]! << 8 | bytes[1]!;
        this.data.push({ channel, bytes: bytes.subarray(4) });
        return;
      }
      const message = parseStunMessage(bytes, 0, bytes.length);
      if (message) this.#onAnswer(message);
    };
  }

  /** Opens a socket on the loopback of the server's family. */
  static async open(server: SocketAddress, credentials: TurnCredentials): Promise<RawClient> {
    const host = server.family === 4 ? "127.0.0.1" : "::1";
    return new RawClient(await Endpoint.open(host), server, credentials);
  }

  /** Its own address. */
  get address(): SocketAddress {
    return this.#endpoint.address;
  }

  /** Asks with credentials, as often as it takes. @param fill adds attributes */
  async ask(
    method: number,
    fill: (writer: StunWriter) => StunWriter = (w) => w,
  ): Promise<StunMessage> {
    const { username, realm } = this.#credentials;
    for (let attempt = 0; attempt < 3; attempt++) {
      const writer = fill(new StunWriter("request", method, newTransactionId(systemRandom)));
      const signed = this.#nonce !== undefined;
      if (signed) writer.username(username).realm(realm).nonce(this.#nonce!);
      const bytes = writer.finish(signed ? { integrityKey: this.#key } : {});
      const answer = await this.exchange(bytes);
      const code = answer.errorCode?.code;
      if (code !== 438 && (code !== 401 || signed)) return answer;
      this.#nonce = answer.nonce;
    }
    throw new Error("Challenged again and again");
  }

  /** Sends a request, again if need be, and waits for its answer. */
  async exchange(request: Uint8Array): Promise<StunMessage> {
    const id = parseStunMessage(request, 0, request.length)!.transactionId;
    const { promise, resolve } = Promise.withResolvers<StunMessage>();
    this.#onAnswer = (message) => message.transactionId === id && resolve(message);
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      await this.#endpoint.send(request, this.#server);
      let timer: ReturnType<typeof setTimeout>;
      const late = new Promise<void>((done) => timer = setTimeout(done, RESEND_MS));
      const answer = await Promise.race([promise, late]);
      clearTimeout(timer!);
      if (answer) return answer;
    }
    throw new Error("No answer");
  }

  /** Allocates in IPv4; answers with the relayed address. */
  async allocate(): Promise<SocketAddress> {
    const answer = await this.ask(METHOD.allocate, (w) => w.requestedTransport(17));
    const [relayed] = answer.relayedAddresses;
    if (!relayed) throw new Error(`Refused with ${answer.errorCode?.code}`);
    return relayed;
  }

  /** Refreshes, or ends the allocation with a lifetime of 0; answers with the error code or 0. */
  async refresh(lifetimeSeconds: number): Promise<number> {
    const answer = await this.ask(METHOD.refresh, (w) => w.lifetime(lifetimeSeconds));
    return answer.errorCode?.code ?? 0;
  }

  /** Binds a channel; answers with the error code or 0. */
  async bind(channel: number, peer: SocketAddress): Promise<number> {
    const fill = (w: StunWriter) => w.channelNumber(channel).peerAddress(peer);
    const answer = await this.ask(METHOD.channelBind, fill);
    return answer.errorCode?.code ?? 0;
  }

  /** Sends application data. */
  send(channel: number, bytes: Uint8Array): Promise<void> {
    const framed = new Uint8Array(4 + bytes.length);
    const at = writeChannelDataHeader(framed, 0, toChannelNumber(channel)!, bytes.length);
    framed.set(bytes, at);
    return this.#endpoint.send(framed, this.#server);
  }

  /** Closes the socket; the relay is not told. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#endpoint[Symbol.asyncDispose]();
  }
}
