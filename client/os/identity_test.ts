import { assertEquals, assertMatch, assertStringIncludes, assertThrows } from "@std/assert";
import { ConfigError } from "@firezone/core/cli";
import { withDirectory } from "@firezone/core/testing";
import { loadDeviceId } from "./device_id.ts";
import { readHardwareIds } from "./hardware_ids.ts";
import { loadToken, TOKEN_VARIABLE } from "./token.ts";

Deno.test("the token in the environment wins over systemd's and that over the file, and leaves the environment", () => {
  withDirectory((directory) => {
    const path = `${directory}/token`;
    Deno.writeTextFileSync(path, "from-file\n", { mode: 0o600 });
    Deno.env.set(TOKEN_VARIABLE, "from-env\n");
    assertEquals(loadToken(path).reveal(), "from-env");
    assertEquals(Deno.env.has(TOKEN_VARIABLE), false);
    assertEquals(loadToken(path).reveal(), "from-file");
    Deno.writeTextFileSync(`${directory}/${TOKEN_VARIABLE}`, " from-systemd\n");
    Deno.env.set("CREDENTIALS_DIRECTORY", directory);
    assertEquals(loadToken(path).reveal(), "from-systemd");
    Deno.env.delete("CREDENTIALS_DIRECTORY");
    const error = assertThrows(() => loadToken(`${path}.none`), ConfigError);
    assertStringIncludes(
      error.message,
      `Can't find the Firezone token in $FIREZONE_TOKEN or in ${path}.none`,
    );
  });
});

Deno.test("the device id is kept as JSON, and a given one wins", () => {
  withDirectory((directory) => {
    const path = `${directory}/config/firezone-id.json`;
    const id = loadDeviceId(undefined, path);
    assertMatch(id, /^[0-9a-f-]{36}$/);
    assertEquals(JSON.parse(Deno.readTextFileSync(path)), { id });
    assertEquals(loadDeviceId(undefined, path), id);
    assertEquals(loadDeviceId("mine", path), "mine");
    for (const text of ["", "{", "[]", "null", '{"id":""}', '{"id":1}']) {
      Deno.writeTextFileSync(path, text);
      assertThrows(() => loadDeviceId(undefined, path), ConfigError);
    }
  });
});

Deno.test("hardware ids are optional and a shared serial number is none", () => {
  withDirectory((directory) => {
    assertEquals(readHardwareIds(directory), {});
    Deno.writeTextFileSync(`${directory}/product_serial`, "123456789\n");
    Deno.writeTextFileSync(`${directory}/product_uuid`, "abc\n");
    assertEquals(readHardwareIds(directory), { uuid: "abc" });
    Deno.writeTextFileSync(`${directory}/product_serial`, "S1\n");
    assertEquals(readHardwareIds(directory), { serial: "S1", uuid: "abc" });
  });
});
