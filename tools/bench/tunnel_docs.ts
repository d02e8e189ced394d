/**
 * Puts what the tunnel bench has measured into the documents, between a pair of comments each:
 *
 *     <!-- tunnel bench -->  …  <!-- end -->
 *
 * `docs/performance.md` gets the whole table, `README.md` the rows that a newcomer asks for, and
 * `docs/performance.svg` the chart.
 * @module
 */

import { chart } from "./tunnel_chart.ts";
import type { MeasureName } from "./tunnel_measures.ts";
import { type Cell, type FigureName, table } from "./tunnel_report.ts";

/** What stands around the figures. */
export interface TunnelNotes {
  /** Day of the measurement, `2026-05-01`. */
  readonly date: string;
  /** Machine and versions, one sentence each. */
  readonly setting: readonly string[];
  /** The command line that measures it again. */
  readonly command: string;
  /** How the chart's figures came about. */
  readonly method: string;
}

const ROOT = new URL("../../", import.meta.url).pathname;
const SHORT: readonly MeasureName[] = ["tcp-down", "tcp-up", "tcp8-down", "tcp8-up", "rtt-idle"];
const SHORT_FIGURES: readonly FigureName[] = ["gbps", "cpuSecondsPerGb", "medianUs"];

/** Writes all three. @throws Error when a document lacks the comments */
export async function writeDocs(cells: readonly Cell[], notes: TunnelNotes): Promise<void> {
  const { date, setting, command, method } = notes;
  await Deno.writeTextFile(`${ROOT}docs/performance.svg`, chart(cells, { date, method }));
  const head = `${date}. ${setting.join(" ")}`;
  await replace("docs/performance.md", `${head}\n\n    ${command}\n\n${table(cells)}`);
  const few = cells.filter(({ measure }) => SHORT.includes(measure));
  await replace("README.md", table(few, SHORT_FIGURES));
  await new Deno.Command(Deno.execPath(), {
    args: ["fmt", "--quiet", `${ROOT}docs/performance.md`, `${ROOT}README.md`],
  }).output();
}

async function replace(name: string, text: string): Promise<void> {
  const before = await Deno.readTextFile(ROOT + name);
  const after = withBlock(before, text);
  if (after === undefined) throw new Error(`${name} has no <!-- tunnel bench --> and <!-- end -->`);
  await Deno.writeTextFile(ROOT + name, after);
}

/** `text` between the comments of a document; undefined where there are none. */
export function withBlock(document: string, text: string): string | undefined {
  const pattern = /(<!-- tunnel bench -->\n).*?(<!-- end -->)/s;
  if (!pattern.test(document)) return undefined;
  return document.replace(pattern, (_, begin, end) => `${begin}\n${text}\n\n${end}`);
}
