import { assertEquals } from "@std/assert";
import { METHOD } from "@firezone/core/stun";
import { RelayCounters } from "./counters.ts";
import { RelayMetrics } from "./metrics.ts";
import { NOTHING_DROPPED, type ReportedServer, WorkerReporter } from "./report.ts";

const NO_DROPS = { oversized: 0, refused: 0, queueFull: 0, workerBusy: 0 };

Deno.test("a report tells levels, and what happened since the last one", () => {
  const server = fakeServer();
  const reporter = new WorkerReporter(server, () => NO_DROPS);
  server.counters.sizes.record(1200);
  server.counters.countResponse(METHOD.binding, 0);
  server.counters.malformed = 4;
  server.counters.unknownPeer = 1;
  reporter.noteTurn(7e-6, false);
  reporter.noteTurn(2e-3, true);
  const first = reporter.take();
  assertEquals(first.dropped, { ...NOTHING_DROPPED, "malformed": 4, "unknown-peer": 1 });
  assertEquals(first.responses, [{ method: METHOD.binding, code: 0, count: 1 }]);
  assertEquals([first.turns.sum, first.exhaustedTurns.sum], [7e-6, 2e-3]);
  assertEquals([first.allocations, first.channels, first.packetSizes.sum], [2, 3, 1200]);
  server.counters.malformed = 6;
  server.counters.countResponse(METHOD.refresh, 437);
  server.counters.countResponse(METHOD.binding, 0);
  const second = reporter.take();
  assertEquals(second.dropped, { ...NOTHING_DROPPED, "malformed": 2 });
  assertEquals(second.responses, [
    { method: METHOD.binding, code: 0, count: 1 },
    { method: METHOD.refresh, code: 437, count: 1 },
  ]);
  assertEquals([second.packetSizes.sum, second.allocations], [0, 2]);
  assertEquals(reporter.take().responses, []);
  assertEquals(structuredClone(first), first, "reports survive the way between threads");
});

Deno.test("reports of workers become the metrics of the relay", () => {
  const metrics = new RelayMetrics();
  assertEquals(shape(metrics)["relay.active_allocations"], [[{}, 0]]);
  for (const worker of [0, 1]) {
    const server = fakeServer();
    const reporter = new WorkerReporter(server, () => NO_DROPS);
    server.counters.countResponse(METHOD.allocate, 401);
    server.counters.countResponse(METHOD.allocate, 0);
    server.counters.sizes.record(100);
    server.counters.sizes.record(1600);
    server.counters.countResponse(0x123, 400);
    server.counters.unknownChannel = 5;
    reporter.noteTurn(7e-6, false);
    reporter.noteTurn(1, true);
    metrics.apply(worker, reporter.take());
    // A level that is told again is not added up.
    metrics.apply(worker, reporter.take());
  }
  assertEquals(metrics.totals, { allocations: 4, channels: 6, bytes: 3400, packets: 4 });
  const none = new Array(14).fill(0);
  assertEquals(shape(metrics), {
    "relay.active_allocations": [[{}, 4]],
    "relay.active_channels": [[{}, 6]],
    "relay.responses": [
      [{ response_class: "error", message_type: "allocate", error_code: 401 }, 2],
      [{ response_class: "success", message_type: "allocate" }, 2],
      [{ response_class: "error", message_type: "unknown", error_code: 400 }, 2],
    ],
    "relay.packet.size": [[{ "relay.datapath": "userspace" }, [2, ...none, 2]]],
    "relay.dropped": [[{ reason: "unknown-channel" }, 10]],
    "eventloop.poll.duration": [
      [
        { "eventloop.exhausted": false, "eventloop.name": "relay" },
        [0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
      ],
      [
        { "eventloop.exhausted": true, "eventloop.name": "relay" },
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2],
      ],
    ],
  });
  assertEquals(
    metrics.all.totals().map((m) => [m.scope, m.name, m.unit]),
    [
      ["relay", "relay.active_allocations", "{allocation}"],
      ["relay", "relay.active_channels", "{channel}"],
      ["relay", "relay.responses", "{response}"],
      ["relay", "relay.packet.size", "By"],
      ["relay", "relay.dropped", "{packet}"],
      ["connlib", "eventloop.poll.duration", "s"],
    ],
  );
});

function fakeServer(): ReportedServer {
  return { allocationCount: 2, channelCount: 3, counters: new RelayCounters() };
}

/** Series by instrument: attributes, and the value or the buckets. */
function shape(metrics: RelayMetrics): Record<string, unknown> {
  return Object.fromEntries(
    metrics.all.totals().map((m) => [
      m.name,
      m.kind === "histogram"
        ? m.points.map((p) => [p.attributes, p.values.buckets])
        : m.points.map((p) => [p.attributes, p.value]),
    ]),
  );
}
