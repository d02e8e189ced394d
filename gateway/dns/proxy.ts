/**
 * The resolver on the gateway's tunnel addresses, port 53535 by UDP and TCP: clients ask it for
 * records that their own stub resolver does not make up (SRV, TXT), so that the answers are those of
 * the site.
 *
 *     client ══tunnel══► 100.64.0.2:53535 ──► fastest server of /etc/resolv.conf
 *
 * Queries are passed on by the transport that they came by. Without an answer it is SERVFAIL, and for
 * anybody but clients REFUSED.
 * @module
 */

import {
  type DnsQuery,
  forwardedQuery,
  isAnswerTo,
  makeAnswer,
  parseQuery,
  Rcode,
  returnedAnswer,
  truncateAnswer,
} from "@firezone/core/dns";
import { type IpAddress, parseIpAddress, prefix } from "@firezone/core/ip";
import { parseResolvConf } from "@firezone/core/os/linux";
import type { RandomBytes } from "@firezone/core/random";
import { DnsServer, type DnsTransport, type Reply } from "@firezone/core/runtime";
import { systemRandom } from "@firezone/core/system_random";
import type { Logger } from "@firezone/core/telemetry";
import { SocketExchange } from "./exchange.ts";
import { NameServers } from "./name_servers.ts";

/** Where clients expect the resolver. */
export const DNS_PROXY_PORT = 53_535;

/** What a proxy is made of; all but `log` is for tests. */
export interface DnsProxyOptions {
  /** Where problems go. */
  readonly log: Logger;
  /** Names the name servers. */
  readonly resolvConf?: string;
  /** Where to listen. */
  readonly port?: number;
  /** Port of the name servers. */
  readonly upstreamPort?: number;
  /** Who may ask. */
  readonly accepts?: (from: IpAddress) => boolean;
  /** For the ids of queries. */
  readonly random?: RandomBytes;
  /** How long a name server may take. */
  readonly limitMs?: number;
}

const ANSWER_LIMIT_MS = 5_000;
const MAX_PENDING = 1_000;

/** Only they come through the tunnel; the addresses that are listened on can be reached without. */
const CLIENT_RANGES = [prefix("100.64.0.0/11"), prefix("fd00:2021:1111::/107")];

/** See the head of this file. */
export class DnsProxy {
  readonly #options: DnsProxyOptions;
  readonly #random: RandomBytes;
  readonly #exchange = new SocketExchange();
  readonly #servers: NameServers;
  readonly #server: DnsServer;
  readonly #accepts: (from: IpAddress) => boolean;
  #pending = 0;
  #isClosed = false;

  /** Listens nowhere yet. */
  constructor(options: DnsProxyOptions) {
    this.#options = options;
    this.#random = options.random ?? systemRandom;
    this.#accepts = options.accepts ??
      ((from) => CLIENT_RANGES.some((range) => range.contains(from)));
    this.#servers = new NameServers({
      servers: () => readServers(options.resolvConf ?? "/etc/resolv.conf"),
      exchange: this.#exchange,
      random: this.#random,
      log: options.log,
      ...options.upstreamPort !== undefined && { port: options.upstreamPort },
    });
    this.#server = new DnsServer({
      onQuery: (reply, transport, _, message, from) => {
        void this.#onQuery(reply, transport, message, from);
      },
      log: options.log,
      port: options.port ?? DNS_PROXY_PORT,
    });
  }

  /** Listens on these addresses and no others; tries again until it can. */
  listen(addresses: readonly IpAddress[]): void {
    this.#server.listen(addresses);
  }

  /** Whether every address is listened on, and there is one. */
  get isListening(): boolean {
    return this.#server.isListening;
  }

  /** Stops answering. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    await Promise.all([this.#server.close(), this.#exchange.close()]);
  }

  /** Same as {@link close}, for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #onQuery(
    reply: Reply,
    transport: DnsTransport,
    message: Uint8Array,
    from: string,
  ): Promise<void> {
    const parsed = parseQuery(message);
    if (parsed.tag === "ignored") return;
    if (parsed.tag === "refused") return reply(parsed.answer);
    const { query } = parsed;
    const source = parseIpAddress(from);
    if (!source || !this.#accepts(source)) return reply(makeAnswer(query, Rcode.Refused));
    if (this.#pending >= MAX_PENDING) return reply(makeAnswer(query, Rcode.ServFail));
    this.#pending++;
    const answer = await this.#forward(query, transport);
    this.#pending--;
    if (this.#isClosed) return;
    reply(transport === "udp" ? truncateAnswer(answer, query.maxAnswer) : answer);
  }

  async #forward(query: DnsQuery, transport: DnsTransport): Promise<Uint8Array> {
    const server = await this.#servers.fastest();
    if (server === undefined || this.#isClosed) return makeAnswer(query, Rcode.ServFail);
    const [high, low] = this.#random(2);
    const id = high! << 8 | low!;
    try {
      const answer = await this.#exchange.ask(forwardedQuery(query, id), {
        to: server,
        transport,
        limitMs: this.#options.limitMs ?? ANSWER_LIMIT_MS,
        isAnswer: (bytes) => isAnswerTo(bytes, query, id),
      });
      return returnedAnswer(answer, query.id);
    } catch (error) {
      this.#options.log.debug("A query was not answered", { error: (error as Error).message });
      this.#servers.noteFailure(server);
      return makeAnswer(query, Rcode.ServFail);
    }
  }
}

/** No file is as good as one that names no servers. */
function readServers(path: string): readonly IpAddress[] {
  try {
    return parseResolvConf(Deno.readTextFileSync(path)).nameservers;
  } catch {
    return [];
  }
}
