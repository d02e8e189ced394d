/**
 * The answers of a relay, from the request to the datagram that waits to be sent.
 * @module
 */

import type { SocketAddress } from "@firezone/core/ip";
import { type StunMessage, StunWriter } from "@firezone/core/stun";
import type { Transmit } from "@firezone/core/transmit";
import type { RelayCounters } from "./counters.ts";

/** Writes answers and keeps them until they are sent. */
export class Responder {
  readonly #software: string;
  readonly #counters: RelayCounters;
  readonly #transmits: Transmit[] = [];

  /** Nothing waits.
   * @param software SOFTWARE attribute of all answers */
  constructor(software: string, counters: RelayCounters) {
    this.#software = software;
    this.#counters = counters;
  }

  /** Whether an answer waits. */
  get isPending(): boolean {
    return this.#transmits.length > 0;
  }

  /** Takes the next answer. */
  poll(): Transmit | undefined {
    return this.#transmits.shift();
  }

  /** Begins a success. */
  success(request: StunMessage): StunWriter {
    const { method, transactionId } = request;
    return new StunWriter("success", method, transactionId).software(this.#software);
  }

  /** Begins an error. */
  error(request: StunMessage, code: number): StunWriter {
    const { method, transactionId } = request;
    return new StunWriter("error", method, transactionId).software(this.#software).errorCode(code);
  }

  /** An error without further attributes. @param key signs it */
  reject(client: SocketAddress, request: StunMessage, code: number, key?: Uint8Array): void {
    this.send(client, request, this.error(request, code), code, key);
  }

  /** An error that names the attributes which the request should not have had. */
  rejectAttributes(client: SocketAddress, request: StunMessage, key?: Uint8Array): void {
    const writer = this.error(request, 420);
    this.send(
      client,
      request,
      writer.unknownAttributes(request.unknownComprehensionRequired),
      420,
      key,
    );
  }

  /** Finishes an answer. @param code error code; 0 is success @returns its bytes */
  send(
    client: SocketAddress,
    request: StunMessage,
    writer: StunWriter,
    code: number,
    key: Uint8Array | undefined,
  ): Uint8Array {
    const payload = writer.finish(key === undefined ? {} : { integrityKey: key });
    this.#put(client, request.method, code, payload);
    return payload;
  }

  /** Sends a success again. @param payload not to be changed later */
  repeat(client: SocketAddress, request: StunMessage, payload: Uint8Array): void {
    this.#put(client, request.method, 0, payload);
  }

  #put(destination: SocketAddress, method: number, code: number, payload: Uint8Array): void {
    this.#counters.countResponse(method, code);
    this.#transmits.push({ source: undefined, destination, payload });
  }
}
