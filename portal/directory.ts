/**
 * A configuration made ready for questions: whose token is this, may this account reach that.
 * @module
 */

import type { IpAddress } from "@firezone/core/ip";
import type { UnixSeconds } from "@firezone/core/units";
import type { Account, Policy, PortalConfig, Resource, Site, TokenHash } from "./config/config.ts";

/** What lasts as long as there is no other limit: 2038-01-01, as far as 32-bit peers can count. */
export const FAR_FUTURE = 2_145_916_800 as UnixSeconds;

/** Whom a token stands for. */
export type Bearer =
  | { readonly role: "client"; readonly account: Account }
  | { readonly role: "gateway"; readonly site: Site }
  | { readonly role: "relay" };

/** Whether an account may reach a resource, and how long. */
export type Access =
  | { readonly tag: "granted"; readonly policyId: string; readonly expiresAt: UnixSeconds }
  /** No policy in force names the two. */
  | { readonly tag: "not_found" }
  /** Policies do, but the client does not fulfil their conditions. */
  | { readonly tag: "forbidden"; readonly violatedProperties: readonly string[] };

/** Answers questions about one configuration. */
export class Directory {
  /** The configuration itself. */
  readonly config: PortalConfig;
  readonly #bearers = new Map<TokenHash, Bearer>();
  readonly #accounts: ReadonlyMap<string, Account>;
  readonly #sites: ReadonlyMap<string, Site>;
  readonly #resources: ReadonlyMap<string, Resource>;
  readonly #policies = new Map<string, Policy[]>();

  /** Indexes a configuration. */
  constructor(config: PortalConfig) {
    this.config = config;
    this.#accounts = new Map(config.accounts.map((account) => [account.id, account]));
    this.#sites = new Map(config.sites.map((site) => [site.id, site]));
    this.#resources = new Map(config.resources.map((resource) => [resource.id, resource]));
    for (const account of config.accounts) {
      for (const token of account.tokens) this.#bearers.set(token, { role: "client", account });
    }
    for (const site of config.sites) {
      for (const token of site.gatewayTokens) this.#bearers.set(token, { role: "gateway", site });
    }
    for (const token of config.relayTokens) this.#bearers.set(token, { role: "relay" });
    for (const policy of config.policies) {
      for (const accountId of policy.accountIds) {
        for (const resourceId of policy.resourceIds) {
          const key = pairKey(accountId, resourceId);
          this.#policies.set(key, [...this.#policies.get(key) ?? [], policy]);
        }
      }
    }
  }

  /** Whom a token stands for, if anyone. */
  bearer(token: TokenHash): Bearer | undefined {
    return this.#bearers.get(token);
  }

  /** The account with this id. */
  account(id: string): Account | undefined {
    return this.#accounts.get(id);
  }

  /** The site with this id. */
  site(id: string): Site | undefined {
    return this.#sites.get(id);
  }

  /** The resource with this id. */
  resource(id: string): Resource | undefined {
    return this.#resources.get(id);
  }

  /** Whether an account that connects from `remoteIp` may reach a resource at this moment. */
  access(
    at: UnixSeconds,
    accountId: string,
    resourceId: string,
    remoteIp: IpAddress | undefined,
  ): Access {
    const accountEnd = this.#accounts.get(accountId)?.expiresAt ?? FAR_FUTURE;
    const policies = (this.#policies.get(pairKey(accountId, resourceId)) ?? [])
      .filter((policy) => (policy.expiresAt ?? FAR_FUTURE) > at);
    if (policies.length === 0 || accountEnd <= at) return { tag: "not_found" };
    let best: Extract<Access, { tag: "granted" }> | undefined;
    for (const policy of policies) {
      if (!coversAddress(policy, remoteIp)) continue;
      const end = Math.min(policy.expiresAt ?? FAR_FUTURE, accountEnd) as UnixSeconds;
      if (best === undefined || end > best.expiresAt) {
        best = { tag: "granted", policyId: policy.id, expiresAt: end };
      }
    }
    return best ?? { tag: "forbidden", violatedProperties: ["remote_ip"] };
  }

  /** What an account may reach, in the order of the file. */
  resourcesOf(
    at: UnixSeconds,
    accountId: string,
    remoteIp: IpAddress | undefined,
  ): readonly Resource[] {
    return this.config.resources.filter((resource) =>
      this.access(at, accountId, resource.id, remoteIp).tag === "granted"
    );
  }

  /** The next moment after `at` at which a policy or an account ends. */
  nextEnd(at: UnixSeconds): UnixSeconds | undefined {
    const ends = [...this.config.policies, ...this.config.accounts]
      .flatMap(({ expiresAt }) => expiresAt ?? [])
      .filter((end) => end > at);
    return ends.length === 0 ? undefined : Math.min(...ends) as UnixSeconds;
  }
}

function pairKey(accountId: string, resourceId: string): string {
  return `${accountId} ${resourceId}`;
}

function coversAddress(policy: Policy, remoteIp: IpAddress | undefined): boolean {
  if (policy.remoteIps === undefined) return true;
  return remoteIp !== undefined && policy.remoteIps.some((range) => range.contains(remoteIp));
}
