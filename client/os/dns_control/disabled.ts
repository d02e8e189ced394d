/**
 * No DNS control: names of resources are only known to who asks the sentinels.
 * @module
 */

import { isSentinel } from "@firezone/core/dns";
import type { IpAddress } from "@firezone/core/ip";
import type { DnsControl } from "./dns_control.ts";
import type { ResolvConfFile } from "./resolv_conf_file.ts";

/** See the head of this file. */
export class DisabledDnsControl implements DnsControl {
  /** Always `disabled`. */
  readonly method = "disabled";
  /** The resolver's file. */
  readonly watchedFiles: readonly string[];
  readonly #file: ResolvConfFile;

  /** Changes nothing but what an earlier run with another method left behind. */
  constructor(file: ResolvConfFile) {
    this.#file = file;
    this.watchedFiles = [file.path];
  }

  /** Whether what another method left behind can be put back. @throws ConfigError */
  check(): Promise<void> {
    return Promise.try(() => this.#file.checkRestorable());
  }

  /** Puts the resolver's file back if a killed process left it changed. */
  recover(): Promise<void> {
    return Promise.try(() => void this.#file.restore());
  }

  /** Does nothing. */
  setServers(): Promise<void> {
    return Promise.resolve();
  }

  /** Does nothing. */
  flush(): Promise<void> {
    return Promise.resolve();
  }

  /** Does nothing. */
  revert(): Promise<void> {
    return Promise.resolve();
  }

  /** What the resolver's file says; nothing without one. */
  systemServers(): Promise<IpAddress[]> {
    return Promise.resolve(this.#file.servers().filter((server) => !isSentinel(server)));
  }
}
