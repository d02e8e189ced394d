import { assertEquals, assertThrows } from "@std/assert";
import { ConfigError } from "../cli/errors.ts";
import { socketAddress } from "../ip/mod.ts";
import { serveHealth } from "./health_server.ts";

Deno.test("a program is live, ready or not, and tells its revision", async () => {
  let isReady = false;
  const address = freeAddress();
  await using _server = serveHealth(address, {
    isReady: () => isReady,
    revision: "d5b76a1",
    remedy: "",
  });
  assertEquals(await ask(`http://${address}/healthz`), [200, ""]);
  assertEquals(await ask(`http://${address}/readyz`), [503, "d5b76a1"]);
  isReady = true;
  assertEquals(await ask(`http://${address}/readyz`), [200, "d5b76a1"]);
  assertEquals((await ask(`http://${address}/metrics`))[0], 404);
  assertEquals((await ask(`http://${address}/`))[0], 404);
});

Deno.test("metrics are there if they are wanted", async () => {
  const address = freeAddress();
  const metrics = () => Promise.resolve("relay_active_allocations 1\n");
  await using _server = serveHealth(address, {
    isReady: () => true,
    revision: "",
    remedy: "",
    metrics,
  });
  const response = await fetch(`http://${address}/metrics`);
  assertEquals(response.headers.get("content-type"), "text/plain; version=0.0.4; charset=utf-8");
  assertEquals(await response.text(), "relay_active_allocations 1\n");
});

Deno.test("an address in use is one line with what to do about it", async () => {
  const address = freeAddress();
  const options = { isReady: () => true, revision: "", remedy: "name another" };
  await using _server = serveHealth(address, options);
  assertThrows(() => serveHealth(address, options), ConfigError, "; name another");
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
