import { assertEquals } from "@std/assert";
import { makeAnswer, parseQuery, Rcode } from "@firezone/core/dns";
import { ip } from "@firezone/core/ip";
import { logger } from "@firezone/core/telemetry";
import { seededRandom } from "@firezone/core/testing";
import type { Exchange, ExchangeOptions } from "./exchange.ts";
import { NameServers } from "./name_servers.ts";

interface Behaviour {
  readonly delayMs: number;
  readonly rcode?: number;
  readonly tcp?: boolean;
}

/** Servers whose answers take virtual time: the clock shows the delay of the last answer. */
class FakeWorld implements Exchange {
  now = 0;
  readonly behaviours = new Map<string, Behaviour>();
  readonly asked: string[] = [];
  readonly servers: NameServers;

  constructor() {
    this.servers = new NameServers({
      servers: () => [...this.behaviours.keys()].map(ip),
      exchange: this,
      random: seededRandom(1),
      log: logger("test"),
      now: () => this.now,
    });
  }

  async ask(query: Uint8Array, { to, transport, isAnswer }: ExchangeOptions): Promise<Uint8Array> {
    this.asked.push(`${transport} ${to.key}`);
    const behaviour = this.behaviours.get(to.ip.text);
    const parsed = parseQuery(query);
    if (!behaviour || parsed.tag !== "query" || transport === "tcp" && behaviour.tcp === false) {
      throw new Error("no answer");
    }
    // One after the other in the order of their delays, the clock showing each one's own.
    for (let turn = 0; turn < behaviour.delayMs; turn++) await Promise.resolve();
    this.now = Math.max(this.now, this.#start + behaviour.delayMs);
    const answer = makeAnswer(parsed.query, behaviour.rcode ?? Rcode.NxDomain);
    assertEquals(isAnswer(answer), true);
    return answer;
  }

  #start = 0;

  /** The text of the fastest server. */
  async fastest(): Promise<string | undefined> {
    this.#start = this.now;
    return (await this.servers.fastest())?.key;
  }
}

Deno.test("the name server that answers first is the one to ask", async () => {
  const world = new FakeWorld();
  world.behaviours.set("192.0.2.1", { delayMs: 30 });
  world.behaviours.set("192.0.2.2", { delayMs: 10 });
  world.behaviours.set("192.0.2.3", { delayMs: 20 });
  assertEquals(await world.fastest(), "192.0.2.2:53");
});

Deno.test("one that refuses or knows no TCP comes after those that do better", async () => {
  const world = new FakeWorld();
  world.behaviours.set("192.0.2.1", { delayMs: 1, rcode: Rcode.Refused });
  world.behaviours.set("192.0.2.2", { delayMs: 2, tcp: false });
  assertEquals(await world.fastest(), "192.0.2.2:53");
  world.behaviours.set("2001:db8::1", { delayMs: 9 });
  world.now += 60_000;
  await world.fastest(); // what was known does until it is known better
  await Promise.resolve();
  for (let turn = 0; turn < 100; turn++) await Promise.resolve();
  assertEquals(await world.fastest(), "[2001:db8::1]:53");
});

Deno.test("servers are asked again after a minute or a failure, and not before", async () => {
  const world = new FakeWorld();
  world.behaviours.set("192.0.2.1", { delayMs: 1 });
  await world.fastest();
  assertEquals(world.asked.length, 2);
  world.now = 59_000;
  await world.fastest();
  assertEquals(world.asked.length, 2);
  world.servers.noteFailure((await world.servers.fastest())!);
  world.behaviours.delete("192.0.2.1");
  world.behaviours.set("192.0.2.9", { delayMs: 1 });
  assertEquals(await world.fastest(), "192.0.2.9:53");
});

Deno.test("without any that answers there is none, and the next question tries again", async () => {
  const world = new FakeWorld();
  assertEquals(await world.fastest(), undefined);
  world.behaviours.set("192.0.2.1", { delayMs: 1 });
  assertEquals(await world.fastest(), "192.0.2.1:53");
});
