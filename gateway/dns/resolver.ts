/**
 * Resolves names for clients the way the gateway's machine does: `/etc/hosts`, then the name servers
 * of `/etc/resolv.conf`, over TCP where an answer does not fit. Both files are read anew each time.
 *
 * By the runtime's own resolver (`Deno.resolveDns`) and not by `getaddrinfo`, which would also know
 * `nsswitch.conf`: that one blocks a thread per name, and 32 names that nobody answers bring every
 * other task of the runtime's thread pool to a halt for a minute.
 *
 *     │ A    ├────────┤ answered
 *     │ AAAA ├──────────────────┤ waited for GRACE_MS after the other, LIMIT_MS in all
 * @module
 */

/** Asks for the addresses of one family; rejects when nobody can say whether there are any. */
export type LookUp = (
  domain: string,
  type: "A" | "AAAA",
  signal: AbortSignal,
) => Promise<readonly string[]>;

/** What a resolver is made of. */
export interface SystemResolverOptions {
  /** Asks the system; for tests. */
  readonly lookUp?: LookUp;
  /** Milliseconds that only go forward; for tests. */
  readonly now?: () => number;
  /** How long the slower family is waited for once the other is there; for tests. */
  readonly graceMs?: number;
  /** How long a name may take; for tests. */
  readonly limitMs?: number;
}

/** How long a name may take. */
export const RESOLVE_LIMIT_MS = 10_000;

/** Some servers never answer queries for AAAA. */
const GRACE_MS = 2_000;

/** Many clients of one name ask at the same time, and each asks again and again. */
const KEEP_MS = 5_000;
const MAX_KEPT = 1_000;
const MAX_PENDING = 1_000;

interface Kept {
  readonly addresses: readonly string[];
  readonly until: number;
}

/** See the head of this file. */
export class SystemResolver {
  readonly #lookUp: LookUp;
  readonly #now: () => number;
  readonly #graceMs: number;
  readonly #limitMs: number;
  readonly #pending = new Map<string, Promise<readonly string[]>>();
  /** The oldest first. */
  readonly #kept = new Map<string, Kept>();

  /** Asks the system, unless told otherwise. */
  constructor(options: SystemResolverOptions = {}) {
    this.#lookUp = options.lookUp ?? systemLookUp;
    this.#now = options.now ?? (() => performance.now());
    this.#graceMs = options.graceMs ?? GRACE_MS;
    this.#limitMs = options.limitMs ?? RESOLVE_LIMIT_MS;
  }

  /**
   * The addresses of a name, of both families.
   *
   * @param domain in lower case and without a final dot
   * @returns empty when there are none; rejects when nobody could say, because it took too long, too
   *   many ask, or the name servers cannot be asked
   */
  resolve(domain: string): Promise<readonly string[]> {
    const kept = this.#kept.get(domain);
    if (kept && this.#now() < kept.until) return Promise.resolve(kept.addresses);
    const pending = this.#pending.get(domain);
    if (pending) return pending;
    if (this.#pending.size >= MAX_PENDING) {
      return Promise.reject(new Error(`${MAX_PENDING} names are being resolved already`));
    }
    const asked = this.#ask(domain)
      .then((addresses) => addresses.length > 0 ? this.#keep(domain, addresses) : addresses)
      .finally(() => this.#pending.delete(domain));
    this.#pending.set(domain, asked);
    return asked;
  }

  #keep(domain: string, addresses: readonly string[]): readonly string[] {
    this.#kept.delete(domain);
    if (this.#kept.size >= MAX_KEPT) this.#kept.delete(this.#kept.keys().next().value!);
    this.#kept.set(domain, { addresses, until: this.#now() + KEEP_MS });
    return addresses;
  }

  async #ask(domain: string): Promise<readonly string[]> {
    const stop = new AbortController();
    let timer = setTimeout(() => stop.abort(), this.#limitMs);
    const family = async (type: "A" | "AAAA") => {
      const addresses = await this.#lookUp(domain, type, stop.signal);
      if (addresses.length === 0) return addresses;
      clearTimeout(timer);
      timer = setTimeout(() => stop.abort(), this.#graceMs);
      return addresses;
    };
    try {
      const results = await Promise.allSettled([family("A"), family("AAAA")]);
      const addresses = results.flatMap((r) => r.status === "fulfilled" ? r.value : []);
      if (addresses.length > 0) return addresses;
      if (stop.signal.aborted) throw new Error(`${domain}: no answer in ${this.#limitMs} ms`);
      const failed = results.find((result) => result.status === "rejected");
      if (failed) throw failed.reason;
      return [];
    } finally {
      clearTimeout(timer);
    }
  }
}

/**
 * A name with dots is complete; one without is looked for in the system's search domains. What a
 * server refuses to say (SERVFAIL) the runtime does not tell from what does not exist.
 */
async function systemLookUp(
  domain: string,
  type: "A" | "AAAA",
  signal: AbortSignal,
): Promise<string[]> {
  const name = domain.includes(".") ? `${domain}.` : domain;
  try {
    return await Deno.resolveDns(name, type, { signal });
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
}
