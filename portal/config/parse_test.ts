import { assert, assertEquals, assertMatch } from "@std/assert";
import fc from "fast-check";
import { seededRandom } from "@firezone/core/testing";
import { formatMistake } from "./mistake.ts";
import { parseConfig } from "./parse.ts";
import { starterConfig } from "./starter.ts";
import { tokenHash } from "./values.ts";

/** All mistakes of a text as the operator sees them, without the file's name. */
function mistakes(text: string): string[] {
  const parsed = parseConfig(text);
  return parsed.ok ? [] : parsed.mistakes.map((m) => formatMistake("", m).slice(1));
}

const SITE = `"sites": [{ "name": "s" }]`;

/** A file with one resource, whose keys are given. */
function withResource(keys: string): string {
  return `{ ${SITE},\n"resources": [\n{ ${keys} }\n] }`;
}

const TABLE: [what: string, text: string, expected: string[]][] = [
  ["empty file", "", ["1:1: not valid JSON: expected a value here"]],
  ["no JSON", "{\n  sites: []\n}", [
    "2:3: not valid JSON: invalid symbol",
    "2:8: not valid JSON: expected a property name here",
    "3:1: not valid JSON: expected a value here",
  ]],
  ["missing comma", `{"sites": []\n"accounts": []}`, [
    "2:1: not valid JSON: expected a comma here",
  ]],
  ["nested without end", "[".repeat(200_000), ["1:101: nested deeper than 100 levels"]],
  ["not an object", "[]", ["1:1: expected an object, got a list"]],
  ["unknown key, close to a known one", `{ "account": [] }`, [
    `1:3: account: unknown key "account": did you mean "accounts"?`,
  ]],
  ["unknown key, close to none", `{ "fritz": 1 }`, [
    '1:3: fritz: unknown key "fritz": expected one of $schema, account_slug, sites, ' +
    "relay_tokens, accounts, resources, policies, dns",
  ]],
  ["key of a prototype", `{ "__proto__": 1, "constructor": 2 }`, [
    "1:3: __proto__: there is no such key",
    "1:19: constructor: there is no such key",
  ]],
  ["key twice", `{ "sites": [],\n  "sites": [] }`, ["2:3: sites: this key occurs twice"]],
  ["wrong types", `{ "sites": {}, "accounts": [7], "dns": [] }`, [
    "1:12: sites: expected a list of sites, got an object",
    "1:29: accounts[0]: expected an object, got 7",
    "1:40: dns: expected an object, got a list",
  ]],
  ["missing keys", `{ "sites": [{}],\n"policies": [{}] }`, [
    '1:13: sites[0]: expected the key "name" in here',
    '2:14: policies[0]: expected the key "accounts" in here',
    '2:14: policies[0]: expected the key "resources" in here',
  ]],
  ["bad names", `{ "sites": [{ "name": " a" }, { "name": "" }, { "name": "*" }] }`, [
    '1:23: sites[0].name: expected a name without blanks at its ends, got " a"',
    '1:41: sites[1].name: expected a name without blanks at its ends, got ""',
    '1:57: sites[2].name: "*" means "all" and cannot be a name',
  ]],
  ["same name twice", `{ "accounts": [{ "name": "a" }, { "name": "a" }] }`, [
    '1:43: accounts[1].name: another account has the name "a" already',
  ]],
  [
    "same id twice",
    `{ "accounts": [{ "name": "a", "id": "00000000-0000-4000-8000-000000000001" }],
"sites": [{ "name": "a", "id": "00000000-0000-4000-8000-000000000001" }] }`,
    [
      '1:37: accounts[0].id: another entry has the id "00000000-0000-4000-8000-000000000001" ' +
      "already",
    ],
  ],
  ["no UUID", `{ "accounts": [{ "name": "a", "id": "A" }] }`, [
    '1:37: accounts[0].id: expected a UUID in lowercase, got "A"',
  ]],
  ["slug", `{ "account_slug": "My Home" }`, [
    '1:19: account_slug: expected a short name of a-z, 0-9, - and _, got "My Home"',
  ]],
  ["short token", `{ "relay_tokens": ["hunter2"] }`, [
    "1:20: relay_tokens[0]: expected a token of at least 16 characters, got 7",
  ]],
  ["token with blanks", `{ "relay_tokens": ["0123456789 abcdef"] }`, [
    "1:20: relay_tokens[0]: expected a token of printable ASCII characters without blanks",
  ]],
  ["token that is none", `{ "relay_tokens": [12345678901234567] }`, [
    "1:20: relay_tokens[0]: expected a token in quotes, got none",
  ]],
  ["bad hash", `{ "relay_tokens": ["sha256:abc"] }`, [
    '1:20: relay_tokens[0]: expected 64 hex digits after "sha256:"',
  ]],
  [
    "token used twice",
    `{ "relay_tokens": ["0123456789abcdef"],
"accounts": [{ "name": "a", "tokens": ["sha256:${
      tokenHash("0123456789abcdef").toUpperCase()
    }"] }] }`,
    [
      "2:40: accounts[0].tokens[0]: the same token is already at relay_tokens[0]: each must be " +
      "unique",
    ],
  ],
  [
    "no moment",
    `{ "accounts": [
{ "name": "a", "expires_at": "tomorrow" },
{ "name": "b", "expires_at": "2027-02-30T00:00:00Z" },
{ "name": "c", "expires_at": "2027-02-20T00:00:00" }] }`,
    [
      '2:30: accounts[0].expires_at: expected a moment such as "2027-01-31T00:00:00Z", got ' +
      '"tomorrow"',
      '3:30: accounts[1].expires_at: expected a moment such as "2027-01-31T00:00:00Z", got ' +
      '"2027-02-30T00:00:00Z"',
      '4:30: accounts[2].expires_at: expected a moment such as "2027-01-31T00:00:00Z", got ' +
      '"2027-02-20T00:00:00"',
    ],
  ],
  ["type of resource", withResource(`"type": "dsn", "name": "r"`), [
    '3:11: resources[0].type: expected one of cidr, ip, dns, internet, got "dsn"',
  ]],
  ["no type of resource", withResource(`"name": "r"`), [
    '3:1: resources[0]: expected the key "type" in here, one of cidr, ip, dns, internet',
  ]],
  ["host bits", withResource(`"type":"cidr","name":"r","sites":["s"],"address":"10.0.0.1/24"`), [
    '3:52: resources[0].address: the range has host bits set: expected "10.0.0.0/24", got ' +
    '"10.0.0.1/24"',
  ]],
  ["no range", withResource(`"type":"cidr","name":"r","sites":["s"],"address":"10.0.0.1"`), [
    '3:52: resources[0].address: expected a range such as "10.0.0.0/24" or "fd12:3456::/64", ' +
    'got "10.0.0.1" (for one address use "type": "ip")',
  ]],
  [
    "too long a prefix",
    withResource(`"type":"cidr","name":"r","sites":["s"],"address":"1.0.0.0/33"`),
    [
      '3:52: resources[0].address: expected a range such as "10.0.0.0/24" or "fd12:3456::/64", ' +
      'got "1.0.0.0/33"',
    ],
  ],
  ["everything", withResource(`"type":"cidr","name":"r","sites":["s"],"address":"::/0"`), [
    '3:52: resources[0].address: expected a smaller range than "::/0": for everything use ' +
    '"type": "internet"',
  ]],
  ["tunnel range", withResource(`"type":"cidr","name":"r","sites":["s"],"address":"100.0.0.0/8"`), [
    '3:52: resources[0].address: "100.0.0.0/8" overlaps 100.64.0.0/10, which is reserved: the ' +
    "tunnel's own addresses",
  ]],
  [
    "tunnel address",
    withResource(`"type":"ip","name":"r","sites":["s"],"address":"fd00:2021:1111::9"`),
    [
      '3:50: resources[0].address: "fd00:2021:1111::9/128" overlaps fd00:2021:1111::/48, which ' +
      "is reserved: the tunnel's own addresses",
    ],
  ],
  ["loopback", withResource(`"type":"ip","name":"r","sites":["s"],"address":"127.0.0.1"`), [
    '3:50: resources[0].address: "127.0.0.1/32" overlaps 127.0.0.0/8, which is reserved: ' +
    "loopback",
  ]],
  [
    "range for an address",
    withResource(`"type":"ip","name":"r","sites":["s"],"address":"10.0.0.0/8"`),
    [
      '3:50: resources[0].address: expected an address such as "10.0.0.7" or "fd12:3456::7", got ' +
      '"10.0.0.0/8" (for a range use "type": "cidr")',
    ],
  ],
  [
    "URL for a name",
    withResource(`"type":"dns","name":"r","sites":["s"],"address":"https://a.b"`),
    [
      '3:51: resources[0].address: expected a name such as "git.example.com" or "*.example.com", ' +
      'got "https://a.b": drop the scheme',
    ],
  ],
  ["wildcard at the end", withResource(`"type":"dns","name":"r","sites":["s"],"address":"a.*"`), [
    '3:51: resources[0].address: expected the last label without wildcards, got "a.*"',
  ]],
  [
    "ip_stack where it means nothing",
    withResource(`"type":"ip","name":"r","sites":["s"],"address":"10.0.0.1","ip_stack":"dual"`),
    [
      '3:61: resources[0].ip_stack: unknown key "ip_stack": expected one of id, sites, name, ' +
      "address_description, filters, type, address",
    ],
  ],
  [
    "bad ip_stack",
    withResource(`"type":"dns","name":"r","sites":["s"],"address":"a.b","ip_stack":"v4"`),
    [
      '3:68: resources[0].ip_stack: expected one of dual, ipv4_only, ipv6_only, got "v4"',
    ],
  ],
  [
    "filters",
    withResource(
      `"type":"ip","name":"r","sites":["s"],"address":"10.0.0.1","filters":
["http", "tcp/0", "udp/70000", "tcp/90-80", "icmp/8", 80, "TCP/80"]`,
    ),
    [
      '4:2: resources[0].filters[0]: expected a filter such as "tcp/443", "udp/5000-5010", "tcp" ' +
      'or "icmp", got "http"',
      "4:10: resources[0].filters[1]: expected ports from 1 to 65535, got 0",
      "4:19: resources[0].filters[2]: expected ports from 1 to 65535, got 70000",
      '4:32: resources[0].filters[3]: expected the lower port first: "tcp/80-90"',
      '4:45: resources[0].filters[4]: expected "icmp" alone, because ICMP has no ports',
      "4:55: resources[0].filters[5]: expected a filter, got 80",
      '4:59: resources[0].filters[6]: expected a filter such as "tcp/443", "udp/5000-5010", ' +
      '"tcp" or "icmp", got "TCP/80"',
    ],
  ],
  ["no site", withResource(`"type":"internet","sites":[]`), [
    "3:29: resources[0].sites: expected a list of at least one of the names of sites",
  ]],
  ["dangling site", withResource(`"type":"internet","sites":["s","t"]`), [
    '3:34: resources[0].sites[1]: there is no site named "t": did you mean "s"?',
  ]],
  [
    "two Internets",
    `{ ${SITE}, "resources": [{"type":"internet","sites":["s"]},
{"type":"internet","sites":["s"]}] }`,
    [
      '2:1: resources[1].name: another resource has the name "Internet" already',
      '2:1: resources[1]: expected at most one resource of type "internet"',
    ],
  ],
  [
    "dangling names in a policy",
    `{ "accounts": [{ "name": "laptop" }],
"policies": [{ "accounts": ["labtop", "laptop", "laptop"], "resources": ["*", "x"] }] }`,
    [
      '2:29: policies[0].accounts[0]: there is no account named "labtop": did you mean "laptop"?',
      '2:49: policies[0].accounts[2]: "laptop" occurs twice in this list',
      '2:74: policies[0].resources[0]: expected "*" alone, because it means all',
      '2:79: policies[0].resources[1]: there is no resource named "x"',
    ],
  ],
  [
    "condition of a policy",
    `{ "policies": [{ "accounts": ["*"], "resources": ["*"], "remote_ip": ["1.2.3.4/8", "x"] }] }`,
    [
      '1:71: policies[0].remote_ip[0]: the range has host bits set: expected "1.0.0.0/8", got ' +
      '"1.2.3.4/8"',
      "1:84: policies[0].remote_ip[1]: expected an address or a range such as " +
      '"198.51.100.0/24", got "x"',
    ],
  ],
  [
    "DNS",
    `{ "dns": { "upstream": ["1.1.1.1", "https://d.e/q", "http://d.e", "1.1.1.1:53"],
"search_domain": "*.a" } }`,
    [
      "1:36: dns.upstream[1]: expected either IP addresses or URLs, not both",
      "1:53: dns.upstream[2]: expected an IP address or a URL such as " +
      '"https://dns.example/dns-query", got "http://d.e"',
      "1:67: dns.upstream[3]: expected an IP address or a URL such as " +
      '"https://dns.example/dns-query", got "1.1.1.1:53"',
      '2:18: dns.search_domain: expected a domain such as "corp.example.com", got "*.a"',
    ],
  ],
  [
    "mistakes of all kinds at once",
    `{ "sites": [{ "name": "s", "gateway_tokens": ["x"] }],
"policies": [{ "accounts": ["nobody"], "resources": [] }],
"sits": 1 }`,
    [
      "1:47: sites[0].gateway_tokens[0]: expected a token of at least 16 characters, got 1",
      '2:29: policies[0].accounts[0]: there is no account named "nobody"',
      "2:53: policies[0].resources: expected a list of at least one of the names of resources",
      '3:1: sits: unknown key "sits": did you mean "sites"?',
    ],
  ],
];

for (const [what, text, expected] of TABLE) {
  Deno.test(`mistake in a configuration: ${what}`, () => assertEquals(mistakes(text), expected));
}

Deno.test("the starter is valid, and its tokens are fresh", () => {
  const [one, two] = [starterConfig(seededRandom(1)), starterConfig(seededRandom(2))];
  assertEquals(mistakes(one), []);
  assert(one !== two);
  assertMatch(one, /"gateway-[a-z2-7]{32}"/);
});

Deno.test("the example in docs/portal-config.md is valid and means what it says", () => {
  const page = Deno.readTextFileSync(new URL("../../docs/portal-config.md", import.meta.url));
  const text = page.split("```jsonc")[1]!.split("```")[0]!;
  assertEquals(mistakes(text), []);
  const parsed = parseConfig(text);
  assert(parsed.ok);
  const { sites, accounts, resources, policies, dns } = parsed.config;
  assertEquals(resources.map(({ type, name }) => [type, name]), [
    ["cidr", "lab"],
    ["cidr", "printer"],
    ["dns", "wiki"],
    ["internet", "Internet"],
  ]);
  assertEquals(policies[0]!.resourceIds, resources.map(({ id }) => id));
  assertEquals(policies[1]!.accountIds, [accounts[1]!.id]);
  assertEquals(policies[1]!.remoteIps?.map(String), ["198.51.100.0/24", "2001:db8::/32"]);
  assertEquals(resources.every(({ siteIds }) => siteIds[0] === sites[0]!.id), true);
  assertEquals(accounts[1]!.expiresAt, Date.UTC(2027, 11, 31, 23, 59, 59) / 1000);
  assertEquals(dns, {
    upstreamDo53: ["9.9.9.9", "2620:fe::fe"],
    upstreamDoh: [],
    searchDomain: "example.com",
  });
});

Deno.test("comments, trailing commas and a byte order mark are fine", () => {
  assertEquals(mistakes('\uFEFF// c\n{ /* d */ "sites": [ ], }'), []);
});

Deno.test("ids follow from names unless they are written", () => {
  const id = "00000000-0000-4000-8000-000000000001";
  const parsed = parseConfig(`{ "sites": [{ "name": "a", "id": "${id}" }, { "name": "b" }] }`);
  const again = parseConfig(`{ "sites": [{ "name": "b" }] }`);
  assert(parsed.ok && again.ok);
  assertEquals(parsed.config.sites[0]!.id, id);
  assertEquals(parsed.config.sites[1]!.id, again.config.sites[0]!.id);
});

Deno.test("no text makes the parser throw; mistakes stand within the text and hold no token", () => {
  const secret = "s3cr3t-token-0123456789";
  const key = fc.constantFrom(
    "sites",
    "accounts",
    "resources",
    "policies",
    "dns",
    "name",
    "type",
    "address",
    "tokens",
    "gateway_tokens",
    "relay_tokens",
    "filters",
    "upstream",
  );
  const { tree } = fc.letrec((tie) => ({
    tree: fc.oneof(
      { maxDepth: 4 },
      fc.constantFrom("a", "*", "10.0.0.0/8", "cidr", 1, null, true, ""),
      fc.array(tie("tree"), { maxLength: 3 }),
      fc.dictionary(key, tie("tree"), { maxKeys: 4 }),
    ),
  }));
  const text = fc.oneof(
    fc.string(),
    fc.json(),
    tree.map((value) => JSON.stringify(value, null, 1)),
    tree.map((value) => JSON.stringify({ relay_tokens: [secret, secret, value] })),
  );
  fc.assert(
    fc.property(text, (text) => {
      const parsed = parseConfig(text);
      if (parsed.ok) return;
      assert(parsed.mistakes.length > 0);
      const lines = text.split("\n");
      for (const { line, column, message } of parsed.mistakes) {
        assert(line >= 1 && line <= lines.length);
        assert(column >= 1 && column <= lines[line - 1]!.length + 1);
        assertEquals(message.includes(secret), false);
      }
    }),
    { numRuns: 500 },
  );
});
