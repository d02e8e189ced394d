import { assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { ConfigError } from "../config_error.ts";
import { parseResourceAttributes, resourceAttributes } from "./resource.ts";

const OWN = { "service.name": "relay", "service.namespace": "firezone" };

Deno.test("OTEL_RESOURCE_ATTRIBUTES overrides, OTEL_SERVICE_NAME overrides that", () => {
  const name = (variables: Parameters<typeof resourceAttributes>[1]) =>
    resourceAttributes(OWN, variables)["service.name"];
  assertEquals(name({}), "relay");
  assertEquals(name({ attributes: "service.name=a" }), "a");
  assertEquals(name({ attributes: "service.name=a", serviceName: "b" }), "b");
  assertEquals(name({ attributes: "", serviceName: "" }), "relay");
  const all = resourceAttributes(OWN, { attributes: "cloud.region=eu" });
  assertEquals(all["cloud.region"], "eu");
  assertEquals(all["service.namespace"], "firezone");
});

Deno.test("resource attributes may have escapes, white space and empty places", () => {
  assertEquals(parseResourceAttributes(" a = b%2Cc , d=e=f,, g="), { a: "b,c", d: "e=f", g: "" });
});

Deno.test("resource attributes without a name, a value or an end to an escape are refused", () => {
  for (const text of ["a", "=b", "a=b,c", "a=%zz", " =x"]) {
    assertThrows(() => parseResourceAttributes(text), ConfigError);
  }
});

Deno.test("any text is understood or refused", () => {
  fc.assert(fc.property(fc.string(), (text) => {
    try {
      parseResourceAttributes(text);
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error;
    }
  }));
});
