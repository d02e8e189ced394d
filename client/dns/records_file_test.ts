import { assertEquals, assertStringIncludes } from "@std/assert";
import fc from "fast-check";
import { loadRecords, parseRecords, saveRecords } from "./records_file.ts";

Deno.test("saveRecords keeps what loadRecords reads, in one step and for its owner alone", () => {
  const folder = Deno.makeTempDirSync();
  try {
    const path = `${folder}/records.json`;
    assertEquals(loadRecords(path), { records: [], problem: undefined });
    const records = [{ domain: "db.example.com", slot: 0 }, { domain: "_a-1.test", slot: 17 }];
    saveRecords(path, records.slice(1));
    saveRecords(path, records);
    assertEquals(loadRecords(path), { records, problem: undefined });
    assertEquals(Deno.statSync(path).mode! & 0o777, 0o600);
    assertEquals([...Deno.readDirSync(folder)].length, 1);
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
});

Deno.test("loadRecords says what is wrong with a file and goes on without it", () => {
  const folder = Deno.makeTempDirSync();
  try {
    assertStringIncludes(loadRecords(folder).problem!, "directory");
    const path = `${folder}/records.json`;
    Deno.writeFileSync(path, new Uint8Array(9 * 1024 * 1024));
    assertEquals(loadRecords(path).problem, "it has 9437184 bytes");
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
});

Deno.test("parseRecords takes what makes sense and counts the rest", () => {
  const file = (records: unknown, version = 1) => JSON.stringify({ version, records });
  const cases: [text: string, count: number, problem: string | undefined][] = [
    ["", 0, "it is not JSON"],
    ["[]", 0, "it is of another version"],
    [file([], 2), 0, "it is of another version"],
    [file({}), 0, "it is of another version"],
    [file([]), 0, undefined],
    [
      file([
        { domain: "a", slot: 1 },
        { domain: "a" },
        { domain: "A", slot: 2 },
        { domain: "", slot: 3 },
        { domain: "a b", slot: 4 },
        { domain: "a".repeat(254), slot: 5 },
        { domain: "b", slot: -1 },
        { domain: "b", slot: "1" },
        null,
      ]),
      1,
      "8 of its records make no sense",
    ],
  ];
  for (const [text, count, problem] of cases) {
    const loaded = parseRecords(text);
    assertEquals([loaded.records.length, loaded.problem], [count, problem], text);
  }
});

Deno.test("parseRecords takes any text without throwing", () => {
  fc.assert(fc.property(fc.oneof(fc.string(), fc.json()), (text) => {
    parseRecords(text);
    parseRecords(`{"version":1,"records":${text}}`);
  }));
});
