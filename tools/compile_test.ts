import { assertEquals, assertMatch } from "@std/assert";
import { requires } from "@firezone/tests/requirements";
import { BUILD_REVISION_VARIABLE } from "@firezone/core/version";
import { Compiler, PROGRAMS } from "./compile.ts";

const needs = requires("linux");
const REVISION = "0123456789abcdef0123456789abcdef01234567";

Deno.test("every program works as an executable", needs, async (t) => {
  const folder = await Deno.makeTempDir();
  const env = { FIREZONE_UNPACK_DIR: `${folder}/unpacked`, NO_COLOR: "1" };
  try {
    Deno.env.set(BUILD_REVISION_VARIABLE, REVISION);
    const compiler = new Compiler();
    for (const [name, entry] of Object.entries(PROGRAMS)) {
      await t.step(`${name} tells its version`, async () => {
        const entryPath = new URL(`../${entry}`, import.meta.url).pathname;
        await compiler.make(name, entryPath, `${folder}/${name}`);
        const { code, stdout } = await new Deno.Command(`${folder}/${name}`, {
          args: ["--version"],
          env,
        }).output();
        assertEquals(code, 0);
        assertMatch(new TextDecoder().decode(stdout), new RegExp(`^${name} \\d+\\.\\d+\\.\\d+\n$`));
      });
    }

    await t.step("the relay starts its worker, serves, and ends in order", async () => {
      const child = new Deno.Command(`${folder}/firezone-relay`, {
        args: ["--listen-port", "34789", "--health-check-addr", "127.0.0.1:34780"],
        env: { ...env, CONTROL_ENDPOINT: "off", OTLP_GRPC_ENDPOINT: "127.0.0.1:9" },
        stdout: "piped",
        stderr: "null",
      }).spawn();
      const reader = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
      assertMatch((await reader.read()).value ?? "", /^turn:127\.0\.0\.1:34789 /);
      const health = await fetch("http://127.0.0.1:34780/healthz");
      assertEquals(health.status, 200);
      await health.body?.cancel();
      const ready = await fetch("http://127.0.0.1:34780/readyz");
      assertEquals([ready.status, await ready.text()], [200, REVISION]);
      child.kill("SIGTERM");
      assertEquals((await child.status).code, 0);
      await reader.cancel();
    });
  } finally {
    Deno.env.delete(BUILD_REVISION_VARIABLE);
    await Deno.remove(folder, { recursive: true });
  }
});
