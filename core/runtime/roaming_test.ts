import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import type { Family } from "../ip/address.ts";
import type { Millis } from "../units.ts";
import { NEVER } from "../units.ts";
import {
  Debounce,
  type NetworkIdentity,
  RoamingDetector,
  SleepDetector,
  type Uplink,
} from "./roaming.ts";

const HOME: Uplink = { interfaceIndex: 2, gateway: "192.168.1.1", addresses: ["192.168.1.7"] };
const HOME6: Uplink = { interfaceIndex: 2, gateway: "fe80::1", addresses: ["2001:db8::7"] };
const NONE: NetworkIdentity = new Map();

function network(v4?: Uplink, v6?: Uplink): NetworkIdentity {
  const uplinks = [[4, v4], [6, v6]] as const;
  return new Map(
    uplinks.flatMap(([family, uplink]): [Family, Uplink][] => uplink ? [[family, uplink]] : []),
  );
}

function at(ms: number): Millis {
  return ms as Millis;
}

Deno.test("another interface, next hop or address is another network", () => {
  for (
    const [other, isAnother] of [
      [{ ...HOME }, false],
      [{ ...HOME, addresses: ["192.168.1.7", "192.168.1.8"] }, false],
      [{ ...HOME, interfaceIndex: 3 }, true],
      [{ ...HOME, gateway: "192.168.1.254" }, true],
      [{ ...HOME, addresses: ["192.168.1.8"] }, true],
    ] as const
  ) {
    const detector = new RoamingDetector(at(0), network(HOME, HOME6));
    assertEquals(detector.handleNetwork(at(1), network(other, HOME6)), isAnother);
    assertEquals(detector.handleNetwork(at(2), network(other, HOME6)), false);
  }
});

Deno.test("an IP version that joins is no other network, one that goes is", () => {
  const detector = new RoamingDetector(at(0), network(HOME));
  assertEquals(detector.handleNetwork(at(1), network(HOME, HOME6)), false);
  assertEquals(detector.handleNetwork(at(2), network(HOME)), true);
  assertEquals(detector.handleNetwork(at(3), network(HOME)), false);
});

Deno.test("another connection is another network, but not a second move", () => {
  const detector = new RoamingDetector(at(0), network(HOME));
  detector.handleAnnouncement(at(10_000));
  assertEquals(detector.handleNetwork(at(10_000), network(HOME)), true);
  detector.handleAnnouncement(at(12_999));
  assertEquals(detector.handleNetwork(at(12_999), network(HOME)), false);
  detector.handleAnnouncement(at(13_000));
  assertEquals(detector.handleNetwork(at(13_000), NONE), false, "nothing could be done yet");
  assertEquals(detector.handleNetwork(at(13_500), network(HOME)), true);
});

Deno.test("a network that is away counts when it is back: another one, or after long", () => {
  const detector = new RoamingDetector(at(0), network(HOME));
  assertEquals(detector.handleNetwork(at(1_000), NONE), false);
  assertEquals(detector.handleNetwork(at(5_999), network(HOME)), false);
  assertEquals(detector.handleNetwork(at(10_000), NONE), false);
  assertEquals(detector.handleNetwork(at(14_000), NONE), false);
  assertEquals(detector.handleNetwork(at(15_000), network(HOME)), true);
  assertEquals(detector.handleNetwork(at(20_000), NONE), false);
  assertEquals(detector.handleNetwork(at(20_001), network({ ...HOME, gateway: "10.0.0.1" })), true);
});

Deno.test("the first network of a machine that started without one counts", () => {
  const detector = new RoamingDetector(at(0), NONE);
  assertEquals(detector.handleNetwork(at(1), NONE), false);
  assertEquals(detector.handleNetwork(at(2), network(HOME)), true);
  assertEquals(detector.handleNetwork(at(3), network(HOME)), false);
});

Deno.test("after sleep the same network counts once, as soon as there is one", () => {
  const detector = new RoamingDetector(at(0), network(HOME));
  detector.handleResume();
  assertEquals(detector.handleNetwork(at(1), NONE), false);
  assertEquals(detector.handleNetwork(at(2), network(HOME)), true);
  assertEquals(detector.handleNetwork(at(3), network(HOME)), false);
});

Deno.test("a machine that is never elsewhere never roams, however often one looks", () => {
  fc.assert(fc.property(fc.array(fc.nat(4_999)), (steps) => {
    const detector = new RoamingDetector(at(0), network(HOME, HOME6));
    let now = 0;
    for (const [i, step] of steps.entries()) {
      now += step;
      // Away for less than five seconds each time.
      const seen = i % 2 === 0 ? NONE : network(HOME, HOME6);
      assertEquals(detector.handleNetwork(at(now), seen), false);
    }
  }));
});

Deno.test("SleepDetector tells sleep from clocks that are a little off", () => {
  const detector = new SleepDetector(1_000_000);
  assertEquals(detector.handleReading(1_000_000.4), false);
  assertEquals(detector.handleReading(1_000_900), false);
  assertEquals(detector.handleReading(1_003_000), true);
  assertEquals(detector.handleReading(1_003_000), false);
});

Deno.test("Debounce waits for quiet, but not for ever", () => {
  const debounce = new Debounce(300, 1_000);
  assertEquals(debounce.pollTimeout(), NEVER);
  assertEquals(debounce.takeDue(at(1e9)), false);
  for (const ms of [0, 200, 400, 600, 800]) debounce.handle(at(ms));
  assertEquals(debounce.pollTimeout(), at(1_000));
  assertEquals(debounce.takeDue(at(999)), false);
  assertEquals(debounce.takeDue(at(1_000)), true);
  debounce.handle(at(2_000));
  assertEquals(debounce.pollTimeout(), at(2_300));
  assert(debounce.takeDue(at(2_300)));
  assertEquals(debounce.pollTimeout(), NEVER);
});
