import { assertEquals } from "@std/assert";
import { PROTOCOL } from "./packet.ts";
import { TrafficFilter } from "./traffic_filter.ts";

Deno.test("TrafficFilter without rules admits everything", () => {
  const filter = new TrafficFilter([]);
  assertEquals(filter.admits(PROTOCOL.tcp, 1), true);
  assertEquals(filter.admits(47, 0), true);
});

Deno.test("TrafficFilter admits what a rule names and nothing else", () => {
  const filter = new TrafficFilter([
    { protocol: "tcp", portStart: 80, portEnd: 80 },
    { protocol: "tcp", portStart: 8000, portEnd: 8010 },
    { protocol: "udp", portStart: 0, portEnd: 65535 },
  ]);
  const cases: [number, number, boolean][] = [
    [PROTOCOL.tcp, 79, false],
    [PROTOCOL.tcp, 80, true],
    [PROTOCOL.tcp, 81, false],
    [PROTOCOL.tcp, 8000, true],
    [PROTOCOL.tcp, 8010, true],
    [PROTOCOL.tcp, 8011, false],
    [PROTOCOL.udp, 65535, true],
    [PROTOCOL.icmp, 0, false],
    [PROTOCOL.icmpv6, 0, false],
    [47, 80, false],
  ];
  for (const [protocol, port, admitted] of cases) {
    assertEquals(filter.admits(protocol, port), admitted, `${protocol} ${port}`);
  }
});

Deno.test("TrafficFilter admits ICMP of both versions by one rule", () => {
  const filter = new TrafficFilter([{ protocol: "icmp" }]);
  assertEquals(filter.admits(PROTOCOL.icmp, 0), true);
  assertEquals(filter.admits(PROTOCOL.icmpv6, 0), true);
  assertEquals(filter.admits(PROTOCOL.tcp, 443), false);
});
