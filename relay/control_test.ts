import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { ConfigError } from "@firezone/core/cli";
import { socketAddress } from "@firezone/core/ip";
import type { LogFilter } from "@firezone/core/telemetry";
import { serveControl } from "./control.ts";

Deno.test("the log filter is changed by directives that make sense", async () => {
  const filters: string[] = [];
  const address = freeAddress();
  await using _server = serveControl(address, (filter: LogFilter) => filters.push(filter.text));
  const post = (query: string) => ask(`http://${address}/log_filter${query}`, "POST");
  assertEquals(await post("?directives=info,relay=debug"), [200, ""]);
  assertEquals(await post("?directives=" + encodeURIComponent("warn,a::b=trace")), [200, ""]);
  for (const query of ["", "?directives=loud", `?directives=${"a=info,".repeat(1000)}`]) {
    const [status, text] = await post(query);
    assertEquals(status, 400);
    assertStringIncludes(text, "expected ?directives=");
  }
  assertEquals((await ask(`http://${address}/log_filter?directives=info`))[0], 404);
  assertEquals(filters, ["info,relay=debug", "warn,a::b=trace"]);
});

Deno.test("an address in use is told of with the option that names it", async () => {
  const address = freeAddress();
  await using _server = serveControl(address, () => {});
  assertThrows(
    () => serveControl(address, () => {}),
    ConfigError,
    "name another --control-endpoint, or off",
  );
});

async function ask(url: string, method = "GET"): Promise<[status: number, body: string]> {
  const response = await fetch(url, { method });
  return [response.status, await response.text()];
}

/** An address on loopback that was free a moment ago. */
function freeAddress() {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return socketAddress(`127.0.0.1:${(listener.addr as Deno.NetAddr).port}`);
}
