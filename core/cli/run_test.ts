import { assertEquals, assertStringIncludes } from "@std/assert";

Deno.test("a program exits with the status it answers", async () => {
  assertEquals(await end("well"), { code: 3, lines: [] });
});

Deno.test("a mistake is one line and exit status 1, with its stack only at debug level", async () => {
  const message = "Cannot bind port 70000: expected 1 to 65535";
  assertEquals(await end("mistake"), { code: 1, lines: [message] });
  const { code, lines } = await end("mistake-at-debug");
  assertEquals([code, lines[0]], [1, message]);
  assertStringIncludes(lines.join("\n"), "ends.ts");
});

Deno.test("a bug shows its stack", async () => {
  const { code, lines } = await end("bug");
  assertEquals([code, lines[0]], [1, "Internal error: TypeError: x is not y"]);
  assertStringIncludes(lines[1]!, "ends.ts");
});

async function end(how: string): Promise<{ code: number; lines: string[] }> {
  const { code, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", "--quiet", pathOf("testdata/ends.ts"), how],
    env: { NO_COLOR: "1" },
    stdout: "null",
  }).output();
  const text = new TextDecoder().decode(stderr).trimEnd();
  return { code, lines: text === "" ? [] : text.split("\n") };
}

function pathOf(relative: string): string {
  return new URL(relative, import.meta.url).pathname;
}
