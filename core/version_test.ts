import { assertEquals } from "@std/assert";
import { BUILD_REVISION_VARIABLE, buildRevision } from "./version.ts";

Deno.test("buildRevision is hex or nothing", () => {
  try {
    for (
      const [text, revision] of [["d5b76a1", "d5b76a1"], ["", undefined], ["dirty", undefined]]
    ) {
      Deno.env.set(BUILD_REVISION_VARIABLE, text!);
      assertEquals(buildRevision(), revision);
    }
  } finally {
    Deno.env.delete(BUILD_REVISION_VARIABLE);
  }
  assertEquals(buildRevision(), undefined);
});
