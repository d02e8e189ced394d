import { assert, assertEquals, assertNotEquals } from "@std/assert";
import { ip, type SocketAddress, socketAddress } from "../ip/address.ts";
import type { Millis } from "../units.ts";
import { Nat, NAT_KINDS, type NatOptions } from "./nat.ts";
import { seededRandom } from "./random.ts";

const INSIDE = socketAddress("192.168.1.2:5000");
const A1 = socketAddress("203.0.113.1:1000");
const A2 = socketAddress("203.0.113.1:2000");
const B1 = socketAddress("203.0.113.2:1000");
const at = (ms: number) => ms as Millis;

function nat(options: NatOptions, external: string | undefined = "198.51.100.1"): Nat {
  return new Nat(external === "" ? undefined : ip(external), options, seededRandom(1));
}

Deno.test("an endpoint-independent mapping is one for all destinations (RFC 4787 REQ-1)", () => {
  const device = nat({});
  const mapped = [A1, A2, B1].map((to) => device.translateOutbound(at(0), INSIDE, to).key);
  assertEquals(mapped, new Array(3).fill("198.51.100.1:5000"));
  assertEquals(device.mappings(at(0)), 1);
});

Deno.test("address- and port-dependent mappings differ by destination (§4.1)", () => {
  const ports = (mapping: NatOptions["mapping"]) => {
    const device = nat({ mapping: mapping!, ports: "sequential" });
    return [A1, A2, B1, A1].map((to) => device.translateOutbound(at(0), INSIDE, to).port);
  };
  assertEquals(ports("address-dependent"), [1024, 1024, 1025, 1024]);
  assertEquals(ports("address-and-port-dependent"), [1024, 1025, 1026, 1024]);
});

Deno.test("ports are preserved unless taken, taken in turn, or drawn (§4.2)", () => {
  const other = socketAddress("192.168.1.3:5000");
  const preserving = nat({});
  assertEquals(preserving.translateOutbound(at(0), INSIDE, A1).port, 5000);
  assertEquals(preserving.translateOutbound(at(0), other, A1).port, 5001);
  const drawing = nat({ ports: "random" });
  const drawn = drawing.translateOutbound(at(0), INSIDE, A1).port;
  assert(drawn >= 1024);
  assertNotEquals(drawn, 5000);
});

Deno.test("filters let in whom they should (§5)", () => {
  const admitted = (filtering: NatOptions["filtering"]) => {
    const device = nat({ filtering: filtering! });
    const external = device.translateOutbound(at(0), INSIDE, A1);
    return [A1, A2, B1].map((from) => device.translateInbound(at(1), from, external)?.key);
  };
  const inside = INSIDE.key;
  assertEquals(admitted("endpoint-independent"), [inside, inside, inside]);
  assertEquals(admitted("address-dependent"), [inside, inside, undefined]);
  assertEquals(admitted("address-and-port-dependent"), [inside, undefined, undefined]);
});

Deno.test("nothing comes in where nothing went out", () => {
  const device = nat(NAT_KINDS.fullCone);
  device.translateOutbound(at(0), INSIDE, A1);
  const elsewhere = socketAddress("198.51.100.1:5001");
  assertEquals(device.translateInbound(at(1), A1, elsewhere), undefined);
});

Deno.test("outbound traffic keeps a mapping, inbound only where asked (§4.3)", () => {
  const lives = (options: NatOptions, refresh: (device: Nat, external: SocketAddress) => void) => {
    const device = nat({ mappingTimeoutMs: 100, ...options });
    const external = device.translateOutbound(at(0), INSIDE, A1);
    refresh(device, external);
    return device.translateInbound(at(150), A1, external) !== undefined;
  };
  assertEquals(lives({}, () => {}), false);
  assertEquals(lives({}, (device) => device.translateOutbound(at(90), INSIDE, A1)), true);
  const inbound = (device: Nat, external: SocketAddress) =>
    device.translateInbound(at(90), A1, external);
  assertEquals(lives({}, inbound), false);
  assertEquals(lives({ inboundRefresh: true }, inbound), true);
});

Deno.test("a filter forgets a remote that was long not sent to, though the mapping lives", () => {
  const device = nat({ mappingTimeoutMs: 100 });
  const external = device.translateOutbound(at(0), INSIDE, A1);
  device.translateOutbound(at(90), INSIDE, B1);
  assertEquals(device.translateInbound(at(120), A1, external), undefined);
  assertEquals(device.translateInbound(at(120), B1, external)?.key, INSIDE.key);
});

Deno.test("an expired mapping comes back with another port where ports go in turn", () => {
  const device = nat({ ports: "sequential", mappingTimeoutMs: 100 });
  assertEquals(device.translateOutbound(at(0), INSIDE, A1).port, 1024);
  assertEquals(device.translateOutbound(at(100), INSIDE, A1).port, 1025);
  assertEquals(device.mappings(at(100)), 1);
  assertEquals(device.mappings(at(200)), 0);
});

Deno.test("without an external address it is a firewall that keeps addresses", () => {
  const device = nat({ mapping: "address-and-port-dependent" }, "");
  const inside = socketAddress("[2001:db8::2]:5000");
  const outside = socketAddress("[2001:db8:1::1]:1000");
  const stranger = socketAddress("[2001:db8:1::2]:1000");
  assertEquals(device.translateInbound(at(0), outside, inside), undefined);
  assertEquals(device.translateOutbound(at(0), inside, outside), inside);
  assertEquals(device.translateInbound(at(1), outside, inside), inside);
  assertEquals(device.translateInbound(at(1), stranger, inside), undefined);
});

Deno.test("reset forgets all", () => {
  const device = nat(NAT_KINDS.fullCone);
  const external = device.translateOutbound(at(0), INSIDE, A1);
  device.reset();
  assertEquals(device.translateInbound(at(1), A1, external), undefined);
});
