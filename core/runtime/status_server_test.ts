import { assertEquals, assertRejects } from "@std/assert";
import { ConfigError } from "../cli/errors.ts";
import { serveStatus } from "./status_server.ts";

async function get(path: string, target: string): Promise<Response> {
  const client = Deno.createHttpClient({ proxy: { transport: "unix", path } });
  try {
    const response = await fetch(`http://localhost${target}`, { client });
    return new Response(await response.text(), { status: response.status });
  } finally {
    client.close();
  }
}

Deno.test("serveStatus answers on its socket, and removes it when closed", async () => {
  const directory = await Deno.makeTempDir();
  const path = `${directory}/run/status.sock`;
  const server = await serveStatus(path, () => Promise.resolve({ portal: "connected" }));
  assertEquals(await (await get(path, "/status")).json(), { portal: "connected" });
  assertEquals((await get(path, "/else")).status, 404);
  assertEquals((await Deno.stat(path)).mode! & 0o777, 0o600);
  await assertRejects(() => serveStatus(path, () => Promise.resolve({})), ConfigError, "another");
  await server.close();
  await assertRejects(() => Deno.stat(path), Deno.errors.NotFound);
  await Deno.remove(directory, { recursive: true });
});

Deno.test("serveStatus replaces a socket that nobody answers at", async () => {
  const directory = await Deno.makeTempDir();
  const path = `${directory}/status.sock`;
  // A socket that a killed process left behind: Deno removes its own when it closes them.
  const killed = new Deno.Command(Deno.execPath(), {
    args: [
      "eval",
      `Deno.listen({ transport: "unix", path: "${path}" }); Deno.kill(Deno.pid, "SIGKILL")`,
    ],
  });
  await killed.output();
  assertEquals((await Deno.lstat(path)).isSocket, true);
  const server = await serveStatus(path, () => Promise.resolve(1));
  assertEquals(await (await get(path, "/status")).json(), 1);
  await server.close();
  await Deno.remove(directory, { recursive: true });
});

Deno.test("serveStatus removes nothing but sockets", async () => {
  const directory = await Deno.makeTempDir();
  const path = `${directory}/precious`;
  await Deno.writeTextFile(path, "data");
  await assertRejects(
    () => serveStatus(path, () => Promise.resolve(1)),
    ConfigError,
    "not a socket",
  );
  assertEquals(await Deno.readTextFile(path), "data");
  await assertRejects(() => serveStatus(directory, () => Promise.resolve(1)), ConfigError);
  await Deno.remove(directory, { recursive: true });
});
