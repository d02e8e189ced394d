/**
 * Runs a whole `DnsService` on a TUN device and asks it things; to be started inside a network
 * namespace of its own. Prints what came back as JSON.
 * @module
 */

import { proxyAddressesOf } from "@firezone/core/dns";
import { ip, prefix, socketAddress } from "@firezone/core/ip";
import dgram from "node:dgram";
import { TunDevice } from "@firezone/core/os/linux";
import { FIREZONE_MARK, TunnelInterface } from "@firezone/core/runtime";
import { systemRandom } from "@firezone/core/system_random";
import { logger } from "@firezone/core/telemetry";
import type { Millis } from "@firezone/core/units";
import { askTcp, askUdp, fakeServer, queryBytes } from "../../../core/testing/fake_dns.ts";
import { type DnsClock, DnsService } from "../mod.ts";
import { AUTHORITY } from "./certificate.ts";
import { fakeHttps } from "./fake_https.ts";

/** A clock that stands still until the test moves it. */
class HandClock implements DnsClock {
  #now = 0;
  readonly #due = new Set<{ at: number; fn: () => void }>();

  now(): Millis {
    return this.#now as Millis;
  }

  schedule(delayMs: number, fn: () => void): () => void {
    const timer = { at: this.#now + delayMs, fn };
    this.#due.add(timer);
    return () => this.#due.delete(timer);
  }

  advance(ms: number): void {
    this.#now += ms;
    for (const timer of [...this.#due]) {
      if (timer.at <= this.#now && this.#due.delete(timer)) timer.fn();
    }
  }
}

const result: Record<string, unknown> = {};
const [recordsPath, neighbour] = Deno.args as [string, string];
const address = (data: string) => ({
  answers: [{ type: "A", name: "example.org", ttl: 60, data }],
});
const many = {
  answers: Array.from({ length: 60 }, (_, i) => ({
    type: "A",
    name: "long.example.org",
    ttl: 60,
    data: `192.0.2.${i}`,
  })),
};

await using system = await fakeServer("127.0.0.1", 53, ({ name }) => {
  if (name === "long.example.org") return many;
  if (name === "dns.test") return address("127.0.0.1");
  return address("192.0.2.4");
});
await using _ipv6 = await fakeServer("::1", 53, () => address("192.0.2.6"));
await using https = fakeHttps("127.0.0.1", 443);
await using silent = await fakeServer("127.0.0.9", 53, () => undefined);

using tun = TunDevice.open("tun-dns");
const device = TunnelInterface.attach(tun.name);
device.setAddresses(ip("100.64.0.1"), ip("fd00:2021:1111::1"));
const routes = [prefix("100.96.0.0/11"), prefix("fd00:2021:1111:8000::/107")];
device.setRoutes(routes);

const resolved: string[] = [];
const clock = new HandClock();
const listening = { notify: () => {} };
function open(): DnsService {
  return new DnsService({
    random: systemRandom,
    log: logger("test"),
    mark: FIREZONE_MARK,
    systemNames: ["portal.test"],
    recordsPath,
    trusted: [AUTHORITY],
    clock,
    onDomainResolved: ({ domain, slot, resourceIds }) => {
      resolved.push(`${domain} ${proxyAddressesOf(slot)[0]} ${resourceIds}`);
    },
    onSentinelsChanged: (sentinels) => device.setServiceAddresses(sentinels),
    onListening: () => listening.notify(),
    siteGateway: () => Promise.resolve(undefined),
  });
}
async function ready(service: DnsService): Promise<void> {
  while (!service.isListening) await new Promise<void>((resolve) => listening.notify = resolve);
}
async function command(name: string, ...args: string[]): Promise<string> {
  const { stdout } = await new Deno.Command(name, { args }).output();
  return new TextDecoder().decode(stdout).trim();
}
const ask = (sentinel: string, name: string, type: string) =>
  askUdp(sentinel, 53, queryBytes(name, type));

let service = open();
service.setResources([{ id: "r1", pattern: "*.example.com", ipStack: "dual" }]);
service.setSystemServers([ip("127.0.0.1"), ip("::1"), ip("127.0.0.9"), ip("100.100.111.1")]);
await ready(service);
const sentinels = service.sentinels().map(String);
const [v4, v6, mute] = sentinels as [string, string, string];
result["sentinels"] = sentinels;
// The kernel leads packets to a new IPv6 address a moment after it has accepted it.
while (!(await command("ip", "-6", "route", "show", "table", "local")).includes(v6)) {
  await new Promise((resolve) => setTimeout(resolve, 1));
}

result["resource"] = await ask(v4, "db.example.com", "A");
result["resource by IPv6"] = await ask(v6, "db.example.com", "AAAA");
result["resource by TCP"] = await askTcp(
  v4,
  53,
  queryBytes("db.example.com", "A"),
  queryBytes("db.example.com", "HTTPS"),
);
result["resolved"] = [...resolved];
result["forwarded"] = await ask(v4, "example.org", "A");
result["forwarded by IPv6"] = await ask(v6, "example.org", "A");
result["forwarded by TCP"] = await askTcp(v6, 53, queryBytes("example.org", "AAAA"));
result["long"] = await ask(v4, "long.example.org", "A");
const [long] = await askTcp(v4, 53, queryBytes("long.example.org", "A"));
result["long by TCP"] = long!.split(",").length;
result["through a site without gateway"] = await ask(v4, "db.example.com", "SRV");
result["cached"] = [await ask(v4, "example.org", "A"), system.asked.length];

// A neighbour reaches the sentinel, as the other port shows, but the resolver keeps silent.
const plain = dgram.createSocket("udp4");
await new Promise<void>((resolve) => plain.bind(5300, v4, resolve));
const heard = new Promise<string>((resolve) =>
  plain.once("message", (_, from) => resolve(from.address))
);
const script = new URL("neighbour.ts", import.meta.url).pathname;
const asDeno = ["netns", "exec", neighbour, Deno.execPath(), "run", "-A"];
const outcome = await command("ip", ...asDeno, script, v4);
result["neighbour"] = [await Promise.race([heard, "not reached"]), outcome];
await new Promise<void>((resolve) => plain.close(() => resolve()));

// From here on everything goes into the tunnel, and the servers of the system must not.
device.setRoutes([...routes, prefix("0.0.0.0/0"), prefix("::/0")]);

const waiting = ask(mute, "example.org", "A");
while (silent.asked.length === 0) await new Promise((resolve) => setTimeout(resolve, 1));
clock.advance(4999);
const early = await Promise.race([
  waiting,
  ask(v4, "db.example.com", "A").then(() => "nothing yet"),
]);
clock.advance(1);
result["silent"] = [early, await waiting];

// A server that the portal names on the far side of the tunnel: unmarked, so it goes into TUN.
service.setInterface([socketAddress("10.9.9.9:53")], [], undefined);
await ready(service);
const moved = service.sentinels().map(String);
result["sentinels of the portal's servers"] = moved;
const buffer = new Uint8Array(70_000);
while (tun.read(buffer) > 0);
const tunnelled = ask(moved[0]!, "inside.test", "A");
const isToServer = () => buffer[10 + 9] === 17 && buffer.subarray(26, 30).join(".") === "10.9.9.9";
while (tun.read(buffer) === 0 || !isToServer()) {
  await new Promise((resolve) => setTimeout(resolve, 1));
}
result["in the tunnel"] = [
  buffer.subarray(22, 26).join("."),
  buffer.subarray(26, 30).join("."),
];
clock.advance(5000);
result["in the tunnel, no answer"] = await tunnelled;
result["the portal's own name"] = await ask(moved[0]!, "portal.test", "A");

// Servers of the system are asked over marked sockets: where only the tunnel leads, nothing does.
service.setSystemServers([ip("198.51.100.53")]);
result["the portal's own name, nothing but the tunnel"] = await ask(moved[0]!, "portal.test", "A");

// Over HTTPS; the system's servers know where.
service.setSystemServers([ip("127.0.0.1")]);
service.setInterface([], ["https://dns.test/dns-query"], undefined);
await ready(service);
const [doh] = service.sentinels().map(String);
result["over HTTPS"] = [doh, await ask(doh!, "example.org", "A"), https.requests.length];

// After a restart the names have the addresses they had.
await service.close();
service = open();
service.setSystemServers([ip("127.0.0.1")]);
service.setResources([{ id: "r2", pattern: "**.example.com", ipStack: "dual" }]);
result["kept"] = service.resolvedDomains().map(({ domain, slot, resourceIds }) =>
  `${domain} ${proxyAddressesOf(slot)[0]} ${resourceIds}`
);
await service.close();
device.close();
console.log(JSON.stringify(result));
