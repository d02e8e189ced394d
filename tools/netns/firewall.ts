/**
 * Packet filter rules of the namespace it runs in; `nft` need not be installed.
 *
 *     firewall.ts masquerade INTERFACE [random] translate what leaves there, drop what comes unasked
 *     firewall.ts drop-udp-between A B [C D …]  drop UDP both ways between A and B, C and D, …
 *     firewall.ts clear                         take the drops away
 *
 * With `random` each flow leaves from a port of its own, as behind a symmetric NAT.
 * @module
 */

import { parsePrefix, type Prefix } from "@firezone/core/ip";
import { NfPriority, type NfRule, NfTables } from "@firezone/core/os/linux";

const [command, ...args] = Deno.args;
using tables = new NfTables();
switch (command) {
  case "masquerade":
    masquerade(args[0]!, args[1] === "random");
    break;
  case "drop-udp-between":
    dropUdpBetween(args.map(toHost));
    break;
  case "clear":
    tables.removeTable("inet", "drops");
    break;
  default:
    throw new Error(`Unknown command ${command}`);
}

function masquerade(name: string, randomPorts: boolean): void {
  const out = { tag: "output-interface", name } as const;
  const unasked = (protocol: "tcp" | "udp"): NfRule => ({
    // A datagram that nobody waits for must not reach the translator itself: it would be remembered
    // as a flow and keep the port from the one inside that is about to use it.
    matches: [{ tag: "input-interface", name }, { tag: "protocol", protocol }],
    action: { tag: "drop" },
  });
  tables.replaceTable({
    family: "inet",
    name: "nat",
    chains: [
      {
        name: "leaving",
        type: "nat",
        hook: "postrouting",
        priority: NfPriority.sourceNat,
        rules: [{ matches: [out], action: { tag: "masquerade", randomPorts } }],
      },
      {
        name: "unasked",
        type: "filter",
        hook: "input",
        priority: NfPriority.filter,
        rules: [unasked("udp"), unasked("tcp")],
      },
    ],
  });
}

function dropUdpBetween(hosts: readonly Prefix[]): void {
  const rules: NfRule[] = [];
  for (let i = 0; i + 1 < hosts.length; i += 2) {
    const [a, b] = [hosts[i]!, hosts[i + 1]!];
    for (const [source, destination] of [[a, b], [b, a]] as const) {
      rules.push({
        matches: [
          { tag: "source", prefix: source },
          { tag: "destination", prefix: destination },
          { tag: "protocol", protocol: "udp" },
        ],
        action: { tag: "drop" },
      });
    }
  }
  const chain = { type: "filter", hook: "forward", priority: NfPriority.filter } as const;
  tables.replaceTable({
    family: "inet",
    name: "drops",
    chains: [{ name: "forwarded", ...chain, rules }],
  });
}

function toHost(text: string): Prefix {
  const prefix = parsePrefix(`${text}/${text.includes(":") ? 128 : 32}`);
  if (prefix === undefined) throw new Error(`Not an address: ${text}`);
  return prefix;
}
