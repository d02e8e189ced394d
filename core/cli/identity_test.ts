import { assertEquals, assertMatch, assertStringIncludes, assertThrows } from "@std/assert";
import { withDirectory } from "../testing/directory.ts";
import { ConfigError } from "./errors.ts";
import { checkGivenId, defaultName, type IdFile, loadOrCreateId } from "./identity.ts";

const HINT = "set SOMETHING";

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
