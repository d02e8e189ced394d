/**
 * DNS on this machine while the client runs: the stub resolver with its sockets, clock and file.
 *
 *     programs ──► sentinels, port 53 ──► StubResolver ──► Forwarders ──► servers
 *                                             │
 *                                             └─► names of resources and their proxy addresses
 *
 * The owner gives the sentinels to the TUN device as addresses when it is told of them, and tells the
 * operating system to ask them.
 * @module
 */

import type { ProxyRecord } from "@firezone/core/dns";
import { type IpAddress, SocketAddress } from "@firezone/core/ip";
import type { RandomBytes } from "@firezone/core/random";
import { DnsServer, type Reply } from "@firezone/core/runtime";
import type { Logger } from "@firezone/core/telemetry";
import { type Millis, NEVER } from "@firezone/core/units";
import { Askers } from "./askers.ts";
import { Forwarders } from "./forwarders.ts";
import { llmnrReply, parseLlmnrQuery } from "./llmnr.ts";
import { loadRecords, MAX_RECORDS, saveRecords } from "./records_file.ts";
import {
  type DnsResource,
  type ResolvedDomain,
  type StubEvent,
  StubResolver,
} from "./stub_resolver.ts";

/** The clock of a service; real time if absent. */
export interface DnsClock {
  /** Monotonic milliseconds. */
  now(): Millis;
  /** Calls `fn` once, at the earliest after `delayMs`; returns what prevents it. */
  schedule(delayMs: number, fn: () => void): () => void;
}

/** What a service is made of. */
export interface DnsServiceOptions {
  /** Unpredictable. */
  readonly random: RandomBytes;
  /** Where the log lines go. */
  readonly log: Logger;
  /** Mark of sockets that must stay out of the tunnel. */
  readonly mark?: number | undefined;
  /** Names that are always asked of the system's servers: the host of the portal. */
  readonly systemNames?: readonly string[];
  /** Where proxy addresses are kept between runs; nowhere if absent. */
  readonly recordsPath?: string | undefined;
  /**
   * The tunnel address of a gateway that is connected for a resource, for queries through its site;
   * may wait for a connection, since the query has its own deadline.
   */
  readonly siteGateway?: (resourceId: string) => Promise<IpAddress | undefined>;
  /** The addresses of a resource's name were asked for: tells the gateway anew what they stand for. */
  readonly onDomainResolved: (domain: ResolvedDomain) => void;
  /** A name has lost its addresses, because too many others are asked for. */
  readonly onDomainEvicted?: (domain: string) => void;
  /** Other sentinels are in use: gives them to the TUN device. Called before they are listened on. */
  readonly onSentinelsChanged?: (sentinels: readonly IpAddress[]) => void;
  /** {@link DnsService.isListening} may have changed. */
  readonly onListening?: () => void;
  /** Port to listen on; 53 if absent. For tests. */
  readonly port?: number;
  /** Certificates to trust over HTTPS, as PEM. For tests. */
  readonly trusted?: readonly string[];
  /** For tests. */
  readonly clock?: DnsClock;
}

/** Port of a gateway's resolver at its tunnel address. */
const SITE_RESOLVER_PORT = 53535;
const SAVE_DELAY_MS = 1000;

/** See the head of this file. */
export class DnsService {
  readonly #options: DnsServiceOptions;
  readonly #log: Logger;
  readonly #clock: DnsClock;
  readonly #resolver: StubResolver<Reply>;
  readonly #forwarders: Forwarders;
  readonly #server: DnsServer;
  readonly #askers = new Askers();
  #systemServers: readonly IpAddress[] = [];
  #timerAt: Millis = NEVER;
  #cancelTimer = () => {};
  #cancelSave: (() => void) | undefined;
  #hasEvicted = false;
  #isClosed = false;

  /** Reads the kept addresses; listens nowhere until it knows a server. @throws OsError */
  constructor(options: DnsServiceOptions) {
    this.#options = options;
    this.#log = options.log;
    this.#clock = options.clock ?? realClock;
    this.#resolver = new StubResolver<Reply>({
      random: options.random,
      records: this.#load(),
      systemNames: options.systemNames ?? [],
    });
    this.#forwarders = new Forwarders({
      random: options.random,
      mark: options.mark,
      systemServers: () => this.#systemServers,
      siteServer: async (resourceId) => {
        const gateway = await options.siteGateway?.(resourceId);
        return gateway && new SocketAddress(gateway, SITE_RESOLVER_PORT);
      },
      trusted: options.trusted,
    }, {
      response: (id, message) => this.#do((now) => this.#resolver.handleResponse(now, id, message)),
      failed: (id, reason) => {
        this.#log.debug("A query could not be forwarded", { reason });
        this.#do((now) => this.#resolver.handleFailure(now, id));
      },
    });
    this.#server = new DnsServer({
      onQuery: (reply, transport, sentinel, message, from) =>
        this.#do((now) => {
          if (this.#askers.allows(now, from)) {
            this.#resolver.handleQuery(now, reply, transport, sentinel, message);
          } else this.#log.debug("Another machine asked the resolver and got no answer", { from });
        }),
      onListening: options.onListening,
      log: options.log,
      port: options.port,
    });
  }

  /** Takes what the portal says: its servers win over those of the system. */
  setInterface(
    upstreamDns: readonly SocketAddress[],
    upstreamDoh: readonly string[],
    searchDomain: string | undefined,
  ): void {
    this.#update(() => this.#resolver.setInterface(upstreamDns, upstreamDoh, searchDomain));
  }

  /** Takes all DNS resources. */
  setResources(resources: readonly DnsResource[]): void {
    this.#do(() => this.#resolver.setResources(resources));
  }

  /** Takes the servers that the system would use without us; ours among them are left out. */
  setSystemServers(servers: readonly IpAddress[]): void {
    this.#systemServers = servers;
    this.#update(() => this.#resolver.setSystemServers(servers));
  }

  /** The network is another: asks again for what is still wanted. */
  handleNetworkChange(): void {
    this.#forwarders.reset();
    this.#do((now) => this.#resolver.handleNetworkChange(now));
  }

  /** The packet that answers an LLMNR query that the system sent into the tunnel, if one does. */
  answerLlmnr(packet: Uint8Array): Uint8Array | undefined {
    const query = parseLlmnrQuery(packet);
    const answer = query && this.#do(() => this.#resolver.answerNeighbour(query));
    return answer && llmnrReply(packet, answer);
  }

  /** The addresses that the system has to ask, in the order of their servers. */
  sentinels(): IpAddress[] {
    return this.#resolver.sentinels.map(({ address }) => address);
  }

  /** Whether all of {@link sentinels} answer, and there is one. */
  get isListening(): boolean {
    return this.#server.isListening;
  }

  /** All names that have addresses, also from former runs, and belong to a resource now. */
  resolvedDomains(): readonly ResolvedDomain[] {
    return this.#resolver.resolvedDomains();
  }

  /** Stops answering and writes the file. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#cancelTimer();
    if (this.#cancelSave) this.#save();
    await Promise.all([this.#server.close(), this.#forwarders.close()]);
  }

  #update(change: () => boolean): void {
    if (!this.#do(change)) return;
    const servers = this.#resolver.sentinels.map(({ address, server }) =>
      `${address} for ${server.tag === "doh" ? server.url : server.address}`
    );
    if (servers.length === 0) this.#log.warn("There are no DNS servers to forward to");
    else this.#log.debug("DNS servers", { servers: servers.join(", ") });
    const sentinels = this.sentinels();
    this.#options.onSentinelsChanged?.(sentinels);
    this.#server.listen(sentinels);
  }

  /** Calls into the machine and does what it then wants. */
  #do<T>(input: (now: Millis) => T): T {
    const now = this.#clock.now();
    const result = input(now);
    if (this.#isClosed) return result;
    // Before the answers: whoever gets an address will use it at once.
    for (let event; (event = this.#resolver.pollEvent()) !== undefined;) this.#onEvent(event);
    for (let answer; (answer = this.#resolver.pollAnswer()) !== undefined;) {
      answer.to(answer.message);
    }
    for (let command; (command = this.#resolver.pollForward()) !== undefined;) {
      this.#forwarders.handle(command);
    }
    this.#arm(now);
    return result;
  }

  #onEvent(event: StubEvent): void {
    switch (event.tag) {
      case "domain-resolved":
        return this.#options.onDomainResolved(event.resolved);
      case "records-changed":
        this.#cancelSave ??= this.#options.recordsPath === undefined
          ? undefined
          : this.#clock.schedule(SAVE_DELAY_MS, () => this.#save());
        return;
      case "domain-evicted":
        if (!this.#hasEvicted) this.#log.warn("So many names are asked for that old ones make way");
        this.#hasEvicted = true;
        return this.#options.onDomainEvicted?.(event.domain);
      case "bad-pattern":
        return this.#log.warn("A resource's pattern makes no sense", {
          resource: event.resourceId,
          pattern: event.pattern,
        });
    }
  }

  #arm(now: Millis): void {
    const at = this.#resolver.pollTimeout();
    if (at === this.#timerAt) return;
    this.#cancelTimer();
    this.#timerAt = at;
    if (at === NEVER) this.#cancelTimer = () => {};
    else {
      this.#cancelTimer = this.#clock.schedule(Math.max(0, at - now), () => {
        this.#timerAt = NEVER;
        this.#do((now) => this.#resolver.handleTimeout(now));
      });
    }
  }

  #load(): readonly ProxyRecord[] {
    const path = this.#options.recordsPath;
    if (path === undefined) return [];
    const { records, problem } = loadRecords(path);
    if (problem) this.#log.warn("Cannot read all kept addresses", { path, problem });
    return records;
  }

  #save(): void {
    this.#cancelSave?.();
    this.#cancelSave = undefined;
    const path = this.#options.recordsPath!;
    try {
      saveRecords(path, this.#resolver.proxyRecords(MAX_RECORDS));
    } catch (error) {
      this.#log.warn("Cannot keep addresses", { path, error: (error as Error).message });
    }
  }
}

const realClock: DnsClock = {
  now: () => performance.now() as Millis,
  schedule(delayMs, fn) {
    // Timers may fire a little early; the deadline must have passed.
    const timer = setTimeout(fn, Math.ceil(delayMs) + 1);
    return () => clearTimeout(timer);
  },
};
