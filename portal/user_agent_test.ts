import { assertEquals } from "@std/assert";
import fc from "fast-check";
import {
  isCompatible,
  parseUserAgent,
  speaksFlows,
  type Version,
  wantsSites,
} from "./user_agent.ts";

Deno.test("agents of all eras are read", () => {
  const read = (text: string) => {
    const { os, component, version } = parseUserAgent(text);
    return [os.name, os.version, component, version?.join(".")];
  };
  assertEquals(read("Linux/6.1.0 headless-client/1.5.6 (x86_64; 6.1)"), [
    "Linux",
    "6.1.0",
    "headless-client",
    "1.5.6",
  ]);
  assertEquals(read("Mac OS/15.1 connlib/1.4.0"), ["Mac", "", "connlib", "1.4.0"]);
  assertEquals(read("relay/1.5.0"), ["relay", "1.5.0", "relay", "1.5.0"]);
  assertEquals(read("curl/8.0.1"), ["curl", "8.0.1", undefined, undefined]);
});

Deno.test("any text is an agent", () => {
  fc.assert(fc.property(fc.string({ unit: "binary" }), (text) => {
    parseUserAgent(text);
  }));
});

Deno.test("who says sites is known by component and version", () => {
  const table: [string, boolean][] = [
    ["Linux/6 headless-client/1.5.5", false],
    ["Linux/6 headless-client/1.5.6", true],
    ["Windows/11 gui-client/1.5.9", false],
    ["Windows/11 gui-client/1.6.0", true],
    ["Mac OS/15 apple-client/1.5.11", true],
    ["Android/15 android-client/1.5.7", false],
    ["Linux/6 connlib/1.5.9", false],
    ["Linux/6 connlib/1.5.10", true],
    ["Android/15 connlib/1.5.8", true],
    ["iOS/18 connlib/1.5.10", false],
    ["Linux/6 gateway/9.9.9", false],
  ];
  for (const [text, expected] of table) {
    assertEquals(wantsSites(parseUserAgent(text)), expected, text);
  }
});

Deno.test("gateways fit clients of the same major and a neighbouring minor version", () => {
  const fits = (client: string, gateway: string) =>
    isCompatible(version(client), gateway === "" ? undefined : version(gateway));
  assertEquals(fits("1.5.0", "1.4.9"), true);
  assertEquals(fits("1.5.0", "1.6.0"), true);
  assertEquals(fits("1.5.0", "1.7.0"), false);
  assertEquals(fits("1.4.0", "1.3.9"), false, "does not set up flows");
  assertEquals(fits("2.0.0", "1.9.0"), false);
  assertEquals(fits("1.5.0", ""), false);
  assertEquals([speaksFlows(version("1.3.9")), speaksFlows(undefined)], [false, true]);
});

function version(text: string): Version {
  return text.split(".").map(Number) as unknown as Version;
}
