import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { ConfigError, option, readTokenFile, text } from "@firezone/core/cli";
import { readSecretLine } from "./os/secret_prompt.ts";
import { signInCommand, signInUrl, signOutCommand } from "./sign_in.ts";

Deno.test("signInUrl names the account's page for headless clients", () => {
  const base = new URL("https://app.firezone.dev");
  assertEquals(signInUrl(base, undefined).href, "https://app.firezone.dev/?as=headless-client");
  assertEquals(signInUrl(base, "acme").href, "https://app.firezone.dev/acme?as=headless-client");
  assertEquals(
    signInUrl(base, "../x?y").href,
    "https://app.firezone.dev/..%2Fx%3Fy?as=headless-client",
  );
});

Deno.test("sign-in stores what was pasted where the client reads it, sign-out removes it", async () => {
  await withTokenPath(async (path) => {
    const first = await run("sign-in", path, [" pasted-\ttoken "], "--account-slug", "acme");
    assertStringIncludes(first.shown, "https://app.firezone.dev/acme?as=headless-client");
    assertEquals(first.shown.includes("pasted"), false);
    assertEquals(readTokenFile(path)?.reveal(), "pasted-token");
    assertEquals(Deno.statSync(path).mode! & 0o777, 0o600);

    await run("sign-in", path, ["another"]);
    assertEquals(readTokenFile(path)?.reveal(), "another");
    assertEquals(Array.from(Deno.readDirSync(path.replace(/\/token$/, "")), ({ name }) => name), [
      "token",
    ]);

    await assertRejects(() => run("sign-out", path, ["no"]), ConfigError, "not confirmed");
    assertEquals(readTokenFile(path)?.reveal(), "another");
    await run("sign-out", path, ["yes"]);
    assertEquals(readTokenFile(path), undefined);
    assertStringIncludes((await run("sign-out", path, [])).shown, "There is no token");
    await run("sign-in", path, ["third"]);
    await run("sign-out", path, [], "--force");
    assertEquals(readTokenFile(path), undefined);
  });
});

Deno.test("sign-in without a token, or without a place for it, changes nothing", async () => {
  await withTokenPath(async (path) => {
    await run("sign-in", path, ["kept"]);
    for (const nothing of ["", "  "]) {
      await assertRejects(() => run("sign-in", path, [nothing]), ConfigError, "no token was given");
    }
    await assertRejects(() => run("sign-in", path, []), ConfigError, "no token was given");
    assertEquals(readTokenFile(path)?.reveal(), "kept");
    const below = `${path}/below/a-file`;
    await assertRejects(() => run("sign-in", below, ["x"]), ConfigError, `Cannot write ${below}`);
  });
});

Deno.test("readSecretLine takes a line from a pipe or a terminal, which it leaves as it was", () => {
  assertEquals(ask("token\nrest", false), { line: "token", raw: [] });
  assertEquals(ask("no end", false), { line: "no end", raw: [] });
  assertEquals(ask("", false), { line: undefined, raw: [] });
  assertEquals(ask("tokem\x7fn\r", true), { line: "token", raw: [true, false] });
  assertEquals(ask("tok\x03en\r", true), { line: undefined, raw: [true, false] });
});

function ask(typed: string, isTerminal: boolean) {
  const bytes = [...new TextEncoder().encode(typed)];
  const raw: boolean[] = [];
  const line = readSecretLine("", {
    isTerminal: () => isTerminal,
    setRaw: (on) => void raw.push(on),
    readSync(buffer) {
      if (bytes.length === 0) return null;
      buffer[0] = bytes.shift()!;
      return 1;
    },
  }, () => {});
  return { line, raw };
}

async function run(
  name: "sign-in" | "sign-out",
  path: string,
  answers: string[],
  ...args: string[]
): Promise<{ readonly shown: string }> {
  let shown = "";
  const tokenPath = option({
    flags: "--token-path <path>",
    description: "where",
    kind: text,
    default: "/nowhere",
  });
  const make = name === "sign-in" ? signInCommand : signOutCommand;
  const terminal = {
    write: (text: string) => void (shown += text),
    ask: () => answers.shift(),
  };
  assertEquals(await make(tokenPath, terminal).execute(["--token-path", path, ...args]), 0);
  return { shown };
}

async function withTokenPath(test: (path: string) => Promise<void>): Promise<void> {
  const directory = await Deno.makeTempDir();
  try {
    await test(`${directory}/dev.firezone.client/token`);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}
