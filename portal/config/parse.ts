/**
 * From the text of a configuration file to a {@link PortalConfig}, or to the list of all mistakes.
 * @module
 */

import { namedUuid } from "../uuid.ts";
import type { Account, PortalConfig, Resource, Site } from "./config.ts";
import { ConfigDocument } from "./document.ts";
import type { Mistake } from "./mistake.ts";
import { checkReferences } from "./references.ts";
import { checkShape, type ConfigFile } from "./schema.ts";

/** A configuration, or everything that is wrong with the file. */
export type ParsedConfig =
  | { readonly ok: true; readonly config: PortalConfig }
  | { readonly ok: false; readonly mistakes: readonly Mistake[] };

/** Parses a `portal.json` or `portal.jsonc`, whatever its text; mistakes come in file order. */
export function parseConfig(text: string): ParsedConfig {
  const document = new ConfigDocument(text);
  if (document.value === undefined) return { ok: false, mistakes: document.mistakes };
  const mistakes = [...document.mistakes];
  const shape = checkShape(document.value);
  if ("issues" in shape) {
    for (const { path, atKey, message } of shape.issues) {
      mistakes.push(
        atKey ? document.mistakeAtKey(path, message) : document.mistakeAt(path, message),
      );
    }
  }
  checkReferences(document.value, (path, message) => {
    mistakes.push(document.mistakeAt(path, message));
  });
  if (mistakes.length > 0 || "issues" in shape) {
    mistakes.sort((a, b) => a.line - b.line || a.column - b.column);
    return { ok: false, mistakes };
  }
  return { ok: true, config: resolve(shape.file) };
}

/** Turns names into ids; every name is known to refer to something. */
function resolve(file: ConfigFile): PortalConfig {
  const sites = file.sites.map((site): Site => ({
    id: site.id ?? namedUuid("site", site.name),
    name: site.name,
    gatewayTokens: site.gateway_tokens,
  }));
  const accounts = file.accounts.map((account): Account => ({
    id: account.id ?? namedUuid("account", account.name),
    name: account.name,
    tokens: account.tokens,
    ...(account.expires_at !== undefined && { expiresAt: account.expires_at }),
  }));
  const siteIds = idsByName(sites);
  const resources = file.resources.map((resource) => toResource(resource, siteIds));
  const accountIds = idsByName(accounts);
  const resourceIds = idsByName(resources);
  return {
    accountSlug: file.account_slug,
    sites,
    relayTokens: file.relay_tokens,
    accounts,
    resources,
    policies: file.policies.map((policy) => ({
      id: namedUuid("policy", JSON.stringify(policy)),
      accountIds: toIds(policy.accounts, accountIds),
      resourceIds: toIds(policy.resources, resourceIds),
      ...(policy.expires_at !== undefined && { expiresAt: policy.expires_at }),
      ...(policy.remote_ip && { remoteIps: policy.remote_ip }),
    })),
    dns: {
      upstreamDo53: (file.dns.upstream ?? []).filter((s) => !s.doh).map((s) => s.text),
      upstreamDoh: (file.dns.upstream ?? []).filter((s) => s.doh).map((s) => s.text),
      searchDomain: file.dns.search_domain ?? null,
    },
  };
}

function toResource(
  resource: ConfigFile["resources"][number],
  siteIds: ReadonlyMap<string, string>,
): Resource {
  const base = {
    id: resource.id ?? namedUuid("resource", resource.name),
    name: resource.name,
    siteIds: toIds(resource.sites, siteIds),
  };
  if (resource.type === "internet") return { ...base, type: "internet" };
  return {
    ...base,
    type: resource.type === "dns" ? "dns" : "cidr",
    address: resource.address,
    addressDescription: resource.address_description,
    filters: resource.filters,
    ipStack: resource.type === "dns" ? resource.ip_stack : "dual",
  };
}

function idsByName(list: readonly { readonly id: string; readonly name: string }[]) {
  return new Map(list.map(({ id, name }) => [name, id]));
}

function toIds(names: readonly string[], ids: ReadonlyMap<string, string>): string[] {
  return names[0] === "*" ? [...ids.values()] : names.map((name) => ids.get(name)!);
}
