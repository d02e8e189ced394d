/// <reference no-default-lib="true" />
/// <reference lib="deno.worker" />
import { double } from "./double.ts";

self.onmessage = ({ data }) => self.postMessage(double(data));
