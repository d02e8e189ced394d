/**
 * What the operator asked for, made into what the relay does.
 * @module
 */

import { ConfigError, type Secret } from "@firezone/core/cli";
import { ip, type IpAddress, type Prefix, prefix } from "@firezone/core/ip";
import { LOOPBACK } from "./peer_policy.ts";
import type { PortRange } from "./port_pool.ts";

/** Addresses in the command line, as they were given. */
export interface AddressOptions {
  /** `--public-ip4-addr`. */
  readonly public4: IpAddress | undefined;
  /** `--public-ip6-addr`. */
  readonly public6: IpAddress | undefined;
  /** `--bind-ip4-addr`. */
  readonly bind4: IpAddress | undefined;
  /** `--bind-ip6-addr`. */
  readonly bind6: IpAddress | undefined;
}

/** One family that the relay serves. */
export interface Endpoint {
  /** What clients and peers are told. */
  readonly public: IpAddress;
  /** Where sockets are bound. */
  readonly bind: IpAddress;
}

/** Where the relay listens and whom it reaches. */
export interface Endpoints {
  /** Over IPv4. */
  readonly v4: Endpoint | undefined;
  /** Over IPv6. */
  readonly v6: Endpoint | undefined;
  /** Peers allowed beyond policy. */
  readonly allowedPeers: readonly Prefix[];
  /** Whether no public address was given, so that loopback stands in. */
  readonly isImplicitLoopback: boolean;
}

/** The portal that the relay registers with. */
export interface PortalConfig {
  /** Base URL, `ws` or `wss`. */
  readonly apiUrl: URL;
  /** Proves to the portal who we are. */
  readonly token: Secret;
  /** Shown in the portal. */
  readonly name: string | undefined;
}

/** Unspecified, multicast and reserved: no single machine can be reached there. */
const NOWHERE: readonly Prefix[] = ["0.0.0.0/8", "224.0.0.0/3", "::/128", "ff00::/8"].map(prefix);

/**
 * Chooses public and bind addresses.
 *
 * @param isStandalone without a portal nobody need reach us, so loopback may stand in
 * @param hasLoopback6 whether this machine has `::1`
 * @throws {@link ConfigError} for a public address where nobody can be reached, and without any unless
 *   standalone
 */
export function chooseEndpoints(
  given: AddressOptions,
  isStandalone: boolean,
  hasLoopback6: boolean,
): Endpoints {
  const isImplicitLoopback = given.public4 === undefined && given.public6 === undefined;
  if (isImplicitLoopback && !isStandalone) {
    throw new ConfigError(
      "Cannot tell the portal where this relay is: give --public-ip4-addr or --public-ip6-addr",
    );
  }
  if (isImplicitLoopback) {
    const [four, six] = [ip("127.0.0.1"), ip("::1")];
    return {
      v4: { public: four, bind: given.bind4 ?? four },
      v6: hasLoopback6 ? { public: six, bind: given.bind6 ?? six } : undefined,
      allowedPeers: LOOPBACK,
      isImplicitLoopback,
    };
  }
  const served = [given.public4, given.public6].filter((a) => a !== undefined);
  const useless = served.find((a) => NOWHERE.some((p) => p.contains(a)));
  if (useless !== undefined) {
    throw new ConfigError(
      `Cannot be reached at ${useless}: the public address must be that of one machine ` +
        "(to listen at all of its addresses leave --bind-ip4-addr and --bind-ip6-addr as they are)",
    );
  }
  return {
    v4: given.public4 && { public: given.public4, bind: given.bind4 ?? ip("0.0.0.0") },
    v6: given.public6 && { public: given.public6, bind: given.bind6 ?? ip("::") },
    // A relay that is reached on loopback alone serves this machine alone.
    allowedPeers: served.every((a) => LOOPBACK.some((p) => p.contains(a))) ? LOOPBACK : [],
    isImplicitLoopback,
  };
}

/** @throws {@link ConfigError} if the range is empty */
export function checkPorts(lowest: number, highest: number): PortRange {
  if (lowest > highest) {
    throw new ConfigError(
      `Cannot allocate ports ${lowest} to ${highest}: --lowest-port is above --highest-port`,
    );
  }
  return { lowest, highest };
}
