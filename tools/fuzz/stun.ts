/**
 * Parsers of what comes by datagram: STUN and ChannelData.
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { ip, SocketAddress } from "@firezone/core/ip";
import { looksLikeStun, METHOD, parseStunMessage, StunWriter } from "@firezone/core/stun";
import {
  ChannelDataRef,
  LAST_LEGACY_CHANNEL,
  looksLikeChannelData,
  Parse,
  parseChannelData,
} from "@firezone/core/turn";
import { damage, damages, rawStun, TYPE, wildAttribute, xorAddress } from "./raw_stun.ts";
import type { FuzzTarget } from "./target.ts";

const ID = Uint8Array.from({ length: 12 }, (_, i) => i);
const KEY = new Uint8Array(16).fill(7);

const messages = fc.record({
  type: fc.nat(0x3fff),
  attributes: fc.array(wildAttribute, { maxLength: 8 }),
  isSigned: fc.boolean(),
  fingerprint: fc.constantFrom(undefined, "right" as const, "wrong" as const),
  damage: damages,
});
const datagrams = fc.oneof(
  { weight: 1, arbitrary: fc.uint8Array({ maxLength: 80 }).map((bytes) => ({ bytes })) },
  {
    weight: 4,
    arbitrary: messages.map(({ type, attributes, isSigned, fingerprint, damage: list }) => ({
      bytes: damage(
        rawStun(type, ID, attributes, { key: isSigned ? KEY : undefined, fingerprint }),
        list,
      ),
      isWhole: list.length === 0,
      // Whatever follows integrity does not count, neither does a second one.
      isPlain: attributes.every((a) => a.type !== TYPE.integrity && a.type !== TYPE.fingerprint),
      isSigned,
      fingerprint,
    })),
  },
);

/** Any bytes parse or are refused, wherever they lie; what another encoder wrote is understood. */
export const stunTarget: FuzzTarget = {
  name: "stun",
  description: "the parsers of STUN and ChannelData with right and broken datagrams",
  property: (coverage) =>
    fc.property(
      datagrams,
      fc.nat(9),
      fc.nat(0xffff),
      fc.uint8Array({ minLength: 4, maxLength: 4 }),
      (input, offset, port, v4) => {
        const { bytes } = input;
        const buffer = new Uint8Array(offset + bytes.length + 3).fill(0x42);
        buffer.set(bytes, offset);
        const message = parseStunMessage(buffer, offset, offset + bytes.length);
        coverage.hit(message === undefined ? "refused" : "parsed");
        if (message !== undefined) {
          assert(looksLikeStun(bytes, 0, bytes.length), "what parses looks like it");
          const isMine = message.verifyIntegrity(KEY);
          const fingerprint = message.verifyFingerprint();
          if ("isWhole" in input && input.isWhole && input.isPlain) {
            assertEquals(isMine, input.isSigned, "integrity");
            const isRight = input.fingerprint && input.fingerprint === "right";
            assertEquals(fingerprint, isRight, "fingerprint");
            coverage.hit("verified");
          }
        }
        const ref = new ChannelDataRef();
        const parsed = parseChannelData(bytes, 0, bytes.length, ref, LAST_LEGACY_CHANNEL);
        if (parsed === Parse.Ok) {
          assert(looksLikeChannelData(bytes, 0, bytes.length, LAST_LEGACY_CHANNEL));
          assert(ref.start === 4 && ref.end <= bytes.length);
          coverage.hit("ChannelData");
        }
        sameAddress(port, v4);
      },
    ),
};

/** An address that we write and one that the other encoder writes are the same bytes. */
function sameAddress(port: number, v4: Uint8Array): void {
  const address = new SocketAddress(ip(v4.join(".")), port);
  const theirs = rawStun(METHOD.binding, ID, [
    { type: TYPE.peerAddress, value: xorAddress(v4, port, ID) },
  ]);
  const id = Array.from(ID, (byte) => byte.toString(16).padStart(2, "0")).join("");
  const ours = new StunWriter("request", METHOD.binding, id).peerAddress(address).finish();
  assertEquals(ours, theirs);
  assertEquals(parseStunMessage(ours, 0, ours.length)?.peerAddress?.key, address.key);
}
