/**
 * Sentinels: addresses of our own that the operating system is told to ask, each standing for one
 * DNS server that we forward to.
 * @module
 */

import { IpAddress, type Prefix, prefix, SocketAddress } from "../ip/address.ts";

/** Sentinels are taken from here, from .1 upward. */
export const SENTINEL_RANGE_V4: Prefix = prefix("100.100.111.0/24");
/** See {@link SENTINEL_RANGE_V4}. */
export const SENTINEL_RANGE_V6: Prefix = prefix("fd00:2021:1111:8000:100:100:111:0/120");

const DNS_PORT = 53;
const MAX_PER_FAMILY = 254;

/** A server that queries are forwarded to. */
export type UpstreamServer =
  | {
    /** The portal named it: it may lie behind the tunnel. Or the system did: it never does. */
    readonly tag: "portal" | "system";
    /** Where it listens. */
    readonly address: SocketAddress;
  }
  | {
    /** It speaks DNS over HTTPS. */
    readonly tag: "doh";
    /** Its endpoint. */
    readonly url: string;
  };

/** An address of ours and the server that it stands for. */
export interface Sentinel {
  /** Ours. */
  readonly address: IpAddress;
  /** Theirs. */
  readonly server: UpstreamServer;
}

/** Whether an address lies in the ranges of sentinels. */
export function isSentinel(ip: IpAddress): boolean {
  return SENTINEL_RANGE_V4.contains(ip) || SENTINEL_RANGE_V6.contains(ip);
}

/**
 * The servers to use, in order and without repetitions: plain ones of the portal, or else its
 * HTTPS ones, or else those of the system. Sentinels are left out: asking them would be asking us.
 */
export function effectiveServers(from: {
  readonly upstreamDns: readonly SocketAddress[];
  readonly upstreamDoh: readonly string[];
  readonly system: readonly IpAddress[];
}): UpstreamServer[] {
  const plain = from.upstreamDns.map((address): UpstreamServer => ({ tag: "portal", address }));
  const doh = from.upstreamDoh.map((url): UpstreamServer => ({ tag: "doh", url }));
  const system = from.system.map((ip): UpstreamServer => ({
    tag: "system",
    address: new SocketAddress(ip, DNS_PORT),
  }));
  for (const candidates of [plain, doh, system]) {
    const distinct = new Map<string, UpstreamServer>();
    for (const server of candidates) {
      if (server.tag !== "doh" && isSentinel(server.address.ip)) continue;
      const key = serverKey(server);
      if (!distinct.has(key)) distinct.set(key, server);
    }
    if (distinct.size > 0) return [...distinct.values()];
  }
  return [];
}

/** Text that is the same for the same server. */
export function serverKey(server: UpstreamServer): string {
  return server.tag === "doh" ? `doh ${server.url}` : `${server.tag} ${server.address.key}`;
}

/** Which sentinel stands for which server. */
export class SentinelMap {
  #sentinels: readonly Sentinel[] = [];
  #byAddress = new Map<string, UpstreamServer>();
  #keys = "";

  /** The sentinels in the order of their servers. */
  get sentinels(): readonly Sentinel[] {
    return this.#sentinels;
  }

  /** The server that a sentinel stands for. */
  serverOf(address: IpAddress): UpstreamServer | undefined {
    return this.#byAddress.get(address.text);
  }

  /**
   * Gives every server a sentinel, none that was in use before: whoever remembers what the former
   * servers said must not take it for the words of the new ones. One set of servers keeps its
   * sentinels, in whatever order they are given.
   *
   * @param servers distinct; the first 254 per family are used
   * @returns whether anything changed
   */
  update(servers: readonly UpstreamServer[]): boolean {
    const keys = servers.map(serverKey).sort().join("\n");
    if (keys === this.#keys) return false;
    const former = new Set(this.#byAddress.keys());
    const next = {
      4: candidates(SENTINEL_RANGE_V4, former),
      6: candidates(SENTINEL_RANGE_V6, former),
    };
    const sentinels: Sentinel[] = [];
    for (const server of servers) {
      const family = server.tag === "doh" ? 4 : server.address.family;
      const address = next[family].next().value;
      if (address) sentinels.push({ address, server });
    }
    this.#keys = keys;
    this.#sentinels = sentinels;
    this.#byAddress = new Map(sentinels.map(({ address, server }) => [address.text, server]));
    return true;
  }
}

/** Free addresses of a range, from the second on; when they run out, those of the former mapping. */
function* candidates(range: Prefix, former: ReadonlySet<string>): Generator<IpAddress, undefined> {
  const all = Array.from({ length: MAX_PER_FAMILY }, (_, i) => {
    const bytes = range.ip.bytes.slice();
    bytes[bytes.length - 1] = i + 1;
    return new IpAddress(bytes);
  });
  yield* all.filter((ip) => !former.has(ip.text));
  yield* all.filter((ip) => former.has(ip.text));
  return undefined;
}
