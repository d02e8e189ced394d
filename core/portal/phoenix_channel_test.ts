import { assert, assertEquals, assertGreaterOrEqual, assertLessOrEqual } from "@std/assert";
import fc from "fast-check";
import { seededRandom } from "../testing/random.ts";
import { after, type Millis, NEVER } from "../units.ts";
import {
  candidatesToGateway,
  createFlow,
  invalidatedCandidatesToGateway,
  noRelays,
  sameInBothEras,
} from "./outgoing.ts";
import {
  type ChannelCommand,
  type ChannelEvent,
  type ChannelOptions,
  PhoenixChannel,
} from "./phoenix_channel.ts";

const OK = { status: "ok", response: {} };

Deno.test("a connection begins with a join, and nothing else is sent before its answer", () => {
  const run = new Run();
  run.channel.connect(run.now);
  assertEquals(run.drain(), { commands: [{ tag: "dial", era: "v2" }], sent: [], events: [] });
  run.channel.send(createFlow("r", []));
  run.opened();
  assertEquals(run.drain().sent, [
    { topic: "client", event: "phx_join", payload: null, ref: 0 },
  ]);
  run.channel.send(createFlow("r2", ["g"]));
  assertEquals(run.drain().sent, []);
  run.reply("client", 0, OK);
  assertEquals(run.drain(), {
    commands: [],
    events: [{ tag: "joined", era: "v2" }],
    sent: [
      {
        topic: "client",
        event: "request_authorization",
        payload: { resource_id: "r", connected_gateway_ids: [] },
        ref: 1,
      },
      {
        topic: "client",
        event: "request_authorization",
        payload: { resource_id: "r2", connected_gateway_ids: ["g"] },
        ref: 2,
      },
    ],
  });
});

Deno.test("messages on our topic are handed on, others and nonsense are not", () => {
  const run = joined();
  const text = (frame: unknown) => run.channel.handleText(run.now, JSON.stringify(frame));
  assert(text({ topic: "client", event: "resource_deleted", payload: "id", ref: null }));
  assertEquals(text({ topic: "relay", event: "init", payload: {}, ref: null }), false);
  assertEquals(run.channel.handleText(run.now, '{"topic":'), false);
  assertEquals(text([1, 2]), false);
  assertEquals(run.drain().events, [{ tag: "message", event: "resource_deleted", payload: "id" }]);
});

Deno.test("a join without an answer for 5 s is a hiccup", () => {
  const run = new Run();
  run.open();
  run.advance(4_999);
  assertEquals(run.drain().events, []);
  run.advance(1);
  const { commands, events } = run.drain();
  assertEquals(commands, [{ tag: "hang-up" }]);
  assertEquals(events.map((e) => e.tag), ["hiccup"]);
});

Deno.test("an attempt that is not answered for 15 s is given up", () => {
  const run = new Run();
  run.channel.connect(run.now);
  run.drain();
  run.advance(14_999);
  assertEquals(run.drain().events, []);
  run.advance(1);
  assertEquals(run.drain().commands, [{ tag: "hang-up" }]);
});

Deno.test("heartbeats go every 10 s, and the fifth is not sent if four are unanswered", () => {
  const run = joined();
  for (let i = 0; i < 10; i++) {
    run.advance(10_000);
    const [heartbeat] = run.drain().sent;
    assertEquals([heartbeat?.topic, heartbeat?.event], ["phoenix", "heartbeat"]);
    run.reply("phoenix", heartbeat!.ref, OK);
  }
  for (let i = 0; i < 4; i++) {
    run.advance(10_000);
    assertEquals(run.drain().sent.length, 1);
  }
  run.advance(10_000);
  const { sent, commands, events } = run.drain();
  assertEquals(sent, []);
  assertEquals(commands, [{ tag: "hang-up" }]);
  assertEquals(events.map((e) => e.tag), ["hiccup"]);
});

Deno.test("references begin at 0 on every connection and heartbeats of before do not count", () => {
  const run = joined();
  for (let i = 0; i < 4; i++) run.advance(10_000);
  run.channel.handleClosed(run.now, "gone");
  run.untilDial();
  run.opened();
  assertEquals(run.drain().sent.map((f) => f.ref), [0]);
  run.reply("client", 0, OK);
  for (let i = 0; i < 4; i++) {
    run.advance(10_000);
    assertEquals(run.drain().sent.map((f) => f.ref), [i + 1]);
  }
});

Deno.test("failures back off from 0.5 s by 1.5 to 60 s, each within half of it", () => {
  const run = new Run();
  run.channel.connect(run.now);
  let expected = 500;
  for (let i = 0; i < 25; i++) {
    run.drain();
    run.channel.handleClosed(run.now, "no route");
    const [event] = run.drain().events;
    assert(event?.tag === "hiccup");
    assertGreaterOrEqual(event.retryInMs, Math.floor(expected * 0.5));
    assertLessOrEqual(event.retryInMs, Math.ceil(expected * 1.5));
    expected = Math.min(expected * 1.5, 60_000);
    run.advance(event.retryInMs);
    assertEquals(run.drain().commands, [{ tag: "dial", era: "v2" }]);
  }
});

Deno.test("only a connection that held for 10 s resets the backoff", () => {
  const run = new Run();
  run.open();
  const waits: number[] = [];
  for (const heldMs of [0, 0, 0, 0, 0, 0, 0, 9_999, 10_000]) {
    run.reply("client", 0, OK);
    run.drain();
    run.channel.handleText(run.now, frame("client", "phx_close", {}));
    run.drain();
    run.untilDial();
    run.opened();
    run.drain();
    run.reply("client", 0, OK);
    run.advance(heldMs);
    run.drain();
    run.channel.handleClosed(run.now, "gone");
    const event = run.drain().events.at(-1);
    assert(event?.tag === "hiccup");
    waits.push(event.retryInMs);
    run.advance(event.retryInMs);
    run.opened();
    run.drain();
  }
  assertGreaterOrEqual(waits.at(-2)!, 30_000);
  assertLessOrEqual(waits.at(-1)!, 750);
});

Deno.test("Retry-After counts in place of the backoff", () => {
  const run = new Run();
  run.channel.connect(run.now);
  run.channel.handleRefused(run.now, { status: 503, code: "rate_limit", retryAfterMs: 7_000 });
  assertEquals(run.drain().events, [{
    tag: "hiccup",
    reason: "the portal answered with HTTP status 503 (rate_limit)",
    retryInMs: 7_000,
  }]);
});

Deno.test("a portal away for longer than allowed ends the channel, with one last attempt", () => {
  const run = new Run({ maxPartitionMs: 10_000 });
  run.channel.connect(run.now);
  run.drain();
  const start = run.now;
  let last: ChannelEvent | undefined;
  while (last?.tag !== "fatal") {
    run.channel.handleClosed(run.now, "no route");
    last = run.drain().events[0];
    if (last?.tag === "hiccup") run.advance(last.retryInMs);
    run.drain();
  }
  assertEquals(last, {
    tag: "fatal",
    kind: "partitioned",
    reason: "the portal was away for too long; last: no route",
  });
  assertEquals(run.now - start, 10_000);
});

Deno.test("time of partition counts from the first failure after a join", () => {
  const run = joined({ maxPartitionMs: 10_000 });
  for (let i = 0; i < 5; i++) {
    run.channel.handleClosed(run.now, "gone");
    run.untilDial();
    run.advance(4_000);
    run.opened();
    run.drain();
    run.reply("client", 0, OK);
    assertEquals(run.drain().events, [{ tag: "joined", era: "v2" }]);
  }
});

Deno.test("401, a refused join and token_expired are fatal, and then there is silence", () => {
  const ends: [(run: Run) => void, string][] = [
    [(run) => run.channel.handleRefused(run.now, { status: 401 }), "unauthorized"],
    [(run) => {
      run.opened();
      run.reply("client", 0, { status: "error", response: { reason: "invalid_version" } });
    }, "join-refused"],
    [(run) => {
      run.opened();
      run.channel.handleText(run.now, frame("client", "disconnect", { reason: "token_expired" }));
    }, "token-expired"],
  ];
  for (const [end, kind] of ends) {
    const run = new Run();
    run.channel.connect(run.now);
    run.drain();
    end(run);
    const { events } = run.drain();
    assertEquals(events.map((e) => e.tag === "fatal" ? e.kind : e.tag), [kind]);
    run.channel.connect(run.now);
    run.channel.send(createFlow("r", []));
    run.channel.handleClosed(run.now, "x");
    run.channel.handleTimeout(run.now);
    assertEquals(run.drain(), { commands: [], sent: [], events: [] });
    assertEquals(run.channel.pollTimeout(), NEVER);
  }
});

Deno.test("other reasons to disconnect are left to what follows them", () => {
  const run = joined();
  run.channel.handleText(run.now, frame("client", "disconnect", { reason: "certificate_revoked" }));
  run.channel.handleText(run.now, frame("client", "disconnect", "token_expired"));
  assertEquals(run.drain(), { commands: [], sent: [], events: [] });
});

Deno.test("a 404 for v2 leads to v1 at once, and v1 stays for later connections", () => {
  const run = new Run();
  run.channel.connect(run.now);
  run.drain();
  run.channel.handleRefused(run.now, { status: 404 });
  assertEquals(run.drain(), { commands: [{ tag: "dial", era: "v1" }], sent: [], events: [] });
  run.opened();
  run.drain();
  run.channel.send(createFlow("r", []));
  run.channel.send(noRelays());
  run.reply("client", 0, OK);
  const { events, sent } = run.drain();
  assertEquals(events, [{ tag: "joined", era: "v1" }]);
  assertEquals(sent.map((f) => f.event), ["create_flow"]);
  run.channel.handleClosed(run.now, "gone");
  assertEquals(run.untilDial(), { tag: "dial", era: "v1" });
  run.channel.connect(run.now);
  assertEquals(run.drain().commands.at(-1), { tag: "dial", era: "v1" });
});

Deno.test("a 404 for both generations says nothing about the portal: v2 is tried again", () => {
  const run = new Run();
  run.channel.connect(run.now);
  run.channel.handleRefused(run.now, { status: 404 });
  run.channel.handleRefused(run.now, { status: 404 });
  assertEquals(run.drain().events.map((e) => e.tag), ["hiccup"]);
  assertEquals(run.untilDial(), { tag: "dial", era: "v2" });
});

Deno.test("a portal that misses the token gets it in the query, once", () => {
  const run = new Run();
  run.channel.connect(run.now);
  run.drain();
  run.channel.handleRefused(run.now, { status: 401, code: "missing_token" });
  assertEquals(run.drain().commands, [{ tag: "dial", era: "v1" }]);
  run.channel.handleRefused(run.now, { status: 401, code: "missing_token" });
  assertEquals(run.drain().events.map((e) => e.tag), ["fatal"]);
});

Deno.test("a portal that lost our channel is joined again, on the same connection", () => {
  const run = joined();
  run.channel.send(createFlow("r", []));
  const [request] = run.drain().sent;
  run.reply("client", request!.ref, { status: "error", response: { reason: "unmatched topic" } });
  run.channel.send(createFlow("r", []));
  const { commands, sent } = run.drain();
  assertEquals(commands, []);
  assertEquals(sent.map((f) => [f.event, f.ref]), [["phx_join", 2]]);
  run.reply("client", 2, OK);
  assertEquals(run.drain().sent.map((f) => [f.event, f.ref]), [["request_authorization", 3]]);
});

Deno.test("an error for one of our messages is told with its event", () => {
  const run = joined();
  run.channel.send(createFlow("r", []));
  run.drain();
  run.reply("client", 1, { status: "error", response: { reason: "unknown_message" } });
  assertEquals(run.drain().events, [
    { tag: "refused", event: "request_authorization", reason: "unknown_message" },
  ]);
});

Deno.test("phx_close, phx_error and a crashed join reconnect", () => {
  for (const event of ["phx_close", "phx_error"]) {
    const run = joined();
    run.channel.handleText(run.now, frame("other", event, {}));
    assertEquals(run.drain().events, []);
    run.channel.handleText(run.now, frame("client", event, {}));
    const { commands, events } = run.drain();
    assertEquals([commands[0]?.tag, events[0]?.tag], ["hang-up", "hiccup"]);
  }
  const run = new Run();
  run.open();
  run.reply("client", 0, { status: "error", response: { reason: "join crashed" } });
  assertEquals(run.drain().events.map((e) => e.tag), ["hiccup"]);
});

Deno.test("copies are not kept twice, and of very many messages the oldest give way", () => {
  const run = new Run();
  run.channel.send(createFlow("r0", []));
  run.channel.send(createFlow("r0", []));
  run.open();
  for (let i = 1; i <= 4100; i++) run.channel.send(createFlow(`r${i}`, []));
  run.reply("client", 0, OK);
  const ids = run.drain().sent.map((f) => (f.payload as { resource_id: string }).resource_id);
  assertEquals(ids, Array.from({ length: 4096 }, (_, i) => `r${i + 5}`));
});

Deno.test("candidates wait for the portal, and what was said of one last is said last", () => {
  const run = new Run();
  run.open();
  const [added, removed] = [
    candidatesToGateway("g", ["c"]),
    invalidatedCandidatesToGateway("g", ["c"]),
  ];
  for (const message of [added, removed, added]) run.channel.send(message);
  run.reply("client", 0, OK);
  const events = run.drain().sent.map((frame) => frame.event);
  assertEquals(events, ["invalidate_gateway_ice_candidates", "new_gateway_ice_candidates"]);
});

Deno.test("what waits survives a hiccup but not another identity", () => {
  const run = joined();
  run.channel.handleClosed(run.now, "gone");
  run.channel.send(sameInBothEras("a", {}));
  run.untilDial();
  run.opened();
  run.drain();
  run.reply("client", 0, OK);
  assertEquals(run.drain().sent.map((f) => f.event), ["a"]);
  run.channel.handleClosed(run.now, "gone");
  run.channel.send(sameInBothEras("b", {}));
  run.channel.connect(run.now);
  run.opened();
  run.drain();
  run.reply("client", 0, OK);
  assertEquals(run.drain().sent, []);
});

Deno.test("connecting anew drops the connection first and needs no backoff", () => {
  const run = joined();
  run.channel.connect(run.now);
  assertEquals(run.drain().commands, [{ tag: "hang-up" }, { tag: "dial", era: "v2" }]);
  run.channel.handleClosed(run.now, "gone");
  run.drain();
  run.channel.connect(run.now);
  assertEquals(run.drain().commands, [{ tag: "dial", era: "v2" }]);
});

Deno.test("no order of inputs throws, and draining and time always come to an end", () => {
  const json = fc.oneof(
    fc.json(),
    fc.record({
      topic: fc.constantFrom("client", "phoenix", "x"),
      event: fc.constantFrom("phx_reply", "phx_close", "phx_error", "disconnect", "init"),
      payload: fc.oneof(
        fc.constantFrom<unknown>(OK, { status: "error", response: { reason: "unmatched topic" } }),
        fc.jsonValue(),
      ),
      ref: fc.oneof(fc.nat(4), fc.jsonValue()),
    }).map((f) => JSON.stringify(f)),
  );
  const input: fc.Arbitrary<(run: Run) => void> = fc.oneof(
    fc.constant((run: Run) => run.channel.connect(run.now)),
    fc.constant((run: Run) => run.opened()),
    fc.constant((run: Run) => run.channel.handleClosed(run.now, "x")),
    fc.constant((run: Run) => run.channel.send(createFlow("r", []))),
    fc.constantFrom(401, 404, 500).map((status) => (run: Run) =>
      run.channel.handleRefused(run.now, { status })
    ),
    fc.nat(20_000).map((ms) => (run: Run) => run.advance(ms)),
    json.map((text) => (run: Run) => void run.channel.handleText(run.now, text)),
  );
  fc.assert(
    fc.property(fc.array(input, { maxLength: 40 }), (inputs) => {
      const run = new Run();
      for (const apply of inputs) {
        apply(run);
        run.drain();
        // After doing what is due, the next thing is due later.
        run.channel.handleTimeout(run.now);
        run.drain();
        assert(run.channel.pollTimeout() > run.now);
      }
    }),
    { numRuns: 300 },
  );
});

interface SentFrame {
  readonly topic: string;
  readonly event: string;
  readonly payload: unknown;
  readonly ref: number;
}

/** A channel in virtual time. */
class Run {
  now = 1_000 as Millis;
  readonly channel: PhoenixChannel;

  constructor(options: Partial<ChannelOptions> = {}) {
    this.channel = new PhoenixChannel({
      topic: "client",
      joinPayload: null,
      random: seededRandom(1),
      ...options,
    });
  }

  open(): void {
    this.channel.connect(this.now);
    this.opened();
    this.drain();
  }

  opened(): void {
    this.channel.handleOpened(this.now);
  }

  reply(topic: string, ref: number, payload: unknown): void {
    this.channel.handleText(
      this.now,
      JSON.stringify({ topic, event: "phx_reply", payload, ref }),
    );
  }

  advance(ms: number): void {
    this.now = after(this.now, ms);
    this.channel.handleTimeout(this.now);
  }

  /** Lets the backoff pass. */
  untilDial(): ChannelCommand | undefined {
    this.drain();
    this.now = this.channel.pollTimeout();
    this.channel.handleTimeout(this.now);
    return this.drain().commands[0];
  }

  drain(): { commands: ChannelCommand[]; sent: SentFrame[]; events: ChannelEvent[] } {
    const drained = { commands: [], sent: [], events: [] } as ReturnType<Run["drain"]>;
    for (let c = this.channel.pollCommand(); c; c = this.channel.pollCommand()) {
      drained.commands.push(c);
    }
    for (let t = this.channel.pollTransmit(); t !== undefined; t = this.channel.pollTransmit()) {
      drained.sent.push(JSON.parse(t));
    }
    for (let e = this.channel.pollEvent(); e; e = this.channel.pollEvent()) drained.events.push(e);
    return drained;
  }
}

function joined(options: Partial<ChannelOptions> = {}): Run {
  const run = new Run(options);
  run.open();
  run.reply("client", 0, OK);
  run.drain();
  return run;
}

function frame(topic: string, event: string, payload: unknown): string {
  return JSON.stringify({ topic, event, payload, ref: null });
}
