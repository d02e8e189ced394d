import { assertEquals, assertRejects } from "@std/assert";
import { type LookUp, SystemResolver } from "./resolver.ts";

/** A system that answers when it is told to. */
class FakeSystem {
  readonly asked: string[] = [];
  readonly #answers = new Map<string, PromiseWithResolvers<readonly string[]>>();

  readonly lookUp: LookUp = (domain, type, signal) => {
    const key = `${domain} ${type}`;
    this.asked.push(key);
    const answer = Promise.withResolvers<readonly string[]>();
    this.#answers.set(key, answer);
    signal.addEventListener("abort", () => answer.reject(new Error("aborted")));
    return answer.promise;
  };

  answer(key: string, addresses: readonly string[]): void {
    this.#answers.get(key)!.resolve(addresses);
  }

  refuse(key: string): void {
    this.#answers.get(key)!.reject(new Error(`refused: ${key}`));
  }
}

Deno.test("SystemResolver asks for both families at once and puts the answers together", async () => {
  const system = new FakeSystem();
  const resolver = new SystemResolver({ lookUp: system.lookUp });
  const resolved = resolver.resolve("a.example");
  assertEquals(system.asked, ["a.example A", "a.example AAAA"]);
  system.answer("a.example AAAA", ["2001:db8::1"]);
  system.answer("a.example A", ["192.0.2.1", "192.0.2.2"]);
  assertEquals(await resolved, ["192.0.2.1", "192.0.2.2", "2001:db8::1"]);
});

Deno.test("one family is enough", async () => {
  const system = new FakeSystem();
  const resolver = new SystemResolver({ lookUp: system.lookUp });
  const refused = resolver.resolve("a.example");
  system.refuse("a.example A");
  system.answer("a.example AAAA", ["2001:db8::1"]);
  assertEquals(await refused, ["2001:db8::1"]);
  const empty = resolver.resolve("b.example");
  system.answer("b.example A", ["192.0.2.1"]);
  system.answer("b.example AAAA", []);
  assertEquals(await empty, ["192.0.2.1"]);
});

Deno.test("a family that is never answered is not waited for after the other for long", async () => {
  const system = new FakeSystem();
  const resolver = new SystemResolver({ lookUp: system.lookUp, graceMs: 1 });
  const resolved = resolver.resolve("a.example");
  system.answer("a.example A", ["192.0.2.1"]);
  assertEquals(await resolved, ["192.0.2.1"]);
});

Deno.test("a name without addresses is told from one that nobody answers for", async () => {
  const system = new FakeSystem();
  const resolver = new SystemResolver({ lookUp: system.lookUp, limitMs: 60_000 });
  for (let i = 0; i < 2; i++) { // and is asked for again at once
    const none = resolver.resolve("a.example");
    system.answer("a.example A", []);
    system.answer("a.example AAAA", []);
    assertEquals(await none, []);
  }
  assertEquals(system.asked.length, 4);
  const failed = resolver.resolve("b.example");
  system.answer("b.example A", []);
  system.refuse("b.example AAAA");
  await assertRejects(() => failed, Error, "refused: b.example AAAA");
  const hasty = new SystemResolver({ lookUp: system.lookUp, limitMs: 1 });
  await assertRejects(() => hasty.resolve("c.example"), Error, "no answer in 1 ms");
});

Deno.test("a name is asked for once while it is being resolved, and again after five seconds", async () => {
  const system = new FakeSystem();
  let now = 0;
  const resolver = new SystemResolver({ lookUp: system.lookUp, now: () => now });
  const both = [resolver.resolve("a.example"), resolver.resolve("a.example")];
  system.refuse("a.example AAAA");
  system.answer("a.example A", ["192.0.2.1"]);
  assertEquals(await Promise.all(both), [["192.0.2.1"], ["192.0.2.1"]]);
  now = 4_999;
  assertEquals(await resolver.resolve("a.example"), ["192.0.2.1"]);
  assertEquals(system.asked.length, 2);
  now = 5_000;
  const again = resolver.resolve("a.example");
  assertEquals(system.asked.length, 4);
  system.refuse("a.example AAAA");
  system.answer("a.example A", ["192.0.2.2"]);
  assertEquals(await again, ["192.0.2.2"]);
});

Deno.test("more than a thousand names at a time are refused", async () => {
  const system = new FakeSystem();
  const resolver = new SystemResolver({ lookUp: system.lookUp, limitMs: 20 });
  const all = Array.from({ length: 1_001 }, (_, i) => resolver.resolve(`h${i}.example`));
  const outcomes = await Promise.allSettled(all);
  assertEquals(system.asked.length, 2_000);
  assertEquals(
    (outcomes[1_000] as PromiseRejectedResult).reason.message.slice(0, 10),
    "1000 names",
  );
});

Deno.test("the system's resolver finds what /etc/hosts says", async () => {
  const resolver = new SystemResolver({ graceMs: 10 });
  assertEquals((await resolver.resolve("localhost")).includes("127.0.0.1"), true);
});
