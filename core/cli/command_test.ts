import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { command, flag, option } from "./command.ts";
import { ConfigError } from "./errors.ts";
import { logLevelOption } from "./log_options.ts";
import { durationMs, listOf, oneOf, port, text } from "./values.ts";

function example() {
  const seen: unknown[] = [];
  const init = command({
    name: "init",
    description: "write a file",
    options: { force: flag({ flags: "--force", description: "overwrite" }) },
    positionals: [{ name: "path", description: "where" }],
    run: (values, positionals) => {
      seen.push(["init", values, ...positionals]);
      return 0;
    },
  });
  const main = command({
    name: "thing",
    description: "does things",
    version: "1.5.0",
    commands: [init],
    options: {
      name: option({ flags: "-n, --name <name>", description: "its name", kind: text }),
      port: option({
        flags: "--port <port>",
        description: "where",
        env: "TEST_CLI_PORT",
        kind: port,
      }),
      patience: option({
        flags: "--patience <duration>",
        description: "how long",
        kind: durationMs,
        default: 5000,
        defaultText: "5s",
      }),
      mode: option({
        flags: "--mode <mode>",
        description: "how",
        kind: oneOf("fast", "slow"),
        hidden: true,
      }),
      quiet: flag({ flags: "--no-noise", description: "be quiet", env: "TEST_CLI_NO_NOISE" }),
    },
    run: (values) => {
      seen.push(values);
      return 7;
    },
  });
  return { main, seen };
}

Deno.test("command line wins over environment, environment over default", async () => {
  const { main, seen } = example();
  await withEnv({ TEST_CLI_PORT: "81", TEST_CLI_NO_NOISE: "true" }, async () => {
    assertEquals(await main.execute(["--port", "82", "-n", "x"]), 7);
    await main.execute([]);
  });
  await withEnv({ TEST_CLI_PORT: "", TEST_CLI_NO_NOISE: "false" }, async () => {
    await main.execute(["--no-noise", "--patience=1m", "--mode", "slow"]);
    await main.execute([]);
  });
  const base = { name: undefined, port: undefined, patience: 5000, mode: undefined, quiet: false };
  assertEquals(seen, [
    { ...base, name: "x", port: 82, quiet: true },
    { ...base, port: 81, quiet: true },
    { ...base, patience: 60_000, mode: "slow", quiet: true },
    base,
  ]);
});

Deno.test("without a word about it programs log what is news to the user", async () => {
  const before = Deno.env.get("RUST_LOG");
  const levels: string[] = [];
  const program = command({
    name: "thing",
    description: "",
    options: { logLevel: logLevelOption },
    run: ({ logLevel }) => levels.push(logLevel.text) && 0,
  });
  try {
    Deno.env.delete("RUST_LOG");
    await program.execute([]);
    Deno.env.set("RUST_LOG", "");
    await program.execute([]);
    Deno.env.set("RUST_LOG", "warn");
    await program.execute([]);
    await program.execute(["--log-level", "portal=debug"]);
  } finally {
    if (before === undefined) Deno.env.delete("RUST_LOG");
    else Deno.env.set("RUST_LOG", before);
  }
  assertEquals(levels, ["info", "info", "warn", "portal=debug"]);
});

Deno.test("mistakes are one line that says what and what was expected", async () => {
  const { main } = example();
  const cases: [string[], string][] = [
    [["--prot", "1"], "unknown option '--prot' (Did you mean --port?)"],
    [["--port"], "option '--port <port>' argument missing"],
    [["--port", "0"], 'Cannot set --port to "0": expected a port from 1 to 65535'],
    [["--mode", "odd"], 'Cannot set --mode to "odd": expected one of fast, slow'],
    [["surplus"], "unknown command 'surplus'"],
    [["init", "one", "two"], "too many arguments"],
  ];
  for (const [args, text] of cases) {
    const error = await assertRejects(() => main.execute(args), ConfigError);
    assertStringIncludes(error.message, text);
    assertEquals(error.message.includes("\n"), false);
  }
  await withEnv({ TEST_CLI_PORT: "http" }, async () => {
    const error = await assertRejects(() => main.execute([]), ConfigError);
    assertStringIncludes(error.message, 'Cannot set TEST_CLI_PORT to "http"');
  });
});

Deno.test("an option with a list may be repeated, hold commas, or both", async () => {
  const seen: (readonly number[])[] = [];
  const main = command({
    name: "thing",
    description: "does things",
    options: {
      ports: option<readonly number[]>({
        flags: "--port <port>",
        description: "where",
        env: "TEST_CLI_PORTS",
        kind: listOf(port),
        default: [],
      }),
    },
    run: ({ ports }) => {
      seen.push(ports);
      return 0;
    },
  });
  await main.execute(["--port", "1", "--port", "2, 3", "--port=4"]);
  await withEnv({ TEST_CLI_PORTS: "5,6" }, async () => {
    await main.execute([]);
    await main.execute(["--port", "7"]);
  });
  await main.execute([]);
  assertEquals(seen, [[1, 2, 3, 4], [5, 6], [7], []]);
  for (const wrong of ["", "1,", "1,x", ",1"]) {
    await assertRejects(() => main.execute(["--port", wrong]), ConfigError, "with commas between");
  }
});

Deno.test("a sub-command has options of its own", async () => {
  const { main, seen } = example();
  assertEquals(await main.execute(["init", "--force", "here"]), 0);
  assertEquals(seen, [["init", { force: true }, "here"]]);
  await assertRejects(() => main.execute(["init", "--port", "1"]), ConfigError);
});

Deno.test("help names variables, defaults and commands, and hides the hidden", () => {
  const { main } = example();
  const help = main.help();
  assertStringIncludes(help, "(env: TEST_CLI_PORT)");
  assertStringIncludes(help, "(default: 5s)");
  assertEquals(help.includes("--mode"), false);
  assertEquals(main.rows.map((r) => r.flags.split(" ")[0]), [
    "-n,",
    "--port",
    "--patience",
    "--no-noise",
  ]);
});

Deno.test("help puts options under the headings of their groups", () => {
  const at = { kind: text, group: "Where" };
  const main = command({
    name: "thing",
    description: "",
    options: {
      here: option({ ...at, flags: "--here <x>", description: "near" }),
      quiet: flag({ flags: "--quiet", description: "be quiet" }),
      there: option({ ...at, flags: "--there <x>", description: "far" }),
      secret: flag({ flags: "--secret", description: "hidden", hidden: true, group: "Why" }),
      loud: flag({ flags: "--loud", description: "be loud", group: "How" }),
    },
    run: () => 0,
  });
  const headings = main.help().split("\n").filter((line) => /^\w+:$|^ +--/.test(line));
  assertEquals(headings.map((line) => line.trim().split(" ")[0]), [
    "Where:",
    "--here",
    "--there",
    "Options:",
    "--quiet",
    "How:",
    "--loud",
  ]);
});

Deno.test("--help and --version print to stdout and answer 0 without running", async () => {
  const { main, seen } = example();
  const printed: string[] = [];
  const log = console.log;
  console.log = (text: string) => printed.push(text);
  try {
    assertEquals(await main.execute(["--version"]), 0);
    assertEquals(await main.execute(["-h"]), 0);
  } finally {
    console.log = log;
  }
  assertEquals(printed[0], "thing 1.5.0");
  assertStringIncludes(printed[1]!, "Commands:\n  init");
  assertEquals(seen, []);
});

async function withEnv(values: Record<string, string>, run: () => Promise<void>): Promise<void> {
  for (const [name, value] of Object.entries(values)) Deno.env.set(name, value);
  try {
    await run();
  } finally {
    for (const name of Object.keys(values)) Deno.env.delete(name);
  }
}
