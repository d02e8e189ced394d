/**
 * What a packet of a DNS resource costs on the gateway beside everything else.
 *
 *     deno bench -A gateway/nat/nat_bench.ts
 * @module
 */

import { ip, PacketRef, parsePacket } from "@firezone/core/ip";
import { seededRandom } from "@firezone/core/testing";
import type { Millis } from "@firezone/core/units";
import { Nat } from "./mod.ts";
import { makePacket } from "./packet_fixtures.ts";

const PAYLOAD = new Uint8Array(1_200);
const T0 = 0 as Millis;

for (const version of [4, 6] as const) {
  for (const flows of [10, 10_000]) {
    const nat = new Nat({ random: seededRandom(1) });
    const client = version === 4 ? "100.64.0.1" : "fd00:2021:1111::1";
    const proxy = (i: number) =>
      version === 4 ? `100.96.${i >> 8}.${i & 255}` : `fd00:2021:1111:8000::${i.toString(16)}`;
    const real = (i: number) =>
      version === 4 ? `10.0.${i >> 8}.${i & 255}` : `2001:db8::${i.toString(16)}`;
    const names = Math.min(1_000, flows);
    for (let i = 0; i < names; i++) {
      nat.assign(T0, {
        resourceId: "resource",
        domain: `host-${i}.example`,
        proxyIps: [1, 2, 3, 4].map((k) => ip(proxy(4 * i + k))),
        addresses: [ip(real(i + 1))],
      });
    }
    const requests: Uint8Array[] = [];
    const replies: Uint8Array[] = [];
    const packet = new PacketRef();
    for (let i = 0; i < flows; i++) {
      const port = 1_024 + i;
      const bytes = makePacket({
        protocol: "tcp",
        from: client,
        to: proxy(4 * (i % names) + 1),
        sourcePort: port,
        destinationPort: 443,
        payload: PAYLOAD,
      });
      requests.push(bytes);
      const sent = bytes.slice();
      parsePacket(sent, 0, sent.length, packet);
      nat.translateOutbound(T0, sent, packet, nat.proxyOf(sent, packet));
      replies.push(makePacket({
        protocol: "tcp",
        from: real((i % names) + 1),
        to: client,
        sourcePort: 443,
        destinationPort: port,
        payload: PAYLOAD,
      }));
    }
    const scratch = new Uint8Array(2_000);
    const length = requests[0]!.length;
    let next = 0;
    const group = `IPv${version}, ${flows} flows`;

    const load = (packets: readonly Uint8Array[]) => {
      next = next + 7 < flows ? next + 7 : 0;
      scratch.set(packets[next]!);
      parsePacket(scratch, 0, length, packet);
    };

    Deno.bench("copy and parse alone", { group, baseline: true }, () => {
      load(requests);
    });

    Deno.bench("and translate towards the resource", { group }, () => {
      load(requests);
      nat.translateOutbound(T0, scratch, packet, nat.proxyOf(scratch, packet));
    });

    Deno.bench("and translate towards the client", { group }, () => {
      load(replies);
      nat.translateInbound(T0, scratch, packet, nat.inboundFlow(T0, scratch, packet));
    });
  }
}

{
  const nat = new Nat({ random: seededRandom(1) });
  nat.assign(T0, {
    resourceId: "resource",
    domain: "host.example",
    proxyIps: [ip("100.96.0.1")],
    addresses: [ip("10.0.0.1")],
  });
  const packet = new PacketRef();
  const bytes = makePacket({
    protocol: "udp",
    from: "100.64.0.1",
    to: "100.96.0.1",
    sourcePort: 1,
    destinationPort: 53,
  });
  let now = 0;
  let port = 0;
  Deno.bench("a new flow per packet, old ones expiring", () => {
    const copy = bytes.slice();
    port = port === 0xffff ? 1 : port + 1;
    now += 10;
    copy[20] = port >> 8;
    copy[21] = port;
    parsePacket(copy, 0, copy.length, packet);
    nat.translateOutbound(now as Millis, copy, packet, nat.proxyOf(copy, packet));
    if (port % 100 === 0) nat.sweep(now as Millis);
  });
}
