import { assertEquals, assertStringIncludes } from "@std/assert";
import { findCommand, requires } from "./requirements.ts";

Deno.test("requires lets a test run whose needs are met", () => {
  assertEquals(requires(), { ignore: false });
  if (Deno.build.os === "linux") assertEquals(requires("linux"), { ignore: false });
});

Deno.test("findCommand finds what is on PATH and nothing else", () => {
  if (Deno.build.os !== "windows") assertEquals(findCommand("sh")?.endsWith("/sh"), true);
  assertEquals(findCommand("no-such-command-as-this"), undefined);
});

Deno.test("whatIsMissing names the Debian package", async () => {
  // In a process of its own, because what was looked up once is remembered.
  const program = `import { whatIsMissing } from "${import.meta.resolve("./requirements.ts")}";
    console.log(whatIsMissing("turnutils_uclient"));`;
  const { stdout } = await new Deno.Command(Deno.execPath(), {
    args: ["eval", program],
    env: { PATH: "/nowhere" },
  }).output();
  const text = new TextDecoder().decode(stdout);
  assertStringIncludes(text, "no turnutils_uclient (Debian package coturn)");
});

Deno.test("a missing command leaves a test out, and fails under CI", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const file = `${folder}/left_out_test.ts`;
    await Deno.writeTextFile(
      file,
      `import { requires } from "${import.meta.resolve("./requirements.ts")}";
       Deno.test("never runs", requires("turnutils_uclient"), () => {});`,
    );
    const run = async (ci: string) => {
      const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
        args: ["test", "--no-check", "-A", file],
        env: { CI: ci, NO_COLOR: "1", PATH: "/nowhere" },
      }).output();
      const decoder = new TextDecoder();
      return { code, text: decoder.decode(stdout) + decoder.decode(stderr) };
    };
    const quiet = await run("");
    assertEquals(quiet.code, 0, quiet.text);
    assertStringIncludes(quiet.text, "left_out_test.ts: no turnutils_uclient");
    assertStringIncludes(quiet.text, "0 passed | 0 failed | 1 ignored");
    const strict = await run("true");
    assertEquals(strict.code, 1, strict.text);
    assertStringIncludes(strict.text, "CI=true and tests would be left out: no turnutils_uclient");
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
