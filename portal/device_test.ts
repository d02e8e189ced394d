/** One list of tests for both stores, then the registry above them. */
import { assertEquals, assertThrows } from "@std/assert";
import { ConfigError } from "@firezone/core/cli";
import { seededRandom } from "@firezone/core/testing";
import type { UnixSeconds } from "@firezone/core/units";
import {
  type Authorization,
  type Device,
  DeviceRegistry,
  MemoryStore,
  type Store,
  tunnelAddresses,
} from "./device.ts";
import { SqliteStore } from "./sqlite_store.ts";

const DEVICE: Device = {
  id: "d1",
  kind: "client",
  ownerId: "o",
  externalId: "e",
  addressOffset: 7,
  pskBase: new Uint8Array(32).fill(5),
  name: "n",
  publicKey: "k",
  lastSeenAt: 5 as UnixSeconds,
};

const AUTHORIZATION: Authorization = {
  id: "a1",
  clientId: "d1",
  accountId: "o",
  gatewayId: "g1",
  resourceId: "r1",
  resourceKey: "internet",
  tokenHash: "t",
  expiresAt: 9 as UnixSeconds,
  toldExpiresAt: 8 as UnixSeconds,
};

const fail = (error: unknown) => {
  throw error;
};

const STORES: [string, () => Store & Partial<Disposable>][] = [
  ["MemoryStore", () => new MemoryStore()],
  ["SqliteStore", () => new SqliteStore(":memory:", fail)],
];

for (const [name, make] of STORES) {
  Deno.test(`${name} gives back what was saved last`, () => {
    const store = make();
    store.saveDevice(DEVICE);
    store.saveDevice({ ...DEVICE, id: "d2", externalId: "f", addressOffset: 8 });
    store.saveDevice({ ...DEVICE, publicKey: "k2" });
    store.saveAuthorization(AUTHORIZATION);
    store.saveAuthorization({ ...AUTHORIZATION, gatewayId: "g2" });
    store.saveAuthorization({ ...AUTHORIZATION, id: "a2" });
    store.deleteAuthorization({ ...AUTHORIZATION, gatewayId: "g2" });
    const devices = new Map(store.devices().map((device) => [device.id, device]));
    assertEquals(devices.size, 2);
    const { pskBase, ...rest } = devices.get("d1")!;
    const { pskBase: savedBase, ...saved } = { ...DEVICE, publicKey: "k2" };
    assertEquals([...pskBase], [...savedBase]);
    assertEquals(rest, saved);
    assertEquals(store.authorizations(), [{ ...AUTHORIZATION, id: "a2" }]);
    store[Symbol.dispose]?.();
  });
}

Deno.test("SqliteStore keeps its file to itself, and across processes", () => {
  const folder = Deno.makeTempDirSync();
  const path = `${folder}/portal.db`;
  {
    using store = new SqliteStore(path, fail);
    store.saveDevice(DEVICE);
  }
  assertEquals(Deno.statSync(path).mode! & 0o777, 0o600);
  {
    using store = new SqliteStore(path, fail);
    assertEquals(store.devices()[0]!.id, "d1");
  }
  Deno.removeSync(folder, { recursive: true });
});

Deno.test("SqliteStore tells of writes that fail, and goes on", () => {
  const errors: unknown[] = [];
  using store = new SqliteStore(":memory:", (error) => errors.push(error));
  store.saveDevice({ ...DEVICE, name: undefined as unknown as string });
  assertEquals(errors.length, 1);
  assertEquals(store.devices(), []);
});

Deno.test("SqliteStore refuses what is no database of ours, in one line", () => {
  const folder = Deno.makeTempDirSync();
  const text = `${folder}/text.db`;
  Deno.writeTextFileSync(text, "this is no database, but long enough to look at ".repeat(100));
  for (const path of [text, folder, `${folder}/absent/x.db`]) {
    const error = assertThrows(() => new SqliteStore(path, fail), ConfigError);
    assertEquals(error.message.startsWith(`Cannot use database ${path}: `), true);
  }
  Deno.removeSync(folder, { recursive: true });
});

Deno.test("the registry fills its ranges without gaps in what it can give", () => {
  const store = new MemoryStore();
  const registry = new DeviceRegistry(store, seededRandom(3));
  const introduce = (externalId: string) =>
    registry.introduce(1 as UnixSeconds, {
      kind: "client",
      ownerId: "o",
      externalId,
      name: "n",
      publicKey: "k",
    })!;
  const first = introduce("a");
  assertEquals(introduce("a"), first);
  const others = Array.from({ length: 100 }, (_, i) => introduce(`b${i}`));
  const addresses = others.map((device) => tunnelAddresses(device).ipv4.text);
  assertEquals(new Set([...addresses, tunnelAddresses(first).ipv4.text]).size, 101);
});

Deno.test("tunnel addresses share an offset", () => {
  const at = (addressOffset: number) => {
    const { ipv4, ipv6 } = tunnelAddresses({ ...DEVICE, addressOffset });
    return [ipv4.text, ipv6.text];
  };
  assertEquals(at(2), ["100.64.0.2", "fd00:2021:1111::2"]);
  assertEquals(at(2 ** 21 - 2), ["100.95.255.254", "fd00:2021:1111::1f:fffe"]);
});
