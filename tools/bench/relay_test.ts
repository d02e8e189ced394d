import { assertEquals, assertStringIncludes } from "@std/assert";
import { relayGoals, type RelayRun, relayTable, summariseRelay } from "./relay_report.ts";

const LOAD = { direction: "up", size: 1200, burst: 32 } as const;

Deno.test("the report shows medians beside coturn's, and whether goals are met", () => {
  const run = (system: string, rate: number, cpuUs: number, halfLossPercent = 0): RelayRun => (
    { ...LOAD, system, rate, cpuUs, halfCpuUs: cpuUs + 1, halfLossPercent }
  );
  const cells = summariseRelay([
    run("firezone", 300_000, 2),
    run("coturn", 100_000, 8),
    run("firezone", 100_000, 4, 0.3),
    run("firezone", 200_000, 3),
  ]);
  assertEquals(cells.map((c) => [c.system, c.runs, c.median.rate, c.median.cpuUs]), [
    ["firezone", 3, 200_000, 3],
    ["coturn", 1, 100_000, 8],
  ]);
  assertStringIncludes(relayTable(cells), "1200 B, client to peer, bursts of 32");
  assertEquals(relayGoals(cells).map(({ isMet, figure }) => [isMet, figure]), [
    [true, "0.38"],
    [true, "0.44"],
    [true, "0.000 %"],
  ]);
});

Deno.test("a goal that was missed is told as such", () => {
  const run = (system: string, cpuUs: number): RelayRun => (
    { ...LOAD, burst: 1, system, rate: 1, cpuUs, halfCpuUs: cpuUs, halfLossPercent: 0.1 }
  );
  const goals = relayGoals(summariseRelay([run("firezone", 9), run("coturn", 8)]));
  assertEquals(goals.map(({ isMet }) => isMet), [false, false, false]);
});
