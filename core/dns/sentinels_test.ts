import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { ip, socketAddress } from "../ip/address.ts";
import { effectiveServers, isSentinel, SentinelMap, serverKey } from "./sentinels.ts";

const NOTHING = { upstreamDns: [], upstreamDoh: [], system: [] };

Deno.test("effectiveServers takes the portal's, else its HTTPS ones, else the system's", () => {
  const upstreamDns = [socketAddress("1.1.1.1:53"), socketAddress("[2606:4700::1]:53")];
  const upstreamDoh = ["https://dns.google/dns-query"];
  const system = [ip("192.0.2.1"), ip("192.0.2.2"), ip("192.0.2.1")];
  const keys = (from: Parameters<typeof effectiveServers>[0]) =>
    effectiveServers(from).map(serverKey);
  assertEquals(keys({ upstreamDns, upstreamDoh, system }), [
    "portal 1.1.1.1:53",
    "portal [2606:4700::1]:53",
  ]);
  assertEquals(keys({ upstreamDns: [], upstreamDoh, system }), [
    "doh https://dns.google/dns-query",
  ]);
  assertEquals(keys({ ...NOTHING, system }), ["system 192.0.2.1:53", "system 192.0.2.2:53"]);
  assertEquals(keys(NOTHING), []);
});

Deno.test("effectiveServers leaves sentinels out, and falls back when nothing else is there", () => {
  const system = [ip("100.100.111.1"), ip("fd00:2021:1111:8000:100:100:111:1"), ip("192.0.2.1")];
  assertEquals(effectiveServers({ ...NOTHING, system }).map(serverKey), ["system 192.0.2.1:53"]);
  const upstreamDns = [socketAddress("100.100.111.7:53")];
  assertEquals(
    effectiveServers({ ...NOTHING, upstreamDns, system }).map(serverKey),
    ["system 192.0.2.1:53"],
  );
});

Deno.test("SentinelMap gives servers addresses of their family from .1 upward", () => {
  const map = new SentinelMap();
  assert(map.update(systemServers("192.0.2.1", "2001:db8::1", "192.0.2.2")));
  assertEquals(map.sentinels.map(({ address }) => address.text), [
    "100.100.111.1",
    "fd00:2021:1111:8000:100:100:111:1",
    "100.100.111.2",
  ]);
  const doh = effectiveServers({ ...NOTHING, upstreamDoh: ["https://dns.quad9.net/dns-query"] });
  assert(map.update(doh));
  assertEquals(map.sentinels.map(({ address }) => address.text), ["100.100.111.3"]);
  assertEquals(map.serverOf(ip("100.100.111.3")), doh[0]);
  assertEquals(map.serverOf(ip("100.100.111.1")), undefined);
});

Deno.test("SentinelMap keeps the sentinels of one set and changes all of another", () => {
  const map = new SentinelMap();
  map.update(systemServers("192.0.2.1", "192.0.2.2"));
  const before = map.sentinels;
  assertEquals(map.update(systemServers("192.0.2.2", "192.0.2.1")), false);
  assertEquals(map.sentinels, before);
  assert(map.update(systemServers("192.0.2.2")));
  assertEquals(map.sentinels.map(({ address }) => address.text), ["100.100.111.3"]);
  assert(map.update(systemServers("192.0.2.1")));
  assertEquals(map.sentinels.map(({ address }) => address.text), ["100.100.111.1"]);
  assert(map.update([]));
  assertEquals(map.sentinels, []);
});

Deno.test("SentinelMap hands out distinct addresses in the ranges, however many servers there are", () => {
  const address = fc.integer({ min: 1, max: 2000 }).map((n) => `192.0.${n >> 8}.${n & 255}`);
  fc.assert(fc.property(fc.array(fc.uniqueArray(address, { maxLength: 400 })), (sets) => {
    const map = new SentinelMap();
    for (const set of sets) {
      const former = new Set(map.sentinels.map(({ address }) => address.text));
      const changed = map.update(systemServers(...set));
      const now = map.sentinels.map(({ address }) => address.text);
      assertEquals(new Set(now).size, now.length);
      assert(map.sentinels.every(({ address }) => isSentinel(address)));
      assertEquals(now.length, Math.min(set.length, 254));
      if (changed && set.length + former.size <= 254) {
        assert(now.every((text) => !former.has(text)));
      }
    }
  }));
});

function systemServers(...addresses: string[]) {
  return effectiveServers({ ...NOTHING, system: addresses.map(ip) });
}
