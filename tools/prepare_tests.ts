/**
 * Makes the machine ready for `deno task test`: as root on Debian it installs what the tests use
 * and says so; anywhere else it says which tests will be left out.
 *
 * Never fails: a test whose needs are not met is left out or, with `CI=true`, fails itself.
 * @module
 */

import { loadAead } from "@firezone/core/crypto";
import {
  findCommand,
  IPSEC_MB_PACKAGE,
  type NeededCommand,
  PACKAGE_OF,
  type Requirement,
  whatIsMissing,
} from "@firezone/tests/requirements";
import { findSystemdResolved, UNPACKED } from "@firezone/tests/systemd_resolved";

/** The number is that of the library's interface; another release of Debian has another. */
const IPSEC_MB_PATTERN = "^libipsec-mb[0-9]$";

/** Debian starts this package's daemon once it is installed; tests start their own. */
const SERVICE_OF: Readonly<Record<string, string>> = { coturn: "coturn", iperf3: "iperf3" };

if (import.meta.main) prepare();

function prepare(): void {
  const packages = missingPackages();
  if (packages.length > 0) {
    if (Deno.build.os !== "linux" || Deno.uid() !== 0) {
      say(`not root, so not installing: ${packages.join(" ")}`);
    } else if (findCommand("apt-get") === undefined) {
      say(`no apt-get here, so not installing: ${packages.join(" ")}`);
    } else {
      install(packages);
    }
  }
  const takesIpsecMb = isDebianRoot() && IPSEC_MB_PACKAGE !== undefined &&
    loadAead("ipsec-mb") === undefined;
  if (takesIpsecMb) install([IPSEC_MB_PATTERN]);
  if (isDebianRoot() && findSystemdResolved() === undefined) unpackResolved();
  const missing = new Set<string>();
  const needs: Requirement[] = [
    "linux",
    "root",
    "namespaces",
    "tun",
    "systemd-resolved",
    // This process does not see a library that it has just installed.
    ...takesIpsecMb ? [] : ["ciphers"] as const,
  ];
  for (const need of [...needs, ...Object.keys(PACKAGE_OF) as NeededCommand[]]) {
    const text = whatIsMissing(need);
    if (text !== undefined) missing.add(text);
  }
  if (missing.size > 0) say(`tests that need these are left out: ${[...missing].join("; ")}`);
}

function isDebianRoot(): boolean {
  return Deno.build.os === "linux" && Deno.uid() === 0 && findCommand("apt-get") !== undefined;
}

function missingPackages(): string[] {
  const commands = Object.keys(PACKAGE_OF) as NeededCommand[];
  return [...new Set(commands.filter((c) => !findCommand(c)).map((c) => PACKAGE_OF[c]))];
}

function install(packages: readonly string[]): void {
  say(`installing Debian packages that tests use: ${packages.join(" ")}`);
  const failure = aptGetFresh(["install", "--yes", "--no-install-recommends", ...packages]);
  if (failure !== undefined) say(`apt-get could not install them:\n${failure}`);
  for (const name of packages) {
    if (SERVICE_OF[name] !== undefined) stopService(SERVICE_OF[name]);
  }
}

/** Unpacks systemd-resolved without installing it: it would take over the machine's DNS. */
function unpackResolved(): void {
  const { folder, packages } = UNPACKED;
  say(`unpacking into ${folder}: ${packages.join(" ")}`);
  const temporary = Deno.makeTempDirSync();
  try {
    // The library is installed as well where it is not, for the libraries that it needs itself.
    const options = ["--yes", "--no-install-recommends", "--no-upgrade"];
    aptGetFresh(["install", ...options, "libsystemd-shared"]);
    const args = ["--option", "APT::Sandbox::User=root", "download", ...packages];
    const failure = aptGetFresh(args, temporary);
    if (failure !== undefined) return say(`apt-get could not download them:\n${failure}`);
    Deno.mkdirSync(folder, { recursive: true });
    for (const { name } of Deno.readDirSync(temporary)) {
      run("dpkg-deb", ["--extract", `${temporary}/${name}`, folder]);
    }
  } finally {
    Deno.removeSync(temporary, { recursive: true });
  }
}

/** Runs apt-get, again with new lists if need be: they may be absent (containers) or too old. */
function aptGetFresh(args: string[], cwd?: string): string | undefined {
  if (aptGet(args, cwd) === undefined) return undefined;
  aptGet(["update"]);
  return aptGet(args, cwd);
}

/** Runs apt-get; its complaints when it fails. */
function aptGet(args: string[], cwd = "/"): string | undefined {
  return run("apt-get", ["--quiet", "--quiet", ...args], cwd);
}

function run(command: string, args: readonly string[], cwd = "/"): string | undefined {
  const { success, stderr } = new Deno.Command(command, {
    args: [...args],
    cwd,
    env: { DEBIAN_FRONTEND: "noninteractive" },
    stdin: "null",
  }).outputSync();
  return success ? undefined : new TextDecoder().decode(stderr).trim();
}

/** A fresh package's daemon would hold ports that tests need. */
function stopService(name: string): void {
  const commands = findCommand("systemctl") !== undefined
    ? [["systemctl", "disable", "--now", name]]
    : [["service", name, "stop"]];
  for (const [command, ...args] of commands) {
    if (findCommand(command!) === undefined) continue;
    new Deno.Command(command!, { args, stdin: "null", stdout: "null", stderr: "null" })
      .outputSync();
  }
}

function say(text: string): void {
  console.error(`prepare: ${text}`);
}
