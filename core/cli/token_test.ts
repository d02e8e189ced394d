import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { withDirectory } from "../testing/directory.ts";
import { ConfigError } from "./errors.ts";
import { readCredential, readTokenFile, takeSecretEnvOrFile } from "./token.ts";

Deno.test("a token file that others can read is refused, with what to do", () => {
  withDirectory((directory) => {
    const path = `${directory}/token`;
    assertEquals(readTokenFile(path), undefined);
    Deno.writeTextFileSync(path, " .abc\n", { mode: 0o600 });
    assertEquals(readTokenFile(path)?.reveal(), ".abc");
    for (const [mode, text] of [[0o644, "0644"], [0o640, "0640"], [0o700, "0700"]] as const) {
      Deno.chmodSync(path, mode);
      const error = assertThrows(() => readTokenFile(path), ConfigError);
      assertEquals(
        error.message,
        `Token file ${path} should have mode 0600 or 0400, but it has ${text}`,
      );
    }
    Deno.chmodSync(path, 0o400);
    assertEquals(readTokenFile(path)?.reveal(), ".abc");
    assertStringIncludes(
      assertThrows(() => readTokenFile(directory), ConfigError).message,
      `Cannot read token file ${directory}`,
    );
  });
});

Deno.test({
  name: "a token file of another user is refused",
  ignore: Deno.uid() !== 0,
  fn: () =>
    withDirectory((directory) => {
      const path = `${directory}/token`;
      Deno.writeTextFileSync(path, "abc", { mode: 0o600 });
      Deno.chownSync(path, 12345, 0);
      const error = assertThrows(() => readTokenFile(path), ConfigError);
      assertStringIncludes(error.message, "should be owned by the root user");
    }),
});

Deno.test("what is no file, or too long, is refused instead of waited for or cut off", () => {
  withDirectory((directory) => {
    const path = `${directory}/token`;
    Deno.writeTextFileSync(path, "a".repeat(65_537), { mode: 0o600 });
    assertStringIncludes(
      assertThrows(() => readTokenFile(path), ConfigError).message,
      "65537 bytes are too many",
    );
    const { success } = new Deno.Command("mkfifo", { args: [`${directory}/pipe`] }).outputSync();
    assertEquals(success, true);
    for (const other of [`${directory}/pipe`, directory, "/dev/zero"]) {
      assertStringIncludes(
        assertThrows(() => readTokenFile(other), ConfigError).message,
        "it is not a file",
      );
    }
  });
});

Deno.test("a variable may name the file that holds its secret", () => {
  const take = (value: string) => {
    Deno.env.set("TEST_CLI_SECRET", value);
    try {
      return takeSecretEnvOrFile("TEST_CLI_SECRET")?.reveal();
    } finally {
      assertEquals(Deno.env.has("TEST_CLI_SECRET"), false);
    }
  };
  withDirectory((directory) => {
    const path = `${directory}/token`;
    assertThrows(() => take(path), ConfigError, `Cannot read ${path}, which TEST_CLI_SECRET names`);
    Deno.writeTextFileSync(path, "\n", { mode: 0o444 });
    assertThrows(() => take(path), ConfigError, "there is no token in it");
    Deno.removeSync(path);
    Deno.writeTextFileSync(path, " .abc\n", { mode: 0o444 });
    assertEquals(take(`${path}\n`), ".abc");
    assertThrows(() => take(directory), ConfigError, `Cannot read token file ${directory}`);
    Deno.mkdirSync(`${directory}/my secrets`);
    Deno.writeTextFileSync(`${directory}/my secrets/token`, ".abc");
    assertEquals(take(`${directory}/my secrets/token`), ".abc");
  });
  for (const token of [".SFMyNTY.g2gDbQ", "x".repeat(5000)]) assertEquals(take(token), token);
  assertThrows(() => take("ü"), ConfigError, "$TEST_CLI_SECRET");
  assertEquals(take(" \n"), undefined);
});

Deno.test("an empty token file is as good as none", () => {
  withDirectory((directory) => {
    Deno.writeTextFileSync(`${directory}/token`, "\n", { mode: 0o600 });
    assertEquals(readTokenFile(`${directory}/token`), undefined);
  });
});

Deno.test("a token file holds one line, with any white space around it and none inside", () => {
  withDirectory((directory) => {
    const path = `${directory}/FIREZONE_TOKEN`;
    const ways = {
      file: () => readTokenFile(path),
      credential: () =>
        withEnv("CREDENTIALS_DIRECTORY", directory, () => readCredential("FIREZONE_TOKEN")),
      variable: () =>
        withEnv("TEST_CLI_SECRET", path, () => takeSecretEnvOrFile("TEST_CLI_SECRET")),
    };
    for (const [way, read] of Object.entries(ways)) {
      for (const text of [".abc", ".abc\n", "\r\n \t.abc \r\n\r\n", "\ufeff.abc\n"]) {
        Deno.writeTextFileSync(path, text, { mode: 0o600 });
        assertEquals(read()?.reveal(), ".abc", `${way}: ${JSON.stringify(text)}`);
      }
      for (
        const [text, reason] of [
          [".abc\n.def\n", "a token is one line, but there are 2"],
          ["# for the office\r\n\r\n.abc\r.def", "a token is one line, but there are 3"],
          [".abc .def\n", "it has white space in its middle"],
        ] as const
      ) {
        Deno.writeTextFileSync(path, text, { mode: 0o600 });
        const { message } = assertThrows(read, ConfigError);
        assertEquals(message, `Cannot use the token in ${path}: ${reason}`, way);
      }
    }
  });
});

function withEnv<T>(name: string, value: string, run: () => T): T {
  const before = Deno.env.get(name);
  Deno.env.set(name, value);
  try {
    return run();
  } finally {
    if (before === undefined) Deno.env.delete(name);
    else Deno.env.set(name, before);
  }
}
