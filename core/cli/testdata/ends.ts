// Run by run_test.ts: ends in the way that its first argument names.
import { setUpLogging } from "../../telemetry/mod.ts";
import { ConfigError } from "../errors.ts";
import { runMain } from "../run.ts";

await runMain((args) => {
  switch (args[0]) {
    case "well":
      return Promise.resolve(3);
    case "mistake-at-debug":
      setUpLogging({ filter: "debug" });
      throw new ConfigError("Cannot bind port 70000: expected 1 to 65535");
    case "mistake":
      throw new ConfigError("Cannot bind port 70000: expected 1 to 65535");
    default:
      throw new TypeError("x is not y");
  }
});
