/**
 * Proxy addresses on disk, so that programs which keep addresses still reach what they mean after
 * the client was started again.
 *
 *     { "version": 1, "records": [ { "domain": "db.example.com", "slot": 0 }, … ] }
 *
 * Losing the file costs nothing but that, so whatever is wrong with it is logged and forgotten.
 * @module
 */

import type { ProxyRecord } from "@firezone/core/dns";
import { dirname } from "node:path";
import * as v from "valibot";

const VERSION = 1;
/** Names kept at most, those asked for last. */
export const MAX_RECORDS = 10_000;
const MAX_FILE_BYTES = 8 * 1024 * 1024;

const file = v.object({
  version: v.literal(VERSION),
  records: v.array(v.unknown()),
});
const record = v.object({
  domain: v.pipe(v.string(), v.minLength(1), v.maxLength(253), v.regex(/^[a-z0-9_.-]+$/)),
  slot: v.pipe(v.number(), v.integer(), v.minValue(0)),
});

/** What a file held. */
export interface LoadedRecords {
  /** The records that make sense. */
  readonly records: readonly ProxyRecord[];
  /** Why there are none, or how many were left out; undefined when all is well. */
  readonly problem: string | undefined;
}

/** Reads the file; one that is not there is empty. Never throws. */
export function loadRecords(path: string): LoadedRecords {
  try {
    const { size } = Deno.statSync(path);
    if (size > MAX_FILE_BYTES) return { records: [], problem: `it has ${size} bytes` };
    return parseRecords(Deno.readTextFileSync(path));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return { records: [], problem: undefined };
    return { records: [], problem: (error as Error).message };
  }
}

/** Understands the text of a file, whatever it is. */
export function parseRecords(text: string): LoadedRecords {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    return { records: [], problem: "it is not JSON" };
  }
  const parsed = v.safeParse(file, json);
  if (!parsed.success) return { records: [], problem: "it is of another version" };
  const records: ProxyRecord[] = [];
  for (const item of parsed.output.records) {
    const one = v.safeParse(record, item);
    if (one.success) records.push(one.output);
  }
  const skipped = parsed.output.records.length - records.length;
  return {
    records,
    problem: skipped === 0 ? undefined : `${skipped} of its records make no sense`,
  };
}

/** Writes the file in one step: whenever the process ends, the old or the new one is there whole.
 * @throws Error when the disk does not take it */
export function saveRecords(path: string, records: readonly ProxyRecord[]): void {
  const temporary = `${path}.new`;
  Deno.mkdirSync(dirname(path), { recursive: true, mode: 0o770 });
  const bytes = new TextEncoder().encode(JSON.stringify({ version: VERSION, records }));
  {
    using handle = Deno.openSync(temporary, {
      write: true,
      create: true,
      truncate: true,
      mode: 0o600,
    });
    for (let at = 0; at < bytes.length;) at += handle.writeSync(bytes.subarray(at));
    handle.syncDataSync();
  }
  Deno.renameSync(temporary, path);
}
