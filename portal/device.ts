/**
 * Devices: clients and gateways, each with an id and tunnel addresses that it keeps for life.
 *
 * A device is known by whom it belongs to (an account, a site) and by the id that it brings along.
 * Both of its tunnel addresses share one offset into their ranges (portal-protocol §7.4, §8.4), so
 * uniqueness is a matter of one number.
 * @module
 */

import { randomBelow, type RandomBytes, randomUuid } from "@firezone/core/random";
import { ip, IpAddress } from "@firezone/core/ip";
import type { UnixSeconds } from "@firezone/core/units";
import type { TokenHash } from "./config/config.ts";

/** What a device is. */
export type DeviceKind = "client" | "gateway";

/** A device as it is stored. */
export interface Device {
  /** UUID, made when the device is first seen. */
  readonly id: string;
  /** Client or gateway. */
  readonly kind: DeviceKind;
  /** Id of its account (clients) or site (gateways). */
  readonly ownerId: string;
  /** What the device calls itself by. */
  readonly externalId: string;
  /** Place in both tunnel ranges. */
  readonly addressOffset: number;
  /** 32 random bytes that preshared keys are derived from. */
  readonly pskBase: Uint8Array;
  /** For people; as of the last connect. */
  readonly name: string;
  /** WireGuard key in base64; as of the last connect. */
  readonly publicKey: string;
  /** The last connect. */
  readonly lastSeenAt: UnixSeconds;
}

/** Lets a client reach a resource through a gateway. */
export interface Authorization {
  /** UUID. */
  readonly id: string;
  /** The client's device. */
  readonly clientId: string;
  /** The account that the client belongs to. */
  readonly accountId: string;
  /** The gateway's device. */
  readonly gatewayId: string;
  /** Resource. */
  readonly resourceId: string;
  /** What the gateway was told to let through, see `resourceKey`. */
  readonly resourceKey: string;
  /** Hash of the token that the client used. */
  readonly tokenHash: TokenHash;
  /** When it ends by the policies and the account as they are now. */
  readonly expiresAt: UnixSeconds;
  /** When it ends as far as the gateway knows. */
  readonly toldExpiresAt: UnixSeconds;
}

/**
 * Where devices and authorizations outlive the process.
 *
 * Calls are rare, synchronous and do not throw: a store that fails to write says so elsewhere, and
 * what is in memory goes on working.
 */
export interface Store {
  /** All devices; asked once, at start. */
  devices(): readonly Device[];
  /** All authorizations; asked once, at start. */
  authorizations(): readonly Authorization[];
  /** Adds or replaces the device with this id. */
  saveDevice(device: Device): void;
  /** Adds or replaces what lets this client reach this resource through this gateway. */
  saveAuthorization(authorization: Authorization): void;
  /** Removes it. */
  deleteAuthorization(authorization: Authorization): void;
}

/** A {@link Store} that forgets with the process; for tests and trials. */
export class MemoryStore implements Store {
  readonly #devices = new Map<string, Device>();
  readonly #authorizations = new Map<string, Authorization>();

  /** {@inheritDoc Store.devices} */
  devices(): readonly Device[] {
    return [...this.#devices.values()];
  }

  /** {@inheritDoc Store.authorizations} */
  authorizations(): readonly Authorization[] {
    return [...this.#authorizations.values()];
  }

  /** {@inheritDoc Store.saveDevice} */
  saveDevice(device: Device): void {
    this.#devices.set(device.id, device);
  }

  /** {@inheritDoc Store.saveAuthorization} */
  saveAuthorization(authorization: Authorization): void {
    this.#authorizations.set(authorizationKey(authorization), authorization);
  }

  /** {@inheritDoc Store.deleteAuthorization} */
  deleteAuthorization(authorization: Authorization): void {
    this.#authorizations.delete(authorizationKey(authorization));
  }
}

/** Who reaches what through whom: there is at most one authorization for each. */
export function authorizationKey(
  { clientId, resourceId, gatewayId }: Pick<
    Authorization,
    "clientId" | "resourceId" | "gatewayId"
  >,
): string {
  return `${clientId} ${resourceId} ${gatewayId}`;
}

/** What a device tells of itself on each connect. */
export interface DeviceIntroduction {
  /** Client or gateway. */
  readonly kind: DeviceKind;
  /** Id of its account or site. */
  readonly ownerId: string;
  /** What the device calls itself by. */
  readonly externalId: string;
  /** For people. */
  readonly name: string;
  /** WireGuard key in base64. */
  readonly publicKey: string;
}

const BASE4 = ip("100.64.0.0");
const BASE6 = ip("fd00:2021:1111::");
/** Both ranges leave 21 bits for the host. */
const HOSTS = 2 ** 21;
const FIRST_OFFSET = 2;
const LAST_OFFSET = HOSTS - 2;

/** All devices that were ever seen. */
export class DeviceRegistry {
  readonly #store: Store;
  readonly #random: RandomBytes;
  readonly #byId = new Map<string, Device>();
  readonly #idByName = new Map<string, string>();
  readonly #usedOffsets = new Set<number>();

  /** Knows what the store knows. */
  constructor(store: Store, random: RandomBytes) {
    this.#store = store;
    this.#random = random;
    for (const device of store.devices()) this.#remember(device);
  }

  /** The device with this id. */
  get(id: string): Device | undefined {
    return this.#byId.get(id);
  }

  /**
   * The device that introduces itself, brought up to date; made if it is new.
   *
   * @returns `undefined` when all tunnel addresses are taken
   */
  introduce(at: UnixSeconds, introduction: DeviceIntroduction): Device | undefined {
    const known = this.#byId.get(this.#idByName.get(nameKey(introduction)) ?? "");
    const { name, publicKey } = introduction;
    const device = known
      ? { ...known, name, publicKey, lastSeenAt: at }
      : this.#create(at, introduction);
    if (!device) return undefined;
    this.#remember(device);
    this.#store.saveDevice(device);
    return device;
  }

  #create(at: UnixSeconds, introduction: DeviceIntroduction): Device | undefined {
    const addressOffset = this.#freeOffset();
    if (addressOffset === undefined) return undefined;
    return {
      ...introduction,
      id: randomUuid(this.#random),
      addressOffset,
      pskBase: this.#random(32),
      lastSeenAt: at,
    };
  }

  /** A random place, and from there the next free one. */
  #freeOffset(): number | undefined {
    const count = LAST_OFFSET - FIRST_OFFSET + 1;
    const start = randomBelow(this.#random, count);
    for (let i = 0; i < count; i++) {
      const offset = FIRST_OFFSET + (start + i) % count;
      if (!this.#usedOffsets.has(offset)) return offset;
    }
    return undefined;
  }

  #remember(device: Device): void {
    this.#byId.set(device.id, device);
    this.#idByName.set(nameKey(device), device.id);
    this.#usedOffsets.add(device.addressOffset);
  }
}

function nameKey({ kind, ownerId, externalId }: DeviceIntroduction): string {
  return `${kind} ${ownerId} ${externalId}`;
}

/** A device's addresses in the tunnel. */
export function tunnelAddresses(device: Device): {
  readonly ipv4: IpAddress;
  readonly ipv6: IpAddress;
} {
  return {
    ipv4: addOffset(BASE4, device.addressOffset),
    ipv6: addOffset(BASE6, device.addressOffset),
  };
}

/** `base` with a host part of at most 24 bits put in. */
function addOffset(base: IpAddress, offset: number): IpAddress {
  const bytes = base.bytes.slice();
  for (let i = bytes.length - 1, rest = offset; rest > 0; i--, rest >>>= 8) {
    bytes[i] = bytes[i]! | rest & 0xff;
  }
  return new IpAddress(bytes);
}
