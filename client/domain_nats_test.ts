import { assertEquals } from "@std/assert";
import type { Millis } from "@firezone/core/units";
import { type DomainAtGateway, DomainNats, MAX_PACKETS_PER_DOMAIN } from "./domain_nats.ts";

const at = (ms: number) => ms as Millis;
const WIKI: DomainAtGateway = { gatewayId: "g", resourceId: "r", domain: "wiki.example.com" };

function send(nats: DomainNats, now: number, n = 0, domain = WIKI) {
  const { gatewayId, resourceId } = domain;
  return nats.handlePacket(
    at(now),
    gatewayId,
    resourceId,
    domain.domain,
    new Uint8Array([9, n, 9]),
    1,
    2,
  );
}

function assignments(nats: DomainNats): number {
  let count = 0;
  while (nats.pollAssignment() !== undefined) count++;
  return count;
}

Deno.test("DomainNats keeps packets until the gateway is active, then lets them go in order", () => {
  const nats = new DomainNats();
  assertEquals(send(nats, 0, 1), "kept");
  assertEquals(send(nats, 1, 2), "kept");
  assertEquals(assignments(nats), 1);
  assertEquals(nats.handleStatus(WIKI, true), [new Uint8Array([1]), new Uint8Array([2])]);
  assertEquals(send(nats, 2), "send");
  assertEquals(nats.handleStatus(WIKI, true), []);
  assertEquals(assignments(nats), 0);
});

Deno.test("DomainNats repeats an unanswered assignment with traffic, every two seconds", () => {
  const nats = new DomainNats();
  send(nats, 0);
  send(nats, 1999);
  assertEquals(assignments(nats), 1);
  send(nats, 2000);
  assertEquals(assignments(nats), 1);
  nats.handleQuery(at(3999), WIKI.domain);
  assertEquals(assignments(nats), 0);
  nats.handleQuery(at(4000), WIKI.domain);
  assertEquals(assignments(nats), 1);
});

Deno.test("DomainNats keeps what waits when the name is asked for again", () => {
  const nats = new DomainNats();
  send(nats, 0, 1);
  nats.handleQuery(at(3000), WIKI.domain);
  assertEquals(assignments(nats), 2);
  assertEquals(nats.handleStatus(WIKI, true), [new Uint8Array([1])]);
});

Deno.test("DomainNats renews a name without holding traffic up", () => {
  const nats = new DomainNats();
  send(nats, 0);
  nats.handleStatus(WIKI, true);
  assignments(nats);
  nats.handleQuery(at(5), WIKI.domain);
  assertEquals(assignments(nats), 1);
  assertEquals(send(nats, 6), "send");
  nats.handleStatus(WIKI, true);
  assertEquals(send(nats, 9000), "send");
  assertEquals(assignments(nats), 0);
});

Deno.test("DomainNats drops packets after a refusal, until the name is asked for again", () => {
  const nats = new DomainNats();
  send(nats, 0);
  assertEquals(nats.handleStatus(WIKI, false), []);
  assertEquals(send(nats, 10_000), "dropped");
  nats.handleQuery(at(10_001), "other.example.com");
  assertEquals(send(nats, 10_001), "dropped");
  nats.handleQuery(at(10_002), WIKI.domain);
  assertEquals(send(nats, 10_003), "kept");
  assertEquals(assignments(nats), 2);
});

Deno.test("DomainNats tells gateways, resources and names apart", () => {
  const nats = new DomainNats();
  const others = [
    { ...WIKI, gatewayId: "g2" },
    { ...WIKI, resourceId: "r2" },
    { ...WIKI, domain: "mail.example.com" },
  ];
  send(nats, 0);
  nats.handleStatus(WIKI, true);
  for (const other of others) assertEquals(send(nats, 0, 1, other), "kept");
  assertEquals(send(nats, 0), "send");
  assertEquals(assignments(nats), 4);
  nats.handleQuery(at(5_000), WIKI.domain);
  assertEquals(assignments(nats), 3);
  nats.dropGateway("g2");
  assertEquals(nats.handleStatus(others[0]!, true), []);
  for (const other of others.slice(1)) assertEquals(nats.handleStatus(other, true).length, 1);
});

Deno.test("DomainNats keeps the newest packets of a name", () => {
  const nats = new DomainNats();
  for (let n = 0; n < MAX_PACKETS_PER_DOMAIN + 1; n++) send(nats, 0, n);
  const kept = nats.handleStatus(WIKI, true);
  assertEquals(kept.length, MAX_PACKETS_PER_DOMAIN);
  assertEquals(kept[0], new Uint8Array([1]));
});

Deno.test("DomainNats forgets a gateway, a resource, everything", () => {
  const nats = new DomainNats();
  const forget = [
    () => nats.dropGateway(WIKI.gatewayId),
    () => nats.dropResource(WIKI.resourceId),
    () => nats.dropDomain(WIKI.domain),
    () => nats.clear(),
  ];
  for (const drop of forget) {
    send(nats, 0);
    nats.handleStatus(WIKI, true);
    drop();
    assertEquals(send(nats, 0), "kept");
    nats.clear();
  }
  assertEquals(nats.handleStatus(WIKI, true), []);
});
