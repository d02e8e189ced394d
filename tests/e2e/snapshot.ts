/**
 * What the network configuration of a namespace is, to see whether a program left it as it was.
 * @module
 */

import type { Namespace } from "@firezone/tools/netns";

/** Lines that differ only if somebody changed something. */
export type Snapshot = readonly string[];

const COMMANDS = [
  ["ip", "-oneline", "link", "show"],
  ["ip", "-oneline", "address", "show"],
  ["ip", "-4", "route", "show", "table", "all"],
  ["ip", "-6", "route", "show", "table", "all"],
  ["ip", "-4", "rule", "show"],
  ["ip", "-6", "rule", "show"],
  ["nft", "list", "ruleset"],
];

const FORWARDING = ["sysctl", "net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"];

/** Link-local addresses, which the kernel adds a while after an interface is up; empty lines. */
const SETTLES_BY_ITSELF = /fe80::|^$/;

/** Addresses that routers answer at. */
const FOLLOWS_FORWARDING = /^anycast /;

/** Takes a snapshot of links, addresses, routes, rules, packet filter and, if wanted, forwarding. */
export async function takeSnapshot(
  namespace: Namespace,
  withForwarding = true,
): Promise<Snapshot> {
  const commands = withForwarding ? [...COMMANDS, FORWARDING] : COMMANDS;
  const outputs = await Promise.all(commands.map(async (command) => {
    const { code, stdout, stderr } = await namespace.run(command);
    if (code !== 0) throw new Error(`${command.join(" ")}: ${stderr}`);
    const lines = stdout.split("\n").filter((line) =>
      !SETTLES_BY_ITSELF.test(line) && (withForwarding || !FOLLOWS_FORWARDING.test(line))
    );
    // Of a link only its name matters: its state may have changed.
    return lines.map((line) => command[2] === "link" ? line.split(/[:@]/)[1]!.trim() : line.trim());
  }));
  return outputs.flat().sort();
}
