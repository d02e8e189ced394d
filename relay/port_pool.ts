/**
 * The ports that allocations get, drawn at random without ever drawing twice for one.
 * @module
 */

import { randomBelow, type RandomBytes } from "@firezone/core/random";
import { type Port, toPort } from "@firezone/core/units";

/** An inclusive range of ports. */
export interface PortRange {
  /** First port of the range. */
  readonly lowest: number;
  /** Last port of the range. */
  readonly highest: number;
}

/** The range that RFC 8656 §7.2 suggests. */
export const DEFAULT_PORTS: PortRange = { lowest: 49152, highest: 65535 };

/** Whether a port lies in a range. */
export function isInRange(range: PortRange, port: number): boolean {
  return port >= range.lowest && port <= range.highest;
}

/** A range cut into so many that do not overlap, as equal as can be; fewer if it has too few ports. */
export function slicePorts(range: PortRange, count: number): readonly PortRange[] {
  const size = range.highest - range.lowest + 1;
  const slices = Math.max(1, Math.min(count, size));
  const start = (i: number) => range.lowest + Math.floor(i * size / slices);
  return Array.from(
    { length: slices },
    (_, i) => ({ lowest: start(i), highest: start(i + 1) - 1 }),
  );
}

/** Free ports of a range. Taking and giving back costs the same however many are taken. */
export class PortPool {
  readonly #random: RandomBytes;
  /** Free ports are `#ports[0, #free)`, in no order. */
  readonly #ports: Uint16Array;
  #free: number;

  /** A pool in which all ports of the range are free. */
  constructor(range: PortRange, random: RandomBytes) {
    this.#random = random;
    this.#ports = Uint16Array.from(
      { length: Math.max(0, range.highest - range.lowest + 1) },
      (_, i) => range.lowest + i,
    );
    this.#free = this.#ports.length;
  }

  /** Number of ports that can be taken. */
  get free(): number {
    return this.#free;
  }

  /** A random free port, which is free no more; `undefined` when there is none. */
  take(): Port | undefined {
    return this.#free === 0 ? undefined : this.#takeAt(randomBelow(this.#random, this.#free));
  }

  /** As {@link take}, but even (RFC 8656 §7.2). */
  takeEven(): Port | undefined {
    if (this.#free === 0) return undefined;
    const from = randomBelow(this.#random, this.#free);
    for (let i = 0; i < this.#free; i++) {
      const at = (from + i) % this.#free;
      if ((this.#ports[at]! & 1) === 0) return this.#takeAt(at);
    }
    return undefined;
  }

  /** Makes a taken port free again. The caller gives back what it took, and that once. */
  giveBack(port: Port): void {
    this.#ports[this.#free++] = port;
  }

  #takeAt(i: number): Port | undefined {
    const port = this.#ports[i]!;
    this.#ports[i] = this.#ports[--this.#free]!;
    this.#ports[this.#free] = port;
    return toPort(port);
  }
}
