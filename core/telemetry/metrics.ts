/**
 * What a program counts about itself, in the words of OpenTelemetry.
 *
 *     Counter.add, UpDownCounter.set, Histogram.merge ──► Metrics ─┬─► totals()      since the start
 *                                                                  └─► takeDeltas()  since last time
 *
 * There is one taker of deltas; what it could not deliver it gives back. Memory depends on the
 * number of series alone, however long nobody takes anything.
 *
 * Owns: the values. Does not own: how they are written (`prometheus.ts`, `otlp/`).
 * @module
 */

import { type Attributes, attributesKey } from "./attributes.ts";
import { countOf, Distribution, type DistributionValues } from "./distribution.ts";

/** How an instrument is known. */
export interface InstrumentSettings {
  /** `relay.packet.size`. */
  readonly name: string;
  /** In UCUM: `By`, `s`, `{packet}`. */
  readonly unit: string;
  /** One sentence. */
  readonly description: string;
  /** The part of the program that measures; the one of {@link Metrics} unless given. */
  readonly scope?: string;
}

/** What {@link Metrics.histogram} is given. */
export interface HistogramSettings extends InstrumentSettings {
  /** Upper ends of all buckets but the last; ascending. */
  readonly bounds: readonly number[];
}

/** A value of a series. */
export interface SumPoint {
  /** What tells the series from others of its instrument. */
  readonly attributes: Attributes;
  /** Its value. */
  readonly value: number;
}

/** The distribution of a series. */
export interface HistogramPoint {
  /** What tells the series from others of its instrument. */
  readonly attributes: Attributes;
  /** Its values. */
  readonly values: DistributionValues;
}

/** An instrument with its values at one time. */
export type MetricData = Required<InstrumentSettings> & MetricValues;

/** A counter only ever grows; a level goes up and down and is always told as it is. */
export type MetricValues =
  | { readonly kind: "counter" | "level"; readonly points: readonly SumPoint[] }
  | {
    readonly kind: "histogram";
    readonly bounds: readonly number[];
    readonly points: readonly HistogramPoint[];
  };

/** Deltas on their way out. */
export interface TakenDeltas {
  /** Instruments that have something to tell. */
  readonly metrics: readonly MetricData[];
  /** Puts them back, to be taken again together with what was counted since. */
  giveBack(): void;
}

interface Instrument {
  totals(): MetricData;
  takeDeltas(): MetricData;
  giveBack(data: MetricData): void;
}

/** All instruments of a program. */
export class Metrics {
  readonly #scope: string;
  readonly #instruments: Instrument[] = [];

  /** None yet.
   * @param scope names the part of the program that measures, where an instrument does not */
  constructor(scope: string) {
    this.#scope = scope;
  }

  /** Makes an instrument that adds up. */
  counter(settings: InstrumentSettings): Counter {
    return this.#add(new Counter({ scope: this.#scope, ...settings }));
  }

  /** Makes an instrument for a level: how many of something there are. */
  upDownCounter(settings: InstrumentSettings): UpDownCounter {
    return this.#add(new UpDownCounter({ scope: this.#scope, ...settings }));
  }

  /** Makes an instrument that counts values by size. */
  histogram(settings: HistogramSettings): Histogram {
    return this.#add(new Histogram({ scope: this.#scope, ...settings }));
  }

  /** Everything since the program started. */
  totals(): readonly MetricData[] {
    return this.#instruments.map((i) => i.totals());
  }

  /** What has changed since the last call, and all levels. */
  takeDeltas(): TakenDeltas {
    const taken = this.#instruments.map((i) => [i, i.takeDeltas()] as const);
    return {
      metrics: taken.map(([, data]) => data).filter((data) => data.points.length > 0),
      giveBack: () => {
        for (const [instrument, data] of taken) instrument.giveBack(data);
      },
    };
  }

  #add<I extends Instrument>(instrument: I): I {
    this.#instruments.push(instrument);
    return instrument;
  }
}

/** A sum that grows. */
export class Counter {
  readonly #settings: Required<InstrumentSettings>;
  readonly #series = new Series(() => ({ total: 0, pending: 0 }));

  /** Made by {@link Metrics.counter}. */
  constructor(settings: Required<InstrumentSettings>) {
    this.#settings = settings;
  }

  /** Adds to a series. */
  add(count: number, attributes: Attributes = {}): void {
    const { state } = this.#series.of(attributes);
    state.total += count;
    state.pending += count;
  }

  /** For {@link Metrics}. */
  totals(): MetricData {
    return this.#data((state) => state.total);
  }

  /** For {@link Metrics}. */
  takeDeltas(): MetricData {
    return this.#data((state) => {
      const { pending } = state;
      state.pending = 0;
      return pending || undefined;
    });
  }

  /** For {@link Metrics}. */
  giveBack(data: MetricData): void {
    if (data.kind !== "counter") return;
    for (const { attributes, value } of data.points) {
      this.#series.of(attributes).state.pending += value;
    }
  }

  #data(read: (state: { total: number; pending: number }) => number | undefined): MetricData {
    const points = this.#series.map((attributes, state) => {
      const value = read(state);
      return value === undefined ? undefined : { attributes, value };
    });
    return { ...this.#settings, kind: "counter", points };
  }
}

/** How many there are. */
export class UpDownCounter {
  readonly #settings: Required<InstrumentSettings>;
  readonly #series = new Series(() => ({ value: 0 }));

  /** Made by {@link Metrics.upDownCounter}. */
  constructor(settings: Required<InstrumentSettings>) {
    this.#settings = settings;
  }

  /** Says how many there are now. */
  set(value: number, attributes: Attributes = {}): void {
    this.#series.of(attributes).state.value = value;
  }

  /** For {@link Metrics}. */
  totals(): MetricData {
    const points = this.#series.map((attributes, { value }) => ({ attributes, value }));
    return { ...this.#settings, kind: "level", points };
  }

  /** For {@link Metrics}: a level has no deltas. */
  takeDeltas(): MetricData {
    return this.totals();
  }

  /** For {@link Metrics}: nothing was taken. */
  giveBack(): void {}
}

/** Values by size. */
export class Histogram {
  readonly #settings: Required<HistogramSettings>;
  readonly #series: Series<{ readonly total: Distribution; readonly pending: Distribution }>;

  /** Made by {@link Metrics.histogram}. */
  constructor(settings: Required<HistogramSettings>) {
    this.#settings = settings;
    const { bounds } = settings;
    this.#series = new Series(() => ({
      total: new Distribution(bounds),
      pending: new Distribution(bounds),
    }));
  }

  /** Adds what was counted elsewhere within the same bounds. */
  merge(values: DistributionValues, attributes: Attributes = {}): void {
    if (countOf(values) === 0) return;
    const { total, pending } = this.#series.of(attributes).state;
    total.merge(values);
    pending.merge(values);
  }

  /** Counts a value. */
  record(value: number, attributes: Attributes = {}): void {
    const { total, pending } = this.#series.of(attributes).state;
    total.record(value);
    pending.record(value);
  }

  /** For {@link Metrics}. */
  totals(): MetricData {
    return this.#data((state) => state.total.values);
  }

  /** For {@link Metrics}. */
  takeDeltas(): MetricData {
    return this.#data((state) => state.pending.take());
  }

  /** For {@link Metrics}. */
  giveBack(data: MetricData): void {
    if (data.kind !== "histogram") return;
    for (const { attributes, values } of data.points) {
      this.#series.of(attributes).state.pending.merge(values);
    }
  }

  #data(
    read: (state: { total: Distribution; pending: Distribution }) => DistributionValues,
  ): MetricData {
    const points = this.#series.map((attributes, state) => {
      const values = read(state);
      return countOf(values) === 0 ? undefined : { attributes, values };
    });
    return { ...this.#settings, kind: "histogram", points };
  }
}

/** The series of an instrument, by their attributes. */
class Series<State> {
  readonly #make: () => State;
  readonly #byKey = new Map<string, { readonly attributes: Attributes; readonly state: State }>();

  constructor(make: () => State) {
    this.#make = make;
  }

  of(attributes: Attributes): { readonly attributes: Attributes; readonly state: State } {
    const key = attributesKey(attributes);
    let series = this.#byKey.get(key);
    if (series === undefined) {
      series = { attributes: { ...attributes }, state: this.#make() };
      this.#byKey.set(key, series);
    }
    return series;
  }

  map<T>(read: (attributes: Attributes, state: State) => T | undefined): T[] {
    return [...this.#byKey.values()].flatMap(({ attributes, state }) =>
      read(attributes, state) ?? []
    );
  }
}
