/**
 * What a program with a tunnel must be allowed to do.
 * @module
 */

import { ConfigError } from "../cli/errors.ts";
import { canAdministrateNetwork } from "../os/linux/mod.ts";

/**
 * Refuses to go on where interfaces, routes and packet filters may not be changed.
 *
 * @param more what else the operator can do, if anything
 * @throws ConfigError without CAP_NET_ADMIN
 */
export function requireNetworkAdministration(more = ""): void {
  if (canAdministrateNetwork()) return;
  throw new ConfigError(
    `Cannot configure the network: run as root or with CAP_NET_ADMIN${more && `, or ${more}`}`,
  );
}
