/**
 * An ICE agent that hears right, wrong and forged checks, while candidates come and go.
 * @module
 */

import { assert } from "@std/assert";
import fc from "fast-check";
import { Candidate, IceAgent } from "@firezone/core/ice";
import { socketAddress } from "@firezone/core/ip";
import { parseStunMessage } from "@firezone/core/stun";
import { seededRandom } from "@firezone/core/testing";
import { after, type Millis } from "@firezone/core/units";
import { damage, damages, rawStun, TYPE, u32, wildAttribute, xorAddress } from "./raw_stun.ts";
import type { FuzzTarget } from "./target.ts";

const LOCAL = { username: "near", password: "near's password of length" };
const REMOTE = { username: "far", password: "far's password of length" };
const TIMING = { initialRtoMs: 250, maxRtoMs: 1500, retransmits: 12 };
const ADDRESSES = ["192.0.2.1:1000", "192.0.2.2:1000", "[2001:db8::1]:1000", "[2001:db8::2]:1000"]
  .map(socketAddress);
const STRANGERS = ["198.51.100.1:2000", "198.51.100.2:2000", "[2001:db8:f::1]:2000"]
  .map(socketAddress);
const BINDING = { request: 0x0001, indication: 0x0011, success: 0x0101, error: 0x0111 } as const;

const who = fc.constantFrom(...STRANGERS);
const where = fc.constantFrom(...ADDRESSES);
const steps = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record({
      op: fc.constantFrom("add-local" as const, "remove-local" as const),
      address: where,
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      op: fc.constantFrom("add-remote" as const, "remove-remote" as const),
      address: who,
    }),
  },
  {
    weight: 6,
    arbitrary: fc.record({
      op: fc.constant("answer" as const),
      which: fc.nat(20),
      kind: fc.constantFrom("success", "success", "success", "error", "indication"),
      key: fc.constantFrom("right", "right", "right", "wrong", "none"),
      damage: damages,
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      op: fc.constant("check" as const),
      local: where,
      from: who,
      key: fc.constantFrom("right", "right", "right", "wrong", "none"),
      useCandidate: fc.boolean(),
      role: fc.constantFrom(TYPE.iceControlled, TYPE.iceControlling),
      wild: fc.oneof({ weight: 9, arbitrary: fc.constant([]) }, {
        weight: 1,
        arbitrary: fc.array(wildAttribute, { maxLength: 2 }),
      }),
      damage: damages,
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      op: fc.constant("wait" as const),
      ms: fc.constantFrom(1, 10, 250, 1500, 16_500, 120_000),
    }),
  },
);

/** Nothing throws, draining ends, deadlines that are handled move on. */
export const iceTarget: FuzzTarget = {
  name: "ice",
  description: "an ICE agent with checks, answers and candidates",
  property: (coverage) =>
    fc.property(
      fc.boolean(),
      fc.noBias(fc.array(steps, { maxLength: 60, size: "max" })),
      (controlling, list) => {
        const random = seededRandom(3);
        const agent = new IceAgent({
          controlling,
          local: LOCAL,
          remote: REMOTE,
          random: seededRandom(4),
          timing: TIMING,
        });
        let now = 1000 as Millis;
        const asked: { bytes: Uint8Array; from: string; to: string }[] = [];
        const deliver = (bytes: Uint8Array, local: string, from: string) => {
          const message = parseStunMessage(bytes, 0, bytes.length);
          if (message === undefined) return coverage.hit("no STUN");
          const isOurs = agent.handleStun(now, socketAddress(local), socketAddress(from), message);
          coverage.hit(isOurs ? "taken" : "refused");
        };
        for (const step of list) {
          switch (step.op) {
            case "add-local":
              agent.addLocalCandidate(now, Candidate.host(step.address));
              break;
            case "remove-local":
              agent.invalidateLocal(now, Candidate.host(step.address));
              break;
            case "add-remote":
              agent.addRemoteCandidate(now, Candidate.host(step.address));
              break;
            case "remove-remote":
              agent.invalidateRemote(now, Candidate.host(step.address));
              break;
            case "answer": {
              const question = asked[step.which % Math.max(1, asked.length)];
              if (question === undefined) break;
              const id = question.bytes.slice(8, 20);
              const { ip, port } = socketAddress(question.from);
              const mapped = { type: TYPE.mappedAddress, value: xorAddress(ip.bytes, port, id) };
              const conflict = { type: 0x0009, value: Uint8Array.of(0, 0, 4, 87) };
              const type = BINDING[step.kind as keyof typeof BINDING];
              const attributes = step.kind === "error" ? [conflict] : [mapped];
              const bytes = rawStun(type, id, attributes, { key: keyOf(step.key, REMOTE) });
              deliver(damage(bytes, step.damage), question.from, question.to);
              break;
            }
            case "check": {
              const bytes = rawStun(BINDING.request, random(12), [
                {
                  type: TYPE.username,
                  value: new TextEncoder().encode(`${LOCAL.username}:${REMOTE.username}`),
                },
                { type: TYPE.priority, value: u32(0x6e7f1eff) },
                { type: step.role, value: random(8) },
                ...step.useCandidate ? [{ type: TYPE.useCandidate, value: new Uint8Array() }] : [],
                ...step.wild,
              ], { key: keyOf(step.key, LOCAL), fingerprint: "right" });
              deliver(damage(bytes, step.damage), step.local.key, step.from.key);
              break;
            }
            case "wait":
              now = after(now, step.ms);
          }
          for (let i = 0; agent.pollTimeout() <= now; i++) {
            assert(i < 100, "what is due gets done");
            agent.handleTimeout(now);
            for (let t; (t = agent.pollTransmit()) !== undefined;) {
              const { source, destination, payload } = t;
              assert(source !== undefined && source.family === destination.family);
              assert(parseStunMessage(payload, 0, payload.length) !== undefined);
              asked.push({ bytes: payload, from: source.key, to: destination.key });
            }
            for (let e; (e = agent.pollEvent()) !== undefined;) {
              coverage.hit(e.tag === "state" ? e.state : e.tag);
            }
          }
        }
      },
    ),
};

function keyOf(kind: string, { password }: { readonly password: string }): Uint8Array | undefined {
  if (kind === "none") return undefined;
  return new TextEncoder().encode(kind === "right" ? password : `${password}?`);
}
