/**
 * Whether the port for clients is ours alone.
 * @module
 */

import { ConfigError } from "@firezone/core/cli";
import { ip } from "@firezone/core/ip";
import { OsError, UdpSocket } from "@firezone/core/os/linux";
import type { EndpointTexts } from "./worker_messages.ts";

/**
 * Makes sure that no other program listens where we want to. Sockets that share their port would not
 * notice another relay of the same user: half of its clients would become ours.
 *
 * @throws ConfigError when one does, or the address is not of this machine
 */
export function checkListenPort(
  endpoints: readonly (EndpointTexts | undefined)[],
  port: number,
): void {
  for (const endpoint of endpoints) {
    if (endpoint === undefined) continue;
    const address = ip(endpoint.bind);
    try {
      UdpSocket.open({ family: address.family, address, port }).close();
    } catch (error) {
      if (!(error instanceof OsError)) throw error;
      const remedy = "name another --listen-port, --bind-ip4-addr or --bind-ip6-addr";
      throw new ConfigError(`Cannot start: ${error.message}; ${remedy}`);
    }
  }
}
