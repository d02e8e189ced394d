/** The program as operators meet it: exit codes, one-line errors, files. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";

const MAIN = new URL("./main.ts", import.meta.url).pathname;

interface Outcome {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

function start(cwd: string, args: readonly string[]): Deno.ChildProcess {
  return new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "-A",
      "--config",
      new URL("../deno.json", import.meta.url).pathname,
      MAIN,
      ...args,
    ],
    cwd,
    stdout: "piped",
    stderr: "piped",
  }).spawn();
}

async function run(cwd: string, ...args: string[]): Promise<Outcome> {
  const { code, stdout, stderr } = await start(cwd, args).output();
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes).trimEnd();
  return { code, stdout: text(stdout), stderr: text(stderr) };
}

async function inFolder(test: (folder: string) => Promise<void>): Promise<void> {
  const folder = Deno.makeTempDirSync();
  try {
    await test(folder);
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
}

Deno.test("init writes a private file that check accepts, and never overwrites", () =>
  inFolder(async (folder) => {
    assertEquals((await run(folder, "init")).code, 0);
    const path = `${folder}/portal.jsonc`;
    assertEquals(Deno.statSync(path).mode! & 0o777, 0o600);
    const checked = await run(folder, "check");
    assertEquals([checked.code, checked.stderr], [0, ""]);
    const before = Deno.readTextFileSync(path);
    const again = await run(folder, "init");
    assertEquals(again, {
      code: 1,
      stdout: "",
      stderr: "Cannot write portal.jsonc: it exists already; name another file",
    });
    assertEquals(Deno.readTextFileSync(path), before);
  }));

Deno.test("check and start list every mistake and exit 1", () =>
  inFolder(async (folder) => {
    const text = `{\n  "sits": [],\n  "relay_tokens": ["short"]\n}`;
    Deno.writeTextFileSync(`${folder}/p.json`, text);
    const mistakes = [
      `p.json:2:3: sits: unknown key "sits": did you mean "sites"?`,
      "p.json:3:20: relay_tokens[0]: expected a token of at least 16 characters, got 5",
    ];
    const checked = await run(folder, "check", "p.json");
    assertEquals([checked.code, checked.stderr.split("\n")], [1, mistakes]);
    const started = await run(folder, "--config", "p.json", "--listen", "127.0.0.1:0");
    assertEquals([started.code, started.stderr.split("\n")], [
      1,
      [...mistakes, "Cannot use configuration p.json: 2 mistakes, listed above"],
    ]);
  }));

Deno.test("what an operator gets wrong is one line and exit code 1", () =>
  inFolder(async (folder) => {
    Deno.writeTextFileSync(`${folder}/portal.json`, "{}", { mode: 0o600 });
    const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const { port } = listener.addr;
    const cases: [args: string[], stderr: RegExp][] = [
      [["--config", "absent.jsonc"], /^Cannot read configuration absent\.jsonc: No such file/],
      [["--listen", "here"], /^Cannot set --listen to "here": expected addresses such as /],
      [["--listen", `127.0.0.1:${port}`], new RegExp(`^Cannot listen on 127.0.0.1:${port}: `)],
      [["--database", "no/such.db"], /^Cannot use database no\/such\.db: No such file/],
      [["--tls-cert", "x.pem"], /^Cannot speak TLS: expected both --tls-cert and --tls-key$/],
      [["--frobnicate"], /^Cannot understand the command line: unknown option '--frobnicate'/],
    ];
    for (const [args, expected] of cases) {
      const { code, stderr } = await run(folder, ...args);
      assertEquals(code, 1);
      assertMatch(stderr, expected);
      assertEquals(stderr.includes("\n"), false, stderr);
    }
    listener.close();
  }));

Deno.test("a running portal applies a changed file, survives a broken one, and ends on SIGTERM", () =>
  inFolder(async (folder) => {
    const path = `${folder}/portal.jsonc`;
    await run(folder, "init");
    const tokens = [...Deno.readTextFileSync(path).matchAll(/"(\w+-[a-z2-7]{32})"/g)]
      .map((match) => match[1]!);
    assertEquals(tokens.length, 3);
    const child = start(folder, ["--listen", "127.0.0.1:0", "--log-level", "debug"]);
    const stdout = child.stdout.cancel();
    let log = "";
    const reader = child.stderr.pipeThrough(new TextDecoderStream()).getReader();
    const until = async (words: string) => {
      while (!log.includes(words)) {
        const { value, done } = await reader.read();
        assert(!done, `the log ended without ${JSON.stringify(words)}: ${log}`);
        log += value;
      }
    };
    await until("listening");
    const base = `http://${/127\.0\.0\.1:\d+/.exec(log)![0]}`;
    const client = tokens.find((token) => token.startsWith("client-"))!;
    const status = async () => {
      const response = await fetch(`${base}/client/websocket?token=${client}`);
      await response.body?.cancel();
      return response.status;
    };
    assertEquals(await status(), 400, "a good token, but no WebSocket");

    Deno.writeTextFileSync(path, `{ "accounts": 5 }`);
    await until("the changed configuration is not applied");
    assertStringIncludes(log, "portal.jsonc:1:15");
    assertEquals(await status(), 400);

    Deno.writeTextFileSync(path, "{}");
    await until("applied the changed configuration");
    assertEquals(await status(), 401);

    child.kill("SIGTERM");
    await until("ending");
    while (!(await reader.read()).done);
    assertEquals((await child.status).code, 0);
    await stdout;
    for (const token of tokens) assertEquals(log.includes(token), false);
    assertEquals(Deno.statSync(`${folder}/portal.db`).mode! & 0o777, 0o600);
  }));
