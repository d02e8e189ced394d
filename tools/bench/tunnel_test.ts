import { assert, assertEquals, assertThrows } from "@std/assert";
import { measurePackets } from "./gateway_packets.ts";
import { measureIdle } from "./tunnel_clients.ts";
import { chart } from "./tunnel_chart.ts";
import { withBlock } from "./tunnel_docs.ts";
import { median, parseIperf, parsePing, quantile } from "./tunnel_measures.ts";
import { type Run, summarise, table } from "./tunnel_report.ts";

Deno.test("quantile lies between the values beside it", () => {
  assertEquals(median([3, 1, 2]), 2);
  assertEquals(median([4, 1, 2, 3]), 2.5);
  assertEquals(quantile([0, 10, 20], 0.25), 5);
  assertEquals(quantile([7], 0.99), 7);
});

Deno.test("parsePing reads round trips in microseconds", () => {
  const text = "64 bytes from 10.0.0.1: icmp_seq=1 ttl=63 time=0.125 ms\n" +
    "64 bytes from 10.0.0.1: icmp_seq=2 ttl=63 time=1.5 ms\n\n--- statistics ---\n";
  assertEquals(parsePing(text), [125, 1500]);
  assertThrows(() => parsePing("From 10.0.0.2 icmp_seq=1 Destination Host Unreachable"));
});

Deno.test("parseIperf takes what arrived", () => {
  const tcp = { end: { sum_received: { bytes: 1000, seconds: 2 } } };
  assertEquals(parseIperf(JSON.stringify(tcp), false), {
    bytes: 1000,
    seconds: 2,
    lossPercent: 0,
  });
  const udp = { end: { sum: { bytes: 1000, seconds: 2, lost_percent: 25 } } };
  assertEquals(parseIperf(JSON.stringify(udp), true), { bytes: 750, seconds: 2, lossPercent: 25 });
  assertThrows(
    () => parseIperf(`{"error":"unable to connect"}`, false),
    Error,
    "unable to connect",
  );
});

const RUNS: Run[] = [
  ...[3, 1, 2].map((gbps): Run => ({
    system: "firezone",
    path: "direct",
    measure: "tcp-down",
    sample: { gbps, cpuSecondsPerGb: gbps / 10 },
  })),
  {
    system: "wireguard-go",
    path: "direct",
    measure: "tcp-down",
    sample: { gbps: 0.5, cpuSecondsPerGb: 0.8 },
  },
];

Deno.test("summarise gives medians and the range of the first figure", () => {
  const [ours, theirs] = summarise(RUNS);
  assertEquals(ours?.median, { gbps: 2, cpuSecondsPerGb: 0.2 });
  assertEquals(ours?.range, [1, 3]);
  assertEquals([ours?.runs, theirs?.runs], [3, 1]);
});

Deno.test("table puts systems into columns and their ratio into the last", () => {
  const rows = table(summarise(RUNS)).split("\n").map((row) =>
    row.split("|").slice(1, -1).map((cell) => cell.trim())
  );
  assertEquals(rows[0], ["", "firezone", "wireguard-go", "firezone ÷ wireguard-go"]);
  assertEquals(rows[2], ["TCP, 1 stream, down, Gbit/s", "2.00", "0.50", "4.00"]);
  assertEquals(rows[3], ["TCP, 1 stream, down, CPU s/GB", "0.20", "0.80", "0.25"]);
});

Deno.test("table shows only the figures asked for", () => {
  assertEquals(table(summarise(RUNS), ["gbps"]).split("\n").length, 3);
});

Deno.test("the documents have a place for what is measured", async () => {
  for (const name of ["README.md", "docs/performance.md"]) {
    const text = await Deno.readTextFile(new URL(`../../${name}`, import.meta.url));
    const changed = withBlock(text, "the new table");
    assert(changed?.includes("<!-- tunnel bench -->\n\nthe new table\n\n<!-- end -->"), name);
    assert(changed?.includes("performance.svg)"), `${name} shows the chart`);
  }
  assertEquals(withBlock("nothing", "x"), undefined);
});

Deno.test("chart draws a bar for each system and escapes its texts", () => {
  const svg = chart(summarise(RUNS), { date: "1 May 2026", method: "a < b & c" });
  assertEquals(svg.match(/<rect /g)?.length, 2);
  assert(svg.includes("a &lt; b &amp; c, 1 May 2026"));
  assert(svg.includes(">2.00</text>"));
});

Deno.test("measureIdle connects all clients and finds them idle", () => {
  const cost = measureIdle(20);
  assertEquals(cost.clients, 20);
  assert(cost.datagramsPerSecond < 20, `${cost.datagramsPerSecond} datagrams per second`);
});

Deno.test("a packet costs a gateway with many clients about what it costs one with few", () => {
  for (const burst of [16, 1]) {
    const [few, many] = measurePackets([10, 200], burst, 41);
    // The figures are the bench's business; what grows with the number of clients is ours.
    assert(many!.inboundUs < 3 * few!.inboundUs, `${many!.inboundUs} and ${few!.inboundUs} µs in`);
    assert(
      many!.outboundUs < 3 * few!.outboundUs,
      `${many!.outboundUs} and ${few!.outboundUs} µs out`,
    );
  }
});
