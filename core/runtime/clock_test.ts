import { assert } from "@std/assert";
import { requires } from "../../tests/requirements.ts";
import { monotonicNow, unixMillisAtZero } from "./clock.ts";

/** Milliseconds since the start of the machine, sleep included (proc_uptime(5)). */
function uptimeMs(): number {
  return Number(Deno.readTextFileSync("/proc/uptime").split(" ")[0]) * 1000;
}

Deno.test(
  "monotonicNow counts from the machine's start, and its sleep as well",
  requires("linux"),
  () => {
    const before = uptimeMs();
    const now = monotonicNow();
    const after = uptimeMs();
    // The file has hundredths of a second.
    assert(now >= before - 10 && now <= after + 10, `${before} ${now} ${after}`);
    for (let last = now, i = 0; i < 1000; i++) {
      const next = monotonicNow();
      assert(next >= last);
      last = next;
    }
  },
);

Deno.test("unixMillisAtZero leads from one clock to the other", requires("linux"), () => {
  const off = Math.abs(unixMillisAtZero() + monotonicNow() - Date.now());
  assert(off < 1000, `${off} ms`);
});
