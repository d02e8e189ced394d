import { assertEquals, assertStringIncludes } from "@std/assert";
import fc from "fast-check";
import { Secret } from "../secret.ts";
import { plainFields } from "./fields.ts";
import { parseLogFilter } from "./filter.ts";
import { formatHuman } from "./format.ts";
import {
  isLogging,
  logFilterText,
  logger,
  type LoggingOptions,
  setLogFilter,
  setUpLogging,
} from "./logging.ts";

Deno.test("the longest matching part of a filter decides", () => {
  const filter = parseLogFilter("info,portal=debug,client::portal=off,peers=TRACE")!;
  const rank = (...target: string[]) => filter.rankFor(target);
  assertEquals(rank("gateway"), 2);
  assertEquals(rank("gateway", "portal"), 1);
  assertEquals(rank("client", "portal"), 5);
  assertEquals(rank("client", "portal", "x"), 5);
  assertEquals(rank("gateway", "peers"), 0);
  assertEquals(parseLogFilter("")!.rankFor(["x"]), 4);
});

Deno.test("a filter that makes no sense is refused", () => {
  for (const text of ["loud", "portal=loud", "=debug", "a=b=debug", "info portal"]) {
    assertEquals(parseLogFilter(text), undefined, text);
  }
  fc.assert(fc.property(fc.string(), (text) => void parseLogFilter(text)));
});

Deno.test("a logger made before set-up follows it, and child loggers have longer targets", () => {
  const early = logger("test");
  const lines = capture({ filter: "warn,portal=debug", format: "human", colour: false }, () => {
    early.info("unwanted");
    early.child("portal").debug("Joined", { era: "v2", detail: "two words" });
    assertEquals(early.isEnabled("info"), false);
    assertEquals(isLogging("warn"), true);
  });
  assertEquals(lines.length, 1);
  assertEquals(lines[0]!.slice(25), 'DEBUG test.portal: Joined era=v2 detail="two words"\n');
});

Deno.test("colours are for terminals alone", async () => {
  const coloured = capture({ colour: true }, () => logger("a").warn("b"));
  assertStringIncludes(coloured.join(), "\x1b[");
  const code = `import { logger, setUpLogging } from ${
    JSON.stringify(import.meta.resolve("./logging.ts"))
  }; setUpLogging(); logger("a").warn("b");`;
  const { NO_COLOR: _, ...env } = Deno.env.toObject();
  const { stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["eval", `--config=${new URL("../../deno.json", import.meta.url).pathname}`, code],
    clearEnv: true,
    env,
  }).output();
  const line = new TextDecoder().decode(stderr);
  assertStringIncludes(line, "a: b");
  assertEquals(line.includes("\x1b["), false);
});

Deno.test("JSON lines hold time, level, target, message and fields", () => {
  const lines = capture({ filter: "trace", format: "json" }, () => {
    logger("a", "b").warn("Braces {stay} as they are", { count: 2n, when: undefined });
    logger("a").error("Bare");
  });
  const { time, ...rest } = JSON.parse(lines[0]!);
  assertEquals(Number.isNaN(Date.parse(time)), false);
  assertEquals(rest, {
    level: "warn",
    target: "a.b",
    message: "Braces {stay} as they are",
    fields: { count: "2" },
  });
  assertEquals(Object.keys(JSON.parse(lines[1]!)), ["time", "level", "target", "message"]);
});

Deno.test("lines for Google Cloud hold severity, time and message, and lead to their trace", () => {
  const write = (googleCloudProjectId: string | undefined) =>
    capture({ filter: "trace", format: "google-cloud", googleCloudProjectId }, () => {
      logger("relay", "portal").warn("Gone", { trace_id: "ab", span_id: "cd", code: 3 });
      logger("relay").trace("Bare");
    }).map((line) => {
      const { time, ...rest } = JSON.parse(line);
      assertEquals(Number.isNaN(Date.parse(time)), false);
      return rest;
    });
  const gone = {
    severity: "WARNING",
    message: "Gone",
    target: "relay.portal",
    fields: { code: 3 },
  };
  const bare = { severity: "DEBUG", message: "Bare", target: "relay" };
  assertEquals(write(undefined), [gone, bare]);
  assertEquals(write("my-project"), [{
    ...gone,
    "logging.googleapis.com/trace": "projects/my-project/traces/ab",
    "logging.googleapis.com/spanId": "cd",
    "logging.googleapis.com/trace_sampled": true,
  }, bare]);
});

Deno.test("a filter that is replaced holds at once for loggers that exist", () => {
  const log = logger("test", "early");
  const lines = capture({ filter: "warn", format: "json" }, () => {
    log.info("unwanted");
    setLogFilter(parseLogFilter("test.early=info")!);
    log.info("wanted");
    assertEquals(logFilterText(), "test.early=info");
    setLogFilter(parseLogFilter("off")!);
    log.error("unwanted");
  });
  assertEquals(lines.map((line) => JSON.parse(line).message), ["wanted"]);
});

Deno.test("secrets never reach a line", () => {
  const lines = capture({ filter: "info", format: "json" }, () => {
    logger("x").info("Connecting", {
      token: "hunter2",
      preshared_key: "hunter2",
      nested: { privateKey: "hunter2", list: [{ password: "hunter2" }] },
      wrapped: new Secret("hunter2"),
      tokenPath: "/etc/token",
    });
  });
  assertEquals(lines[0]!.includes("hunter2"), false);
  assertStringIncludes(lines[0]!, "/etc/token");
});

Deno.test("a line stays one line and cannot steer a terminal", () => {
  const line = { timeMs: 0, level: "info", target: "x", message: "a\nb", fields: { f: "\x1b[2J" } };
  assertEquals(
    formatHuman(line as Parameters<typeof formatHuman>[0], false),
    "1970-01-01T00:00:00.000Z  INFO x: a\\nb f=\\x1b[2J\n",
  );
});

Deno.test("any field can be logged, also one that contains itself or throws", () => {
  const loop: Record<string, unknown> = {};
  loop.self = loop;
  plainFields({
    loop,
    bad: {
      get x() {
        throw new Error("no");
      },
    },
    nan: NaN,
    symbol: Symbol("s"),
    bytes: new Uint8Array(3),
  });
  fc.assert(fc.property(fc.dictionary(fc.string(), fc.anything()), (fields) => {
    JSON.stringify(plainFields(fields));
  }));
});

function capture(options: LoggingOptions, run: () => void): string[] {
  const lines: string[] = [];
  setUpLogging({ ...options, write: (line) => lines.push(line) });
  run();
  setUpLogging({ filter: "off" });
  return lines;
}
