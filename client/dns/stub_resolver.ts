/**
 * The resolver that the operating system asks while the client runs, without its sockets.
 *
 *     query ──► canary ──► NXDOMAIN
 *           ├─► resolver.arpa ──────────────────► nothing
 *           ├─► name of the system ─────────────► a server of the system
 *           ├─► name of a DNS resource ─┬─ A, AAAA, ANY ──► proxy addresses
 *           │                           ├─ HTTPS, SVCB ───► nothing
 *           │                           └─ SRV, TXT ──────► a server in the resource's site
 *           ├─► PTR of a proxy address ─────────► the name it stands for
 *           └─► anything else ──────────────────► cache, or the server of the sentinel
 *
 * The real addresses of a resource never reach whoever asks: packets to them would bypass the
 * tunnel. That is why HTTPS and SVCB, which may hold addresses, are answered empty, and why ANY,
 * which holds everything, is answered like A and AAAA. Where others are asked about such a name and
 * deny that it exists, they are only believed as to the type: caches take NXDOMAIN for all types, and
 * would deny the addresses, too.
 *
 * Owns: what is answered, deadlines, proxy addresses, the cache. Does not own: sockets, who is
 * allowed to ask, where records are kept.
 * @module
 */

import {
  type AnswerRecord,
  asNoData,
  CLASS_IN,
  type DnsQuery,
  effectiveServers,
  encodeName,
  forwardedQuery,
  isAnswerTo,
  makeAnswer,
  NamePattern,
  parseQuery,
  PatternTable,
  ProxyAddresses,
  proxyAddressesOf,
  type ProxyRecord,
  type Question,
  Rcode,
  RecordType,
  ResponseCache,
  returnedAnswer,
  type Sentinel,
  SentinelMap,
  serverKey,
  truncateAnswer,
  type UpstreamServer,
} from "@firezone/core/dns";
import type { IpAddress, SocketAddress } from "@firezone/core/ip";
import type { IpStack } from "@firezone/core/portal";
import type { RandomBytes } from "@firezone/core/random";
import { after, type Millis } from "@firezone/core/units";
import { Deadlines } from "@firezone/core/deadlines";
import { hasFamily } from "../ip_stack.ts";
import { reverseLookupAddress } from "./reverse_name.ts";

/** How a query came, and how it is forwarded. */
export type DnsTransport = "udp" | "tcp";

/** A DNS resource, as far as names go. */
export interface DnsResource {
  /** The portal's id. */
  readonly id: string;
  /** `example.com`, `*.example.com`, `**.example.com`. */
  readonly pattern: string;
  /** The families that are answered. */
  readonly ipStack: IpStack;
}

/** Where a query is forwarded to. */
export type ForwardTarget = UpstreamServer | {
  /** A resolver beside a resource. */
  readonly tag: "site";
  /** That resource. */
  readonly resourceId: string;
};

/** What the owner does with its sockets. */
export type ForwardCommand =
  | {
    /** Send this and pass what comes back to {@link StubResolver.handleResponse}. */
    readonly tag: "start";
    /** Names the exchange. */
    readonly forwardId: number;
    /** To whom. */
    readonly target: ForwardTarget;
    /** How. */
    readonly transport: DnsTransport;
    /** The query. */
    readonly message: Uint8Array;
  }
  | {
    /** Nobody waits any longer: close its socket. */
    readonly tag: "stop";
    /** The exchange. */
    readonly forwardId: number;
  };

/** A name of resources with its addresses. */
export interface ResolvedDomain {
  /** The name, in lower case. */
  readonly domain: string;
  /** The slot of its proxy addresses; see `proxyAddressesOf`. */
  readonly slot: number;
  /** Resources that it belongs to, the one with the most specific pattern first. */
  readonly resourceIds: readonly string[];
}

/** What the owner must know. */
export type StubEvent =
  | {
    /** The addresses of a resource's name were asked for; this is told every time. */
    readonly tag: "domain-resolved";
    /** The name. */
    readonly resolved: ResolvedDomain;
  }
  | {
    /** Something to keep: see {@link StubResolver.proxyRecords}. */
    readonly tag: "records-changed";
  }
  | {
    /** It has lost its proxy addresses to names that are asked for. */
    readonly tag: "domain-evicted";
    /** The name. */
    readonly domain: string;
  }
  | {
    /** A resource's pattern makes no sense, so the resource has no names. */
    readonly tag: "bad-pattern";
    /** The resource. */
    readonly resourceId: string;
    /** The pattern. */
    readonly pattern: string;
  };

/** What a resolver is made of. */
export interface StubResolverOptions {
  /** For the ids of forwarded queries; unpredictable. */
  readonly random: RandomBytes;
  /** Proxy addresses that a former process assigned. */
  readonly records?: Iterable<ProxyRecord>;
  /** Names that are always asked of the system's servers: the portal's, without which we are lost. */
  readonly systemNames?: readonly string[];
  /** How many names may have addresses; for tests. */
  readonly maxNames?: number;
}

/** How long a server may take. */
export const QUERY_TIMEOUT_MS = 5000;
/** Queries that wait for servers at the same time. */
export const MAX_IN_FLIGHT = 1000;

/** Mozilla's sign that applications should leave DNS to the system. */
const CANARY = "use-application-dns.net";
/**
 * Where encrypted servers are discovered (RFC 9462 §6.4: not to be forwarded). Whoever turned to one
 * of those would not ask us any more.
 */
const DISCOVERY = "resolver.arpa";
/** Short, so that programs ask again and we learn which names are in use. */
const RESOURCE_TTL_SECONDS = 1;

/** A query that waits for a server. */
interface Pending<Client> {
  readonly client: Client;
  readonly transport: DnsTransport;
  readonly query: DnsQuery;
  /** The id it was sent with. */
  readonly wireId: number;
  readonly target: ForwardTarget;
  /** Other servers to try if this one fails. */
  readonly others: readonly ForwardTarget[];
  /** When the last of them must have answered. */
  readonly giveUpAt: Millis;
}

/** See the head of this file. `Client` is whatever tells the owner where an answer goes. */
export class StubResolver<Client> {
  readonly #random: RandomBytes;
  readonly #systemNames: ReadonlySet<string>;
  readonly #proxies: ProxyAddresses;
  readonly #sentinels = new SentinelMap();
  readonly #cache = new ResponseCache();
  readonly #pending = new Map<number, Pending<Client>>();
  readonly #deadlines = new Deadlines<number>();
  readonly #answers: { readonly to: Client; readonly message: Uint8Array }[] = [];
  readonly #forwards: ForwardCommand[] = [];
  readonly #events: StubEvent[] = [];
  #resources = new PatternTable<DnsResource>([]);
  #upstreamDns: readonly SocketAddress[] = [];
  #upstreamDoh: readonly string[] = [];
  #searchDomain: string | undefined;
  #system: readonly IpAddress[] = [];
  #nextForwardId = 0;

  /** A resolver that knows neither servers nor resources. */
  constructor(options: StubResolverOptions) {
    this.#random = options.random;
    this.#systemNames = new Set(options.systemNames?.map((name) => toName(name)));
    const { records, maxNames } = options;
    this.#proxies = new ProxyAddresses(records, maxNames === undefined ? {} : { maxNames });
  }

  // ---- configuration

  /** Addresses to listen on, each with the server behind it. */
  get sentinels(): readonly Sentinel[] {
    return this.#sentinels.sentinels;
  }

  /** Takes what the portal says about DNS. @returns whether the sentinels are others now */
  setInterface(
    upstreamDns: readonly SocketAddress[],
    upstreamDoh: readonly string[],
    searchDomain: string | undefined,
  ): boolean {
    this.#upstreamDns = upstreamDns;
    this.#upstreamDoh = upstreamDoh;
    this.#searchDomain = searchDomain === undefined ? undefined : toName(searchDomain);
    return this.#updateServers();
  }

  /** Takes the servers that the system uses by itself. @returns whether the sentinels are others now */
  setSystemServers(servers: readonly IpAddress[]): boolean {
    this.#system = servers;
    return this.#updateServers();
  }

  /** Takes all DNS resources; former ones are forgotten, their proxy addresses are not. */
  setResources(resources: readonly DnsResource[]): void {
    const entries: [NamePattern, DnsResource][] = [];
    for (const resource of resources) {
      const pattern = NamePattern.parse(resource.pattern);
      if (pattern) entries.push([pattern, resource]);
      else {
        this.#events.push({
          tag: "bad-pattern",
          resourceId: resource.id,
          pattern: resource.pattern,
        });
      }
    }
    this.#resources = new PatternTable(entries);
    this.#cache.flush();
  }

  /** The network is another: asks again for what is still wanted, and forgets what was said before. */
  handleNetworkChange(now: Millis): void {
    this.#cache.flush();
    for (const [forwardId, pending] of [...this.#pending]) {
      this.#stop(forwardId);
      this.#start(now, pending, pending.target, pending.others, pending.giveUpAt);
    }
  }

  /** What to keep for the next process, names asked for longest ago first. */
  proxyRecords(limit?: number): ProxyRecord[] {
    return this.#proxies.records(limit);
  }

  /** All proxy addresses and the resources that they belong to now. */
  resolvedDomains(): ResolvedDomain[] {
    return this.#proxies.records().flatMap(({ domain, slot }) => {
      const resourceIds = this.#resources.matching(domain).map(({ value }) => value.id);
      return resourceIds.length === 0 ? [] : [{ domain, slot, resourceIds }];
    });
  }

  // ---- queries

  /**
   * Takes what came to one of our sentinels.
   *
   * @param client comes back with the answer; there may be none, for bytes that are no query
   * @param bytes kept until the answer
   */
  handleQuery(
    now: Millis,
    client: Client,
    transport: DnsTransport,
    sentinel: IpAddress,
    bytes: Uint8Array,
  ): void {
    const parsed = parseQuery(bytes);
    if (parsed.tag === "ignored") return;
    if (parsed.tag === "refused") {
      this.#answers.push({ to: client, message: parsed.answer });
      return;
    }
    const { query } = parsed;
    const { name } = query.question;
    const asked = { client, transport, query };
    const server = this.#sentinels.serverOf(sentinel);
    if (name === CANARY) return this.#answer(asked, makeAnswer(query, Rcode.NxDomain));
    if (name === DISCOVERY || name.endsWith(`.${DISCOVERY}`)) {
      return this.#answer(asked, makeAnswer(query, Rcode.NoError));
    }
    if (this.#systemNames.has(name)) return this.#askSystem(now, asked, server);
    if (query.question.class === CLASS_IN) {
      if (this.#answerForResource(now, asked) || this.#answerReverse(asked)) return;
    }
    this.#forward(now, asked, server);
  }

  /**
   * Answers what was asked of all neighbours of a link (LLMNR): addresses of resources alone.
   *
   * @returns undefined for anything else: other neighbours may know (RFC 4795 §2.1.1)
   */
  answerNeighbour(bytes: Uint8Array): Uint8Array | undefined {
    const parsed = parseQuery(bytes);
    if (parsed.tag !== "query") return undefined;
    const { question } = parsed.query;
    const isOfAddress = question.type === RecordType.A || question.type === RecordType.AAAA ||
      question.type === RecordType.ANY;
    if (!isOfAddress || question.class !== CLASS_IN || !question.isHostLike) return undefined;
    const { domain, matches } = this.#match(question.name);
    if (matches.length === 0) return undefined;
    const records = this.#addressRecords(question, domain, matches.map(({ value }) => value));
    return makeAnswer(parsed.query, Rcode.NoError, records);
  }

  /** Takes what a server sent. @returns whether it answers that query; else go on listening */
  handleResponse(now: Millis, forwardId: number, message: Uint8Array): boolean {
    const pending = this.#pending.get(forwardId);
    if (!pending || !isAnswerTo(message, pending.query, pending.wireId)) return false;
    if (pending.target.tag !== "site") {
      this.#cache.put(now, serverKey(pending.target), pending.query, message);
    }
    this.#stop(forwardId);
    const answer = returnedAnswer(message, pending.query.id);
    const { name, class: qclass } = pending.query.question;
    const isOfResource = qclass === CLASS_IN && this.#match(name).matches.length > 0;
    if (isOfResource && !this.#systemNames.has(name)) asNoData(answer);
    this.#answer(pending, answer);
    return true;
  }

  /** The server cannot be reached or broke the connection. */
  handleFailure(now: Millis, forwardId: number): void {
    const pending = this.#pending.get(forwardId);
    if (!pending) return;
    this.#stop(forwardId);
    const [next, ...others] = pending.others;
    if (next) this.#start(now, pending, next, others, pending.giveUpAt);
    else this.#fail(pending);
  }

  /** Gives up on servers that took too long. */
  handleTimeout(now: Millis): void {
    for (let due; (due = this.#deadlines.takeDue(now)) !== undefined;) this.handleFailure(now, due);
  }

  /** When {@link handleTimeout} is to be called. */
  pollTimeout(): Millis {
    return this.#deadlines.next;
  }

  /** The next answer to give. */
  pollAnswer(): { readonly to: Client; readonly message: Uint8Array } | undefined {
    return this.#answers.shift();
  }

  /** The next thing to do with sockets. */
  pollForward(): ForwardCommand | undefined {
    return this.#forwards.shift();
  }

  /** The next thing that the owner must know. */
  pollEvent(): StubEvent | undefined {
    return this.#events.shift();
  }

  // ---- answers of our own

  /** Answers or forwards a query for a name of a resource; false when it is none. */
  #answerForResource(now: Millis, asked: Asked<Client>): boolean {
    const { type, name, isHostLike } = asked.query.question;
    if (!isHostLike || name === "") return false;
    const { domain, matches } = this.#match(name);
    if (matches.length === 0) return false;
    switch (type) {
      case RecordType.A:
      case RecordType.AAAA:
      case RecordType.ANY: {
        const resources = matches.map(({ value }) => value);
        const records = this.#addressRecords(asked.query.question, domain, resources);
        this.#answer(asked, makeAnswer(asked.query, Rcode.NoError, records));
        return true;
      }
      case RecordType.HTTPS:
      case RecordType.SVCB:
        this.#answer(asked, makeAnswer(asked.query, Rcode.NoError));
        return true;
      case RecordType.SRV:
      case RecordType.TXT: {
        const target: ForwardTarget = { tag: "site", resourceId: matches[0]!.value.id };
        this.#start(now, asked, target, [], after(now, QUERY_TIMEOUT_MS));
        return true;
      }
      default:
        return false;
    }
  }

  /**
   * The resources of a name. A name of one label that belongs to none is tried with the search
   * domain, for programs whose resolver library does not.
   */
  #match(name: string) {
    const matches = this.#resources.matching(name);
    if (matches.length > 0 || this.#searchDomain === undefined || name.includes(".")) {
      return { domain: name, matches };
    }
    const domain = `${name}.${this.#searchDomain}`;
    return { domain, matches: this.#resources.matching(domain) };
  }

  /** The families of all resources of a name: which of them a packet takes is decided by packet. */
  #addressRecords(
    { type }: Question,
    domain: string,
    resources: readonly DnsResource[],
  ): AnswerRecord[] {
    const isNew = !this.#proxies.has(domain);
    const slot = this.#proxies.assign(domain);
    for (let evicted; (evicted = this.#proxies.pollEvicted()) !== undefined;) {
      this.#events.push({ tag: "domain-evicted", domain: evicted });
    }
    if (isNew) this.#events.push({ tag: "records-changed" });
    const resourceIds = resources.map(({ id }) => id);
    this.#events.push({ tag: "domain-resolved", resolved: { domain, slot, resourceIds } });
    return proxyAddressesOf(slot)
      .filter(({ family }) => resources.some(({ ipStack }) => hasFamily(ipStack, family)))
      .map(({ family, bytes }): AnswerRecord => ({
        type: family === 4 ? RecordType.A : RecordType.AAAA,
        ttlSeconds: RESOURCE_TTL_SECONDS,
        data: bytes,
      }))
      .filter((record) => type === RecordType.ANY || record.type === type);
  }

  /** Answers which name a proxy address stands for; false when it stands for none. */
  #answerReverse(asked: Asked<Client>): boolean {
    if (asked.query.question.type !== RecordType.PTR) return false;
    const ip = reverseLookupAddress(asked.query.question.name);
    const domain = ip && this.#proxies.domainOf(ip);
    // An address whose resource is gone means nothing any more.
    if (domain === undefined || this.#resources.matching(domain).length === 0) return false;
    const data = encodeName(domain);
    if (!data) return false;
    const record = { type: RecordType.PTR, ttlSeconds: RESOURCE_TTL_SECONDS, data };
    this.#answer(asked, makeAnswer(asked.query, Rcode.NoError, [record]));
    return true;
  }

  // ---- answers of others

  #askSystem(now: Millis, asked: Asked<Client>, server: UpstreamServer | undefined): void {
    const [first, ...others] = effectiveServers({
      upstreamDns: [],
      upstreamDoh: [],
      system: this.#system,
    });
    if (first) this.#start(now, asked, first, others, after(now, QUERY_TIMEOUT_MS));
    else this.#forward(now, asked, server);
  }

  #forward(now: Millis, asked: Asked<Client>, server: UpstreamServer | undefined): void {
    if (!server) return this.#fail(asked);
    const cached = this.#cache.get(now, serverKey(server), asked.query);
    if (cached) this.#answer(asked, cached);
    else this.#start(now, asked, server, [], after(now, QUERY_TIMEOUT_MS));
  }

  #start(
    now: Millis,
    { client, transport, query }: Asked<Client>,
    target: ForwardTarget,
    others: readonly ForwardTarget[],
    giveUpAt: Millis,
  ): void {
    if (this.#pending.size >= MAX_IN_FLIGHT || giveUpAt <= now) {
      return this.#fail({ client, transport, query });
    }
    const forwardId = this.#nextForwardId++;
    // RFC 8484 §4.1: over HTTPS the id says nothing and spoils caches.
    const [high, low] = target.tag === "doh" ? [0, 0] : this.#random(2);
    const wireId = high! << 8 | low!;
    const pending = { client, transport, query, wireId, target, others, giveUpAt };
    this.#pending.set(forwardId, pending);
    // Whoever asks waits for so long only, so servers that are silent share the time.
    const shareMs = Math.ceil((giveUpAt - now) / (1 + others.length));
    this.#deadlines.set(forwardId, after(now, shareMs));
    const message = forwardedQuery(query, wireId);
    this.#forwards.push({ tag: "start", forwardId, target, transport, message });
  }

  #stop(forwardId: number): void {
    this.#pending.delete(forwardId);
    this.#deadlines.delete(forwardId);
    this.#forwards.push({ tag: "stop", forwardId });
  }

  #fail(asked: Asked<Client>): void {
    this.#answer(asked, makeAnswer(asked.query, Rcode.ServFail));
  }

  #answer({ client, transport, query }: Asked<Client>, message: Uint8Array): void {
    const fitting = transport === "udp" ? truncateAnswer(message, query.maxAnswer) : message;
    this.#answers.push({ to: client, message: fitting });
  }

  #updateServers(): boolean {
    const changed = this.#sentinels.update(effectiveServers({
      upstreamDns: this.#upstreamDns,
      upstreamDoh: this.#upstreamDoh,
      system: this.#system,
    }));
    if (changed) this.#cache.flush();
    return changed;
  }
}

/** A query and who waits for its answer. */
interface Asked<Client> {
  readonly client: Client;
  readonly transport: DnsTransport;
  readonly query: DnsQuery;
}

function toName(text: string): string {
  return text.replace(/\.$/, "").toLowerCase();
}
