/**
 * One query to a name server and its answer, on a socket of its own.
 * @module
 */

import { frameMessage, MessageReader } from "@firezone/core/dns";
import type { SocketAddress } from "@firezone/core/ip";
import { type DialedSocket, Dialer } from "@firezone/core/os/linux";
import type { DnsTransport } from "@firezone/core/runtime";

/** Where to ask and how. */
export interface ExchangeOptions {
  /** The name server. */
  readonly to: SocketAddress;
  /** How to ask it. */
  readonly transport: DnsTransport;
  /** How long to wait for an answer. */
  readonly limitMs: number;
  /** Tells the answer from what a stranger sent. */
  readonly isAnswer: (message: Uint8Array) => boolean;
}

/** Sends queries. */
export interface Exchange {
  /** The answer to a query; rejects when there is none. */
  ask(query: Uint8Array, options: ExchangeOptions): Promise<Uint8Array>;
}

/** Sends queries with the sockets of a {@link Dialer}. */
export class SocketExchange implements Exchange {
  readonly #dialer = new Dialer();
  readonly #open = new Set<() => void>();

  /** See {@link Exchange.ask}. */
  ask(query: Uint8Array, options: ExchangeOptions): Promise<Uint8Array> {
    const { to, transport, limitMs, isAnswer } = options;
    return new Promise((resolve, reject) => {
      const reader = new MessageReader();
      const settle = (fn: () => void) => {
        clearTimeout(timer);
        this.#open.delete(stop);
        socket.close();
        fn();
      };
      const fail = (reason: string) => settle(() => reject(new Error(`${to}: ${reason}`)));
      const stop = () => fail("the program ends");
      const socket: DialedSocket = this.#dialer.dial({ transport, to }, {
        received: (bytes) => {
          if (transport === "tcp") reader.push(bytes);
          const message = transport === "tcp" ? reader.poll() : new Uint8Array(bytes);
          if (message === undefined) return;
          if (isAnswer(message)) settle(() => resolve(message));
          // On a stream nothing else can follow, while a forged datagram may precede the real one.
          else if (transport === "tcp") fail("the server answered something else");
        },
        ended: (error) => fail(error ?? "the server closed the connection"),
      });
      const timer = setTimeout(() => fail(`no answer in ${limitMs} ms`), limitMs);
      this.#open.add(stop);
      socket.send(transport === "tcp" ? frameMessage(query) : query);
    });
  }

  /** Closes all sockets; what is not answered by then is rejected. */
  async close(): Promise<void> {
    for (const stop of [...this.#open]) stop();
    await this.#dialer.close();
  }
}
