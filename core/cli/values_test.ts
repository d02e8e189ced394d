import { assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { ConfigError } from "./errors.ts";
import * as values from "./values.ts";

Deno.test("durations read as humantime writes them", () => {
  const cases: [string, number | undefined][] = [
    ["500ms", 500],
    ["5m", 300_000],
    ["24h", 86_400_000],
    ["1h 30m", 5_400_000],
    ["1h30m", 5_400_000],
    ["2days", 172_800_000],
    ["1 week", 604_800_000],
    ["0", 0],
    ["0s", 0],
    ["", undefined],
    ["30", undefined],
    ["5 parsecs", undefined],
    ["-5s", undefined],
    ["1.5h", undefined],
    ["999999999999weeks", undefined],
  ];
  for (const [text, ms] of cases) assertEquals(values.durationMs.parse(text), ms, text);
});

Deno.test("a socket address may be a port alone", () => {
  const parse = (text: string) => values.socketAddress.parse(text)?.key;
  assertEquals(parse("8080"), "0.0.0.0:8080");
  assertEquals(parse("127.0.0.1:0"), "127.0.0.1:0");
  assertEquals(parse("[::]:80"), "[::]:80");
  for (const text of ["", "65536", "99999", "::1", "localhost:80"]) {
    assertEquals(parse(text), undefined);
  }
});

Deno.test("a host and its port may be a name, IPv4, or IPv6 in brackets", () => {
  const parse = values.hostPort.parse;
  assertEquals(parse("otel-1.example:4317"), { host: "otel-1.example", port: 4317 });
  assertEquals(parse("127.0.0.1:1"), { host: "127.0.0.1", port: 1 });
  assertEquals(parse("[2001:db8::1]:4317"), { host: "2001:db8::1", port: 4317 });
  const refused = ["", ":1", "a", "a:", "a:0", "a:65536", "::1:4317", "[a]:1", "[127.0.0.1]:1"];
  for (const text of [...refused, "http://a:1", "a b:1", "a/b:1", "u@a:1", "[::1]", "-a:1"]) {
    assertEquals(parse(text), undefined, text);
  }
});

Deno.test("a 64-bit number has no sign and no more than 64 bits", () => {
  assertEquals(values.uint64.parse("0"), 0n);
  assertEquals(values.uint64.parse("18446744073709551615"), 2n ** 64n - 1n);
  for (const text of ["", "-1", "18446744073709551616", "0x1", "1.0"]) {
    assertEquals(values.uint64.parse(text), undefined, text);
  }
});

Deno.test("ports, integers, words, flags and families refuse what is outside", () => {
  assertEquals(values.port.parse("1") as number | undefined, 1);
  for (const text of ["0", "65536", "", "1e3", " 1"]) {
    assertEquals(values.port.parse(text), undefined);
  }
  assertEquals(values.integer(-2, 5).parse("-2"), -2);
  assertEquals(values.integer(-2, 5).parse("6"), undefined);
  assertEquals(values.oneOf("a", "b").parse("b"), "b");
  assertEquals(values.oneOf("a", "b").parse("B"), undefined);
  assertEquals(values.boolean.parse("TRUE"), true);
  assertEquals(values.boolean.parse("maybe"), undefined);
  assertEquals(values.address4.parse("::1"), undefined);
  assertEquals(values.address6.parse("::1")?.text, "::1");
  assertEquals(values.url("ws", "wss").parse("wss://x.test/a")?.host, "x.test");
  assertEquals(values.url("ws", "wss").parse("ftp://x.test/a"), undefined);
  assertEquals(values.url("ws").parse("ws:nothing") === undefined, false);
});

Deno.test("a refused value is named with where it came from and what was expected", () => {
  const error = assertThrows(
    () => values.parseValue("--listen-port", "70000", values.port),
    ConfigError,
  );
  assertEquals(
    error.message,
    'Cannot set --listen-port to "70000": expected a port from 1 to 65535',
  );
});

Deno.test("no text makes a kind of value throw", () => {
  const kinds = [
    values.text,
    values.boolean,
    values.port,
    values.address,
    values.socketAddress,
    values.prefix,
    values.durationMs,
    values.integer(0, 9),
    values.url("https"),
  ];
  fc.assert(fc.property(fc.oneof(fc.string(), fc.ipV6(), fc.webUrl()), (text) => {
    for (const kind of kinds) kind.parse(text);
  }));
});
