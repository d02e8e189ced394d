import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { ConfigError } from "../cli/errors.ts";
import type { ConnectionStatus } from "../connectivity/mod.ts";
import { logger } from "../telemetry/mod.ts";
import { exportMetrics, type MeasuredStatus, TunnelMetrics } from "./tunnel_metrics.ts";

Deno.test("TunnelMetrics counts connections by path, and what was added since the last status", () => {
  const metrics = new TunnelMetrics();
  metrics.apply({
    portal: "connected",
    connections: [
      connection("a", { txBytes: 10, rxBytes: 100, rxPackets: 2, rxLost: 1 }, ["direct", false]),
      connection("b", { txBytes: 1 }, ["relayed", true]),
      connection("c", {}),
    ],
    drops: { malformed: 2, filtered: 0 },
  });
  metrics.apply({
    portal: "connected",
    connections: [
      connection("a", { txBytes: 15, rxBytes: 100, rxPackets: 2, rxLost: 1 }, ["direct", true]),
      // Connected anew since.
      connection("b", { txBytes: 0, rxBytes: 4 }, ["relayed", false]),
    ],
    drops: { malformed: 3 },
  });
  assertEquals(values(metrics, "portal.connected"), { "": 1 });
  assertEquals(values(metrics, "connections"), {
    none: 0,
    direct: 0,
    relayed: 1,
    "relayed-by-peer": 1,
    "relayed-twice": 0,
  });
  assertEquals(values(metrics, "system.network.io"), { transmit: 16, receive: 104 });
  assertEquals(values(metrics, "system.network.packets"), { receive: 2 });
  assertEquals(values(metrics, "tunnel.lost"), { "": 1 });
  assertEquals(values(metrics, "system.network.packet.dropped"), { malformed: 3 });
});

Deno.test("exportMetrics prints to stdout, at the end as well, and survives a status that fails", async () => {
  let text = "";
  let status: () => Promise<MeasuredStatus> = () => Promise.resolve({ portal: "connected" });
  const metrics = new TunnelMetrics();
  metrics.recordLookup(7, true);
  const base = { program: "firezone-gateway", version: "1.5.0", endpoint: undefined, metrics };
  const exported = exportMetrics({
    ...base,
    sink: "stdout",
    status: () => status(),
    log: logger("test"),
    write: (page) => void (text += page),
  });
  await exported[Symbol.asyncDispose]();
  assertStringIncludes(text, 'service_name="firezone-gateway"');
  assertStringIncludes(text, "portal_connected 1");
  assertStringIncludes(text, 'dns_lookup_duration_seconds_bucket{found="true",le="0.01"} 1');

  status = () => Promise.reject(new Error("it ended"));
  await exportMetrics({
    ...base,
    metrics: new TunnelMetrics(),
    sink: "stdout",
    status: () => status(),
    log: logger("test"),
    write: (page) => void (text = page),
  })[Symbol.asyncDispose]();
  assertStringIncludes(text, "portal_connected 0");

  await exportMetrics({
    ...base,
    sink: "stdout",
    status: () => status(),
    log: logger("test"),
    write: () => {
      throw new Deno.errors.BrokenPipe("nobody reads");
    },
  })[Symbol.asyncDispose]();
});

Deno.test("exportMetrics wants to know the collector, and sends nothing unasked", async () => {
  const options = {
    program: "firezone-gateway",
    version: "1.5.0",
    endpoint: undefined,
    metrics: new TunnelMetrics(),
    status: () => Promise.reject(new Error("nobody should ask")),
    log: logger("test"),
  };
  assertThrows(
    () => exportMetrics({ ...options, sink: "otel-collector" }),
    ConfigError,
    "--otlp-grpc-endpoint",
  );
  for (const sink of [undefined, "sentry"] as const) {
    await exportMetrics({ ...options, sink })[Symbol.asyncDispose]();
  }
});

function connection(
  peerId: string,
  counts: Partial<ConnectionStatus>,
  path?: [kind: "direct" | "relayed", remoteRelayed: boolean],
): ConnectionStatus {
  return {
    peerId,
    state: "connected",
    txBytes: 0,
    rxBytes: 0,
    txPackets: 0,
    rxPackets: 0,
    rxLost: 0,
    ...counts,
    ...path && { path: { kind: path[0], local: "", remote: "", remoteRelayed: path[1] } },
  };
}

/** The series of an instrument by the value of their only attribute. */
function values(metrics: TunnelMetrics, name: string): Record<string, number> {
  const found = metrics.all.totals().find((metric) => metric.name === name);
  if (found === undefined || found.kind === "histogram") throw new Error(`no ${name}`);
  return Object.fromEntries(
    found.points.map(({ attributes, value }) => [Object.values(attributes).join(), value]),
  );
}

Deno.test("docs/client-and-gateway.md names every metric", async () => {
  const page = await Deno.readTextFile(
    new URL("../../docs/client-and-gateway.md", import.meta.url),
  );
  for (const { name } of new TunnelMetrics().all.totals()) {
    assertStringIncludes(page, `\`${name}\``);
  }
});
