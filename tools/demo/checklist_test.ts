import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { Checklist, duration, rate, StepError, type Style } from "./checklist.ts";

function record(style: Style): { list: Checklist; text: () => string } {
  let written = "";
  return { list: new Checklist(style, (text) => written += text), text: () => written };
}

Deno.test("Checklist shows a plain line per step with what it found", async () => {
  const { list, text } = record("plain");
  list.heading("Direct");
  await list.step(
    "a page comes",
    () => Promise.resolve({ shown: { path: "direct", rtt: "1 ms" }, data: { rttMs: 1 } }),
  );
  assertStringIncludes(text(), "\nDirect\n  ✔ a page comes ");
  assertStringIncludes(text(), "      path: direct\n      rtt: 1 ms\n");
  assertEquals(text().includes("\x1b"), false);
});

Deno.test("Checklist names the step that failed", async () => {
  const { list, text } = record("plain");
  const error = await assertRejects(
    () => list.step("a page comes", () => Promise.reject(new Error("no route"))),
    StepError,
    "no route",
  );
  assertEquals(error.step, "a page comes");
  assertStringIncludes(text(), "✘ a page comes");
});

Deno.test("Checklist as JSON has one object per line and nothing else", async () => {
  const { list, text } = record("json");
  list.heading("Direct");
  list.note("for people");
  await list.step("a page comes", () => Promise.resolve({ shown: {}, data: { path: "direct" } }));
  await list.step("nothing to say", () => Promise.resolve());
  list.data({ result: "passed" });
  const lines = text().trimEnd().split("\n").map((line) => ({ ...JSON.parse(line), ms: 0 }));
  assertEquals(lines, [
    { step: "a page comes", ok: true, ms: 0, path: "direct" },
    { step: "nothing to say", ok: true, ms: 0 },
    { result: "passed", ms: 0 },
  ]);
});

Deno.test("Checklist on a terminal leaves no spinner behind", async () => {
  const { list, text } = record("terminal");
  await list.step("a page comes", () => Promise.resolve());
  assertStringIncludes(text().split("\r\x1b[2K").at(-1)!, "a page comes");
});

Deno.test("Checklist is silent once it was told so", async () => {
  const { list, text } = record("terminal");
  await list.step("a page comes", () => {
    list.silence();
    return Promise.resolve();
  });
  assertEquals(text().includes("✔"), false);
});

Deno.test("duration and rate choose their unit", () => {
  assertEquals([duration(12.4), duration(1_234)], ["12 ms", "1.2 s"]);
  assertEquals([rate(38_750_000, 1_000), rate(300_000_000, 1_000)], ["310 Mbit/s", "2.40 Gbit/s"]);
});
