/** Queries and answers, made and read by our own code and by the codec, which must agree. */

import { assert, assertEquals } from "@std/assert";
import { Buffer } from "node:buffer";
import packet from "dns-packet";
import fc from "fast-check";
import { ip } from "../ip/address.ts";
import { INNER_MTU } from "../wireguard/mod.ts";
import { isAnswerTo, makeAnswer, returnedAnswer, truncateAnswer } from "./answer.ts";
import { addressesIn, decodeMessage, encodeQuery } from "./codec.ts";
import { type DnsQuery, forwardedQuery, parseQuery } from "./query.ts";
import { MAX_UDP_MESSAGE, Rcode, RecordType } from "./registry.ts";
import { encodeName, findRecords, parseQuestion } from "./wire.ts";

Deno.test("the largest message over UDP is what fits into the tunnel, over both families", () => {
  const [udp, ipv6] = [8, 40];
  assertEquals(MAX_UDP_MESSAGE + udp + ipv6, INNER_MTU);
  const asked = parseQuery(encodeQuery(1, "a.test", "A"));
  assert(asked.tag === "query");
  assertEquals(asked.query.maxAnswer, MAX_UDP_MESSAGE);
});

Deno.test("parseQuery reads what the codec writes", () => {
  const query = parsed(encodeQuery(0x1234, "WWW.Example.com", "AAAA"));
  assertEquals(query.id, 0x1234);
  assertEquals(query.question.name, "www.example.com");
  assert(query.question.isHostLike);
  assertEquals([query.question.type, query.question.class], [RecordType.AAAA, 1]);
  assertEquals(query.maxAnswer, 1232);
  assertEquals(query.edns?.hasOptions, false);
});

Deno.test("parseQuery limits the size of answers to between 512 and 1232", () => {
  const withSize = (udpPayloadSize: number) =>
    parsed(encode({
      type: "query",
      questions: [{ type: "A", name: "a" }],
      additionals: [{ type: "OPT", name: ".", udpPayloadSize, flags: 0x8000, options: [] }],
    }));
  assertEquals(withSize(100).maxAnswer, 512);
  assertEquals(withSize(1000).maxAnswer, 1000);
  assertEquals(withSize(4096).maxAnswer, 1232);
  assertEquals(withSize(4096).edns?.dnssecOk, true);
  assertEquals(parsed(encode({ questions: [{ type: "A", name: "a" }] })).maxAnswer, 512);
});

Deno.test("parseQuery answers what it cannot understand, and ignores what is no query", () => {
  const good = encodeQuery(7, "example.com", "A");
  const withFlags = (flags: number) => {
    const bytes = new Uint8Array(good);
    bytes[2] = flags;
    return bytes;
  };
  const cases: [what: string, bytes: Uint8Array, rcode: number | undefined][] = [
    ["nothing", new Uint8Array(), undefined],
    ["less than a header", good.subarray(0, 11), undefined],
    ["an answer", withFlags(0x81), undefined],
    ["an update", withFlags(0x28), Rcode.NotImp],
    ["a header alone", good.subarray(0, 12), Rcode.FormErr],
    ["a cut question", good.subarray(0, 20), Rcode.FormErr],
    ["a cut record", good.subarray(0, good.length - 1), Rcode.FormErr],
    ["more than it says", new Uint8Array([...good, 0]), Rcode.FormErr],
    [
      "no question",
      encode({ questions: [] }),
      Rcode.FormErr,
    ],
    [
      "two questions",
      encode({ questions: [{ type: "A", name: "a" }, { type: "A", name: "b" }] }),
      Rcode.FormErr,
    ],
    ["a transfer", encode({ questions: [{ type: "AXFR", name: "a" }] }), Rcode.Refused],
    ["OPT with a name", withRecord([1, 0x61, 0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]), Rcode.FormErr],
    ["OPT as an answer", withRecord([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0], 6), Rcode.FormErr],
  ];
  for (const [what, bytes, rcode] of cases) {
    const result = parseQuery(bytes);
    if (rcode === undefined) assertEquals(result.tag, "ignored", what);
    else {
      assert(result.tag === "refused", what);
      const answer = decodeMessage(result.answer)!;
      assertEquals([answer.isResponse, answer.rcode], [true, rcode], what);
      assertEquals(result.answer.subarray(0, 2), bytes.subarray(0, 2), what);
    }
  }
});

Deno.test("parseQuestion keeps names apart that look alike", () => {
  const nameOf = (...labels: string[]) => {
    const bytes = [
      ...labels.flatMap((label) => [label.length, ...new TextEncoder().encode(label)]),
    ];
    return parseQuestion(new Uint8Array([...new Uint8Array(12), ...bytes, 0, 0, 1, 0, 1]));
  };
  assertEquals(nameOf("a", "b")?.name, "a.b");
  assertEquals(nameOf("a.b")?.name, "a\\046b");
  assertEquals(nameOf("a.b")?.isHostLike, false);
  assertEquals(nameOf("A_b-1")?.isHostLike, true);
  assertEquals(nameOf("*", "a")?.isHostLike, false);
  assertEquals(nameOf()?.name, "");
  assertEquals(nameOf("a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(61))?.end, 271);
  assertEquals(nameOf("a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(62)), undefined);
});

Deno.test("makeAnswer is understood by the codec, echoes the spelling and compresses names", () => {
  const query = parsed(encode({
    id: 9,
    flags: packet.RECURSION_DESIRED,
    questions: [{ type: "A", name: "WwW.eXample.com" }],
  }));
  const bytes = makeAnswer(query, Rcode.NoError, [
    { type: RecordType.A, ttlSeconds: 1, data: ip("192.0.2.1").bytes },
    { type: RecordType.AAAA, ttlSeconds: 2, data: ip("2001:db8::1").bytes },
    { type: RecordType.PTR, ttlSeconds: 3, data: encodeName("a.example.com")! },
  ]);
  const raw = packet.decode(Buffer.from(bytes));
  assertEquals([raw.id, raw.type, raw.flag_rd, raw.flag_ra, raw.flag_aa], [
    9,
    "response",
    true,
    true,
    false,
  ]);
  assertEquals(raw.questions[0]?.name, "WwW.eXample.com");
  const decoded = decodeMessage(bytes)!;
  assertEquals(decoded.answers, [
    { name: "WwW.eXample.com", type: "A", ttlSeconds: 1, data: "192.0.2.1" },
    { name: "WwW.eXample.com", type: "AAAA", ttlSeconds: 2, data: "2001:db8::1" },
    { name: "WwW.eXample.com", type: "PTR", ttlSeconds: 3, data: "a.example.com" },
  ]);
  assertEquals(addressesIn(decoded).map(String), ["192.0.2.1", "2001:db8::1"]);
  assertEquals(bytes.length, 12 + 21 + 16 + 28 + 12 + 15);
});

Deno.test("parseQuery tells who speaks another EDNS version which one we speak", () => {
  const result = parseQuery(withRecord([0, 0, 41, 4, 208, 0, 1, 0x80, 0, 0, 0]));
  assert(result.tag === "refused");
  const { id, rcode, additionals } = packet.decode(Buffer.from(result.answer));
  const [opt] = additionals;
  assertEquals([id, rcode, opt.type, opt.extendedRcode, opt.ednsVersion], [
    1,
    "NOERROR",
    "OPT",
    1,
    0,
  ]);
});

Deno.test("makeAnswer has an OPT record exactly when the query has one", () => {
  const plain = parsed(encode({ questions: [{ type: "A", name: "a.b" }] }));
  assertEquals(packet.decode(Buffer.from(makeAnswer(plain, 0))).additionals, []);
  const [opt] = packet.decode(Buffer.from(makeAnswer(parsed(encodeQuery(1, "a.b", "A")), 0)))
    .additionals;
  assertEquals([opt.type, opt.udpPayloadSize, opt.extendedRcode], ["OPT", 1232, 0]);
});

Deno.test("forwardedQuery changes the id and asks for no fragments", () => {
  const query = parsed(encode({
    id: 1,
    questions: [{ type: "TXT", name: "a.b" }],
    additionals: [{
      type: "OPT",
      name: ".",
      udpPayloadSize: 4096,
      flags: 0x8000,
      options: [{ code: 10, data: Buffer.from("12345678") }],
    }],
  }));
  const before = new Uint8Array(query.bytes);
  const forwarded = packet.decode(Buffer.from(forwardedQuery(query, 0xbeef)));
  assertEquals(query.bytes, before);
  assertEquals(forwarded.id, 0xbeef);
  const [opt] = forwarded.additionals;
  assertEquals([opt.udpPayloadSize, opt.flag_do, opt.options.length], [1232, true, 1]);
});

Deno.test("isAnswerTo takes the answer to that question alone", () => {
  const query = parsed(encodeQuery(1, "Example.com", "A"));
  const answer = (changes: object) =>
    encode({
      type: "response",
      id: 5,
      questions: [{ type: "A", name: "example.COM" }],
      ...changes,
    });
  assert(isAnswerTo(answer({}), query, 5));
  assert(!isAnswerTo(answer({ id: 6 }), query, 5));
  assert(!isAnswerTo(answer({ type: "query" }), query, 5));
  assert(!isAnswerTo(answer({ questions: [{ type: "AAAA", name: "example.com" }] }), query, 5));
  assert(!isAnswerTo(answer({ questions: [{ type: "A", name: "example.org" }] }), query, 5));
  // Errors may come without the question, answers may not.
  assert(!isAnswerTo(answer({ questions: [] }), query, 5));
  assert(isAnswerTo(answer({ questions: [], flags: Rcode.ServFail }), query, 5));
});

Deno.test("truncateAnswer leaves what fits, and of the rest the question and OPT", () => {
  const answers = Array.from({ length: 40 }, (_, i) => ({
    type: "A",
    name: "example.com",
    ttl: 60,
    data: `192.0.2.${i}`,
  }));
  const opt = { type: "OPT", name: ".", udpPayloadSize: 1232, flags: 0, options: [] };
  const message = encode({
    type: "response",
    id: 3,
    questions: [{ type: "A", name: "example.com" }],
    answers,
    additionals: [opt],
  });
  assertEquals(truncateAnswer(message, message.length), message);
  const cut = packet.decode(Buffer.from(truncateAnswer(message, 512)));
  assertEquals([cut.id, cut.flag_tc, cut.questions.length, cut.answers.length], [3, true, 1, 0]);
  assertEquals(cut.additionals.length, 1);
  assertEquals(returnedAnswer(message, 0x0102).subarray(0, 2), new Uint8Array([1, 2]));
});

Deno.test("decodeMessage refuses counts that the message cannot hold", () => {
  const bytes = new Uint8Array(encodeQuery(1, "a.b", "A"));
  bytes[6] = 0xff;
  assertEquals(decodeMessage(bytes), undefined);
});

Deno.test("encodeName refuses what is no name", () => {
  assertEquals(encodeName("a.bc"), new Uint8Array([1, 97, 2, 98, 99, 0]));
  assertEquals(encodeName(""), new Uint8Array([0]));
  for (const name of ["a..b", ".", "a".repeat(64), "a.".repeat(127) + "a", "ü"]) {
    assertEquals(encodeName(name), undefined, name);
  }
});

const anyBytes = fc.uint8Array({ maxLength: 300 });
/** Bytes that look like messages at first, so that the deeper parts are reached. */
const damaged = fc.record({
  bytes: fc.constantFrom(
    encodeQuery(1, "www.example.com", "A"),
    encode({
      type: "response",
      questions: [{ type: "A", name: "a.b" }],
      answers: [
        { type: "CNAME", name: "a.b", ttl: 10, data: "c.d" },
        { type: "A", name: "c.d", ttl: 10, data: "192.0.2.1" },
        { type: "TXT", name: "c.d", ttl: 10, data: ["x"] },
      ],
      authorities: [{ type: "NS", name: "b", ttl: 10, data: "ns.b" }],
    }),
  ),
  at: fc.array(fc.tuple(fc.nat(100), fc.nat(255)), { maxLength: 4 }),
  cut: fc.nat(120),
}).map(({ bytes, at, cut }) => {
  const changed = new Uint8Array(
    bytes.subarray(0, Math.max(0, bytes.length - Math.max(0, cut - 60))),
  );
  for (const [offset, value] of at) if (offset < changed.length) changed[offset] = value;
  return changed;
});

Deno.test("Any bytes are read or refused without throwing", () => {
  const query = parsed(encodeQuery(1, "www.example.com", "A"));
  fc.assert(
    fc.property(fc.oneof(anyBytes, damaged), fc.nat(1300), (bytes, limit) => {
      const result = parseQuery(bytes);
      if (result.tag === "query") {
        makeAnswer(result.query, Rcode.ServFail);
        forwardedQuery(result.query, 1);
      }
      decodeMessage(bytes);
      isAnswerTo(bytes, query, 1);
      if (bytes.length >= 12) truncateAnswer(bytes, limit);
    }),
    { numRuns: 3000 },
  );
});

const anyName = fc.array(fc.stringMatching(/^[a-z]{1,8}$/), { minLength: 1, maxLength: 4 })
  .map((labels) => labels.join("."));
const anyRecord = fc.oneof(
  fc.record({ type: fc.constant("A"), name: anyName, data: fc.ipV4() }),
  fc.record({ type: fc.constant("CNAME"), name: anyName, data: anyName }),
  fc.record({ type: fc.constant("TXT"), name: anyName, data: fc.tuple(anyName) }),
);
const section = fc.array(anyRecord, { maxLength: 3 });

Deno.test("findRecords finds what the codec wrote, and refuses any part of it", () => {
  fc.assert(fc.property(section, section, section, (answers, authorities, additionals) => {
    const questions = [{ type: "A", name: "a.b" }];
    const bytes = encode({ type: "response", questions, answers, authorities, additionals });
    const start = parseQuestion(bytes)!.end;
    const records = findRecords(bytes, start)!;
    assertEquals(
      records.map(({ section }) => section),
      [
        ...answers.map(() => "answer" as const),
        ...authorities.map(() => "authority" as const),
        ...additionals.map(() => "additional" as const),
      ],
    );
    assertEquals(records.at(-1)?.end ?? start, bytes.length);
    for (let end = start; end < bytes.length; end++) {
      assertEquals(findRecords(bytes.subarray(0, end), start), undefined);
    }
  }));
});

function encode(message: object): Uint8Array {
  return new Uint8Array(packet.encode(message));
}

function parsed(bytes: Uint8Array): DnsQuery {
  const result = parseQuery(bytes);
  assert(result.tag === "query");
  return result.query;
}

/** A query with a record behind it. @param count where the number of such records stands */
function withRecord(record: number[], count = 10): Uint8Array {
  const query = encode({ id: 1, questions: [{ type: "A", name: "a.b" }] });
  const bytes = new Uint8Array([...query, ...record]);
  bytes[count + 1] = 1;
  return bytes;
}
