import { finishChecksum, sumBytes, sumView } from "./checksum.ts";

const bytes = new Uint8Array(65_536).map((_, i) => i * 7 >> 2);
const view = new DataView(bytes.buffer);
let at = 0;
const next = () => at = (at + 1288) % 60_000;

Deno.bench("checksum of 1280 bytes, two bytes at a time", { group: "checksum" }, () => {
  const start = next();
  finishChecksum(sumBytes(bytes, start, start + 1280));
});

Deno.bench("checksum of 1280 bytes, words", { group: "checksum", baseline: true }, () => {
  const start = next();
  finishChecksum(sumView(view, start, start + 1280));
});
