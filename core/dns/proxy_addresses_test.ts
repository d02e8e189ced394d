import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { ip } from "../ip/address.ts";
import {
  PROXY_RANGE_V4,
  PROXY_RANGE_V6,
  ProxyAddresses,
  proxyAddressesOf,
  type ProxyAddressesOptions,
  type ProxyRecord,
  proxySlotAt,
} from "./proxy_addresses.ts";
import { isSentinel } from "./sentinels.ts";

Deno.test("ProxyAddresses gives every name four addresses of each family and keeps them", () => {
  const { proxies, assign } = start();
  assertEquals(assign("a.example.com").map(String), [
    "100.96.0.1",
    "100.96.0.2",
    "100.96.0.3",
    "100.96.0.4",
    "fd00:2021:1111:8000::1",
    "fd00:2021:1111:8000::2",
    "fd00:2021:1111:8000::3",
    "fd00:2021:1111:8000::4",
  ]);
  assertEquals(assign("b.example.com")[0]!.text, "100.96.0.5");
  assertEquals(assign("a.example.com")[0]!.text, "100.96.0.1");
  assertEquals(proxies.size, 2);
});

Deno.test("ProxyAddresses knows the name of an address", () => {
  const { proxies, assign } = start();
  for (const domain of ["a", "b"]) {
    for (const address of assign(domain)) {
      assertEquals(proxies.domainOf(address), domain);
    }
  }
  for (const other of ["100.96.0.0", "100.96.0.9", "100.95.255.255", "192.0.2.1", "fd00::1"]) {
    assertEquals(proxies.domainOf(ip(other)), undefined);
  }
  assertEquals(proxies.domainOf(ip("fd00:2021:1111:8000::")), undefined);
});

Deno.test("ProxyAddresses has distinct addresses in its ranges, and none among the sentinels", () => {
  // The sentinels begin at address 290560, which lies in the last slot before them.
  const old = Array.from({ length: 72_600 }, (_, slot) => ({ domain: `o${slot}`, slot }));
  const { assign } = start(old, { maxNames: 100_000 });
  const seen = new Set<string>();
  for (let i = 0; i < 200; i++) {
    for (const address of assign(`n${i}`)) {
      assert(!seen.has(address.text), address.text);
      seen.add(address.text);
      assert(!isSentinel(address), address.text);
      const range = address.family === 4 ? PROXY_RANGE_V4 : PROXY_RANGE_V6;
      assert(range.contains(address), address.text);
    }
  }
  assert(seen.has("100.100.112.4"));
});

Deno.test("ProxyAddresses lets the name asked for longest ago make way, and its slot rest", () => {
  const run = start([], { maxNames: 2, slots: 4 });
  const slots = ["a", "b", "a", "c", "d", "b"].map((name) => run.proxies.assign(name));
  assertEquals(slots, [0, 1, 0, 2, 3, 0]);
  assertEquals(run.evicted(), ["b", "a", "c"]);
  assertEquals(run.proxies.records().map(({ domain }) => domain), ["d", "b"]);
  assertEquals(run.proxies.has("a"), false);
  assertEquals(run.proxies.domainOf(ip("100.96.0.9")), undefined);
});

Deno.test("ProxyAddresses uses its ranges to the end", () => {
  const last = Math.floor((2 ** 21 - 2) / 4) - 1;
  const proxies = new ProxyAddresses([{ domain: "last", slot: last }]);
  assertEquals(proxyAddressesOf(last)[3]!.text, "100.127.255.252");
  assertEquals(proxies.domainOf(ip("100.127.255.252")), "last");
  assertEquals(new ProxyAddresses([{ domain: "past", slot: last + 1 }]).size, 0);
});

Deno.test("ProxyAddresses restores what it kept, and leaves out what contradicts it", () => {
  const proxies = new ProxyAddresses();
  for (const domain of ["a", "b", "c"]) proxies.assign(domain);
  proxies.assign("a"); // the last one asked for
  assertEquals(proxies.records(2).map(({ domain }) => domain), ["c", "a"]);
  const restored = new ProxyAddresses(proxies.records());
  for (const domain of ["a", "b", "c"]) {
    assertEquals(restored.assign(domain), proxies.assign(domain));
  }
  assertEquals(restored.assign("d"), 3);
  const few = start(proxies.records(), { maxNames: 2 });
  assertEquals(few.proxies.records().map(({ domain }) => domain), ["b", "c"]);
  assertEquals(few.evicted(), []);
  const odd = new ProxyAddresses([
    { domain: "a", slot: 1 },
    { domain: "a", slot: 2 },
    { domain: "b", slot: 1 },
    { domain: "c", slot: -1 },
    { domain: "d", slot: 0.5 },
    { domain: "e", slot: 1e9 },
    { domain: "f", slot: 72_640 }, // a sentinel's
    { domain: "", slot: 7 },
  ]);
  assertEquals(odd.records(), [{ domain: "a", slot: 1 }]);
});

Deno.test("ProxyAddresses never gives two names one address, whatever was restored", () => {
  const record = fc.record({
    domain: fc.stringMatching(/^[a-f]$/),
    slot: fc.integer({ min: -1, max: 12 }),
  });
  const options = { maxNames: 5, slots: 9 };
  fc.assert(fc.property(fc.array(record), fc.array(fc.stringMatching(/^[a-z]$/)), (old, names) => {
    const { proxies } = start(old, options);
    for (const name of names) proxies.assign(name);
    const owners = new Map<string, string>();
    assert(proxies.size <= options.maxNames);
    for (const { domain, slot } of proxies.records()) {
      for (const address of proxyAddressesOf(slot)) {
        assertEquals(owners.get(address.text), undefined);
        owners.set(address.text, domain);
        assertEquals(proxies.domainOf(address), domain);
        assertEquals(proxySlotAt(address.family, address.bytes, 0), slot);
      }
    }
  }));
});

function start(restored: readonly ProxyRecord[] = [], options: ProxyAddressesOptions = {}) {
  const proxies = new ProxyAddresses(restored, options);
  return {
    proxies,
    assign: (domain: string) => proxyAddressesOf(proxies.assign(domain)),
    evicted(): string[] {
      const all: string[] = [];
      for (let name; (name = proxies.pollEvicted()) !== undefined;) all.push(name);
      return all;
    },
  };
}
