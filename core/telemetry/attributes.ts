/**
 * Names and values that tell one series, span or process from another.
 * @module
 */

/** Value of an attribute; whole numbers are integers on the wire. */
export type AttributeValue = string | number | boolean;

/** Attributes by name. */
export type Attributes = Readonly<Record<string, AttributeValue>>;

/** A text that two sets of attributes share exactly if they are equal, in whatever order. */
export function attributesKey(attributes: Attributes): string {
  const names = Object.keys(attributes).sort();
  return names.map((name) => JSON.stringify([name, attributes[name]])).join();
}
