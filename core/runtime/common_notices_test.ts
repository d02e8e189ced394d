import { assertEquals } from "@std/assert";
import { ip } from "../ip/mod.ts";
import { logger, setUpLogging } from "../telemetry/mod.ts";
import { type CommonEvent, toCommonNotice } from "./common_notices.ts";

Deno.test("the loss of a relay is a line with its reason, and nothing for the main thread", () => {
  assertEquals(handle({ tag: "relay-failed", relayId: "r", reason: "no response" }), {
    notice: undefined,
    lines: [{
      level: "info",
      message: "A relay does not answer",
      fields: { relay: "r", reason: "no response" },
    }],
  });
  assertEquals(handle({ tag: "relay-refused", relayId: "r", request: "ALLOCATE", code: 508 }), {
    notice: undefined,
    lines: [{
      level: "warn",
      message: "A relay refused a request",
      fields: { relay: "r", request: "ALLOCATE", code: 508 },
    }],
  });
});

Deno.test("what the main thread has to do is passed on in silence", () => {
  assertEquals(handle({ tag: "no-relays" }), { notice: { tag: "no-relays" }, lines: [] });
  const addresses = { ipv4: ip("100.64.0.1"), ipv6: ip("fd00:2021:1111::1") };
  assertEquals(handle({ tag: "interface-changed", interface: addresses }), {
    notice: { tag: "interface", ipv4: "100.64.0.1", ipv6: "fd00:2021:1111::1" },
    lines: [],
  });
});

function handle(event: CommonEvent) {
  const written: string[] = [];
  setUpLogging({ filter: "trace", format: "json", write: (line) => written.push(line) });
  const notice = toCommonNotice(logger("test"), event);
  setUpLogging({ filter: "off" });
  const lines = written.map((line) => {
    const { level, message, fields } = JSON.parse(line);
    return { level, message, fields };
  });
  return { notice, lines };
}
