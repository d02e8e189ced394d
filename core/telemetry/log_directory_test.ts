import { assert, assertEquals, assertThrows } from "@std/assert";
import { ConfigError } from "../config_error.ts";
import { LogDirectory } from "./log_directory.ts";
import { logger, setUpLogging } from "./logging.ts";

const START = Date.UTC(2026, 0, 2, 3, 4, 5);

/** A directory of its own and a clock that the test moves, in milliseconds. */
function inDirectory(test: (path: string, clock: { ms: number }) => void): void {
  const directory = Deno.makeTempDirSync();
  try {
    test(`${directory}/logs`, { ms: START });
  } finally {
    Deno.removeSync(directory, { recursive: true });
  }
}

function names(path: string): string[] {
  return Array.from(Deno.readDirSync(path), (entry) => entry.name).sort();
}

Deno.test("LogDirectory names files by UTC, closes them to others and links to the latest", () => {
  inDirectory((path, clock) => {
    using directory = LogDirectory.open(path, {
      baseName: "firezone-gateway",
      now: () => clock.ms,
    });
    setUpLogging({ filter: "info", colour: true, write: (line) => directory.write(line) });
    logger("client").info("Tunnel ready", { ipv4: "100.64.0.1" });
    setUpLogging({ filter: "off" });
    assertEquals(names(path), ["firezone-gateway.2026-01-02-03-04-05.log", "latest"]);
    assertEquals(Deno.readLinkSync(`${path}/latest`), "firezone-gateway.2026-01-02-03-04-05.log");
    assertEquals(Deno.statSync(`${path}/latest`).mode! & 0o777, 0o640 & ~Deno.umask());
    const text = Deno.readTextFileSync(`${path}/latest`);
    assertEquals(text.slice(25), " INFO client: Tunnel ready ipv4=100.64.0.1\n");
  });
});

Deno.test("LogDirectory keeps what earlier runs wrote, and names JSON differently", () => {
  inDirectory((path, clock) => {
    for (const [ms, json] of [[0, false], [1000, true], [1000, true]] as const) {
      clock.ms = START + ms;
      using directory = LogDirectory.open(path, {
        baseName: "firezone-gateway",
        now: () => clock.ms,
        json,
      });
      directory.write(`${ms}\n`);
    }
    const [text, json] = [
      "firezone-gateway.2026-01-02-03-04-05.log",
      "firezone-gateway.2026-01-02-03-04-06.jsonl",
    ];
    assertEquals(names(path), [text, json, "latest"]);
    assertEquals(Deno.readTextFileSync(`${path}/${text}`), "0\n");
    assertEquals(Deno.readTextFileSync(`${path}/${json}`), "1000\n1000\n");
  });
});

Deno.test("LogDirectory begins another file when one is large, and removes the oldest", () => {
  inDirectory((path, clock) => {
    Deno.mkdirSync(path);
    Deno.writeTextFileSync(`${path}/keep.2026-01-02-03-04-04.log`, "x".repeat(1000));
    using directory = LogDirectory.open(path, {
      baseName: "firezone-gateway",
      now: () => clock.ms,
      maxFileBytes: 100,
      maxTotalBytes: 250,
    });
    for (let i = 0; i < 8; i++) {
      clock.ms += 1000;
      directory.write("y".repeat(59) + "\n");
    }
    assertEquals(names(path), [
      "firezone-gateway.2026-01-02-03-04-09.log",
      "firezone-gateway.2026-01-02-03-04-11.log",
      "firezone-gateway.2026-01-02-03-04-13.log",
      "keep.2026-01-02-03-04-04.log",
      "latest",
    ]);
    assertEquals(Deno.readLinkSync(`${path}/latest`), "firezone-gateway.2026-01-02-03-04-13.log");
  });
});

Deno.test("LogDirectory cleans up every hour what others of its name leave", () => {
  inDirectory((path, clock) => {
    using directory = LogDirectory.open(path, {
      baseName: "firezone-gateway",
      now: () => clock.ms,
      maxTotalBytes: 100,
    });
    const foreign = "firezone-gateway.2025-01-01-00-00-00.jsonl";
    Deno.writeTextFileSync(`${path}/${foreign}`, "x".repeat(101));
    clock.ms += 3_599_000;
    directory.write("a\n");
    assert(names(path).includes(foreign));
    clock.ms += 1_000;
    directory.write("b\n");
    assertEquals(names(path).includes(foreign), false);
  });
});

Deno.test("LogDirectory makes a removed file again, also a removed directory", () => {
  inDirectory((path, clock) => {
    using directory = LogDirectory.open(path, {
      baseName: "firezone-gateway",
      now: () => clock.ms,
    });
    using follower = LogDirectory.open(path, {
      baseName: "firezone-gateway",
      now: () => clock.ms,
      follow: true,
    });
    for (
      const remove of [
        () => Deno.removeSync(`${path}/latest`.replace("latest", names(path)[0]!)),
        () => Deno.removeSync(path, { recursive: true }),
      ]
    ) {
      remove();
      clock.ms += 1000;
      directory.write("owner\n");
      follower.write("follower\n");
      assertEquals(Deno.readTextFileSync(`${path}/latest`), "owner\nfollower\n");
    }
  });
});

Deno.test("a thread that follows writes where the owner does", () => {
  inDirectory((path, clock) => {
    const options = { baseName: "firezone-gateway", now: () => clock.ms, maxFileBytes: 10 };
    using early = LogDirectory.open(path, { ...options, follow: true });
    early.write("nowhere yet\n");
    using directory = LogDirectory.open(path, options);
    clock.ms += 1000;
    early.write("1\n");
    directory.write("0123456789\n");
    assertEquals(
      Deno.readTextFileSync(`${path}/firezone-gateway.2026-01-02-03-04-05.log`),
      "1\n0123456789\n",
    );
    clock.ms += 1000;
    early.write("2\n");
    assertEquals(Deno.readTextFileSync(`${path}/latest`), "2\n");
  });
});

Deno.test("a directory that cannot be written is refused, a full disk is survived", () => {
  inDirectory((path) => {
    Deno.writeTextFileSync(path, "");
    assertThrows(
      () => LogDirectory.open(path, { baseName: "firezone-gateway" }),
      ConfigError,
      `Cannot write logs to ${path}`,
    );
    assertThrows(
      () => LogDirectory.open(`${path}/below`, { baseName: "firezone-gateway" }),
      ConfigError,
    );
  });
  inDirectory((path, clock) => {
    Deno.mkdirSync(path);
    Deno.symlinkSync("/dev/full", `${path}/firezone-gateway.2026-01-02-03-04-05.log`);
    using directory = LogDirectory.open(path, {
      baseName: "firezone-gateway",
      now: () => clock.ms,
    });
    directory.write("lost\n");
  });
});

Deno.test("programs share a directory, each with its own files", () => {
  inDirectory((path, clock) => {
    const now = () => clock.ms;
    using client = LogDirectory.open(path, { baseName: "client", now });
    using gateway = LogDirectory.open(path, { baseName: "gateway", now, maxTotalBytes: 0 });
    using worker = LogDirectory.open(path, { baseName: "client", now, follow: true });
    clock.ms += 1000;
    client.write("of its main thread\n");
    worker.write("of its worker\n");
    gateway.write("of the other\n");
    assertEquals(
      Deno.readTextFileSync(`${path}/client.2026-01-02-03-04-05.log`),
      "of its main thread\nof its worker\n",
    );
    assertEquals(Deno.readTextFileSync(`${path}/latest`), "of the other\n");
  });
});
