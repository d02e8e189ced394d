import { assertEquals } from "@std/assert";
import { inspect } from "node:util";
import { Secret } from "./secret.ts";

Deno.test("Secret shows itself to reveal() alone", () => {
  const secret = new Secret("hunter2");
  assertEquals(secret.reveal(), "hunter2");
  const shown = [
    `${secret}`,
    JSON.stringify({ secret }),
    Deno.inspect({ secret }),
    inspect([secret]),
  ];
  for (const text of shown) {
    assertEquals(text.includes("hunter2"), false);
    assertEquals(text.includes("[secret]"), true);
  }
});
