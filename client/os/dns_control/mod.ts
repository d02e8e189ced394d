/**
 * DNS control on Linux: `systemd-resolved`, `etc-resolv-conf` or `disabled`.
 * @module
 */

import { type Logger, logger } from "@firezone/core/telemetry";
import { DisabledDnsControl } from "./disabled.ts";
import type { DnsControl, DnsControlMethod } from "./dns_control.ts";
import { EtcResolvConf } from "./etc_resolv_conf.ts";
import { ResolvConfFile } from "./resolv_conf_file.ts";
import { SystemdResolved } from "./systemd_resolved.ts";

export { DNS_CONTROL_METHODS, type DnsControl, type DnsControlMethod } from "./dns_control.ts";

/** Where things are; as on any machine if left out. */
export interface DnsControlOptions {
  /** The resolver's file. */
  readonly resolvConfPath?: string;
  /** The program that speaks to systemd-resolved. */
  readonly resolvectl?: string;
  /** Where the log lines go. */
  readonly log?: Logger;
}

/** A method by its name; nothing is touched yet. */
export function dnsControl(method: DnsControlMethod, options: DnsControlOptions = {}): DnsControl {
  const file = new ResolvConfFile(options.resolvConfPath);
  switch (method) {
    case "systemd-resolved":
      return new SystemdResolved({
        file,
        log: options.log ?? logger("dns-control"),
        ...options.resolvectl !== undefined && { resolvectl: options.resolvectl },
      });
    case "etc-resolv-conf":
      return new EtcResolvConf(file);
    case "disabled":
      return new DisabledDnsControl(file);
  }
}
