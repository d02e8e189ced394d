import { assertEquals, assertStringIncludes } from "@std/assert";
import { Metrics } from "./metrics.ts";
import { prometheusText } from "./prometheus.ts";

Deno.test("prometheusText writes counters, levels and histograms as scrapers read them", () => {
  const metrics = new Metrics("relay");
  const answers = metrics.counter({
    name: "relay.responses",
    unit: "{response}",
    description: "Answers.",
  });
  answers.add(3, { response_class: "error", error_code: 401 });
  metrics.upDownCounter({ name: "relay.active", unit: "{a}", description: "Now." }).set(4);
  const sizes = metrics.histogram({
    name: "packet.size",
    unit: "By",
    description: "Sizes.",
    bounds: [100, 200],
  });
  for (const size of [1, 150, 150, 999]) sizes.record(size, { "relay.datapath": "userspace" });
  assertEquals(
    prometheusText(metrics.totals(), { "service.name": "relay" }),
    `# HELP target_info What runs here.
# TYPE target_info gauge
target_info{service_name="relay"} 1
# HELP relay_responses_total Answers.
# TYPE relay_responses_total counter
relay_responses_total{response_class="error",error_code="401"} 3
# HELP relay_active Now.
# TYPE relay_active gauge
relay_active 4
# HELP packet_size_bytes Sizes.
# TYPE packet_size_bytes histogram
packet_size_bytes_bucket{relay_datapath="userspace",le="100"} 1
packet_size_bytes_bucket{relay_datapath="userspace",le="200"} 3
packet_size_bytes_bucket{relay_datapath="userspace",le="+Inf"} 4
packet_size_bytes_sum{relay_datapath="userspace"} 1300
packet_size_bytes_count{relay_datapath="userspace"} 4
`,
  );
});

Deno.test("prometheusText escapes what would end a value or a line", () => {
  const text = prometheusText([], { "1.odd name": 'a"b\\c\nd' });
  assertStringIncludes(text, 'target_info{_1_odd_name="a\\"b\\\\c\\nd"} 1\n');
});
