/**
 * How this machine is made to ask our stub resolver: the contract of the methods.
 * @module
 */

import type { IpAddress } from "@firezone/core/ip";

/** The methods that there are. */
export const DNS_CONTROL_METHODS = ["systemd-resolved", "etc-resolv-conf", "disabled"] as const;

/** Name of a method. */
export type DnsControlMethod = typeof DNS_CONTROL_METHODS[number];

/** Configures the system's resolver, and puts it back. Calls are worked on in order. */
export interface DnsControl {
  /** Which method it is. */
  readonly method: DnsControlMethod;
  /** Files that change when the system gets other servers. */
  readonly watchedFiles: readonly string[];

  /**
   * Finds out whether the method works on this machine, and changes nothing.
   *
   * @throws ConfigError when it does not
   */
  check(): Promise<void>;

  /**
   * Puts right what a process that was killed left behind. To be called before anything else.
   *
   * @throws ConfigError when it cannot be put right
   */
  recover(): Promise<void>;

  /**
   * Makes programs ask these servers and no others; without any the system is left as it is, or put
   * back. Calling it again replaces what was set.
   *
   * @param interfaceName the TUN device, which has these addresses
   * @param sentinels in order of preference
   * @param searchDomain tried first for names without dots
   * @param domains below which names have to be asked here, whoever else claims to know them
   * @throws ConfigError when the method does not work on this machine
   */
  setServers(
    interfaceName: string,
    sentinels: readonly IpAddress[],
    searchDomain?: string,
    domains?: readonly string[],
  ): Promise<void>;

  /** Makes the system forget what it has resolved; does its best. */
  flush(): Promise<void>;

  /** Puts back what {@link setServers} changed. */
  revert(): Promise<void>;

  /**
   * The servers that the system would ask without us, in order; sentinels are left out.
   *
   * @throws ConfigError when the method does not work on this machine
   */
  systemServers(): Promise<IpAddress[]>;
}
