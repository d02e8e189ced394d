/**
 * DNS control by systemd-resolved, which keeps servers per interface: what is set on the TUN device
 * goes with it, so there is nothing to put back after a crash.
 *
 * Spoken to through `resolvectl`, which knows the bus of every version.
 * @module
 */

import { ConfigError } from "@firezone/core/cli";
import { isSentinel } from "@firezone/core/dns";
import type { IpAddress } from "@firezone/core/ip";
import { toNameserver } from "@firezone/core/os/linux";
import type { Logger } from "@firezone/core/telemetry";
import type { DnsControl } from "./dns_control.ts";
import type { ResolvConfFile } from "./resolv_conf_file.ts";

/** The servers that resolved knows, in the form of resolv.conf; it rewrites the file on changes. */
const UPLINK_SERVERS = "/run/systemd/resolve/resolv.conf";
const TIMEOUT_MS = 5000;
/** It takes 256 per link, with the ones beside. */
const MAX_DOMAINS = 250;
const ALTERNATIVE = "start it, or choose --dns-control etc-resolv-conf or disabled";

/** What {@link SystemdResolved} is made of. */
export interface SystemdResolvedOptions {
  /** The resolver's file, which an earlier run may have changed. */
  readonly file: ResolvConfFile;
  /** Where the log lines go. */
  readonly log: Logger;
  /** The program to run; found in `PATH`. */
  readonly resolvectl?: string;
  /** Who is asking; this process's user if left out. */
  readonly uid?: number | null;
  /** How long `resolvectl` may take, in milliseconds. */
  readonly timeoutMs?: number;
}

/** See the head of this file. */
export class SystemdResolved implements DnsControl {
  /** Always `systemd-resolved`. */
  readonly method = "systemd-resolved";
  /** resolved's own list of servers. */
  readonly watchedFiles: readonly string[];
  readonly #options: SystemdResolvedOptions;
  #interfaceName: string | undefined;
  #last: Promise<unknown> = Promise.resolve();
  #hasWarned = false;

  /** Runs nothing yet. */
  constructor(options: SystemdResolvedOptions) {
    this.#options = options;
    this.watchedFiles = [UPLINK_SERVERS];
  }

  /** Whether it answers, and takes orders from this user. @throws ConfigError when it does not answer */
  check(): Promise<void> {
    return this.#inOrder(async () => {
      this.#options.file.checkRestorable();
      await this.#run("dns");
      this.#warnOfQuestions();
      this.#warnWhenBypassed();
    });
  }

  /** Puts back what an earlier run with the method `etc-resolv-conf` left behind. */
  recover(): Promise<void> {
    return Promise.try(() => void this.#options.file.restore());
  }

  /** Makes the interface the one that all names are asked through. @throws ConfigError */
  setServers(
    interfaceName: string,
    sentinels: readonly IpAddress[],
    searchDomain?: string,
    domains: readonly string[] = [],
  ): Promise<void> {
    if (sentinels.length === 0) return this.revert();
    return this.#inOrder(async () => {
      this.#interfaceName = interfaceName;
      await this.#run("dns", interfaceName, ...sentinels.map(String));
      // The route-only domain "~." draws all names here; other links would be asked at the same time.
      // A link with a longer domain (DHCP often names one) would still be asked alone for names below
      // that, hence the domains of resources.
      const routed = outermost(domains).slice(0, MAX_DOMAINS).map((domain) => `~${domain}`);
      const search = searchDomain ? [searchDomain] : [];
      await this.#run("domain", interfaceName, "~.", ...search, ...routed);
      // Names without dots are asked for by LLMNR, where we answer; our host name is nobody's there.
      await this.#run("llmnr", interfaceName, "resolve");
      // What we answer for resources is not signed, and we speak no TLS, whatever is global policy.
      // A resolved without support for one of these refuses, and does not do it anyway.
      for (const setting of ["mdns", "dnssec", "dnsovertls"]) {
        await this.#try(setting, interfaceName, "false");
      }
      await this.#try("flush-caches");
      this.#warnWhenBypassed();
    });
  }

  /** Empties resolved's caches. */
  flush(): Promise<void> {
    return this.#inOrder(() => this.#try("flush-caches"));
  }

  /** Takes the interface out of resolved's hands, if it still exists. */
  revert(): Promise<void> {
    return this.#inOrder(async () => {
      if (this.#interfaceName === undefined) return;
      await this.#try("revert", this.#interfaceName);
      this.#interfaceName = undefined;
    });
  }

  /** The global servers and those of all other interfaces. @throws ConfigError */
  systemServers(): Promise<IpAddress[]> {
    return this.#inOrder(async () => {
      const listed = parseResolvectlDns(await this.#run("dns"));
      const servers = new Map<string, IpAddress>();
      for (const { interfaceName, server } of listed) {
        const isOurs = interfaceName !== undefined && interfaceName === this.#interfaceName;
        if (!isOurs && !isSentinel(server)) servers.set(server.text, server);
      }
      return [...servers.values()];
    });
  }

  #warnOfQuestions(): void {
    const { log, uid = Deno.uid() } = this.#options;
    if (uid === 0) return;
    log.warn(
      "systemd-resolved takes settings from root alone without asking polkit, which may refuse " +
        "them: run as root, or allow this user what is below org.freedesktop.resolve1",
      { uid },
    );
  }

  #warnWhenBypassed(): void {
    const { file, log } = this.#options;
    const target = file.linkTarget();
    const isStub = target?.includes("systemd/resolve") ||
      file.servers().some((server) => /^127\.0\.0\.5[34]$/.test(server.text));
    if (isStub || this.#hasWarned || !file.exists()) return;
    this.#hasWarned = true;
    log.warn(
      "Programs that read resolv.conf do not ask systemd-resolved, so they do not find DNS " +
        "resources: link the file to /run/systemd/resolve/stub-resolv.conf, or choose " +
        "--dns-control etc-resolv-conf",
      { path: file.path },
    );
  }

  async #try(...args: string[]): Promise<void> {
    try {
      await this.#run(...args);
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      this.#options.log.debug("resolvectl refused", { command: args.join(" "), reason });
    }
  }

  async #run(...args: string[]): Promise<string> {
    const program = this.#options.resolvectl ?? "resolvectl";
    let output: Deno.CommandOutput;
    try {
      output = await new Deno.Command(program, {
        args: ["--no-pager", ...args],
        env: { LC_ALL: "C", SYSTEMD_COLORS: "0", COLUMNS: "1000" },
        stdin: "null",
        stdout: "piped",
        stderr: "piped",
        signal: AbortSignal.timeout(this.#options.timeoutMs ?? TIMEOUT_MS),
      }).output();
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) {
        throw new ConfigError(
          `Cannot control DNS: systemd-resolved is not installed (no ${program}); ` +
            "install it, or choose --dns-control etc-resolv-conf or disabled",
        );
      }
      throw new ConfigError(`Cannot run ${program}`, { cause: error });
    }
    if (output.success) return new TextDecoder().decode(output.stdout);
    const said = new TextDecoder().decode(output.stderr).trim().replace(/\s*\n\s*/g, " ");
    const what = `resolvectl ${args.join(" ")}: ${said || `status ${output.code}`}`;
    if (/interface|No such device/i.test(said)) {
      throw new ConfigError(`Cannot control DNS: ${what}`);
    }
    throw new ConfigError(
      `Cannot control DNS: systemd-resolved does not answer (${what}); ${ALTERNATIVE}`,
    );
  }

  /** resolved would apply two changes at once in any order. */
  #inOrder<T>(work: () => Promise<T>): Promise<T> {
    const next = this.#last.then(work);
    this.#last = next.catch(() => {});
    return next;
  }
}

/** Those that are not below another one. */
function outermost(domains: readonly string[]): string[] {
  const all = new Set(domains);
  return [...all].filter((domain) => {
    const labels = domain.split(".");
    return !labels.some((_, i) => i > 0 && all.has(labels.slice(i).join(".")));
  });
}

/** A line of `resolvectl dns`. */
export interface ListedServer {
  /** The interface it belongs to; undefined for a global one. */
  readonly interfaceName: string | undefined;
  /** Its address. */
  readonly server: IpAddress;
}

/**
 * Reads what `resolvectl dns` prints: `Link 2 (eth0): 192.0.2.1 [fe80::1]:5353%eth0#name`.
 *
 * Servers at another port are left out, as is everything that makes no sense.
 */
export function parseResolvectlDns(text: string): ListedServer[] {
  const servers: ListedServer[] = [];
  let interfaceName: string | undefined;
  for (const line of text.split("\n")) {
    // Long lists go on in the next line, indented.
    const [, label, link, rest] = /^\s*((?:Link \d+ \((.*?)\)|Global):)?(.*)$/.exec(line) ?? [];
    if (label !== undefined) interfaceName = link;
    for (const word of (rest ?? "").trim().split(/\s+/)) {
      const server = toListedServer(word, interfaceName);
      if (server) servers.push({ interfaceName, server });
    }
  }
  return servers;
}

function toListedServer(word: string, interfaceName: string | undefined): IpAddress | undefined {
  const bare = word.replace(/#.*$/, "");
  const [, bracketed, dotted, port] = /^(?:\[(.*?)\]|([\d.]+)):(\d+)(?:%.*)?$/.exec(bare) ?? [];
  if (port === undefined) return toNameserver(bare, interfaceName);
  return port === "53" ? toNameserver(bracketed ?? dotted!, interfaceName) : undefined;
}
