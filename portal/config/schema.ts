/**
 * The shape of a configuration file: which keys there are and what their values look like.
 *
 * Owns: everything that can be said about one value alone. Does not own: whether names are unique
 * and refer to something, see `references.ts`.
 * @module
 */

import * as v from "valibot";
import { isUuid } from "../uuid.ts";
import { nearest } from "./mistake.ts";
import {
  describeValue,
  expected,
  parseCidr,
  type Parsed,
  parseDnsPattern,
  parseDnsServer,
  parseDomain,
  parseFilter,
  parseMoment,
  parseName,
  parseRange,
  parseSingleAddress,
  parseToken,
} from "./values.ts";

type Issue = { readonly input: unknown };

const wants = (what: string) => (issue: Issue): string => expected(what, issue.input);

/** A text that `parse` understands. */
function text<T>(what: string, parse: (text: string) => Parsed<T>) {
  return v.pipe(
    v.string(wants(what)),
    v.rawTransform<string, T>(({ dataset, addIssue, NEVER }) => {
      const result = parse(dataset.value);
      if (result.ok) return result.value;
      addIssue({ message: result.message });
      return NEVER;
    }),
  );
}

/** A token: whatever is wrong with it, its text stays out of the message. */
const token = v.pipe(
  v.string(({ input }: Issue) =>
    `expected a token in quotes, got ${typeof input === "object" ? describeValue(input) : "none"}`
  ),
  v.rawTransform<string, string>(({ dataset, addIssue, NEVER }) => {
    const result = parseToken(dataset.value);
    if (result.ok) return result.value;
    addIssue({ message: result.message });
    return NEVER;
  }),
);

const name = text("a name", parseName);
const uuid = v.pipe(
  v.string(wants("a UUID")),
  v.check(isUuid, ({ input }: Issue) => expected("a UUID in lowercase", input)),
);
const moment = text("a moment in quotes", parseMoment);

function list<S extends v.GenericSchema>(item: S, what: string) {
  return v.array(item, wants(`a list of ${what}`));
}

function filledList<S extends v.GenericSchema>(item: S, what: string) {
  return v.pipe(list(item, what), v.minLength(1, `expected a list of at least one of the ${what}`));
}

/** An object in which unknown keys are mistakes, all of them. */
function section<E extends v.ObjectEntries>(entries: E) {
  const schema = v.pipe(
    v.looseObject(
      entries,
      ({ expected: key, input }) =>
        input === undefined && key?.startsWith('"')
          ? `expected the key ${key} in here`
          : expected("an object", input),
    ),
    v.rawCheck(({ dataset, addIssue }) => {
      const value: unknown = dataset.value;
      if (typeof value !== "object" || value === null) return;
      for (const key of Object.keys(value)) {
        if (Object.hasOwn(entries, key)) continue;
        addIssue({
          message: unknownKey(key, Object.keys(entries)),
          path: [{ type: "object", origin: "key", input: value, key, value: undefined }] as never,
        });
      }
    }),
  );
  // Valibot takes a list for an object.
  return v.lazy((input: unknown) =>
    Array.isArray(input) ? noObject as unknown as typeof schema : schema
  );
}

const noObject = v.custom<never>(() => false, wants("an object"));

function unknownKey(key: string, known: readonly string[]): string {
  const guess = nearest(key, known);
  return `unknown key ${describeValue(key)}: ` +
    (guess ? `did you mean "${guess}"?` : `expected one of ${known.join(", ")}`);
}

const site = section({
  name,
  id: v.optional(uuid),
  gateway_tokens: v.optional(list(token, "tokens"), []),
});

const account = section({
  name,
  id: v.optional(uuid),
  tokens: v.optional(list(token, "tokens"), []),
  expires_at: v.optional(moment),
});

const RESOURCE_TYPES = ["cidr", "ip", "dns", "internet"] as const;
const IP_STACKS = ["dual", "ipv4_only", "ipv6_only"] as const;

const anyResource = {
  id: v.optional(uuid),
  sites: filledList(name, "names of sites"),
};
const addressed = {
  ...anyResource,
  name,
  address_description: v.optional(v.nullable(v.string(wants("a text"))), null),
  filters: v.optional(list(text("a filter", parseFilter), "filters"), []),
};
const resourceSchemas = {
  cidr: section({ ...addressed, type: v.literal("cidr"), address: text("a range", parseCidr) }),
  ip: section({
    ...addressed,
    type: v.literal("ip"),
    address: text("an address", parseSingleAddress),
  }),
  dns: section({
    ...addressed,
    type: v.literal("dns"),
    address: text("a name", parseDnsPattern),
    ip_stack: v.optional(v.picklist(IP_STACKS, wants(`one of ${IP_STACKS.join(", ")}`)), "dual"),
  }),
  internet: section({
    ...anyResource,
    type: v.literal("internet"),
    name: v.optional(name, "Internet"),
  }),
};
/** Where the type is not known, nothing but the type is asked for. */
const untyped = v.looseObject(
  { type: v.picklist(RESOURCE_TYPES, wants(`one of ${RESOURCE_TYPES.join(", ")}`)) },
  ({ expected: key, input }) =>
    input === undefined && key?.startsWith('"')
      ? `expected the key "type" in here, one of ${RESOURCE_TYPES.join(", ")}`
      : expected("an object", input),
);
type ResourceSchema = typeof resourceSchemas[keyof typeof resourceSchemas];

const resource = v.lazy((input: unknown) => {
  const type = (input as { type?: unknown } | null | undefined)?.type;
  const isKnown = typeof type === "string" && Object.hasOwn(resourceSchemas, type);
  return (isKnown
    ? resourceSchemas[type as keyof typeof resourceSchemas]
    : untyped) as ResourceSchema;
});

const policy = section({
  accounts: filledList(v.string(wants("the name of an account")), "names of accounts"),
  resources: filledList(v.string(wants("the name of a resource")), "names of resources"),
  expires_at: v.optional(moment),
  remote_ip: v.optional(filledList(text("a range", parseRange), "ranges")),
});

const dns = section({
  upstream: v.optional(list(text("a DNS server", parseDnsServer), "DNS servers"), []),
  search_domain: v.optional(v.nullable(text("a domain", parseDomain)), null),
});

const slug = v.pipe(
  v.string(wants("a short name")),
  v.regex(/^[a-z0-9][a-z0-9_-]{0,99}$/, wants("a short name of a-z, 0-9, - and _")),
);

/** The whole file. */
const file = section({
  $schema: v.optional(v.string(wants("a URL"))),
  account_slug: v.optional(slug, "local"),
  sites: v.optional(list(site, "sites"), []),
  relay_tokens: v.optional(list(token, "tokens"), []),
  accounts: v.optional(list(account, "accounts"), []),
  resources: v.optional(list(resource, "resources"), []),
  policies: v.optional(list(policy, "policies"), []),
  dns: v.optional(dns, {}),
});

/** A file whose values are right one by one; names still refer to nothing. */
export type ConfigFile = v.InferOutput<typeof file>;

/** What is wrong with one value. */
export interface ShapeIssue {
  /** From the root to the value; for a missing key to the object that lacks it. */
  readonly path: (string | number)[];
  /** Whether the key at the end of `path` is what is wrong, not its value. */
  readonly atKey: boolean;
  /** A whole sentence. */
  readonly message: string;
}

/** Checks a document's shape. */
export function checkShape(
  value: unknown,
): { readonly file: ConfigFile } | { readonly issues: readonly ShapeIssue[] } {
  const result = v.safeParse(file, value);
  if (result.success) return { file: result.output };
  return { issues: result.issues.map(toShapeIssue) };
}

function toShapeIssue(issue: v.BaseIssue<unknown>): ShapeIssue {
  const steps = issue.path ?? [];
  const path = steps.map((step) => step.key as string | number);
  const last = steps.at(-1);
  const isAboutKey = last?.type === "object" && "origin" in last && last.origin === "key";
  const isMissing = isAboutKey && issue.kind === "schema";
  return {
    path: isMissing ? path.slice(0, -1) : path,
    atKey: isAboutKey && !isMissing,
    message: issue.message,
  };
}
