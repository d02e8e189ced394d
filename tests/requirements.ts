/**
 * What a test needs of the machine: one place that knows, and says aloud what is left out.
 *
 *     Deno.test("speaks to coturn", requires("root", "turnserver"), async () => { … });
 *
 * Missing things leave a test out with a line on stderr that says why. Under `CI=true` nothing may
 * be left out: a failing test then stands in for those that cannot run.
 * @module
 */

import { loadAead } from "@firezone/core/crypto";
import { findSystemdResolved } from "./systemd_resolved.ts";

/** Commands that tests use, with the Debian package that brings each. */
export const PACKAGE_OF = {
  ip: "iproute2",
  unshare: "util-linux",
  nft: "nftables",
  wg: "wireguard-tools",
  "wireguard-go": "wireguard-go",
  turnserver: "coturn",
  turnutils_uclient: "coturn",
  turnutils_peer: "coturn",
  turnutils_stunclient: "coturn",
  iperf3: "iperf3",
  ping: "iputils-ping",
  curl: "curl",
  node: "nodejs",
  "dbus-daemon": "dbus-daemon",
} as const;

/** The Debian package with the library of the AEAD backend `ipsec-mb`, where there is one. */
export const IPSEC_MB_PACKAGE: string | undefined = Deno.build.arch === "x86_64"
  ? "libipsec-mb1"
  : undefined;

/** A command from {@link PACKAGE_OF}. */
export type NeededCommand = keyof typeof PACKAGE_OF;

/**
 * Something a test may need.
 *
 * `root`: user id 0. `namespaces`: network namespaces can be made. `tun`: `/dev/net/tun` opens.
 * `systemd-resolved`: installed or unpacked, see `systemd_resolved.ts`. `ciphers`: every AEAD backend
 * that there is for this processor.
 */
export type Requirement =
  | "linux"
  | "root"
  | "namespaces"
  | "tun"
  | "systemd-resolved"
  | "ciphers"
  | NeededCommand;

/** What {@link requires} answers, to be given to `Deno.test`. */
export interface TestNeeds {
  /** Whether the test is left out. */
  readonly ignore: boolean;
}

/**
 * Checks what a test needs; what is missing is told once per test file.
 *
 * With `CI=true` it also registers a test that fails, naming what is missing.
 */
export function requires(...needs: Requirement[]): TestNeeds {
  const missing = needs.flatMap((need) => whatIsMissing(need) ?? []);
  if (missing.length === 0) return { ignore: false };
  const reason = missing.join("; ");
  if (!told.has(reason)) {
    told.add(reason);
    const file = callerOf(requires);
    if (Deno.env.get("CI") === "true") {
      Deno.test(`${file}: everything its tests need is there`, () => {
        throw new Error(`CI=true and tests would be left out: ${reason}`);
      });
    }
    console.error(`left out: tests in ${file}: ${reason}`);
  }
  return { ignore: true };
}

/** Says what to do about a requirement, or `undefined` when it is met. */
export function whatIsMissing(need: Requirement): string | undefined {
  if (checked.has(need)) return checked.get(need);
  const missing = check(need);
  checked.set(need, missing);
  return missing;
}

/** Where a command is, looking also where root's commands live; `undefined` when nowhere. */
export function findCommand(name: string): string | undefined {
  const folders = [...(Deno.env.get("PATH") ?? "").split(":"), "/usr/sbin", "/sbin"];
  for (const folder of folders) {
    if (folder === "") continue;
    try {
      const info = Deno.statSync(`${folder}/${name}`);
      if (info.isFile && ((info.mode ?? 0) & 0o111) !== 0) return `${folder}/${name}`;
    } catch {
      // Not in this folder.
    }
  }
  return undefined;
}

const told = new Set<string>();
const checked = new Map<Requirement, string | undefined>();

function check(need: Requirement): string | undefined {
  switch (need) {
    case "linux":
      return Deno.build.os === "linux" ? undefined : "not Linux";
    case "root":
      return Deno.uid() === 0 ? undefined : "not root (run it with sudo)";
    case "namespaces":
      return canMakeNamespaces() ? undefined : "network namespaces cannot be made (needs root)";
    case "tun":
      return whyTunIsMissing();
    case "systemd-resolved":
      return findSystemdResolved() === undefined
        ? "no systemd-resolved (Debian package of that name; it may be unpacked only)"
        : undefined;
    case "ciphers":
      return whichCipherIsMissing();
    default:
      return findCommand(need) === undefined
        ? `no ${need} (Debian package ${PACKAGE_OF[need]})`
        : undefined;
  }
}

function whichCipherIsMissing(): string | undefined {
  if (loadAead("libcrypto") === undefined) return "no libcrypto (Debian package libssl3)";
  return IPSEC_MB_PACKAGE !== undefined && loadAead("ipsec-mb") === undefined
    ? `no libIPSec_MB (Debian package ${IPSEC_MB_PACKAGE})`
    : undefined;
}

function canMakeNamespaces(): boolean {
  const unshare = findCommand("unshare");
  if (Deno.build.os !== "linux" || unshare === undefined) return false;
  return new Deno.Command(unshare, { args: ["--net", "true"], stdout: "null", stderr: "null" })
    .outputSync().success;
}

function whyTunIsMissing(): string | undefined {
  try {
    Deno.openSync("/dev/net/tun", { read: true, write: true }).close();
    return undefined;
  } catch (error) {
    return error instanceof Deno.errors.PermissionDenied
      ? "/dev/net/tun may not be opened by this user (run it with sudo, or chmod 0666 /dev/net/tun)"
      : "/dev/net/tun cannot be opened (modprobe tun; docker run --device /dev/net/tun)";
  }
}

/** The file, from the working directory, in which `callee` was called. */
function callerOf(callee: (...args: never[]) => unknown): string {
  const holder: { stack?: string } = {};
  Error.captureStackTrace(holder, callee);
  const url = holder.stack?.match(/file:\/\/(\/[^\s)]*?\.ts)/)?.[1] ?? "a test file";
  return url.startsWith(`${Deno.cwd()}/`) ? url.slice(Deno.cwd().length + 1) : url;
}
