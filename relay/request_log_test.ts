import { assertEquals } from "@std/assert";
import { socketAddress } from "@firezone/core/ip";
import { METHOD, StunWriter } from "@firezone/core/stun";
import { setUpLogging } from "@firezone/core/telemetry";
import type { Port } from "@firezone/core/units";
import { RequestLog } from "./request_log.ts";

const ID = "0102030405060708090a0b0c";

Deno.test("answers and allocations are told of at debug, and to nobody else", () => {
  const log = new RequestLog();
  const tell = (filter: string) => {
    const lines: string[] = [];
    setUpLogging({ filter, format: "json", write: (line) => lines.push(line) });
    const destination = socketAddress("192.0.2.1:5000");
    const answer = (payload: Uint8Array) =>
      log.noteAnswer({ source: undefined, destination, payload });
    answer(new StunWriter("error", METHOD.allocate, ID).errorCode(401).finish());
    const relayed = socketAddress("203.0.113.1:50000");
    answer(new StunWriter("success", METHOD.allocate, ID).relayedAddress(relayed).finish());
    answer(new StunWriter("error", 0x023, ID).errorCode(400).finish());
    answer(new Uint8Array(3));
    const allocation = { id: 7, port: 50000 as Port, families: [4] } as const;
    log.noteCommand({ tag: "create-allocation", ...allocation });
    log.noteCommand({ tag: "free-allocation", ...allocation });
    setUpLogging({ filter: "off" });
    return lines.map((line) => JSON.parse(line)).map(({ time: _, ...rest }) => rest);
  };
  assertEquals(tell("info"), []);
  const common = { level: "debug", target: "relay.requests" };
  const to = { client: "192.0.2.1:5000", transaction: ID };
  assertEquals(tell("info,requests=debug"), [
    {
      ...common,
      message: "Answered",
      fields: { request: "allocate", error_code: 401, ...to },
    },
    {
      ...common,
      message: "Answered",
      fields: { request: "allocate", ...to, relayed: "203.0.113.1:50000" },
    },
    { ...common, message: "Answered", fields: { request: 0x023, error_code: 400, ...to } },
    {
      ...common,
      message: "Opening an allocation",
      fields: { id: 7, port: 50000, families: [4] },
    },
    {
      ...common,
      message: "Closing an allocation",
      fields: { id: 7, port: 50000, families: [4] },
    },
  ]);
});
