import { assertEquals, assertThrows } from "@std/assert";
import { allocated } from "./garbage.ts";

Deno.test("allocated adds up what each heap grew by between its collections", () => {
  const lines = [
    "[7:0x5600]  126 ms: Scavenge 3.2 (3.5) -> 2.0 (3.8) MB, pooled: 0.0 MB, 0.2 / 0.0 ms",
    "[7:0x7f00]   67 ms: Scavenge 9.0 (9.5) -> 8.0 (9.8) MB, pooled: 0.0 MB, 0.2 / 0.0 ms",
    "2026-01-01T00:00:00Z INFO something else (1) -> 2",
    "[7:0x5600]  226 ms: Scavenge 3.0 (3.5) -> 2.5 (3.8) MB, pooled: 0.0 MB, 0.2 / 0.0 ms",
    "[7:0x5600]  326 ms: Mark-Compact 3.5 (3.5) -> 1.0 (3.8) MB, 0.2 / 0.0 ms",
    "[7:0x7f00]  367 ms: Scavenge 8.5 (9.5) -> 8.0 (9.8) MB, pooled: 0.0 MB, 0.2 / 0.0 ms",
  ];
  const log = lines.join("\n");
  assertEquals(allocated(log, 0, 1000), 2.5 * (1 << 20));
  assertEquals(allocated(log, 300, 1000), 1.5 * (1 << 20));
  assertEquals(allocated(log, 0, 300), 1 << 20);
  assertThrows(() => allocated("nothing", 0, 1), Error, "no collection");
});
