/**
 * What the parts of a portal share.
 * @module
 */

import type { RandomBytes } from "@firezone/core/random";
import type { Millis, UnixSeconds } from "@firezone/core/units";
import type { Authorizations } from "./authorizations.ts";
import type { ConnectionRegistry } from "./connection_registry.ts";
import type { DeviceRegistry } from "./device.ts";
import type { Directory } from "./directory.ts";
import type { RelayPool } from "./relay_pool.ts";

/** Lent to every part; whoever changes something here leaves it consistent. */
export interface PortalContext {
  /** Who is connected, and what is to be sent. */
  readonly registry: ConnectionRegistry;
  /** Relays that are online. */
  readonly relays: RelayPool;
  /** Devices that were ever seen. */
  readonly devices: DeviceRegistry;
  /** What is authorized. */
  readonly authorizations: Authorizations;
  /** Unpredictable bytes. */
  readonly random: RandomBytes;
  /** The configuration in force. */
  directory(): Directory;
  /** The wall clock at a moment of monotonic time. */
  unixTime(now: Millis): UnixSeconds;
}
