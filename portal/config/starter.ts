/**
 * The file that `firezone-portal init` writes.
 * @module
 */

import { base32 } from "@firezone/core/bytes";
import type { RandomBytes } from "@firezone/core/random";

/** A fresh token: 160 bits, behind a word that says what it is for. */
export function newToken(purpose: "gateway" | "relay" | "client", random: RandomBytes): string {
  return `${purpose}-${base32(random(20))}`;
}

/** A commented configuration with fresh tokens that is valid as it stands. */
export function starterConfig(random: RandomBytes): string {
  return `// Configuration of firezone-portal. Comments and trailing commas are welcome.
// A running portal notices when this file changes. It applies a valid file at once and keeps the
// last valid one otherwise, so "firezone-portal check" is not needed but friendly.
//
// Every token here is a secret. Instead of a token you may write its hash, "sha256:<64 hex digits>":
//     printf %s "$TOKEN" | sha256sum
{
  // Short name of this installation.
  "account_slug": "home",

  // A site is a place with one or more gateways that reach the same networks.
  // Start a gateway there with FIREZONE_TOKEN set to one of the site's tokens.
  "sites": [
    {
      "name": "office",
      "gateway_tokens": ["${newToken("gateway", random)}"],
    },
  ],

  // Relays carry the traffic of clients and gateways that cannot reach each other directly.
  "relay_tokens": ["${newToken("relay", random)}"],

  // Whoever shows one of an account's tokens is that account. An account may have many devices.
  "accounts": [
    {
      "name": "laptop",
      "tokens": ["${newToken("client", random)}"],
      // "expires_at": "2027-12-31T23:59:59Z",
    },
  ],

  // What can be reached, and through which sites. Types: "cidr", "ip", "dns", "internet".
  // Filters let destination ports through: "tcp/80", "udp/53-60", "tcp", "icmp"; none: everything.
  "resources": [
    {
      "name": "office network",
      "type": "cidr",
      "address": "10.0.0.0/24",
      "address_description": "the network behind the office's gateway",
      "sites": ["office"],
    },
    {
      "name": "wiki",
      "type": "dns",
      "address": "wiki.example.com", // "*.example.com" covers every name one level below, "**." all
      "sites": ["office"],
      "filters": ["tcp/80", "tcp/443", "icmp"],
      // "ip_stack": "ipv4_only",
    },
    // { "name": "printer", "type": "ip", "address": "10.0.0.9", "sites": ["office"] },
    // { "type": "internet", "sites": ["office"] },
  ],

  // Who reaches what. "*" means all. Nothing is reachable without a policy.
  "policies": [
    { "accounts": ["laptop"], "resources": ["office network", "wiki"] },
    // {
    //   "accounts": ["*"],
    //   "resources": ["printer"],
    //   "expires_at": "2027-01-31T18:00:00Z",
    //   "remote_ip": ["198.51.100.0/24"], // where clients must connect from
    // },
  ],

  // Whom clients ask for names that are no resource; none: what their system asks.
  "dns": {
    "upstream": [], // ["9.9.9.9"] or ["https://dns.quad9.net/dns-query"]
    // "search_domain": "example.com",
  },
}
`;
}
