import { assertEquals, assertMatch, assertThrows } from "@std/assert";
import { ConfigError } from "@firezone/core/cli";
import { loadGatewayId } from "./gateway_id.ts";
import { loadToken, TOKEN_VARIABLE } from "./token.ts";

Deno.test("the token comes from the environment, else from systemd's credential", () => {
  const directory = Deno.makeTempDirSync();
  const before = Deno.env.get("CREDENTIALS_DIRECTORY");
  try {
    Deno.env.delete("CREDENTIALS_DIRECTORY");
    assertThrows(() => loadToken(), ConfigError, "Can't find the Firezone token");
    Deno.writeTextFileSync(`${directory}/${TOKEN_VARIABLE}`, ".cred\n", { mode: 0o440 });
    Deno.env.set("CREDENTIALS_DIRECTORY", directory);
    assertEquals(loadToken().reveal(), ".cred");
    Deno.env.set(TOKEN_VARIABLE, ".env");
    assertEquals(loadToken().reveal(), ".env");
    assertEquals(Deno.env.has(TOKEN_VARIABLE), false);
  } finally {
    Deno.env.delete("CREDENTIALS_DIRECTORY");
    if (before !== undefined) Deno.env.set("CREDENTIALS_DIRECTORY", before);
    Deno.removeSync(directory, { recursive: true });
  }
});

Deno.test("the gateway's id is kept as bare text, and a given one wins", () => {
  const directory = Deno.makeTempDirSync();
  try {
    const path = `${directory}/firezone/gateway_id`;
    const id = loadGatewayId(undefined, path);
    assertMatch(id, /^[0-9a-f-]{36}$/);
    assertEquals(Deno.readTextFileSync(path), id);
    Deno.writeTextFileSync(path, `${id}\n`);
    assertEquals(loadGatewayId(undefined, path), id);
    assertEquals(loadGatewayId("mine", path), "mine");
    Deno.writeTextFileSync(path, "two words");
    assertThrows(() => loadGatewayId(undefined, path), ConfigError);
  } finally {
    Deno.removeSync(directory, { recursive: true });
  }
});
