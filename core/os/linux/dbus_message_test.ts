import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { DBUS, DbusWriter, takeMessage, writeMessage } from "./dbus_message.ts";

const PROPERTIES = "org.freedesktop.DBus.Properties";

/** As NetworkManager says that other connections are in use. */
function propertiesChanged(): Uint8Array {
  return writeMessage(7, {
    type: DBUS.signal,
    path: "/org/freedesktop/NetworkManager",
    interface: PROPERTIES,
    member: "PropertiesChanged",
    signature: "sa{sv}as",
    body: (writer) =>
      writer.text("org.freedesktop.NetworkManager").array(8, (dict) => {
        dict.align(8).text("ActiveConnections").signature("ao").array(4, (paths) => {
          paths.text("/a/1").text("/a/2");
        });
        dict.align(8).text("State").signature("u").uint32(70);
        dict.align(8).text("PrimaryConnection").signature("o").text("/a/2");
        dict.align(8).text("Nested").signature("a(yv)").array(8, (structs) => {
          structs.align(8).byte(1).signature("s").text("x");
        });
      }).array(4, (names) => names.text("Checkpoints")),
  });
}

Deno.test("a message is as the specification writes it", () => {
  const hello = writeMessage(1, {
    type: DBUS.methodCall,
    path: "/o",
    interface: "i.f",
    member: "Hi",
    destination: "d.e",
    signature: "s",
    body: (writer) => writer.text("x"),
  });
  const text = (value: string) => [...new TextEncoder().encode(value), 0];
  assertEquals([...hello], [
    ...[0x6c, 1, 0, 1, 6, 0, 0, 0, 1, 0, 0, 0, 71, 0, 0, 0],
    ...[1, 1, ...text("o"), 2, 0, 0, 0, ...text("/o"), 0, 0, 0, 0, 0],
    ...[2, 1, ...text("s"), 3, 0, 0, 0, ...text("i.f"), 0, 0, 0, 0],
    ...[3, 1, ...text("s"), 2, 0, 0, 0, ...text("Hi"), 0, 0, 0, 0, 0],
    ...[6, 1, ...text("s"), 3, 0, 0, 0, ...text("d.e"), 0, 0, 0, 0],
    ...[8, 1, ...text("g"), 1, ...text("s"), 0],
    ...[1, 0, 0, 0, ...text("x")],
  ]);
});

Deno.test("the names of changed properties are found among values of any type", () => {
  const bytes = propertiesChanged();
  const taken = takeMessage(new Uint8Array([...bytes, 1, 2, 3]));
  assert(taken.tag === "message");
  assertEquals(taken.length, bytes.length);
  assertEquals(taken.message, {
    type: DBUS.signal,
    path: "/org/freedesktop/NetworkManager",
    interface: PROPERTIES,
    member: "PropertiesChanged",
    changed: ["ActiveConnections", "State", "PrimaryConnection", "Nested", "Checkpoints"],
  });
});

Deno.test("a message that has not arrived wholly is waited for", () => {
  const bytes = propertiesChanged();
  for (let end = 0; end < bytes.length; end++) {
    assertEquals(takeMessage(bytes.subarray(0, end)).tag, "incomplete");
  }
});

Deno.test("any bytes are taken, waited for or refused", () => {
  const bytes = propertiesChanged();
  fc.assert(
    fc.property(fc.nat(bytes.length - 1), fc.nat(255), (at, value) => {
      const broken = bytes.slice();
      broken[at] = value;
      assert(["message", "incomplete", "malformed"].includes(takeMessage(broken).tag));
    }),
    { numRuns: 2000 },
  );
  fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), (any) => {
    assert(["message", "incomplete", "malformed"].includes(takeMessage(any).tag));
  }));
  assertEquals(takeMessage(new Uint8Array(16).fill(0x6c)).tag, "malformed");
  assertEquals(new DbusWriter().bytes.length, 0);
});
