import { assertEquals } from "@std/assert";
import { METHOD } from "@firezone/core/stun";
import { ResponseCounts } from "./response_counts.ts";

Deno.test("ResponseCounts tells requests and outcomes apart, once", () => {
  const counts = new ResponseCounts();
  counts.count(METHOD.binding, 0);
  counts.count(METHOD.allocate, 401);
  counts.count(METHOD.allocate, 401);
  counts.count(METHOD.channelBind, 699);
  for (const method of [0x002, 0xfff, 0x123]) counts.count(method, 400);
  assertEquals(counts.take(), [
    { messageType: "binding", code: 0, count: 1 },
    { messageType: "allocate", code: 401, count: 2 },
    { messageType: "channelbind", code: 699, count: 1 },
    { messageType: "unknown", code: 400, count: 3 },
  ]);
  assertEquals(counts.take(), []);
});
