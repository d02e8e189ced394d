/**
 * What the fuzzer does to a relay, as data: so a failing sequence can be printed and made smaller.
 *
 * Everything that has to be looked up at run time (a nonce, a port that was granted) is an index into
 * what the world knows by then.
 * @module
 */

import fc from "fast-check";
import { type Damage, damages, type RawAttribute, TYPE, u32, wildAttribute } from "./raw_stun.ts";

/** How a request proves who sends it. */
export interface Proof {
  /** Index into the world's users; -1 is the one whom the client is most of the time. */
  readonly user: number;
  /** `none` leaves all of it away, to learn a nonce. */
  readonly nonce: "fresh" | "none" | "of-another" | "invented" | "first";
  /** Which key signs. */
  readonly key: "right" | "wrong" | "none";
}

/** A request. */
export interface RequestStep {
  /** Kind of step. */
  readonly op: "request";
  /** Index into the world's clients. */
  readonly client: number;
  /** First two bytes of the message. */
  readonly type: number;
  /** Attributes of meaning, in order. */
  readonly ask: readonly Ask[];
  /** Further attributes, in front. */
  readonly wild: readonly RawAttribute[];
  /** Credentials. */
  readonly proof: Proof;
  /** FINGERPRINT. */
  readonly fingerprint: "none" | "right" | "wrong";
  /** What happens on the way. */
  readonly damage: readonly Damage[];
}

/** An attribute whose value may be an index. */
export type Ask =
  | { readonly ask: "peer"; readonly peer: number }
  | { readonly ask: "raw"; readonly attribute: RawAttribute };

/** One thing that is done to a relay. */
export type Step =
  | RequestStep
  | { readonly op: "repeat" }
  | { readonly op: "bytes"; readonly client: number; readonly bytes: Uint8Array }
  | {
    readonly op: "channel-data";
    readonly client: number;
    readonly channel: number;
    readonly length: number;
    /** Added to the length field, or left after it. */
    readonly lie: number;
  }
  | {
    readonly op: "peer-data";
    readonly peer: number;
    /** Index into the ports that are open, or a port. */
    readonly port: number;
    readonly length: number;
  }
  /** Time goes on by so many milliseconds, or to the next deadline and then so many further. */
  | { readonly op: "wait"; readonly ms: number; readonly toDeadline: boolean }
  /** What becomes of ports that are to be opened from now on. */
  | { readonly op: "sockets"; readonly answer: "open" | "refuse" | "later" }
  /** A port that was to be opened later. */
  | { readonly op: "report"; readonly which: number; readonly isOpen: boolean }
  /** A user has a newer allocation with a sibling. */
  | { readonly op: "superseded"; readonly which: number };

/** What a relay is made of. */
export interface RelaySetup {
  /** Families that are served. */
  readonly families: "4" | "6" | "both";
  /** Size of the port range; small, so that it is used up. */
  readonly ports: number;
  /** Channels 0x5000 to 0x7fff. */
  readonly legacyChannels: boolean;
  /** Whether user 0 may have several allocations. */
  readonly hasSharedUser: boolean;
  /** Whether as many ports above ours belong to a sibling. */
  readonly hasSibling: boolean;
  /** Whether strangers get few answers. */
  readonly isStingy: boolean;
}

/** A relay. */
export const setups: fc.Arbitrary<RelaySetup> = fc.record({
  families: fc.constantFrom("both", "both", "4", "6"),
  ports: fc.integer({ min: 1, max: 6 }),
  legacyChannels: fc.boolean(),
  hasSharedUser: fc.boolean(),
  hasSibling: fc.boolean(),
  isStingy: fc.nat(7).map((n) => n === 0),
});

const METHOD = { binding: 1, allocate: 3, refresh: 4, permission: 8, channelBind: 9 } as const;
const CHANNELS = [0x4000, 0x4001, 0x4002, 0x4fff, 0x5000, 0x7fff];
const UNBOUNDED = 0xffff_ffff;

const client = fc.oneof({ weight: 20, arbitrary: fc.nat(5) }, {
  weight: 1,
  arbitrary: fc.constant(6),
});
const user = fc.oneof(
  { weight: 20, arbitrary: fc.constant(-1) },
  { weight: 2, arbitrary: fc.nat(3) },
  { weight: 1, arbitrary: fc.integer({ min: 4, max: 9 }) },
);
const peer = fc.oneof({ weight: 8, arbitrary: fc.nat(5) }, {
  weight: 2,
  arbitrary: fc.integer({ min: 6, max: 14 }),
});
const channel = fc.oneof({ weight: 8, arbitrary: fc.nat(2) }, { weight: 1, arbitrary: fc.nat(5) })
  .map((i) => CHANNELS[i]!);
const goodProof: fc.Arbitrary<Proof> = user.map((user) => ({ user, nonce: "fresh", key: "right" }));
const anyProof: fc.Arbitrary<Proof> = fc.record({
  user: fc.nat(9),
  nonce: fc.constantFrom("fresh", "none", "of-another", "invented", "first"),
  key: fc.constantFrom("right", "wrong", "none"),
});
const proof = fc.oneof({ weight: 9, arbitrary: goodProof }, { weight: 1, arbitrary: anyProof });

const raw = (type: number, value: Uint8Array): Ask => ({ ask: "raw", attribute: { type, value } });
const lifetime = fc.constantFrom(0, 1, 599, 600, 601, 1800, 3600, 3601, UNBOUNDED)
  .map((seconds) => raw(TYPE.lifetime, u32(seconds)));
const udp = raw(TYPE.requestedTransport, u32(17 << 24));
const family = (type: number) => fc.constantFrom(1, 2).map((f) => raw(type, u32(f << 24)));
const optional = (arbitrary: fc.Arbitrary<Ask>, freq: number) =>
  fc.option(arbitrary, { nil: undefined, freq }).map((ask) => ask === undefined ? [] : [ask]);
const flat = (...parts: fc.Arbitrary<readonly Ask[]>[]) =>
  fc.tuple(...parts).map((lists) => lists.flat());

const allocation = flat(
  fc.oneof(
    { weight: 30, arbitrary: fc.constant([udp]) },
    { weight: 1, arbitrary: fc.constantFrom([], [raw(TYPE.requestedTransport, u32(6 << 24))]) },
  ),
  optional(family(TYPE.requestedFamily), 1),
  optional(family(TYPE.additionalFamily), 1),
  optional(lifetime, 2),
  fc.oneof(
    { weight: 9, arbitrary: fc.constant([]) },
    {
      weight: 1,
      arbitrary: fc.constantFrom(0, 0x80).map((bit) => [raw(TYPE.evenPort, u32(bit << 24))]),
    },
    {
      weight: 1,
      arbitrary: fc.constantFrom(0, 0x80).map((
        bit,
      ) => [raw(TYPE.evenPort, Uint8Array.of(bit))]),
    },
  ),
);
const binding = fc.tuple(channel, peer).map(([number, peer]): readonly Ask[] => [
  raw(TYPE.channelNumber, u32(number << 16)),
  { ask: "peer", peer },
]);

const request = (
  type: number,
  ask: fc.Arbitrary<readonly Ask[]>,
  client_ = client,
): fc.Arbitrary<RequestStep> =>
  fc.record({
    op: fc.constant("request" as const),
    client: client_,
    type: fc.constant(type),
    ask,
    wild: fc.oneof({ weight: 30, arbitrary: fc.constant([]) }, {
      weight: 1,
      arbitrary: fc.array(wildAttribute, { maxLength: 3 }),
    }),
    proof,
    fingerprint: fc.oneof({ weight: 9, arbitrary: fc.constant("none" as const) }, {
      weight: 1,
      arbitrary: fc.constantFrom("right" as const, "wrong" as const),
    }),
    damage: damages,
  });

const anyRequest = fc.nat(0x3fff).chain((type) =>
  request(type, fc.subarray<Ask>([udp, raw(TYPE.lifetime, u32(0))]))
);

const steps: fc.Arbitrary<Step> = fc.oneof(
  { weight: 5, arbitrary: request(METHOD.allocate, allocation) },
  { weight: 3, arbitrary: request(METHOD.refresh, optional(lifetime, 4)) },
  { weight: 7, arbitrary: request(METHOD.channelBind, binding) },
  { weight: 1, arbitrary: request(METHOD.permission, fc.constant([])) },
  { weight: 1, arbitrary: request(METHOD.binding, fc.constant([])) },
  { weight: 1, arbitrary: anyRequest },
  { weight: 2, arbitrary: fc.constant({ op: "repeat" as const }) },
  {
    weight: 1,
    arbitrary: fc.record({
      op: fc.constant("bytes" as const),
      client,
      bytes: fc.uint8Array({ maxLength: 60 }),
    }),
  },
  {
    weight: 5,
    arbitrary: fc.record({
      op: fc.constant("channel-data" as const),
      client,
      channel,
      length: fc.oneof(fc.nat(40), fc.constantFrom(0, 1200, 65_503)),
      lie: fc.oneof({ weight: 6, arbitrary: fc.constant(0) }, {
        weight: 1,
        arbitrary: fc.integer({ min: -4, max: 4 }),
      }),
    }),
  },
  {
    weight: 5,
    arbitrary: fc.record({
      op: fc.constant("peer-data" as const),
      peer,
      port: fc.oneof({ weight: 9, arbitrary: fc.nat(5) }, { weight: 1, arbitrary: fc.nat(0xffff) }),
      length: fc.oneof(fc.nat(40), fc.constantFrom(0, 1200, 65_507)),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      op: fc.constant("wait" as const),
      ms: fc.oneof(
        fc.constantFrom(0, 1, 999, 30_000),
        fc.constantFrom(300_000, 599_999, 600_000, 1_000_000, 3_600_001),
      ),
      toDeadline: fc.nat(3).map((n) => n === 0),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      op: fc.constant("sockets" as const),
      answer: fc.constantFrom("open", "open", "refuse", "later"),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      op: fc.constant("report" as const),
      which: fc.nat(3),
      isOpen: fc.boolean(),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ op: fc.constant("superseded" as const), which: fc.nat(3) }),
  },
);

const good = (step: RequestStep): RequestStep => ({
  ...step,
  proof: { user: -1, nonce: "fresh", key: "right" },
  wild: [],
  damage: [],
  fingerprint: "none",
});
const dual = fc.constantFrom([udp], [udp, raw(TYPE.additionalFamily, u32(2 << 24))]);
const dataOn = (client: number, channel: number): Step => (
  { op: "channel-data", client, channel, length: 3, lie: 0 }
);

/** A client that allocates, binds some channels and uses them, without mishap. */
const session = client.chain((index) =>
  fc.tuple(
    request(METHOD.allocate, dual, fc.constant(index)).map(good),
    fc.array(request(METHOD.channelBind, binding, fc.constant(index)).map(good), { maxLength: 3 }),
  ).map(([allocate, binds]): readonly Step[] => [
    allocate,
    ...binds,
    ...CHANNELS.slice(0, 3).map((channel) => dataOn(index, channel)),
  ])
);

/** Two clients that bind channels to the ports that they, or a sibling's clients, may have. */
const meeting = fc.tuple(fc.nat(2), fc.constantFrom(6, 8), fc.constantFrom(7, 9)).chain(
  ([index, first, second]) => {
    const bind = (client: number, channel: number, peer: number) =>
      request(
        METHOD.channelBind,
        fc.constant([raw(TYPE.channelNumber, u32(channel << 16)), { ask: "peer" as const, peer }]),
        fc.constant(client),
      ).map(good);
    const each = (client: number) =>
      fc.tuple(
        request(METHOD.allocate, dual, fc.constant(client)).map(good),
        bind(client, 0x4000, first),
        bind(client, 0x4001, second),
      );
    return fc.tuple(each(index), each(index + 1)).map((lists): readonly Step[] => [
      ...lists.flat(),
      ...[index, index + 1].flatMap((c) => [dataOn(c, 0x4000), dataOn(c, 0x4001)]),
    ]);
  },
);

/** Some sessions with anything between. */
export const sequences: fc.Arbitrary<readonly Step[]> = fc.array(
  fc.oneof(
    { weight: 2, arbitrary: session },
    { weight: 1, arbitrary: meeting },
    { weight: 20, arbitrary: steps.map((step): readonly Step[] => [step]) },
  ),
  { maxLength: 100, size: "max" },
).map((lists) => lists.flat());
