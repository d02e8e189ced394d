import { assert, assertEquals } from "@std/assert";
import { medianHeapGrowth } from "../testing/heap_growth.ts";
import type { Millis } from "../units.ts";
import { ERROR_BURST, ERRORS_PER_SECOND, IcmpErrors, peerErrorLimit } from "./icmp_errors.ts";
import { makePacket } from "./packet_fixtures.ts";
import { PacketRef, Parse, parsePacket } from "./packet.ts";

const PACKETS = [4, 6].map((version) =>
  makePacket({ version: version as 4 | 6, payload: new Uint8Array(1200) })
);

Deno.test("IcmpErrors answers a burst and then so many per second, of both families together", () => {
  const errors = new IcmpErrors();
  assertEquals(answered(errors, 0, 500), ERROR_BURST);
  assertEquals(answered(errors, 0, 500), 0);
  assertEquals(answered(errors, 10, 500), ERRORS_PER_SECOND / 100);
  let sum = 0;
  for (let ms = 1000; ms < 11_000; ms++) sum += answered(errors, ms, 4);
  assertEquals(sum, ERROR_BURST - 1 + 10 * ERRORS_PER_SECOND);
  assertEquals(answered(errors, 60_000, 500), ERROR_BURST, "silence saves up a burst, no more");
});

Deno.test("IcmpErrors lets no peer take what is for all", () => {
  const errors = new IcmpErrors();
  const [greedy, other] = [peerErrorLimit(), peerErrorLimit()];
  let [many, few] = [0, 0];
  for (let ms = 0; ms < 10_000; ms++) {
    many += answered(errors, ms, 10, greedy);
    if (ms % 100 === 0) few += answered(errors, ms, 1, other);
  }
  assertEquals(few, 100, "whoever is refused now and then is always told");
  assert(many > 900 && many < 1100, `${many}`);
});

Deno.test("IcmpErrors spends nothing on what no error may answer", () => {
  const errors = new IcmpErrors();
  const group = makePacket({ destination: "224.0.0.1", payload: new Uint8Array(8) });
  for (let i = 0; i < 500; i++) assertEquals(answered(errors, 0, 1, undefined, [group]), 0);
  assertEquals(answered(errors, 0, 500), ERROR_BURST);
});

Deno.test("an error that is withheld allocates nothing", () => {
  const errors = new IcmpErrors();
  const peer = peerErrorLimit();
  const packet = parsed(PACKETS[0]!);
  const clock = new Float64Array([0.5]);
  const batch = () => {
    for (let i = 0; i < 1000; i++) {
      const now = (clock[0]! += 0.000_01) as Millis;
      errors.unreachable(now, PACKETS[0]!, packet, "prohibited", peer);
    }
  };
  const growth = medianHeapGrowth(batch, 4000);
  assert(growth < 4000, `grew by ${growth} bytes per 1000 packets`);
});

/** How many of `count` packets at one instant are answered. */
function answered(
  errors: IcmpErrors,
  ms: number,
  count: number,
  peer?: ReturnType<typeof peerErrorLimit>,
  packets = PACKETS,
): number {
  let n = 0;
  for (let i = 0; i < count; i++) {
    const bytes = packets[i % packets.length]!;
    const error = errors.unreachable(ms as Millis, bytes, parsed(bytes), "network", peer);
    if (error) n++;
  }
  return n;
}

function parsed(packet: Uint8Array): PacketRef {
  const ref = new PacketRef();
  assertEquals(parsePacket(packet, 0, packet.length, ref), Parse.Ok);
  return ref;
}
