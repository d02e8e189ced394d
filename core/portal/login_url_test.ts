import { assertEquals, assertMatch } from "@std/assert";
import { Secret } from "../secret.ts";
import { externalId } from "./external_id.ts";
import { type DeviceLogin, loginHeaders, loginUrl, toApiUrl } from "./login_url.ts";
import { hostInfo } from "./host_info.ts";
import { userAgent } from "./user_agent.ts";

const UUID = "c5d1ea8a-8b8b-4a1f-9a43-1de1c2a5b9d0";
const TOKEN = new Secret(".tok+en/");
const KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const CLIENT: DeviceLogin = { role: "client", id: "plain", name: "My Laptop & more" };

Deno.test("an API URL gets a WebSocket scheme, and other schemes are refused", () => {
  const cases: [string, string | undefined][] = [
    ["wss://api.firezone.dev", "wss://api.firezone.dev/"],
    ["https://api.firezone.dev/", "wss://api.firezone.dev/"],
    ["http://localhost:8081", "ws://localhost:8081/"],
    [" ws://[::1]:80/x ", "ws://[::1]/x"],
    ["ftp://x", undefined],
    ["api.firezone.dev", undefined],
    ["wss://", undefined],
    ["", undefined],
  ];
  for (const [text, url] of cases) assertEquals(toApiUrl(text)?.href, url, text);
});

Deno.test("a v2 login has its own path and keeps the token out of the URL", () => {
  const url = loginUrl(new URL("wss://x.test/base/?old=1#h"), "v2", CLIENT, TOKEN, KEY);
  assertEquals(
    url.href,
    "wss://x.test/base/client/v2/websocket?external_id=plain&name=My+Laptop+%26+more" +
      "&public_key=AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8%3D",
  );
  assertEquals(
    loginHeaders("v2", "client", TOKEN, { os: "Linux", osVersion: "6.1.0", arch: "x86_64" }),
    {
      "X-Authorization": "Bearer .tok+en/",
      "User-Agent": "Linux/6.1.0 headless-client/1.5.0 (x86_64)",
    },
  );
});

Deno.test("a v1 login has the token first, and every id hashed", () => {
  const gateway: DeviceLogin = { ...CLIENT, role: "gateway" };
  const url = loginUrl(new URL("wss://x.test"), "v1", gateway, TOKEN, KEY);
  assertEquals(url.pathname, "/gateway/websocket");
  assertEquals([...url.searchParams.keys()], ["token", "external_id", "name", "public_key"]);
  assertEquals(url.searchParams.get("token"), ".tok+en/");
  assertMatch(url.searchParams.get("external_id")!, /^[0-9a-f]{64}$/);
  const hardware = { serial: "S", uuid: "U" };
  const client = loginUrl(new URL("wss://x.test"), "v1", { ...CLIENT, hardware }, TOKEN, KEY);
  assertEquals(client.searchParams.get("device_serial"), "S");
  assertEquals(client.searchParams.get("device_uuid"), "U");
});

Deno.test("a relay's path has no generation and only what is configured is sent", () => {
  const relay = { role: "relay", port: 3478, stampSecret: new Secret("x") } as const;
  const bare = loginUrl(new URL("wss://x.test"), "v2", relay, TOKEN, undefined);
  assertEquals(bare.href, "wss://x.test/relay/websocket?port=3478");
  const full = loginUrl(
    new URL("wss://x.test"),
    "v1",
    { ...relay, name: "r", ipv4: "192.0.2.1", ipv6: "2001:db8::1" },
    TOKEN,
    undefined,
  );
  assertEquals(
    full.search,
    "?token=.tok%2Ben%2F&name=r&ipv4=192.0.2.1&ipv6=2001%3Adb8%3A%3A1&port=3478",
  );
});

Deno.test("ids that are UUIDs in any spelling are hashed, others only for v1", () => {
  const bare = UUID.replaceAll("-", "");
  for (const id of [UUID, bare, `{${UUID}}`, `urn:uuid:${UUID}`, UUID.toUpperCase()]) {
    assertMatch(externalId("v2", id), /^[0-9a-f]{64}$/);
    assertEquals(externalId("v1", id), externalId("v2", id));
  }
  const hash = externalId("v1", "abc");
  assertEquals(hash, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  assertEquals(externalId("v2", "abc"), "abc");
  assertEquals(externalId("v2", hash), hash);
  assertEquals(externalId("v2", `${UUID}0`), `${UUID}0`);
});

Deno.test("the user agent names a component that the portal of that time knows", () => {
  const host = { os: "Linux", osVersion: "6.1.0", arch: "x86_64" };
  assertEquals(userAgent("v1", "client", host), "Linux/6.1.0 connlib/1.5.0 (x86_64)");
  assertEquals(userAgent("v1", "gateway", host), "Linux/6.1.0 connlib/1.5.0 (x86_64)");
  assertEquals(userAgent("v2", "gateway", host), "Linux/6.1.0 gateway/1.5.0 (x86_64)");
  assertEquals(userAgent("v1", "relay", host), "relay/1.5.0");
  assertEquals(userAgent("v2", "relay", host), "Linux/6.1.0 relay/1.5.0 (x86_64)");
  const odd = userAgent("v2", "client", { os: "Größe X", osVersion: "", arch: "a b\r\n" });
  assertEquals(odd, "Gr-e-X/unknown headless-client/1.5.0 (a-b-)");
  assertMatch(userAgent("v2", "client", hostInfo()), /^[\x20-\x7e]+$/);
});
