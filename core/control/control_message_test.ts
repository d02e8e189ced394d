import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { utf8, utf8Text } from "../bytes/mod.ts";
import { ip, IpAddress } from "../ip/mod.ts";
import {
  type AssignedIps,
  assignedIpsPacket,
  ControlEvent,
  controlPacket,
  type DomainStatus,
  domainStatusPacket,
  goodbyePacket,
  MAX_CONTROL_BODY,
  parseControlPacket,
} from "./mod.ts";

const RESOURCE = "00000000-0000-4000-8000-000000000003";

const parse = (packet: Uint8Array) => parseControlPacket(packet, 0, packet.length);
const json = (event: number, value: unknown) => controlPacket(event, utf8(JSON.stringify(value)));

const proxyIps = fc.array(
  fc.oneof(
    fc.uint8Array({ minLength: 4, maxLength: 4 }),
    fc.uint8Array({ minLength: 16, maxLength: 16 }),
  ).map((bytes) => new IpAddress(bytes)),
  { maxLength: 8 },
);

const texts = {
  resourceId: fc.uuid(),
  domain: fc.domain().filter((name) => name.length <= 253),
};

Deno.test("what assignedIpsPacket writes, parseControlPacket reads", () => {
  fc.assert(fc.property(fc.record({ ...texts, proxyIps }), (message: AssignedIps) => {
    assertEquals(parse(assignedIpsPacket(message)), { tag: "assigned-ips", ...message });
  }));
});

Deno.test("what domainStatusPacket writes, parseControlPacket reads", () => {
  const status = fc.constantFrom("active" as const, "inactive" as const);
  fc.assert(fc.property(fc.record({ ...texts, status }), (message: DomainStatus) => {
    assertEquals(parse(domainStatusPacket(message)), { tag: "domain-status", ...message });
  }));
});

Deno.test("the JSON is the one that other implementations write", () => {
  const packet = assignedIpsPacket({
    resourceId: RESOURCE,
    domain: "host.example.com",
    proxyIps: [ip("100.96.0.1"), ip("fd00:2021:1111:8000::1")],
  });
  assertEquals(
    utf8Text(packet.subarray(48)),
    `{"resource":"${RESOURCE}","domain":"host.example.com",` +
      `"proxy_ips":["100.96.0.1","fd00:2021:1111:8000::1"]}`,
  );
  const answer = domainStatusPacket({ resourceId: RESOURCE, domain: "a.b", status: "inactive" });
  assertEquals(
    utf8Text(answer.subarray(48)),
    `{"status":"Inactive","resource":"${RESOURCE}","domain":"a.b"}`,
  );
});

Deno.test("a packet is read from the middle of a buffer, with WireGuard's padding behind it", () => {
  const packet = goodbyePacket();
  const padded = new Uint8Array(100);
  padded.set(packet, 7);
  assertEquals(parseControlPacket(padded, 7, 7 + 64), { tag: "goodbye" });

  const status = domainStatusPacket({ resourceId: RESOURCE, domain: "a.b", status: "active" });
  const behind = new Uint8Array(status.length + 15);
  behind.set(status);
  assertEquals(parse(behind), parse(status));
});

Deno.test("unknown keys are ignored and an unknown status is inactive", () => {
  const message = parse(
    json(ControlEvent.DomainStatus, {
      resource: RESOURCE,
      domain: "a.b",
      status: "Sleeping",
      since: 3,
    }),
  );
  assertEquals(message, {
    tag: "domain-status",
    resourceId: RESOURCE,
    domain: "a.b",
    status: "inactive",
  });
});

Deno.test("control packets that make no sense are refused", () => {
  const good = { resource: RESOURCE, domain: "a.b", proxy_ips: ["100.96.0.1"] };
  const bad: unknown[] = [
    { ...good, proxy_ips: ["100.96.0.256"] },
    { ...good, proxy_ips: new Array(9).fill("100.96.0.1") },
    { ...good, proxy_ips: "100.96.0.1" },
    { ...good, domain: "" },
    { ...good, domain: "a".repeat(254) },
    { ...good, domain: "b\u00fccher.example" },
    { ...good, domain: "a b" },
    { ...good, resource: "\u0001" },
    { ...good, resource: 7 },
    { domain: "a.b" },
    [],
    null,
    "text",
  ];
  assert(parse(json(ControlEvent.AssignedIps, good)) !== undefined);
  for (const value of bad) {
    assertEquals(parse(json(ControlEvent.AssignedIps, value)), undefined, JSON.stringify(value));
  }
  assertEquals(parse(controlPacket(ControlEvent.AssignedIps, utf8("{"))), undefined);
  assertEquals(parse(controlPacket(ControlEvent.DomainStatus, Uint8Array.of(0xff))), undefined);
  assertEquals(parse(json(3, good)), undefined, "an event that is not known");
  const tooShort = goodbyePacket();
  tooShort[5] = 7;
  assertEquals(parse(tooShort), undefined, "no room for the event by the header's length");
});

Deno.test("any bytes are read or refused without throwing", () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 1400 }), (bytes) => {
    parse(bytes);
  }));
  fc.assert(
    fc.property(fc.nat({ max: 4 }), fc.uint8Array({ maxLength: 1300 }), (event, body) => {
      parse(controlPacket(event, body));
    }),
  );
  fc.assert(fc.property(fc.nat({ max: 1 }), fc.json(), (event, text) => {
    parse(controlPacket(event, utf8(text)));
  }));
});

Deno.test("a message that cannot fit into a packet is refused by the writer", () => {
  assertThrows(
    () =>
      assignedIpsPacket({
        resourceId: RESOURCE,
        domain: "x".repeat(MAX_CONTROL_BODY),
        proxyIps: [],
      }),
    RangeError,
    "1232",
  );
});

Deno.test("whatever can be read can be answered", () => {
  const text = (maxLength: number) =>
    fc.array(fc.oneof(fc.constantFrom('"', "\\", "/", "\u0001"), fc.string({ maxLength: 1 })), {
      maxLength,
    }).map((characters) => characters.join(""));
  const messages = fc.record({
    resource: fc.oneof(text(256), fc.constant('"'.repeat(256))),
    domain: fc.oneof(text(253), fc.constant("\\".repeat(253))),
    proxy_ips: fc.constant(["100.96.0.1"]),
  });
  fc.assert(fc.property(messages, (value) => {
    const message = parse(json(ControlEvent.AssignedIps, value));
    if (message?.tag !== "assigned-ips") return;
    const { resourceId, domain } = message;
    const status = { resourceId, domain, status: "inactive" as const };
    assertEquals(parse(domainStatusPacket(status)), { tag: "domain-status", ...status });
  }));
});
