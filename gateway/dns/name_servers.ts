/**
 * Which of the system's name servers to ask: the one that answers fastest.
 *
 * All of them are asked for the same name, by UDP and by TCP. One that answers both ways comes before
 * one that does not, and one that can say something before one that refuses. It is found out when
 * somebody asks, at most once a minute or after a failure, so that a gateway that nobody asks is
 * silent.
 * @module
 */

import { encodeQuery, isAnswerTo, parseQuery, Rcode } from "@firezone/core/dns";
import { type IpAddress, SocketAddress } from "@firezone/core/ip";
import type { RandomBytes } from "@firezone/core/random";
import type { DnsTransport } from "@firezone/core/runtime";
import type { Logger } from "@firezone/core/telemetry";
import type { Exchange } from "./exchange.ts";

/** What is needed to know the fastest server. */
export interface NameServersOptions {
  /** The system's servers, as they are now. */
  readonly servers: () => readonly IpAddress[];
  /** Asks them. */
  readonly exchange: Exchange;
  /** For the ids of queries. */
  readonly random: RandomBytes;
  /** Where a change is told. */
  readonly log: Logger;
  /** Milliseconds that only go forward; for tests. */
  readonly now?: () => number;
  /** Port of the servers; 53 if absent, for tests. */
  readonly port?: number;
}

const DNS_PORT = 53;
const PROBE_NAME = "firezone.dev";
const PROBE_LIMIT_MS = 2_000;
const PROBE_INTERVAL_MS = 60_000;
const MAX_SERVERS = 20;

interface Score {
  readonly server: SocketAddress;
  /** Answers that lack something: less is better. */
  readonly faults: number;
  readonly rttMs: number;
}

/** See the head of this file. */
export class NameServers {
  readonly #options: NameServersOptions;
  readonly #now: () => number;
  #fastest: SocketAddress | undefined;
  #probedAt = -Infinity;
  #probing: Promise<void> | undefined;

  /** Nothing is asked until {@link fastest} is. */
  constructor(options: NameServersOptions) {
    this.#options = options;
    this.#now = options.now ?? (() => performance.now());
  }

  /** The server to ask now; undefined when none answers. */
  async fastest(): Promise<SocketAddress | undefined> {
    if (this.#now() - this.#probedAt >= PROBE_INTERVAL_MS) {
      this.#probing ??= this.#probe().finally(() => this.#probing = undefined);
    }
    // What was the fastest a minute ago will do until it is known better.
    if (this.#fastest === undefined) await this.#probing;
    return this.#fastest;
  }

  /** Notes that a server did not answer. */
  noteFailure(server: SocketAddress): void {
    if (!this.#fastest?.equals(server)) return;
    this.#fastest = undefined;
    this.#probedAt = -Infinity;
  }

  async #probe(): Promise<void> {
    this.#probedAt = this.#now();
    const { servers, log, port = DNS_PORT } = this.#options;
    const addresses = servers().slice(0, MAX_SERVERS);
    const scores = await Promise.all(
      addresses.map((ip) => this.#score(new SocketAddress(ip, port))),
    );
    const best = scores
      .filter((score) => score !== undefined)
      .sort((a, b) => a.faults - b.faults || a.rttMs - b.rttMs)[0];
    if (best === undefined) log.debug("No name server answers", { servers: addresses.join(", ") });
    else if (!this.#fastest?.equals(best.server)) {
      log.debug("Fastest name server", { server: best.server.key, rtt_ms: Math.round(best.rttMs) });
    }
    this.#fastest = best?.server;
    // Without any, the next question tries again.
    if (best === undefined) this.#probedAt = -Infinity;
  }

  /** Undefined for a server that does not answer by UDP. */
  async #score(server: SocketAddress): Promise<Score | undefined> {
    const start = this.#now();
    const [udp, tcp] = await Promise.all([
      this.#ask(server, "udp").then((rcode) => ({ rcode, rttMs: this.#now() - start })),
      this.#ask(server, "tcp"),
    ]);
    if (udp.rcode === undefined) return undefined;
    const isUnable = udp.rcode === Rcode.ServFail || udp.rcode === Rcode.Refused;
    return {
      server,
      faults: (isUnable ? 2 : 0) + (tcp === undefined ? 1 : 0),
      rttMs: udp.rttMs,
    };
  }

  /** The response code; undefined for no answer. */
  async #ask(to: SocketAddress, transport: DnsTransport): Promise<number | undefined> {
    const [high, low] = this.#options.random(2);
    const id = high! << 8 | low!;
    const message = encodeQuery(id, PROBE_NAME, "A");
    const parsed = parseQuery(message);
    if (parsed.tag !== "query") return undefined;
    try {
      const answer = await this.#options.exchange.ask(message, {
        to,
        transport,
        limitMs: PROBE_LIMIT_MS,
        isAnswer: (bytes) => isAnswerTo(bytes, parsed.query, id),
      });
      return answer[3]! & 0x0f;
    } catch {
      return undefined; // whatever the reason, this server is not to be asked
    }
  }
}
