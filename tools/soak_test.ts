/** The soaks, small: what they prove at full size is proven here in principle. */

import { assert, assertEquals } from "@std/assert";
import { requires } from "@firezone/tests/requirements";
import { Figures } from "./soak/figures.ts";
import { flood } from "./soak/flood.ts";
import { soakRelay } from "./soak/relay.ts";

const inNamespaces = requires("linux", "root", "namespaces", "ip");

Deno.test({
  name: "Hundreds of allocations are made, used, refreshed and deleted without a failure",
  ...inNamespaces,
  async fn() {
    const figures = new Figures(true);
    const options = { allocations: 300, rate: 4_000, seconds: 0.3, repeats: 1, expire: false };
    await soakRelay({ ...options, json: true }, figures);
    const failures = figures.all.filter(({ name, value }) => /failures|ended/.test(name) && value);
    assertEquals(failures, []);
    const memory = figures.all.find(({ name }) => name === "most memory")!;
    assert(memory.value < 400, `${memory.value} MB`);
  },
});

Deno.test({
  name: "A channel keeps carrying data under a flood from thousands of addresses",
  ...inNamespaces,
  async fn() {
    const figures = new Figures(true);
    await flood({ rate: 5_000, channelRate: 1_000, seconds: 2, json: true }, figures);
    const missed = figures.all.filter(({ value, atMost }) => value > (atMost ?? Infinity));
    // Memory is the business of the long run: here caches still fill up.
    assertEquals(missed.filter(({ name }) => !name.startsWith("memory grew")), []);
  },
});

Deno.test("figures say whether their bounds are kept", () => {
  const figures = new Figures(true);
  figures.add("told for information", 1e9, "B");
  figures.add("kept", 1, "%", 1);
  assert(figures.isGood);
  figures.add("broken", 1.01, "%", 1);
  assert(!figures.isGood);
});
