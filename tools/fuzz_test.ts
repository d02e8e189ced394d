import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import fc from "fast-check";
import { fuzz } from "./fuzz/target.ts";
import { FUZZ_TARGETS } from "./fuzz/targets.ts";

/** Chosen so that all of them together take a few seconds. */
const RUNS: Readonly<Record<string, number>> = {
  relay: 250,
  stun: 5000,
  ice: 300,
  wireguard: 60,
  portal: 1500,
  http2: 300,
  dns: 300,
};
/** What the relay's inputs have to reach, or they would prove nothing. */
const REACHED = [
  "success 1",
  "success 3",
  "success 4",
  "success 8",
  "success 9",
  ...[400, 401, 403, 420, 437, 438, 440, 441, 442, 443, 508].map((code) => `error ${code}`),
  ...["expired", "deleted", "replaced", "superseded"].map((reason) =>
    `allocation ended: ${reason}`
  ),
  "answer repeated",
  "data between two clients of ours",
  "data to a client",
  "data to a peer",
  "data to a sibling",
  "freed before it was open",
  "port opened later",
  "port refused",
];

for (const [name, target] of FUZZ_TARGETS) {
  Deno.test(`fuzzing ${name} for a moment breaks nothing`, () => {
    const { failure, coverage, runs } = fuzz(target, { seed: 20_240_817, runs: RUNS[name]! });
    if (failure !== undefined) {
      console.log(failure.input, failure.path);
      throw failure.error;
    }
    assertEquals(runs, RUNS[name]);
    if (name === "http2") assert(coverage.of("response") > 0);
    if (name !== "relay") return assert(coverage.entries().length > 0);
    for (const what of REACHED) assert(coverage.of(what) > 0, `no input reaches: ${what}`);
  });
}

Deno.test("a failure is made small, and seed and path repeat it", () => {
  const target = {
    name: "toy",
    description: "",
    property: () => fc.property(fc.array(fc.nat(100)), (list) => !list.some((n) => n > 41)),
  };
  const { failure } = fuzz(target, { seed: 1, milliseconds: 5_000 });
  assertEquals(failure!.input, "[[42]]");
  const again = fuzz(target, { seed: 1, path: failure!.path });
  assertEquals(again.failure!.input, failure!.input);
  assertStringIncludes(String(again.failure!.error), "Property failed");
});
