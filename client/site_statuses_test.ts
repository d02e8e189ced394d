import { assertEquals } from "@std/assert";
import { type Millis, NEVER } from "@firezone/core/units";
import { OFFLINE_FOR_MS, SiteStatuses } from "./site_statuses.ts";

const at = (ms: number) => ms as Millis;

Deno.test("SiteStatuses: one site that answers is enough, all must be offline", () => {
  const sites = new SiteStatuses();
  assertEquals(sites.of([]), "unknown");
  sites.noteOffline(at(0), "a");
  assertEquals(sites.of(["a"]), "offline");
  assertEquals(sites.of(["a", "b"]), "unknown");
  sites.noteOnline("b");
  assertEquals(sites.of(["a", "b"]), "online");
  sites.forget("b");
  assertEquals(sites.of(["a", "b"]), "unknown");
});

Deno.test("SiteStatuses forgets after five minutes that a site is offline, and announces it", () => {
  const sites = new SiteStatuses();
  sites.noteOffline(at(7), "a");
  assertEquals(sites.pollTimeout(), 7 + OFFLINE_FOR_MS);
  sites.handleTimeout(at(6 + OFFLINE_FOR_MS));
  assertEquals(sites.of(["a"]), "offline");
  sites.handleTimeout(at(7 + OFFLINE_FOR_MS));
  assertEquals(sites.of(["a"]), "unknown");
  assertEquals(sites.pollTimeout(), NEVER);
});

Deno.test("SiteStatuses: a site that is back stays online", () => {
  const sites = new SiteStatuses();
  sites.noteOffline(at(0), "a");
  sites.noteOnline("a");
  sites.handleTimeout(at(2 * OFFLINE_FOR_MS));
  assertEquals(sites.of(["a"]), "online");
  sites.clear();
  assertEquals(sites.of(["a"]), "unknown");
});
