/**
 * What the network configuration of a namespace is, to see whether a program left it as it was.
 * @module
 */

import type { Namespace } from "@firezone/tools/netns";

/** Lines that differ only if somebody changed something. */
export type Snapshot = readonly string[];

/** What is compared. */
export interface SnapshotOptions {
  /** The resolver's configuration as programs in there see it. */
  readonly resolvConf?: string;
  /** Leaves out whether packets are forwarded, and what the kernel derives from it. */
  readonly withoutForwarding?: boolean;
}

const COMMANDS: Readonly<Record<string, readonly string[]>> = {
  link: ["ip", "-oneline", "link", "show"],
  address: ["ip", "-oneline", "address", "show"],
  route: ["ip", "-4", "route", "show", "table", "all"],
  route6: ["ip", "-6", "route", "show", "table", "all"],
  rule: ["ip", "-4", "rule", "show"],
  rule6: ["ip", "-6", "rule", "show"],
  nft: ["nft", "list", "ruleset"],
  // Some parameters can only be written.
  sysctl: ["sh", "-c", "cd /proc/sys/net && grep -r . ipv4 ipv6 2>/dev/null; :"],
};

/** What the kernel adds a while after an interface is up; empty lines. */
const SETTLES_BY_ITSELF = /fe80::|ff00::\/8|^$/;

/** Random, or counted by the kernel. */
const VOLATILE_SYSCTL = /stable_secret|tcp_fastopen_key|\/neigh\/|tcp_allowed_congestion_control/;

/** Addresses that routers answer at, and parameters that the kernel sets together with forwarding. */
const FOLLOWS_FORWARDING = /anycast |forward|accept_redirects|src_valid_mark/;

/**
 * Takes a snapshot of links, addresses, routes of all tables, rules, packet filter, kernel
 * parameters, the resolver's configuration with its backups, and running processes.
 */
export async function takeSnapshot(
  namespace: Namespace,
  { resolvConf = "/etc/resolv.conf", withoutForwarding = false }: SnapshotOptions = {},
): Promise<Snapshot> {
  const outputs = await Promise.all(
    Object.entries(COMMANDS).map(async ([kind, command]) => {
      const { code, stdout, stderr } = await namespace.run(command);
      if (code !== 0) throw new Error(`${command.join(" ")}: ${stderr}`);
      return stdout.split("\n")
        .filter((line) => !SETTLES_BY_ITSELF.test(line) && !VOLATILE_SYSCTL.test(line))
        // Of a link only its name matters: its state may have changed.
        .map((line) => `${kind}: ${kind === "link" ? line.split(/[:@]/)[1]!.trim() : line.trim()}`);
    }),
  );
  const processes = (await namespace.pids()).flatMap(describeProcess);
  return [...outputs.flat(), ...processes, ...describeResolvConf(resolvConf)]
    .filter((line) => !withoutForwarding || !FOLLOWS_FORWARDING.test(line))
    .sort();
}

/** What is in one snapshot alone: `- ` what is gone, `+ ` what is left over. */
export function difference(before: Snapshot, after: Snapshot): string[] {
  const [old, now] = [new Set(before), new Set(after)];
  return [
    ...before.filter((line) => !now.has(line)).map((line) => `- ${line}`),
    ...after.filter((line) => !old.has(line)).map((line) => `+ ${line}`),
  ];
}

function describeProcess(pid: number): string[] {
  try {
    const command = Deno.readTextFileSync(`/proc/${pid}/cmdline`).replaceAll("\0", " ");
    return [`process: ${command}`];
  } catch {
    return []; // It ended meanwhile.
  }
}

/** The file and whatever is beside it with its name in theirs, such as a backup. */
function describeResolvConf(path: string): string[] {
  const at = path.lastIndexOf("/");
  const [folder, file] = [path.slice(0, at), path.slice(at + 1)];
  return Array.from(Deno.readDirSync(folder), ({ name }) => name)
    .filter((name) => name.includes(file))
    .map((name) => {
      const { mode, uid, gid, isSymlink } = Deno.lstatSync(`${folder}/${name}`);
      const target = isSymlink ? ` to ${Deno.readLinkSync(`${folder}/${name}`)}` : "";
      const owner = `${((mode ?? 0) & 0o7777).toString(8)} ${uid}:${gid}`;
      return `resolver: ${name} ${owner}${target} ${JSON.stringify(contentOf(folder, name))}`;
    });
}

/** A link may lead nowhere. */
function contentOf(folder: string, name: string): string {
  try {
    return Deno.readTextFileSync(`${folder}/${name}`);
  } catch {
    return "";
  }
}
