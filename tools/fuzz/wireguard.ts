/**
 * Two WireGuard tunnels on a link on which anything may happen to a message.
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { type End, packet, VirtualLink } from "../../core/wireguard/testing/virtual_link.ts";
import { damage, damages } from "./raw_stun.ts";
import type { FuzzTarget } from "./target.ts";

const end = fc.constantFrom("a" as const, "b" as const);
const steps = fc.oneof(
  { weight: 6, arbitrary: fc.record({ op: fc.constant("send" as const), end }) },
  {
    weight: 1,
    arbitrary: fc.record({ op: fc.constant("initiate" as const), force: fc.boolean() }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      op: fc.constant("wait" as const),
      ms: fc.constantFrom(1, 30, 5_000, 10_001, 25_000, 120_000, 181_000, 600_000),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({ op: fc.constant("replay" as const), end, which: fc.nat(50) }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      op: fc.constant("damage" as const),
      end,
      which: fc.nat(50),
      list: damages,
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      op: fc.constant("bytes" as const),
      end,
      bytes: fc.uint8Array({ maxLength: 200 }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ op: fc.constant("cut" as const), isCut: fc.boolean() }) },
);

/** No message throws or comes twice, and once the link is good, everything works again. */
export const wireguardTarget: FuzzTarget = {
  name: "wireguard",
  description: "two tunnels with lost, damaged, repeated and invented messages",
  property: (coverage) =>
    fc.property(
      fc.nat(1000),
      fc.noBias(fc.array(steps, { maxLength: 60, size: "max" })),
      (seed, list) => {
        const link = new VirtualLink({ seed, b: { initiates: seed % 2 === 0 } });
        const seen: { from: End; message: Uint8Array }[] = [];
        let isCut = false;
        link.passes = (from, message) => {
          seen.push({ from, message: message.slice() });
          return !isCut;
        };
        const sent = { a: 0, b: 0 };
        for (const step of list) {
          switch (step.op) {
            case "send":
              if (link.send(link[step.end], packet(sent[step.end]))) sent[step.end]++;
              break;
            case "initiate":
              link.command(link.a, (tunnel) => tunnel.initiate(link.now, step.force));
              break;
            case "wait":
              link.run(step.ms);
              break;
            case "replay":
            case "damage": {
              const old = seen[step.which % Math.max(1, seen.length)];
              if (old === undefined) break;
              const bytes = step.op === "damage" ? damage(old.message, step.list) : old.message;
              link.inject(link[step.end], bytes);
              break;
            }
            case "bytes":
              link.inject(link[step.end], step.bytes);
              break;
            case "cut":
              isCut = step.isCut;
          }
        }
        link.run(100);
        assert(
          link.a.packets.length <= sent.b && link.b.packets.length <= sent.a,
          "none came twice",
        );
        isCut = false;
        // A flood of handshakes is answered again a little later.
        link.run(200_000);
        link.command(link.a, (tunnel) => tunnel.initiate(link.now, true));
        link.run(11_000);
        const before = [link.a.packets.length, link.b.packets.length] as const;
        assert(link.send(link.a, packet(1)) && link.send(link.b, packet(2)), "there are keys");
        link.run(100);
        const after = [link.a.packets.length, link.b.packets.length] as const;
        assertEquals(after, [before[0] + 1, before[1] + 1], "packets pass");
        for (const { outcomes } of [link.a, link.b]) outcomes.forEach((name) => coverage.hit(name));
      },
    ),
};
