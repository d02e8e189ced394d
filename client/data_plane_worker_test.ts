import { assertEquals } from "@std/assert";
import {
  type DataPlaneCommand,
  type DataPlaneNotice,
  type DataPlaneStart,
  spawnWorker,
} from "@firezone/core/runtime";
import { requires } from "../tests/requirements.ts";
import type { ClientCommand, ClientNotice, ClientSettings } from "./worker_messages.ts";

Deno.test(
  "what a status tells of is announced before it, so that routes are there by then",
  requires("linux", "root", "tun"),
  async () => {
    const tags: string[] = [];
    const [ready, answered] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    const worker = spawnWorker<
      DataPlaneCommand<ClientCommand>,
      DataPlaneNotice<ClientNotice>,
      DataPlaneStart<ClientSettings>
    >(
      new URL("./data_plane_worker.ts", import.meta.url),
      {
        interfaceName: "fzt-worker",
        crypto: undefined,
        logFilter: "off",
        logFormat: "human",
        program: "firezone-headless-client",
        logDirectory: undefined,
        inspection: { validatesChecksums: false, flowRole: undefined },
        settings: { usesInternet: false },
      },
      {
        onMessage: ({ tag }) => {
          tags.push(tag);
          if (tag === "ready") ready.resolve();
          if (tag === "status") answered.resolve();
        },
        onFatal: (error) => answered.reject(error),
      },
    );
    await ready.promise;
    // Both are read in the same turn of the worker's loop.
    worker.post({ tag: "portal-message", event: "init", payload: INIT });
    worker.post({ tag: "status", id: 0 });
    await answered.promise;
    await worker.close();
    assertEquals(tags.filter((tag) => ["interface", "routes", "status"].includes(tag)), [
      "interface",
      "routes",
      "status",
    ]);
  },
);

const SITE = { id: "00000000-0000-4000-8000-000000000001", name: "office" };
const INIT = {
  interface: { ipv4: "100.64.0.1", ipv6: "fd00:2021:1111::1" },
  resources: [{
    type: "cidr",
    id: "00000000-0000-4000-8000-000000000002",
    address: "10.20.0.0/16",
    name: "office network",
    sites: [SITE],
    filters: [],
  }],
  relays: [],
};
