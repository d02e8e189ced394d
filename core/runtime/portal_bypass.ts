/**
 * Keeps the connection to the portal out of the tunnel, which it could not be carried by: the portal
 * is asked before there is any tunnel to a resource that it may lie in.
 *
 * The runtime's sockets carry no mark, so this takes a rule per address; see `tunnel_interface.ts`.
 * @module
 */

import { lookup } from "node:dns/promises";
import { type IpAddress, parseIpAddress, SocketAddress } from "../ip/mod.ts";
import type { ResolveHost } from "../portal/mod.ts";
import { logger } from "../telemetry/logging.ts";
import type { TunnelInterface } from "./tunnel_interface.ts";

/** See the head of this file. */
export class PortalBypass {
  readonly #port: number;
  readonly #resolve: ResolveHost;
  #addresses: readonly IpAddress[] = [];
  #device: Pick<TunnelInterface, "setBypass"> | undefined;

  /** Knows the address if the URL holds one.
   * @param apiUrl where the portal is
   * @param resolve finds addresses; the system's resolver if left out */
  constructor(apiUrl: URL, resolve: ResolveHost = resolveBySystem) {
    const isPlain = apiUrl.protocol === "ws:" || apiUrl.protocol === "http:";
    this.#port = apiUrl.port === "" ? (isPlain ? 80 : 443) : Number(apiUrl.port);
    this.#resolve = resolve;
    const address = parseIpAddress(withoutBrackets(apiUrl.hostname));
    if (address) this.#addresses = [address];
  }

  /** Finds the portal's addresses and lets them past the tunnel; for `PortalOptions.resolve`. */
  readonly resolve: ResolveHost = async (host) => {
    const addresses = await this.#resolve(host);
    if (addresses.length > 0) {
      this.#addresses = addresses;
      this.#apply();
    }
    return addresses;
  };

  /** Takes the device that the tunnel goes through; undefined when it is gone. */
  attach(device: Pick<TunnelInterface, "setBypass"> | undefined): void {
    this.#device = device;
    this.#apply();
  }

  #apply(): void {
    try {
      this.#device?.setBypass(this.#addresses.map((ip) => new SocketAddress(ip, this.#port)));
    } catch (error) {
      // Unless a resource contains the portal's address, nothing is lost.
      const reason = (error as Error).message;
      logger("network").warn("Cannot keep the portal out of the tunnel", { reason });
    }
  }
}

async function resolveBySystem(host: string): Promise<IpAddress[]> {
  const found = await lookup(withoutBrackets(host), { all: true });
  return found.flatMap(({ address }) => parseIpAddress(address) ?? []);
}

/** IPv6 addresses in URLs stand in brackets. */
function withoutBrackets(host: string): string {
  return host.replace(/^\[(.*)\]$/, "$1");
}
