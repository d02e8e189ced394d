import { assertEquals } from "@std/assert";
import fc from "fast-check";
import type { UnixSeconds } from "../units.ts";
import { parseRelayUsername, relayCredentials, relayPassword } from "./credentials.ts";

Deno.test("relayPassword gives the vectors that portals and relays share", () => {
  const vectors = [
    [
      "1892160000",
      "4c98bf59c99b3e467ecd7cf9d6b3e5279645fca59be67bc5bb4af3cf653761ab",
      "n23JJ2wKKtt30oXi",
      "00hqldgk5xLeKKOB+xls9mHMVtgqzie9DulfgQwMv68",
    ],
    [
      "1685984278",
      "1cab293a-4032-46f4-862a-40e5d174b0d2",
      "uvdgKvS9GXYZ_vmv",
      "6xUIoZ+QvxKhRasLifwfRkMXl+ETLJUsFkHlXjlHAkg",
    ],
    ["2145916800", "0".repeat(64), "testsalt", "10KWnrmYCnHyOpoY7m1989f3E8muB/qzug1yOkisIEw"],
    [
      "2145916800",
      "ab".repeat(32),
      "kF8o3vGOqsBa5vErLDRSdEr69ibaE0PVezlbVE4FGbY",
      "cf5sEjFrTcrv9A+/tEC5DYj8D0kzds8pq34GcyC2vF8",
    ],
  ];
  for (const [expiry, secret, salt, password] of vectors) {
    assertEquals(relayPassword(expiry!, secret!, salt!), password);
  }
});

Deno.test("parseRelayUsername undoes relayCredentials", () => {
  const salts = fc.string().filter((s) => !s.includes(":") && !/[\n\r\u2028\u2029]/.test(s));
  fc.assert(fc.property(fc.nat(), salts, (expiry, salt) => {
    const { username } = relayCredentials(expiry as UnixSeconds, "secret", salt);
    const parsed = parseRelayUsername(username);
    assertEquals(parsed?.expiresAt, expiry as UnixSeconds);
    assertEquals(parsed?.salt, salt);
  }));
});

Deno.test("parseRelayUsername refuses what is no username of a relay", () => {
  for (
    const text of [
      "",
      ":",
      "1",
      "1:2:3",
      "a:b",
      "-1:b",
      "1.5:b",
      " 1:b",
      "99999999999999999999:b",
      "123456789012345678901:b",
    ]
  ) {
    assertEquals(parseRelayUsername(text), undefined, text);
  }
  fc.assert(fc.property(fc.string(), (text) => void parseRelayUsername(text)));
});
