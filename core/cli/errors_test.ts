import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { takeSecretEnv, toToken } from "./env.ts";
import { ConfigError, describeFatal, isOperational } from "./errors.ts";

Deno.test("operational errors are one line, with their causes", () => {
  const error = new ConfigError("Cannot read x", { cause: new Error("no such\nfile") });
  assertEquals(describeFatal(error, false), "Cannot read x: no such file");
  assertStringIncludes(describeFatal(error, true), "errors_test.ts");
  assertEquals(isOperational(new Deno.errors.AddrInUse("x")), true);
});

Deno.test("a bug shows its stack whatever the log level", () => {
  const text = describeFatal(new TypeError("x is not y"), false);
  assertStringIncludes(text, "Internal error: TypeError: x is not y");
  assertStringIncludes(text, "errors_test.ts");
  assertEquals(describeFatal("thrown text", false), "Internal error: thrown text");
});

Deno.test("takeSecretEnv reads once, without white space, and clears the variable", () => {
  Deno.env.set("TEST_CLI_SECRET", " abc\ndef \n");
  assertEquals(takeSecretEnv("TEST_CLI_SECRET")?.reveal(), "abcdef");
  assertEquals(Deno.env.has("TEST_CLI_SECRET"), false);
  assertEquals(takeSecretEnv("TEST_CLI_SECRET"), undefined);
  Deno.env.set("TEST_CLI_SECRET", " \n");
  assertEquals(takeSecretEnv("TEST_CLI_SECRET"), undefined);
});

Deno.test("toToken refuses what no header can carry, without telling what it was", () => {
  assertEquals(toToken(" a.b-c_d=\n", "here")?.reveal(), "a.b-c_d=");
  assertEquals(toToken(" \n", "here"), undefined);
  for (const odd of ["s\0cret", "s\u00f6cret", "s\u{1f511}cret", "\ufeff\0scret", "scret\x7f"]) {
    const error = assertThrows(() => toToken(odd, "/etc/token"), ConfigError, "/etc/token");
    assertEquals(error.message.includes("cret"), false);
  }
});
