import { assert, assertEquals } from "@std/assert";
import { ReportCollector } from "./report_collector.ts";

Deno.test("ReportCollector waits for every worker, and asks once for all who wait", async () => {
  let asked = 0;
  const collector = new ReportCollector(() => {
    asked++;
    return 2;
  });
  let done = 0;
  const waiting = [collector.refresh(10_000), collector.refresh(10_000)].map((p) =>
    p.then(() => done++)
  );
  collector.noteReport();
  await Promise.resolve();
  assertEquals(done, 0);
  collector.noteReport();
  await Promise.all(waiting);
  assertEquals([asked, done], [1, 2]);
  collector.noteReport();
  const next = collector.refresh(10_000);
  collector.noteReport();
  collector.noteReport();
  await next;
  assertEquals(asked, 2);
});

Deno.test("ReportCollector waits for a worker that hangs no longer than it was told", async () => {
  const collector = new ReportCollector(() => 1);
  const start = performance.now();
  await collector.refresh(10);
  await collector.refresh(10);
  assert(performance.now() - start < 5000);
  await new ReportCollector(() => 0).refresh(10_000);
});
