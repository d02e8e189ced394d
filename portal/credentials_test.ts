import { assertEquals } from "@std/assert";
import { relayPassword } from "@firezone/core/turn";
import type { UnixSeconds } from "@firezone/core/units";
import { iceCredentials, presharedKey, turnCredentials } from "./credentials.ts";
import { namedUuid, relayId } from "./uuid.ts";
import { isUuid } from "./uuid.ts";

const CLIENT = {
  id: "00000000-0000-4000-8000-000000000001",
  publicKey: "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
};
const GATEWAY = {
  id: "00000000-0000-4000-8000-000000000002",
  publicKey: "ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=",
};

Deno.test("ICE credentials are those of portal-protocol §3.1", () => {
  assertEquals(iceCredentials(CLIENT, GATEWAY), {
    client: { username: "mhk3", password: "xeez6p6qyqmqw43xdyu2q7" },
    gateway: { username: "wjgw", password: "kwomcb6zu3gppp5absmcva" },
  });
});

Deno.test("the preshared key is that of portal-protocol §3.2", () => {
  const key = presharedKey(
    CLIENT,
    new Uint8Array(32).fill(0x11),
    GATEWAY,
    new Uint8Array(32).fill(0x22),
  );
  assertEquals(key, "X+ClEgc83oV8svmHU030q7vruYlkqC4LT4tMgbmPIis=");
});

Deno.test("TURN credentials are those of portal-protocol §4", () => {
  assertEquals(
    relayPassword("1685984278", "1cab293a-4032-46f4-862a-40e5d174b0d2", "uvdgKvS9GXYZ_vmv"),
    "6xUIoZ+QvxKhRasLifwfRkMXl+ETLJUsFkHlXjlHAkg",
  );
  assertEquals(turnCredentials(CLIENT.publicKey, "ab".repeat(32), 2145916800 as UnixSeconds), {
    username: "2145916800:kF8o3vGOqsBa5vErLDRSdEr69ibaE0PVezlbVE4FGbY",
    password: "cf5sEjFrTcrv9A+/tEC5DYj8D0kzds8pq34GcyC2vF8",
    realm: "firezone",
  });
});

Deno.test("a relay's id is that of portal-protocol §2.9", () => {
  assertEquals(relayId("ab".repeat(32)), "271a413b-d339-4570-9fdc-eaec41f14f11");
});

Deno.test("named UUIDs differ by kind and name", () => {
  const ids = [["site", "a"], ["site", "b"], ["account", "a"]].map(([k, n]) => namedUuid(k!, n!));
  assertEquals(new Set(ids).size, 3);
  assertEquals(ids.every(isUuid), true);
});
