import { assertEquals } from "@std/assert";
import type { Millis } from "@firezone/core/units";
import { Askers } from "./askers.ts";

Deno.test("Askers are this machine and what is on its own bridges", () => {
  const askers = new Askers({
    interfaces: () => [
      { name: "eth0", cidr: "192.0.2.1/24" },
      { name: "eth0", cidr: "fe80::1/64" },
      { name: "docker0", cidr: "172.17.0.1/16" },
      { name: "br-lan", cidr: "198.51.100.1/24" },
    ],
    isInternalBridge: (name) => name === "docker0",
  });
  const cases: [from: string, allowed: boolean][] = [
    ["100.100.111.1", true],
    ["fd00:2021:1111:8000:100:100:111:1", true],
    ["127.0.0.53", true],
    ["192.0.2.1", true],
    ["fe80::1%eth0", true],
    ["172.17.3.4", true],
    ["192.0.2.2", false],
    ["fe80::2%eth0", false],
    ["198.51.100.2", false],
    ["no address", false],
    ["", false],
  ];
  for (const [from, allowed] of cases) {
    assertEquals(askers.allows(0 as Millis, from), allowed, from);
  }
});

Deno.test("Askers look again for addresses that are new, at most once a second", () => {
  const interfaces = [{ name: "eth0", cidr: "192.0.2.1/24" }];
  let reads = 0;
  const askers = new Askers({
    interfaces: () => {
      reads++;
      return interfaces;
    },
    isInternalBridge: () => false,
  });
  const allows = (ms: number, from: string) => askers.allows(ms as Millis, from);
  assertEquals(allows(0, "192.0.2.9"), false);
  interfaces.push({ name: "wlan0", cidr: "192.0.2.9/24" });
  assertEquals(allows(999, "192.0.2.9"), false);
  assertEquals(allows(1000, "192.0.2.9"), true);
  assertEquals(allows(1001, "192.0.2.9"), true);
  assertEquals(reads, 2);
});
