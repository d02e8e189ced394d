import { assertEquals } from "@std/assert";
import { ip, TCP_FLAG } from "@firezone/core/ip";
import type { Millis } from "@firezone/core/units";
import fc from "fast-check";
import { AddressSlots } from "./address_slots.ts";
import { FlowKind, FlowTable, NoFlow } from "./flow_table.ts";

const REALS = 2;

function makeTable(maxFlows = 1_000, seed = 5) {
  const reals = new AddressSlots();
  for (let i = 0; i < REALS; i++) reals.take(ip(`10.0.0.${i}`)); // as names refer to them
  return { table: new FlowTable({ maxFlows, seed, reals }), reals };
}

/** The same, slow and obvious: every flow an object, every look-up a search. */
class Model {
  readonly flows: {
    kind: FlowKind;
    port: number;
    proxy: number;
    real: number;
    chosen: number;
    expires: number;
    confirmed: boolean;
    fins: Set<string>;
    buried: boolean;
  }[] = [];

  outbound(now: number, kind: FlowKind, port: number, proxy: number, real: number, flags: number) {
    this.#settle(now);
    let flow = this.flows.find((f) =>
      !f.buried && f.kind === kind && f.port === port && f.proxy === proxy
    );
    if (!flow) {
      const taken = (chosen: number) =>
        this.flows.some((f) =>
          !f.buried && f.kind === kind && f.real === real && f.chosen === chosen
        );
      let chosen = port;
      while (taken(chosen)) chosen = chosen === 0xffff ? 1 : chosen + 1;
      const dead = this.flows.findIndex((f) =>
        f.kind === kind && f.real === real && f.chosen === chosen
      );
      if (dead >= 0) this.flows.splice(dead, 1);
      flow = {
        kind,
        port,
        proxy,
        real,
        chosen,
        expires: now + 60_000,
        confirmed: false,
        fins: new Set(),
        buried: false,
      };
      this.flows.push(flow);
    } else if (flow.confirmed && flow.fins.size < 2) flow.expires = now + ttl(kind);
    this.#end(now, flow, flags, "out");
    return `${flow.real} ${flow.chosen}`;
  }

  inbound(now: number, kind: FlowKind, port: number, real: number, flags: number) {
    this.#settle(now);
    const flow = this.flows.find((f) => f.kind === kind && f.chosen === port && f.real === real);
    if (!flow) return "unknown";
    if (flow.buried) return "expired";
    flow.confirmed = true;
    if (flow.fins.size < 2) flow.expires = now + ttl(kind);
    this.#end(now, flow, flags, "in");
    return `${flow.proxy} ${flow.port}`;
  }

  #end(now: number, flow: Model["flows"][number], flags: number, side: string): void {
    if ((flags & TCP_FLAG.rst) !== 0) {
      flow.buried = true;
      flow.expires = now + 120_000;
    } else if ((flags & TCP_FLAG.fin) !== 0 && !flow.fins.has(side)) {
      flow.fins.add(side);
      if (flow.fins.size === 2) flow.expires = now + 5_000;
    }
  }

  /** The table learns of an end when it looks, so from then on it counts. */
  #settle(now: number): void {
    for (const flow of [...this.flows]) {
      if (flow.expires > now) continue;
      if (flow.buried) this.flows.splice(this.flows.indexOf(flow), 1);
      else {
        flow.buried = true;
        flow.expires = now + 120_000;
      }
    }
  }
}

function ttl(kind: FlowKind): number {
  return kind === FlowKind.Tcp ? 7_440_000 : 120_000;
}

Deno.test("FlowTable does what a list of flows does", () => {
  const flags = fc.constantFrom(0, 0, 0, TCP_FLAG.fin, TCP_FLAG.rst);
  const step = fc.record({
    direction: fc.constantFrom("out" as const, "out" as const, "in" as const),
    waitMs: fc.constantFrom(
      0,
      0,
      0,
      0,
      1,
      4_999,
      5_000,
      59_999,
      60_000,
      119_999,
      120_000,
      7_440_000,
    ),
    kind: fc.constantFrom(FlowKind.Tcp, FlowKind.Udp),
    port: fc.constantFrom(1, 2, 3, 65_534, 65_535),
    proxy: fc.nat({ max: 3 }),
    real: fc.nat({ max: REALS - 1 }),
    flags,
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const { table } = makeTable();
      const model = new Model();
      let now = 0 as Millis;
      for (const { direction, waitMs, kind, port, proxy, real, flags } of steps) {
        now = (now + waitMs) as Millis;
        // So that nothing is found out later than by the model, which always looks at everything.
        for (let i = 0; i < 64; i++) table.sweep(now);
        const tcpFlags = kind === FlowKind.Tcp ? flags : 0;
        if (direction === "out") {
          let flow = table.findInside(now, kind, port, proxy);
          if (flow < 0) flow = table.create(now, kind, port, proxy, real, 0);
          const seen = `${table.real(flow)} ${table.outsidePort(flow)}`;
          table.noteOutbound(now, flow, tcpFlags);
          assertEquals(seen, model.outbound(now, kind, port, proxy, real, tcpFlags));
        } else {
          const flow = table.findOutside(now, kind, port, real);
          const seen = flow === NoFlow.Unknown
            ? "unknown"
            : flow === NoFlow.Expired
            ? "expired"
            : `${table.proxy(flow)} ${table.insidePort(flow)}`;
          if (flow >= 0) table.noteInbound(now, flow, tcpFlags);
          assertEquals(seen, model.inbound(now, kind, port, real, tcpFlags));
        }
        assertEquals(table.size, model.flows.filter((flow) => !flow.buried).length);
        assertEquals(table.buried, model.flows.filter((flow) => flow.buried).length);
      }
    }),
    { numRuns: 500 },
  );
});

Deno.test("FlowTable finds ports as fast among many that are taken, up to the last", () => {
  const { table } = makeTable(100_000);
  const ports = new Set<number>();
  // One by one from the client's port on this would look at two thousand million ports.
  for (let proxy = 0; proxy < 0xffff; proxy++) {
    const flow = table.create(0 as Millis, FlowKind.Udp, 1_000, proxy, 0, 0);
    ports.add(table.outsidePort(flow));
  }
  assertEquals(ports.size, 0xffff);
  assertEquals(ports.has(0), false);
  const more = () => table.create(0 as Millis, FlowKind.Udp, 1_000, 0x10000, 0, 0);
  assertEquals(more(), NoFlow.Exhausted);
  table.end(0 as Millis, table.findInside(0 as Millis, FlowKind.Udp, 1_000, 77));
  assertEquals(table.outsidePort(more()), 1_077);
});

Deno.test("FlowTable gives back places and addresses", () => {
  const { table, reals } = makeTable(100);
  for (let round = 0; round < 50; round++) {
    const now = (round * 1_000_000) as Millis;
    for (let port = 1; port <= 100; port++) {
      table.create(now, FlowKind.Udp, port, port % 4, port % REALS, 0);
    }
    assertEquals([table.size, table.buried], [100, 0]);
  }
  table.clear();
  assertEquals([table.size, table.buried, reals.size], [0, 0, REALS]);
});
