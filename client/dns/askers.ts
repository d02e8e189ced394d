/**
 * Who may ask the stub resolver: this machine, and the containers and virtual machines on its own
 * bridges.
 *
 * A Linux machine takes packets for any of its addresses on any of its interfaces. So a neighbour on
 * the same network who knows the sentinels could send queries to them, and learn the names behind
 * the tunnel. An address of our own as their source is nothing to fear: the kernel drops it (IPv4),
 * or the answer stays here.
 * @module
 */

import { type IpAddress, parseIpAddress, parsePrefix, type Prefix } from "@firezone/core/ip";
import { after, type Millis } from "@firezone/core/units";
import { isSentinel } from "@firezone/core/dns";

/** What is asked of the machine. */
export interface AskersOptions {
  /** The addresses of all interfaces. */
  readonly interfaces: () => readonly InterfaceAddresses[];
  /** Whether an interface is a bridge that no hardware is part of. */
  readonly isInternalBridge: (name: string) => boolean;
}

/** An address of an interface. */
export interface InterfaceAddresses {
  /** The interface. */
  readonly name: string;
  /** The address with the length of its prefix, `192.0.2.1/24`. */
  readonly cidr: string;
}

/** How long what was read of the machine is believed, when a stranger asks. */
const REFRESH_MS = 1000;

/** See the head of this file. */
export class Askers {
  readonly #options: AskersOptions;
  #addresses: ReadonlySet<string> = new Set();
  #bridges: readonly Prefix[] = [];
  #staleAt = -Infinity as Millis;

  /** Reads nothing until somebody asks. */
  constructor(options: AskersOptions = linux) {
    this.#options = options;
  }

  /** Whether this address may ask; what is no address may not.
   * @param from as text, with or without an interface behind `%` */
  allows(now: Millis, from: string): boolean {
    const ip = parseIpAddress(from.replace(/%.*$/, ""));
    if (!ip) return false;
    if (isSentinel(ip) || isLoopback(ip) || this.#isKnown(ip)) return true;
    if (now < this.#staleAt) return false;
    this.#staleAt = after(now, REFRESH_MS);
    this.#refresh();
    return this.#isKnown(ip);
  }

  #isKnown(ip: IpAddress): boolean {
    return this.#addresses.has(ip.text) || this.#bridges.some((bridge) => bridge.contains(ip));
  }

  #refresh(): void {
    const addresses = new Set<string>();
    const bridges: Prefix[] = [];
    for (const { name, cidr } of this.#options.interfaces()) {
      const ip = parseIpAddress(cidr.split("/")[0]!);
      const prefix = parsePrefix(cidr);
      if (ip) addresses.add(ip.text);
      if (prefix && this.#options.isInternalBridge(name)) bridges.push(prefix);
    }
    this.#addresses = addresses;
    this.#bridges = bridges;
  }
}

function isLoopback(ip: IpAddress): boolean {
  return ip.family === 4 && ip.bytes[0] === 127;
}

const linux: AskersOptions = {
  interfaces: () => Deno.networkInterfaces(),
  isInternalBridge(name) {
    try {
      const ports = [...Deno.readDirSync(`/sys/class/net/${name}/brif`)];
      return ports.every((port) => !hasHardware(port.name));
    } catch {
      return false; // not a bridge, or gone
    }
  },
};

/** Whether an interface is a device, or made of one: a VLAN, a bond. */
function hasHardware(name: string): boolean {
  const entries = [...Deno.readDirSync(`/sys/class/net/${name}`)].map((entry) => entry.name);
  return entries.some((entry) => entry === "device" || entry.startsWith("lower_"));
}
