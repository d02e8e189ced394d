/**
 * DNS control by rewriting `/etc/resolv.conf`, for machines where that file rules.
 *
 * When another program rewrites the file, that is what the system says from then on: nothing of it
 * is overwritten until {@link EtcResolvConf.setServers} is called again, and nothing is put back over
 * it at the end.
 * @module
 */

import { isSentinel } from "@firezone/core/dns";
import type { IpAddress } from "@firezone/core/ip";
import type { DnsControl } from "./dns_control.ts";
import type { ResolvConfFile } from "./resolv_conf_file.ts";

/** See the head of this file. */
export class EtcResolvConf implements DnsControl {
  /** Always `etc-resolv-conf`. */
  readonly method = "etc-resolv-conf";
  /** The file. */
  readonly watchedFiles: readonly string[];
  readonly #file: ResolvConfFile;

  /** Touches nothing yet. */
  constructor(file: ResolvConfFile) {
    this.#file = file;
    this.watchedFiles = [file.path];
  }

  /** Whether file and backup can be written. @throws ConfigError */
  check(): Promise<void> {
    return Promise.try(() => this.#file.check());
  }

  /** Puts the file back if a killed process left it changed. @throws ConfigError */
  recover(): Promise<void> {
    return Promise.try(() => void this.#file.restore());
  }

  /** Backs the file up and rewrites it. @throws ConfigError when it is no regular file */
  setServers(
    _interfaceName: string,
    sentinels: readonly IpAddress[],
    searchDomain?: string,
  ): Promise<void> {
    return Promise.try(() => {
      if (sentinels.length === 0) this.#file.restore();
      else this.#file.rewrite(sentinels, searchDomain);
    });
  }

  /** Nothing is cached here. */
  flush(): Promise<void> {
    return Promise.resolve();
  }

  /** Puts the file back, unless somebody else has rewritten it. @throws ConfigError */
  revert(): Promise<void> {
    return this.recover();
  }

  /** What the file said before us, or says now if it is not ours. @throws ConfigError */
  systemServers(): Promise<IpAddress[]> {
    return Promise.try(() => {
      this.#file.tryWriting();
      return this.#file.servers().filter((server) => !isSentinel(server));
    });
  }
}
