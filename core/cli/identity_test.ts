import { assertEquals, assertMatch, assertStringIncludes, assertThrows } from "@std/assert";
import { ConfigError } from "./errors.ts";
import {
  checkGivenId,
  defaultName,
  type IdFile,
  loadOrCreateId,
  readTokenFile,
  takeSecretEnvOrFile,
} from "./identity.ts";

const HINT = "set SOMETHING";

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

Deno.test("an id is made once and kept, with nothing left beside it", () => {
  withDirectory((directory) => {
    const file = textFile(`${directory}/a/b/id`);
    const id = loadOrCreateId(file, HINT);
    assertMatch(id, /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
    assertEquals(loadOrCreateId(file, HINT), id);
    assertEquals([...Deno.readDirSync(`${directory}/a/b`)].map((e) => e.name), ["id"]);
  });
});

Deno.test("an id file that another process makes meanwhile wins", () => {
  withDirectory((directory) => {
    const path = `${directory}/id`;
    const file: IdFile = {
      ...textFile(path),
      format: (id) => {
        Deno.writeTextFileSync(path, "theirs");
        return id;
      },
    };
    assertEquals(loadOrCreateId(file, HINT), "theirs");
    assertEquals([...Deno.readDirSync(directory)].length, 1);
  });
});

Deno.test("an id file without an id, or that cannot be made, says what to do", () => {
  withDirectory((directory) => {
    Deno.writeTextFileSync(`${directory}/id`, "");
    const empty = assertThrows(
      () => loadOrCreateId(textFile(`${directory}/id`), HINT),
      ConfigError,
    );
    assertStringIncludes(empty.message, `repair or remove the file, or ${HINT}`);
    const below = textFile(`${directory}/id/deeper/id`);
    const unmade = assertThrows(() => loadOrCreateId(below, HINT), ConfigError);
    assertStringIncludes(unmade.message, HINT);
  });
});

Deno.test("given ids are checked, and a machine without a name gets one", () => {
  assertEquals(checkGivenId(" abc-1 "), "abc-1");
  for (const id of ["", " ", "a b", "ü", "x".repeat(257)]) {
    assertThrows(() => checkGivenId(id), ConfigError);
  }
  assertEquals(defaultName() === "", false);
});

function textFile(path: string): IdFile {
  return { path, format: (id) => id, parse: (text) => text === "" ? undefined : text };
}

function withDirectory(run: (directory: string) => void): void {
  const directory = Deno.makeTempDirSync();
  try {
    run(directory);
  } finally {
    Deno.removeSync(directory, { recursive: true });
  }
}
