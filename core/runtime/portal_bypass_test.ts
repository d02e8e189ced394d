import { assertEquals, assertRejects } from "@std/assert";
import { ip, type SocketAddress } from "../ip/mod.ts";
import { setUpLogging } from "../telemetry/logging.ts";
import { PortalBypass } from "./portal_bypass.ts";

class Device {
  readonly calls: string[][] = [];

  setBypass(endpoints: readonly SocketAddress[]): void {
    this.calls.push(endpoints.map(({ key }) => key));
  }
}

Deno.test("PortalBypass lets through what the portal's name means, from then on", async () => {
  const answers = [[ip("192.0.2.1"), ip("2001:db8::1")], [ip("192.0.2.2")], []];
  const bypass = new PortalBypass(
    new URL("wss://portal.example/"),
    () => Promise.resolve(answers.shift()!),
  );
  const device = new Device();
  assertEquals((await bypass.resolve("portal.example")).length, 2);
  bypass.attach(device);
  await bypass.resolve("portal.example");
  // A name that has just vanished is no reason to cut the connection that is there.
  await bypass.resolve("portal.example");
  bypass.attach(undefined);
  assertEquals(device.calls, [["192.0.2.1:443", "[2001:db8::1]:443"], ["192.0.2.2:443"]]);
});

Deno.test("PortalBypass needs no name where the URL holds an address, and knows the ports", () => {
  for (
    const [url, endpoints] of [
      ["wss://192.0.2.1/", ["192.0.2.1:443"]],
      ["ws://[2001:db8::1]/", ["[2001:db8::1]:80"]],
      ["http://192.0.2.1:8080", ["192.0.2.1:8080"]],
      ["wss://portal.example/", []],
    ] as const
  ) {
    const device = new Device();
    new PortalBypass(new URL(url)).attach(device);
    assertEquals(device.calls, [[...endpoints]]);
  }
});

Deno.test("PortalBypass finds the portal also when the system refuses the rules", async () => {
  const lines: string[] = [];
  setUpLogging({ filter: "warn", write: (line) => lines.push(line) });
  const bypass = new PortalBypass(
    new URL("wss://portal.example/"),
    () => Promise.resolve([ip("192.0.2.1")]),
  );
  bypass.attach({
    setBypass: () => {
      throw new Error("not permitted");
    },
  });
  assertEquals((await bypass.resolve("portal.example")).map(String), ["192.0.2.1"]);
  setUpLogging({ filter: "off" });
  assertEquals(lines.length, 2);
});

Deno.test("PortalBypass passes on that a name cannot be resolved, and resolves by the system", async () => {
  const bypass = new PortalBypass(
    new URL("wss://portal.example/"),
    () => Promise.reject(new Error("no such host")),
  );
  await assertRejects(() => bypass.resolve("portal.example"), Error, "no such host");
  const local = new PortalBypass(new URL("ws://localhost:8080/"));
  const found = (await local.resolve("localhost")).map(String);
  assertEquals(found.some((address) => address === "127.0.0.1" || address === "::1"), true);
});
