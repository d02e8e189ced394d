/** What operators see of a relay beside its relaying: as a process, on loopback. */

import { assert, assertEquals, assertMatch, assertStringIncludes, assertThrows } from "@std/assert";
import { ConfigError } from "@firezone/core/cli";
import { socketAddress } from "@firezone/core/ip";
import { logger, setUpLogging } from "@firezone/core/telemetry";
import { type CollectedMetric, OtlpCollector } from "@firezone/core/testing";
import { relayCredentials } from "@firezone/core/turn";
import type { UnixSeconds } from "@firezone/core/units";
import { relayCommand, type RelayConfig } from "./cli.ts";
import { describeRelay, startOperations } from "./operations.ts";
import { NOTHING_DROPPED } from "./report.ts";
import { RelayTelemetry } from "./telemetry.ts";
import { Endpoint, FakePortal, freePort, RelayProcess, TurnClient } from "./testing/mod.ts";

const SECRET = "ab".repeat(32);
const CREDENTIALS = relayCredentials(2_145_916_800 as UnixSeconds, SECRET, "salt");
const onLinux = { ignore: Deno.build.os !== "linux" };
const LOG_LINE = /^\d{4}-\d\d-\d\dT\S+ +(TRACE|DEBUG|INFO|WARN|ERROR) /;

Deno.test({
  name: "A relay tells its collector what it relayed and answered, as deltas, and itself",
  ...onLinux,
  async fn() {
    await using collector = OtlpCollector.listen();
    await using relay = await RelayProcess.start(["--stamp-secret", SECRET], {
      OTLP_GRPC_ENDPOINT: `localhost:${collector.port}`,
      OTEL_METRIC_EXPORT_INTERVAL: "300",
      OTEL_SERVICE_NAME: "my-relay",
      OTEL_RESOURCE_ATTRIBUTES: "service.namespace=mine,cloud.region=eu",
    });
    await using client = await TurnClient.start(
      socketAddress(`127.0.0.1:${relay.port}`),
      CREDENTIALS,
    );
    await client.until("an allocation", () => client.allocation.relayedAddress(4));
    await using peer = await Endpoint.open("127.0.0.1");
    client.allocation.bindChannel(client.now(), peer.address);
    await client.retry(
      () => client.sendTo(peer.address, new Uint8Array(150)),
      () => peer.received.at(-1),
    );
    const sent = peer.received.length;
    const named = (name: string) => collector.metrics.filter((m) => m.name === name);
    const countOf = (metrics: CollectedMetric[]) =>
      metrics.flatMap((m) => m.points).reduce((sum, p) => sum + p.histogram!.count, 0);
    await collector.until(() => countOf(named("relay.packet.size")) >= sent || undefined);

    const [size] = named("relay.packet.size");
    const { attributes, histogram } = size!.points[0]!;
    assertEquals([size!.scope, size!.unit, size!.type, size!.temporality], [
      ...["relay", "By", "histogram", "delta"],
    ]);
    assertEquals(attributes, { "relay.datapath": "userspace" });
    assertEquals(histogram!.bounds, Array.from({ length: 15 }, (_, i) => (i + 1) * 100));
    assertEquals(histogram!.buckets.map((n) => n > 0), histogram!.buckets.map((_, i) => i === 1));
    assertEquals([histogram!.min, histogram!.max], [150, 150]);

    await collector.until(() =>
      named("relay.active_allocations").at(-1)?.points[0]?.value === 1 || undefined
    );
    const active = named("relay.active_allocations").at(-1)!;
    assertEquals([active.unit, active.type, active.temporality, active.isMonotonic], [
      ...["{allocation}", "sum", "cumulative", false],
    ]);

    const responses = named("relay.responses");
    for (const { unit, temporality, isMonotonic } of responses) {
      assertEquals([unit, temporality, isMonotonic], ["{response}", "delta", true]);
    }
    const answered = (expected: Record<string, string | number>) =>
      responses.flatMap((m) => m.points).filter((p) =>
        Object.entries(expected).every(([name, value]) => p.attributes[name] === value)
      ).reduce((sum, p) => sum + p.value!, 0);
    const challenge = { message_type: "allocate", response_class: "error", error_code: 401 };
    assertEquals(answered(challenge), 1);
    assertEquals(answered({ message_type: "allocate", response_class: "success" }), 1);
    assert(answered({ message_type: "channelbind", response_class: "success" }) >= 1);

    const [turns] = named("eventloop.poll.duration");
    assertEquals([turns!.scope, turns!.unit], ["connlib", "s"]);
    assertEquals(turns!.points[0]!.attributes["eventloop.name"], "relay");
    assertEquals(typeof turns!.points[0]!.attributes["eventloop.exhausted"], "boolean");

    const { resource } = size!;
    assertEquals(resource["service.name"], "my-relay");
    assertEquals(resource["service.namespace"], "mine");
    assertEquals(resource["cloud.region"], "eu");

    // What comes last arrives when the relay ends.
    client.sendTo(peer.address, new Uint8Array(150));
    await client.until("it", () => peer.received.length > sent || undefined);
    relay.kill("SIGTERM");
    await relay.until("Serving until");
    relay.kill("SIGTERM");
    assertEquals((await relay.status).code, 0);
    assertEquals(countOf(named("relay.packet.size")), peer.received.length);
    const [drain] = collector.spans;
    assertEquals([drain!.name, drain!.statusCode], ["relay.drain", 0]);
    assertStringIncludes(relay.log, `trace_id=${drain!.traceId}`);
  },
});

Deno.test({
  name: "Spans tell when a relay was with its portal, and why it was not",
  ...onLinux,
  async fn() {
    await using collector = OtlpCollector.listen();
    await using portal = new FakePortal();
    await using relay = await RelayProcess.start(
      ["--api-url", portal.url, "--public-ip4-addr", "127.0.0.1"],
      { FIREZONE_TOKEN: "t", OTLP_GRPC_ENDPOINT: `127.0.0.1:${collector.port}` },
    );
    await relay.until("Connected to the portal");
    portal.hangUp();
    await relay.until("No connection to the portal");
    relay.kill("SIGTERM");
    assertEquals((await relay.status).code, 0);
    const session = collector.spans.find((s) => s.name === "portal.session")!;
    assertEquals(session.statusCode, 2);
    assert(session.statusMessage !== "");
    assert(session.endNanos >= session.startNanos);
    assertEquals(session.resource["service.name"], "relay");
  },
});

Deno.test({
  name: "A collector that is not there costs one line and nothing else",
  ...onLinux,
  async fn() {
    const endpoint = `127.0.0.1:${await freePort()}`;
    await using relay = await RelayProcess.start(["--stamp-secret", SECRET], {
      OTLP_GRPC_ENDPOINT: endpoint,
      OTEL_METRIC_EXPORT_INTERVAL: "100",
    });
    await relay.until("Cannot reach the OTLP collector");
    await using client = await TurnClient.start(
      socketAddress(`127.0.0.1:${relay.port}`),
      CREDENTIALS,
    );
    await client.until("an allocation", () => client.allocation.relayedAddress(4));
    await new Promise((resolve) => setTimeout(resolve, 500));
    relay.kill("SIGTERM");
    await relay.until("Serving until");
    const start = performance.now();
    relay.kill("SIGTERM");
    assertEquals((await relay.status).code, 0);
    assert(performance.now() - start < 5000, "nobody waits for it");
    assertEquals(relay.log.split("OTLP").length, 2, relay.log);
  },
});

Deno.test({
  name: "Prometheus gets what is so now",
  ...onLinux,
  async fn() {
    await using relay = await RelayProcess.start(["--stamp-secret", SECRET], {
      PROMETHEUS_METRICS: "true",
    });
    await using client = await TurnClient.start(
      socketAddress(`127.0.0.1:${relay.port}`),
      CREDENTIALS,
    );
    await client.until("an allocation", () => client.allocation.relayedAddress(4));
    for (let i = 0; i < 2; i++) {
      const { text } = await relay.page("/metrics");
      assertMatch(text, /^relay_active_allocations 1$/m);
      assertMatch(
        text,
        /^relay_responses_total\{response_class="success",message_type="allocate"\} 1$/m,
      );
      assertMatch(text, /^target_info\{.*service_namespace="firezone".*\} 1$/m);
    }
  },
});

Deno.test({
  name: "The log filter can be changed in all threads while a relay runs",
  ...onLinux,
  async fn() {
    await using taken = await Endpoint.open("127.0.0.1");
    const port = String(taken.address.port);
    const control = `127.0.0.1:${await freePort()}`;
    await using relay = await RelayProcess.spawn(
      [
        ...["--stamp-secret", SECRET, "--lowest-port", port, "--highest-port", port],
        ...["--control-endpoint", control],
      ],
      { RUST_LOG: "off", LOG_FORMAT: "json" },
    );
    // With the log off only its credential tells that it listens.
    await relay.stdout.line();
    const setFilter = async (directives: string) => {
      const url = `http://${control}/log_filter?directives=${directives}`;
      const response = await fetch(url, { method: "POST" });
      await response.body?.cancel();
      return response.status;
    };
    assertEquals(await setFilter("loud"), 400);
    const server = socketAddress(`127.0.0.1:${relay.port}`);
    await using client = await TurnClient.start(server, CREDENTIALS);
    await client.until("a refusal", () => client.events.includes("refused"));
    assertEquals(relay.log, "");
    assertEquals(await setFilter("warn,relay=info"), 200);
    client.allocation.refresh(client.now());
    const refusals = () => client.events.filter((event) => event === "refused").length;
    await client.until("another refusal", () => refusals() > 1);
    await relay.until("Cannot open an allocation's port");
    relay.kill("SIGTERM");
    await relay.status;
    const lines = relay.log.trimEnd().split("\n").map((line) => JSON.parse(line));
    assert(lines.some((line) => line.message === "No allocation is left"), "the main thread's");
    assertEquals(new Set(lines.map((line) => line.target)), new Set(["relay"]));
  },
});

Deno.test({
  name: "Google Cloud reads every line of the log",
  ...onLinux,
  async fn() {
    await using relay = await RelayProcess.start([], {
      LOG_FORMAT: "google-cloud",
      TELEMETRY: "true",
      RNG_SEED: "7",
    });
    relay.kill("SIGTERM");
    assertEquals((await relay.status).code, 0);
    const lines = relay.log.trimEnd().split("\n").map((line) => JSON.parse(line));
    for (const line of lines) {
      assertEquals(Object.keys(line).slice(0, 4), ["severity", "time", "message", "target"]);
    }
    const texts = lines.map((line) => `${line.severity} ${line.message}`).join("\n");
    assertMatch(texts, /^WARNING Log lines do not lead to their traces/m);
    assertMatch(texts, /^WARNING Randomness is decided by a seed/m);
    assertMatch(texts, /^INFO This relay sends no crash reports/m);
    assert(!relay.log.includes("\x1b"));
  },
});

Deno.test({
  name: "A seed decides the credential that is printed",
  ...onLinux,
  async fn() {
    const salts = await Promise.all(
      [["--rng-seed", "7"], ["--rng-seed", "7"], []].map(async (a) => {
        await using relay = await RelayProcess.start(a);
        return (await relay.stdout.line()).split(" ")[1]!.split(":")[1];
      }),
    );
    assertEquals(salts[0], salts[1]);
    assert(salts[2] !== salts[0]);
  },
});

Deno.test({
  name: "A relay learns its address from the cloud, and its token from a file",
  ...onLinux,
  async fn() {
    const answers: Record<string, string> = {
      "network-interfaces/0/access-configs/0/external-ip": "127.0.0.1",
      "id": "583",
      "name": "relay-m5k7",
      "zone": "projects/1/zones/us-east1-b",
    };
    await using cloud = serve((path) =>
      answers[path.slice("/computeMetadata/v1/instance/".length)]
    );
    await using portal = new FakePortal();
    const tokenFile = await Deno.makeTempFile();
    await Deno.writeTextFile(tokenFile, "a.token\n");
    await using relay = await RelayProcess.start(["--prometheus-metrics"], {
      FIREZONE_TOKEN: tokenFile,
      FIREZONE_API_URL: portal.url,
      LISTEN_ADDRESS_DISCOVERY_METHOD: "gce_metadata",
      OTEL_METADATA_DISCOVERY_METHOD: "gce_metadata",
      METADATA_BASE_URL: cloud.url,
    });
    await Deno.remove(tokenFile);
    await relay.until("Connected to the portal");
    assertEquals(portal.headers?.get("x-authorization"), "Bearer a.token");
    assertEquals(portal.query, `ipv4=127.0.0.1&port=${relay.port}`);
    const { text } = await relay.page("/metrics");
    assertStringIncludes(text, 'service_instance_id="583"');
    assertStringIncludes(text, 'gcp_gce_instance_name="relay-m5k7",cloud_region="us-east1-b"');
  },
});

Deno.test({
  name: "Mistakes in how a relay is operated are one line and status 1",
  ...onLinux,
  async fn() {
    await using nonsense = serve(() => "<html>");
    await using taken = serve(() => "");
    const gce = { LISTEN_ADDRESS_DISCOVERY_METHOD: "gce_metadata" };
    const cases: [string[], Record<string, string>, RegExp][] = [
      [[], { OTLP_GRPC_ENDPOINT: "http://collector" }, /expected a host and a port such as/],
      [[], { OTEL_RESOURCE_ATTRIBUTES: "a" }, /"a" in OTEL_RESOURCE_ATTRIBUTES: expected name=/],
      [[], { OTEL_METRIC_EXPORT_INTERVAL: "0" }, /an integer from 100 to/],
      [[], { NUM_WORKER_THREADS: "0" }, /an integer from 1 to 256/],
      [[], { RNG_SEED: "x" }, /Cannot set RNG_SEED to "x"/],
      [[], { LOG_FORMAT: "xml" }, /expected one of human, json, google-cloud/],
      [
        [],
        { FIREZONE_TOKEN: "/no/such/file" },
        /Cannot read \/no\/such\/file, which FIREZONE_TOKEN/,
      ],
      [[], { LISTEN_ADDRESS_DISCOVERY_METHOD: "azure" }, /one of gce_metadata, aws_ec2_metadata/],
      [
        [],
        { ...gce, METADATA_BASE_URL: nonsense.url },
        /Cannot use what the metadata server answered/,
      ],
      [
        [],
        { ...gce, METADATA_BASE_URL: `http://127.0.0.1:${await freePort()}` },
        /Cannot ask gce_/,
      ],
      [["--control-endpoint", taken.address], {}, /Cannot serve the log filter at .*in use/],
      [["--health-check-addr", taken.address], {}, /Cannot serve health checks at .*in use/],
      [["--health-check-addr", "off", "--prometheus-metrics"], {}, /give --health-check-addr/],
    ];
    await Promise.all(cases.map(async ([args, env, expected]) => {
      await using relay = await RelayProcess.spawn(args, env);
      assertEquals((await relay.status).code, 1, JSON.stringify([args, env]));
      const lines = relay.log.trimEnd().split("\n").filter((line) => !LOG_LINE.test(line));
      assertEquals(lines.length, 1, relay.log);
      assertMatch(lines[0]!, expected);
    }));
  },
});

Deno.test("statistics are logged at their interval, after the workers were asked", async () => {
  const config = await configOf(["--health-check-addr", "off", "--control-endpoint", "off"]);
  const telemetry = await telemetryFor(config);
  let asked = 0;
  const relay = {
    isReady: true,
    refresh: () => {
      telemetry.metrics.apply(0, reportOf(++asked));
      return Promise.resolve();
    },
    setLogFilter: () => {},
  };
  const lines: string[] = [];
  const { promise, resolve } = Promise.withResolvers<void>();
  const write = (line: string) => void (lines.push(line) === 3 && resolve());
  setUpLogging({ filter: "info", format: "json", write });
  {
    await using _running = startOperations(config, relay, telemetry, logger("relay"), 5);
    await promise;
  }
  setUpLogging({ filter: "off" });
  const parsed = lines.map((line) => JSON.parse(line));
  assertEquals(parsed.map((l) => [l.level, l.message, l.fields.allocations]).slice(0, 2), [
    ["info", "Relaying", 1],
    ["info", "Relaying", 2],
  ]);
  for (const line of parsed) assertMatch(line.fields.throughput, /^\d+\.\d\d [kMG]?B\/s$/);
});

Deno.test("a second relay on one machine does without the log filter, unless it was asked for", async () => {
  await using taken = serve(() => "");
  const config = await configOf(["--health-check-addr", "off"]);
  const relay = { isReady: true, refresh: () => Promise.resolve(), setLogFilter: () => {} };
  const start = async (controlEndpoint: RelayConfig["controlEndpoint"]) =>
    startOperations(
      { ...config, controlEndpoint },
      relay,
      await telemetryFor(config),
      logger("relay"),
    );
  await (await start("off"))[Symbol.asyncDispose]();
  const telemetry = await telemetryFor(config);
  const explicit = { ...config, controlEndpoint: socketAddress(taken.address) };
  assertThrows(
    () => startOperations(explicit, relay, telemetry, logger("relay")),
    ConfigError,
    "--control-endpoint",
  );
  // Whether or not anybody else has the usual port.
  await (await start(undefined))[Symbol.asyncDispose]();
});

function reportOf(allocations: number) {
  const none = { buckets: [], sum: 0, min: Infinity, max: -Infinity };
  return {
    allocations,
    channels: 0,
    responses: [],
    packetSizes: { ...none, buckets: [0, 1], sum: 150 },
    turns: none,
    exhaustedTurns: none,
    dropped: NOTHING_DROPPED,
  };
}

async function configOf(args: readonly string[]): Promise<RelayConfig> {
  let seen: RelayConfig | undefined;
  await relayCommand((config) => {
    seen = config;
    return Promise.resolve(0);
  }).execute(args);
  return seen!;
}

async function telemetryFor(config: RelayConfig): Promise<RelayTelemetry> {
  return new RelayTelemetry({
    endpoint: undefined,
    resource: await describeRelay(config, "1.5.0"),
    version: "1.5.0",
    intervalMs: 60_000,
    log: logger("relay"),
  });
}

/** A web server on loopback; a path without an answer is not found. */
function serve(answer: (path: string) => string | undefined) {
  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, (request) => {
    const text = answer(new URL(request.url).pathname);
    return new Response(text ?? null, { status: text === undefined ? 404 : 200 });
  });
  const address = `127.0.0.1:${server.addr.port}`;
  return {
    address,
    url: `http://${address}`,
    [Symbol.asyncDispose]: () => server.shutdown(),
  };
}
