/**
 * The relay bench's figures: medians of alternating runs beside coturn's, and whether goals are met.
 * @module
 */

import type { Direction } from "./relay_crowd.ts";
import { median } from "./tunnel_measures.ts";

/** What is relayed. */
export interface Load {
  /** Which way. */
  readonly direction: Direction;
  /** Bytes of application data in each packet. */
  readonly size: number;
  /** Packets to one peer that arrive together. */
  readonly burst: number;
}

/** One run: as fast as it goes, then at half that rate. */
export interface RelayRun extends Load {
  /** Which relay. */
  readonly system: string;
  /** Packets per second that came through when more were offered. */
  readonly rate: number;
  /** Processor microseconds per packet that came through then. */
  readonly cpuUs: number;
  /** The same at half the rate. */
  readonly halfCpuUs: number;
  /** Packets lost at half the rate, in percent. */
  readonly halfLossPercent: number;
}

/** The figures of a run. */
export const RELAY_FIGURES = {
  rate: { title: "packets/s", digits: 0 },
  cpuUs: { title: "CPU µs/packet", digits: 2 },
  halfCpuUs: { title: "CPU µs/packet at half the rate", digits: 2 },
  halfLossPercent: { title: "% lost at half the rate", digits: 3 },
} as const;

/** One of them. */
export type RelayFigure = keyof typeof RELAY_FIGURES;

/** Medians of all runs of one relay under one load. */
export interface RelayCell extends Load {
  /** Which relay. */
  readonly system: string;
  /** How many runs. */
  readonly runs: number;
  /** Medians. */
  readonly median: Readonly<Record<RelayFigure, number>>;
}

/** A goal, and what became of it. */
export interface GoalResult {
  /** What was to be reached. */
  readonly goal: string;
  /** Whether it was. */
  readonly isMet: boolean;
  /** The figure. */
  readonly figure: string;
}

const FIGURES = Object.keys(RELAY_FIGURES) as readonly RelayFigure[];
const OURS = "firezone";
const THEIRS = "coturn";

/** Medians, in order of first appearance. */
export function summariseRelay(runs: readonly RelayRun[]): RelayCell[] {
  const groups = new Map<string, RelayRun[]>();
  for (const run of runs) {
    const key = `${loadName(run)} ${run.system}`;
    groups.set(key, [...groups.get(key) ?? [], run]);
  }
  return Array.from(groups.values(), (group) => {
    const { direction, size, burst, system } = group[0]!;
    const medians = Object.fromEntries(
      FIGURES.map((figure) => [figure, median(group.map((run) => run[figure]))]),
    ) as Record<RelayFigure, number>;
    return { direction, size, burst, system, runs: group.length, median: medians };
  });
}

/** How a load is called. */
export function loadName({ direction, size, burst }: Load): string {
  const way = direction === "up" ? "client to peer" : "peer to client";
  return `${size} B, ${way}, ${burst === 1 ? "one by one" : `bursts of ${burst}`}`;
}

/** A table in Markdown. */
export function relayTable(cells: readonly RelayCell[]): string {
  const systems = [...new Set(cells.map(({ system }) => system))];
  const hasRatio = systems.includes(OURS) && systems.includes(THEIRS);
  const rows = [["", "", ...systems, ...hasRatio ? [`${OURS} ÷ ${THEIRS}`] : []]];
  for (const name of new Set(cells.map(loadName))) {
    const of = (system: string) =>
      cells.find((c) => loadName(c) === name && c.system === system)?.median;
    for (const [i, figure] of FIGURES.entries()) {
      const { title, digits } = RELAY_FIGURES[figure];
      const [ours, theirs] = [of(OURS)?.[figure], of(THEIRS)?.[figure]];
      rows.push([
        i === 0 ? name : "",
        title,
        ...systems.map((system) => of(system)?.[figure].toFixed(digits) ?? ""),
        ...hasRatio ? [ours !== undefined && theirs ? (ours / theirs).toFixed(2) : ""] : [],
      ]);
    }
  }
  const widths = rows[0]!.map((_, i) => Math.max(...rows.map((row) => row[i]!.length)));
  const line = (row: readonly string[]) =>
    `| ${row.map((t, i) => i < 2 ? t.padEnd(widths[i]!) : t.padStart(widths[i]!)).join(" | ")} |`;
  const rule = `| ${
    widths.map((w, i) => i < 2 ? "-".repeat(w) : `${"-".repeat(w - 1)}:`).join(" | ")
  } |`;
  return [line(rows[0]!), rule, ...rows.slice(1).map(line)].join("\n");
}

/** What the figures are to reach, as far as they were taken. */
export function relayGoals(cells: readonly RelayCell[]): GoalResult[] {
  const goals: GoalResult[] = [];
  for (const ours of cells) {
    if (ours.system !== OURS) continue;
    const name = loadName(ours);
    const theirs = cells.find((c) => c.system === THEIRS && loadName(c) === name);
    const most = ours.size === 1200 && ours.burst > 1 ? 0.5 : 1;
    if (theirs !== undefined) {
      for (const figure of ["cpuUs", "halfCpuUs"] as const) {
        const ratio = ours.median[figure] / theirs.median[figure];
        goals.push({
          goal: `${name}: ${RELAY_FIGURES[figure].title} at most ${most} of coturn's`,
          isMet: ratio <= most,
          figure: ratio.toFixed(2),
        });
      }
    }
    const loss = ours.median.halfLossPercent;
    goals.push({
      goal: `${name}: less than 0.1 % lost at half the rate`,
      isMet: loss < 0.1,
      figure: `${loss.toFixed(3)} %`,
    });
  }
  return goals;
}
